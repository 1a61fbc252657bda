package disk

import (
	"errors"
	"io/fs"
	"os"
)

// OS is the real file system.
var OS FS = system{}

type system struct{}

func (system) Open(path string) (File, error) {
	return openRegular(os.OpenFile, os.Lstat, path)
}
func (system) Create(path string) (File, error)           { return create(os.OpenFile, path) }
func (system) Edit(path string) (File, error)             { return edit(os.OpenFile, os.Lstat, path) }
func (system) Lstat(path string) (fs.FileInfo, error)     { return os.Lstat(path) }
func (system) ReadDir(path string) ([]fs.DirEntry, error) { return os.ReadDir(path) }
func (system) Readlink(path string) (string, error)       { return os.Readlink(path) }
func (system) Mkdir(path string, perm fs.FileMode) error  { return os.Mkdir(path, perm) }
func (system) Symlink(target, path string) error          { return os.Symlink(target, path) }
func (system) Link(from, to string) error                 { return os.Link(from, to) }
func (system) Rename(from, to string) error               { return rename(from, to) }
func (system) Exchange(a, b string) error                 { return exchange(a, b) }
func (system) Remove(path string) error                   { return os.Remove(path) }
func (system) RemoveAll(path string) error                { return os.RemoveAll(path) }
func (system) Chmod(path string, perm fs.FileMode) error  { return os.Chmod(path, perm) }
func (system) Own(path string, info fs.FileInfo) error {
	uid, gid, ok := owner(info)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return os.Lchown(path, uid, gid)
}
func (system) SyncDir(dir string) error {
	if !syncsFolders {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// RenameNow is Rename of what can wait until the next time: on Windows it does not outlast those who have a file open.
func RenameNow(fsys FS, from, to string) error {
	if fsys == OS {
		return move(from, to)
	}
	return fsys.Rename(from, to)
}

func (system) Root(dir string) (Root, error) {
	r, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return confined{r}, nil
}

// confined is an os.Root as FS.
type confined struct{ r *os.Root }

func (c confined) Open(path string) (File, error) {
	return openRegular(c.r.OpenFile, c.r.Lstat, path)
}
func (c confined) Create(path string) (File, error)       { return create(c.r.OpenFile, path) }
func (c confined) Edit(path string) (File, error)         { return edit(c.r.OpenFile, c.r.Lstat, path) }
func (c confined) Lstat(path string) (fs.FileInfo, error) { return c.r.Lstat(path) }
func (c confined) Readlink(path string) (string, error)   { return c.r.Readlink(path) }
func (c confined) Mkdir(path string, p fs.FileMode) error { return c.r.Mkdir(path, p) }
func (c confined) Symlink(target, path string) error      { return c.r.Symlink(target, path) }
func (c confined) Link(from, to string) error             { return c.r.Link(from, to) }
func (c confined) Rename(from, to string) error           { return c.r.Rename(from, to) }
func (c confined) Exchange(_, _ string) error             { return errors.ErrUnsupported }
func (c confined) Remove(path string) error               { return c.r.Remove(path) }
func (c confined) RemoveAll(path string) error            { return c.r.RemoveAll(path) }
func (c confined) Chmod(path string, p fs.FileMode) error { return c.r.Chmod(path, p) }
func (c confined) Root(dir string) (Root, error) {
	r, err := c.r.OpenRoot(dir)
	return confined{r}, err
}
func (c confined) Close() error { return c.r.Close() }
func (c confined) Own(path string, info fs.FileInfo) error {
	uid, gid, ok := owner(info)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return c.r.Lchown(path, uid, gid)
}

func (c confined) ReadDir(path string) ([]fs.DirEntry, error) {
	d, err := c.r.Open(path)
	if err != nil {
		return nil, err
	}
	list, err := d.ReadDir(-1)
	return list, errors.Join(err, d.Close())
}

func (c confined) SyncDir(dir string) error {
	if !syncsFolders {
		return nil
	}
	d, err := c.r.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

type (
	openFunc  = func(name string, flag int, perm fs.FileMode) (*os.File, error)
	lstatFunc = func(name string) (fs.FileInfo, error)
)

func create(open openFunc, path string) (File, error) {
	f, err := open(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func edit(open openFunc, lstat lstatFunc, path string) (File, error) {
	f, err := openFile(open, lstat, path, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	if sole, err := soleName(f); err != nil || !sole {
		_ = f.Close()
		return nil, &fs.PathError{Op: "open", Path: path, Err: errors.Join(err, fs.ErrPermission)}
	}
	return f, nil
}

func openRegular(open openFunc, lstat lstatFunc, path string) (File, error) {
	f, err := openFile(open, lstat, path, os.O_RDONLY)
	if err != nil {
		return nil, err // not f: an interface that holds nil is not nil
	}
	return f, nil
}

// openFile looks before it opens, since opening a FIFO waits for ever, and afterwards, since somebody may have changed
// the file in between.
func openFile(open openFunc, lstat lstatFunc, path string, flag int) (*os.File, error) {
	before, err := lstat(path)
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: path, Err: ErrNotRegular}
	}
	f, err := open(path, flag|openFlags, 0)
	if err != nil {
		return nil, err
	}
	after, err := f.Stat()
	if err == nil && !os.SameFile(before, after) {
		err = &fs.PathError{Op: "open", Path: path, Err: errReplaced}
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
