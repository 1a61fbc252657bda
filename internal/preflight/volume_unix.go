//go:build unix

package preflight

import (
	"os"
	"syscall"
)

const otherVolume = syscall.EXDEV

func rename(from, to string) error { return os.Rename(from, to) }
func remove(path string) error     { return os.Remove(path) }
