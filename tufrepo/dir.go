package tufrepo

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/disk"
	"github.com/fairlead-dev/fairlead/internal/filelock"
)

const (
	dirLock      = ".lock"
	tempPrefix   = ".tmp-"
	hashedLength = 1 << 20 // up to this many bytes, a revision is the content's hash
)

// Dir is a [Store] in a local folder, which is created when the first file is put. A file is written beside its
// place, synced, and then linked or renamed to it, and the folder is synced; conditions are decided under an advisory
// lock on the file .lock, so they hold between processes on one machine, not between machines that share the folder
// over a network. No name leads out of the folder, not even through symbolic links. Files are 0644, folders 0755.
//
// A Put that was killed can leave a file named .tmp-…; it is harmless, neither listed nor served, and removed by a Put
// into the same folder once nobody has written to it for a day.
func Dir(path string) Store { return dir(path) }

type dir string

func (d dir) open(name string) (*os.Root, *os.File, fs.FileInfo, error) {
	if err := checkFileName(name); err != nil {
		return nil, nil, nil, err
	}
	root, err := os.OpenRoot(string(d))
	if err != nil {
		return nil, nil, nil, err
	}
	// Looked at before it is opened: opening a FIFO would wait for ever.
	if info, err := root.Stat(name); err != nil || !info.Mode().IsRegular() {
		_ = root.Close()
		if err == nil {
			err = fmt.Errorf("tufrepo: %s is not a regular file", filepath.Join(string(d), name))
		}
		return nil, nil, nil, err
	}
	f, err := root.Open(name)
	if err != nil {
		_ = root.Close()
		return nil, nil, nil, err
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		_ = root.Close()
		return nil, nil, nil, err
	}
	return root, f, info, nil
}

func (d dir) Get(ctx context.Context, name string) (io.ReadCloser, Revision, error) {
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	root, f, info, err := d.open(name)
	if err != nil {
		return nil, "", err
	}
	_ = root.Close()
	if info.Size() > hashedLength {
		return f, statRevision(info), nil
	}
	// The bytes handed out are the bytes that were hashed, whatever happens to the file meanwhile.
	data, err := io.ReadAll(io.LimitReader(f, hashedLength+1))
	_ = f.Close()
	if err != nil {
		return nil, "", err
	}
	return io.NopCloser(bytes.NewReader(data)), hashRevision(sha256.Sum256(data)), nil
}

func hashRevision(sum [sha256.Size]byte) Revision { return Revision(hex.EncodeToString(sum[:])) }

func statRevision(info fs.FileInfo) Revision {
	return Revision(fmt.Sprintf("%d-%d", info.Size(), info.ModTime().UnixNano()))
}

// CheckBlob compares lengths: a folder keeps no hashes.
func (d dir) CheckBlob(ctx context.Context, name string, b channel.Blob, _ func() (io.ReadCloser, error)) error {
	if err := errors.Join(ctx.Err(), checkFileName(name)); err != nil {
		return err
	}
	root, err := os.OpenRoot(string(d))
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	info, err := root.Stat(name)
	if err == nil && info.Size() != b.Length {
		return fmt.Errorf("%s: %w: it has %d bytes, not %d", name, ErrDamaged, info.Size(), b.Length)
	}
	return err
}

func (d dir) Put(ctx context.Context, name string, content io.Reader, cond Condition) (rev Revision, err error) {
	if err := errors.Join(ctx.Err(), checkFileName(name)); err != nil {
		return "", err
	}
	if err := os.MkdirAll(string(d), 0o755); err != nil {
		return "", err
	}
	root, err := os.OpenRoot(string(d))
	if err != nil {
		return "", err
	}
	defer func() { _ = root.Close() }()
	if err := d.mkdirs(root, path.Dir(name)); err != nil {
		return "", err
	}
	temp := path.Join(path.Dir(name), tempPrefix+rand.Text())
	rev, err = writeTemp(ctx, root, temp, content)
	defer func() { _ = root.Remove(temp) }() // after the rename there is nothing to remove
	if err != nil {
		return "", err
	}
	if err := d.place(ctx, root, temp, name, cond); err != nil {
		return "", err
	}
	sweep(root, name)
	return rev, disk.OS.SyncDir(filepath.Join(string(d), filepath.FromSlash(path.Dir(name))))
}

