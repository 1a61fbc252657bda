//go:build unix

package update_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

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

// A program need not call Restart: when it ends after an update, its supervisor starts the new version, which may hang.
func TestSuperviseStartsWhatHangs(t *testing.T) {
	v := newVendor(t)
	m := layouts[0].installPrograms(t, v, "1.0.0", behaviour{Version: "1.1.0", Layout: "executable", Hang: true, Crash: "supervised"})
	d := startDaemon(t, m.program, "serve-updating", "ends")
	d.expect("rolled back", 1)
	d.expect("running 1.0.0", 2)
	d.expect("quarantined", 1)
}

// installPrograms installs real programs of a layout, and publishes the next one.
func (l layout) installPrograms(t *testing.T, v *vendor, version string, next behaviour) *machine {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, l.program)
	if l.place != nil {
		program = filepath.Join(l.place(dir, version), programPath)
	}
	require.NoError(t, os.MkdirAll(filepath.Dir(program), 0o755))
	require.NoError(t, os.WriteFile(program, v.build(behaviour{Version: version, Layout: l.name}), 0o755))
	if l.name == "versions" {
		require.NoError(t, pointTo(filepath.Join(dir, "notes"), version))
	}
	l.releaseProgram(v, next)
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
