//go:build linux && (amd64 || arm64)

package killpoint_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/fairlead-dev/fairlead/internal/killpoint"
)

// run runs one of the programs in programs_test.go in dir.
func run(t *testing.T, dir, program string, c killpoint.Config, args ...string) killpoint.Result {
	t.Helper()
	var out bytes.Buffer
	c.Path, c.Args = self(t), append([]string{program, dir}, args...)
	c.Env = append(os.Environ(), programEnv+"=1")
	c.Stdout, c.Stderr = &out, &out
	if c.Under == nil {
		c.Under = []string{dir}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := killpoint.Run(ctx, c)
	if errors.Is(err, killpoint.ErrRefused) {
		t.Skip("this system does not permit ptrace: ", err)
	}
	require.NoError(t, err)
	for i, call := range r.Calls {
		require.Equal(t, i+1, call.N)
	}
	if r.ExitCode > 0 {
		t.Logf("%s", &out)
	}
	return r
}

func self(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	return exe
}

func names(r killpoint.Result) (all []string) {
	for _, c := range r.Calls {
		all = append(all, c.Name)
	}
	return all
}

func only(name string) func(killpoint.Call) bool {
	return func(c killpoint.Call) bool { return c.Name == name }
}

// snapshot describes everything in a folder that steps change.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		var st unix.Stat_t
		require.NoError(t, unix.Lstat(path, &st))
		old := st.Mtim.Sec == longAgo
		rel, _ := filepath.Rel(dir, path)
		fmt.Fprintf(&b, "%s mode %o uid %d", rel, st.Mode, st.Uid)
		switch {
		case d.Type() == fs.ModeSymlink:
			to, err := os.Readlink(path)
			require.NoError(t, err)
			fmt.Fprintf(&b, " → %s", to)
		case d.Type().IsRegular():
			content, err := os.ReadFile(path)
			require.NoError(t, err)
			fmt.Fprintf(&b, " links %d old %t %q", st.Nlink, old, content)
			attr := make([]byte, 16)
			if n, err := unix.Getxattr(path, xattr, attr); err == nil {
				fmt.Fprintf(&b, " attr %q", attr[:n])
			}
		}
		b.WriteByte('\n')
		return nil
	})
	require.NoError(t, err)
	return b.String()
}

func TestEveryStepIsOneCall(t *testing.T) {
	dir := t.TempDir()
	r := run(t, dir, "steps", killpoint.Config{})
	require.Zero(t, r.ExitCode)
	require.False(t, r.Acted)
	var want []string
	for _, s := range steps {
		want = append(want, s.call)
	}
	require.Equal(t, want, names(r))

	pids, tids := map[int]bool{}, map[int]bool{}
	for i, c := range r.Calls {
		require.Equal(t, filepath.Join(dir, steps[i].path), c.Path, steps[i].call)
		if steps[i].path2 != "" {
			require.Equal(t, filepath.Join(dir, steps[i].path2), c.Path2, steps[i].call)
		}
		require.Equal(t, steps[i].err, c.Err, steps[i].call)
		pids[c.PID], tids[c.TID] = true, true
	}
	require.Len(t, pids, 1+len(steps)/childEvery, "the program and its children")
	require.Greater(t, len(tids), len(pids))
}

func TestCountIsStable(t *testing.T) {
	for range 20 {
		require.Len(t, run(t, t.TempDir(), "steps", killpoint.Config{}).Calls, len(steps))
	}
}

func TestKillLeavesTheEffectsBefore(t *testing.T) {
	seen := map[string]bool{}
	for n := 1; n <= len(steps)+1; n++ {
		killed, control := t.TempDir(), t.TempDir()
		r := run(t, killed, "steps", killpoint.Config{At: n})
		doSteps(control, n-1)
		want := snapshot(t, control)
		require.Equal(t, want, snapshot(t, killed), "killed at %d", n)
		if n > len(steps) {
			require.False(t, r.Acted)
			require.Zero(t, r.ExitCode)
			break
		}
		require.True(t, r.Acted)
		require.Len(t, r.Calls, n)
		require.Equal(t, steps[n-1].call, r.Calls[n-1].Name)
		require.Equal(t, syscall.SIGKILL, r.Signal)
		require.Equal(t, -1, r.ExitCode)
		seen[want] = true
	}
	require.Greater(t, len(seen), len(steps)/2, "the control sees what the steps do")
}

