package preflight

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/windows/registry"
)

// The real registry, with a product of this user's.
func TestManagedByRealWindowsInstaller(t *testing.T) {
	folder := t.TempDir()
	program := filepath.Join(folder, "app.exe")
	name := uninstallKey + `\fairlead-test-` + filepath.Base(filepath.Dir(folder))
	key, _, err := registry.CreateKey(registry.CURRENT_USER, name, registry.ALL_ACCESS)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, registry.DeleteKey(registry.CURRENT_USER, name)) })
	defer func() { require.NoError(t, key.Close()) }()
	require.NoError(t, key.SetStringValue("InstallLocation", folder))

	by, err := ManagedBy(t.Context(), program)
	require.NoError(t, err)
	require.Empty(t, by, "of another installer")
	require.NoError(t, key.SetDWordValue("WindowsInstaller", 1))
	by, err = ManagedBy(t.Context(), program)
	require.NoError(t, err)
	require.Equal(t, "Windows Installer", by)
}

func TestPlaceOnWindows(t *testing.T) {
	dir := t.TempDir()
	n, err := Free(filepath.Join(dir, "absent"))
	require.NoError(t, err)
	require.Positive(t, n)
	ro, err := ReadOnly(dir)
	require.NoError(t, err)
	require.False(t, ro)
	require.NoError(t, Writable(dir))
	require.NoError(t, SameVolume(dir, dir))
	_, foreign := ForeignOwner(dir)
	require.False(t, foreign)
	require.False(t, SessionEnding())
}
