package refresh_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/license/refresh"
)

// token is one in form; nothing here reads it.
const token = "eyJhbGciOiJFZERTQSIsImtpZCI6ImFjbWUtMjAyNiJ9.eyJ2IjoxLCJsaWQiOiJsaWNfNDIiLCJzZXEiOjN9.c2lnbmF0dXJlIHNpZ25hdHVyZSBzaWduYXR1cmUgc2lnbmF0dXJl"

// An issuer is a server over TLS that counts what it is asked.
type issuer struct {
	*httptest.Server
	asked atomic.Int32
}

func newIssuer(t *testing.T, answer http.HandlerFunc) *issuer {
	t.Helper()
	i := &issuer{}
	i.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.asked.Add(1)
		answer(w, r)
	}))
	i.Config.ErrorLog = log.New(io.Discard, "", 0)
	i.EnableHTTP2 = true
	i.StartTLS()
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) host() string { return strings.TrimPrefix(i.URL, "https://") }

func (i *issuer) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Certificate().Raw})
}

func (i *issuer) client(change ...func(*refresh.HTTP)) *refresh.HTTP {
	h := &refresh.HTTP{Hosts: []string{i.host()}, RootCAs: i.pem(), Timeout: 5 * time.Second}
	for _, f := range change {
		f(h)
	}
	return h
}

// refused asks, expects an error, and checks that it does not tell the token.
func refused(t *testing.T, h *refresh.HTTP, address string, words string) error {
	t.Helper()
	fresh, err := h.Refresh(t.Context(), address, []byte(token))
	require.Error(t, err)
	require.Nil(t, fresh)
	require.ErrorContains(t, err, words)
	require.True(t, strings.HasPrefix(err.Error(), "refresh: "), err)
	for part := range strings.SplitSeq(token, ".") {
		require.NotContains(t, err.Error(), part[:20])
	}
	require.NotContains(t, err.Error(), "hunter2")
	return err
}

func TestWhatIsSent(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, func(w http.ResponseWriter, r *http.Request) {
		identity := r.Header.Get("Accept-Encoding") == "identity"
		r.Header.Del("Accept-Encoding")
		if !identity || r.Method != http.MethodGet || r.RequestURI != "/renew/lic_42?plan=a%20b" || len(r.Header) != 3 ||
			r.Header.Get("Authorization") != "Bearer "+token || r.Header.Get("Accept") != "application/jwt" || r.Header.Get("User-Agent") != "fairlead" ||
			len(r.Cookies()) > 0 || r.ContentLength != 0 {
			http.Error(w, "", http.StatusBadRequest)
			return
		}
		http.SetCookie(w, &http.Cookie{Name: "a", Value: "b"})
		_, _ = io.WriteString(w, "renewed\n")
	})
	h := i.client()
	for range 2 {
		fresh, err := h.Refresh(t.Context(), i.URL+"/renew/lic_42?plan=a%20b", []byte(token))
		require.NoError(t, err)
		require.Equal(t, "renewed\n", string(fresh))
	}
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	var status atomic.Int32
	i := newIssuer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "https://evil.example/"+token)
		w.Header().Set("Retry-After", "99999999")
		w.WriteHeader(int(status.Load()))
	})
	for code, c := range map[int32]struct {
		words string
		is    error
	}{
		400: {"status 400 Bad Request", nil},
		401: {"the issuer refuses to renew this licence", refresh.ErrRefused},
		403: {"the issuer refuses to renew this licence", refresh.ErrRefused},
		402: {"status 402", nil},
		405: {"status 405", nil},
		407: {"status 407", nil},
		410: {"this licence has ended", refresh.ErrEnded},
		418: {"status 418", nil},
		500: {"status 500", nil},
		501: {"status 501", nil},
		599: {"status 599, try again in 24h0m0s", nil},
		// They are tried again, but not where the server says that it takes longer than there is time.
		429: {"status 429 Too Many Requests, try again in 24h0m0s", nil},
		502: {"status 502", nil},
		503: {"status 503", nil},
		504: {"status 504", nil},
		201: {"status 201", nil},
		206: {"status 206", nil},
	} {
		status.Store(code)
		before := i.asked.Load()
		err := refused(t, i.client(), i.URL+"/x?key=hunter2", c.words)
		var wrong *refresh.StatusError
		require.ErrorAs(t, err, &wrong)
		require.Equal(t, int(code), wrong.Status)
		require.Equal(t, i.URL+"/x", wrong.URL)
		require.Equal(t, 24*time.Hour, wrong.RetryAfter)
		require.Equal(t, int32(1), i.asked.Load()-before, code)
		for _, state := range []error{refresh.ErrRefused, refresh.ErrEnded} {
			require.Equal(t, state == c.is, errors.Is(err, state), code)
		}
	}
	for _, code := range []int32{204, 304, 404} {
		status.Store(code)
		fresh, err := i.client().Refresh(t.Context(), i.URL, []byte(token))
		require.NoError(t, err)
		require.Nil(t, fresh)
	}
}

