// Licensed is a small program in editions, and an example of an app that lives with licences: what it does depends on the
// licence that counts now, it says in good time when that ends, and a renewed one counts without a restart.
//
//	licensed status                   what is held, and what it allows
//	licensed request > FILE           ask the vendor for a licence for this machine, by mail or on a stick
//	licensed install FILE             take what came back
//	licensed remove                   forget what was installed, to go back to another licence
//	licensed refresh                  fetch a renewed licence, where the licence names a place
//	licensed report -format csv       the work itself: more formats and rows with a better edition
//	licensed serve                    all of that as a page
//
// A vendor commits keyring.json (what `publish license keys new` printed) and root.json (what `publish init` made) beside
// it, and says where the repository is when building: -ldflags "-X main.updates=https://updates.example.com/".
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/fairlead-dev/fairlead/license"
	"github.com/fairlead-dev/fairlead/license/refresh"
	"github.com/fairlead-dev/fairlead/update"
)

const (
	product  = "licensed"
	issuer   = "https://acme.example"
	licenses = "licenses.acme.example" // the one host that a licence is ever sent to
)

var (
	//go:embed root.json
	root []byte

	version = "dev"
	updates = "" // the vendor's repository; without one, issuer keys and revocations are those of the build
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		_, _ = fmt.Fprintln(os.Stderr, "licensed:", err)
		os.Exit(1)
	}
}

// An app is the program with its licence.
type app struct {
	out     io.Writer
	dir     string
	day     time.Time // that it is to be; zero: today
	store   *license.Store
	updater *update.Updater // nil: this build knows no repository
	log     *slog.Logger
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet(product, flag.ContinueOnError)
	dir := flags.String("dir", defaultDir(), "where the program keeps its licence")
	machine := flags.String("machine", "", "what to tell this machine by, in containers (default: the system's own id)")
	date := flags.String("now", "", "pretend that it is this day, such as 2027-12-24, to see what will be")
	if err := flags.Parse(args); err != nil {
		return err
	}
	a := &app{out: out, dir: *dir, log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	if err := a.open(*machine, *date); err != nil {
		return err
	}
	verbs := map[string]func(context.Context, []string) error{
		"": a.status, "status": a.status, "request": a.request, "install": a.install, "remove": a.remove, "refresh": a.refresh,
		"report": a.report, "serve": a.serve,
	}
	verb := verbs[flags.Arg(0)]
	if verb == nil {
		return fmt.Errorf("no command %q: see licensed -help", flags.Arg(0))
	}
	return verb(ctx, flags.Args()[min(1, flags.NArg()):])
}

func defaultDir() string {
	base, err := os.UserConfigDir()
	if err != nil {
		base = "."
	}
	return filepath.Join(base, product)
}

// open finds the licence. Nothing here fails for want of one.
func (a *app) open(machine, date string) (err error) {
	if date != "" {
		if a.day, err = time.Parse(time.DateOnly, date); err != nil {
			return fmt.Errorf("-now %s: write a day such as 2027-12-24", date)
		}
	}
	node := license.NodeOf(product, machine)
	if machine == "" {
		if node, err = license.MachineNode(product); err != nil {
			a.log.Warn("licences for single machines need -machine NAME here", "cause", err)
		}
	}
	a.store, err = openStore(a.dir, node)
	if err != nil || updates == "" {
		return err
	}
	source, err := update.HTTP(updates, nil)
	if err != nil {
		return err
	}
	// The updater brings what the vendor's signed repository says about licences: new issuer keys, and revocations.
	a.updater, err = update.New(update.Config{Product: product, Channel: "stable", Version: version, Root: root,
		Source: source, License: a.store, Dir: filepath.Join(a.dir, "updates"), Logger: a.log})
	return err
}

// README begins

//go:embed keyring.json
var keyring []byte // what publish license keys new has printed

func openStore(dir, node string) (*license.Store, error) {
	keys, err := license.ParseKeyring(keyring)
	if err != nil {
		return nil, err
	}
	verifier, err := license.NewVerifier(license.Config{Issuer: issuer, Product: product, Keys: keys, Node: node})
	if err != nil {
		return nil, err
	}
	return license.OpenStore(license.StoreConfig{Verifier: verifier, Dir: filepath.Join(dir, "license"),
		Sources: []license.Source{license.Env("LICENSED_LICENSE"), license.Folder(filepath.Join(dir, "licenses"))}})
}

// README ends

// current is asked whenever it matters. To ask about another day leaves no trace, as a wrong clock would.
func (a *app) current(ctx context.Context) license.Status {
	if !a.day.IsZero() {
		return a.store.Status(ctx, a.day)
	}
	return a.store.Current()
}

func (a *app) say(format string, args ...any) { _, _ = fmt.Fprintf(a.out, format, args...) }

func (a *app) status(ctx context.Context, _ []string) error {
	s := a.current(ctx)
	a.say("%s edition\nlicence: %s\n", editionOf(s).name, s)
	if text := banner(s); text != "" {
		a.say("%s\n", text)
	}
	a.say("formats: %s\n", strings.Join(editionOf(s).formats(), ", "))
	for _, w := range s.Warnings { // a clock that is wrong, a place that cannot be read
		a.say("note: %s\n", w)
	}
	return nil
}

func (a *app) request(ctx context.Context, _ []string) error {
	text, err := a.store.ActivationRequest(ctx)
	if err != nil {
		return err
	}
	_, err = a.out.Write(text)
	return err
}

func (a *app) install(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("install needs the licence's file")
	}
	token, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	if _, err := a.store.Install(ctx, token); err != nil {
		return err
	}
	return a.status(ctx, nil)
}

func (a *app) remove(ctx context.Context, _ []string) error {
	if err := a.store.Remove(ctx); err != nil {
		return err
	}
	return a.status(ctx, nil)
}

func (a *app) refresh(ctx context.Context, _ []string) error {
	if _, err := a.store.Refresh(ctx, &refresh.HTTP{Hosts: []string{licenses}}); err != nil {
		return err // the licence held goes on to its own end
	}
	return a.status(ctx, nil)
}
