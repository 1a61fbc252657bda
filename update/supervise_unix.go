//go:build unix

package update

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/term"
)

// passedOn are the signals that go to the program.
var passedOn = []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2}

// pass sends a signal on. What a user types at a terminal has reached the program already.
func (v *supervisor) pass(p *os.Process, sig os.Signal) {
	switch sig {
	case syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM:
		v.stopping = true
	}
	if (sig == syscall.SIGINT || sig == syscall.SIGQUIT) && term.IsTerminal(int(os.Stdin.Fd())) {
		return
	}
	_ = p.Signal(sig)
}

func askToEnd(p *os.Process) error { return p.Signal(syscall.SIGTERM) }

// wait returns the exit code of p as a shell would. Process 1 waits for everybody whose parent has died.
func wait(p *os.Process) int {
	var status syscall.WaitStatus
	for os.Getpid() == 1 {
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if pid == p.Pid {
			return exitCode(status)
		}
		if err != nil && !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	state, err := p.Wait()
	if err != nil {
		return 127
	}
	return exitCode(state.Sys().(syscall.WaitStatus))
}

func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}
