package update

import "golang.org/x/sys/unix"

// osVersion returns the kernel's release, such as 6.1.0-18-amd64.
func osVersion() string {
	var n unix.Utsname
	if unix.Uname(&n) != nil {
		return ""
	}
	return unix.ByteSliceToString(n.Release[:])
}
