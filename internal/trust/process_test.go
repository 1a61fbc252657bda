package trust

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	processes = 8
	releases  = 12
)

// TestProcessesShareAStore starts itself eight times. They all refresh on one store while new releases appear; none
// may fail, none may see a version lower than it has seen, and the store ends up whole.
func TestProcessesShareAStore(t *testing.T) {
	if os.Getenv("FAIRLEAD_TEST_STORE") != "" {
		refreshUntilLast(t)
		return
	}
	r := newRepo(t)
	r.rotate(roleSnapshot)
	r.publishRoot()
	r.publish("notes.stable")
	srv, dir := r.serve(), t.TempDir()
	work := t.TempDir()
	rootFile := filepath.Join(work, "root")
	require.NoError(t, os.WriteFile(rootFile, r.get(rootName(1)), 0o600))
	exe, err := os.Executable()
	require.NoError(t, err)

	last := r.timestamp.Signed.Version + releases
	var done sync.WaitGroup
	outs, errs := make([]string, processes), make([]error, processes)
	for i := range processes {
		done.Go(func() {
			cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestProcessesShareAStore$", "-test.v")
			cmd.Env = append(os.Environ(), "FAIRLEAD_TEST_STORE="+dir, "FAIRLEAD_TEST_URL="+srv.url,
				"FAIRLEAD_TEST_ROOT="+rootFile, "FAIRLEAD_TEST_LAST="+strconv.FormatInt(last, 10))
			out, err := cmd.CombinedOutput()
			outs[i], errs[i] = string(out), err
		})
	}
	for i := range releases {
		time.Sleep(50 * time.Millisecond)
		if i == releases/2 {
			r.publishRoot()
		}
		r.release("notes.stable", "stable", "1.0."+strconv.Itoa(i))
		r.publish("notes.stable", roleTargets)
	}
	done.Wait()
	for i := range processes {
		require.NoError(t, errs[i], outs[i])
		require.Contains(t, outs[i], "saw the last version")
	}
	v, err := r.client(dir, sourceFunc(nil)).Load(t.Context())
	require.NoError(t, err)
	require.Equal(t, last, v.Versions()["timestamp"])
	require.EqualValues(t, 3, v.Versions()["root"])
	f := storedFloors(t, dir)
	require.Equal(t, last, f.Timestamp.Version)
	require.Equal(t, last, f.Whole)
	files, err := filepath.Glob(filepath.Join(dir, "snapshot.*"))
	require.NoError(t, err)
	require.Len(t, files, 1, "the others are swept")
}

func refreshUntilLast(t *testing.T) {
	root, err := os.ReadFile(os.Getenv("FAIRLEAD_TEST_ROOT"))
	require.NoError(t, err)
	last, err := strconv.ParseInt(os.Getenv("FAIRLEAD_TEST_LAST"), 10, 64)
	require.NoError(t, err)
	src, err := HTTP(os.Getenv("FAIRLEAD_TEST_URL"), nil)
	require.NoError(t, err)
	var c *Client
	seen := map[string]int64{}
	for i := 0; seen[roleTimestamp] < last; i++ { // the server never goes back, so neither may a refresh fail
		if i%3 == 0 { // now and then, as if just started
			c, err = New(Config{Root: root, Dir: os.Getenv("FAIRLEAD_TEST_STORE"), Source: src, Now: func() time.Time { return start }})
			require.NoError(t, err)
		}
		v, err := c.Refresh(t.Context())
		require.NoError(t, err)
		_, err = v.Role(t.Context(), "notes.stable")
		require.NoError(t, err)
		for role, version := range v.Versions() {
			require.GreaterOrEqual(t, version, seen[role], role)
			seen[role] = version
		}
		_, err = c.Load(t.Context())
		require.NoError(t, err)
	}
	t.Log("saw the last version")
}

// A commit that comes late must not undo what another process has done meanwhile.
func TestLateCommitLowersNothing(t *testing.T) {
	for _, what := range []string{"release", "root"} {
		r := newRepo(t)
		dir := t.TempDir()
		r.mustRefresh(dir, nil)
		r.publish("notes.stable")
		slow := FS(mapFS(r.copyFiles()))
		reached, goOn := make(chan struct{}), make(chan struct{})
		var once sync.Once
		src := sourceFunc(func(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
			if name == "metadata/2.snapshot.json" {
				once.Do(func() { close(reached); <-goOn })
			}
			return slow.Open(ctx, name, offset)
		})
		late := make(chan error)
		c := r.client(dir, src)
		go func() {
			v, err := c.Refresh(context.Background())
			if err == nil && v.Versions()["timestamp"] != 2 {
				err = errors.New("it saw another version")
			}
			late <- err
		}()
		<-reached
		if what == "root" {
			r.publishRoot(r.rotate(roleTimestamp)...)
			r.timestamp.Signed.Version = 0
		}
		r.publish("notes.stable")
		r.mustRefresh(dir, nil)
		before := treeHash(t, dir)
		close(goOn)
		require.NoError(t, <-late, "what it saw was right when it began")
		require.Equal(t, before, treeHash(t, dir))
		v, err := c.Refresh(t.Context())
		if what == "root" { // the newer root is in the store
			requireVerify(t, err, "metadata/timestamp.json")
		} else {
			requireRollback(t, err, roleTimestamp)
		}
		require.Nil(t, v)
		v = r.mustRefresh(dir, nil)
		require.EqualValues(t, 3, v.Versions()["snapshot"])
	}
}

// One client, used by many goroutines.
func TestClientIsSafeForConcurrentUse(t *testing.T) {
	r := newRepo(t)
	r.release("notes.stable", "stable", "1.0.0")
	r.publish("notes.stable")
	c := r.client(t.TempDir(), r.serve().source(t))
	var failures atomic.Int64
	var done sync.WaitGroup
	for i := range 16 {
		done.Go(func() {
			v, err := c.Refresh(t.Context())
			if err != nil {
				failures.Add(1)
				return
			}
			list, err := v.Role(t.Context(), "notes.stable")
			_, err2 := v.Find(t.Context(), "notes/beta/1/x")
			if err != nil || !errors.Is(err2, ErrNotFound) || len(list) != 1 || v.Versions()["root"] != 1 {
				failures.Add(1)
				return
			}
			if _, err := v.Fetch(t.Context(), list[0], 1000); err != nil {
				failures.Add(1)
			}
			if i%4 == 0 {
				if _, err := c.Load(t.Context()); err != nil {
					failures.Add(1)
				}
			}
		})
	}
	done.Wait()
	require.Zero(t, failures.Load())
}

// What a client keeps in memory counts only as long as nobody else has written to the store.
func TestWarmClientNoticesOtherProcesses(t *testing.T) {
	r := newRepo(t)
	dir := t.TempDir()
	c := r.client(dir, nil)
	_, err := c.Refresh(t.Context())
	require.NoError(t, err)
	stale := FS(mapFS(r.copyFiles()))
	r.publish("notes.stable")
	r.mustRefresh(dir, nil)
	c.fetcher.roster = NewRoster(stale, nil)
	_, err = c.Refresh(t.Context())
	requireRollback(t, err, roleTimestamp)
	require.True(t, strings.Contains(err.Error(), "version 2 was verified before"))
}
