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

// busyPatience is how long rename and Claim outlast readers, virus scanners and indexers, which have a file open for a moment after
// it was written.
const busyPatience = 10 * time.Second

func rename(from, to string) error {
	return outlast(func() error { return move(from, to) }, func(err error) bool { return isFolder(to, err) })
}

// outlast repeats what fails because somebody has a file open.
func outlast(do func() error, inVain func(error) bool) error {
	deadline := time.Now().Add(busyPatience)
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		err := do()
		if err == nil || !isBusy(err) || !time.Now().Before(deadline) || inVain(err) {
			return err
		}
		time.Sleep(wait/2 + rand.N(wait))
	}
}

// Claim keeps others from opening a file in a way that would keep it from being renamed, until release. It outlasts those
// who have it open so, as Rename does. On another FS than OS it does nothing.
func Claim(fsys FS, path string) (release func(), err error) {
	if fsys != OS {
		return func() {}, nil
	}
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, &fs.PathError{Op: "claim", Path: path, Err: err}
	}
	var h windows.Handle
	err = outlast(func() (err error) {
		// Who does not share the right to delete, which a rename needs, cannot open the file while we have that right.
		h, err = windows.CreateFile(name, windows.DELETE, windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE,
			nil, windows.OPEN_EXISTING, windows.FILE_FLAG_OPEN_REPARSE_POINT, 0)
		return err
	}, func(error) bool { return false })
	if err != nil {
		return nil, &fs.PathError{Op: "claim", Path: path, Err: err}
	}
	return func() { _ = windows.CloseHandle(h) }, nil
}

// move is os.Rename that returns once the move is on disk.
func move(from, to string) error {
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
