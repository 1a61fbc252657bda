package license

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"time"
)

const ioreg = "/usr/sbin/ioreg"

// machineID asks the IO registry through the system's own program: the framework needs cgo.
func machineID() (string, error) {
	const where = "IOPlatformUUID of the IO registry"
	id, err := readPlatformUUID()
	if err != nil {
		return "", &NodeError{Looked: []string{where}, Err: fmt.Errorf("%s %w", where, err)}
	}
	return id, nil
}

func readPlatformUUID() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, ioreg, "-rd1", "-c", "IOPlatformExpertDevice")
	cmd.Env = []string{"LC_ALL=C"}
	cmd.WaitDelay = time.Second
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return "", fmt.Errorf("cannot be read with %s: %w", ioreg, err)
	}
	text, err := io.ReadAll(io.LimitReader(out, 1<<20))
	if err := errors.Join(err, cmd.Wait()); err != nil {
		return "", fmt.Errorf("cannot be read with %s: %w", ioreg, err)
	}
	return findPlatformUUID(string(text))
}
