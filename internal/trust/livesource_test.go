package trust

import (
	"context"
	"io"
)

// liveSource reads a test repository as it is at the moment.
type liveSource struct{ r *repo }

func (s liveSource) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	return FS(mapFS(s.r.copyFiles())).Open(ctx, name, offset)
}

// sourceFunc is a source that answers some names by itself.
type sourceFunc func(ctx context.Context, name string, offset int64) (io.ReadCloser, error)

func (f sourceFunc) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	return f(ctx, name, offset)
}
