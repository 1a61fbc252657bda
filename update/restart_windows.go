package update

import (
	"errors"
	"os"
	"os/exec"
	"strconv"

	"github.com/fairlead-dev/fairlead/internal/disk"
)

// Restart starts the installed version as a new process with the same arguments, environment, working folder and
// standard streams, and returns; the caller then ends this process. Windows cannot replace a process by another. Under
// [Updater.Supervise] the supervisor starts the new process, once this one has ended.
func (u *Updater) Restart() error {
	if err := u.askSupervisor(); !errors.Is(err, errors.ErrUnsupported) {
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

// askSupervisor asks to be started again. The error is errors.ErrUnsupported if there is no supervisor.
func (u *Updater) askSupervisor() error {
	if !isSupervised() {
		return errors.ErrUnsupported
	}
	return disk.Write(u.disk, u.path(restartName), []byte(strconv.Itoa(os.Getpid())), 0o600)
}