// Not even on the same host: what is there was not named by the issuer.
func TestRedirects(t *testing.T) {
	t.Parallel()
	elsewhere := newIssuer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "stolen") })
	var status atomic.Int32
	var to atomic.Value
	i := newIssuer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/x" {
			w.Header().Set("Location", to.Load().(string))
			w.WriteHeader(int(status.Load()))
			return
		}
		_, _ = io.WriteString(w, "followed")
	})
	h := i.client(func(h *refresh.HTTP) {
		h.Hosts, h.RootCAs = append(h.Hosts, elsewhere.host()), append(h.RootCAs, elsewhere.pem()...)
	})
	for _, code := range []int32{300, 301, 302, 303, 305, 307, 308} {
		for target, host := range map[string]string{"/y": i.host(), elsewhere.URL + "/?key=hunter2": elsewhere.host(), "http://" + i.host(): i.host(), "": "", "%zz": ""} {
			status.Store(code)
			to.Store(target)
			err := refused(t, h, i.URL+"/x", "it is not followed")
			var redirect *refresh.RedirectError
			require.ErrorAs(t, err, &redirect)
			require.Equal(t, refresh.RedirectError{URL: i.URL + "/x", Status: int(code), To: host}, *redirect)
		}
	}
	require.Zero(t, elsewhere.asked.Load())
	require.Equal(t, int32(35), i.asked.Load(), "one request each")
	// A server that plays back what it was told.
	to.Store("https://" + token + "/")
	_, err := h.Refresh(t.Context(), i.URL+"/x", []byte(token))
	require.ErrorContains(t, err, "it is not shown")
	require.NotContains(t, err.Error(), "eyJ")
}

func TestBusyServer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		codes []int // of the first answers; then there is a licence
		after string
		tries int
		asked int32
		last  int
	}{
		"busy, then not":         {[]int{503}, "0", 0, 2, 0},
		"busy twice":             {[]int{429, 502}, "", 0, 3, 0},
		"always busy":            {[]int{504, 503, 502, 429}, "", 0, 3, 502},
		"one try":                {[]int{503}, "", 1, 1, 503},
		"busy, then wrong":       {[]int{503, 400}, "soon", 0, 2, 400},
		"Retry-After is obeyed":  {[]int{503}, "2", 0, 2, 0},
		"there is no such time":  {[]int{503}, "5", 0, 1, 503},
		"nor until the day ends": {[]int{429}, "Fri, 31 Dec 2199 23:59:59 GMT", 0, 1, 429},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newIssuer(t, nil)
			i.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				n := int(i.asked.Add(1))
				if n <= len(c.codes) {
					w.Header().Set("Retry-After", c.after)
					w.WriteHeader(c.codes[n-1])
					return
				}
				_, _ = io.WriteString(w, "renewed")
			})
			began := time.Now()
			fresh, err := i.client(func(h *refresh.HTTP) { h.Tries = c.tries }).Refresh(t.Context(), i.URL, []byte(token))
			require.Equal(t, c.asked, i.asked.Load())
			if c.after == "2" {
				require.GreaterOrEqual(t, time.Since(began), 2*time.Second)
			}
			if c.last == 0 {
				require.NoError(t, err)
				require.Equal(t, "renewed", string(fresh))
				return
			}
			require.Less(t, time.Since(began), 4*time.Second, "it does not wait for nothing")
			var status *refresh.StatusError
			require.ErrorAs(t, err, &status)
			require.Equal(t, c.last, status.Status)
		})
	}
}

