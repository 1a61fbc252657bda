// Quickstart tells the whole story of Fairlead on a real program, in about a minute:
//
//	go run ./examples/quickstart
//
// It plays the vendor and the customer. As the vendor it builds versions of the notes server beside it with go build,
// signs and publishes them with the real publish command, and serves them. As the customer it installs version 1.0.0,
// keeps it running as a service manager would, and watches it keep itself up to date: withheld without a
// licence, updated with one, back by itself from a broken version, moved off a withdrawn one, kept within the licence,
// and deaf to a tampered mirror. Every step is checked; any surprise ends it with exit code 1.
// It works in a temporary folder and leaves nothing behind.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := tell(ctx, os.Stdout, thisSystem())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}
