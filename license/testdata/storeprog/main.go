// Storeprog is an app with a licence, for tests: all that it has is a store in the folder of its first argument.
//
//	storeprog DIR status            state, number of the licence, and whether it grants sso
//	storeprog DIR install [FILE]    installs a licence; from standard input without FILE
//	storeprog DIR race N FILE...    installs them all, N times over, then says the status
//	storeprog DIR ask               says the status for every line on standard input
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/fairlead-dev/fairlead/license"
)

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(dir, verb string, args []string) error {
	keys, err := license.ParseKeyring([]byte(os.Getenv("STOREPROG_KEYS"))) // a real app embeds them
	if err != nil {
		return err
	}
	verifier, err := license.NewVerifier(license.Config{Issuer: "https://licenses.acme.example", Product: "acme-db", Keys: keys})
	if err != nil {
		return err
	}
	start := time.Now()
	store, err := license.OpenStore(license.StoreConfig{Verifier: verifier, Dir: dir,
		Now: func() time.Time { return time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).Add(time.Since(start)) }})
	if err != nil {
		return err
	}
	ctx := context.Background()
	switch verb {
	case "install":
		return install(ctx, store, args)
	case "race":
		return race(ctx, store, args)
	case "ask":
		return ask(store)
	}
	say(store.Current())
	return nil
}

func say(s license.Status) {
	var seq int64
	if s.License != nil {
		seq = s.License.Seq
	}
	fmt.Println(s.State, seq, s.Has("sso"))
	for _, w := range s.Warnings {
		fmt.Println("warning:", w)
	}
}

func install(ctx context.Context, store *license.Store, args []string) (err error) {
	var token []byte
	if len(args) > 0 {
		token, err = os.ReadFile(args[0])
	} else {
		token, err = io.ReadAll(io.LimitReader(os.Stdin, 64<<10))
	}
	if err != nil {
		return err
	}
	status, err := store.Install(ctx, token)
	if err != nil {
		return err
	}
	say(status)
	return nil
}

func race(ctx context.Context, store *license.Store, args []string) error {
	times, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	var best int64
	for range times {
		for _, path := range args[1:] {
			token, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			status, err := store.Install(ctx, token)
			if err != nil && !errors.Is(err, license.ErrSuperseded) {
				return err
			}
			if status.License == nil || status.License.Seq < best {
				return fmt.Errorf("it went back from number %d: %+v", best, status)
			}
			best = status.License.Seq
		}
	}
	say(store.Current())
	return nil
}

// ask is an app that goes on running: it says the status whenever it is asked, and has never been told of an installation.
func ask(store *license.Store) error {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		say(store.Current())
	}
	return lines.Err()
}
