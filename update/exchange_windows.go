package update

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/fairlead-dev/fairlead/internal/atomicfile"
)

// Exchange implements Installer. A running program can be renamed but not replaced, so there is a moment without a
// file at e.Path; if the second rename fails, the first one is undone.
func (e Executable) Exchange(next, prev string) error {
	if err := removeOrSetAside(prev); err != nil {
		return err
	}
	if err := atomicfile.Rename(e.Path, prev); err != nil {
		return err
	}
	if err := atomicfile.Rename(next, e.Path); err != nil {
		return errors.Join(err, atomicfile.Rename(prev, e.Path))
	}
	return nil
}

// removeOrSetAside frees the name: what is still running can be renamed, and Start removes it later.
func removeOrSetAside(path string) error {
	err := os.Remove(path)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return atomicfile.Rename(path, path+".old-"+strconv.FormatInt(time.Now().UnixNano(), 36))
}
