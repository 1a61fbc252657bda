//go:build !windows

package atomicfile

import "os"

// Rename is os.Rename; on Windows it outlasts those who have a file open for a moment.
func Rename(from, to string) error { return os.Rename(from, to) }