// sweep removes the temporary files of dead writers beside a file that was just put. Its time of modification is the
// present, by the clock of the file system that the others are dated by.
func sweep(root *os.Root, name string) {
	put, err := root.Lstat(name)
	if err != nil {
		return
	}
	folder, err := root.Open(path.Dir(name))
	if err != nil {
		return
	}
	names, _ := folder.Readdirnames(-1)
	_ = folder.Close()
	for _, base := range names {
		if !strings.HasPrefix(base, tempPrefix) {
			continue
		}
		temp := path.Join(path.Dir(name), base)
		if info, err := root.Lstat(temp); err == nil && info.Mode().IsRegular() && put.ModTime().Sub(info.ModTime()) > day {
			_ = root.Remove(temp)
		}
	}
}

// place moves temp to name if cond is met.
func (d dir) place(ctx context.Context, root *os.Root, temp, name string, cond Condition) error {
	release, err := filelock.Lock(ctx, filepath.Join(string(d), dirLock))
	if err != nil {
		return err
	}
	defer release()
	if cond.Absent() {
		// link(2) does not replace, so this holds even against a writer that knows nothing of the lock.
		err := root.Link(temp, name)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, fs.ErrExist):
			return fmt.Errorf("%s: %w", name, ErrConflict)
		}
		// Some file systems (FAT, a stick's) have no links.
		if _, err := root.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: %w", name, ErrConflict)
		}
	} else if want := cond.Revision(); want != "" {
		f, have, err := d.Get(ctx, name)
		if err == nil {
			_ = f.Close()
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if have != want {
			return fmt.Errorf("%s: %w", name, ErrConflict)
		}
	}
	return root.Rename(temp, name)
}

func writeTemp(ctx context.Context, root *os.Root, temp string, content io.Reader) (Revision, error) {
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	_, err = io.Copy(io.MultiWriter(f, hash), &contextReader{ctx, content})
	info, statErr := f.Stat()
	if err := errors.Join(err, statErr, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return "", err
	}
	if info.Size() > hashedLength {
		return statRevision(info), nil
	}
	return hashRevision([sha256.Size]byte(hash.Sum(nil))), nil
}

// mkdirs creates the folder and its parents, each durable before anything is put in it.
func (d dir) mkdirs(root *os.Root, folder string) error {
	if folder == "." {
		return nil
	}
	if _, err := root.Stat(folder); err == nil {
		return nil
	}
	parent := path.Dir(folder)
	if err := d.mkdirs(root, parent); err != nil {
		return err
	}
	switch err := root.Mkdir(folder, 0o755); {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err != nil:
		return err
	}
	if err := root.Chmod(folder, 0o755); err != nil { // whatever the umask
		return err
	}
	return disk.OS.SyncDir(filepath.Join(string(d), filepath.FromSlash(parent)))
}

func (d dir) List(ctx context.Context, prefix string) ([]string, error) {
	root, err := os.OpenRoot(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	// Only the folder that the prefix names in full is walked.
	top := "."
	if i := strings.LastIndexByte(prefix, '/'); i > 0 {
		top = prefix[:i]
	}
	if !fs.ValidPath(top) {
		return nil, fmt.Errorf("tufrepo: %q is not the beginning of a name", prefix)
	}
	var names []string
	err = fs.WalkDir(root.FS(), top, func(name string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // no such folder, or gone since it was listed
		case err != nil:
			return err
		case name == dirLock || strings.HasPrefix(e.Name(), tempPrefix):
			return nil
		case !e.IsDir() && strings.HasPrefix(name, prefix):
			names = append(names, name)
		}
		return ctx.Err()
	})
	sort.Strings(names)
	return names, err
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
