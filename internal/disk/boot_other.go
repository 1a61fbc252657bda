//go:build !linux && !darwin

package disk

// BootID names the time since the machine was started: a file that another process wrote in it holds what was written,
// synced or not. "" where the system has no such name.
func BootID() string { return "" }
