package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStory(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs eight versions of a program")
	}
	t.Setenv("TMPDIR", t.TempDir())
	var out bytes.Buffer
	err := tell(t.Context(), &out)
	t.Log(out.String())
	require.NoError(t, err)
	left, err := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "fairlead-*"))
	require.NoError(t, err)
	require.Empty(t, left, "it leaves nothing behind")
}
