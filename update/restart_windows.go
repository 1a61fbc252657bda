package update

import (
	"errors"
	"os"
	"os/exec"
)

// Restart starts the installed version as a new process with the same arguments, environment, working folder and
// standard streams, and returns; the caller then ends this process. Windows cannot replace a process by another. Under
// [Updater.Supervise] the supervisor starts the new process, once this one has ended.
func (u *Updater) Restart() error {
	if err := u.tellSupervisor(requestAgain); !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	u.endTrial() // the next process counts, too
	cmd := exec.Command(u.program(), os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}
