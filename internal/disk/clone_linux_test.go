package disk_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/internal/disk"
)

// A clone is a file of its own: writing to it leaves the other one as it was. It needs a file system that clones.
func TestClone(t *testing.T) {
	dir := cloning(t)
	content := bytes.Repeat([]byte("content "), 10_000)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "from"), content, 0o600))
	from, err := disk.OS.Open(filepath.Join(dir, "from"))
	require.NoError(t, err)
	defer func() { _ = from.Close() }()
	to, err := disk.OS.Create(filepath.Join(dir, "to"))
	require.NoError(t, err)
	defer func() { _ = to.Close() }()
	require.NoError(t, disk.Clone(to, from))
	got, err := os.ReadFile(filepath.Join(dir, "to"))
	require.NoError(t, err)
	require.Equal(t, content, got)
	_, err = to.Write([]byte("changed"))
	require.NoError(t, err)
	got, err = os.ReadFile(filepath.Join(dir, "from"))
	require.NoError(t, err)
	require.Equal(t, content, got)
}

// cloning returns a folder on a Btrfs or XFS of its own.
func cloning(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root to mount")
	}
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	require.NoError(t, os.WriteFile(image, nil, 0o600))
	require.NoError(t, os.Truncate(image, 512<<20))
	for _, tool := range []string{"mkfs.xfs", "mkfs.btrfs"} {
		if out, err := exec.CommandContext(t.Context(), tool, "-q", image).CombinedOutput(); err != nil {
			t.Logf("%s: %v %s", tool, err, out)
			continue
		}
		if out, err := exec.CommandContext(t.Context(), "mount", "-o", "loop", image, dir).CombinedOutput(); err != nil {
			t.Skipf("cannot mount: %s", out)
		}
		t.Cleanup(func() { _ = exec.Command("umount", "-l", dir).Run() })
		return dir
	}
	t.Skip("there is neither mkfs.xfs nor mkfs.btrfs")
	return ""
}
