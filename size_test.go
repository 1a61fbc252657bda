package fairlead_test

import (
	"debug/buildinfo"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

const plainProgram = `package main

import "net/http"

func main() {
	_ = http.ListenAndServe("127.0.0.1:8000", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) }))
}
`

// BenchmarkEmbedding reports what embedding adds to a net/http program: megabytes of the stripped executable, and modules
// linked. With is examples/embed (updates), licensed is examples/quickstart/notes (updates and licences, and the notes).
//
//	go test -run '^$' -bench Embedding -benchtime 1x .
func BenchmarkEmbedding(b *testing.B) {
	dir := b.TempDir()
	plain := filepath.Join(dir, "plain.go")
	require.NoError(b, os.WriteFile(plain, []byte(plainProgram), 0o600))
	for b.Loop() {
		base, _ := build(b, plain)
		for name, pkg := range map[string]string{"with": "./examples/embed", "licensed": "./examples/quickstart/notes"} {
			size, modules := build(b, pkg)
			b.ReportMetric(size, name+"-MB")
			b.ReportMetric(size-base, name+"-added-MB")
			b.ReportMetric(modules, name+"-modules")
		}
		b.ReportMetric(base, "plain-MB")
	}
	b.ReportMetric(0, "ns/op")
}

// build builds a stripped executable without cgo and returns its megabytes and the modules that it links besides our own.
func build(b *testing.B, pkg string) (megabytes, modules float64) {
	b.Helper()
	out := filepath.Join(b.TempDir(), "program")
	cmd := exec.CommandContext(b.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	output, err := cmd.CombinedOutput()
	require.NoError(b, err, "%s", output)
	stat, err := os.Stat(out)
	require.NoError(b, err)
	info, err := buildinfo.ReadFile(out)
	require.NoError(b, err)
	return float64(stat.Size()) / 1e6, float64(len(info.Deps))
}
