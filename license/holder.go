package license

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// A Holder answers what licence this installation holds, at the time asked.
//
// It always answers: there being no licence is [Missing], and not being able to tell is [Invalid] with the cause
// in Status.Err. It may be called concurrently, and often: a renewed licence counts from the next call on.
type Holder interface {
	Status(ctx context.Context, now time.Time) Status
}

// FromFile holds the licence in a file, which it reads at every call: bare or in armour, at most 64 KiB. No file,
// and an empty one, is Missing; one that cannot be read is Invalid.
func FromFile(v *Verifier, path string) Holder { return &fileHolder{v, path} }

// FromToken holds a token that the app has read itself, say from its own configuration.
func FromToken(v *Verifier, token []byte) Holder { return &tokenHolder{v, bytes.Clone(token)} }

type fileHolder struct {
	verifier *Verifier
	path     string
}

func (h *fileHolder) Status(ctx context.Context, now time.Time) Status {
	if err := ctx.Err(); err != nil {
		return h.verifier.invalid(fmt.Errorf("license: the file was not read: %w", err))
	}
	token, err := readFile(h.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return h.verifier.Status(nil, now)
	case err != nil:
		return h.verifier.invalid(fmt.Errorf("license: the licence file cannot be read: %w", err))
	}
	return h.verifier.Status(token, now)
}

// readFile reads one byte more than a token may have, so that Parse sees that it is too long.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // opening a named pipe would wait for a writer
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, maxInput+1))
}

type tokenHolder struct {
	verifier *Verifier
	token    []byte
}

func (h *tokenHolder) Status(_ context.Context, now time.Time) Status {
	return h.verifier.Status(h.token, now)
}
