package disk

import "golang.org/x/sys/unix"

// BootID names the time since the machine was started: a file that another process wrote in it holds what was written,
// synced or not. "" where the system has no such name.
func BootID() string {
	id, err := unix.Sysctl("kern.bootsessionuuid")
	if err != nil {
		return ""
	}
	return id
}
