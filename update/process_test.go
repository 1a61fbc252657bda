package update_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/update"
)

// The tests in this file run a real program in real processes: this test binary with a trailer that says which version
// it pretends to be and how it behaves. A system loads an executable whatever follows its image.

type behaviour struct {
	Version  string
	Claims   string // the version it tells; "": Version
	Product  string // "": notes
	Crash    string // "early": before Start; "late": after it
	Hang     bool   // before Start
	Layout   string // how it is installed; "": executable
	Repo     string
	RootFile string
}

// ownProgram is the file that this process was started from: this binary with its trailer, or a script that starts this
// binary and has the trailer.
func ownProgram() (string, error) {
	if script := os.Getenv(scriptVariable); script != "" {
		return filepath.EvalSymlinks(script)
	}
	return os.Executable()
}

const scriptVariable = "FAIRLEAD_TEST_SCRIPT"

// installer is the one of the layout that a program finds itself in, and dir the folder of the whole machine.
func (b behaviour) installer() (i update.Installer, dir string, err error) {
	exe, err := ownProgram()
	if err != nil {
		return nil, "", err
	}
	up := map[string]int{"": 1, "executable": 1, "bundle": 3, "versions": 5}[b.Layout]
	for dir = exe; up > 0; up-- {
		dir = filepath.Dir(dir)
	}
	switch { // neither lies as deep as a version's program
	case b.Layout == "versions" && isFile(filepath.Join(filepath.Dir(exe), "current")): // the launcher, on Windows
		dir = filepath.Dir(filepath.Dir(exe))
	case filepath.Base(exe) == "previous": // started from where it was kept
		dir = filepath.Dir(dir)
	}
	for _, l := range layouts {
		if l.name == b.Layout {
			return l.installer(dir), dir, nil
		}
	}
	return nil, dir, nil
}

func isFile(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular()
}

const trailerMark = "\nfairlead test program "

func TestMain(m *testing.M) {
	if job := os.Getenv(benchVariable); job != "" {
		os.Exit(benchMain(job))
	}
	exe, err := ownProgram()
	if err != nil {
		panic(err)
	}
	if _, trailer, found := bytes.Cut(endOf(exe), []byte(trailerMark)); found {
		var b behaviour
		if err := json.Unmarshal(trailer, &b); err != nil {
			panic(err)
		}
		os.Exit(pretendedMain(b))
	}
	os.Exit(m.Run())
}

// endOf returns the last 4 KiB of a file. Reading all of it would show in what is measured.
func endOf(path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		panic(err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		panic(err)
	}
	end := make([]byte, min(info.Size(), 4096))
	if _, err := f.ReadAt(end, info.Size()-int64(len(end))); err != nil {
		panic(err)
	}
	return end
}

