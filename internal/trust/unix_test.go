//go:build unix

package trust

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A pipe in the place of a file must not be waited for.
func TestPipeInTheStoreIsNotOpened(t *testing.T) {
	_, _, names := damagedStore(t)
	for i := range names {
		r, dir, names := damagedStore(t)
		file := filepath.Join(dir, names[i])
		require.NoError(t, os.Remove(file))
		require.NoError(t, syscall.Mkfifo(file, 0o600))
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, err := r.client(dir, nil).Refresh(t.Context())
			if err != nil {
				t.Error(err)
			}
		}()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatal(names[i], "is waited for")
		}
		requireHealed(t, r, dir)
	}
}

// TestUnreadableStore runs itself again without privileges, as root reads everything.
func TestUnreadableStore(t *testing.T) {
	if os.Getenv("FAIRLEAD_TEST_UNPRIVILEGED") == "" {
		exe, err := os.Executable()
		require.NoError(t, err)
		cmd := exec.Command(exe, "-test.run=^TestUnreadableStore$", "-test.v")
		tmp, err := os.MkdirTemp("/tmp", "fairlead-trust-")
		require.NoError(t, err)
		t.Cleanup(func() { _ = os.RemoveAll(tmp) })
		cmd.Dir = tmp
		cmd.Env = append(os.Environ(), "FAIRLEAD_TEST_UNPRIVILEGED=1", "TMPDIR="+tmp)
		if os.Geteuid() == 0 {
			// The binary is in a folder that only root may enter.
			copied := filepath.Join(tmp, "test")
			data, err := os.ReadFile(exe)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(copied, data, 0o755))
			require.NoError(t, os.Chmod(copied, 0o755))
			require.NoError(t, os.Chown(tmp, 65534, 65534))
			cmd.Path = copied
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		require.Contains(t, string(out), "unreadable files healed")
		return
	}
	_, _, names := damagedStore(t)
	for i := range names {
		r, dir, names := damagedStore(t)
		require.NoError(t, os.Chmod(filepath.Join(dir, names[i]), 0))
		_, err := os.ReadFile(filepath.Join(dir, names[i]))
		require.ErrorIs(t, err, fs.ErrPermission, "the test is worth nothing with privileges")
		requireHealed(t, r, dir)
	}
	t.Log("unreadable files healed")

	r, dir, _ := damagedStore(t)
	require.NoError(t, os.Chmod(dir, 0o500))
	t.Cleanup(func() { _ = os.Chmod(dir, 0o700) })
	r.publish("notes.stable")
	_, err := r.refresh(dir, nil)
	var bad *StoreError
	require.True(t, errors.As(err, &bad), "%v", err)
	require.ErrorIs(t, err, fs.ErrPermission)
}
