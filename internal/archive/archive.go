// Package archive reads the archives that releases are packed in, for those who publish them (tufrepo) and those who
// unpack them (update), and refuses by name whatever is hostile, or could mean one thing to this reader and another
// to the next.
//
// Nothing that it reports is to be believed: the signed file list of the manifest says what is installed, and callers
// compare with that. This package promises only that whoever believes a [Member] nevertheless is not led out of the
// folder, not to a second meaning of the same path, and not into reading more than the limits say.
//
// Both formats are parsed here instead of in archive/tar and archive/zip, because those hide what has to be refused: a
// PAX size beside another one in the header, the global headers, the local headers of a zip file, where its entries
// lie; and archive/zip holds a directory of any length in memory. What this reader accepts, archive/tar and archive/zip
// read in the same way; the fuzz tests compare.
package archive

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/fairlead-dev/fairlead/channel"
)

// Kind says what a member is.
type Kind int

// The kinds of members. There are no others: hard links, devices and the like are refused.
const (
	File Kind = iota
	Folder
	Link
)

// A Member is one entry of an archive. Path passed [channel.CheckPath], and is no other member's under a file system
// that ignores case. The folders above it may come later, or not at all.
type Member struct {
	Path string
	Kind Kind
	Mode fs.FileMode // permission bits; 0 for a link
	Size int64       // of a file's content
	Link string      // the target, which passed [channel.CheckLink]
}

// Limits bound what an archive may hold. A zero field means the channel package's maximum.
type Limits struct {
	Files int   // files and links; folders are always bounded by [channel.MaxFiles]
	Bytes int64 // content of all files together
}

// A MemberError names the member for which an archive is refused. Why continues a sentence about it.
type MemberError struct {
	Name string // as the archive writes it
	Why  string // such as "is a hard link"
}

func (e *MemberError) Error() string {
	name := e.Name
	if len(name) > 256 {
		name = name[:256] + "…"
	}
	return fmt.Sprintf("holds %q, which %s", name, e.Why)
}

// A FormatError says that the archive is damaged, cut off, or not in this format.
type FormatError struct {
	Format channel.Format
	Err    error
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("is not a whole %s archive: %s", e.Format, e.Err)
}

func (e *FormatError) Unwrap() error { return e.Err }

const (
	// headerBytes bounds, for each file allowed, what is read of a tar archive besides content: headers, extended
	// headers, padding. spareBytes is for the end, which tools pad.
	headerBytes = 16 << 10
	spareBytes  = 1 << 20

	maxWindow     = 128 << 20 // memory for Zstandard: what zstd -22 --ultra needs
	maxLinkTarget = 4096
)

// Read calls visit for every member in the archive's order, with a file's content (for other kinds it is empty). What
// visit leaves unread is read and checked nevertheless. os is the system that it is for, as in [channel.CheckPath].
//
// The error is a [*MemberError], a [*FormatError], that of r, the context's cause, or that of visit, unwrapped.
// The content reader fails with the same errors. Members before the offending one have been visited, except that all
// names and places in a zip file are checked first. A file's content is whole and has the size announced (in a zip file
// also the checksum) only once it was read to io.EOF; Read returns nil only then.
func Read(ctx context.Context, r io.ReaderAt, size int64, format channel.Format, os string, limits Limits, visit func(m Member, content io.Reader) error) error {
	if limits.Files == 0 {
		limits.Files = channel.MaxFiles
	}
	if limits.Bytes == 0 {
		limits.Bytes = channel.MaxUnpacked
	}
	w := &walk{ctx: ctx, r: r, format: format, os: os, limits: limits, left: limits.Bytes, visit: visit}
	var err error
	switch format {
	case channel.TarGz:
		var z *gzip.Reader
		if z, err = gzip.NewReader(io.NewSectionReader(w, 0, size)); err == nil {
			err = w.tar(z)
		}
	case channel.TarZst:
		var z *zstd.Decoder
		if z, err = zstd.NewReader(io.NewSectionReader(w, 0, size), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow)); err == nil {
			err = w.tar(z)
			z.Close()
		}
	case channel.Zip:
		err = w.zip(size)
	default:
		return fmt.Errorf("format %q is none of tar.gz, tar.zst, zip", format)
	}
	var visited *visitError
	if errors.As(err, &visited) {
		return visited.error
	}
	return w.typed(err)
}

