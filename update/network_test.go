//go:build unix

package update_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/update"
)

// Downloads from a real nginx, through a real toxiproxy and a real tinyproxy. Where these are not installed, and cannot be
// built, the tests are skipped; with FAIRLEAD_NEED_SERVERS set they fail.

// online is a vendor with one release of some megabytes, and a customer's machine.
type online struct {
	*machine
	content []byte
	blob    string // path of the artifact in the repository
}

const onlineSize = 8 << 20

func newOnline(t *testing.T) *online {
	t.Helper()
	if testing.Short() {
		t.Skip("seconds on real servers")
	}
	v := newVendor(t)
	content := make([]byte, onlineSize)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(content)
	copy(content[onlineSize-20:], "\nversion=1.1.0\n")
	content = content[:onlineSize-5]
	v.release("1.1.0", content)
	return &online{machine: newMachine(t, v, "1.0.0"), content: content, blob: filepath.Join(v.dir, filepath.FromSlash(channel.BlobPath(digest(content))))}
}

func httpFrom(t *testing.T, url string, change ...func(*update.HTTPConfig)) update.Source {
	t.Helper()
	cfg := update.HTTPConfig{Proxy: update.Direct}
	for _, c := range change {
		c(&cfg)
	}
	s, err := update.HTTPWith(url, cfg)
	require.NoError(t, err)
	return s
}

// from makes a process that reads from these mirrors.
func (o *online) from(sources ...update.Source) *update.Updater {
	o.t.Helper()
	u := o.process(func(c *update.Config) {
		c.Source, c.Trust.StallTimeout = update.Mirrors(sources...), 700*time.Millisecond
	})
	next, err := u.Start(o.t.Context())
	require.NoError(o.t, err)
	require.Equal(o.t, update.Continue, next)
	return u
}

// part is where the download is.
func (o *online) part(u *update.Updater) string {
	return filepath.Join(update.Dir(u), "staging", digest(o.content)+".part")
}

// staged checks that what was staged is the release.
func (o *online) staged(u *update.Updater, d update.Decision) {
	o.t.Helper()
	require.NoError(o.t, u.Apply(o.t.Context(), d.Update))
	got, err := os.ReadFile(o.program)
	require.NoError(o.t, err)
	require.Equal(o.t, digest(o.content), digest(got))
}

// cutAt stages until that much has arrived, and cancels.
func (o *online) cutAt(u *update.Updater, d update.Decision, bytes int64) {
	o.t.Helper()
	ctx, cancel := withCause(o.t)
	enough := errors.New("enough")
	err := u.Stage(ctx, d.Update, func(p update.Progress) {
		if p.Step == update.Downloading && p.Done >= bytes {
			cancel(enough)
		}
	})
	require.ErrorIs(o.t, err, enough)
	info, err := os.Stat(o.part(u))
	require.NoError(o.t, err)
	require.GreaterOrEqual(o.t, info.Size(), bytes, "cancelling keeps what has arrived")
	require.Less(o.t, info.Size(), int64(len(o.content)))
}

// limited keeps nginx from sending everything at once.
const limited = "limit_rate 16m; "

func TestNginxResume(t *testing.T) {
	for name, c := range map[string]struct {
		server   string
		between  func(o *online) // the cut and what follows
		statuses []int
		ifRange  bool
		restarts bool
	}{
		"range":       {server: limited, statuses: []int{200, 206}, ifRange: true},
		"no ranges":   {server: limited + "max_ranges 0;", statuses: []int{200, 200}, ifRange: true, restarts: true},
		"no ETag":     {server: limited + "etag off;", statuses: []int{200, 206}}, // the file was made less than a minute ago
		"another tag": {limited, func(o *online) { o.touch(time.Hour) }, []int{200, 200}, true, true},
		"old, and no ETag": {server: limited + "etag off;", statuses: []int{200, 206}, ifRange: true,
			between: nil},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOnline(t)
			if name == "old, and no ETag" {
				o.touch(-time.Hour)
			}
			n := newNginx(t, o.vendor.dir, c.server)
			u := o.from(httpFrom(t, n.url))
			d := check(t, u)
			o.cutAt(u, d, 3<<20)
			die(o.machine, u)
			if c.between != nil {
				c.between(o)
			}
			u = o.from(httpFrom(t, n.url))
			d = check(t, u)
			require.NoError(t, u.Stage(t.Context(), d.Update, nil))
			o.staged(u, d)
			log := n.served()
			require.Equal(t, c.statuses, n.statuses())
			require.NotEmpty(t, log[1].Range)
			require.Equal(t, c.ifRange, log[1].IfRange != "", log[1].IfRange)
			if !c.restarts {
				from, err := strconv.ParseInt(strings.Trim(log[1].Range, "bytes=-"), 10, 64)
				require.NoError(t, err)
				require.GreaterOrEqual(t, from, int64(3<<20))
				require.EqualValues(t, int64(len(o.content))-from, log[1].Sent)
			}
		})
	}
}

