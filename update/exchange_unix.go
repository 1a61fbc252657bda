//go:build unix

package update

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/fairlead-dev/fairlead/internal/atomicfile"
)

// Exchange implements Installer. The order matters: first what is in place gets a second name, durably; then one
// rename puts the new file in place. At every moment there is a whole program at e.Path. Owner (for root) and permission bits
// are those of the file replaced; set-uid, capabilities and extended attributes are not carried over.
func (e Executable) Exchange(next, prev string) error {
	info, err := os.Stat(e.Path)
	if err != nil {
		return err
	}
	sameOwner(next, info)
	if err := os.Chmod(next, info.Mode().Perm()); err != nil { // an administrator may have restricted it
		return err
	}
	if err := keep(e.Path, prev); err != nil {
		return err
	}
	if err := os.Rename(next, e.Path); err != nil {
		return err
	}
	return errors.Join(atomicfile.SyncDir(filepath.Dir(e.Path)), atomicfile.SyncDir(filepath.Dir(next)))
}

// keep gives path's content the name prev as well: by a hard link, or a copy where the file system has none.
func keep(path, prev string) error {
	fresh := prev + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if os.Link(path, fresh) == nil {
		if err := os.Rename(fresh, prev); err != nil {
			return err
		}
		// rename(2) does nothing when both names are links to one file.
		return errors.Join(os.RemoveAll(fresh), atomicfile.SyncDir(filepath.Dir(prev)))
	}
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	return atomicfile.WriteFunc(prev, info.Mode().Perm(), func(w io.Writer) error {
		_, err := io.Copy(w, in)
		return err
	})
}
