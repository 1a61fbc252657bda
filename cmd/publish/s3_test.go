//go:build !nos3

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/cmd/publish/internal/s3store/s3test"
	"github.com/fairlead-dev/fairlead/update"
)

// long asks for the long version of tests, see docs/testing.md.
func long() bool { return os.Getenv("FAIRLEAD_LONG") != "" }

// largeFile is the length of a large artifact: in the long version it is sent in nine parts.
func largeFile() int {
	if long() {
		return 65 << 20
	}
	return 1 << 20
}

// An app is what customers have: an Updater for an installed program, in folders of its own.
type app struct {
	*testing.T
	updater *update.Updater
	program string
	url     string
}

func newApp(t *testing.T, root []byte, url, version string) *app {
	t.Helper()
	dir := t.TempDir()
	source, err := update.HTTP(url+"/", nil)
	require.NoError(t, err)
	a := &app{T: t, program: filepath.Join(dir, "notes"), url: url}
	require.NoError(t, os.WriteFile(a.program, []byte("#!/bin/sh\necho "+version+"\n"), 0o755))
	a.updater, err = update.New(update.Config{Product: "notes", Channel: "stable", Version: version, Root: root, Source: source,
		Installer: &update.Executable{Path: a.program}, Dir: filepath.Join(dir, "state")})
	require.NoError(t, err)
	return a
}

// sees returns the version that is offered, after reading every byte of it.
func (a *app) sees() (string, error) {
	d, err := a.updater.Check(a.Context())
	if err != nil {
		return "", err
	}
	if d.Update == nil {
		return "", fmt.Errorf("outcome %v", d.Outcome)
	}
	want := d.Update.Artifact.Blob
	resp, err := http.Get(a.url + "/" + channel.BlobPath(want.SHA256))
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	hash := sha256.New()
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil {
		return "", err
	}
	hash.Write(body.Bytes())
	if got := hex.EncodeToString(hash.Sum(nil)); got != want.SHA256 {
		return "", fmt.Errorf("the artifact of %s is status %d with sha256 %s", d.Update.Release.Version, resp.StatusCode, got)
	}
	return d.Update.Release.Version, nil
}

// TestStoryOnS3 publishes to a bucket, and an app updates itself from it.
func TestStoryOnS3(t *testing.T) {
	server := s3test.Start(t)
	cdn := s3test.NewCDN(t, server, "notes/app")
	dir := t.TempDir()
	repo := "--repo=" + s3test.Address(server.URL, "notes/app")
	// What an update that is about to be installed says when it is tried.
	program := []byte(`#!/bin/sh
printf '\n{"fairlead_probe":"%s","product":"notes","version":"1.1.0"}\n' "$FAIRLEAD_PROBE"
`)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "notes"), program, 0o755))
	large := make([]byte, largeFile())
	_, _ = rand.NewChaCha8([32]byte{1}).Read(large)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "large"), large, 0o755))

	require.Contains(t, publishFails(t, dir, 1, "status", repo), "there is no repository in s3://updates/notes/app")
	require.Equal(t, "keys/root.json", publishOutput(t, dir, "init", "--product", "notes", "--channel", "stable", "--channel", "beta", "--insecure-no-passphrase", repo))
	root, err := os.ReadFile(filepath.Join(dir, "keys/root.json"))
	require.NoError(t, err)
	require.Contains(t, publishFails(t, dir, 1, "init", "--product", "notes", "--insecure-no-passphrase", repo), "there is a repository in s3://updates")
	require.Contains(t, publishFails(t, dir, 1, "init", "--product", "notes", "--insecure-no-passphrase", strings.Replace(repo, "app", "other", 1)), "keys/root.json is there already")
	require.Contains(t, publishFails(t, dir, 1, "init", "--product", "notes", "--insecure-no-passphrase", "--keys=other", repo), "there is a repository in s3://updates")
	require.Contains(t, publishFails(t, dir, 2, "serve", repo), "only folders are served")

	publish(t, dir, "release", "--channel", "beta", "--version", "1.1.0", "--artifact", "linux/amd64=notes", "--artifact", "windows/amd64=large", repo)
	publish(t, dir, "promote", "1.1.0", "--from", "beta", "--to", "stable", repo)
	require.Contains(t, publish(t, dir, "release", "--channel", "beta", "--version", "1.1.0", "--artifact", "linux/amd64=notes", "--artifact", "windows/amd64=large", repo),
		"nothing was changed")
	publish(t, dir, "refresh", repo)
	require.Contains(t, publish(t, dir, "verify", "--root", "keys/root.json", repo), "0 findings")
	require.Contains(t, publish(t, dir, "list", repo), "1.1.0")
	require.Contains(t, publish(t, dir, "keys", "show", repo), "notes.stable")

	a := newApp(t, root, cdn.URL, "1.0.0")
	_, err = a.updater.Start(t.Context())
	require.NoError(t, err)
	d, err := a.updater.Check(t.Context())
	require.NoError(t, err)
	require.Equal(t, update.Available, d.Outcome)
	require.NoError(t, a.updater.Stage(t.Context(), d.Update, nil))
	_, missed := cdn.Served()
	require.Empty(t, missed)

	// A blob that is lost, and one that is damaged: found, and put back by the same release.
	damage(t, server, large)
	require.Contains(t, publishFails(t, dir, 5, "verify", repo), "1 finding")
	require.Contains(t, publish(t, dir, "release", "--channel", "beta", "--version", "1.1.0", "--artifact", "linux/amd64=notes", "--artifact", "windows/amd64=large", repo), "wrote")
	require.Contains(t, publish(t, dir, "verify", repo), "0 findings")
}

