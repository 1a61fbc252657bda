package disk_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/internal/disk"
)

// holds checks that a folder has one file, with that content.
func holds(t *testing.T, path, content string) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, content, string(data))
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1, "no temporary file is left")
}

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	require.NoError(t, disk.Write(disk.OS, path, []byte("old"), 0o600))
	holds(t, path, "old")
	require.NoError(t, disk.Write(disk.OS, path, []byte("new"), 0o640))
	holds(t, path, "new")
	if runtime.GOOS != "windows" {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o640), info.Mode(), "whatever the umask")
	}

	full := errors.New("disk full")
	err := disk.WriteFunc(disk.OS, path, 0o600, func(w io.Writer) error {
		_, _ = io.WriteString(w, "half of ")
		return full
	})
	require.ErrorIs(t, err, full)
	holds(t, path, "new")
}
