//go:build unix && !nos3

package s3store

import (
	"crypto"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/stretchr/testify/require"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/cmd/publish/internal/s3store/s3test"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

var linux = channel.Platform{OS: "linux", Arch: "amd64"}

// thousand makes a repository with 1,000 releases in a folder.
func thousand(b *testing.B, folder string) *publisher {
	b.Helper()
	s := tufrepo.Dir(folder)
	p := newPublisher(b, s)
	r, err := tufrepo.Open(b.Context(), s, tufrepo.OpenConfig{Patches: tufrepo.PatchPolicy{From: -1}})
	require.NoError(b, err)
	for i := range 1000 {
		_, err := r.Release(b.Context(), "notes", "stable", tufrepo.NewRelease{Version: fmt.Sprintf("1.%d.0", i),
			Artifacts: []tufrepo.NewArtifact{{Platform: linux, Path: p.file("old", 100)}}})
		require.NoError(b, err)
	}
	_, err = r.Commit(b.Context(), p.key)
	require.NoError(b, err)
	return p
}

// another publishes one more release: the repository is opened (everything is verified), one artifact is hashed and sent,
// and what changed is signed and written.
func (p *publisher) another(s tufrepo.Store, version string) {
	r, err := tufrepo.Open(p.Context(), s, tufrepo.OpenConfig{Patches: tufrepo.PatchPolicy{From: -1}})
	require.NoError(p, err)
	_, err = r.Release(p.Context(), "notes", "stable", tufrepo.NewRelease{Version: version,
		Artifacts: []tufrepo.NewArtifact{{Platform: linux, Path: p.file("new-"+version, 100_000)}}})
	require.NoError(p, err)
	_, err = r.Commit(p.Context(), p.key)
	require.NoError(p, err)
}

func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRelease publishes one more release into a channel with 1,000, on a server on loopback, and beside it does what
// of this is work of go-tuf's bare API: reads the four files, verifies them, changes three, signs and writes them.
func BenchmarkRelease(b *testing.B) {
	server := s3test.Start(b)
	folder := filepath.Join(server.Folder, "thousand")
	p := thousand(b, folder)
	proxy := s3test.NewProxy(b, server, nil)
	p.another(open(b, proxy.URL, "thousand"), "2.0.0")
	requests, sent, received := len(proxy.Requests()), proxy.Sent(), proxy.Received()
	for _, r := range proxy.Requests() {
		b.Log(r)
	}
	s := open(b, server.URL, "thousand")
	n := 0
	var cpu, bare, bareCPU time.Duration
	for b.Loop() {
		n++
		before := processorTime()
		p.another(s, fmt.Sprintf("2.%d.0", n))
		cpu += processorTime() - before
		b.StopTimer()
		began, before := time.Now(), processorTime()
		bareTUF(b, folder)
		bare, bareCPU = bare+time.Since(began), bareCPU+processorTime()-before
		b.StartTimer()
	}
	b.ReportMetric(float64(cpu.Milliseconds())/float64(n), "cpu-ms")
	b.ReportMetric(float64(bare.Milliseconds())/float64(n), "bare-ms")
	b.ReportMetric(float64(bareCPU.Milliseconds())/float64(n), "bare-cpu-ms")
	b.ReportMetric(float64(requests), "requests")
	b.ReportMetric(float64(sent), "bytes-sent")
	b.ReportMetric(float64(received), "bytes-received")
}

func bareTUF(b *testing.B, folder string) {
	b.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	require.NoError(b, err)
	signer, err := signature.LoadSigner(private, crypto.Hash(0))
	require.NoError(b, err)
	newest := func(role string) []byte {
		for n := 1; ; n++ {
			if _, err := os.Stat(filepath.Join(folder, "metadata", fmt.Sprintf("%d.%s.json", n+1, role))); err != nil {
				data, err := os.ReadFile(filepath.Join(folder, "metadata", fmt.Sprintf("%d.%s.json", n, role)))
				require.NoError(b, err)
				return data
			}
		}
	}
	timestampData, err := os.ReadFile(filepath.Join(folder, "metadata/timestamp.json"))
	require.NoError(b, err)
	root, err := metadata.Root().FromBytes(newest("root"))
	require.NoError(b, err)
	timestamp, err := metadata.Timestamp().FromBytes(timestampData)
	require.NoError(b, err)
	snapshot, err := metadata.Snapshot().FromBytes(newest("snapshot"))
	require.NoError(b, err)
	targets, err := metadata.Targets().FromBytes(newest("targets"))
	require.NoError(b, err)
	list, err := metadata.Targets().FromBytes(newest("notes.stable"))
	require.NoError(b, err)
	require.NoError(b, root.VerifyDelegate("timestamp", timestamp))
	require.NoError(b, root.VerifyDelegate("snapshot", snapshot))
	require.NoError(b, root.VerifyDelegate("targets", targets))
	require.NoError(b, targets.VerifyDelegate("notes.stable", list))

	file, err := metadata.TargetFile().FromBytes("notes/stable/9.0.0/release.json", []byte("manifest"), "sha256")
	require.NoError(b, err)
	list.Signed.Targets["notes/stable/9.0.0/release.json"] = file
	written := 0
	finish := func(sign func(signature.Signer) (*metadata.Signature, error), write func(bool) ([]byte, error), clear func()) {
		clear()
		_, err := sign(signer)
		require.NoError(b, err)
		data, err := write(false)
		require.NoError(b, err)
		written += len(data)
	}
	finish(list.Sign, list.ToBytes, list.ClearSignatures)
	finish(snapshot.Sign, snapshot.ToBytes, snapshot.ClearSignatures)
	finish(timestamp.Sign, timestamp.ToBytes, timestamp.ClearSignatures)
	require.Greater(b, written, 100_000)
}
