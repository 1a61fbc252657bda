package fairlead_test

import (
	"bufio"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fences returns the README's code blocks of one language.
func fences(t *testing.T, language string) []string {
	t.Helper()
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	var blocks []string
	for _, part := range strings.Split(string(readme), "\n```"+language+"\n")[1:] {
		block, _, found := strings.Cut(part, "```")
		require.True(t, found)
		blocks = append(blocks, block)
	}
	return blocks
}

// The README's Go code is the parts of the examples between the markers: it compiles.
func TestReadmeCode(t *testing.T) {
	var parts []string
	for _, example := range []string{"examples/embed/main.go", "examples/daemon/main.go", "update/example_test.go", "examples/licensed/main.go"} {
		source, err := os.ReadFile(filepath.FromSlash(example))
		require.NoError(t, err)
		_, code, found := strings.Cut(string(source), "// README begins\n\n")
		require.True(t, found)
		code, _, found = strings.Cut(code, "// README ends")
		require.True(t, found)
		parts = append(parts, strings.TrimRight(code, "\t\n")+"\n")
	}
	require.Equal(t, parts, fences(t, "go"))
}

// The README's publishing commands run as they stand.
func TestReadmePublishing(t *testing.T) {
	blocks := fences(t, "sh")
	require.Len(t, blocks, 2)
	lines := strings.Split(strings.TrimSpace(blocks[1]), "\n")
	require.Len(t, lines, 5)

	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(bin, "publish"), "./cmd/publish")
	output, err := build.CombinedOutput()
	require.NoError(t, err, "%s", output)
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("PUBLISH_PASSPHRASE", "only for this test")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "dist"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "dist", "notes"), []byte("\x7fELF pretended"), 0o755))

	for _, line := range lines[:4] {
		require.True(t, strings.HasPrefix(line, "publish "), line)
		cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
		cmd.Dir = dir
		output, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s\n%s", line, output)
	}
	serve(t, dir, strings.Replace(lines[4], "8080", "0", 1))
}

// serve runs `publish serve` and fetches the timestamp from the address that it prints.
func serve(t *testing.T, dir, line string) {
	t.Helper()
	require.True(t, strings.HasPrefix(line, "publish serve "), line)
	cmd := exec.CommandContext(t.Context(), "publish", strings.Fields(line)[1:]...)
	cmd.Dir = dir
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer func() { _, _ = cmd.Process.Kill(), cmd.Wait() }()
	lines := bufio.NewScanner(out)
	require.True(t, lines.Scan())
	client := &http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get(strings.TrimSpace(lines.Text()) + "/metadata/timestamp.json")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
}
