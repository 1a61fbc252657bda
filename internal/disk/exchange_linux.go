package disk

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// exchange: EINVAL is what file systems without it answer (NFS, many FUSE ones), ENOSYS what kernels before 3.15 do.
func exchange(a, b string) error {
	err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		err = errors.ErrUnsupported
	}
	if err != nil {
		return &os.LinkError{Op: "exchange", Old: a, New: b, Err: err}
	}
	return nil
}
