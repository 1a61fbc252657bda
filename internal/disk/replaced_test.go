package disk

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// replacing is a system on which somebody replaces a file between the look at it and its opening, so many times.
type replacing struct {
	FS
	times int
}

func (r *replacing) Open(path string) (File, error) {
	return openRegular(os.OpenFile, func(path string) (fs.FileInfo, error) {
		info, err := os.Lstat(path)
		if r.times > 0 {
			r.times--
			err = Write(OS, path, []byte("new"), 0o600)
		}
		return info, err
	}, path)
}

// Who reads a file while it is replaced has one of the two.
func TestReadWhileReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, []byte("old"), 0o600))
	for _, times := range []int{1, 5} {
		data, err := ReadFile(&replacing{OS, times}, path, 100)
		require.NoError(t, err)
		require.Equal(t, "new", string(data))
	}
	if runtime.GOOS == "windows" {
		return // what tells one file from the next there need not change
	}
	_, err := ReadFile(&replacing{OS, 1000}, path, 100)
	require.ErrorIs(t, err, errReplaced, "not for ever")
}
