package trust

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestValidator(t *testing.T) {
	const monday, later, soon = "Mon, 23 Nov 2026 10:00:00 GMT", "Mon, 23 Nov 2026 10:01:00 GMT", "Mon, 23 Nov 2026 10:00:59 GMT"
	for name, c := range map[string]struct {
		header map[string]string
		want   string
	}{
		"strong tag":                      {map[string]string{"ETag": `"a-1"`}, `"a-1"`},
		"strong tag, and a date":          {map[string]string{"ETag": `"a"`, "Last-Modified": monday, "Date": later}, `"a"`},
		"weak tag":                        {map[string]string{"ETag": `W/"a"`}, ""},
		"weak tag, and a strong date":     {map[string]string{"ETag": `W/"a"`, "Last-Modified": monday, "Date": later}, ""},
		"unquoted tag":                    {map[string]string{"ETag": `a`}, ""},
		"tag with a quote in it":          {map[string]string{"ETag": `"a"b"`}, ""},
		"tag with a space":                {map[string]string{"ETag": `"a b"`}, ""},
		"half a tag":                      {map[string]string{"ETag": `"`}, ""},
		"date a minute before the answer": {map[string]string{"Last-Modified": monday, "Date": later}, monday},
		"date too close to the answer":    {map[string]string{"Last-Modified": monday, "Date": soon}, ""},
		"date without the answer's":       {map[string]string{"Last-Modified": monday}, ""},
		"nothing":                         {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := http.Header{}
			for k, v := range c.header {
				h.Set(k, v)
			}
			require.Equal(t, c.want, validator(h))
		})
	}
	for _, bad := range []string{"", "x", "\"a\"\r\nEvil: 1", `W/"a"`, `"a b"`} {
		require.False(t, isValidator(bad), "%q may come from a disk", bad)
	}
}

// answers serves what a test says, and remembers the requests.
type answers struct {
	*httptest.Server
	asked []*http.Request
}

func serve(t *testing.T, answer http.HandlerFunc) *answers {
	t.Helper()
	a := &answers{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		a.asked = append(a.asked, req)
		answer(w, req)
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *answers) open(t *testing.T, r Range) (Body, string, error) {
	t.Helper()
	s, err := HTTP(a.URL, nil)
	require.NoError(t, err)
	r.Name = "a"
	b, err := s.(Ranged).OpenRange(t.Context(), r)
	if err != nil {
		return b, "", err
	}
	defer func() { _ = b.Close() }()
	content, err := io.ReadAll(b)
	return b, string(content), err
}

const digits = "0123456789"

// part answers with bytes of digits, whatever was asked for.
func part(from, to int, total, tag string) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		if tag != "" {
			w.Header().Set("ETag", tag)
		}
		if req.Header.Get("Range") == "" {
			_, _ = io.WriteString(w, digits)
			return
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%s", from, to, total))
		w.WriteHeader(http.StatusPartialContent)
		if from >= 0 && to >= from && to < len(digits) {
			_, _ = io.WriteString(w, digits[from:to+1])
		}
	}
}

