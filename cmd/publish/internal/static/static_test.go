package static

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func repository(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"metadata/1.root.json": "root", "metadata/timestamp.json": "timestamp", "metadata/3.notes.stable.json": "stable",
		"metadata/.tmp-x": "temp", "targets/notes/stable/1.0.0/ab.release.json": "manifest", "targets/index.html": "index",
		"blobs/sha256/ab/abcd": "0123456789", ".lock": "lock", "README": "read me", "keys/root.pem": "secret",
	} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
	}
	return dir
}

func ask(t *testing.T, h http.Handler, method, path string, header http.Header) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), method, "http://repo.example/", nil)
	req.URL.Path = path // as a hostile client sends it, not as Go cleans it
	if header != nil {
		req.Header = header
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	return rec
}

func TestServesOnlyTheRepository(t *testing.T) {
	dir := repository(t)
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	defer func() { _ = root.Close() }()
	outside := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(outside, []byte("secret"), 0o644))
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, "metadata", "2.root.json")))
	h := Handler(root.FS())

	const forever = "public, max-age=31536000, immutable"
	for path, want := range map[string]string{
		"/metadata/1.root.json": forever, "/metadata/3.notes.stable.json": forever, "/blobs/sha256/ab/abcd": forever,
		"/targets/notes/stable/1.0.0/ab.release.json": forever, "/metadata/timestamp.json": "no-cache",
	} {
		rec := ask(t, h, http.MethodGet, path, nil)
		require.Equal(t, http.StatusOK, rec.Code, path)
		require.Equal(t, want, rec.Header().Get("Cache-Control"), path)
		require.Equal(t, "nosniff", rec.Header().Get("X-Content-Type-Options"))
	}
	for _, path := range []string{
		"", "/", "/metadata", "/metadata/", "/targets/notes/", "/blobs/sha256", "/README", "/.lock", "/keys/root.pem", "/metadata/.tmp-x",
		"/metadata/../keys/root.pem", "/metadata/../../etc/passwd", "//etc/passwd", "/metadata//1.root.json", "/metadata/./1.root.json",
		"/targets/index.html", "/metadata/2.root.json", "/metadata/9.root.json", "/metadata\\1.root.json",
	} {
		rec := ask(t, h, http.MethodGet, path, nil)
		require.Equal(t, http.StatusNotFound, rec.Code, path)
		require.NotContains(t, rec.Body.String(), "secret", path)
		require.Equal(t, "no-cache", rec.Header().Get("Cache-Control"), "a root that is not there yet may be there soon")
	}
	for _, method := range []string{http.MethodPut, http.MethodPost, http.MethodDelete, http.MethodOptions, "MKCOL"} {
		rec := ask(t, h, method, "/metadata/1.root.json", nil)
		require.Equal(t, http.StatusMethodNotAllowed, rec.Code, method)
		require.Equal(t, "GET, HEAD", rec.Header().Get("Allow"))
	}
	require.Empty(t, ask(t, h, http.MethodHead, "/metadata/1.root.json", nil).Body.String())
}

func TestRanges(t *testing.T) {
	h := Handler(os.DirFS(repository(t)))
	rec := ask(t, h, http.MethodGet, "/blobs/sha256/ab/abcd", http.Header{"Range": {"bytes=4-"}})
	require.Equal(t, http.StatusPartialContent, rec.Code)
	require.Equal(t, "456789", rec.Body.String())
	require.Equal(t, "bytes 4-9/10", rec.Header().Get("Content-Range"))
	rec = ask(t, h, http.MethodGet, "/blobs/sha256/ab/abcd", http.Header{"Range": {"bytes=10-"}})
	require.Equal(t, http.StatusRequestedRangeNotSatisfiable, rec.Code)
}

// TestTimestampWithinASecond rewrites the timestamp with the same modification time, as two publications in one second
// do. A client that asks "changed since?" must get the new one.
func TestTimestampWithinASecond(t *testing.T) {
	dir := repository(t)
	path := filepath.Join(dir, "metadata/timestamp.json")
	h := Handler(os.DirFS(dir))
	first := ask(t, h, http.MethodGet, "/metadata/timestamp.json", nil)
	again := http.Header{"If-None-Match": {first.Header().Get("ETag")}, "If-Modified-Since": {time.Now().UTC().Format(http.TimeFormat)}}
	require.Equal(t, http.StatusNotModified, ask(t, h, http.MethodGet, "/metadata/timestamp.json", again).Code)

	info, err := os.Stat(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, []byte("TIMESTAMP"), 0o644))
	require.NoError(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
	second := ask(t, h, http.MethodGet, "/metadata/timestamp.json", again)
	require.Equal(t, http.StatusOK, second.Code)
	require.Equal(t, "TIMESTAMP", second.Body.String())
}

func TestServeStopsCleanly(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, listener, repository(t)) }()
	resp, err := http.Get("http://" + listener.Addr().String() + "/metadata/timestamp.json")
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "timestamp", string(body))
	cancel()
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(10 * time.Second):
		require.Fail(t, "it did not stop")
	}
	_, err = http.Get("http://" + listener.Addr().String() + "/metadata/timestamp.json")
	require.Error(t, err)
}
