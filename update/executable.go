package update

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/archive"
	"github.com/fairlead-dev/fairlead/internal/disk"
)

// Executable installs one file in place: a program that is a single binary. Of an archive it takes the executable
// that the manifest names and leaves the rest.
//
// On Unix the new file is renamed over the old one, so there is a program at Path at every moment, and a running one
// is not disturbed. Owner (for root) and permission bits are those of the file replaced; set-uid, capabilities and
// extended attributes are not carried over.
//
// Windows lets nobody replace a running program, only rename it: there is a moment between two renames in which Path is
// empty; a crash of the machine in that moment leaves the old program beside it, in the updater's folder, under the
// name "previous". [Versions] has no such moment.
type Executable struct {
	Path string // absolute, without symbolic links

	fsys disk.FS // nil: the real one
}

func (e Executable) on(fsys disk.FS, _ records) Installer { e.fsys = fsys; return e }
func (e Executable) disk() disk.FS                        { return orReal(e.fsys) }

func (e Executable) validate() error { return checkAbsolute(e.Path) }
func (e Executable) place() string   { return filepath.Dir(e.Path) }

// Home is .NAME.fairlead beside the program.
func (e Executable) Home() string { return homeBeside(e.Path) }

func homeBeside(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".fairlead")
}

// Entry is Path.
func (e Executable) Entry() string { return e.Path }

// Expect is the digest that the signed manifest promises.
func (e Executable) Expect(a *channel.Artifact) string { return a.Program().SHA256 }

// Unpack implements Installer.
func (e Executable) Unpack(ctx context.Context, a *channel.Artifact, blob, into string) (Staged, error) {
	want := a.Program()
	path := filepath.Join(into, filepath.Base(e.Path)) // never a name from the network
	if a.Format == channel.Raw {                       // the blob is the program, and is verified
		if err := e.disk().Rename(blob, path); err != nil {
			return Staged{}, &StateError{path, err}
		}
	} else if err := e.extract(ctx, a, blob, path); err != nil {
		return Staged{}, err
	}
	return e.stagedAs(want, path)
}

// assemble makes the program alone, whatever else the artifact has.
func (e Executable) assemble(ctx context.Context, a *channel.Artifact, from *contents, into string) (Staged, error) {
	path := filepath.Join(into, filepath.Base(e.Path))
	out, err := e.disk().Create(path)
	if err != nil {
		return Staged{}, &StateError{path, err}
	}
	err = from.write(ctx, a.Program(), out, make([]byte, copyBuffer))
	if err = errors.Join(err, out.Close()); err != nil {
		return Staged{}, stagedError(ctx, path, err)
	}
	return e.stagedAs(a.Program(), path)
}

func (e Executable) base() (folder string, files tree, err error) {
	f := channel.File{Path: filepath.Base(e.Path)}
	f.SHA256, f.Length, err = hashFile(e.disk(), e.Path, make([]byte, copyBuffer))
	return filepath.Dir(e.Path), tree{f}, err
}

// stagedAs makes a staged program durable, and tells what it is.
func (e Executable) stagedAs(want channel.File, path string) (Staged, error) {
	into := filepath.Dir(path)
	if err := errors.Join(e.disk().Chmod(path, fs.FileMode(want.Mode)|0o700), disk.SyncFile(e.disk(), path), e.disk().SyncDir(into)); err != nil {
		return Staged{}, &StateError{path, err}
	}
	return Staged{Path: path, Program: path, Digest: want.SHA256}, nil
}

// Digest implements Installer: the SHA-256 of the file.
func (e Executable) Digest(path string) (string, error) {
	if path == "" {
		path = e.Path
	}
	sum, _, err := hashFile(e.disk(), path, make([]byte, copyBuffer))
	return sum, err
}

// extract writes the artifact's executable to path, and reads the rest of the archive for what must not be in it.
func (e Executable) extract(ctx context.Context, a *channel.Artifact, blob, path string) error {
	in, err := e.disk().Open(blob)
	if err != nil {
		return &StateError{blob, err}
	}
	defer func() { _ = in.Close() }()
	found := false
	err = archive.Read(ctx, in, a.Length, a.Format, a.Platform.OS, limits(a), func(m archive.Member, content io.Reader) error {
		if m.Path != a.Executable {
			return nil
		}
		if m.Kind != archive.File {
			return &VerifyError{File: m.Path, Err: errors.New("is not a regular file in the archive")}
		}
		found = true
		out, err := e.disk().Create(path)
		if err != nil {
			return err
		}
		return errors.Join(copyVerified(out, content, a.Program(), make([]byte, copyBuffer)), out.Close())
	})
	var wrong *VerifyError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case isDamaged(err):
		return &VerifyError{File: channel.BlobPath(a.SHA256), Err: err}
	case err == nil && !found:
		return &VerifyError{File: a.Executable, Err: errors.New("is not in the archive")}
	case err == nil || errors.As(err, &wrong):
		return err
	}
	return &StateError{path, err}
}

// verify hashes next through a handle, and tells whether what has got a name later is that very file.
func (e Executable) verify(next, digest string) (is func(path string) bool, err error) {
	f, err := e.disk().Open(next)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, disk.ErrNotRegular) {
		return nil, &VerifyError{File: next, Err: err}
	}
	if err != nil {
		return nil, &StateError{next, err}
	}
	defer func() { _ = f.Close() }()
	sum, _, err := hashOpen(f, make([]byte, copyBuffer))
	hashed, statErr := f.Stat()
	if err = errors.Join(err, statErr); err != nil {
		return nil, &StateError{next, err}
	}
	if sum != digest {
		return nil, &VerifyError{File: next, Err: fmt.Errorf("has digest %s, not %s", sum, digest)}
	}
	return func(path string) bool {
		now, err := e.disk().Lstat(path)
		return err == nil && disk.SameFile(hashed, now)
	}, nil
}
