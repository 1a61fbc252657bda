package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"github.com/fairlead-dev/fairlead/channel"
)

// publishCommand is this test binary as the command publish, see testscript.Main.
func publishCommand(t *testing.T, dir string, env []string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Args[0], cmd.Dir, cmd.Env = "publish", dir, append(os.Environ(), append(env, "GORACE="+noExitSleep)...)
	return cmd
}

func publish(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := publishCommand(t, dir, nil, args...).CombinedOutput()
	require.NoError(t, err, "publish %s: %s", strings.Join(args, " "), out)
	return string(out)
}

// serve starts publish serve and returns its URL, and a function that interrupts it and returns its exit code.
func serve(t *testing.T, dir string) (address string, interrupt func() int) {
	t.Helper()
	needInterrupts(t)
	cmd := publishCommand(t, dir, nil, "serve", "--addr", "127.0.0.1:0")
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSpace(line), func() int {
		require.NoError(t, cmd.Process.Signal(os.Interrupt))
		_ = cmd.Wait()
		return cmd.ProcessState.ExitCode()
	}
}

func needInterrupts(t *testing.T) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no interrupt to send to one process")
	}
}

func released(t *testing.T) (dir string, program []byte) {
	t.Helper()
	dir, program = t.TempDir(), []byte("#!/bin/sh\necho notes\n")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "notes"), program, 0o755))
	publish(t, dir, "init", "--product", "notes", "--insecure-no-passphrase")
	publish(t, dir, "release", "--version", "1.0.0", "--artifact", "linux/amd64=notes")
	return dir, program
}

// TestAnotherClient has a TUF client that is not ours find and verify a release from nothing but the root.
func TestAnotherClient(t *testing.T) {
	dir, program := released(t)
	address, interrupt := serve(t, dir)
	root, err := os.ReadFile(filepath.Join(dir, "updates/metadata/1.root.json"))
	require.NoError(t, err)

	find := func(version string) (*channel.Manifest, error) {
		cfg, err := config.New(address+"/metadata", root)
		require.NoError(t, err)
		cfg.LocalMetadataDir, cfg.LocalTargetsDir, cfg.RemoteTargetsURL = t.TempDir(), t.TempDir(), address+"/targets"
		cfg.PrefixTargetsWithHash = true
		client, err := updater.New(cfg)
		require.NoError(t, err)
		require.NoError(t, client.Refresh())
		info, err := client.GetTargetInfo("notes/stable/" + version + "/release.json")
		if err != nil {
			return nil, err
		}
		_, data, err := client.DownloadTarget(info, "", "")
		require.NoError(t, err)
		m, err := channel.ParseManifest(data)
		require.NoError(t, err)
		return m, nil
	}
	m, err := find("1.0.0")
	require.NoError(t, err)
	sum := sha256.Sum256(program)
	require.Equal(t, hex.EncodeToString(sum[:]), m.Artifacts[0].SHA256)
	require.Equal(t, program, get(t, address+"/"+channel.BlobPath(m.Artifacts[0].SHA256)))

	_, err = find("1.1.0")
	require.ErrorContains(t, err, "1.1.0", "not released yet")
	publish(t, dir, "release", "--version", "1.1.0", "--artifact", "linux/amd64=notes")
	_, err = find("1.1.0")
	require.NoError(t, err)
	require.Zero(t, interrupt(), "an interrupt is how it is stopped")
}

func get(t *testing.T, address string) []byte {
	t.Helper()
	resp, err := http.Get(address)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, http.StatusOK, resp.StatusCode, address)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return body
}

func TestServeJSON(t *testing.T) {
	needInterrupts(t)
	dir, _ := released(t)
	cmd := publishCommand(t, dir, nil, "serve", "--addr", "127.0.0.1:0", "--json")
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	dec := json.NewDecoder(stdout)
	var listening struct{ URL string }
	require.NoError(t, dec.Decode(&listening))
	u, err := url.Parse(listening.URL)
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1", u.Hostname())
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	_, err = dec.Token()
	require.ErrorIs(t, err, io.EOF, "exactly one value")
	require.NoError(t, cmd.Wait())
}

