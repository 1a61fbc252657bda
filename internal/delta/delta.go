// Package delta makes files of older ones and patches: the side that applies. docs/formats.md specifies the formats, and
// package channel the lists of patches.
//
// A patch is believed in nothing. Callers know from elsewhere what is to come out (a signed length and SHA-256) and
// compare; this package promises that a hostile patch costs no more than a time that is in proportion to the files' lengths, the
// memory that was allowed (and of reloc/1 up to 16 MiB for each of ten streams), and nothing on disk beyond the length that was
// asked for. It reads bases and patch through io.ReaderAt, writes in order, and knows no files.
package delta

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/delta/reloc"
)

// Whole is the format of a file that needs no base: a Zstandard frame. It occurs in trees only.
const Whole channel.PatchFormat = "zstd"

// Formats lists the formats of patches that can be applied here.
func Formats() []channel.PatchFormat {
	return []channel.PatchFormat{channel.ZstdPrefix, channel.Reloc, channel.Tree}
}

// A Patch is what makes one file.
type Patch struct {
	Format channel.PatchFormat
	Bases  []*io.SectionReader // none for Whole, one or more for channel.ZstdPrefix, one for channel.Reloc
	Body   *io.SectionReader
	Length int64 // of the file that it makes
	Memory int64 // bytes that may be taken
}

// A FormatError says that a patch is damaged, or not in this format, or in one that is not known here.
type FormatError struct {
	Format channel.PatchFormat
	Err    error
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("is no %s patch that can be applied: %s", e.Format, e.Err)
}
func (e *FormatError) Unwrap() error { return e.Err }

// A MemoryError says that a patch takes more memory than it may.
type MemoryError struct{ Need, Limit int64 }

func (e *MemoryError) Error() string {
	return fmt.Sprintf("applying it takes %d bytes of memory, %d are allowed", e.Need, e.Limit)
}

// Apply writes the file that p makes: exactly p.Length bytes, or it fails. The error is a [*FormatError], a
// [*MemoryError], that of w, of a base or of the body, or the context's cause. Before an error, up to p.Length bytes may
// have been written.
func Apply(ctx context.Context, w io.Writer, p Patch) error {
	a := &applying{ctx: ctx, w: w, left: p.Length}
	if err := p.checkBases(); err != nil {
		return &FormatError{p.Format, err}
	}
	bases := make([]*io.SectionReader, len(p.Bases))
	for i, b := range p.Bases {
		bases[i] = a.watch(b)
	}
	body := a.watch(p.Body)
	var err error
	switch p.Format {
	case Whole:
		err = a.zstd(body, nil, wholeWindow(p.Memory))
	case channel.ZstdPrefix:
		err = a.zstdPrefix(body, bases, p)
	case channel.Reloc:
		err = reloc.Apply(a, bases[0], bases[0].Size(), body, body.Size(), p.Length, p.Memory)
		if m := (*reloc.MemoryError)(nil); errors.As(err, &m) {
			err = &MemoryError{m.Need, m.Limit}
		}
	}
	if err == nil && a.left > 0 {
		err = fmt.Errorf("it ends %d bytes early", a.left)
	}
	return a.typed(p.Format, err)
}

func (p Patch) checkBases() error {
	want := map[channel.PatchFormat]int{Whole: 0, channel.Reloc: 1, channel.ZstdPrefix: max(1, len(p.Bases))}
	n, known := want[p.Format]
	switch {
	case !known:
		return errors.New("the format is not known here")
	case len(p.Bases) != n:
		return fmt.Errorf("it has %d bases, not %d", len(p.Bases), n)
	case p.Length < 0:
		return fmt.Errorf("it makes %d bytes", p.Length)
	}
	return nil
}

// applying is one call of Apply.
type applying struct {
	ctx  context.Context
	w    io.Writer
	left int64 // bytes that are still to be written
	io   error // of w, a base or the body: not the patch's fault
}

var errTooLong = errors.New("it makes more bytes than it should")

// Write ends with the context, and where the file ends.
func (a *applying) Write(p []byte) (int, error) {
	if a.ctx.Err() != nil {
		return 0, context.Cause(a.ctx)
	}
	if int64(len(p)) > a.left {
		return 0, errTooLong
	}
	n, err := a.w.Write(p)
	a.left -= int64(n)
	if err != nil {
		a.io = err
	}
	return n, err
}

// watch makes reads end with the context, and tells their errors from the patch's.
func (a *applying) watch(r *io.SectionReader) *io.SectionReader {
	return io.NewSectionReader(&watched{a, r}, 0, r.Size())
}

type watched struct {
	a *applying
	r io.ReaderAt
}

func (w *watched) ReadAt(p []byte, at int64) (int, error) {
	if w.a.ctx.Err() != nil {
		return 0, context.Cause(w.a.ctx)
	}
	n, err := w.r.ReadAt(p, at)
	if err != nil && err != io.EOF {
		w.a.io = err
	}
	return n, err
}

// typed makes an error one of those that Apply promises.
func (a *applying) typed(format channel.PatchFormat, err error) error {
	var memory *MemoryError
	switch {
	case err == nil || errors.As(err, &memory):
		return err
	case a.ctx.Err() != nil:
		return context.Cause(a.ctx)
	case a.io != nil:
		return a.io
	}
	return &FormatError{format, err}
}
