package disk_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/windows"

	"github.com/fairlead-dev/fairlead/internal/disk"
)

// These tests show what Windows does that this package and the updater rely on.

// hold opens a file as most programs do: others may read and write it, but not replace it.
func hold(t *testing.T, path string) (release func()) {
	t.Helper()
	name, err := windows.UTF16PtrFromString(path)
	require.NoError(t, err)
	h, err := windows.CreateFile(name, windows.GENERIC_READ, windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE, nil, windows.OPEN_EXISTING, 0, 0)
	require.NoError(t, err)
	return func() { _ = windows.CloseHandle(h) }
}

func requireHeld(t *testing.T, err error) {
	t.Helper()
	if err != windows.ERROR_ACCESS_DENIED {
		require.ErrorIs(t, err, windows.ERROR_SHARING_VIOLATION)
	}
}

func TestWriteOutlastsAReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	require.NoError(t, disk.Write(disk.OS, path, []byte("old"), 0o600))
	release := hold(t, path)
	other := filepath.Join(t.TempDir(), "other")
	require.NoError(t, os.WriteFile(other, nil, 0o600))
	requireHeld(t, cause(os.Rename(other, path)))

	time.AfterFunc(300*time.Millisecond, release)
	require.NoError(t, disk.Write(disk.OS, path, []byte("new"), 0o600))
	holds(t, path, "new")
}

func TestWriteGivesUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	require.NoError(t, disk.Write(disk.OS, path, []byte("old"), 0o600))
	release := hold(t, path)
	began := time.Now()
	requireHeld(t, cause(disk.Write(disk.OS, path, []byte("new"), 0o600)))
	require.GreaterOrEqual(t, time.Since(began), 3*time.Second)
	holds(t, path, "old")
	release()
}

// What can wait does not outlast anybody.
func TestRenameNow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "old")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	release := hold(t, path)
	began := time.Now()
	requireHeld(t, cause(disk.RenameNow(disk.OS, path, path+"er")))
	require.Less(t, time.Since(began), time.Second)
	release()
	require.NoError(t, disk.RenameNow(disk.OS, path, path+"er"))
}

// What is claimed can be renamed, and not be held by others.
func TestClaim(t *testing.T) {
	path := filepath.Join(t.TempDir(), "next")
	require.NoError(t, os.WriteFile(path, []byte("content"), 0o600))
	time.AfterFunc(300*time.Millisecond, hold(t, path))
	release, err := disk.Claim(disk.OS, path)
	require.NoError(t, err)
	name, err := windows.UTF16PtrFromString(path)
	require.NoError(t, err)
	_, err = windows.CreateFile(name, windows.GENERIC_READ, windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE, nil, windows.OPEN_EXISTING, 0, 0)
	require.ErrorIs(t, err, windows.ERROR_SHARING_VIOLATION)
	began := time.Now()
	require.NoError(t, disk.OS.Rename(path, path+"er"))
	require.Less(t, time.Since(began), time.Second)
	release()
	hold(t, path+"er")()
	_, err = disk.Claim(disk.OS, path)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func cause(err error) error {
	if link, ok := err.(*os.LinkError); ok {
		return link.Err
	}
	return err
}

// A folder cannot be synced, so SyncDir does not try.
func TestSyncDir(t *testing.T) {
	dir := t.TempDir()
	d, err := os.Open(dir)
	require.NoError(t, err)
	require.Error(t, d.Sync())
	require.NoError(t, d.Close())
	require.NoError(t, disk.OS.SyncDir(dir))
}

// A running program can be renamed, and its place taken; it can not be replaced or removed until it has ended.
func TestRunningProgram(t *testing.T) {
	if os.Getenv("FAIRLEAD_TEST_WAIT") != "" {
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	self, err := os.Executable()
	require.NoError(t, err)
	image, err := os.ReadFile(self)
	require.NoError(t, err)
	dir := t.TempDir()
	program, aside, next := filepath.Join(dir, "notes.exe"), filepath.Join(dir, "previous"), filepath.Join(dir, "next")
	require.NoError(t, os.WriteFile(program, image, 0o755))
	require.NoError(t, os.WriteFile(next, image, 0o755))

	cmd := exec.CommandContext(t.Context(), program, "-test.run=^TestRunningProgram$")
	cmd.Env = append(os.Environ(), "FAIRLEAD_TEST_WAIT=1")
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())

	require.ErrorIs(t, os.Rename(next, program), windows.ERROR_ACCESS_DENIED)
	require.ErrorIs(t, os.Remove(program), windows.ERROR_ACCESS_DENIED)
	require.NoError(t, disk.OS.Rename(program, aside))
	require.NoError(t, disk.OS.Rename(next, program))
	require.ErrorIs(t, os.Remove(aside), windows.ERROR_ACCESS_DENIED, "it runs on under its new name")
	require.NoError(t, stdin.Close())
	require.NoError(t, cmd.Wait())
	require.NoError(t, os.Remove(aside))
	require.FileExists(t, program)
}
