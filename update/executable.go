package update

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/atomicfile"
)

// Executable installs one file in place: a program that is a single binary. Of an archive it takes the executable
// that the manifest names and leaves the rest.
//
// On Unix the new file is renamed over the old one, so there is a program at Path at every moment, and a running one
// is not disturbed. Windows lets nobody replace a running program, only rename it: there is a moment between two
// renames in which Path is empty; a crash of the machine in that moment leaves the old program beside it, in the
// updater's folder, under the name "previous".
type Executable struct {
	Path string // absolute, without symbolic links
}

// Unpack implements Installer.
func (e Executable) Unpack(ctx context.Context, a *channel.Artifact, blob, into string) (Staged, error) {
	want := a.Program()
	path := filepath.Join(into, filepath.Base(e.Path)) // never a name from the network
	if a.Format == channel.Raw {                       // the blob is the program, and is verified
		if err := os.Rename(blob, path); err != nil {
			return Staged{}, &StateError{path, err}
		}
	} else if err := extract(ctx, a, blob, path); err != nil {
		return Staged{}, err
	}
	if err := errors.Join(syncFile(path), os.Chmod(path, fs.FileMode(want.Mode)|0o500), atomicfile.SyncDir(into)); err != nil {
		return Staged{}, &StateError{path, err}
	}
	return Staged{Path: path, Program: path, Digest: want.SHA256}, nil
}

// Expect is the digest that the signed manifest promises.
func (e Executable) Expect(a *channel.Artifact) string { return a.Program().SHA256 }

// Digest implements Installer: the SHA-256 of the file.
func (e Executable) Digest(path string) (string, error) {
	if path == "" {
		path = e.Path
	}
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.CopyBuffer(h, f, make([]byte, copyBuffer)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// syncFile makes a file durable that somebody else has written.
func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// extract writes the artifact's executable to path. The archive is verified, but its maker may have been careless:
// what it holds is read within the signed bounds.
func extract(ctx context.Context, a *channel.Artifact, blob, path string) error {
	f, err := os.Open(blob)
	if err != nil {
		return &StateError{blob, err}
	}
	defer func() { _ = f.Close() }()
	var member io.Reader
	switch a.Format {
	case channel.TarGz:
		member, err = tarMember(f, a)
	case channel.Zip:
		member, err = zipMember(f, a)
	default:
		err = fmt.Errorf("format %q is not known", a.Format)
	}
	want := a.Program()
	if err != nil {
		return &VerifyError{File: want.Path, Err: err}
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return &StateError{path, err}
	}
	in := &extractReader{ctx: ctx, r: member}
	h := sha256.New()
	n, err := io.CopyBuffer(io.MultiWriter(out, h), io.LimitReader(in, want.Length+1), make([]byte, copyBuffer))
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	got := hex.EncodeToString(h.Sum(nil))
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case in.failed:
		return &VerifyError{File: want.Path, Err: err}
	case err != nil:
		return &StateError{path, err}
	case n != want.Length || got != want.SHA256:
		return &VerifyError{File: want.Path, Err: fmt.Errorf("has %d bytes or more with sha256 %s, %d bytes with %s are signed", n, got, want.Length, want.SHA256)}
	}
	return nil
}

// extractReader ends with its context, and tells a broken archive from a full disk.
type extractReader struct {
	ctx    context.Context
	r      io.Reader
	failed bool
}

func (e *extractReader) Read(p []byte) (int, error) {
	if err := e.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := e.r.Read(p)
	e.failed = e.failed || (err != nil && err != io.EOF)
	return n, err
}

func tarMember(f io.Reader, a *channel.Artifact) (io.Reader, error) {
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	// The signed file list bounds what the archive can unpack to: a header of up to three blocks, and PAX records, a
	// file. Anything longer is a bomb.
	bound := int64(1 << 20)
	for _, file := range a.Files {
		bound += file.Length + 16<<10
	}
	t := tar.NewReader(io.LimitReader(z, bound))
	for {
		h, err := t.Next()
		if err == io.EOF {
			return nil, errors.New("is not in the archive")
		}
		if err != nil {
			return nil, err
		}
		if !isMember(h.Name, a) {
			continue
		}
		if h.Typeflag != tar.TypeReg {
			return nil, errors.New("is not a regular file in the archive")
		}
		return t, nil
	}
}

// isMember reports whether an archive's name is the executable's. Many archives begin every name with "./".
func isMember(name string, a *channel.Artifact) bool {
	return strings.TrimPrefix(name, "./") == a.Executable
}

func zipMember(f *os.File, a *channel.Artifact) (io.Reader, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	z, err := zip.NewReader(f, info.Size())
	if err != nil {
		return nil, err
	}
	for _, member := range z.File {
		if !isMember(member.Name, a) {
			continue
		}
		if !member.Mode().IsRegular() {
			return nil, errors.New("is not a regular file in the archive")
		}
		return member.Open()
	}
	return nil, errors.New("is not in the archive")
}