// touch gives the artifact another time, from which nginx makes the tag.
func (o *online) touch(by time.Duration) {
	o.t.Helper()
	at := time.Now().Add(by)
	require.NoError(o.t, os.Chtimes(o.blob, at, at))
}

// replace puts other bytes of the same length in the artifact's place, or the right ones.
func (o *online) replace(content []byte) {
	o.t.Helper()
	require.NoError(o.t, os.WriteFile(o.blob+".new", content, 0o644))
	require.NoError(o.t, os.Rename(o.blob+".new", o.blob))
}

// Half of a wrong file, and half of the right one, with nothing by which to tell them apart: the file is dropped, and
// fetched again from the mirror alone.
func TestNginxMixedFile(t *testing.T) {
	o := newOnline(t)
	n := newNginx(t, o.vendor.dir, limited+"etag off; add_header Last-Modified '';")
	wrong := slices.Clone(o.content)
	wrong[100] ^= 1
	o.replace(wrong)
	u := o.from(httpFrom(t, n.url))
	d := check(t, u)
	o.cutAt(u, d, 3<<20)
	die(o.machine, u)
	o.replace(o.content)
	u = o.from(httpFrom(t, n.url))
	d = check(t, u)
	require.NoError(t, u.Stage(t.Context(), d.Update, nil))
	require.Equal(t, []int{200, 206, 200}, n.statuses())
	o.staged(u, d)
	require.NotContains(t, o.events, "update.mirror_out verify")
}

// A mirror that lies is left out, said so, and what it sent deleted.
func TestNginxLiar(t *testing.T) {
	o := newOnline(t)
	dir := filepath.Join(t.TempDir(), "liar")
	require.NoError(t, os.CopyFS(dir, os.DirFS(o.vendor.dir)))
	honest := newNginx(t, o.vendor.dir, "")
	liar := newNginx(t, dir, "")
	evil := slices.Clone(o.content)
	evil[len(evil)/2] ^= 1
	require.NoError(t, os.WriteFile(filepath.Join(dir, filepath.FromSlash(channel.BlobPath(digest(o.content)))), evil, 0o644))
	u := o.from(httpFrom(t, liar.url), httpFrom(t, honest.url))
	d := check(t, u)
	require.NoError(t, u.Stage(t.Context(), d.Update, nil))
	require.Contains(t, o.events, "update.mirror_out verify")
	require.Len(t, liar.served(), 1)
	require.EqualValues(t, len(o.content), honest.sent(), "nothing of the liar's bytes is built on")
	o.staged(u, d)

	o.vendor.release("1.2.0", []byte("\nversion=1.2.0\n"))
	require.NoError(t, os.CopyFS(filepath.Join(dir, "new"), os.DirFS(o.vendor.dir)))
	before, err := os.ReadFile(liar.log)
	require.NoError(t, err)
	_, err = u.Check(t.Context())
	require.NoError(t, err)
	after, err := os.ReadFile(liar.log)
	require.NoError(t, err)
	require.Equal(t, string(before), string(after), "it is not asked for metadata either")
}

// What is refused is not asked for again; what may be over is.
func TestNginxStatuses(t *testing.T) {
	for status, asked := range map[int]int{401: 1, 403: 1, 404: 1, 410: 1, 451: 1, 500: 2, 503: 2, 429: 2} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			o := newOnline(t)
			n := newNginx(t, o.vendor.dir, fmt.Sprintf("location /blobs/ { return %d; }", status))
			u := o.process(func(c *update.Config) { c.Source, c.Download.Tries = httpFrom(t, n.url), 2 })
			d := check(t, u)
			err := u.Stage(t.Context(), d.Update, nil)
			var failed *update.SourceError
			require.ErrorAs(t, err, &failed)
			var typed *update.StatusError
			if absent := status == 403 || status == 404 || status == 410; absent {
				require.ErrorIs(t, err, fs.ErrNotExist)
			} else {
				require.ErrorAs(t, err, &typed)
				require.Equal(t, status, typed.Status)
			}
			require.Len(t, n.served(), asked)
			require.NoFileExists(t, o.part(u))
		})
	}
}

