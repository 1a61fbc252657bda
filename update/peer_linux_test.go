//go:build amd64 || arm64

package update_test

import (
	"bytes"
	"errors"
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/internal/killpoint"
)

var killPeers = flag.Bool("kill.peers", false, "kill a program that replaces itself by another library, too")

// The same kills, of a program that replaces itself with github.com/minio/selfupdate: the harness sees the loss of a program
// where there is one.
func TestPeerKillPoints(t *testing.T) {
	if !*killPeers {
		t.Skip("builds a module of its own: -kill.peers")
	}
	work := fastDir(t)
	peer := filepath.Join(work, "peer")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", peer, ".")
	build.Dir = filepath.Join("testdata", "peer")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	old, err := os.ReadFile(peer)
	require.NoError(t, err)
	fresh := append(bytes.Clone(old), "the new version"...)
	next := filepath.Join(work, "next")
	require.NoError(t, os.WriteFile(next, fresh, 0o755))

	// run returns what was called, and what is in place afterwards.
	run := func(at int) (killpoint.Result, string) {
		dir := filepath.Join(work, "machine")
		require.NoError(t, errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)))
		program := filepath.Join(dir, "notes")
		require.NoError(t, os.WriteFile(program, old, 0o755))
		r, err := killpoint.Run(t.Context(), killpoint.Config{Path: program, Args: []string{next}, Under: []string{dir}, At: at})
		if errors.Is(err, killpoint.ErrRefused) {
			t.Skip(err)
		}
		require.NoError(t, err)
		content, err := os.ReadFile(program)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return r, "no program"
		case err != nil:
			return r, err.Error()
		case bytes.Equal(content, old), bytes.Equal(content, fresh):
			return r, ""
		}
		return r, "half a program"
	}
	r, wrong := run(0)
	require.Zero(t, r.ExitCode)
	require.Empty(t, wrong)
	lost := 0
	for n := 1; n <= len(r.Calls); n++ {
		if _, wrong := run(n); wrong != "" {
			t.Logf("killed at call %d of %d (%s): %s", n, len(r.Calls), r.Calls[n-1].Name, wrong)
			lost++
		}
	}
	t.Logf("minio/selfupdate: %d kill points, %d without a whole program", len(r.Calls), lost)
	require.Positive(t, lost, "it is known to lose the program between two renames")
	syncs := 0
	for _, c := range r.Calls {
		if c.Name == "fsync" || c.Name == "fdatasync" {
			syncs++
		}
	}
	t.Logf("minio/selfupdate: %d syncs", syncs)
}
