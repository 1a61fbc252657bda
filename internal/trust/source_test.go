package trust

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func readFrom(t *testing.T, s Source, name string, offset int64) (string, error) {
	r, err := s.Open(t.Context(), name, offset)
	if err != nil {
		return "", err
	}
	defer func() { require.NoError(t, r.Close()) }()
	data, err := io.ReadAll(r)
	return string(data), err
}

func TestFSSource(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "a"), 0o700))
	overwrite(t, filepath.Join(dir, "a", "b"), []byte("0123456789"))
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	w, err := z.Create("a/b")
	require.NoError(t, err)
	_, err = w.Write([]byte("0123456789"))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	zr, err := zip.NewReader(bytes.NewReader(archive.Bytes()), int64(archive.Len()))
	require.NoError(t, err)

	for name, fsys := range map[string]fs.FS{"folder": os.DirFS(dir), "zip": zr, "map": mapFS(map[string][]byte{"a/b": []byte("0123456789")})} {
		t.Run(name, func(t *testing.T) {
			s := FS(fsys)
			got, err := readFrom(t, s, "a/b", 0)
			require.NoError(t, err)
			require.Equal(t, "0123456789", got)
			got, err = readFrom(t, s, "a/b", 4)
			require.NoError(t, err)
			require.Equal(t, "456789", got)
			_, err = readFrom(t, s, "a/c", 0)
			require.ErrorIs(t, err, fs.ErrNotExist)
			_, err = readFrom(t, s, "a", 0)
			require.ErrorContains(t, err, "not a regular file")
			_, err = readFrom(t, s, "../a/b", 0)
			require.Error(t, err)

			ctx, cancel := context.WithCancel(t.Context())
			r, err := s.Open(ctx, "a/b", 0)
			require.NoError(t, err)
			cancel()
			_, err = io.ReadAll(r)
			require.ErrorIs(t, err, context.Canceled)
			require.NoError(t, r.Close())
			_, err = s.Open(ctx, "a/b", 0)
			require.ErrorIs(t, err, context.Canceled)
		})
	}
}

func TestMirrorsOpenTheNext(t *testing.T) {
	none := FS(mapFS(nil))
	some := FS(mapFS(map[string][]byte{"a": []byte("x")}))
	got, err := readFrom(t, Mirrors(none, some), "a", 0)
	require.NoError(t, err)
	require.Equal(t, "x", got)
	_, err = readFrom(t, Mirrors(none, some), "b", 0)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = readFrom(t, Mirrors(), "b", 0)
	require.ErrorContains(t, err, "no mirrors")
}

func TestHTTPRefusesWhatIsNoPrefix(t *testing.T) {
	for _, bad := range []string{"", "repo", "/repo", "ftp://host/x", "file:///x", "http:opaque", "http://", "https://h/x?y=1", "https://h/x?", "https://h/x#y", "http://h/%zz", "http://user:hunter2@h/%zz", "https://user:hunter2@h/x?token=hunter2"} {
		_, err := HTTP(bad, nil)
		require.Error(t, err, bad)
		require.NotContains(t, err.Error(), "hunter2")
	}
	for _, good := range []string{"http://h", "https://h/", "https://user:pw@h:8443/a/b/"} {
		_, err := HTTP(good, nil)
		require.NoError(t, err, good)
	}
}

func TestHTTPNamesAreEscaped(t *testing.T) {
	for name, want := range map[string]string{
		"a/b c": "/base/a/b%20c", "a/?#%": "/base/a/%3F%23%25", "a/%2F": "/base/a/%252F", "ü": "/base/%C3%BC", "a/..b": "/base/a/..b", "a/b;c&d=e+f": "/base/a/b%3Bc&d=e+f",
	} {
		var got string
		srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) { got = req.RequestURI }))
		for _, base := range []string{srv.URL + "/base", srv.URL + "/base/"} {
			s, err := HTTP(base, nil)
			require.NoError(t, err)
			_, err = readFrom(t, s, name, 0)
			require.NoError(t, err)
			require.Equal(t, want, got)
			for _, bad := range []string{"../x", "/x", "a//b", "a/../../x", ""} {
				_, err = readFrom(t, s, bad, 0)
				require.ErrorIs(t, err, fs.ErrInvalid, bad)
			}
		}
		srv.Close()
	}
}