// A walk is one call of Read.
type walk struct {
	ctx     context.Context
	r       io.ReaderAt
	readErr error // of r: the disk's fault, not the archive's
	format  channel.Format
	os      string
	limits  Limits
	visit   func(Member, io.Reader) error

	paths channel.PathSet
	files int
	left  int64 // content that may still come
}

type visitError struct{ error }

// ReadAt ends with the context.
func (w *walk) ReadAt(p []byte, offset int64) (int, error) {
	if w.ctx.Err() != nil {
		return 0, context.Cause(w.ctx)
	}
	n, err := w.r.ReadAt(p, offset)
	if err != nil && err != io.EOF {
		w.readErr = err
	}
	return n, err
}

// typed makes an error one of those that Read promises.
func (w *walk) typed(err error) error {
	var member *MemberError
	var damage *FormatError
	switch {
	case err == nil || errors.As(err, &member) || errors.As(err, &damage):
		return err
	case w.ctx.Err() != nil:
		return context.Cause(w.ctx)
	case w.readErr != nil:
		return w.readErr
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return &FormatError{w.format, err}
}

// admit checks what is known of a member from its header, and completes m. root is true for the folder that everything
// is in, which tar writes as "./" and which is no member.
func (w *walk) admit(m *Member, name string, mode fs.FileMode) (root bool, err error) {
	refuse := func(why string) (bool, error) { return false, &MemberError{name, why} }
	m.Path = strings.TrimPrefix(name, "./")
	if m.Kind == Folder {
		if name == "." || name == "./" {
			return true, nil
		}
		m.Path = strings.TrimSuffix(m.Path, "/")
	}
	if err := channel.CheckPath(m.Path, w.os); err != nil {
		return refuse(detail(err))
	}
	if special := mode & (fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky); special != 0 {
		return refuse(fmt.Sprintf("has the mode %s; such bits are not installed", special|mode.Perm()))
	}
	if m.Kind != Link {
		m.Mode = mode.Perm()
	}
	if m.Kind != Folder {
		if w.files++; w.files > w.limits.Files {
			return refuse(fmt.Sprintf("is one more than %d files", w.limits.Files))
		}
	}
	if err := w.paths.Add(m.Path, m.Kind == Folder); err != nil {
		return refuse(detail(err))
	}
	if m.Size < 0 || m.Size > w.left {
		return refuse(fmt.Sprintf("unpacks to more than the %d bytes allowed in all", w.limits.Bytes))
	}
	w.left -= m.Size
	return false, nil
}

// detail is the part of a channel error that continues a sentence.
func detail(err error) string {
	var invalid *channel.InvalidError
	if errors.As(err, &invalid) {
		return invalid.Detail
	}
	return err.Error()
}

// show visits a member, and reads what of its content was left.
func (w *walk) show(m Member, name string, content io.Reader) error {
	if m.Kind == Link {
		if err := channel.CheckLink(m.Path, m.Link, w.os); err != nil {
			return &MemberError{name, detail(err)}
		}
	}
	c := &contentReader{w: w, r: content, left: m.Size}
	if err := w.visit(m, c); err != nil {
		return &visitError{err}
	}
	_, err := io.Copy(io.Discard, c)
	return err
}

// A contentReader gives as many bytes as were announced, or fails.
type contentReader struct {
	w    *walk
	r    io.Reader
	left int64
	err  error
}

func (c *contentReader) Read(p []byte) (int, error) {
	if c.err != nil || len(p) == 0 {
		return 0, c.err
	}
	if c.w.ctx.Err() != nil {
		c.err = context.Cause(c.w.ctx)
		return 0, c.err
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.left+1)]) // one more, to see the end, or that it is not there
	switch {
	case int64(n) > c.left:
		n, err = int(c.left), errors.New("a member is longer than its header says")
	case err == io.EOF && int64(n) < c.left:
		err = io.ErrUnexpectedEOF
	}
	c.left -= int64(n)
	if err != io.EOF {
		err = c.w.typed(err)
	}
	c.err = err
	return n, err
}
