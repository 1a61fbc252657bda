//go:build !unix && !windows

package cli

import "os"

// echoOff leaves it to the reading of the passphrase: here is no way to do so before.
func echoOff(*os.File) error { return nil }
