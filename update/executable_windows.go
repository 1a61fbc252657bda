package update

import (
	"errors"
	"io/fs"

	"github.com/fairlead-dev/fairlead/internal/disk"
)

// Exchange implements Installer. A running program can be renamed but not replaced, so there is a moment without a
// file at e.Path: it is kept short by making sure before that nobody holds up the second rename. If that fails, the first
// one is undone.
func (e Executable) Exchange(next, digest, prev string) error {
	is, err := e.verify(next, digest) // through a handle that is closed by now: an open file cannot be renamed
	if err != nil {
		return err
	}
	release, err := disk.Claim(e.disk(), next)
	if err != nil {
		return err
	}
	defer release()
	err = e.disk().Rename(e.Path, prev)
	kept := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err = e.disk().Rename(next, e.Path)
	if err == nil && !is(e.Path) {
		err = errors.Join(&VerifyError{File: next, Err: errors.New("was replaced after it had been hashed")}, e.disk().Rename(e.Path, next))
	}
	if err != nil && kept {
		return errors.Join(err, e.disk().Rename(prev, e.Path))
	}
	return err
}