func TestErrnoHitsOneCall(t *testing.T) {
	const n = 3
	full, control := t.TempDir(), t.TempDir()
	r := run(t, full, "steps", killpoint.Config{At: n, Errno: syscall.EDQUOT})
	require.True(t, r.Acted)
	require.Equal(t, syscall.EDQUOT, r.Calls[n-1].Err)
	for i, c := range r.Calls {
		if i != n-1 {
			require.NotEqual(t, syscall.EDQUOT, c.Err)
		}
	}
	require.Len(t, r.Calls, n, "the program ends at an error")
	require.Equal(t, 1, r.ExitCode)
	doSteps(control, n-1)
	require.Equal(t, snapshot(t, control), snapshot(t, full))
}

func TestErrnoReachesTheProgram(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a"), nil, 0o600))
	r := run(t, dir, "rename", killpoint.Config{At: 1, Errno: syscall.ENOSPC})
	require.Equal(t, int(syscall.ENOSPC), r.ExitCode)
	require.FileExists(t, filepath.Join(dir, "a"))
	require.NoFileExists(t, filepath.Join(dir, "b"))

	r = run(t, dir, "rename", killpoint.Config{At: 2, Errno: syscall.ENOSPC})
	require.False(t, r.Acted)
	require.Zero(t, r.ExitCode)
	require.FileExists(t, filepath.Join(dir, "b"))
}

// The program goes on after errors, and makes the same calls whether they fail or not.
func TestSticky(t *testing.T) {
	errs := func(c killpoint.Config) (all []syscall.Errno) {
		r := run(t, t.TempDir(), "stubborn", c)
		require.Equal(t, []string{"openat", "write", "unlinkat", "write", "mkdirat", "ftruncate", "unlinkat"}, names(r))
		for _, call := range r.Calls {
			all = append(all, call.Err)
		}
		return all
	}
	const full, broken, missing = syscall.ENOSPC, syscall.EIO, syscall.ENOENT
	require.Equal(t, []syscall.Errno{0, 0, 0, 0, 0, 0, 0}, errs(killpoint.Config{}))
	require.Equal(t, []syscall.Errno{0, full, 0, 0, 0, 0, 0}, errs(killpoint.Config{At: 2, Errno: full}))
	require.Equal(t, []syscall.Errno{0, full, 0, full, full, 0, missing}, errs(killpoint.Config{At: 2, Errno: full, Sticky: true}),
		"what needs no space succeeds")
	require.Equal(t, []syscall.Errno{0, broken, broken, broken, broken, broken, broken}, errs(killpoint.Config{At: 2, Errno: broken, Sticky: true}))
}

// Eight threads write one byte each time. Whatever their order, N-1 bytes are there, and no more.
func TestKillWaitsForOtherThreads(t *testing.T) {
	for n := 1; n < writers*writes; n += 7 {
		dir := t.TempDir()
		r := run(t, dir, "writers", killpoint.Config{At: n, Match: only("write")})
		require.True(t, r.Acted)
		require.Equal(t, n-1, written(t, dir), "killed at %d", n)
	}
	dir := t.TempDir()
	require.Len(t, run(t, dir, "writers", killpoint.Config{Match: only("write")}).Calls, writers*writes)
	require.Equal(t, writers*writes, written(t, dir))
}

// The same, where each write takes long enough for the kill to meet others half way.
func TestKillDoesNotTearOtherWrites(t *testing.T) {
	for n := 2; n < 40; n += 3 {
		dir := t.TempDir()
		r := run(t, dir, "writers", killpoint.Config{At: n, Match: only("write")}, strconv.Itoa(bigWrite))
		require.True(t, r.Acted)
		require.Equal(t, (n-1)*bigWrite, written(t, dir), "killed at %d", n)
	}
}

func written(t *testing.T, dir string) (sum int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	for _, f := range files {
		info, err := os.Stat(f)
		require.NoError(t, err)
		sum += int(info.Size())
	}
	return sum
}