// TestNoSecrets goes through every verb that touches keys, with encrypted ones, and looks for the passphrase and for
// private keys in all that was printed and published.
func TestNoSecrets(t *testing.T) {
	const passphrase = "correct horse battery staple"
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "notes"), []byte("#!/bin/sh\n"), 0o755))
	var printed strings.Builder
	for _, args := range [][]string{
		{"init", "--product", "notes", "--channel", "beta", "--channel", "stable", "--license"},
		{"release", "--channel", "beta", "--version", "1.0.0", "--artifact", "linux/amd64=notes"},
		{"promote", "1.0.0", "--from", "beta", "--to", "stable"},
		{"keys", "new", "alice"}, {"keys", "new", "alice"}, {"keys", "show"}, {"keys", "show", "keys/alice.pem"},
		{"license", "keys", "new", "acme", "--keyring", "updates/keyring.json"}, {"refresh"}, {"status"}, {"verify"},
		{"license", "issue", "--key", "keys/acme.pem", "--issuer", "acme", "--product", "notes", "--subject", "c", "--id", "L", "--until", "never", "--out", "l"},
		{"license", "inspect", "l"}, {"keys", "new", "--passphrase-file", "keys/root.pem", "mallory"},
		{"license", "keys", "publish", "acme"}, {"license", "keys", "rotate", "acme-2", "--retire-at", "2199-01-01"}, {"license", "keys", "show"},
		{"license", "renew", "l", "--key", "keys/acme-2.pem", "--plan", "pro", "--out", "l2"},
		{"license", "verify", "l2", "--channel", "stable", "--release", "1.0.0"}, {"license", "list", "--all"}, {"license", "list", "--csv"},
		{"license", "revoke", "--token", "l2", "--reason", "secret reason"}, {"license", "list", "--check"},
	} {
		for _, mode := range [][2]string{{"", "--quiet=false"}, {"?", "--json"}, {"", "--json"}} { // the right one and a wrong one
			cmd := publishCommand(t, dir, []string{"PUBLISH_PASSPHRASE=" + passphrase + mode[0]}, append(args, mode[1])...)
			out, _ := cmd.CombinedOutput() // some fail, on purpose
			printed.Write(out)
		}
	}
	require.Contains(t, printed.String(), "wrong_passphrase")
	require.FileExists(t, filepath.Join(dir, "updates/metadata/1.root.json"))

	texts := map[string]string{"what was printed": printed.String()}
	require.NoError(t, filepath.WalkDir(filepath.Join(dir, "updates"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		texts[path] = string(data)
		return err
	}))
	for path := range texts {
		require.NotContains(t, texts[path], "secret reason", path)
	}
	log, err := os.ReadFile(filepath.Join(dir, "keys/licenses.log"))
	require.NoError(t, err)
	require.Contains(t, string(log), "secret reason")
	texts["the issue log"] = string(log)
	for _, name := range []string{"l", "l2"} { // whoever has one can use it
		token, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		for path := range texts {
			for _, part := range strings.Split(strings.TrimSpace(string(token)), ".")[1:] {
				require.NotContains(t, texts[path], part, "%s holds part of a licence", path)
			}
		}
	}
	keys, err := filepath.Glob(filepath.Join(dir, "keys/*.pem"))
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(keys), 10)
	base64RE := regexp.MustCompile(`(?m)^[A-Za-z0-9+/=]{40,}$`)
	for name, text := range texts {
		require.NotContains(t, text, passphrase, name)
		require.NotContains(t, text, "PRIVATE KEY", name)
		for _, key := range keys {
			data, err := os.ReadFile(key)
			require.NoError(t, err)
			lines := base64RE.FindAllString(string(data), -1)
			require.NotEmpty(t, lines)
			for _, line := range lines {
				require.NotContains(t, text, line, "%s holds a line of %s", name, key)
			}
		}
	}
}

