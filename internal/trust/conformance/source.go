package main

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/fairlead-dev/fairlead/internal/trust"
)

// source reads metadata and targets from two URLs.
//
// It lets the timestamp wait until the search for roots has ended. The client asks for both at once; the suite
// compares the order in which requests arrive.
type source struct {
	metadata, targets trust.Source

	once       sync.Once
	rootsEnded chan struct{}
}

func newSource(metadataURL, targetsURL string) (*source, error) {
	s := &source{rootsEnded: make(chan struct{})}
	var err error
	if s.metadata, err = trust.HTTP(metadataURL, &http.Client{Transport: escapedOnce{}}); err != nil {
		return nil, err
	}
	if targetsURL != "" {
		s.targets, err = trust.HTTP(targetsURL, nil)
	}
	return s, err
}

func (s *source) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	dir, file, _ := strings.Cut(name, "/")
	if dir == "targets" {
		return s.targets.Open(ctx, file, offset)
	}
	if file == "timestamp.json" {
		select {
		case <-s.rootsEnded:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	r, err := s.metadata.Open(ctx, file, offset)
	if err != nil && strings.HasSuffix(file, ".root.json") {
		s.once.Do(func() { close(s.rootsEnded) })
	}
	return r, err
}

// escapedOnce undoes the second of two escapes. The client escapes the few role names that can not be a file name,
// and the source escapes every name for its URL; the suite's server knows no files and wants one escape.
type escapedOnce struct{}

func (escapedOnce) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	raw := strings.ReplaceAll(req.URL.EscapedPath(), "%25", "%")
	plain, err := url.PathUnescape(raw)
	if err != nil {
		return nil, err
	}
	req.URL.Path, req.URL.RawPath = plain, raw
	return http.DefaultTransport.RoundTrip(req)
}