// damage puts other bytes of the same length in the place of a blob.
func damage(t *testing.T, server *s3test.Server, content []byte) {
	t.Helper()
	sum := sha256.Sum256(content)
	path := filepath.Join(server.Folder, "notes/app", channel.BlobPath(hex.EncodeToString(sum[:])))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, int64(len(content)), info.Size(), "the bucket's objects are files")
	require.NoError(t, os.WriteFile(path, make([]byte, len(content)), info.Mode()))
}

func publishFails(t *testing.T, dir string, want int, args ...string) string {
	t.Helper()
	out, _ := publishCommand(t, dir, nil, args...).CombinedOutput()
	cmd := publishCommand(t, dir, nil, append(args, "--json")...)
	stdout, err := cmd.Output()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "publish %s", strings.Join(args, " "))
	require.Equal(t, want, exit.ExitCode(), "publish %s: %s", strings.Join(args, " "), out)
	var failed struct{ Error struct{ Hint string } }
	require.NoError(t, json.Unmarshal(stdout, &failed))
	require.NotEmpty(t, failed.Error.Hint)
	return string(out)
}

func publishOutput(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := publishCommand(t, dir, nil, args...).Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}

var writeRE = regexp.MustCompile(`^(PUT|POST) `)

// TestKilledOnS3 kills a publisher at one request that changes something after the other, before it reaches the server or
// after it was obeyed, while clients poll all the time. Each of them sees the old release or the new one, whole, and
// nothing that is listed is missing. The same command, run again, completes it.
func TestKilledOnS3(t *testing.T) {
	needInterrupts(t) // and a kill
	server := s3test.Start(t)
	proxy := s3test.NewProxy(t, server, nil)
	cdn := s3test.NewCDN(t, server, "killed")
	dir := t.TempDir()
	repo := "--repo=" + s3test.Address(proxy.URL, "killed")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "notes"), []byte("#!/bin/sh\necho first\n"), 0o755))
	publish(t, dir, "init", "--product", "notes", "--insecure-no-passphrase", repo)
	root, err := os.ReadFile(filepath.Join(dir, "keys/root.json"))
	require.NoError(t, err)
	proxy.Decide(nil)
	publish(t, dir, "release", "--version", "1.1.0", "--artifact", "linux/amd64=notes", "--artifact", "windows/amd64=notes", repo)
	writes := 0
	for _, r := range proxy.Requests() {
		if writeRE.MatchString(r) {
			writes++
		}
	}
	require.Greater(t, writes, 4)
	watch := watchers(t, root, cdn)

	step := 1
	if long() {
		writes += 9 // the artifacts to come are larger: one is sent in parts
	} else {
		step = 3
	}
	kills, minor := 0, 1
	for _, after := range []bool{false, true} {
		for k := 1; k <= writes; k += step {
			minor++
			version := fmt.Sprintf("1.%d.0", minor)
			watch.old.Store(int64(minor - 1))
			watch.new.Store(int64(minor))
			content := make([]byte, largeFile())
			_, _ = rand.NewChaCha8([32]byte{byte(minor), 2}).Read(content)
			require.NoError(t, os.WriteFile(filepath.Join(dir, "large"), content, 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "notes"), []byte("#!/bin/sh\necho "+version+"\n"), 0o755))
			args := []string{"release", "--version", version, "--artifact", "linux/amd64=notes", "--artifact", "windows/amd64=large", "--no-patches", repo}
			if killAt(t, dir, proxy, k, after, args) {
				kills++
			}
			proxy.Decide(nil)
			publish(t, dir, args...)
			watch.old.Store(int64(minor)) // all have it from now on
		}
	}
	publish(t, dir, "verify", "--root", "keys/root.json", repo)
	checks := watch.end()
	requests, missed := cdn.Served()
	require.Empty(t, missed, "something that is listed was missing")
	require.Greater(t, kills, writes/step, "kills")
	require.Greater(t, checks, kills)
	t.Logf("%d kills; clients checked %d times, with %d requests", kills, checks, requests)
}

