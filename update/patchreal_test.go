package update_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/tufrepo"
	"github.com/fairlead-dev/fairlead/update"
)

// goProgram builds a program of one version, stripped, as vendors ship them.
func goProgram(t *testing.T, version string) []byte {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("there is no go command")
	}
	dir := t.TempDir()
	source := strings.ReplaceAll(`package main

import ("encoding/json"; "fmt"; "os"; "strings")

type greeting struct { Version string; Args []string }

func main() {
	text, err := json.Marshal(greeting{"VERSION", os.Args[1:]})
	if err != nil { os.Exit(1) }
	EXTRA
	fmt.Println(string(text))
}
`, "VERSION", version)
	extra := ""
	if version != "1.0.0" { // code, not only a string, so that everything behind it moves
		extra = `if len(os.Args) > 3 { fmt.Println(strings.Fields(strings.Repeat(os.Args[1], 3))) }`
	} else {
		source = strings.Replace(source, `; "strings"`, "", 1)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(strings.Replace(source, "EXTRA", extra, 1)), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module notes\n\ngo 1.26\n"), 0o600))
	out := filepath.Join(dir, "notes")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	text, err := cmd.CombinedOutput()
	require.NoError(t, err, string(text))
	data, err := os.ReadFile(out)
	require.NoError(t, err)
	return data
}

// Two versions of a real program: as an artifact of its own, and as one of several files, on every layout.
func TestPatchOfRealProgram(t *testing.T) {
	if testing.Short() {
		t.Skip("builds two programs")
	}
	old, fresh := goProgram(t, "1.0.0"), goProgram(t, "1.1.0")
	files := func(program []byte, version string) map[string][]byte {
		return map[string][]byte{programPath: program, "share/same.txt": noise("same", 5000), "share/help.txt": []byte("help of " + version)}
	}
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			v := newVendor(t)
			if l.place == nil {
				v.release("1.1.0", fresh)
				v.publishPatches("1.1.0", filePatch(t, old, fresh))
			} else {
				pack := func(n *tufrepo.NewRelease) {
					n.Artifacts[0].Format, n.Artifacts[0].Executable = channel.TarGz, programPath
				}
				v.release("1.0.0", tarGz(t, files(old, "1.0.0")), pack)
				v.release("1.1.0", tarGz(t, files(fresh, "1.1.0")), pack)
				p := treePatch(t, files(old, "1.0.0"), files(fresh, "1.1.0"), nil)
				p.Memory = 64 << 20
				v.publishPatches("1.1.0", p)
			}
			dir, w := t.TempDir(), watching(v.dir)
			program := filepath.Join(dir, l.program)
			if l.place == nil {
				require.NoError(t, os.WriteFile(program, old, 0o755))
			} else {
				for name, content := range files(old, "1.0.0") {
					path := filepath.Join(l.place(dir, "1.0.0"), filepath.FromSlash(name))
					require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
					require.NoError(t, os.WriteFile(path, content, 0o755))
				}
				if l.name == "versions" {
					require.NoError(t, pointTo(filepath.Join(dir, "notes"), "1.0.0"))
				}
			}
			m := &machine{t: t, vendor: v, dir: dir, program: program, now: v.now.Add(1)}
			u, err := update.New(m.config("1.0.0", func(c *update.Config) { c.Installer, c.Source = l.installer(dir), w }))
			require.NoError(t, err)
			up := check(t, u).Update
			t.Logf("%d bytes instead of %d", up.Download, up.Size)
			require.Less(t, up.Download*2, up.Size)
			require.NoError(t, u.Stage(t.Context(), up, nil))
			require.Zero(t, w.read[up.Artifact.SHA256])
			require.NoError(t, u.Apply(t.Context(), up))
			if runtime.GOOS == "windows" {
				program = m.inPlace()
			}
			out, err := exec.CommandContext(t.Context(), program, "a").CombinedOutput()
			require.NoError(t, err)
			require.Equal(t, `{"Version":"1.1.0","Args":["a"]}`, strings.TrimSpace(string(out)))
		})
	}
}
