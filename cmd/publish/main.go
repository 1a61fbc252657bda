// Publish signs releases into a repository of plain static files, from which apps update themselves.
//
// See `publish help` and docs/publish.md.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/fairlead-dev/fairlead/cmd/publish/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Run(ctx, os.Args[1:], cli.System{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Passphrase: os.Getenv("PUBLISH_PASSPHRASE"), Now: os.Getenv("PUBLISH_NOW"),
	})
	stop()
	os.Exit(code)
}