func TestNginxRetryAfter(t *testing.T) {
	o := newOnline(t)
	busy := filepath.Join(t.TempDir(), "busy")
	require.NoError(t, os.WriteFile(busy, nil, 0o600))
	n := newNginx(t, o.vendor.dir, "location /blobs/ { add_header Retry-After 2 always; if (-f "+busy+") { return 503; } }")
	u := o.from(httpFrom(t, n.url))
	d := check(t, u)
	time.AfterFunc(time.Second, func() { _ = os.Remove(busy) })
	require.NoError(t, u.Stage(t.Context(), d.Update, nil))
	log := n.served()
	require.Equal(t, []int{503, 200}, n.statuses(), "asked once, and then not before its time")
	require.GreaterOrEqual(t, log[1].At-log[0].At, 1.9)
	o.staged(u, d)
}

// A captive portal answers everything with its page, or sends everybody to it.
func TestNginxCaptivePortal(t *testing.T) {
	page := "location / { types { } default_type text/html; return 200 '<html>Welcome to the hotel. Please log in.</html>'; }"
	t.Run("from the beginning", func(t *testing.T) {
		o := newOnline(t)
		u := o.from(httpFrom(t, newNginx(t, o.vendor.dir, page).url))
		_, err := u.Check(t.Context())
		var portal *update.PortalError
		require.ErrorAs(t, err, &portal)
		require.ErrorContains(t, err, "log in to the network (captive portal)")
		require.Contains(t, o.events, "update.failed portal")
	})
	t.Run("a redirect", func(t *testing.T) {
		o := newOnline(t)
		other := newNginx(t, o.vendor.dir, page)
		u := o.from(httpFrom(t, newNginx(t, o.vendor.dir, "location / { return 302 "+other.url+"/login; }").url))
		_, err := u.Check(t.Context())
		var redirect *update.RedirectError
		require.ErrorAs(t, err, &redirect)
		require.ErrorContains(t, err, "captive portal")
		require.Empty(t, other.served())
	})
	t.Run("in the middle", func(t *testing.T) {
		o := newOnline(t)
		login := filepath.Join(t.TempDir(), "login")
		n := newNginx(t, o.vendor.dir, limited+"error_page 418 = @portal; location @portal { default_type text/html; return 200 '<html>log in</html>'; } location /blobs/ { if (-f "+login+") { return 418; } }")
		u := o.from(httpFrom(t, n.url))
		d := check(t, u)
		o.cutAt(u, d, 3<<20)
		have, err := os.Stat(o.part(u))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(login, nil, 0o600))
		err = u.Stage(t.Context(), d.Update, nil)
		var portal *update.PortalError
		require.ErrorAs(t, err, &portal)
		require.Equal(t, []int{200, 200}, n.statuses(), "a page is not asked for again and again")
		still, err := os.Stat(o.part(u))
		require.NoError(t, err)
		require.Equal(t, have.Size(), still.Size(), "nothing of the page is kept, and nothing lost")
		require.NoError(t, os.Remove(login))
		require.NoError(t, u.Stage(t.Context(), d.Update, nil))
		o.staged(u, d)
		require.Less(t, n.sent(), int64(len(o.content))+3<<20)
	})
	t.Run("another file of another length", func(t *testing.T) {
		o := newOnline(t)
		n := newNginx(t, o.vendor.dir, "location /blobs/ { return 200 'short'; }")
		u := o.from(httpFrom(t, n.url))
		var length *update.LengthError
		require.ErrorAs(t, u.Stage(t.Context(), check(t, u).Update, nil), &length)
		require.EqualValues(t, len(o.content), length.Want)
		require.Len(t, n.served(), 1)
		require.NoFileExists(t, o.part(u))
	})
}

