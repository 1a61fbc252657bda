//go:build unix

package disk

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

const (
	syncsFolders = true
	// A link that replaced the file since it was looked at is not followed, a FIFO not waited for.
	openFlags = syscall.O_NOFOLLOW | syscall.O_NONBLOCK
)

func rename(from, to string) error { return os.Rename(from, to) }
func move(from, to string) error   { return os.Rename(from, to) }

func owner(info fs.FileInfo) (uid, gid int, ok bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return int(st.Uid), int(st.Gid), true
}

// soleName reports whether a file has no other name, through which somebody could change it or be changed, and is ours.
func soleName(f *os.File) (bool, error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Nlink == 1 && int(st.Uid) == os.Geteuid(), nil
}

// IsFull reports whether an operation failed for want of space.
func IsFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// IsOtherVolume reports whether a rename failed because it would have to copy.
func IsOtherVolume(err error) bool { return errors.Is(err, syscall.EXDEV) }
