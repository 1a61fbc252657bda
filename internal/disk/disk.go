// Package disk has the file operations on which the safety of an installation rests, behind one small interface: [OS]
// is the real one, and a test puts a model in its place that loses power at any moment.
//
// [Write] replaces a file in one step that survives a crash. It promises: after it returned nil, the new content is at
// path, whole, and stays there through a crash of the process or the machine; whenever it is interrupted, path holds
// the old content or the new, never a mixture and never nothing. What a crash can leave is a temporary file beside
// path, named as [IsTemp] recognises.
//
// What "durable" means is up to the system. On Linux it is fsync of the file before its rename and of the folder after
// it. On macOS os.File.Sync is F_FULLFSYNC, which reaches past the drive's cache. Windows cannot sync a folder: a file
// is flushed (FlushFileBuffers), and renamed with MOVEFILE_WRITE_THROUGH.
package disk

import (
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// An FS does file operations. Paths are absolute on [OS], relative on what [FS.Root] returns. An operation that changes
// something is one step: a crash leaves it done or not done. It is durable once the folders it concerns are synced, the
// content of a file once the file is. Errors are those of package os.
type FS interface {
	// Open opens a file for reading. It follows no link in the last element of path, and opens regular files only,
	// else the error satisfies errors.Is(err, ErrNotRegular).
	Open(path string) (File, error)
	// Create makes a file, mode 0600, and opens it for reading and writing. What exists is never opened: fs.ErrExist.
	Create(path string) (File, error)
	// Edit opens an existing regular file for reading and writing. It follows no link, and refuses a file that has
	// another name (a hard link) or another owner: fs.ErrPermission.
	Edit(path string) (File, error)
	Lstat(path string) (fs.FileInfo, error)
	ReadDir(path string) ([]fs.DirEntry, error)
	Readlink(path string) (string, error)

	Mkdir(path string, perm fs.FileMode) error
	Symlink(target, path string) error
	Link(from, to string) error
	// Rename replaces to, unless it is a folder that is not empty. On Windows it outlasts those who have a file open for
	// a moment, such as virus scanners.
	Rename(from, to string) error
	// Exchange gives each of two files or folders the name of the other, in one step. Where the system or the file
	// system cannot, the error satisfies errors.Is(err, errors.ErrUnsupported).
	Exchange(a, b string) error
	Remove(path string) error
	// RemoveAll removes a tree, step by step. It follows no link, and nothing being there is no error.
	RemoveAll(path string) error
	Chmod(path string, perm fs.FileMode) error
	// Own gives path, and not what it may link to, the owner of info, as far as this user may. Windows: nothing.
	Own(path string, info fs.FileInfo) error
	// SyncDir makes durable what was created, renamed or removed in dir. Windows: nothing, see the package comment.
	SyncDir(dir string) error

	// Root confines operations to a folder, whatever links lie below it: see os.Root.
	Root(dir string) (Root, error)
}

// A Root is an FS of one folder. Paths are relative, "." is the folder itself.
type Root interface {
	FS
	io.Closer
}

// ErrNotRegular says that there is something else than a regular file.
var ErrNotRegular = errors.New("it is not a regular file")

// A File is an open regular file.
type File interface {
	io.ReadWriteSeeker
	io.ReaderAt
	io.Closer
	Name() string
	Stat() (fs.FileInfo, error)
	Chmod(perm fs.FileMode) error
	Truncate(size int64) error
	Sync() error
}

const tempPrefix = ".tmp-"

// IsTemp reports whether the file name (no folder) is one that this package gives its temporary files.
func IsTemp(name string) bool { return strings.HasPrefix(name, tempPrefix) }

// Write replaces the content of path. perm is exact: the umask does not apply.
func Write(fsys FS, path string, data []byte, perm fs.FileMode) error {
	return WriteFunc(fsys, path, perm, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// WriteFunc is Write for content that write produces. If write fails, path is untouched and the error is write's.
func WriteFunc(fsys FS, path string, perm fs.FileMode, write func(io.Writer) error) (err error) {
	f, err := CreateTemp(fsys, filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = fsys.Remove(f.Name())
		}
	}()
	if err := errors.Join(write(f), f.Chmod(perm), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := fsys.Rename(f.Name(), path); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(path))
}

// Replace is Write, whatever stands in the place of path: a folder goes, with all that is in it.
func Replace(fsys FS, path string, data []byte, perm fs.FileMode) error {
	if info, err := fsys.Lstat(path); err == nil && info.IsDir() {
		if err := fsys.RemoveAll(path); err != nil {
			return err
		}
	}
	return Write(fsys, path, data, perm)
}

// CreateTemp makes a new file with a random name in dir, see IsTemp.
func CreateTemp(fsys FS, dir string) (File, error) {
	return fsys.Create(filepath.Join(dir, tempPrefix+strings.ToLower(rand.Text())))
}

// SymlinkTemp makes a link with a random name in dir, see IsTemp.
func SymlinkTemp(fsys FS, target, dir string) (string, error) {
	path := filepath.Join(dir, tempPrefix+strings.ToLower(rand.Text()))
	return path, fsys.Symlink(target, path)
}

// MkdirTemp makes a new folder, mode 0700, whose name is prefix and something random.
func MkdirTemp(fsys FS, dir, prefix string) (string, error) {
	path := filepath.Join(dir, prefix+strings.ToLower(rand.Text()))
	return path, fsys.Mkdir(path, 0o700)
}

// errReplaced says that a file was not the same before and after it was opened.
var errReplaced = errors.New("it was replaced while it was opened")

// ReadFile returns the content of a regular file of at most limit bytes; a longer one is cut. Where somebody replaces the
// file just now, as Write does, it returns the old content or the new.
func ReadFile(fsys FS, path string, limit int64) ([]byte, error) {
	f, err := fsys.Open(path)
	for tries := 10; tries > 0 && errors.Is(err, errReplaced); tries-- {
		f, err = fsys.Open(path)
	}
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit))
	return data, errors.Join(err, f.Close())
}

