//go:build unix

package update

import (
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/fairlead-dev/fairlead/internal/disk"
)

// Exchange implements Installer. The order matters: first what is in place gets a second name, durably; then one
// rename puts the new file in place. At every moment there is a whole program at e.Path.
func (e Executable) Exchange(next, digest, prev string) error {
	is, err := e.verify(next, digest)
	if err != nil {
		return err
	}
	info, err := e.disk().Lstat(e.Path)
	kept := err == nil
	if kept {
		// An administrator may have restricted the file.
		err = errors.Join(e.disk().Own(next, info), e.disk().Chmod(next, info.Mode().Perm()), disk.Keep(e.disk(), e.Path, prev))
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return err
	}
	if err := e.disk().Rename(next, e.Path); err != nil {
		return err
	}
	if kept && !is(e.Path) { // somebody who may write to our folder was faster
		return errors.Join(&VerifyError{File: next, Err: errors.New("was replaced after it had been hashed")}, disk.Keep(e.disk(), prev, e.Path))
	}
	return errors.Join(e.disk().SyncDir(filepath.Dir(e.Path)), e.disk().SyncDir(filepath.Dir(next)))
}
