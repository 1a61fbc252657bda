package update_test

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/windows/registry"

	"github.com/fairlead-dev/fairlead/update"
)

// These tests show what is different on Windows, with real programs in real processes.

// installProgram installs a real program. What is started is the launcher: with versions, a copy of the program beside
// their folder.
func (l layout) installProgram(t *testing.T, v *vendor, version string) (m *machine, launcher string) {
	t.Helper()
	m = &machine{t: t, vendor: v, dir: tempDir(t)}
	m.program = filepath.Join(m.dir, l.program)
	program := v.build(behaviour{Version: version, Layout: l.name})
	launcher, place := m.program, m.program
	if l.place != nil {
		launcher, place = filepath.Join(m.dir, "notes", "notes.exe"), filepath.Join(l.place(m.dir, version), programPath)
		require.NoError(t, os.MkdirAll(filepath.Dir(place), 0o755))
		require.NoError(t, os.WriteFile(launcher, program, 0o755))
		require.NoError(t, pointTo(filepath.Join(m.dir, "notes"), version))
	}
	require.NoError(t, os.WriteFile(place, program, 0o755))
	return m, launcher
}

// tempDir is t.TempDir for programs that may be running for a moment longer than the test.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fairlead-test-")
	require.NoError(t, err)
	t.Cleanup(func() {
		for range 20 {
			if err = os.RemoveAll(dir); err == nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Log(err)
	})
	return dir
}

// home is the updater's folder of a layout.
func (l layout) home(m *machine) string {
	if l.place == nil {
		return filepath.Join(m.dir, ".notes.exe.fairlead")
	}
	return filepath.Join(m.dir, "notes", ".fairlead")
}

// runKept runs a program whose name does not end in .exe: package exec does not start those, though Windows does.
func runKept(t *testing.T, program string, args ...string) (string, int) {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	p, err := os.StartProcess(program, append([]string{program}, args...), &os.ProcAttr{Files: []*os.File{nil, w, os.Stderr}})
	require.NoError(t, errors.Join(err, w.Close()))
	out, err := io.ReadAll(r)
	require.NoError(t, err)
	state, err := p.Wait()
	require.NoError(t, errors.Join(err, r.Close()))
	return strings.TrimSpace(string(out)), state.ExitCode()
}

// Killed at random moments of an update, Versions names a whole version at every moment. With Executable there may be
// none; then it is started from where the old one was kept, and puts itself back.
func TestKilledAtAnyTimeOnWindows(t *testing.T) {
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			v := newVendor(t)
			l.releaseProgram(v, behaviour{Version: "1.1.0"})
			m, _ := l.installProgram(t, v, "1.0.0")
			steps, gaps, updated := 30, 0, 0
			if testing.Short() {
				steps = 6
			}
			began := time.Now()
			_, code := run(t, m.inPlace(), "apply")
			require.Zero(t, code)
			span := time.Since(began)
			goBack := func() {
				_, code := run(t, m.inPlace(), "undo")
				require.Zero(t, code)
				_, code = run(t, m.inPlace(), "run") // which ends what there is to be ended
				require.Zero(t, code)
				require.NoError(t, os.Remove(filepath.Join(l.home(m), "journal"))) // forget the quarantine
			}
			goBack()
			for i := range steps {
				cmd := exec.CommandContext(t.Context(), m.inPlace(), "apply")
				require.NoError(t, cmd.Start())
				time.Sleep(span * time.Duration(i) / time.Duration(steps))
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
				if !isFile(m.inPlace()) {
					require.Equal(t, "executable", l.name, "there must be a program")
					_, code := runKept(t, filepath.Join(l.home(m), "previous"), "run")
					require.Zero(t, code)
					gaps++
				}
				out, code := run(t, m.inPlace(), "confirm")
				require.Zero(t, code)
				require.Contains(t, []string{"running 1.0.0", "running 1.1.0"}, out)
				if out == "running 1.1.0" {
					updated++
					goBack()
				}
			}
			t.Logf("killed %d times: the new version was in place %d times, none %d times", steps, updated, gaps)
		})
	}
}

