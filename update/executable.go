package update

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/archive"
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
// what it holds is read within the signed bounds, and all of it, since a hostile member beside the program says enough.
func extract(ctx context.Context, a *channel.Artifact, blob, path string) error {
	f, err := os.Open(blob)
	if err != nil {
		return &StateError{blob, err}
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return &StateError{blob, err}
	}
	// What an archive may hold beyond the signed list is little: anything longer is a bomb.
	limits := archive.Limits{Bytes: 1 << 20}
	for _, file := range a.Files {
		limits.Bytes += file.Length + 16<<10
	}
	want := a.Program()
	found := false
	err = archive.Read(ctx, f, info.Size(), a.Format, a.Platform.OS, limits, func(m archive.Member, content io.Reader) error {
		switch {
		case m.Path != a.Executable:
			return nil
		case m.Kind != archive.File:
			return &VerifyError{File: want.Path, Err: errors.New("is not a regular file in the archive")}
		}
		found = true
		return writeMember(ctx, content, want, path)
	})
	var state *StateError
	var wrong *VerifyError
	switch {
	case err == nil && !found:
		return &VerifyError{File: want.Path, Err: errors.New("is not in the archive")}
	case err == nil || errors.As(err, &state) || errors.As(err, &wrong):
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return &VerifyError{File: want.Path, Err: err}
}

// writeMember writes the program to path and compares it with what was signed.
func writeMember(ctx context.Context, member io.Reader, want channel.File, path string) error {
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
