package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// targetOf is nil for this system; or it is Windows, if FAIRLEAD_STORY_EXEC names what runs its programs here: wine. Then
// FAIRLEAD_STORY_OVERLAY may name an overlay for go build. See .ci/windows.
func targetOf(t *testing.T) *target {
	t.Helper()
	wine := os.Getenv("FAIRLEAD_STORY_EXEC")
	if wine == "" {
		return nil
	}
	on := &target{goos: "windows", goarch: "amd64", runner: wine}
	if path := os.Getenv("FAIRLEAD_STORY_OVERLAY"); path != "" {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		overlay := map[string]map[string]string{}
		require.NoError(t, json.Unmarshal(data, &overlay))
		on.overlay = overlay["Replace"]
	}
	return on
}

// runAsTheReadmeSays is the whole program, in the folder of the module.
func runAsTheReadmeSays(ctx context.Context, out io.Writer) error {
	cmd := exec.CommandContext(ctx, "go", "run", "./examples/quickstart")
	cmd.Stdout, cmd.Stderr = out, out
	return cmd.Run()
}

func TestStory(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs eight versions of a program")
	}
	t.Setenv("TMPDIR", t.TempDir())
	t.Chdir(filepath.Join("..", "..")) // where moduleDir looks with -trimpath
	play := runAsTheReadmeSays
	if on := targetOf(t); on != nil {
		play = func(ctx context.Context, out io.Writer) error { return tell(ctx, out, *on) }
	}
	var out bytes.Buffer
	err := play(t.Context(), &out)
	t.Log(out.String())
	require.NoError(t, err)
	left, err := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "fairlead-*"))
	require.NoError(t, err)
	require.Empty(t, left, "it leaves nothing behind")
}
