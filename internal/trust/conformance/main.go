// Command conformance is the client that the TUF conformance suite drives
// (https://github.com/theupdateframework/tuf-conformance, CLIENT-CLI.md): package trust with the suite's command
// line. docs/testing.md says how to run it.
//
//	conformance --metadata-dir DIR init ROOT
//	conformance --metadata-dir DIR --metadata-url URL refresh
//	conformance --metadata-dir DIR --metadata-url URL --target-name PATH... --target-base-url URL --target-dir DIR download
//
// The suite looks for the trusted files under plain names in the metadata folder. They are copied there after each
// run, from the trust store, which is the folder "store" in it.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-dev/fairlead/internal/disk"
	"github.com/fairlead-dev/fairlead/internal/trust"
)

const maxTargetFile = 100 << 20

type options struct {
	metadataDir, metadataURL string
	targetDir, targetBaseURL string
	targetNames              []string
}

func main() {
	var o options
	flag.StringVar(&o.metadataDir, "metadata-dir", "", "folder of the trusted metadata")
	flag.StringVar(&o.metadataURL, "metadata-url", "", "URL of the repository's metadata")
	flag.StringVar(&o.targetDir, "target-dir", "", "folder for downloaded targets")
	flag.StringVar(&o.targetBaseURL, "target-base-url", "", "URL of the repository's targets")
	flag.Func("target-name", "target to download, repeatable", func(name string) error {
		o.targetNames = append(o.targetNames, name)
		return nil
	})
	flag.Parse()
	if err := run(context.Background(), o, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, args []string) error {
	switch {
	case len(args) == 2 && args[0] == "init":
		return o.init(args[1])
	case len(args) == 1 && args[0] == "refresh":
		return o.refresh(ctx, func(*trust.View) error { return nil })
	case len(args) == 1 && args[0] == "download":
		return o.refresh(ctx, func(v *trust.View) error { return o.download(ctx, v) })
	}
	return errors.New("want one of the commands init ROOT, refresh, download")
}

func (o options) embedded() string { return filepath.Join(o.metadataDir, "embedded", "root") }

func (o options) init(root string) error {
	data, err := os.ReadFile(root)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(o.embedded()), 0o700); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(o.embedded(), data, 0o600),
		os.WriteFile(filepath.Join(o.metadataDir, "root.json"), data, 0o600))
}

// refresh brings the metadata up to date, does then with it what next does, and shows the suite what is trusted.
func (o options) refresh(ctx context.Context, next func(*trust.View) error) error {
	root, err := os.ReadFile(o.embedded())
	if err != nil {
		return err
	}
	source, err := newSource(o.metadataURL, o.targetBaseURL)
	if err != nil {
		return err
	}
	now, err := suiteTime(ctx)
	if err != nil {
		return err
	}
	client, err := trust.New(trust.Config{
		Root:   root,
		Dir:    filepath.Join(o.metadataDir, "store"),
		Source: source,
		Now:    func() time.Time { return now },
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	view, err := client.Refresh(ctx)
	if err == nil {
		err = next(view)
	}
	return errors.Join(err, o.export(ctx, client))
}

// suiteTime asks another program for the time: the suite sets it with faketime, which does not reach Go programs.
func suiteTime(ctx context.Context) (time.Time, error) {
	out, err := exec.CommandContext(ctx, "date", "+%s").Output()
	if err != nil {
		return time.Time{}, fmt.Errorf("run date: %w", err)
	}
	seconds, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	return time.Unix(seconds, 0), err
}

func (o options) export(ctx context.Context, client *trust.Client) error {
	stored, err := client.Stored(ctx)
	if err != nil {
		return err
	}
	for role, data := range stored {
		if err := os.WriteFile(filepath.Join(o.metadataDir, url.PathEscape(role)+".json"), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (o options) download(ctx context.Context, view *trust.View) error {
	for _, name := range o.targetNames {
		target, err := view.Find(ctx, name)
		if err != nil {
			return err
		}
		// A file that was downloaded before is judged like one that arrives now.
		file := filepath.Join(o.targetDir, url.PathEscape(name))
		if have, err := os.ReadFile(file); err == nil && target.Verify(have) == nil {
			continue
		}
		data, err := view.Fetch(ctx, target, maxTargetFile)
		if err != nil {
			return err
		}
		if have, err := os.ReadFile(file); err == nil && bytes.Equal(have, data) {
			continue
		}
		if err := disk.Write(disk.OS, file, data, 0o600); err != nil {
			return err
		}
	}
	return nil
}