func TestWrongAnswers(t *testing.T) {
	t.Parallel()
	write := func(kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			_, _ = io.WriteString(w, body)
		}
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		words  string
	}{
		"a page":       {write("text/html; charset=utf-8", "<html>log in"), "is a web page"},
		"another page": {write("application/xhtml+xml", "<html/>"), "is a web page"},
		"empty":        {write("application/jwt", ""), "is empty"},
		"compressed": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = io.WriteString(w, "\x1f\x8b")
		}, `the encoding "gzip"`},
		"long": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "65537")
			_, _ = io.WriteString(w, strings.Repeat("A", 64<<10+1))
		}, "has 65537 bytes"},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(bytes.Repeat([]byte("A"), 32<<10)); err != nil {
					return
				}
			}
		}, "has more than 65536 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newIssuer(t, c.answer)
			err := refused(t, i.client(), i.URL, c.words)
			var answer *refresh.AnswerError
			require.ErrorAs(t, err, &answer)
			require.Equal(t, i.URL, answer.URL)
			require.Equal(t, int32(1), i.asked.Load(), "not tried again")
		})
	}
	i := newIssuer(t, write("application/octet-stream", strings.Repeat("A", 64<<10)))
	fresh, err := i.client().Refresh(t.Context(), i.URL, []byte(token))
	require.NoError(t, err)
	require.Len(t, fresh, 64<<10, "as long as may be")
}

// Servers that take time: the deadline counts for everything together.
func TestSlowServers(t *testing.T) {
	t.Parallel()
	loris := func(wait time.Duration, header bool) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if header {
				_, _ = io.WriteString(w, "e")
			}
			for r.Context().Err() == nil {
				select {
				case <-time.After(wait):
				case <-r.Context().Done():
				}
				if header {
					_, _ = io.WriteString(w, "y")
					_ = http.NewResponseController(w).Flush()
				}
			}
		}
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, and nobody speaks
	require.NoError(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	const limit = 400 * time.Millisecond
	for name, url := range map[string]string{
		"black hole":        "https://" + silent.Addr().String(),
		"no answer":         newIssuer(t, loris(10*time.Millisecond, false)).URL,
		"a byte now and so": newIssuer(t, loris(20*time.Millisecond, true)).URL,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newIssuer(t, func(http.ResponseWriter, *http.Request) {})
			h := i.client(func(h *refresh.HTTP) { h.Hosts, h.Timeout = []string{strings.TrimPrefix(url, "https://")}, limit })
			began := time.Now()
			err := refused(t, h, url, "")
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Less(t, time.Since(began), limit+time.Second)

			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(100*time.Millisecond, cancel)
			h.Timeout = time.Minute
			began = time.Now()
			_, err = h.Refresh(ctx, url, []byte(token))
			require.ErrorIs(t, err, context.Canceled)
			require.Less(t, time.Since(began), 2*time.Second)
		})
	}
}

// When Refresh has returned, nothing goes on.
func TestNothingGoesOn(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = silent.Close() }()
	before := runtime.NumGoroutine()
	h := &refresh.HTTP{Hosts: []string{silent.Addr().String()}, Timeout: 100 * time.Millisecond}
	_ = refused(t, h, "https://"+silent.Addr().String(), "no answer in time")
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, time.Second, 10*time.Millisecond) // its own
}

// What is no HTTP, and what breaks off, may be over in a moment.
func TestBrokenServers(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, func(http.ResponseWriter, *http.Request) {})
	raw := func(answer string) (string, *atomic.Int32) {
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: i.TLS.Certificates})
		require.NoError(t, err)
		t.Cleanup(func() { _ = l.Close() })
		asked := new(atomic.Int32)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				asked.Add(1)
				_, _ = c.Read(make([]byte, 4096))
				_, _ = io.WriteString(c, answer)
				_ = c.Close()
			}
		}()
		return l.Addr().String(), asked
	}
	for answer, words := range map[string]string{
		"": "EOF", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc": "unexpected EOF",
		token + "\r\n\r\n": "it is not shown", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20): "exceeded 65536 bytes",
	} {
		host, asked := raw(answer)
		h := i.client(func(h *refresh.HTTP) { h.Hosts, h.Tries = []string{host}, 2 })
		_ = refused(t, h, "https://"+host, words)
		require.Equal(t, int32(2), asked.Load(), words)
	}
}

