package cli

import (
	"os"

	"golang.org/x/sys/windows"
)

// echoOff has a console no longer show what is typed.
func echoOff(f *os.File) error {
	var mode uint32
	console := windows.Handle(f.Fd())
	if err := windows.GetConsoleMode(console, &mode); err != nil {
		return err
	}
	return windows.SetConsoleMode(console, mode&^windows.ENABLE_ECHO_INPUT)
}
