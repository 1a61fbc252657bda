//go:build unix

package update_test

import (
	"os"
	"syscall"

	"github.com/fairlead-dev/fairlead/internal/disk"
)

// serveSignals are those that a pretended daemon listens to.
var serveSignals = []os.Signal{syscall.SIGTERM, syscall.SIGUSR1}

func killSelf() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }

// askToEnd tells a pretended daemon to end in order.
func askToEnd(p *os.Process) error { return p.Signal(syscall.SIGTERM) }

func mkfifo(path string) error { return syscall.Mkfifo(path, 0o600) }

// systemDisk is the disk of a pretended program.
func systemDisk(string) disk.FS { return disk.OS }
