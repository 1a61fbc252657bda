//go:build amd64 || arm64

package license_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/internal/killpoint"
	"github.com/fairlead-dev/fairlead/license"
)

// A process that installs is killed at each of its system calls, each of them fails for want of space, and from each on
// all do: the licence from before is there, or the new one, and the next installation goes through.
func TestKilledWhileInstalling(t *testing.T) {
	p := newStoreprog(t)
	old, fresh := string(numbered(t, 1))+"\n", string(numbered(t, 2))+"\n"
	file := filepath.Join(p.dir, "licenses.jwt")
	once := func(change func(*killpoint.Config)) killpoint.Result {
		require.NoError(t, errors.Join(os.RemoveAll(p.dir), os.Mkdir(p.dir, 0o700), os.WriteFile(file, []byte(old), 0o600)))
		c := killpoint.Config{Path: p.path, Args: []string{p.dir, "install", p.token(2)}, Env: p.env, Under: []string{p.dir}}
		change(&c)
		r, err := killpoint.Run(t.Context(), c)
		if errors.Is(err, killpoint.ErrRefused) {
			t.Skip(err)
		}
		require.NoError(t, err)
		return r
	}
	whole := once(func(*killpoint.Config) {})
	require.Zero(t, whole.ExitCode)
	synced := 1 + slices.IndexFunc(whole.Calls, func(c killpoint.Call) bool { return c.Name == "fsync" && c.Path == p.dir })
	require.Positive(t, synced)
	seen := map[string]int{}
	for n := 1; n <= len(whole.Calls); n++ {
		ways := []string{"kill", "fail", "full"}
		if n >= synced { // all that is left is to note the time: no installation fails for that
			ways = ways[:1]
		}
		for _, how := range ways {
			r := once(func(c *killpoint.Config) {
				c.At = n
				if how != "kill" {
					c.Errno, c.Sticky = syscall.ENOSPC, how == "full"
				}
			})
			require.True(t, r.Acted)
			what := fmt.Sprintf("%s at %d, %+v", how, n, r.Calls[n-1])
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			s := open(t, dir(p.dir))
			if string(data) == old {
				requireCounts(t, s.Current(), license.Valid, "jti-1")
				require.NotZero(t, r.ExitCode, what)
				seen[how+", old"]++
			} else {
				require.Equal(t, fresh, string(data), what)
				requireCounts(t, s.Current(), license.Valid, "jti-2")
				seen[how+", new"]++
			}
			status, err := s.Install(t.Context(), numbered(t, 3))
			require.NoError(t, err, what)
			requireCounts(t, status, license.Valid, "jti-3")
			names, err := filepath.Glob(filepath.Join(p.dir, ".tmp-*"))
			require.NoError(t, err)
			require.Empty(t, names, "what the killed one left is gone")
		}
	}
	t.Log(len(whole.Calls), "calls:", seen)
	for _, outcome := range []string{"kill, old", "fail, old", "full, old", "kill, new"} {
		require.Positive(t, seen[outcome], outcome)
	}
}

func TestFIFOsInTheWay(t *testing.T) {
	where := t.TempDir()
	for _, name := range []string{"licenses.jwt", "clock.json", "lock", "a.license"} {
		require.NoError(t, syscall.Mkfifo(filepath.Join(where, name), 0o600))
	}
	s := open(t, dir(where), from(license.File(filepath.Join(where, "a.license")), license.Folder(where), license.Token("t", numbered(t, 1))))
	status := s.Current()
	requireCounts(t, status, license.Valid, "jti-1")
	require.NotEmpty(t, status.Warnings)
	_, err := s.Install(t.Context(), numbered(t, 2))
	require.NoError(t, err)
	requireCounts(t, open(t, dir(where)).Current(), license.Valid, "jti-2")
}

// A folder that may only be read is read; installing says what is wrong, and changes nothing.
func TestReadOnlyStore(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("becomes another user")
	}
	p := newStoreprog(t)
	for dir := p.work; dir != "/"; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		require.NoError(t, err)
		require.NoError(t, os.Chmod(dir, info.Mode().Perm()|0o055))
	}
	require.NoError(t, os.Chmod(filepath.Dir(p.path), 0o755))
	p.run("install", p.token(1))
	require.NoError(t, errors.Join(os.Chmod(p.dir, 0o755), os.Chmod(filepath.Join(p.dir, "licenses.jwt"), 0o644)))
	nobody := func(args ...string) (string, error) {
		cmd := p.command(args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		return string(bytes.TrimSpace(out)), err
	}
	before := tree(t, p.dir)
	out, err := nobody("status")
	require.NoError(t, err, out)
	require.Equal(t, "valid 1 true", out)
	out, err = nobody("install", p.token(2))
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Contains(t, out, "license: the store "+p.dir+" cannot be written: ")
	require.Contains(t, out, "permission denied: give this user the right to write there")
	require.Equal(t, before, tree(t, p.dir))

	// What may not even be read is a warning, or Invalid if there is nothing else.
	require.NoError(t, os.Chmod(filepath.Join(p.dir, "licenses.jwt"), 0o600))
	out, err = nobody("status")
	require.NoError(t, err)
	require.Equal(t, "invalid 0 false", out)
}
