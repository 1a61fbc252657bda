// Package atomicfile replaces a file in one step that survives a crash.
//
// [Write] promises: after it returned nil, the new content is at path, whole, and stays there through a crash of
// the process or the machine; whenever it is interrupted, path holds the old content or the new, never a mixture
// and never nothing. What a crash can leave is a temporary file beside path, named as [IsTemp] recognises.
//
// Durability of the rename itself is up to the system: on Unix the folder is synced (F_FULLFSYNC on macOS, which
// is what os.File.Sync does there); Windows has no such call, and NTFS orders the rename in its log.
package atomicfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

const tempPrefix = ".tmp-"

// IsTemp reports whether the file name (no folder) is one that this package gives its temporary files.
func IsTemp(name string) bool { return strings.HasPrefix(name, tempPrefix) }

// Write replaces the content of path. perm is exact: the umask does not apply.
func Write(path string, data []byte, perm fs.FileMode) error {
	return WriteFunc(path, perm, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// WriteFunc is Write for content that write produces. If write fails, path is untouched and the error is write's.
func WriteFunc(path string, perm fs.FileMode, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), tempPrefix+"*") // exclusive, mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if err := errors.Join(write(f), f.Chmod(perm), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes what was created, renamed or removed in dir durable. On Windows it does nothing.
func SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
