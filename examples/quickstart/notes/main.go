// Notes is a small notes server, and an example of an app with Fairlead embedded: it keeps itself up to date.
//
// A vendor commits root.json (what `publish init` made) and keyring.json (what `publish license keys new` printed) beside
// it and sets the version and the address of the repository when building:
//
//	go build -ldflags "-X main.version=1.0.0 -X main.updates=https://updates.example.com/"
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/fairlead-dev/fairlead/license"
	"github.com/fairlead-dev/fairlead/update"
)

var (
	//go:embed root.json
	root []byte
	//go:embed keyring.json
	keyring []byte

	version = "dev"
	updates = "http://127.0.0.1:8080/"
)

func main() {
	if err := run(); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "notes:", err)
		os.Exit(1)
	}
}

func run() error {
	flags := flag.NewFlagSet("notes", flag.ContinueOnError)
	addr := flags.String("addr", "127.0.0.1:8000", "where to serve the page")
	file := flags.String("file", "notes.json", "where to keep the notes")
	licence := flags.String("license", "license.jwt", "the licence file")
	every := flags.Duration("every", time.Hour, "time between checks for updates")
	healthy := flags.Duration("healthy", time.Minute, "a new version that has run this long is confirmed")
	// A version that does not understand its own command line is a bad version, too: only Start can go back from it,
	// so the error is judged after Start.
	usage := flags.Parse(os.Args[1:])

	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	up, err := newUpdater(*licence, *healthy, log)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	next, err := up.Start(ctx)
	if err != nil {
		log.Error("start", "cause", err)
	}
	switch next {
	case update.Exit: // this start was only the probe of a new version
		return nil
	case update.Restart: // this version failed its trial; the one before is back in place
		return up.Restart()
	}
	if usage != nil {
		return usage
	}
	book, err := openBook(*file)
	if err != nil {
		return err
	}
	if err := serve(ctx, up, &page{book: book}, settings{addr: *addr, every: *every, log: log}); err != nil {
		return err
	}
	return up.Succeeded(context.WithoutCancel(ctx)) // stopped on demand: that does not count against a new version
}

func newUpdater(licence string, healthy time.Duration, log *slog.Logger) (*update.Updater, error) {
	keys, err := license.ParseKeyring(keyring)
	if err != nil {
		return nil, err
	}
	verifier, err := license.NewVerifier(license.Config{Issuer: "https://acme.example", Product: "notes", Keys: keys})
	if err != nil {
		return nil, err
	}
	source, err := update.HTTP(updates, nil)
	if err != nil {
		return nil, err
	}
	return update.New(update.Config{
		Product: "notes", Channel: "stable", Version: version, Root: root, Source: source,
		License: license.FromFile(verifier, licence), Trial: update.Trial{Healthy: healthy}, Logger: log,
	})
}

type settings struct {
	addr  string
	every time.Duration
	log   *slog.Logger
}

// serve runs the page and the updates side by side until one of them ends or ctx does.
func serve(ctx context.Context, up *update.Updater, p *page, s settings) error {
	server := &http.Server{Addr: s.addr, Handler: p.handler(), ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 2)
	go func() { ended <- server.ListenAndServe() }()
	go func() {
		ended <- up.Run(ctx, update.Schedule{Every: s.every, Approve: func(_ context.Context, d update.Decision) bool {
			p.decided(d)
			return true
		}})
	}()
	err := <-ended
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	_ = server.Shutdown(closing)
	switch {
	case errors.Is(err, update.ErrApplied):
		return up.Restart()
	case ctx.Err() != nil:
		return nil
	}
	return err
}
