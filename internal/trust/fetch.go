package trust

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// fetcher reads whole small files from the mirrors of a source.
type fetcher struct {
	roster *Roster
	stall  time.Duration
	log    *slog.Logger
}

// request is one file to be fetched. verify decides whether what a mirror delivered is it, and is never called for
// more than max bytes.
type request struct {
	name   string
	max    int64
	verify func(data []byte) error
	first  *ahead // if not nil, the answer of a mirror that was asked ahead
}

// ahead is an answer that one mirror was asked for ahead.
type ahead struct {
	mirror int
	answer func() ([]byte, error) // waits for it
}

// fetch asks the mirrors in order until verify accepts what one delivers. Those that delivered something else before are
// struck off then: as there is a file that verifies, theirs was a lie.
func (f *fetcher) fetch(ctx context.Context, req request) ([]byte, error) {
	var errs []error
	var lies []func()
	mirrors := f.roster.Present()
	for i, m := range mirrors {
		read, fresh := func() ([]byte, error) { return f.read(ctx, m.Source, req.name, req.max) }, true
		if req.first != nil && req.first.mirror == m.Number {
			read, fresh = req.first.answer, false // what has changed since is no lie
		}
		data, err := read()
		if err == nil {
			err = req.verify(data)
		}
		if err == nil {
			for _, note := range lies {
				note()
			}
			return data, nil
		}
		var wrong *VerifyError
		if fresh && errors.As(err, &wrong) {
			lies = append(lies, func() { f.roster.Strike(m, err) })
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			// Not what this mirror said last, which may look like an answer, is why there is no other.
			return nil, &SourceError{req.name, context.Cause(ctx)}
		}
		if i+1 < len(mirrors) {
			f.log.InfoContext(ctx, "a mirror failed, trying the next", "file", req.name, "mirror", m.Number, "error", err)
		}
	}
	if len(errs) == 0 {
		return nil, &SourceError{req.name, errors.New("the source has no mirrors")}
	}
	return nil, joinMirrors(errs)
}

// read returns the whole content of a file of at most max bytes. It returns in time even if the source ignores its
// context: then the read goes on in the background until the source lets go of it.
func (f *fetcher) read(ctx context.Context, from Source, name string, max int64) ([]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(f.stall, func() { cancel(errStalled) })
	defer stalled.Stop()

	type result struct {
		data []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		data, err := readAll(ctx, from, name, max+1, func() { stalled.Reset(f.stall) })
		done <- result{data, err}
	}()
	var r result
	select {
	case r = <-done:
	case <-ctx.Done():
		r.err = context.Cause(ctx)
	}
	if r.err != nil {
		if cause := context.Cause(ctx); cause != nil {
			r.err = cause // what the source makes of its end says less
		}
		return nil, &SourceError{name, r.err}
	}
	if int64(len(r.data)) > max {
		return nil, &VerifyError{name, fmt.Errorf("it is longer than %d bytes", max)}
	}
	return r.data, nil
}

func readAll(ctx context.Context, from Source, name string, max int64, progress func()) (_ []byte, err error) {
	defer func() { // a source is code of the application; its fault must not take down a background goroutine
		if p := recover(); p != nil {
			err = fmt.Errorf("the source panicked: %v", p)
		}
	}()
	r, err := from.Open(ctx, name, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	var buf bytes.Buffer
	_, err = buf.ReadFrom(io.LimitReader(progressReader{ctx, r, progress}, max))
	return buf.Bytes(), err
}

// progressReader reports every read that brought something, and ends with its context.
type progressReader struct {
	ctx context.Context
	io.Reader
	progress func()
}

func (r progressReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.Reader.Read(p)
	if n > 0 {
		r.progress()
	}
	return n, err
}
