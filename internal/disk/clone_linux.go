package disk

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Clone lets to, a new file, share the content of from, where the file system can do that (Btrfs, XFS, bcachefs, overlays
// of those): writing to one of them later does not change the other. Otherwise the error satisfies
// errors.Is(err, errors.ErrUnsupported), and to is still empty.
func Clone(to, from File) error {
	t, ok := to.(*os.File)
	f, is := from.(*os.File)
	if !ok || !is {
		return errors.ErrUnsupported
	}
	if err := unix.IoctlFileClone(int(t.Fd()), int(f.Fd())); err != nil { // for whatever reason: a copy will tell
		return errors.ErrUnsupported
	}
	return nil
}
