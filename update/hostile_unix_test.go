//go:build unix

package update_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/update"
)

// The folder decides what runs, so it must be nobody else's.
func TestFolderOfSomebodyElse(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	for name, spoil := range map[string]func(dir string) error{
		"writable by others": func(dir string) error { return errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o777)) },
		"a link":             func(dir string) error { return os.Symlink(t.TempDir(), dir) },
		"another's": func(dir string) error {
			if os.Getuid() != 0 {
				return errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o770))
			}
			return errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, 65534, 65534))
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, v, "1.0.0")
			u := m.start()
			require.NoError(t, spoil(update.Dir(u)))
			writeJournal(t, u, "1", map[string]any{
				"phase": "reverting", "from": map[string]string{"version": "6.6.6", "digest": digest(program("6.6.6"))},
				"to": map[string]string{"version": "1.0.0", "digest": digest(program("1.0.0"))},
			})
			require.NoError(t, os.WriteFile(filepath.Join(update.Dir(u), "previous"), program("6.6.6"), 0o755))
			_, err := u.Start(t.Context())
			var state *update.StateError
			require.ErrorAs(t, err, &state)
			require.Equal(t, "1.0.0", m.version())
		})
	}
}

// A disk that is full is found out before, or else not left full.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to mount a small file system")
	}
	v := newVendor(t)
	v.release("1.1.0", append(bytes.Repeat([]byte("0123456789abcdef"), 1<<18), program("1.1.0")...)) // 4 MiB
	small := mountSmall(t, "16m")
	m := newMachine(t, v, "1.0.0")
	m.program = filepath.Join(small, "notes")
	require.NoError(t, os.WriteFile(m.program, program("1.0.0"), 0o755))
	u := m.start()
	d := check(t, u)
	require.Nil(t, d.Obstacle)
	fill := func() string {
		path := filepath.Join(small, "of the user")
		f, err := os.Create(path)
		require.NoError(t, err)
		_, err = f.Write(make([]byte, 16<<20))
		require.ErrorIs(t, err, syscall.ENOSPC)
		require.NoError(t, f.Close())
		return path
	}
	var once sync.Once
	err := u.Stage(t.Context(), d.Update, func(update.Progress) { once.Do(func() { fill() }) })
	require.ErrorIs(t, err, syscall.ENOSPC)
	var state *update.StateError
	require.ErrorAs(t, err, &state)
	left, err := filepath.Glob(filepath.Join(update.Dir(u), "staging", "*"))
	require.NoError(t, err)
	require.Empty(t, left)

	user := fill()
	d = check(t, u)
	require.Equal(t, update.Available, d.Outcome)
	require.Equal(t, update.NoSpace, d.Obstacle.Obstacle)
	require.Contains(t, d.String(), "cannot be installed now")
	var full *update.PreflightError
	require.ErrorAs(t, u.Stage(t.Context(), d.Update, nil), &full)
	require.Greater(t, full.Need, full.Free)

	// While the disk is full, starts of a version on trial are counted, and it goes back.
	require.NoError(t, os.Remove(user))
	m.updateTo(u, "1.1.0")
	fill()
	for range 3 {
		die(m, m.start())
		require.Contains(t, m.version(), "1.1.0")
	}
	m.start()
	require.Equal(t, "1.0.0", m.version())
}

// A program installed by root and run by somebody else leaves the installation alone.
func TestAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to become another user")
	}
	v := newVendor(t)
	v.release("1.1.0", v.build(behaviour{Version: "1.1.0"}))
	notes := v.install("1.0.0")
	_, code := run(t, notes, "update")
	require.Zero(t, code)
	for dir := filepath.Dir(notes); dir != os.TempDir() && len(dir) > 1; dir = filepath.Dir(dir) {
		require.NoError(t, os.Chmod(dir, 0o755))
	}
	for _, dir := range []string{v.dir, filepath.Dir(v.dir)} {
		require.NoError(t, os.Chmod(dir, 0o755))
	}
	var nobody bytes.Buffer
	cmd := exec.CommandContext(t.Context(), notes, "update")
	cmd.Stdout, cmd.Stderr = &nobody, &nobody
	becomeNobody(cmd)
	_ = cmd.Run()
	require.Contains(t, nobody.String(), "running 1.1.0")
	require.Contains(t, nobody.String(), "permission denied")
	out, _ := run(t, notes, "confirm")
	require.Equal(t, "running 1.1.0", out)
}

func becomeNobody(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
}

// mountSmall mounts a file system of a size such as 16m.
func mountSmall(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("cannot mount: %s", out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", dir).Run() })
	return dir
}