func TestURLs(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "renewed") })
	_, port, err := net.SplitHostPort(i.host())
	require.NoError(t, err)
	hosts := []string{"licenses.acme.example", "[::1]:" + port, "Other.Example:8443", i.host()}
	h := i.client(func(h *refresh.HTTP) { h.Hosts = hosts })
	for address, words := range map[string]string{
		"":                                       "is not an https URL",
		"https://" + strings.Repeat("a", 2048):   "longer than 2048",
		"http://" + i.host() + "/":               "is not an https URL",
		"HTTP://licenses.acme.example":           "is not an https URL",
		"file:///etc/passwd":                     "is not an https URL",
		"//licenses.acme.example/x":              "is not an https URL",
		"https:licenses.acme.example":            "has no host",
		"https:///x":                             "has no host",
		"https://:443/x":                         "has no host",
		"https://licenses.acme.example:/":        "has no host",
		"https://licenses.acme.example:0/":       "has no host",
		"https://licenses.acme.example:65979/":   "has no host", // 443, modulo 2^16
		"https://licenses.acme.example:+443/":    "cannot be parsed",
		"https://\u212aicenses.acme.example/":    "has no host",
		"https://licenses.acme.example\u3002/":   "has no host",
		"https://a\r\nX: y@h/":                   "cannot be parsed",
		"https://user:hunter2@h:x/":              "cannot be parsed",
		"https://user:hunter2@" + i.host():       "has a user name",
		"https://" + i.host() + "#hunter2":       "has a fragment",
		"https://evil.example/?key=hunter2":      "is on a server that is not one of this app's (licenses.acme.example, ",
		"https://licenses.acme.example.evil.de":  "is on a server that is not",
		"https://x.licenses.acme.example/":       "is on a server that is not",
		"https://acme.example/":                  "is on a server that is not",
		"https://licenses.acme.example./":        "is on a server that is not",
		"https://licenses.acme.example:8443/":    "is on a server that is not",
		"https://other.example/":                 "is on a server that is not",
		"https://127.0.0.1/":                     "is on a server that is not",
		"https://127.1:" + port:                  "is on a server that is not",
		"https://evil.example\\@" + i.host():     "cannot be parsed",
		"https://evil.example?@" + i.host():      "is on a server that is not",
		"https://evil.example/@" + i.host():      "is on a server that is not",
		"https://" + i.host() + "@evil.example/": "has a user name",
	} {
		err := refused(t, h, address, words)
		var wrong *refresh.URLError
		require.ErrorAs(t, err, &wrong, address)
	}
	require.Zero(t, i.asked.Load())
	for _, address := range []string{"https://" + i.host(), "HTTPS://" + i.host() + "/?x=%2f"} {
		fresh, err := h.Refresh(t.Context(), address, []byte(token))
		require.NoError(t, err)
		require.Equal(t, "renewed", string(fresh))
	}
}

func TestHostsInOtherWords(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "renewed") })
	_, port, err := net.SplitHostPort(i.host())
	require.NoError(t, err)
	// A name that the certificate does not have: the handshake fails, so it was allowed.
	for entry, address := range map[string]string{
		"LOCALHOST:" + port: "https://localhost:" + port, "localhost:" + port: "https://LocalHost:0" + port,
	} {
		err := refused(t, i.client(func(h *refresh.HTTP) { h.Hosts = []string{entry} }), address, "certificate is valid for")
		var cert *tls.CertificateVerificationError
		require.ErrorAs(t, err, &cert)
	}
	require.Zero(t, i.asked.Load(), "it saw no request")
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, func(http.ResponseWriter, *http.Request) {})
	for name, c := range map[string]struct {
		change func(*refresh.HTTP)
		field  string
		words  string
	}{
		"no host":        {func(h *refresh.HTTP) { h.Hosts = nil }, "Hosts", "is empty"},
		"an empty one":   {func(h *refresh.HTTP) { h.Hosts = append(h.Hosts, "") }, "Hosts", `has ""`},
		"a wildcard":     {func(h *refresh.HTTP) { h.Hosts = append(h.Hosts, "*.acme.example") }, "Hosts", "*.acme"},
		"a URL":          {func(h *refresh.HTTP) { h.Hosts = []string{i.URL} }, "Hosts", "https://"},
		"a path":         {func(h *refresh.HTTP) { h.Hosts = []string{i.host() + "/x"} }, "Hosts", "/x"},
		"a user":         {func(h *refresh.HTTP) { h.Hosts = []string{"a@" + i.host()} }, "Hosts", "a@"},
		"no port":        {func(h *refresh.HTTP) { h.Hosts = []string{"acme.example:"} }, "Hosts", "acme"},
		"white space":    {func(h *refresh.HTTP) { h.Hosts = []string{" acme.example"} }, "Hosts", "acme"},
		"proxy":          {func(h *refresh.HTTP) { h.Proxy = "ftp://user:hunter2@h" }, "Proxy", "is not of the form"},
		"proxy, no URL":  {func(h *refresh.HTTP) { h.Proxy = "http://user:hunter2@h:x" }, "Proxy", "is no URL"},
		"no certificate": {func(h *refresh.HTTP) { h.RootCAs = []byte("x") }, "RootCAs", "holds no certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			err := refused(t, i.client(c.change), i.URL, c.words)
			var wrong *refresh.ConfigError
			require.ErrorAs(t, err, &wrong)
			require.Equal(t, c.field, wrong.Field)
		})
	}
	for _, bad := range []string{"", "a b.c.d", token + "\r\nX: y", "-----BEGIN LICENSE-----", strings.Repeat("A", 16<<10+1), token + "\n"} {
		_, err := i.client().Refresh(t.Context(), i.URL, []byte(bad))
		require.ErrorIs(t, err, refresh.ErrToken)
	}
	require.Zero(t, i.asked.Load())
}

