package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// targetOf is this system; or Windows, if FAIRLEAD_STORY_EXEC names what runs its programs here: wine. Then
// FAIRLEAD_STORY_OVERLAY may name an overlay for go build. See .ci/windows.
func targetOf(t *testing.T) target {
	t.Helper()
	wine := os.Getenv("FAIRLEAD_STORY_EXEC")
	if wine == "" {
		return thisSystem()
	}
	on := target{goos: "windows", goarch: "amd64", runner: wine}
	if path := os.Getenv("FAIRLEAD_STORY_OVERLAY"); path != "" {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		overlay := map[string]map[string]string{}
		require.NoError(t, json.Unmarshal(data, &overlay))
		on.overlay = overlay["Replace"]
	}
	return on
}

func TestStory(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs eight versions of a program")
	}
	t.Setenv("TMPDIR", t.TempDir())
	var out bytes.Buffer
	err := tell(t.Context(), &out, targetOf(t))
	t.Log(out.String())
	require.NoError(t, err)
	left, err := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "fairlead-*"))
	require.NoError(t, err)
	require.Empty(t, left, "it leaves nothing behind")
}
