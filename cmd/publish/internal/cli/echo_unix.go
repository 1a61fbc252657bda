//go:build unix

package cli

import (
	"os"

	"golang.org/x/sys/unix"
)

// echoOff has a terminal no longer show what is typed.
func echoOff(f *os.File) error {
	t, err := unix.IoctlGetTermios(int(f.Fd()), getTermios)
	if err != nil {
		return err
	}
	t.Lflag &^= unix.ECHO
	return unix.IoctlSetTermios(int(f.Fd()), setTermios, t)
}