func TestOpenRange(t *testing.T) {
	honest := func(tag string) http.HandlerFunc {
		return func(w http.ResponseWriter, req *http.Request) {
			if tag != "" {
				w.Header().Set("ETag", tag)
			}
			http.ServeContent(w, req, "", time.Time{}, strings.NewReader(digits))
		}
	}
	for name, c := range map[string]struct {
		answer   http.HandlerFunc
		past     string
		want     Body // without the reader
		content  string
		ifRange  string
		requests int
	}{
		"the same file":               {honest(`"a"`), `"a"`, Body{Offset: 4, Validator: `"a"`}, "456789", `"a"`, 1},
		"another file":                {honest(`"b"`), `"a"`, Body{Validator: `"b"`, Changed: true}, digits, `"a"`, 1},
		"nothing known of the past":   {honest(`"b"`), "", Body{Offset: 4, Validator: `"b"`}, "456789", "", 1},
		"no validator":                {honest(""), "", Body{Offset: 4}, "456789", "", 1},
		"a past that may not be sent": {honest(`"a"`), `W/"a"`, Body{Offset: 4, Validator: `"a"`}, "456789", "", 1},
		"no ranges, same file": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", `"a"`)
			_, _ = io.WriteString(w, digits)
		}, `"a"`, Body{Validator: `"a"`}, digits, `"a"`, 1},
		"no ranges, no validator":     {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, digits) }, `"a"`, Body{}, digits, `"a"`, 1},
		"part of another file anyway": {part(4, 9, "10", `"b"`), `"a"`, Body{Validator: `"b"`, Changed: true}, digits, `"a"`, 2},
		"part without its tag":        {part(4, 9, "10", ""), `"a"`, Body{Offset: 4, Validator: `"a"`}, "456789", `"a"`, 1},
		"a shorter part":              {part(4, 6, "10", ""), "", Body{Offset: 4}, "456", "", 1},
		"total not said":              {part(4, 9, "*", ""), "", Body{Offset: 4}, "456789", "", 1},
		"range not satisfiable": {func(w http.ResponseWriter, req *http.Request) {
			if req.Header.Get("Range") != "" {
				w.WriteHeader(416)
				return
			}
			_, _ = io.WriteString(w, digits)
		}, "", Body{Changed: true}, digits, "", 2},
	} {
		t.Run(name, func(t *testing.T) {
			srv := serve(t, c.answer)
			got, content, err := srv.open(t, Range{Offset: 4, Length: 10, Past: c.past})
			require.NoError(t, err)
			got.ReadCloser = nil
			require.Equal(t, c.want, got)
			require.Equal(t, c.content, content)
			require.Len(t, srv.asked, c.requests)
			require.Equal(t, c.ifRange, srv.asked[0].Header.Get("If-Range"))
			require.Equal(t, "bytes=4-", srv.asked[0].Header.Get("Range"))
			require.Equal(t, "identity", srv.asked[0].Header.Get("Accept-Encoding"))
		})
	}
}

func TestWrongParts(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"begins elsewhere":     part(3, 9, "10", ""),
		"of a longer file":     part(4, 10, "11", ""),
		"of a shorter file":    part(4, 8, "9", ""),
		"ends beyond the file": part(4, 10, "10", ""),
		"ends beyond, total *": part(4, 10, "*", ""),
		"ends before it began": part(4, 3, "10", ""),
		"no total":             part(4, 9, "", ""),
		"nonsense": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes=4")
			w.WriteHeader(206)
		},
		"several parts": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "multipart/byteranges; boundary=x")
			w.WriteHeader(206)
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := serve(t, answer).open(t, Range{Offset: 4, Length: 10})
			var wrong *RangeError
			require.ErrorAs(t, err, &wrong)
			require.EqualValues(t, 4, wrong.Offset)
		})
	}
}

// What cannot be the file is refused before its body is read.
func TestWrongLengthAndPages(t *testing.T) {
	page := func(kind string, status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	var portal *PortalError
	var length *LengthError
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   any
		length int64
	}{
		"a page":                           {page("text/html; charset=utf-8", 200, "<html>log in"), &portal, 10},
		"a page, where no length is known": {page("text/html", 200, "<html>log in"), &portal, 0},
		"xhtml":                            {page("application/xhtml+xml", 200, "<html>log in"), &portal, 10},
		"511":                              {page("text/html", 511, "<html>log in"), &portal, 10},
		"another length":                   {page("application/octet-stream", 200, "123"), &length, 10},
		"a page that is the file":          {page("text/html", 200, digits), nil, 10},
	} {
		t.Run(name, func(t *testing.T) {
			for _, offset := range []int64{0, 4} {
				_, content, err := serve(t, c.answer).open(t, Range{Offset: offset, Length: c.length})
				if c.want == nil {
					require.NoError(t, err)
					require.Equal(t, digits, content)
					continue
				}
				require.ErrorAs(t, err, c.want)
			}
		})
	}
	require.ErrorContains(t, &PortalError{URL: "http://h/a"}, "captive portal")
}

// Secrets are for the host of the base URL, and not for where it may send somebody.
func TestHeaderStaysAtHome(t *testing.T) {
	elsewhere := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") })
	srv := serve(t, func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/away":
			http.Redirect(w, req, elsewhere.URL+"/x", http.StatusFound)
		case "/near":
			http.Redirect(w, req, "/here", http.StatusFound)
		default:
			_, _ = io.WriteString(w, "x")
		}
	})
	s, err := HTTPWith(strings.Replace(srv.URL, "://", "://user:secret@", 1), HTTPConfig{
		Proxy: Direct, Header: http.Header{"x-key": {"secret"}, "Cookie": {"a=secret"}}, InsecureHeaderOnHTTP: true,
	})
	require.NoError(t, err)
	sent := func(req *http.Request) bool {
		_, _, basic := req.BasicAuth()
		return basic && req.Header.Get("X-Key") == "secret" && req.Header.Get("Cookie") == "a=secret"
	}
	none := func(req *http.Request) bool {
		return !strings.Contains(fmt.Sprint(req.Header), "secret") && req.Header.Get("Authorization") == ""
	}
	_, err = readFrom(t, s, "here", 0)
	require.NoError(t, err)
	require.True(t, sent(srv.asked[0]))
	_, err = readFrom(t, s, "near", 0)
	require.NoError(t, err)
	require.True(t, sent(srv.asked[1]))
	require.True(t, none(srv.asked[2]), "%v", srv.asked[2].Header)
	_, err = readFrom(t, s, "away", 0)
	var redirect *RedirectError
	require.ErrorAs(t, err, &redirect)
	require.NotContains(t, err.Error(), "secret")
	require.Empty(t, elsewhere.asked)
}