func TestWrongCertificates(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, func(http.ResponseWriter, *http.Request) {})
	began := time.Now()
	err := refused(t, i.client(func(h *refresh.HTTP) { h.RootCAs = nil }), i.URL, "certificate signed by unknown authority")
	var cert *tls.CertificateVerificationError
	require.ErrorAs(t, err, &cert)
	require.Zero(t, i.asked.Load())
	require.Less(t, time.Since(began), time.Second, "not tried again")
	old := httptest.NewUnstartedServer(http.NotFoundHandler())
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	old.Config.ErrorLog = i.Config.ErrorLog
	old.StartTLS()
	defer old.Close()
	began = time.Now()
	defer func() { require.Less(t, time.Since(began), time.Second, "not tried again") }()
	_ = refused(t, i.client(func(h *refresh.HTTP) { h.Hosts = []string{strings.TrimPrefix(old.URL, "https://")} }), old.URL, "protocol version")
}

// A tunnel is a proxy that knows the way to one server only.
type tunnel struct {
	*httptest.Server
	asked    atomic.Int32
	saw      atomic.Value // of the last request: host and Proxy-Authorization
	password string
}

func newTunnel(to string) *tunnel {
	p := &tunnel{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		p.saw.Store(r.Method + " " + r.Host + " " + r.Header.Get("Proxy-Authorization") + r.Header.Get("Authorization"))
		if p.password != "" && r.Header.Get("Proxy-Authorization") != p.password {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		server, err := net.Dial("tcp", to)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		client, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
		go func() {
			_, _ = io.Copy(server, client)
			_ = server.Close()
		}()
		_, _ = io.Copy(client, server)
		_ = client.Close()
	}))
	return p
}

func TestProxy(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "renewed") })
	p := newTunnel(i.Listener.Addr().String())
	t.Cleanup(p.Close)
	p.password = "Basic YW5uYTpodW50ZXIy"
	// example.com is in the server's certificate, and known to the proxy only.
	via := func(proxy string) *refresh.HTTP {
		return i.client(func(h *refresh.HTTP) { h.Hosts, h.Proxy = []string{"example.com"}, proxy })
	}
	fresh, err := via("http://anna:hunter2@"+p.Listener.Addr().String()).Refresh(t.Context(), "https://example.com/x", []byte(token))
	require.NoError(t, err)
	require.Equal(t, "renewed", string(fresh))
	require.Equal(t, "CONNECT example.com:443 "+p.password, p.saw.Load(), "the proxy sees no licence")

	err = refused(t, via("http://bert:hunter2@"+p.Listener.Addr().String()), "https://example.com/x", "it wants a user name and a password")
	var proxy *refresh.ProxyError
	require.ErrorAs(t, err, &proxy)
	require.Equal(t, 407, proxy.Status)
	require.Equal(t, int32(2), p.asked.Load(), "not tried again")
	require.Equal(t, int32(1), i.asked.Load())
}

// environment is the proxy that the environment of this process names, once: net/http reads it once.
var environment = sync.OnceValues(func() (*tunnel, error) {
	p := newTunnel("127.0.0.1:1")
	return p, errors.Join(os.Setenv("HTTPS_PROXY", p.URL), os.Setenv("https_proxy", p.URL), os.Setenv("ALL_PROXY", p.URL))
})

// The environment does not decide where a licence goes, unless it is asked.
func TestProxyOfTheEnvironment(t *testing.T) {
	p, err := environment()
	require.NoError(t, err)
	address := "https://licenses.invalid/x"
	h := &refresh.HTTP{Hosts: []string{"licenses.invalid"}, Timeout: time.Second, Tries: 1}
	before := p.asked.Load()
	_ = refused(t, h, address, "licenses.invalid")
	require.Equal(t, before, p.asked.Load(), "nobody asked for the proxy")
	h.Proxy = refresh.Environment
	var refusedBy *refresh.ProxyError
	require.ErrorAs(t, refused(t, h, address, "502"), &refusedBy)
	require.Equal(t, before+1, p.asked.Load())
	require.Equal(t, (&url.URL{Scheme: "http", Host: p.Listener.Addr().String()}).String(), refusedBy.Proxy)
}