func TestHTTPStatuses(t *testing.T) {
	for status, absent := range map[int]bool{403: true, 404: true, 410: true, 400: false, 401: false, 429: false, 500: false, 503: false, 204: false, 416: false} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			require.Equal(t, "identity", req.Header.Get("Accept-Encoding"))
			w.WriteHeader(status)
		}))
		s, err := HTTP(strings.Replace(srv.URL, "http://", "http://user:hunter2@", 1), nil)
		require.NoError(t, err)
		_, err = readFrom(t, s, "a", 0)
		require.Equal(t, absent, errors.Is(err, fs.ErrNotExist), status)
		require.NotContains(t, err.Error(), "hunter2")
		var typed *StatusError
		require.Equal(t, !absent, errors.As(err, &typed), status)
		if typed != nil {
			require.Equal(t, StatusError{Status: status, URL: srv.URL + "/a"}, *typed)
		}
		srv.Close()
	}
}

func TestHTTPOffsets(t *testing.T) {
	const content = "0123456789"
	answers := map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"range": {func(w http.ResponseWriter, req *http.Request) {
			http.ServeContent(w, req, "", time.Time{}, strings.NewReader(content))
		}, "456789"},
		"no range": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, content) }, "456789"},
		"another range": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 3-9/10")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = io.WriteString(w, content[3:])
		}, ""},
		"range that only begins alike": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 40-49/50")
			w.WriteHeader(http.StatusPartialContent)
		}, ""},
		"no content range": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusPartialContent) }, ""},
		"shorter":          {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "0") }, ""},
		"compressed": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = io.WriteString(w, content)
		}, ""},
	}
	for name, c := range answers {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(c.answer)
			defer srv.Close()
			s, err := HTTP(srv.URL, nil)
			require.NoError(t, err)
			got, err := readFrom(t, s, "a", 4)
			if c.want == "" {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Range", "bytes 0-9/10")
		w.WriteHeader(http.StatusPartialContent)
	}))
	defer srv.Close()
	s, err := HTTP(srv.URL, nil)
	require.NoError(t, err)
	_, err = readFrom(t, s, "a", 0)
	require.Error(t, err, "a part that nobody asked for")
}

func TestHTTPRedirects(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "elsewhere") }))
	defer elsewhere.Close()
	handler := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		step, rest, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "-")
		n, err := strconv.Atoi(rest)
		switch {
		case step == "away":
			http.Redirect(w, req, elsewhere.URL+"/x", http.StatusFound)
		case step == "plain":
			http.Redirect(w, req, "http://"+req.Host+"/here-0", http.StatusFound)
		case err == nil && n > 0:
			http.Redirect(w, req, "/here-"+strconv.Itoa(n-1), http.StatusFound)
		default:
			_, _ = io.WriteString(w, "here")
		}
	})
	plain, tls := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer plain.Close()
	defer tls.Close()
	given := tls.Client()
	for name, want := range map[string]string{
		"here-0": "", "here-5": "", "here-6": "more than 5 redirects", "away": "another host", "plain": "from https to http",
	} {
		s, err := HTTP(plain.URL, nil)
		if name == "plain" {
			s, err = HTTP(tls.URL, given)
		}
		require.NoError(t, err)
		got, err := readFrom(t, s, name, 0)
		if want == "" {
			require.NoError(t, err)
			require.Equal(t, "here", got)
		} else {
			require.ErrorContains(t, err, want)
		}
	}
	require.Nil(t, given.CheckRedirect, "the given client is not changed")
	require.Nil(t, http.DefaultClient.CheckRedirect)
	require.Nil(t, http.DefaultClient.Transport)

	// The whole client, sent elsewhere for a file.
	r, dir := beforeNews(t)
	srv := r.serve()
	srv.intercept(func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.HasSuffix(req.URL.Path, "timestamp.json") {
			return false
		}
		http.Redirect(w, req, elsewhere.URL, http.StatusFound)
		return true
	})
	before := treeHash(t, dir)
	_, err := r.refresh(dir, srv.source(t))
	var failed *SourceError
	require.ErrorAs(t, err, &failed)
	require.ErrorContains(t, err, "another host")
	require.Equal(t, before, treeHash(t, dir))
}