func TestHowTheProgramEnded(t *testing.T) {
	r := run(t, t.TempDir(), "exit", killpoint.Config{}, "7")
	require.Equal(t, 7, r.ExitCode)
	require.Zero(t, r.Signal)
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} { // not one that a test under nohup ignores
		r, err := killpoint.Run(t.Context(), killpoint.Config{Path: "/bin/sh", Args: []string{"-c", "kill -" + strconv.Itoa(int(s)) + " $$"}, Under: []string{t.TempDir()}})
		require.NoError(t, err)
		require.Equal(t, s, r.Signal)
		require.Equal(t, -1, r.ExitCode)
	}
}

func TestSignalsArePassedOn(t *testing.T) {
	dir := t.TempDir()
	r := run(t, dir, "storm", killpoint.Config{})
	require.Zero(t, r.ExitCode, "the program counts the signals that it gets")
	require.Len(t, r.Calls, 1+stormWrites)
	require.Equal(t, stormWrites, written(t, dir))
}

func TestStopSignalsDoNotStick(t *testing.T) {
	r := run(t, t.TempDir(), "stopself", killpoint.Config{})
	require.Zero(t, r.ExitCode)
	require.Equal(t, []string{"mkdirat"}, names(r))
}

func TestExecIsFollowed(t *testing.T) {
	for n := range 5 {
		dir := t.TempDir()
		r := run(t, dir, "exec", killpoint.Config{At: n})
		if n == 0 {
			require.Zero(t, r.ExitCode)
			require.Equal(t, []string{"mkdirat", "mkdirat", "mkdirat", "mkdirat"}, names(r))
			require.NotEqual(t, r.Calls[0].PID, r.Calls[0].TID, "exec comes from a thread that is not the first")
			require.Equal(t, r.Calls[0].PID, r.Calls[3].PID)
			continue
		}
		require.Equal(t, syscall.SIGKILL, r.Signal)
		made, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, made, n-1)
	}
}

func TestPaths(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	require.NoError(t, os.Symlink(dir, filepath.Join(outside, "link")))
	r := run(t, dir, "paths", killpoint.Config{}, outside)
	require.Zero(t, r.ExitCode)
	var got []string
	for _, c := range r.Calls {
		got = append(got, strings.ReplaceAll(strings.TrimSpace(c.Name+" "+c.Path+" "+c.Path2), dir, "$"))
	}
	require.Equal(t, []string{
		"mkdirat $/root", "openat $/root/f", "mkdirat $/cwd", "mkdirat $/linked", "openat $/root/f",
		"unlinkat $/root/f", "write $/root/f", "renameat $/out " + outside + "/out", "renameat " + outside + "/out $/in",
		"openat $", "linkat $/#N $/named", "openat2 $/two", "fchmod $",
	}, anonymous(got))

	// The folder may be given by a name that is a link itself.
	r2 := run(t, t.TempDir(), "mkdir", killpoint.Config{Under: []string{filepath.Join(outside, "link")}}, filepath.Join(dir, "x"), outside+"/y")
	require.Len(t, r2.Calls, 1)
}

func anonymous(calls []string) []string {
	for i, c := range calls {
		if before, after, ok := strings.Cut(c, "#"); ok {
			calls[i] = before + "#N" + strings.TrimLeft(after, "0123456789")
		}
	}
	return calls
}

func TestIOUringIsRefused(t *testing.T) {
	r := run(t, t.TempDir(), "iouring", killpoint.Config{})
	require.Equal(t, int(syscall.ENOSYS), r.ExitCode)
}