// pretendedMain is a vendor's main: Start first, then its work.
func pretendedMain(b behaviour) int {
	switch {
	case len(os.Args) > 1 && os.Args[1] == "wait": // a helper, which does not call Start
		time.Sleep(time.Minute)
		return 0
	case b.Crash == "early":
		return 3
	case b.Crash == "supervised" && os.Getenv("FAIRLEAD_SUPERVISOR") != "":
		if b.Hang {
			time.Sleep(time.Minute)
		}
		return 3
	case b.Hang && b.Crash == "":
		time.Sleep(time.Minute)
	}
	root, err := os.ReadFile(b.RootFile)
	if err != nil {
		return fail(err)
	}
	installer, dir, err := b.installer()
	if err != nil {
		return fail(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "more")); err == nil {
		b.Repo += "-more"
	}
	up, err := update.NewOn(systemDisk(dir), update.Config{
		Installer: installer, Product: or(b.Product, "notes"), Channel: "stable", Version: or(b.Claims, b.Version), Root: root,
		Source: update.FS(os.DirFS(b.Repo)), Now: func() time.Time { return start.Add(time.Hour) },
		Trial: update.Trial{Probe: 2 * time.Second, Healthy: 200 * time.Millisecond}, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return fail(err)
	}
	if os.Getenv(scriptVariable) != "" { // one of hundreds, see TestKillPoints
		update.Unmanaged(up)
	}
	ctx := noTest
	if strings.HasPrefix(os.Args[min(1, len(os.Args)-1)], "serve") {
		if end := up.Supervise(ctx, update.Supervision{Patience: 1500 * time.Millisecond, Grace: 100 * time.Millisecond}); end != nil {
			return end.Code
		}
	}
	next, err := up.Start(ctx)
	if err != nil {
		return fail(err)
	}
	switch next {
	case update.Exit:
		return 0
	case update.Restart:
		if err := up.Restart(); err != nil {
			return fail(err)
		}
		return 0 // on Windows it returns
	}
	fmt.Println("running", b.Version)
	if b.Crash == "late" {
		if b.Hang {
			time.Sleep(time.Minute)
		}
		return 3
	}
	switch os.Args[1] {
	case "bench-apply", "bench-answer", "bench-start":
		err = benchProgram(up, os.Stdout, os.Args[1:])
	case "serve", "serve-updating":
		err = serve(up, os.Args[1:])
	case "confirm":
		err = up.Confirm(ctx)
	case "undo":
		err = up.Rollback(ctx, "test")
	case "apply":
		var d update.Decision
		if d, err = up.Check(ctx); err == nil && d.Update != nil {
			err = errors.Join(up.Stage(ctx, d.Update, nil), up.Apply(ctx, d.Update))
		}
	case "rollback":
		if err = up.Rollback(ctx, "test"); err == nil {
			os.Args = []string{os.Args[0], "run"}
			err = up.Restart()
		}
	case "update":
		var d update.Decision
		if d, err = up.Check(ctx); err == nil && d.Update != nil {
			err = up.Stage(ctx, d.Update, nil)
			if err == nil {
				err = up.Apply(ctx, d.Update)
			}
			if err == nil {
				os.Args = []string{os.Args[0], "run"}
				err = up.Restart()
			}
		}
	}
	if err != nil {
		return fail(err)
	}
	return 0
}

// serve is what a daemon does until it is told to end.
func serve(up *update.Updater, args []string) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, serveSignals...)
	fmt.Println("serving as", os.Getpid())
	ended := make(chan error, 1)
	if args[0] == "serve-updating" {
		go func() {
			ended <- up.Run(noTest, update.Schedule{Every: 300 * time.Millisecond, Approve: func(_ ctxT, d update.Decision) bool {
				fmt.Println(d)
				return true
			}})
		}()
	}
	switch {
	case len(args) > 2 && args[1] == "exit":
		if args[2] == "signal" {
			killSelf()
		}
		code, _ := strconv.Atoi(args[2])
		os.Exit(code)
	case len(args) > 1 && args[1] == "orphans":
		for range 5 { // grandchildren whose parent ends at once
			_ = exec.Command("sh", "-c", "sh -c 'exit 0' & exit 0").Run()
		}
		time.Sleep(300 * time.Millisecond)
		out, _ := exec.Command("sh", "-c", "grep -l ') Z ' /proc/[0-9]*/stat 2>/dev/null | wc -l").Output()
		fmt.Println("zombies:", strings.TrimSpace(string(out)))
	}
	for {
		select {
		case err := <-ended:
			switch {
			case errors.Is(err, update.ErrApplied) && len(args) > 1 && args[1] == "ends":
				err = nil // and whoever looks after it starts the new version
			case errors.Is(err, update.ErrApplied):
				err = up.Restart()
			}
			return err
		case s := <-signals:
			if s == syscall.SIGTERM {
				fmt.Println("told to end")
				return nil
			}
			fmt.Println("got", s)
		}
	}
}

