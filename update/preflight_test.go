//go:build linux

package update_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/internal/disk"
	"github.com/fairlead-dev/fairlead/update"
)

func mount(t *testing.T, args ...string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root to mount")
	}
	if out, err := exec.CommandContext(t.Context(), "mount", args...).CombinedOutput(); err != nil {
		t.Skipf("cannot mount: %s", out)
	}
	dir := args[len(args)-1]
	t.Cleanup(func() { _ = exec.Command("umount", "-l", dir).Run() })
}

// obstacle checks that an update is found, and that the obstacle is known before anything is downloaded.
func obstacle(t *testing.T, m *machine, want update.Obstacle, outcome update.Outcome) *update.PreflightError {
	t.Helper()
	u := m.process()
	d := check(t, u)
	require.Equal(t, outcome, d.Outcome, d.String())
	require.NotNil(t, d.Obstacle)
	require.Equal(t, want, d.Obstacle.Obstacle, d.String())
	for name, err := range map[string]error{"preflight": u.Preflight(t.Context(), d.Update), "stage": u.Stage(t.Context(), d.Update, nil)} {
		var refused *update.PreflightError
		require.ErrorAs(t, err, &refused, name)
		require.Equal(t, want, refused.Obstacle)
	}
	parts, err := filepath.Glob(filepath.Join(update.Dir(u), "staging", "*"))
	require.NoError(t, err)
	require.Empty(t, parts, "nothing was downloaded")
	return d.Obstacle
}

func TestPreflight(t *testing.T) {
	v := newVendor(t)
	for _, l := range layouts {
		v.t = t
		if l.name == "executable" {
			for _, version := range []string{"1.0.0", "1.1.0"} {
				l.publish(v, version)
			}
		}
	}
	t.Run("another volume", func(t *testing.T) {
		other := filepath.Join(t.TempDir(), "other")
		require.NoError(t, os.Mkdir(other, 0o700))
		mount(t, "-t", "tmpfs", "-o", "mode=700", "tmpfs", other)
		m := newMachine(t, v, "1.0.0", func(c *update.Config) { c.Dir = other })
		require.ErrorContains(t, obstacle(t, m, update.OtherVolume, update.Managed), "set Config.Dir to a folder on that one")
	})
	t.Run("another volume, that only rename knows", func(t *testing.T) { // a bind mount: the same device number
		base := t.TempDir()
		other := filepath.Join(base, "other")
		require.NoError(t, errors.Join(os.Mkdir(filepath.Join(base, "real"), 0o700), os.Mkdir(other, 0o700)))
		mount(t, "--bind", filepath.Join(base, "real"), other)
		m := newMachine(t, v, "1.0.0", func(c *update.Config) { c.Dir = other })
		_ = obstacle(t, m, update.OtherVolume, update.Managed)
	})
	t.Run("read-only", func(t *testing.T) {
		m := newMachine(t, v, "1.0.0", func(c *update.Config) { c.Dir = t.TempDir() })
		mount(t, "--bind", m.dir, m.dir)
		mount(t, "-o", "remount,ro,bind", m.dir)
		e := obstacle(t, m, update.ManagedElsewhere, update.Managed)
		require.Equal(t, "a read-only file system", e.By)
	})
	t.Run("another user's program in a folder that all may write to", func(t *testing.T) {
		if os.Getuid() != 0 {
			t.Skip("needs root to become another user")
		}
		vendor := newVendor(t)
		vendor.release("1.1.0", vendor.build(behaviour{Version: "1.1.0"}))
		notes := vendor.install("1.0.0")
		for dir := filepath.Dir(notes); dir != os.TempDir() && len(dir) > 1; dir = filepath.Dir(dir) {
			require.NoError(t, os.Chmod(dir, 0o755))
		}
		require.NoError(t, os.Chmod(filepath.Dir(notes), 0o777))
		for _, dir := range []string{vendor.dir, filepath.Dir(vendor.dir)} {
			require.NoError(t, os.Chmod(dir, 0o755))
		}
		var out bytes.Buffer
		cmd := exec.CommandContext(t.Context(), notes, "update")
		cmd.Stdout, cmd.Stderr = &out, &out
		becomeNobody(cmd)
		require.Error(t, cmd.Run())
		require.Contains(t, out.String(), "belongs to root: update it as that user")
		text, _ := run(t, notes, "run")
		require.Equal(t, "running 1.0.0", text)
	})
}

// noExchange is a file system that cannot exchange two folders.
type noExchange struct{ disk.FS }

func (n noExchange) Exchange(_, _ string) error { return errors.ErrUnsupported }

// gap is one where in addition the second rename of two fails, or the process dies before it.
type gap struct {
	noExchange
	to  string
	err error
}

func (g gap) Rename(from, to string) error {
	if to == g.to && !strings.Contains(from, "previous") {
		if g.err == nil {
			panic(errDied)
		}
		return g.err
	}
	return g.FS.Rename(from, to)
}

func TestBundleWithoutExchange(t *testing.T) {
	l := layouts[2]
	v := newVendor(t)
	for _, version := range []string{"1.0.0", "1.1.0"} {
		l.publish(v, version)
	}
	unsafeGap := func(c *update.Config) {
		b := c.Installer.(update.Bundle)
		b.UnsafeGap = true
		c.Installer = b
	}
	on := func(m *machine, fsys disk.FS) *update.Updater {
		u, err := update.NewOn(fsys, m.config("1.0.0"))
		require.NoError(t, err)
		return u
	}
	m := l.install(t, v, "1.0.0")
	u := on(m, noExchange{disk.OS})
	d := check(t, u)
	require.Equal(t, update.Managed, d.Outcome)
	require.Equal(t, update.NoExchange, d.Obstacle.Obstacle)
	var refused *update.PreflightError
	require.ErrorAs(t, u.Stage(t.Context(), d.Update, nil), &refused)

	m = l.install(t, v, "1.0.0", unsafeGap)
	u = on(m, noExchange{disk.OS})
	d = check(t, u)
	require.Equal(t, update.Available, d.Outcome)
	require.NoError(t, u.Stage(t.Context(), d.Update, nil))
	place := strings.TrimSuffix(m.program, "/"+programPath)
	full := syscall.ENOSPC
	require.ErrorIs(t, on(m, gap{noExchange{disk.OS}, place, full}).Apply(t.Context(), d.Update), full)
	require.Equal(t, "1.0.0", m.version(), "the first rename is undone")
	m.whole(l)

	mustDie(t, func() { _ = on(m, gap{noExchange{disk.OS}, place, nil}).Apply(t.Context(), d.Update) })
	require.NoFileExists(t, m.program, "this is the gap")
	_, err := on(m, noExchange{disk.OS}).Start(t.Context())
	require.NoError(t, err)
	require.Equal(t, "1.0.0", m.version(), "whoever calls Start puts it back")
	m.whole(l)

	require.NoError(t, on(m, noExchange{disk.OS}).Apply(t.Context(), d.Update))
	require.Equal(t, "1.1.0", m.version())
	m.whole(l)
	for range 3 {
		die(m, m.start())
	}
	m.start()
	require.Equal(t, "1.0.0", m.version())
	m.whole(l)
}