// The program starts a child in a session of its own, which starts another; all sleep.
func TestNothingIsLeftBehind(t *testing.T) {
	gone := func(t *testing.T, dir string) {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(dir, "pid.*"))
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, f := range files {
			pid, err := strconv.Atoi(strings.TrimPrefix(filepath.Ext(f), "."))
			require.NoError(t, err)
			require.Eventually(t, func() bool { return unix.Kill(pid, 0) == unix.ESRCH }, 5*time.Second, time.Millisecond,
				"process %d, to be reaped by us or, if its parent died before it, by init", pid)
		}
	}
	t.Run("the context ends", func(t *testing.T) {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			for ctx.Err() == nil {
				if files, _ := filepath.Glob(filepath.Join(dir, "pid.*")); len(files) == family {
					cancel()
				}
				time.Sleep(time.Millisecond)
			}
		}()
		defer cancel()
		r, err := killpoint.Run(ctx, killpoint.Config{
			Path: self(t), Args: []string{"family", dir, "1"}, Env: append(os.Environ(), programEnv+"=1"), Under: []string{dir},
		})
		if errors.Is(err, killpoint.ErrRefused) {
			t.Skip(err)
		}
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, syscall.SIGKILL, r.Signal)
		require.Len(t, r.Calls, family)
		gone(t, dir)
	})
	t.Run("killed", func(t *testing.T) {
		dir := t.TempDir()
		r := run(t, dir, "family", killpoint.Config{At: family}, "1")
		require.True(t, r.Acted)
		gone(t, dir)
	})
	require.ErrorIs(t, unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL, nil), unix.ECHILD)
}

// Run must not reap the children of others, on whatever thread it happens to work: here all threads have some.
func TestOtherChildrenAreLeftAlone(t *testing.T) {
	var others []*exec.Cmd
	var started, all sync.WaitGroup
	for range 32 {
		other := exec.Command("/bin/true")
		others = append(others, other)
		started.Add(1)
		all.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			err := other.Start()
			started.Done()
			started.Wait()
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for range 10 {
		run(t, t.TempDir(), "exit", killpoint.Config{}, "0")
	}
	for _, other := range others {
		require.NoError(t, other.Wait())
	}
}

func TestSeveralRunsAtOnce(t *testing.T) {
	for range 4 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			for range 3 {
				require.Len(t, run(t, t.TempDir(), "steps", killpoint.Config{}).Calls, len(steps))
			}
		})
	}
}

// A process that is born while all others are killed is killed, too: else Run would not return.
func TestKillDuringForks(t *testing.T) {
	for range 30 {
		r := run(t, t.TempDir(), "forks", killpoint.Config{At: 3})
		require.Equal(t, syscall.SIGKILL, r.Signal)
	}
}

// A parent that asks for stopped children does not hear of the stops by which they are traced.
func TestParentsSeeNoStops(t *testing.T) {
	require.Zero(t, run(t, t.TempDir(), "watch", killpoint.Config{}).ExitCode)
}

func TestWhatDoesNotFitTogether(t *testing.T) {
	good := killpoint.Config{Path: "/bin/true", Under: []string{t.TempDir()}}
	for name, change := range map[string]func(*killpoint.Config){
		"no folder":            func(c *killpoint.Config) { c.Under = nil },
		"sticky without errno": func(c *killpoint.Config) { c.At, c.Sticky = 1, true },
		"errno without at":     func(c *killpoint.Config) { c.Errno = syscall.EIO },
		"negative":             func(c *killpoint.Config) { c.At = -1 },
		"no program":           func(c *killpoint.Config) { c.Path = "/nonexistent" },
	} {
		c := good
		change(&c)
		_, err := killpoint.Run(t.Context(), c)
		require.Error(t, err, name)
		require.NotErrorIs(t, err, killpoint.ErrRefused)
	}
}

func BenchmarkRun(b *testing.B) {
	dir := b.TempDir()
	src := filepath.Join(dir, "main.go")
	require.NoError(b, os.WriteFile(src, []byte(`package main
import "os"
func main() { os.WriteFile(os.Args[1], []byte("x"), 0o600); os.Rename(os.Args[1], os.Args[1]+"2") }`), 0o600))
	exe := filepath.Join(dir, "small")
	out, err := exec.Command("go", "build", "-o", exe, src).CombinedOutput()
	require.NoError(b, err, "%s", out)
	b.Run("alone", func(b *testing.B) {
		for b.Loop() {
			require.NoError(b, exec.Command(exe, dir+"/x").Run())
		}
	})
	b.Run("followed", func(b *testing.B) {
		for b.Loop() {
			r, err := killpoint.Run(b.Context(), killpoint.Config{Path: exe, Args: []string{dir + "/x"}, Under: []string{dir}})
			require.NoError(b, err)
			require.Len(b, r.Calls, 3)
		}
	})
}
