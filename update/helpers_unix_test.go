//go:build unix

package update_test

import (
	"os"
	"syscall"
)

// serveSignals are those that a pretended daemon listens to.
var serveSignals = []os.Signal{syscall.SIGTERM, syscall.SIGUSR1}

func killSelf() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }
