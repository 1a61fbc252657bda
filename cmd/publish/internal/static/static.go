// Package static serves a repository's files over HTTP, read only, for development.
//
// It serves what clients ask for and nothing else: files below metadata/, targets/ and blobs/, with ranges, and with
// the cache headers that a production server should set as well. It lists no folders, follows no link out of the
// repository, and shows no file whose name starts with a dot.
package static

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"
)

// Serve serves the repository in dir until ctx ends, and then lets running requests end.
func Serve(ctx context.Context, listener net.Listener, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer func() { _ = root.Close() }()
	server := &http.Server{
		Handler: Handler(root.FS()),
		// Without these a client that sends or reads a byte a minute holds a connection for ever.
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      15 * time.Minute, // an artifact over a slow line
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		stopped <- errors.Join(server.Shutdown(grace), server.Close())
	})
	err = server.Serve(listener)
	if stop() { // it failed by itself
		return err
	}
	if err := <-stopped; err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// Handler serves the repository in files.
func Handler(files fs.FS) http.Handler {
	server := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		if req.Method != http.MethodGet && req.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "this server is read only", http.StatusMethodNotAllowed)
			return
		}
		name := strings.TrimPrefix(req.URL.Path, "/")
		if !servable(files, name) {
			h.Set("Cache-Control", changing) // the next root may be there in a moment
			http.NotFound(w, req)
			return
		}
		contentType, cacheControl := Headers(name)
		h.Set("Content-Type", contentType)
		h.Set("Cache-Control", cacheControl)
		if cacheControl == changing {
			serveChanging(w, req, files, name)
			return
		}
		server.ServeHTTP(w, req)
	})
}

// serveChanging serves the timestamp. It is rewritten in place, perhaps twice in a second, so that its modification
// time does not tell one from the next: its hash does.
func serveChanging(w http.ResponseWriter, req *http.Request, files fs.FS, name string) {
	data, err := fs.ReadFile(files, name)
	if err != nil {
		http.NotFound(w, req)
		return
	}
	w.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(data)))
	http.ServeContent(w, req, name, time.Time{}, bytes.NewReader(data))
}

func servable(files fs.FS, name string) bool {
	top, _, _ := strings.Cut(name, "/")
	if top != "metadata" && top != "targets" && top != "blobs" || !fs.ValidPath(name) || strings.Contains(name, "/.") {
		return false
	}
	if strings.HasSuffix(name, "/index.html") { // http.FileServer would redirect to the folder
		return false
	}
	info, err := fs.Stat(files, name)
	return err == nil && info.Mode().IsRegular()
}

var versionedRE = regexp.MustCompile(`^metadata/[0-9]+\.[a-z0-9.-]+\.json$`)

const (
	changing  = "no-cache"
	immutable = "public, max-age=31536000, immutable"
)

// Headers are the Content-Type and the Cache-Control that a server gives a repository's file. What carries its version or
// its hash in its name never changes. The timestamp, the only other file, is what clients poll.
func Headers(name string) (contentType, cacheControl string) {
	contentType, cacheControl = "application/octet-stream", immutable
	if strings.HasSuffix(name, ".json") {
		contentType = "application/json"
	}
	if strings.HasPrefix(name, "metadata/") && !versionedRE.MatchString(name) {
		cacheControl = changing
	}
	return contentType, cacheControl
}
