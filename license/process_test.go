package license_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/license"
)

var built struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	_ = os.RemoveAll(built.dir)
	os.Exit(code)
}

// storeprog builds the program in testdata, and prepares to run it on a folder.
type storeprog struct {
	t    *testing.T
	path string
	env  []string
	work string // the tokens are here: 1, 2, …
	dir  string // of the store
}

func newStoreprog(t *testing.T) *storeprog {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "storeprog"); built.err != nil {
			return
		}
		out, err := exec.Command("go", "build", "-o", filepath.Join(built.dir, "storeprog.exe"), "./testdata/storeprog").CombinedOutput()
		if err != nil {
			built.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	require.NoError(t, built.err)
	keys, err := json.Marshal(ring(t))
	require.NoError(t, err)
	p := &storeprog{t: t, path: filepath.Join(built.dir, "storeprog.exe"), work: t.TempDir(), env: append(os.Environ(), "STOREPROG_KEYS="+string(keys))}
	p.dir = filepath.Join(p.work, "store")
	for seq := int64(1); seq <= 8; seq++ {
		require.NoError(t, os.WriteFile(p.token(seq), numbered(t, seq), 0o644))
	}
	return p
}

func (p *storeprog) token(seq int64) string { return filepath.Join(p.work, fmt.Sprint(seq)) }

func (p *storeprog) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(p.t.Context(), p.path, append([]string{p.dir}, args...)...)
	cmd.Env = p.env
	return cmd
}

func (p *storeprog) run(args ...string) string {
	p.t.Helper()
	out, err := p.command(args...).CombinedOutput()
	require.NoError(p.t, err, "%s", out)
	return strings.TrimSpace(string(out))
}

// Two processes: one goes on running, another installs. Without a restart the first one has what the second installed.
func TestTwoProcesses(t *testing.T) {
	p := newStoreprog(t)
	app := p.command("ask")
	in, err := app.StdinPipe()
	require.NoError(t, err)
	out, err := app.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, app.Start())
	answers := bufio.NewScanner(out)
	says := func(want string) {
		t.Helper()
		_, err := in.Write([]byte("\n"))
		require.NoError(t, err)
		require.True(t, answers.Scan())
		require.Equal(t, want, answers.Text())
	}
	says("missing 0 false")
	require.Equal(t, "valid 2 true", p.run("install", p.token(2)))
	says("valid 2 true")
	older, err := p.command("install", p.token(1)).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(older), "number 2 of licence lic_42 is in the store "+p.dir+" already, this is number 1")
	says("valid 2 true")
	armored := p.command("install")
	armored.Stdin = bytes.NewReader(license.Armor(numbered(t, 3)))
	said, err := armored.CombinedOutput()
	require.NoError(t, err)
	require.Equal(t, "valid 3 true\n", string(said))
	says("valid 3 true")
	require.NoError(t, os.WriteFile(filepath.Join(p.dir, "licenses.jwt"), []byte("what a broken disk says"), 0o600))
	says("invalid 0 false")
	require.Equal(t, "valid 1 true", p.run("install", p.token(1)))
	says("valid 1 true")
	require.NoError(t, in.Close())
	require.NoError(t, app.Wait())
}

// Processes install different licences of one name at once: none fails, none goes back, and the highest number stays.
func TestProcessesInstallAtOnce(t *testing.T) {
	p := newStoreprog(t)
	var wg sync.WaitGroup
	outs, errs := make([]string, 4), make([]error, 4)
	for i := range outs {
		wg.Go(func() {
			args := []string{"race", "5"}
			for j := range 8 {
				args = append(args, p.token(int64((i*3+j)%8+1)))
			}
			out, err := p.command(args...).CombinedOutput()
			outs[i], errs[i] = string(out), err
		})
	}
	wg.Wait()
	for i := range outs {
		require.NoError(t, errs[i], outs[i])
		require.Equal(t, "valid 8 true\n", outs[i])
	}
	require.Equal(t, "valid 8 true", p.run("status"))
	data, err := os.ReadFile(filepath.Join(p.dir, "licenses.jwt"))
	require.NoError(t, err)
	require.Equal(t, string(numbered(t, 8))+"\n", string(data))
	names, err := filepath.Glob(filepath.Join(p.dir, ".tmp-*"))
	require.NoError(t, err)
	require.Empty(t, names)
}
