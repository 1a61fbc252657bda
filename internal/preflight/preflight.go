// Package preflight finds out facts about a place on this machine that decide whether an update may be installed there,
// so that they are known before anything is downloaded. It holds no policy: package update decides what follows.
//
// Where the system can be asked by doing the thing, it is: permission bits, ACLs, sandboxes, bind mounts and overlays all
// count then, and no table of them has to be right. What such a probe makes is named .fairlead-*, is made exclusively
// and never through a symbolic link, and is gone when the function returns.
//
// Every answer is about now. Between the question and the installation a volume may fill up, a package may be
// installed, an administrator may change a permission; the installation has to cope with that as if nothing had been asked.
package preflight

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"syscall"
)

// ErrOtherVolume says that files cannot be renamed between two folders.
var ErrOtherVolume = errors.New("they are on different volumes")

// Free returns how many bytes this user may still write on the volume of dir, or of its nearest existing parent. What
// is reserved for root does not count, even for root. Quotas count on Windows; on Unix they do where the file system
// reports them as space (project quotas of XFS and ext4 do, quotas per user do not). The error is [errors.ErrUnsupported]
// on systems other than Linux, macOS, FreeBSD and Windows.
func Free(dir string) (int64, error) {
	dir = existing(dir)
	n, err := free(dir)
	if err != nil {
		return 0, &fs.PathError{Op: "free space", Path: dir, Err: err}
	}
	return int64(min(n, math.MaxInt64)), nil
}

// ReadOnly reports whether the volume of path, or of its nearest existing parent, is mounted read-only: squashfs, a disk
// image, a bind mount, a read-only container layer. It says nothing about permissions, see [Writable]. The error is
// [errors.ErrUnsupported] on systems other than Linux, macOS, FreeBSD and Windows.
func ReadOnly(path string) (bool, error) {
	path = existing(path)
	ro, err := readOnly(path)
	if err != nil {
		return false, &fs.PathError{Op: "mount flags", Path: path, Err: err}
	}
	return ro, nil
}

// existing returns path, or its nearest parent that exists. On any other error than absence it is path again: whatever is
// asked about it will say so.
func existing(path string) string {
	path = filepath.Clean(path)
	for {
		_, err := os.Stat(path)
		parent := filepath.Dir(path)
		if !errors.Is(err, fs.ErrNotExist) || parent == path {
			return path
		}
		path = parent
	}
}

// Writable makes a file in dir, which must exist, and removes it. It returns nil, or the error of the attempt.
func Writable(dir string) error {
	path, err := probe(dir)
	if err != nil {
		return err
	}
	return remove(path)
}

// SameVolume renames a file from folder a to folder b; both must exist. It returns an error that is [ErrOtherVolume] if
// the system cannot do that (EXDEV, ERROR_NOT_SAME_DEVICE), and otherwise nil or the error of the attempt. Device numbers
// would not do: two bind mounts of one file system share theirs, and the system refuses all the same.
//
// The answer holds for files. On an overlay file system a folder from a lower layer may not be renamed even within its
// parent, which only that folder's own rename would tell.
func SameVolume(a, b string) error {
	from, err := probe(a)
	if err != nil {
		return err
	}
	to, err := probe(b) // what is replaced is ours, too
	if err != nil {
		return errors.Join(err, remove(from))
	}
	if err := rename(from, to); err != nil {
		if errors.Is(err, otherVolume) {
			err = fmt.Errorf("%s and %s: %w", a, b, ErrOtherVolume)
		}
		return errors.Join(err, remove(from), remove(to))
	}
	return remove(to)
}

// probe makes an empty file in dir that nobody else had, and returns its path.
func probe(dir string) (string, error) {
	if appendOnly(dir) { // the file could be made, but not removed
		return "", &fs.PathError{Op: "create", Path: dir, Err: syscall.EPERM}
	}
	f, err := os.CreateTemp(dir, ".fairlead-*") // O_EXCL: never through a link
	if err != nil {
		return "", err
	}
	if err := f.Close(); err != nil {
		return "", errors.Join(err, remove(f.Name()))
	}
	return f.Name(), nil
}
