// Publish signs releases into a repository of plain static files, from which apps update themselves.
//
// See `publish help` and docs/publish.md.
package main

import (
	"cmp"
	"context"
	"io"
	"log"
	"os"
	"os/signal"
	"os/user"
	"runtime/debug"
	"syscall"

	"github.com/fairlead-dev/fairlead/cmd/publish/internal/cli"
	"github.com/fairlead-dev/fairlead/cmd/publish/internal/kms"
	"github.com/fairlead-dev/fairlead/cmd/publish/internal/s3store"
)

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(25) // making patches is about tables of a known size: what doubles with them is only garbage
	}
	log.SetOutput(io.Discard) // the providers of key services talk through it; what matters they return
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Run(ctx, os.Args[1:], cli.System{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Passphrase: os.Getenv("PUBLISH_PASSPHRASE"), Now: os.Getenv("PUBLISH_NOW"), By: cmp.Or(os.Getenv("PUBLISH_BY"), whoami()),
		Getenv: os.Getenv, Providers: kms.Providers(),
		Stores: map[string]cli.OpenStore{"s3": s3store.Open},
	})
	stop()
	os.Exit(code)
}

// whoami is user@host, as far as the system knows.
func whoami() string {
	name, host := "", ""
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	if name == "" && host == "" {
		return ""
	}
	return name + "@" + host
}
