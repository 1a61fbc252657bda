package disk_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/internal/disk"
)

// What exists is never opened to be made: somebody may have put it there.
func TestCreateIsExclusive(t *testing.T) {
	dir := t.TempDir()
	root, err := disk.OS.Root(dir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = root.Close() })
	victim := filepath.Join(dir, "victim")
	require.NoError(t, os.WriteFile(victim, []byte("precious"), 0o600))
	names := []string{"victim"}
	if runtime.GOOS != "windows" { // where links need rights that users do not have
		require.NoError(t, os.Symlink(victim, filepath.Join(dir, "link")))
		require.NoError(t, os.Symlink("nowhere", filepath.Join(dir, "dangling")))
		names = append(names, "link", "dangling")
	}
	for _, name := range names {
		_, err := disk.OS.Create(filepath.Join(dir, name))
		require.ErrorIs(t, err, fs.ErrExist, name)
		_, err = root.Create(name)
		require.ErrorIs(t, err, fs.ErrExist, name)
	}
	require.NoFileExists(t, filepath.Join(dir, "nowhere"))
	data, err := os.ReadFile(victim)
	require.NoError(t, err)
	require.Equal(t, "precious", string(data))
}

// A file that has another name as well is not written to: through the other name somebody could change it, or be changed.
func TestEditWantsASoleName(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "download")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	f, err := disk.OS.Edit(path)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.NoError(t, os.Link(path, filepath.Join(dir, "other")))
	_, err = disk.OS.Edit(path)
	require.ErrorIs(t, err, fs.ErrPermission)
}
