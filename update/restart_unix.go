//go:build unix

package update

import (
	"os"
	"syscall"
)

// Restart runs the installed version in place of this process: same process id, arguments, environment and working
// folder. It returns only if that fails. Deferred functions do not run, and whatever is not marked close-on-exec
// stays open: finish the app's work first. Under [Updater.Supervise] it works in the same way.
func (u *Updater) Restart() error {
	_ = u.tellSupervisor(requestExec) // or it would take a new version that hangs at once for us
	if err := syscall.Exec(u.program(), os.Args, os.Environ()); err != nil {
		return &os.PathError{Op: "exec", Path: u.program(), Err: err}
	}
	return nil
}