// S3 answers 403 for what is not there to whoever may not list; that must not be mistaken for a fault.
func TestForbiddenRootEndsTheChain(t *testing.T) {
	for status, want := range map[int]bool{403: true, 404: true, 500: false} {
		r, dir := beforeNews(t)
		srv := r.serve()
		srv.intercept(func(w http.ResponseWriter, req *http.Request) bool {
			if strings.HasSuffix(req.URL.Path, ".root.json") {
				w.WriteHeader(status)
				return true
			}
			return false
		})
		_, err := r.refresh(dir, srv.source(t))
		if want {
			require.NoError(t, err)
			continue
		}
		var failed *SourceError
		require.ErrorAs(t, err, &failed)
		var typed *StatusError
		require.ErrorAs(t, err, &typed)
	}
}

func TestHTTPBodyThatEndsEarlyOrNever(t *testing.T) {
	for how, answer := range map[string]func(w http.ResponseWriter, req *http.Request){
		"early": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "{")
		},
		"stalls": func(w http.ResponseWriter, req *http.Request) {
			_, _ = io.WriteString(w, "{")
			_ = http.NewResponseController(w).Flush()
			<-req.Context().Done()
		},
		"never": func(w http.ResponseWriter, req *http.Request) {
			for req.Context().Err() == nil {
				if _, err := w.Write(bytes.Repeat([]byte(" "), 1<<16)); err != nil {
					return
				}
			}
		},
	} {
		t.Run(how, func(t *testing.T) {
			r, dir := beforeNews(t)
			srv := r.serve()
			srv.intercept(func(w http.ResponseWriter, req *http.Request) bool {
				if strings.HasSuffix(req.URL.Path, "timestamp.json") {
					answer(w, req)
					return true
				}
				return false
			})
			before := treeHash(t, dir)
			_, err := r.refresh(dir, srv.source(t), func(c *Config) { c.StallTimeout = 300 * time.Millisecond })
			switch how {
			case "early":
				require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			case "stalls":
				require.ErrorIs(t, err, errStalled)
			case "never":
				requireVerify(t, err, newsFiles[0])
				require.ErrorContains(t, err, "longer than 16384 bytes")
			}
			require.Equal(t, before, treeHash(t, dir))
		})
	}
}

func TestNewRefusesAnIncompleteConfiguration(t *testing.T) {
	r := newRepo(t)
	dir := filepath.Join(t.TempDir(), "none")
	for want, change := range map[string]func(*Config){
		"":                    func(*Config) {},
		"Root is missing":     func(c *Config) { c.Root = nil },
		"Dir is missing":      func(c *Config) { c.Dir = "" },
		"Source is missing":   func(c *Config) { c.Source = nil },
		"can not be negative": func(c *Config) { c.MaxStaleness = -1 },
		"Config.Root is no root metadata that verifies by itself": func(c *Config) { c.Root = flip(c.Root) },
		"not a JSON object": func(c *Config) { c.Root = []byte("[]") },
		"longer than":       func(c *Config) { c.Root = append(bytes.Repeat([]byte(" "), maxRoot), c.Root...) },
	} {
		cfg := r.config(dir, nil)
		change(&cfg)
		_, err := New(cfg)
		if want == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, want)
		}
		require.NoDirExists(t, dir)
	}
	_, err := New(Config{Root: r.get("metadata/timestamp.json"), Dir: dir, Source: liveSource{r}})
	require.ErrorContains(t, err, "Config.Root is no root metadata")
}
