package tufrepo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/delta/diff"
)

// A lostBlobError says that the store lacks a blob that a release lists, or has it with other bytes.
type lostBlobError struct {
	name string
	err  error
}

func (e *lostBlobError) Error() string { return "cannot be read: " + e.name + " " + e.err.Error() }

func (e *lostBlobError) Unwrap() error { return e.err }

// unpack gets the content of an artifact: from this machine if it is released from there, else from the store.
func (w *patcher) unpack(ctx context.Context, a *channel.Artifact) (*diff.Content, error) {
	f, done, err := w.openArtifact(ctx, a.Blob)
	if err != nil {
		return nil, err
	}
	defer done()
	content, err := diff.Unpack(ctx, a, f, "")
	if err != nil && ctx.Err() == nil {
		err = &lostBlobError{blobName(a.SHA256), err}
	}
	return content, err
}

func (w *patcher) openArtifact(ctx context.Context, b channel.Blob) (io.ReaderAt, func(), error) {
	pending, ok := w.sources[b.SHA256]
	if !ok {
		pending, ok = w.r.blobs[b.SHA256]
	}
	switch {
	case ok && pending.path == "":
		return bytes.NewReader(pending.data), func() {}, nil
	case ok:
		f, err := os.Open(pending.path)
		return f, func() { _ = f.Close() }, err
	}
	return w.r.fetch(ctx, b)
}

// fetch copies a blob of the store to a file that done removes. Whether it is the right one shows when it is unpacked.
func (r *Repo) fetch(ctx context.Context, b channel.Blob) (file *os.File, done func(), err error) {
	name := blobName(b.SHA256)
	in, _, err := r.store.Get(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, &lostBlobError{name, errors.New("is missing")}
	}
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = in.Close() }()
	out, err := os.CreateTemp("", "fairlead-blob-")
	if err != nil {
		return nil, nil, err
	}
	done = func() {
		_ = out.Close()
		_ = os.Remove(out.Name())
	}
	n, err := io.Copy(out, io.LimitReader(&contextReader{ctx, in}, b.Length+1))
	if err == nil && n != b.Length {
		err = &lostBlobError{name, fmt.Errorf("has another length than the %d bytes listed", b.Length)}
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	return out, done, nil
}

// patchesOf reads the list of patches that a release names.
func (r *Repo) patchesOf(ctx context.Context, rel channel.Release) (*channel.Patches, error) {
	b := *rel.Patches
	name := blobName(b.SHA256)
	data := r.blobs[b.SHA256].data
	if data == nil {
		var err error
		if data, _, err = read(ctx, r.store, name, channel.MaxPatches); err != nil {
			return nil, &lostBlobError{name, err}
		}
	}
	if blobOf(data) != b {
		return nil, &lostBlobError{name, errors.New("is not the list that was signed")}
	}
	return channel.ParsePatches(data)
}

// stands reports whether a patch that was listed before can be listed again: as far as the store tells without reading it.
func (r *Repo) stands(ctx context.Context, b channel.Blob) bool {
	if pending, ok := r.blobs[b.SHA256]; ok {
		return pending.length == b.Length
	}
	checker, ok := r.store.(BlobChecker)
	return !ok || checker.CheckBlob(ctx, blobName(b.SHA256), b, nil) == nil
}
