package disk

import (
	"os"
	"strings"
)

// BootID names the time since the machine was started: a file that another process wrote in it holds what was written,
// synced or not. "" where the system has no such name.
func BootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}
