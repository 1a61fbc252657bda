//go:build amd64 || arm64

package update_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/internal/killpoint"
)

var killPeers = flag.Bool("kill.peers", false, "kill a program that replaces itself by another library, too")

// The same kills, of a program that replaces itself with github.com/minio/selfupdate: the harness sees the loss of a program
// where there is one. What is looked at is the same, too: whether there is a whole program, before anything is repaired.
func TestPeerKillPoints(t *testing.T) {
	if !*killPeers {
		t.Skip("builds a module of its own: -kill.peers")
	}
	t.Run("minio selfupdate", func(t *testing.T) {
		work := fastDir(t)
		peer, next := filepath.Join(work, "peer"), filepath.Join(work, "next")
		build := exec.CommandContext(t.Context(), "go", "build", "-o", peer, ".")
		build.Dir = filepath.Join("testdata", "peer")
		out, err := build.CombinedOutput()
		require.NoError(t, err, "%s", out)
		old, err := os.ReadFile(peer)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(next, append(bytes.Clone(old), "the new version"...), 0o755))
		lost := killEverywhere(t, "minio/selfupdate", func(at int) (killpoint.Result, string, error) {
			dir := filepath.Join(work, "machine")
			program := filepath.Join(dir, "notes")
			require.NoError(t, errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755), os.WriteFile(program, old, 0o755)))
			r, err := killpoint.Run(t.Context(), killpoint.Config{Path: program, Args: []string{next}, Under: []string{dir}, At: at})
			return r, program, err
		}, old)
		require.Positive(t, lost, "it is known to lose the program between two renames")
	})
	t.Run("Executable", func(t *testing.T) {
		b := newKillBench(t, layouts[0])
		template := b.template(killSteps[0])
		old, err := os.ReadFile(filepath.Join(template, layouts[0].program))
		require.NoError(t, err)
		lost := killEverywhere(t, "Fairlead's Executable", func(at int) (killpoint.Result, string, error) {
			m := b.clone(template)
			t.Cleanup(m.remove)
			r, err := m.traced(t.Context(), killSteps[0].job, func(c *killpoint.Config) { c.At = at })
			return r, m.program(), err
		}, old)
		require.Zero(t, lost)
	})
}

// killEverywhere has a program replace itself, and kills it at each of its calls. It returns after how many of the kills
// there is neither the old program nor the new one.
func killEverywhere(t *testing.T, name string, run func(at int) (killpoint.Result, string, error), old []byte) (lost int) {
	t.Helper()
	whole, program, err := run(0)
	if errors.Is(err, killpoint.ErrRefused) {
		t.Skip(err)
	}
	require.NoError(t, err)
	require.Zero(t, whole.ExitCode)
	fresh, err := os.ReadFile(program)
	require.NoError(t, err)
	require.NotEqual(t, string(old), string(fresh))
	syncs := 0
	for n, call := range whole.Calls {
		if call.Name == "fsync" {
			syncs++
		}
		r, program, err := run(n + 1)
		require.NoError(t, err)
		require.True(t, r.Acted)
		switch content, err := os.ReadFile(program); {
		case err != nil:
			t.Logf("killed at call %d of %d (%s): %v", n+1, len(whole.Calls), call.Name, err)
			lost++
		case !bytes.Equal(content, old) && !bytes.Equal(content, fresh):
			t.Logf("killed at call %d of %d (%s): half a program", n+1, len(whole.Calls), call.Name)
			lost++
		}
	}
	t.Logf("%s: %d kill points, %d without a whole program, %d calls of fsync", name, len(whole.Calls), lost, syncs)
	return lost
}
