package update

import (
	"os/exec"
	"syscall"
)

// startTied starts a program that is asked to end when this process dies.
func startTied(cmd *exec.Cmd) (release func(), err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	return func() {}, cmd.Start()
}
