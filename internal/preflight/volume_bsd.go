//go:build darwin || freebsd

package preflight

import "golang.org/x/sys/unix"

func free(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	// FreeBSD's count is signed: below zero when root has used its reserve.
	return uint64(max(int64(st.Bavail), 0)) * uint64(st.Bsize), nil
}

func readOnly(path string) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return false, err
	}
	return st.Flags&unix.MNT_RDONLY != 0, nil
}

// appendOnly reports whether what is made in dir can never be removed (chflags uappnd, sappnd).
func appendOnly(dir string) bool {
	const uappnd, sappnd = 0x4, 0x40000 // sys/stat.h
	var st unix.Stat_t
	return unix.Stat(dir, &st) == nil && st.Flags&(uappnd|sappnd) != 0
}
