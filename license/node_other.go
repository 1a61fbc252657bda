//go:build !linux && !windows && !darwin

package license

import (
	"errors"
	"runtime"
)

func machineID() (string, error) {
	return "", &NodeError{Err: errors.New("on " + runtime.GOOS + " none is known")}
}
