// Daemon is a service of several files that keeps itself up to date and is its own supervisor.
//
// Its setup lays it out as update.Versions wants it, once:
//
//	/opt/notes/versions/first/bin/notes    the program, and what belongs to it
//	/opt/notes/current                     a symbolic link to versions/first
//
// and the service manager starts /opt/notes/current/bin/notes. On Windows, current is a file that holds the word first, and
// what is started is a copy of the program at \notes\notes.exe.
package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/fairlead-dev/fairlead/update"
)

var version = "dev" // go build -ldflags "-X main.version=1.0.0"

//go:embed root.json
var root []byte

func main() {
	source, err := update.HTTP("https://updates.example.com/", nil)
	check(err)
	// README begins

	up, err := update.New(update.Config{
		Product: "notes", Channel: "stable", Version: version, Root: root, Source: source, Logger: slog.Default(),
		Installer: update.Versions{Root: home(), Program: program}, // /opt/notes and bin/notes
		Hooks: update.Hooks{
			BeforeApply:   func(ctx context.Context, from, to string) error { return backUp(ctx, from) },
			AfterRollback: func(ctx context.Context, from, to string) error { return restore(ctx, to) },
			Healthy:       func(ctx context.Context) error { return askOwnPage(ctx) },
		},
	})
	check(err)
	if end := up.Supervise(context.Background(), update.Supervision{}); end != nil {
		os.Exit(end.Code) // this process was the supervisor, and the program has ended
	}
	switch next, _ := up.Start(context.Background()); next { // from here on as without a supervisor

	// README ends
	case update.Exit:
		return
	case update.Restart:
		check(up.Restart())
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	server := &http.Server{Addr: addr, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "hello from", version) })}
	go func() { check(server.ListenAndServe()) }()
	if err := up.Run(ctx, update.Schedule{}); errors.Is(err, update.ErrApplied) {
		check(up.Restart())
	}
}

const addr = "127.0.0.1:8000"

// program is the path of the program in a version's folder.
var program = map[bool]string{false: "bin/notes", true: "bin/notes.exe"}[runtime.GOOS == "windows"]

// home is where the service is installed.
func home() string {
	if runtime.GOOS == "windows" {
		return filepath.Join(os.Getenv("ProgramData"), "notes")
	}
	return "/opt/notes"
}

func backUp(context.Context, string) error  { return nil } // copy the data aside, under the version's name
func restore(context.Context, string) error { return nil } // and back

// askOwnPage is a check that the service does its work.
func askOwnPage(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func check(err error) {
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}