// SyncFile makes durable a regular file that was written before. On Windows only a handle that may write can flush.
func SyncFile(fsys FS, path string) error {
	open := fsys.Open
	if !syncsFolders {
		open = fsys.Edit
	}
	f, err := open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// SameFile reports whether two descriptions, of one FS, are of the same file.
func SameFile(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) || (a.Sys() != nil && a.Sys() == b.Sys()) // a model's is its own identity
}

// MkdirAll makes a folder and those above it, durably, where they do not exist.
func MkdirAll(fsys FS, path string, perm fs.FileMode) error {
	info, err := fsys.Lstat(path)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil: // a link to a folder is the administrator's choice; whoever needs more looks himself
		if _, err := fsys.ReadDir(path); err != nil {
			return &fs.PathError{Op: "mkdir", Path: path, Err: errors.New("it is not a folder: remove it")}
		}
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if parent := filepath.Dir(path); parent != path {
		if err := MkdirAll(fsys, parent, perm); err != nil {
			return err
		}
	}
	if err := fsys.Mkdir(path, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return fsys.SyncDir(filepath.Dir(path))
}

// Keep gives the content of the file at path the name kept as well, durably, replacing what has it: by a hard link, or
// by a copy where the file system has none. At every moment kept is what it was or the whole file.
func Keep(fsys FS, path, kept string) error {
	fresh := kept + newSuffix
	if err := fsys.RemoveAll(fresh); err != nil {
		return err
	}
	if fsys.Link(path, fresh) == nil {
		if err := fsys.Rename(fresh, kept); err != nil {
			return err
		}
		// rename(2) does nothing when both names are links to one file.
		return errors.Join(fsys.RemoveAll(fresh), fsys.SyncDir(filepath.Dir(kept)))
	}
	in, err := fsys.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	return WriteFunc(fsys, kept, info.Mode().Perm(), func(w io.Writer) error {
		_, err := io.Copy(w, in)
		return err
	})
}

// newSuffix is what Keep adds to a name while it works.
const newSuffix = ".new"

// IsKeepTemp reports whether name is what an interrupted Keep of one of kept has left.
func IsKeepTemp(name string, kept ...string) bool {
	base, found := strings.CutSuffix(name, newSuffix)
	return found && slices.Contains(kept, base)
}