func TestHTTPConfigIsChecked(t *testing.T) {
	for name, c := range map[string]struct {
		field string
		base  string
		cfg   HTTPConfig
	}{
		"base":                   {"BaseURL", "ftp://h", HTTPConfig{}},
		"proxy is no URL":        {"Proxy", "https://h", HTTPConfig{Proxy: "http://user:hunter2@h:x"}},
		"proxy without a scheme": {"Proxy", "https://h", HTTPConfig{Proxy: "proxy:3128"}},
		"proxy of another kind":  {"Proxy", "https://h", HTTPConfig{Proxy: "ftp://user:hunter2@proxy"}},
		"proxy with a path":      {"Proxy", "https://h", HTTPConfig{Proxy: "http://proxy:1/x"}},
		"no PEM":                 {"RootCAs", "https://h", HTTPConfig{RootCAs: []byte("x")}},
		"header name":            {"Header", "https://h", HTTPConfig{Header: http.Header{"a b": {"x"}}}},
		"header value":           {"Header", "https://h", HTTPConfig{Header: http.Header{"A": {"x\r\nB: y"}}}},
		"header of ours":         {"Header", "https://h", HTTPConfig{Header: http.Header{"range": {"bytes=0-"}}}},
		"certificate for a proxy": {"Certificates", "https://h", HTTPConfig{
			Proxy: "HTTPS://user:hunter2@proxy", Certificates: []tls.Certificate{{Certificate: [][]byte{{1}}, PrivateKey: ed25519.PrivateKey{}}},
		}},
		"header in the clear": {"Header", "http://h", HTTPConfig{Header: http.Header{"A": {"x"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := HTTPWith(c.base, c.cfg)
			var wrong *HTTPConfigError
			require.ErrorAs(t, err, &wrong)
			require.Equal(t, c.field, wrong.Field)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}

func TestRoster(t *testing.T) {
	var told []int
	a, b, c := FS(mapFS(nil)), FS(mapFS(nil)), FS(mapFS(nil))
	r := NewRoster(Mirrors(a, Mirrors(b, c)), func(n int, err error) {
		require.Error(t, err)
		told = append(told, n)
	})
	present := func() (list []int) {
		for _, m := range r.Present() {
			list = append(list, m.Number)
		}
		return list
	}
	require.Equal(t, []int{1, 2, 3}, present())
	lie := errors.New("x")
	r.Strike(Mirror{Number: 2}, lie)
	r.Strike(Mirror{Number: 2}, lie)
	require.Equal(t, []int{1, 3}, present())
	r.Strike(Mirror{Number: 1}, lie)
	require.Equal(t, []int{3}, present())
	require.Equal(t, []int{2, 1}, told)
	r.Strike(Mirror{Number: 3}, lie)
	require.Equal(t, []int{1, 2, 3}, present(), "somebody has to be asked")
}

// A mirror that delivered metadata that does not verify, when there is some that does, is asked no more.
func TestLyingMirrorIsLeftOut(t *testing.T) {
	r := newRepo(t)
	var asked atomic.Int64
	liar := sourceFunc(func(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
		asked.Add(1)
		if strings.HasSuffix(name, "snapshot.json") {
			return io.NopCloser(strings.NewReader("{}")), nil
		}
		return liveSource{r}.Open(ctx, name, offset)
	})
	client := r.client(t.TempDir(), Mirrors(liar, liveSource{r}))
	_, err := client.Refresh(t.Context())
	require.NoError(t, err)
	require.Positive(t, asked.Swap(0))
	r.publish("notes.stable")
	_, err = client.Refresh(t.Context())
	require.NoError(t, err)
	require.Zero(t, asked.Load())
}