func TestNginxTLS(t *testing.T) {
	o := newOnline(t)
	a := newAuthority(t)
	_, _, pair := a.issue("client")
	trusting := func(c *update.HTTPConfig) { c.RootCAs = a.pem }
	showing := func(c *update.HTTPConfig) { c.Certificates = append(c.Certificates, pair) }
	secret := "Bearer s3cret"
	authorised := func(c *update.HTTPConfig) { c.Header = http.Header{"Authorization": {secret}} }
	other := newNginx(t, o.vendor.dir, a.tlsServer("", "localhost"))
	n := newNginx(t, o.vendor.dir, a.tlsServer("ssl_client_certificate {ca}; ssl_verify_client on;"+
		"location /away/ { return 302 "+other.url+"$request_uri; } location /near/ { rewrite ^/near(/.*) $1 redirect; }", "localhost"))

	_, err := o.from(httpFrom(t, n.url)).Check(t.Context())
	require.ErrorContains(t, err, "unknown authority")
	_, err = o.from(httpFrom(t, n.url, trusting)).Check(t.Context())
	var status *update.StatusError
	require.ErrorAs(t, err, &status)
	require.Equal(t, 400, status.Status, "it wants a certificate")
	_, err = o.from(httpFrom(t, n.url, trusting, showing, func(c *update.HTTPConfig) { c.RootCAs = newAuthority(t).pem })).Check(t.Context())
	require.ErrorContains(t, err, "unknown authority")

	_, err = o.from(httpFrom(t, n.url+"/away", trusting, showing, authorised)).Check(t.Context())
	var redirect *update.RedirectError
	require.ErrorAs(t, err, &redirect)
	require.Empty(t, other.all(), "nobody else is asked, let alone told the secret")
	u := o.from(httpFrom(t, n.url+"/near", trusting, showing, authorised))
	d := check(t, u)
	require.NoError(t, u.Stage(t.Context(), d.Update, nil))
	near := 0
	for _, s := range n.all() {
		if strings.HasPrefix(s.URI, "/near/") || strings.HasPrefix(s.URI, "/away/") {
			require.Equal(t, secret, s.Auth, s.URI)
			near++
		} else if s.Status != 400 {
			require.Empty(t, s.Auth, "after a redirect: %s", s.URI)
		}
	}
	require.Positive(t, near)
	u = o.from(httpFrom(t, n.url, trusting, showing, authorised))
	o.staged(u, check(t, u))
}

func TestTinyproxy(t *testing.T) {
	o := newOnline(t)
	a := newAuthority(t)
	p := newTinyproxy(t)
	n := newNginx(t, o.vendor.dir, a.tlsServer("", "localhost", "127.1"))
	through := func(userinfo string) update.Source {
		return httpFrom(t, n.url, func(c *update.HTTPConfig) { c.RootCAs, c.Proxy = a.pem, p.url(userinfo) })
	}
	for _, userinfo := range []string{"", "anna:wrong@"} {
		_, err := o.from(through(userinfo)).Check(t.Context())
		var refused *update.ProxyError
		require.ErrorAs(t, err, &refused)
		require.Contains(t, []int{401, 407}, refused.Status)
		require.NotContains(t, err.Error(), "wrong@")
		require.Empty(t, n.all())
	}
	before := p.connects()
	u := o.from(through("anna:s3cret@"))
	d := check(t, u)
	require.NoError(t, u.Stage(t.Context(), d.Update, nil))
	require.Greater(t, p.connects(), before)
	o.staged(u, d)

	t.Run("plain HTTP", func(t *testing.T) {
		o := newOnline(t)
		n := newNginx(t, o.vendor.dir, "")
		_, err := o.from(httpFrom(t, n.url, func(c *update.HTTPConfig) { c.Proxy = p.url("") })).Check(t.Context())
		require.Error(t, err)
		u := o.from(httpFrom(t, n.url, func(c *update.HTTPConfig) { c.Proxy = p.url("anna:s3cret@") }))
		d := check(t, u)
		require.NoError(t, u.Stage(t.Context(), d.Update, nil))
		o.staged(u, d)
	})
	t.Run("environment", func(t *testing.T) {
		// No proxy is asked for loopback addresses, but in this spelling, which resolvers understand, it is.
		job := benchJob{Name: "fairlead", URL: strings.Replace(n.url, "127.0.0.1", "127.1", 1), Root: o.vendor.root(), CAs: a.pem, Dir: t.TempDir()}
		for _, no := range []string{"", "127.1"} {
			before := p.connects()
			out, err := job.process(t.Context(), "HTTPS_PROXY="+p.url("anna:s3cret@"), "NO_PROXY="+no, "HTTP_PROXY=", "https_proxy=", "no_proxy=").CombinedOutput()
			if no == "" {
				require.NoError(t, err, "%s", out)
				require.Greater(t, p.connects(), before)
				continue
			}
			require.Equal(t, before, p.connects(), "NO_PROXY: %s", out)
		}
	})
}