// The gap of Executable: the machine goes down between the two renames.
func TestGapOfExecutable(t *testing.T) {
	l := layouts[0]
	install := func(t *testing.T) (m *machine, previous string) {
		v := newVendor(t)
		l.releaseProgram(v, behaviour{Version: "1.1.0"})
		m, _ = l.installProgram(t, v, "1.0.0")
		return m, filepath.Join(l.home(m), "previous")
	}
	t.Run("started from where it was kept", func(t *testing.T) {
		m, previous := install(t)
		cmd := exec.CommandContext(t.Context(), m.program, "apply")
		cmd.Env = append(os.Environ(), gapVariable+"=1")
		require.Error(t, cmd.Run())
		require.Equal(t, 9, cmd.ProcessState.ExitCode())
		require.NoFileExists(t, m.program, "this is the gap")
		require.FileExists(t, previous)

		out, code := runKept(t, previous, "run")
		require.Zero(t, code)
		require.Equal(t, "running 1.0.0", out)
		require.FileExists(t, m.program, "it has put itself back")
		require.NoFileExists(t, previous)
		_, code = run(t, m.program, "apply")
		require.Zero(t, code)
		out, _ = run(t, m.program, "confirm")
		require.Equal(t, "running 1.1.0", out)
	})
	t.Run("renamed by hand", func(t *testing.T) {
		m, previous := install(t)
		cmd := exec.CommandContext(t.Context(), m.program, "apply")
		cmd.Env = append(os.Environ(), gapVariable+"=1")
		require.Error(t, cmd.Run())
		require.NoError(t, os.Rename(previous, m.program))
		for _, job := range []string{"run", "apply", "confirm"} {
			_, code := run(t, m.program, job)
			require.Zero(t, code)
		}
		out, _ := run(t, m.program, "run")
		require.Equal(t, "running 1.1.0", out)
	})
	t.Run("supervised", func(t *testing.T) {
		m, _ := install(t)
		t.Setenv(gapVariable, "1")
		d := startDaemon(t, m.program, "serve-updating")
		d.expect("nothing is in place; putting back what was kept", 1)
		d.expect("running 1.1.0", 1)
		require.FileExists(t, filepath.Join(m.dir, "gap"))
	})
}

// A version that still runs when nobody needs it any more is left, and removed by a later start. No start waits for it.
func TestOldVersionStillRuns(t *testing.T) {
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			v := newVendor(t)
			l.releaseProgram(v, behaviour{Version: "1.1.0"})
			m, _ := l.installProgram(t, v, "1.0.0")
			old := exec.CommandContext(t.Context(), m.inPlace(), "wait") // it calls neither Start nor anything else
			require.NoError(t, old.Start())
			t.Cleanup(func() { _ = old.Process.Kill(); _ = old.Wait() })
			leftovers := func() (found []string) {
				for _, pattern := range []string{filepath.Join(l.home(m), "gone-*"), filepath.Join(m.dir, "notes", "versions", "*", "bin")} {
					names, err := filepath.Glob(pattern)
					require.NoError(t, err)
					found = append(found, names...)
				}
				return found
			}
			var few int
			for _, version := range []string{"1.2.0", "1.3.0"} {
				_, code := run(t, m.inPlace(), "apply")
				require.Zero(t, code)
				_, code = run(t, m.inPlace(), "confirm")
				require.Zero(t, code)
				few = len(leftovers())
				l.releaseProgram(v, behaviour{Version: version})
			}
			_, code := run(t, m.inPlace(), "apply")
			require.Zero(t, code)
			began := time.Now()
			_, code = run(t, m.inPlace(), "confirm")
			require.Zero(t, code)
			require.Less(t, time.Since(began), 8*time.Second, "no start waits for it")
			require.NoError(t, old.Process.Signal(os.Kill), "it is still there")
			_ = old.Wait()
			out, code := run(t, m.inPlace(), "run")
			require.Zero(t, code)
			require.Equal(t, "running 1.3.0", out)
			after := leftovers()
			require.LessOrEqual(t, len(after), 2, "%v; after the first update: %d", after, few)
			if l.place == nil {
				require.Empty(t, after)
			}
		})
	}
}

// What was in use for more than a day is left to the next start of the machine.
func TestRemovedAtReboot(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	m := newMachine(t, v, "1.0.0")
	m.updateTo(m.start(), "1.1.0")
	u := m.start()
	dir := update.Dir(u)
	image := v.build(behaviour{Hang: true})
	runs := func(name string, age time.Duration) {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, image, 0o755))
		require.NoError(t, os.Chtimes(path, m.now.Add(-age), m.now.Add(-age)))
		p, err := os.StartProcess(path, []string{path}, &os.ProcAttr{Files: make([]*os.File, 3)})
		require.NoError(t, err)
		t.Cleanup(func() { _ = p.Kill(); _, _ = p.Wait() })
	}
	runs("gone-young", 23*time.Hour)
	runs("gone-old", 25*time.Hour)
	runs("gone-older", 26*time.Hour)
	began := time.Now()
	m.start()
	m.start()
	require.Less(t, time.Since(began), 5*time.Second)
	require.FileExists(t, filepath.Join(dir, "gone-young"))
	require.FileExists(t, filepath.Join(dir, "gone-at-reboot"))
	left, err := filepath.Glob(filepath.Join(dir, "gone-old*"))
	require.NoError(t, err)
	require.Len(t, left, 1, "one at a time: there is one such name")

	key, err := registry.OpenKey(registry.LOCAL_MACHINE, `System\CurrentControlSet\Control\Session Manager`, registry.QUERY_VALUE)
	require.NoError(t, err)
	defer func() { _ = key.Close() }()
	scheduled, _, err := key.GetStringsValue("PendingFileRenameOperations")
	require.NoError(t, err)
	require.Contains(t, strings.ToLower(strings.Join(scheduled, "\n")), strings.ToLower(filepath.Join(dir, "gone-at-reboot")))
}
