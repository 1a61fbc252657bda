package tufrepo

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
)

// BenchmarkRelease opens a repository with 1,000 releases in the channel, releases one more and commits.
func BenchmarkRelease(b *testing.B) {
	dir, key := b.TempDir(), newSigner(b, "ed25519")
	store, keys := Dir(filepath.Join(dir, "repo")), only(key)
	r, err := Create(b.Context(), store, CreateConfig{Root: keys, Targets: keys, Snapshot: keys, Timestamp: keys}, key)
	require.NoError(b, err)
	require.NoError(b, r.AddChannel("notes", "stable", keys, Policy{}))
	now := time.Now().UTC().Truncate(time.Second)
	for i := range 1000 {
		rel := channel.Release{V: 1, Version: fmt.Sprintf("1.%d.0", i), Seq: int64(i + 1), Published: now, Platforms: []channel.Platform{linux}, Manifest: blobOf([]byte{byte(i)})}
		require.NoError(b, r.put("notes", "stable", rel))
	}
	_, err = r.Commit(b.Context(), key)
	require.NoError(b, err)
	path := filepath.Join(dir, "notes")
	require.NoError(b, os.WriteFile(path, []byte("program"), 0o644))
	for n := 0; b.Loop(); n++ {
		r, err := Open(b.Context(), store, OpenConfig{})
		require.NoError(b, err)
		_, err = r.Release(b.Context(), "notes", "stable", NewRelease{Version: fmt.Sprintf("2.%d.0", n), Artifacts: []NewArtifact{{Platform: linux, Path: path}}})
		require.NoError(b, err)
		_, err = r.Commit(b.Context(), key)
		require.NoError(b, err)
		b.StopTimer() // back to 1,000
		delete(r.roles["notes.stable"].Signed.Targets, channel.TargetPath("notes", "stable", fmt.Sprintf("2.%d.0", n)))
		r.changed["notes.stable"] = true
		_, err = r.Commit(b.Context(), key)
		require.NoError(b, err)
		b.StartTimer()
	}
	info, err := os.Stat(filepath.Join(dir, "repo", metadataName("notes.stable", *headOf(r.document("notes.stable")).version)))
	require.NoError(b, err)
	b.ReportMetric(float64(info.Size())/1000, "bytes/release")
}