// TestInterrupt interrupts a release while it reads a large artifact: nothing is half published.
func TestInterrupt(t *testing.T) {
	needInterrupts(t)
	dir, _ := released(t)
	large, err := os.Create(filepath.Join(dir, "large"))
	require.NoError(t, err)
	require.NoError(t, large.Truncate(8<<30)) // sparse; hashing it takes seconds
	require.NoError(t, large.Close())
	before := publish(t, dir, "list", "--json")
	cmd := publishCommand(t, dir, nil, "release", "--version", "2.0.0", "--artifact", "linux/amd64=large", "--json")
	var stdout strings.Builder
	cmd.Stdout = &stdout
	require.NoError(t, cmd.Start())
	time.Sleep(700 * time.Millisecond)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	_ = cmd.Wait()
	require.Equal(t, 1, cmd.ProcessState.ExitCode())
	require.Contains(t, stdout.String(), `"code": "cancelled"`)
	require.Equal(t, before, publish(t, dir, "list", "--json"))
	publish(t, dir, "verify")
}

// TestPublishersAtOnce: of publishers at the same time some are refused, clearly, and nothing of any is lost.
func TestPublishersAtOnce(t *testing.T) {
	dir, _ := released(t)
	versions := []string{"1.1.0", "1.2.0", "1.3.0", "1.4.0"}
	codes := make([]int, len(versions))
	var all sync.WaitGroup
	for i, v := range versions {
		cmd := publishCommand(t, dir, nil, "release", "--version", v, "--artifact", "linux/amd64=notes")
		all.Go(func() {
			_ = cmd.Run()
			codes[i] = cmd.ProcessState.ExitCode()
		})
	}
	all.Wait()
	require.Contains(t, codes, 0, "one at least gets through")
	for i, code := range codes {
		if code != 0 {
			require.Equal(t, 3, code)
			require.NotContains(t, publish(t, dir, "list"), versions[i])
			publish(t, dir, "release", "--version", versions[i], "--artifact", "linux/amd64=notes")
		}
	}
	list := publish(t, dir, "list")
	for _, v := range versions {
		require.Contains(t, list, v)
	}
	publish(t, dir, "verify")
}

// TestIssuersAtOnce: of those who issue the same number of a licence one gets through, and of those who revoke none is lost.
func TestIssuersAtOnce(t *testing.T) {
	dir := t.TempDir()
	publish(t, dir, "license", "keys", "new", "acme", "--keyring", "ring.json", "--insecure-no-passphrase")
	codes := make([]int, 4)
	var all sync.WaitGroup
	for i := range codes {
		for _, args := range [][]string{
			{"license", "issue", "--key", "keys/acme.pem", "--issuer", "acme", "--product", "notes", "--subject", "c", "--id", "L", "--until", "never", "--out", fmt.Sprintf("l%d", i)},
			{"license", "revoke", "--revocations", "revoked.json", "--unlisted", "--license", fmt.Sprintf("R-%d", i)},
		} {
			cmd := publishCommand(t, dir, nil, args...)
			all.Go(func() {
				_ = cmd.Run()
				if args[1] == "issue" {
					codes[i] = cmd.ProcessState.ExitCode()
				}
			})
		}
	}
	all.Wait()
	slices.Sort(codes)
	require.Equal(t, []int{0, 1, 1, 1}, codes)
	files, err := filepath.Glob(filepath.Join(dir, "l?"))
	require.NoError(t, err)
	require.Len(t, files, 1, "the others handed nothing out")
	list, err := os.ReadFile(filepath.Join(dir, "revoked.json"))
	require.NoError(t, err)
	for i := range codes {
		require.Contains(t, string(list), fmt.Sprintf("R-%d", i))
	}
	require.Contains(t, string(list), `"num": 4`)
	require.Contains(t, publish(t, dir, "license", "list", "--check"), "7 lines")
}

// TestDocs runs the example that docs/publish.md opens with.
func TestDocs(t *testing.T) {
	doc, err := os.ReadFile("../../docs/publish.md")
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(doc), "```sh\n")
	example, _, _ := strings.Cut(rest, "```")
	lines := strings.Split(strings.TrimSpace(example), "\n")
	require.Len(t, lines, 5)
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "dist"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "dist/notes"), []byte("#!/bin/sh\n"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "CHANGES.md"), []byte("First.\n"), 0o644))
	for _, line := range lines {
		words := strings.Fields(line)
		require.Equal(t, "publish", words[0])
		out, err := publishCommand(t, dir, []string{"PUBLISH_PASSPHRASE=example"}, words[1:]...).CombinedOutput()
		require.NoError(t, err, "%s: %s", line, out)
	}
}