// killAt runs publish and kills it at its kth write. It reports whether it died of that.
func killAt(t *testing.T, dir string, proxy *s3test.Proxy, k int, after bool, args []string) bool {
	t.Helper()
	cmd := publishCommand(t, dir, nil, args...)
	var started sync.WaitGroup
	started.Add(1)
	kill := func() {
		started.Wait()
		_ = cmd.Process.Kill()
	}
	n := 0
	proxy.OnLost(kill)
	proxy.Decide(func(_ int, req *http.Request) s3test.Fault {
		if req.Method != http.MethodPut && req.Method != http.MethodPost {
			return s3test.None
		}
		n++
		switch {
		case n < k:
			return s3test.None
		case n == k && after:
			return s3test.LostStall
		case n == k:
			kill()
		}
		return s3test.Stall
	})
	require.NoError(t, cmd.Start())
	started.Done()
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode() == -1
}

// A watch is clients that poll: one is new every time, the others remember what they have seen.
type watch struct {
	old, new atomic.Int64 // the minor versions that may be seen
	stop     chan struct{}
	all      sync.WaitGroup
	checks   atomic.Int64
}

func watchers(t *testing.T, root []byte, cdn *s3test.CDN) *watch {
	w := &watch{stop: make(chan struct{})}
	w.old.Store(1)
	w.new.Store(1)
	for i := range 3 {
		a := newApp(t, root, cdn.URL, "1.0.0")
		w.all.Go(func() {
			for {
				select {
				case <-w.stop:
					return
				case <-time.After(time.Duration(i) * 5 * time.Millisecond):
				}
				if i == 0 {
					a = newApp(t, root, cdn.URL, "1.0.0")
				}
				least := w.old.Load()
				version, err := a.sees()
				most := w.new.Load()
				if err != nil {
					t.Errorf("a client: %v", err)
					return
				}
				var minor int64
				if _, err := fmt.Sscanf(version, "1.%d.0", &minor); err != nil || minor < least || minor > most {
					t.Errorf("a client saw %s, and there are 1.%d.0 to 1.%d.0", version, least, most)
					return
				}
				w.checks.Add(1)
			}
		})
	}
	return w
}

func (w *watch) end() int {
	close(w.stop)
	w.all.Wait()
	return int(w.checks.Load())
}

// TestInterruptedInit kills init at one request that changes something after the other. Run again, it makes the
// repository that it was to make.
func TestInterruptedInit(t *testing.T) {
	needInterrupts(t)
	server := s3test.Start(t)
	proxy := s3test.NewProxy(t, server, nil)
	step := 1
	if !long() {
		step = 4
	}
	kills, done := 0, 0
	for _, after := range []bool{false, true} {
		for k := 1; ; k += step {
			dir := t.TempDir()
			args := []string{"init", "--product", "notes", "--insecure-no-passphrase", "--repo=" + s3test.Address(proxy.URL, fmt.Sprintf("init-%v-%d", after, k))}
			killed := killAt(t, dir, proxy, k, after, args)
			proxy.Decide(nil)
			if !killed { // it has fewer writes than that
				require.Greater(t, k, 8)
				break
			}
			kills++
			out, err := publishCommand(t, dir, nil, args...).CombinedOutput()
			if after && err != nil { // it was done, and did not hear of it
				require.Contains(t, string(out), "there is a repository")
				done++
			} else {
				require.NoError(t, err, "%s", out)
			}
			publish(t, dir, "verify", "--root=keys/root.json", args[len(args)-1])
			require.Contains(t, publish(t, dir, "list", args[len(args)-1]), "notes/stable")
		}
	}
	t.Logf("%d kills", kills)
	require.LessOrEqual(t, done, 1)
	require.GreaterOrEqual(t, kills, 4)
}
