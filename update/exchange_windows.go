package update

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/windows"
)

// Exchange implements Installer. A running program can be renamed but not replaced, so there is a moment without a
// file at e.Path; if the second rename fails, the first one is undone.
func (e Executable) Exchange(next, prev string) error {
	if err := removeOrSetAside(prev); err != nil {
		return err
	}
	if err := renameStubbornly(e.Path, prev); err != nil {
		return err
	}
	if err := renameStubbornly(next, e.Path); err != nil {
		return errors.Join(err, renameStubbornly(prev, e.Path))
	}
	return nil
}

// removeOrSetAside frees the name: what is still running can be renamed, and Start removes it later.
func removeOrSetAside(path string) error {
	err := os.Remove(path)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return renameStubbornly(path, path+".old-"+strconv.FormatInt(time.Now().UnixNano(), 36))
}

// renameStubbornly outlasts virus scanners and indexers, which open a file for a moment after it was written.
func renameStubbornly(from, to string) (err error) {
	for wait := 10 * time.Millisecond; wait < 3*time.Second; wait *= 2 {
		err = os.Rename(from, to)
		if !errors.Is(err, windows.ERROR_SHARING_VIOLATION) && !errors.Is(err, windows.ERROR_ACCESS_DENIED) {
			return err
		}
		time.Sleep(wait)
	}
	return err
}
