package trust

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// Source is where the files of a repository come from.
//
// Open opens one file, from the byte at offset on. Its name is a slash-separated path below the root of the
// repository: "metadata/timestamp.json", "targets/notes/stable/1.0.0/<sha256>.release.json",
// "blobs/sha256/ab/<sha256>". An absent file gives an error for which errors.Is(err, fs.ErrNotExist) holds. ctx
// governs the returned reader too: once it ends, Read returns. Open may be called from several goroutines at once.
//
// Nothing that a Source returns is trusted. It needs no integrity of its own, and can not opt out of verification.
type Source interface {
	Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error)
}

// Mirrored is found by assertion on a [Source] that is really several. Each file is asked of them in order: the
// next one is tried whenever anything went wrong with one, verification included.
type Mirrored interface {
	Mirrors() []Source
}

// Flatten lists the single sources behind one, the first to try first.
func Flatten(source Source) []Source {
	several, ok := source.(Mirrored)
	if !ok {
		return []Source{source}
	}
	var all []Source
	for _, m := range several.Mirrors() {
		all = append(all, Flatten(m)...)
	}
	return all
}

// Mirrors makes one source of several.
func Mirrors(sources ...Source) Source { return mirrors(sources) }

type mirrors []Source

func (m mirrors) Mirrors() []Source { return m }

// Open tries the mirrors in order. Who verifies what comes out asks each of Mirrors by itself instead, so that a
// mirror that delivers rubbish is passed over as well.
func (m mirrors) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	var errs []error
	for _, s := range m {
		r, err := s.Open(ctx, name, offset)
		if err == nil {
			return r, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	if len(errs) == 0 {
		return nil, fmt.Errorf("open %s: there are no mirrors", name)
	}
	return nil, errors.Join(errs...)
}

// FS makes a source of a folder (os.DirFS), a zip file (zip.Reader), an embedded tree (embed.FS) or any other
// file system.
func FS(fsys fs.FS) Source { return fsSource{fsys} }

type fsSource struct{ fsys fs.FS }

func (s fsSource) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := s.fsys.Open(name)
	if err != nil {
		return nil, err
	}
	if err := checkRegular(f, name); err != nil {
		_ = f.Close()
		return nil, err
	}
	if err := skip(f, offset); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("open %s at %d: %w", name, offset, err)
	}
	return contextReader{ctx, f}, nil
}

func checkRegular(f fs.File, name string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
	}
	return nil
}

// skip moves r forward to offset, by seeking where r can.
func skip(r io.Reader, offset int64) error {
	if offset == 0 {
		return nil
	}
	if s, ok := r.(io.Seeker); ok {
		_, err := s.Seek(offset, io.SeekStart)
		return err
	}
	_, err := io.CopyN(io.Discard, r, offset)
	return err
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	io.ReadCloser
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.ReadCloser.Read(p)
}
