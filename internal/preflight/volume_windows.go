package preflight

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/windows"
)

const otherVolume = windows.ERROR_NOT_SAME_DEVICE

func free(dir string) (uint64, error) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, err
	}
	var n uint64
	err = windows.GetDiskFreeSpaceEx(name, &n, nil, nil)
	return n, err
}

func readOnly(path string) (bool, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return false, err
	}
	root := make([]uint16, windows.MAX_LONG_PATH)
	if err := windows.GetVolumePathName(name, &root[0], uint32(len(root))); err != nil {
		return false, err
	}
	var flags uint32
	err = windows.GetVolumeInformation(&root[0], nil, 0, nil, nil, &flags, nil, 0)
	return flags&windows.FILE_READ_ONLY_VOLUME != 0, err
}

func appendOnly(string) bool { return false }

func rename(from, to string) error {
	return patiently(func() error { return os.Rename(from, to) })
}

func remove(path string) error {
	return patiently(func() error { return os.Remove(path) })
}

// patiently outlasts virus scanners and indexers, which open a new file for a moment.
func patiently(do func() error) (err error) {
	for wait := 10 * time.Millisecond; wait < time.Second; wait *= 2 {
		err = do()
		if !errors.Is(err, windows.ERROR_SHARING_VIOLATION) && !errors.Is(err, windows.ERROR_ACCESS_DENIED) {
			return err
		}
		time.Sleep(wait)
	}
	return err
}
