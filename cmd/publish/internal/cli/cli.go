// Package cli is the command publish: flags and verbs over packages tufrepo, license and channel.
//
// Each verb is a function that returns a result and an error, and prints nothing: output.go does all of that, as
// text or as JSON. Data goes to stdout, talk to stderr. What an error means to the caller, its exit code and its
// hint, stands in errors.go.
package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-dev/fairlead/cmd/publish/internal/keyuri"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

// A System is what the command gets from around it. Nothing else in this package looks at the environment.
type System struct {
	Stdin          *os.File  // asked for a passphrase if it is a terminal
	Stdout, Stderr io.Writer // progress is shown if Stderr is a terminal
	Passphrase     string    // of the key files; "": none is given
	Now            string    // RFC 3339: the time to work at, for rehearsals; "": now
	By             string    // who runs it, for the log of licences; "": unknown

	Getenv    func(name string) string   // for keys named env://NAME; nil: there are none
	Providers map[string]keyuri.Provider // key services by the scheme of their URIs

	Stores map[string]OpenStore // of addresses, by their scheme: s3 of s3://bucket/prefix
}

// Run runs the command with args, the program's name not among them, and returns its exit code. When ctx ends,
// what is being done is given up, and nothing is half published.
func Run(ctx context.Context, args []string, sys System) int {
	a := &app{sys: sys, out: newOutput(sys.Stdout, sys.Stderr), now: time.Now}
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetOut(sys.Stdout)
	root.SetErr(sys.Stderr)
	// So that a command line that does not parse is reported as JSON, too; prepare knows better.
	a.out.json = slices.Contains(args, "--json")
	err := root.ExecuteContext(ctx)
	return a.out.finish(a.result, explain(ctx, err))
}

// app is one run of the command: its global flags and what the verb has come to.
type app struct {
	sys System
	out *output
	now func() time.Time

	json           bool
	repo, keysDir  string // the repository's folder or address; the folder of keys
	opened         tufrepo.Store
	rootFile       string // what is trusted; "": the repository's own
	configFile     string // "": publish.yaml, if it is there
	licenses       licenseFlags
	patches        tufrepo.PatchPolicy
	passphraseFile string
	secret         []byte // the passphrase, once asked for

	result result
}

// A verb does one thing and returns what came of it. Both may be set: a status that alarms is a status all the same.
type verb func(ctx context.Context, args []string) (result, error)

const rootLong = `Publish signs releases, channel by channel, as a TUF repository of plain static files:
serve the folder from any web server, object store or CDN, or carry it on a stick.

A first repository:

  publish init --product notes
  publish release --version 1.0.0 --artifact linux/amd64=dist/notes
  publish status
  publish verify
  publish serve

Standard output is data (with --json one JSON value), standard error is talk.`

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use: "publish", Short: "Sign releases into a repository of static files", Long: rootLong,
		SilenceErrors: true, SilenceUsage: true, Args: cobra.ArbitraryArgs,
		PersistentPreRunE: a.prepare,
	}
	showVersion := root.Flags().Bool("version", false, "print the version of publish")
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if *showVersion && len(args) == 0 {
			a.result = moduleVersion()
			return nil
		}
		return noVerb(cmd, args)
	}
	f := root.PersistentFlags()
	f.StringVar(&a.repo, "repo", "updates", "the repository: a folder, or s3://BUCKET/PREFIX?region=REGION")
	f.StringVar(&a.keysDir, "keys", "keys", "the folder of the key files")
	f.StringVar(&a.rootFile, "root", "", "a copy of the repository's first root.json to trust, kept elsewhere\n(without it, whatever stands in the repository is trusted)")
	f.StringVar(&a.configFile, "config", "", "the settings file (default publish.yaml, if it is there)")
	f.BoolVar(&a.json, "json", false, "print one JSON value on standard output, errors included")
	f.BoolVar(&a.out.quiet, "quiet", false, "no talk and no progress on standard error, only warnings and errors")
	f.StringVar(&a.passphraseFile, "passphrase-file", "", "read the passphrase of the key files from this file\n(else from PUBLISH_PASSPHRASE, else from the terminal)")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		var number *strconv.NumError
		if text, _, ok := strings.Cut(err.Error(), ": strconv."); ok && errors.As(err, &number) {
			return usagef("see `"+cmd.CommandPath()+" --help`", "%s: it is no whole number", text)
		}
		return usagef("see `"+cmd.CommandPath()+" --help`", "%v", err)
	})
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(a.initCommand(), a.channelCommand(), a.releaseCommand(), a.promoteCommand(), a.rolloutCommand(),
		a.holdCommand(), a.offerCommand(), a.withdrawCommand(), a.archiveCommand(), a.refreshCommand(),
		a.statusCommand(), a.listCommand(), a.verifyCommand(), a.serveCommand(), a.keysCommand(), a.licenseCommand(),
		&cobra.Command{Use: "exit-codes", Short: "What the exit codes mean", Long: exitCodesHelp},
		&cobra.Command{Use: "key-files", Short: "Which keys there are, and how they are found", Long: keyFilesHelp})
	return root
}

