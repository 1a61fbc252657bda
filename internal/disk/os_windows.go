package disk

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sys/windows"
)

const (
	syncsFolders = false // FlushFileBuffers of a folder is denied
	openFlags    = 0
)

// busyPatience is how long rename outlasts readers, virus scanners and indexers, which have a file open for a moment after
// it was written.
const busyPatience = 10 * time.Second

func rename(from, to string) error {
	deadline := time.Now().Add(busyPatience)
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		err := moveThrough(from, to)
		if err == nil || !isBusy(err) || !time.Now().Before(deadline) || isFolder(to, err) {
			return err
		}
		time.Sleep(wait/2 + rand.N(wait))
	}
}

// moveThrough is os.Rename that returns once the move is on disk.
func moveThrough(from, to string) error {
	old, err := windows.UTF16PtrFromString(from)
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	fresh, err := windows.UTF16PtrFromString(to)
	if err == nil {
		err = windows.MoveFileEx(old, fresh, windows.MOVEFILE_REPLACE_EXISTING|windows.MOVEFILE_WRITE_THROUGH)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

func isBusy(err error) bool {
	return errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_ACCESS_DENIED)
}

// isFolder reports whether a rename was denied for a reason that waiting does not end: the target is a folder.
func isFolder(to string, err error) bool {
	if !errors.Is(err, windows.ERROR_ACCESS_DENIED) {
		return false
	}
	info, statErr := os.Lstat(to)
	return statErr == nil && info.IsDir()
}

func owner(fs.FileInfo) (uid, gid int, ok bool) { return 0, 0, false }

// soleName reports whether a file has no other name, through which somebody could change it or be changed.
func soleName(f *os.File) (bool, error) {
	var info windows.ByHandleFileInformation
	err := windows.GetFileInformationByHandle(windows.Handle(f.Fd()), &info)
	return err == nil && info.NumberOfLinks == 1, err
}

// IsFull reports whether an operation failed for want of space.
func IsFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL) || errors.Is(err, windows.ERROR_DISK_QUOTA_EXCEEDED)
}

// IsOtherVolume reports whether a rename failed because it would have to copy.
func IsOtherVolume(err error) bool { return errors.Is(err, windows.ERROR_NOT_SAME_DEVICE) }

// RemoveAtReboot asks Windows to remove a file that is in use, which needs the rights of an administrator.
func RemoveAtReboot(path string) error {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return err
	}
	return windows.MoveFileEx(name, nil, windows.MOVEFILE_DELAY_UNTIL_REBOOT)
}
