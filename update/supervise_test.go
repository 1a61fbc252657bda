//go:build unix

package update_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A daemon is a supervised program in real processes.
type daemon struct {
	t    *testing.T
	cmd  *exec.Cmd
	mu   sync.Mutex
	out  bytes.Buffer
	done chan struct{}
}

func (d *daemon) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.out.Write(p)
}

func (d *daemon) output() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.out.String()
}

func startDaemon(t *testing.T, argv ...string) *daemon {
	t.Helper()
	d := &daemon{t: t, cmd: exec.CommandContext(t.Context(), argv[0], argv[1:]...), done: make(chan struct{})}
	d.cmd.Stdout, d.cmd.Stderr = d, d
	d.cmd.WaitDelay = time.Second
	d.cmd.Cancel = func() error { return d.cmd.Process.Signal(syscall.SIGTERM) }
	require.NoError(t, d.cmd.Start())
	go func() {
		defer close(d.done)
		_ = d.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = d.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-d.done:
		case <-time.After(5 * time.Second):
			_ = d.cmd.Process.Kill()
			<-d.done
		}
		out := d.output()
		t.Log(out[max(0, len(out)-4000):])
	})
	return d
}

// expect waits until the daemon and its program have printed something n times.
func (d *daemon) expect(text string, n int) {
	d.t.Helper()
	require.Eventually(d.t, func() bool { return strings.Count(d.output(), text) >= n }, 30*time.Second, 10*time.Millisecond, "%q %d times", text, n)
}

func (d *daemon) exit() int {
	d.t.Helper()
	select {
	case <-d.done:
	case <-time.After(20 * time.Second):
		d.t.Fatal("it does not end:\n" + d.output())
	}
	return d.cmd.ProcessState.ExitCode()
}

// child is the process id that the program printed last.
func (d *daemon) child() int {
	d.t.Helper()
	lines := strings.Split(d.output(), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if s, found := strings.CutPrefix(lines[i], "serving as "); found {
			pid, err := strconv.Atoi(s)
			require.NoError(d.t, err)
			return pid
		}
	}
	d.t.Fatal("it does not serve")
	return 0
}

// bad versions and what is wrong with them. The probe does not show it.
var badVersions = map[string]behaviour{
	"dies at work":       {Crash: "late"},
	"dies before Start":  {Crash: "supervised"},
	"hangs before Start": {Hang: true, Crash: "supervised"},
	"hangs at work":      {Hang: true, Crash: "late"},
}

func TestSuperviseGoesBack(t *testing.T) {
	for name, bad := range badVersions {
		for _, l := range layouts[:2] {
			t.Run(name+"/"+l.name, func(t *testing.T) {
				t.Parallel()
				v := newVendor(t)
				bad.Version, bad.Layout = "1.1.0", l.name
				m := l.installPrograms(t, v, "1.0.0", bad)
				d := startDaemon(t, m.program, "serve-updating")
				d.expect("running 1.0.0", 1)
				d.expect("rolled back", 1)
				d.expect("running 1.0.0", 2)
				require.Equal(t, 3, strings.Count(d.output(), "supervise: starting again")-strings.Count(d.output(), "code=0"), "three starts")
				d.expect("quarantined", 1)
				require.NoError(t, d.cmd.Process.Signal(syscall.SIGTERM))
				require.Equal(t, 0, d.exit(), "the program ends in order")
			})
		}
	}
}

// installPrograms installs real programs of a layout, and publishes the next one.
func (l layout) installPrograms(t *testing.T, v *vendor, version string, next behaviour) *machine {
	t.Helper()
	dir := t.TempDir()
	build := func(b behaviour) []byte { return v.build(b) }
	program := filepath.Join(dir, l.program)
	if l.place != nil {
		program = filepath.Join(l.place(dir, version), programPath)
	}
	require.NoError(t, os.MkdirAll(filepath.Dir(program), 0o755))
	require.NoError(t, os.WriteFile(program, build(behaviour{Version: version, Layout: l.name}), 0o755))
	if l.name == "versions" {
		require.NoError(t, pointTo(filepath.Join(dir, "notes"), version))
	}
	b := &killBench{t: t, layout: l}
	b.release(v, func(string) []byte { return build(next) }, next.Version)
	return &machine{t: t, vendor: v, dir: dir, program: filepath.Join(dir, l.program), now: v.now}
}

func TestSuperviseUpdates(t *testing.T) {
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			v := newVendor(t)
			m := l.installPrograms(t, v, "1.0.0", behaviour{Version: "1.1.0", Layout: l.name})
			d := startDaemon(t, m.program, "serve-updating")
			d.expect("running 1.1.0", 1)
			d.expect("confirmed", 1)
			require.NotContains(t, d.output(), "starting again", "the program has replaced itself")
			pid := d.child()
			require.NoError(t, d.cmd.Process.Signal(syscall.SIGUSR1))
			d.expect("got user defined signal 1", 1)
			require.NoError(t, d.cmd.Process.Signal(syscall.SIGTERM))
			require.Equal(t, 0, d.exit())
			require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH, "the program has ended")
		})
	}
}

// The end of a program that is not on trial is passed on as it is.
func TestSupervisePassesTheEnd(t *testing.T) {
	v := newVendor(t)
	notes := v.install("1.0.0")
	for job, want := range map[string]int{"exit 0": 0, "exit 7": 7, "exit signal": 128 + 9} {
		t.Run(job, func(t *testing.T) {
			d := startDaemon(t, append([]string{notes, "serve"}, strings.Fields(job)...)...)
			require.Equal(t, want, d.exit())
			require.NotContains(t, d.output(), "starting again")
		})
	}
}

// When the supervisor is killed, its program is not left alone.
func TestSupervisorKilled(t *testing.T) {
	v := newVendor(t)
	d := startDaemon(t, v.install("1.0.0"), "serve")
	d.expect("serving as", 1)
	pid := d.child()
	require.NoError(t, d.cmd.Process.Kill())
	require.Eventually(t, func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || isZombie(pid) }, 10*time.Second, 10*time.Millisecond)
}

func isZombie(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(data), ") Z ")
}

// As process 1 of a container it passes signals, and reaps what others leave.
func TestSuperviseAsInit(t *testing.T) {
	if out, err := exec.CommandContext(t.Context(), "unshare", "--pid", "--fork", "--mount-proc", "true").CombinedOutput(); err != nil {
		t.Skipf("no namespaces here: %s", out)
	}
	v := newVendor(t)
	notes := v.install("1.0.0")
	d := startDaemon(t, "unshare", "--pid", "--fork", "--mount-proc", "--kill-child", notes, "serve", "orphans")
	d.expect("serving as", 1)
	d.expect("zombies: 0", 1)
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", d.cmd.Process.Pid, d.cmd.Process.Pid))
	require.NoError(t, err)
	init, err := strconv.Atoi(strings.TrimSpace(string(children)))
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(init, syscall.SIGTERM))
	require.Equal(t, 0, d.exit())
	require.Contains(t, d.output(), "told to end")
}