// process is one that does the job.
func (j benchJob) process(ctx context.Context, env ...string) *exec.Cmd {
	text, err := json.Marshal(j)
	if err != nil {
		panic(err)
	}
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(append(os.Environ(), benchVariable+"="+string(text)), env...)
	return cmd
}

// Downloads through what a network does to connections.
func TestToxiproxy(t *testing.T) {
	if testing.Short() {
		t.Skip("seconds on real servers")
	}
	p := newToxiproxy(t)
	for name, c := range map[string]struct {
		toxic      string
		attributes map[string]any
		heals      time.Duration // after which the toxic is gone; 0: never
		least      time.Duration // that it takes
		requests   int           // at least
	}{
		"latency":    {toxic: "latency", attributes: map[string]any{"latency": 300, "jitter": 50}, least: 300 * time.Millisecond, requests: 1},
		"bandwidth":  {toxic: "bandwidth", attributes: map[string]any{"rate": 4096}, least: 1800 * time.Millisecond, requests: 1},
		"slow close": {toxic: "slow_close", attributes: map[string]any{"delay": 500}, requests: 1},
		"slices":     {toxic: "slicer", attributes: map[string]any{"average_size": 3000, "size_variation": 1000, "delay": 10}, requests: 1},
		"cut":        {toxic: "limit_data", attributes: map[string]any{"bytes": 3 << 20}, requests: 3},
		"reset":      {toxic: "reset_peer", attributes: map[string]any{"timeout": 20}, heals: time.Second, requests: 2},
		"silence":    {toxic: "timeout", attributes: map[string]any{"timeout": 0}, heals: 1500 * time.Millisecond, requests: 2},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOnline(t)
			n := newNginx(t, o.vendor.dir, "limit_rate 60m;")
			proxy := strings.ReplaceAll(name, " ", "-")
			url := p.between(proxy, n.port)
			u := o.from(httpFrom(t, url))
			d := check(t, u)
			p.toxic(proxy, c.toxic, c.attributes)
			if c.heals > 0 {
				time.AfterFunc(c.heals, func() { p.remove(proxy, c.toxic) })
			}
			began := time.Now()
			require.NoError(t, u.Stage(t.Context(), d.Update, nil))
			require.GreaterOrEqual(t, time.Since(began), c.least)
			o.staged(u, d)
			log := n.served()
			require.GreaterOrEqual(t, len(log), c.requests)
			for _, s := range log[1:] {
				if s.Range != "" {
					require.NotEmpty(t, s.IfRange)
					require.Equal(t, 206, s.Status)
				}
			}
		})
	}
	t.Run("mirrors", func(t *testing.T) { testFailOver(t, p) })
}

// The first mirror dies in the middle of a file. The second one sends the rest, and no more.
func testFailOver(t *testing.T, p *toxiproxy) {
	o := newOnline(t)
	first, second := newNginx(t, o.vendor.dir, limited), newNginx(t, o.vendor.dir, "")
	u := o.from(httpFrom(t, p.between("first", first.port)), httpFrom(t, second.url))
	d := check(t, u)
	gone := false
	require.NoError(t, u.Stage(t.Context(), d.Update, func(now update.Progress) {
		if !gone && now.Done > 4<<20 {
			gone = true
			p.disable("first")
		}
	}))
	o.staged(u, d)
	log := second.served()
	require.Len(t, log, 1)
	require.Equal(t, 206, log[0].Status)
	require.Empty(t, log[0].IfRange, "the first one's tag means nothing to the second")
	from, err := strconv.ParseInt(strings.Trim(log[0].Range, "bytes=-"), 10, 64)
	require.NoError(t, err)
	require.Greater(t, from, int64(4<<20))
	require.EqualValues(t, int64(len(o.content))-from, log[0].Sent)
	t.Logf("%d bytes; the first sent %d, the second %d: %.1f %% too many, in buffers on the way", len(o.content), first.sent(), second.sent(),
		100*float64(first.sent()+second.sent()-int64(len(o.content)))/float64(len(o.content)))
	require.NotContains(t, o.events, "update.mirror_out verify", "to fail is not to lie")
}