func fail(err error) int {
	fmt.Println("error:", err)
	return 1
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// build makes the program of one version.
func (v *vendor) build(b behaviour) []byte {
	v.t.Helper()
	b.Repo, b.RootFile = v.dir, filepath.Join(v.dir, "metadata", "1.root.json")
	return v.buildWith(b)
}

func (v *vendor) buildWith(b behaviour) []byte {
	v.t.Helper()
	exe, err := os.Executable()
	require.NoError(v.t, err)
	image, err := os.ReadFile(exe)
	require.NoError(v.t, err)
	trailer, err := json.Marshal(b)
	require.NoError(v.t, err)
	return append(append(image, trailerMark...), trailer...)
}

// install puts the program of that version on a machine of its own.
func (v *vendor) install(version string) string {
	v.t.Helper()
	path := filepath.Join(v.t.TempDir(), "notes"+exeSuffix)
	require.NoError(v.t, os.WriteFile(path, v.build(behaviour{Version: version}), 0o755))
	return path
}

// run runs a program and returns what it printed on standard output, and its exit code.
func run(t *testing.T, program string, args ...string) (string, int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	t.Logf("%s\n%s", strings.TrimSpace(out.String()), strings.TrimSpace(talk.String()))
	return strings.TrimSpace(out.String()), cmd.ProcessState.ExitCode()
}

func TestProcessUpdatesItself(t *testing.T) {
	crashed := 3
	if runtime.GOOS == "windows" {
		crashed = 0 // the exit code is that of the first process; the second one has its output, too
	}
	v := newVendor(t)
	v.release("1.1.0", v.build(behaviour{Version: "1.1.0"}))
	notes := v.install("1.0.0")
	out, code := run(t, notes, "update")
	require.Zero(t, code)
	require.Equal(t, "running 1.0.0\nrunning 1.1.0", out, "one process, two versions")
	out, _ = run(t, notes, "confirm")
	require.Equal(t, "running 1.1.0", out)

	v.release("1.2.0", v.build(behaviour{Version: "1.2.0", Crash: "late"}))
	out, code = run(t, notes, "update")
	require.Equal(t, "running 1.1.0\nrunning 1.2.0", out)
	require.Equal(t, crashed, code)
	for range 2 {
		out, code = run(t, notes, "run")
		require.Equal(t, "running 1.2.0", out)
		require.Equal(t, 3, code)
	}
	out, code = run(t, notes, "run")
	require.Equal(t, "running 1.1.0", out, "back by itself, within the same start")
	require.Zero(t, code)
	out, code = run(t, notes, "update")
	require.Equal(t, "running 1.1.0", out, "it is not tried again")
	require.Zero(t, code)
}

func TestProbe(t *testing.T) {
	for name, c := range map[string]struct {
		b     behaviour
		cause string
	}{
		"crashes":       {behaviour{Version: "1.1.0", Crash: "early"}, "exit status 3"},
		"hangs":         {behaviour{Version: "1.1.0", Hang: true}, "no answer within 2s"},
		"wrong version": {behaviour{Version: "1.1.0", Claims: "1.0.9"}, `it says that it is version "1.0.9"`},
		"wrong product": {behaviour{Version: "1.1.0", Product: "other"}, `it says that it is product "other"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVendor(t)
			v.release("1.1.0", v.build(c.b))
			notes := v.install("1.0.0")
			out, code := run(t, notes, "update")
			require.Equal(t, 1, code)
			require.Contains(t, out, "update: version 1.1.0 failed its probe and is not installed: ")
			require.Contains(t, out, c.cause)
			out, _ = run(t, notes, "run")
			require.Equal(t, "running 1.0.0", out)
		})
	}
	if runtime.GOOS == "windows" { // wine runs anything
		return
	}
	t.Run("not a program", func(t *testing.T) {
		v := newVendor(t)
		v.release("1.1.0", []byte("\x7fELF but not really"))
		out, _ := run(t, v.install("1.0.0"), "update")
		require.Contains(t, out, "failed its probe and is not installed")
		require.Contains(t, out, "exec format error")
	})
	t.Run("does not know the handshake", func(t *testing.T) {
		v := newVendor(t)
		v.release("1.1.0", []byte("#!/bin/sh\necho hello\n"))
		out, _ := run(t, v.install("1.0.0"), "update")
		require.Contains(t, out, "it ended without an answer: does its main call Updater.Start first")
	})
}

// Several processes of one installation update at once: they take turns, and the program is whole at every moment.
func TestProcessesTakeTurns(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", v.build(behaviour{Version: "1.1.0"}))
	notes := v.install("1.0.0")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			out, _ := exec.CommandContext(t.Context(), notes, "update").Output()
			t.Log(string(out))
			if !strings.HasPrefix(string(out), "running 1.") {
				t.Errorf("a process did not run: %q", out)
			}
		})
	}
	wg.Wait()
	out, _ := run(t, notes, "confirm")
	require.Equal(t, "running 1.1.0", out)
}

// Killed at random moments of an update, the program is always there and whole, and an update in the end succeeds.
func TestKilledAtAnyTime(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("see TestKilledAtAnyTimeOnWindows")
	}
	v := newVendor(t)
	v.release("1.1.0", v.build(behaviour{Version: "1.1.0"}))
	notes := v.install("1.0.0")
	step := 6 * time.Millisecond
	if testing.Short() {
		step = 30 * time.Millisecond
	}
	for delay := time.Duration(0); delay < 240*time.Millisecond; delay += step {
		cmd := exec.CommandContext(t.Context(), notes, "update")
		require.NoError(t, cmd.Start())
		time.Sleep(delay)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		out, code := run(t, notes, "confirm")
		require.Zero(t, code)
		require.Contains(t, []string{"running 1.0.0", "running 1.1.0"}, out)
		if out == "running 1.1.0" {
			_, code = run(t, notes, "rollback")
			require.Zero(t, code)
			require.NoError(t, os.RemoveAll(filepath.Join(filepath.Dir(notes), "."+filepath.Base(notes)+".fairlead"))) // forget the quarantine
		}
	}
}

func TestRunInstallsAndConfirms(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	m := newMachine(t, v, "1.0.0", func(c *update.Config) { c.Trial.Healthy = 10 * time.Millisecond })
	u := m.start()
	var steps []update.Step
	err := u.Run(t.Context(), update.Schedule{Every: 10 * time.Millisecond, Progress: func(p update.Progress) { steps = append(steps, p.Step) }})
	require.ErrorIs(t, err, update.ErrApplied)
	require.Equal(t, "1.1.0", m.version())
	require.Equal(t, []update.Step{update.Downloading, update.Unpacking}, steps)

	u = m.start()
	var decisions []update.Outcome
	stop := errors.New("enough")
	ctx, cancel := withCause(t)
	err = u.Run(ctx, update.Schedule{Every: 10 * time.Millisecond, Approve: func(_ ctxT, d update.Decision) bool {
		if decisions = append(decisions, d.Outcome); len(decisions) == 2 {
			v.now = v.now.Add(time.Minute)
			v.release("1.2.0", program("1.2.0"))
		}
		if len(decisions) == 5 {
			cancel(stop)
		}
		return false
	}})
	require.ErrorIs(t, err, stop)
	require.Equal(t, []update.Outcome{update.UpToDate, update.UpToDate, update.Available, update.Available, update.Available}, decisions)
	require.Contains(t, m.events, "update.confirmed ", "it ran long enough")
	require.Equal(t, "1.1.0", m.version(), "not approved")
}

func TestRunPausesAndRetries(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	m := newMachine(t, v, "1.0.0")
	u := m.start()
	asked := 0
	ctx, cancel := withCause(t)
	err := u.Run(ctx, update.Schedule{Every: time.Millisecond, Paused: func() bool {
		if asked++; asked == 5 {
			cancel(errors.New("enough"))
		}
		return true
	}})
	require.ErrorContains(t, err, "enough")
	require.Empty(t, m.events, "paused: nothing is done")

	m.now = start.Add(30 * 24 * time.Hour) // expired
	failures := 0
	err = u.Run(t.Context(), update.Schedule{Every: time.Millisecond, Approve: func(_ ctxT, d update.Decision) bool {
		if d.Outcome == update.Stale {
			if failures++; failures == 3 {
				m.now = start.Add(time.Hour)
			}
		}
		return true
	}})
	require.ErrorIs(t, err, update.ErrApplied)
	require.Equal(t, 3, failures)
}
