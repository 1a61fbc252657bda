// Embed is the smallest program that keeps itself up to date: what the README shows, compiled.
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

	"github.com/fairlead-dev/fairlead/update"
)

// README begins

var version = "dev" // go build -ldflags "-X main.version=1.0.0"

//go:embed root.json
var root []byte // what publish init has made: updates/metadata/1.root.json

func main() {
	ctx := context.Background()
	source, err := update.HTTP("https://updates.example.com/", nil)
	check(err)
	up, err := update.New(update.Config{Product: "notes", Channel: "stable", Version: version, Root: root, Source: source, Logger: slog.Default()})
	check(err)
	switch next, _ := up.Start(ctx); next { // first thing in main
	case update.Exit:
		return // this start was only the probe of a new version
	case update.Restart:
		check(up.Restart()) // this version failed its trial; the one before is back in place
		return
	}
	go func() {
		if err := up.Run(ctx, update.Schedule{}); errors.Is(err, update.ErrApplied) {
			check(up.Restart()) // a new version is in place; finish your work first
			os.Exit(0)          // Restart returns on Windows only
		}
	}()
	check(http.ListenAndServe("127.0.0.1:8000", hello)) // your program
}

// README ends

var hello = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "hello from", version) })

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
