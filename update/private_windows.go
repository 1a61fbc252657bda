package update

import (
	"errors"
	"os"
)

// checkPrivate: on Windows a folder inherits the rights of the one it is made in, the program's own. Only its being a
// folder is checked.
func (u *Updater) checkPrivate() error {
	info, err := os.Lstat(u.dir)
	if err == nil && !info.IsDir() {
		err = errors.New("it is not a folder: remove it")
	}
	return err
}