// prepare runs before every verb.
func (a *app) prepare(*cobra.Command, []string) error {
	a.out.json = a.json
	if a.sys.Now == "" {
		return nil
	}
	at, err := time.Parse(time.RFC3339, a.sys.Now)
	if err != nil {
		return usagef("write it as in 2026-11-22T12:00:00Z, or unset it", "PUBLISH_NOW=%s is not a time", a.sys.Now)
	}
	a.now = func() time.Time { return at.UTC() }
	a.out.talk("the time is taken to be %s (PUBLISH_NOW)", moment(at))
	return nil
}

type version struct {
	Version string `json:"version"`
	Go      string `json:"go"`
}

func (v *version) text(p *page) { p.line("publish %s (%s)", v.Version, v.Go) }

// moduleVersion is what the linker noted of the module.
func moduleVersion() *version {
	v := &version{Version: "(devel)", Go: runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	return v
}

// group makes a command that only has verbs below it.
func group(use, short string, verbs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs, RunE: noVerb}
	cmd.AddCommand(verbs...)
	return cmd
}

// noVerb is what a command without a verb does: cobra would print its help and call that a success.
func noVerb(cmd *cobra.Command, args []string) error {
	hint := "see `" + cmd.CommandPath() + " --help`"
	if len(args) == 0 {
		return usagef(hint, "%s needs a verb", cmd.CommandPath())
	}
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "did you mean `" + cmd.CommandPath() + " " + near[0] + "`?"
	}
	return usagef(hint, "%q is no verb of %s", args[0], cmd.CommandPath())
}

// run makes a verb of cmd: it checks how many arguments there are, named as in cmd.Use, and keeps the result.
func (a *app) run(cmd *cobra.Command, v verb) *cobra.Command {
	names := strings.Fields(cmd.Use)[1:]
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		most, least := 0, 0
		for _, name := range names {
			most++
			if !strings.HasPrefix(name, "[") {
				least++
			}
			if strings.HasSuffix(strings.TrimSuffix(name, "]"), "...") {
				most = 1 << 20
			}
		}
		switch {
		case len(args) < least:
			return usagef("see `"+cmd.CommandPath()+" --help`", "%s needs %s", cmd.CommandPath(), strings.Join(names, " "))
		case len(args) > most:
			return usagef("see `"+cmd.CommandPath()+" --help`; flags start with --", "%s does not take the argument %q", cmd.CommandPath(), args[most])
		}
		return nil
	}
	cmd.DisableFlagsInUseLine = true
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if err := needed(cmd); err != nil {
			return err
		}
		a.result, err = v(cmd.Context(), args)
		return err
	}
	return cmd
}

const neededFlags = "needed" // annotation of a command: its flags that must be given

// need marks flags that must be given. Cobra's own check answers without a hint.
func need(cmd *cobra.Command, flags ...string) {
	cmd.Annotations = map[string]string{neededFlags: strings.Join(flags, " ")}
	for _, name := range flags {
		cmd.Flags().Lookup(name).Usage += " (needed)"
	}
}

func needed(cmd *cobra.Command) error {
	var missing []string
	for _, name := range strings.Fields(cmd.Annotations[neededFlags]) {
		if !cmd.Flags().Changed(name) {
			missing = append(missing, "--"+name)
		}
	}
	if len(missing) > 0 {
		return usagef("see `"+cmd.CommandPath()+" --help`", "%s needs %s", cmd.CommandPath(), strings.Join(missing, " and "))
	}
	return nil
}
