package preflight

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// These tests ask real mounts, made for them. They need root, and a system that lets it mount.

func mount(t *testing.T, source, target, kind string, flags uintptr, data string) {
	t.Helper()
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		t.Skipf("cannot mount here (%s on %s): %s", kind, target, err)
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(target, unix.MNT_DETACH)) })
}

func tmpfs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	mount(t, "tmpfs", dir, "tmpfs", 0, "size=1m")
	return dir
}

// bind returns another place where dir is mounted.
func bind(t *testing.T, dir string) string {
	t.Helper()
	other := t.TempDir()
	mount(t, dir, other, "", unix.MS_BIND, "")
	return other
}

func readOnlyBind(t *testing.T, dir string) string {
	t.Helper()
	other := bind(t, dir)
	require.NoError(t, unix.Mount("", other, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	return other
}

func folder(t *testing.T, parent, name string) string {
	t.Helper()
	dir := filepath.Join(parent, name)
	require.NoError(t, os.Mkdir(dir, 0o755))
	return dir
}

func requireEmpty(t *testing.T, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, entries, "left in %s", dir)
	}
}

func TestFree(t *testing.T) {
	dir := tmpfs(t)
	n, err := Free(dir)
	require.NoError(t, err)
	require.EqualValues(t, 1<<20, n)

	require.NoError(t, os.WriteFile(dir+"/file", make([]byte, 256<<10), 0o600))
	for _, path := range []string{dir, dir + "/absent", dir + "/absent/deeper/../still", dir + "/file"} {
		n, err = Free(path)
		require.NoError(t, err)
		require.EqualValues(t, 768<<10, n, path)
	}
	require.ErrorIs(t, os.WriteFile(dir+"/more", make([]byte, 1<<20), 0o600), syscall.ENOSPC)
	n, err = Free(dir)
	require.NoError(t, err)
	require.Zero(t, n)

	_, err = Free(dir + "/file/below")
	require.ErrorIs(t, err, syscall.ENOTDIR)
}

// The next existing parent may be the working directory.
func TestFreeOfARelativePath(t *testing.T) {
	t.Chdir(tmpfs(t))
	n, err := Free("absent/deeper")
	require.NoError(t, err)
	require.EqualValues(t, 1<<20, n)
}

func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(dir+"/app", nil, 0o755))
	other := readOnlyBind(t, dir)
	system := tmpfs(t)
	require.NoError(t, os.WriteFile(system+"/app", nil, 0o755))
	require.NoError(t, unix.Mount("", system, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")) // the file system, not a mount of it
	for path, want := range map[string]bool{
		dir: false, dir + "/app": false, dir + "/absent": false,
		other: true, other + "/app": true, other + "/absent/deeper": true,
		system: true, system + "/app": true,
	} {
		ro, err := ReadOnly(path)
		require.NoError(t, err)
		require.Equal(t, want, ro, path)
	}
}

func TestManagedByReadOnlyVolume(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(dir+"/app", nil, 0o755))
	other := readOnlyBind(t, dir)
	m := newMachine(t, "linux")
	require.Equal(t, "a read-only file system", m.by(other+"/app"))
	require.Equal(t, "a read-only file system", m.by(m.link("/usr/bin/app", other+"/app")))
	require.Empty(t, m.by(dir+"/app"))

	// The volume of a link does not matter: what is replaced lies elsewhere.
	require.NoError(t, os.WriteFile(m.root+"/real", nil, 0o755))
	require.NoError(t, os.Symlink(m.root+"/real", dir+"/link"))
	require.Empty(t, m.by(other+"/link"))
}

func TestWritable(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, Writable(dir))
	requireEmpty(t, dir)
	require.ErrorIs(t, Writable(dir+"/absent"), fs.ErrNotExist)
	require.ErrorIs(t, Writable(readOnlyBind(t, dir)), syscall.EROFS)
	requireEmpty(t, dir)
}

// A file could be made there, and would stay for ever.
func TestWritableAppendOnly(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "chattr", "+a", dir).CombinedOutput(); err != nil {
		t.Skipf("chattr +a: %s: %s", err, out)
	}
	t.Cleanup(func() {
		require.NoError(t, exec.Command("chattr", "-R", "-a", dir).Run())
	})
	require.ErrorIs(t, Writable(dir), fs.ErrPermission)
	requireEmpty(t, dir)
}

func TestSameVolume(t *testing.T) {
	dir := t.TempDir()
	a, b := folder(t, dir, "a"), folder(t, dir, "b")
	require.NoError(t, SameVolume(a, b))
	require.NoError(t, SameVolume(a, a))
	requireEmpty(t, a, b)
	require.ErrorIs(t, SameVolume(a, dir+"/absent"), fs.ErrNotExist)
	require.ErrorIs(t, SameVolume(dir+"/absent", a), fs.ErrNotExist)
	requireEmpty(t, a)
}

func TestSameVolumeOnAnother(t *testing.T) {
	a, b := tmpfs(t), tmpfs(t)
	require.ErrorIs(t, SameVolume(a, b), ErrOtherVolume)
	requireEmpty(t, a, b)
}

func TestSameVolumeThroughABindMount(t *testing.T) {
	dir := t.TempDir()
	a, b := folder(t, dir, "a"), folder(t, dir, "b")
	again := bind(t, b)
	require.Equal(t, device(t, a), device(t, again), "or this test shows nothing")
	require.ErrorIs(t, SameVolume(a, again), ErrOtherVolume)
	require.NoError(t, SameVolume(a, b))
	requireEmpty(t, a, b)

	err := SameVolume(a, readOnlyBind(t, b))
	require.ErrorIs(t, err, syscall.EROFS)
	require.NotErrorIs(t, err, ErrOtherVolume)
	requireEmpty(t, a, b)
}

func TestSameVolumeThroughAnOverlay(t *testing.T) {
	dir := tmpfs(t)
	lower, upper, work, merged := folder(t, dir, "lower"), folder(t, dir, "upper"), folder(t, dir, "work"), folder(t, dir, "merged")
	folder(t, lower, "old")
	mount(t, "overlay", merged, "overlay", 0, "lowerdir="+lower+",upperdir="+upper+",workdir="+work)
	fresh := folder(t, merged, "fresh")
	require.ErrorIs(t, os.Rename(merged+"/old", fresh+"/old"), syscall.EXDEV, "a folder from below may not move: what the comment says")
	require.NoError(t, SameVolume(merged+"/old", fresh), "a file may")
	require.ErrorIs(t, SameVolume(fresh, upper), ErrOtherVolume)
	require.ErrorIs(t, SameVolume(upper, fresh), ErrOtherVolume)
	requireEmpty(t, merged+"/old", fresh)
}

func device(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	require.NoError(t, unix.Stat(path, &st))
	return st.Dev
}

// What another user than root finds. TestAsNobody is that user.
type asNobody struct {
	Owner    map[string]string // of what is foreign
	Writable map[string]string // the error
	Same     string
}

func TestOwnerAndWritableAsAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	dir := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755)) // the other user has to get there
	root, shared, mine := folder(t, dir, "root"), folder(t, dir, "shared"), folder(t, dir, "mine")
	require.NoError(t, os.Chmod(shared, 0o777))
	require.NoError(t, os.Chown(mine, 65534, 65534))
	for path, uid := range map[string]int{shared + "/root": 0, shared + "/mine": 65534, shared + "/stranger": 54321} {
		require.NoError(t, os.WriteFile(path, nil, 0o755))
		require.NoError(t, os.Chown(path, uid, -1))
	}
	require.NoError(t, os.Symlink("root", shared+"/link"))
	require.NoError(t, os.Lchown(shared+"/link", 65534, 65534))

	for _, path := range []string{shared + "/mine", shared + "/stranger"} {
		owner, foreign := ForeignOwner(path)
		require.False(t, foreign, "to root")
		require.Empty(t, owner)
	}

	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestAsNobody$")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Env = []string{"FAIRLEAD_TEST_AS_NOBODY=" + dir}
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s", out)
	var got asNobody
	require.NoError(t, json.Unmarshal(out, &got), "%s", out)
	require.Equal(t, map[string]string{"root": "root", "shared/root": "root", "shared/link": "root", "shared/stranger": "uid 54321"}, got.Owner)
	require.Equal(t, map[string]string{"root": "permission denied", "shared": "", "mine": ""}, got.Writable)
	require.Equal(t, "permission denied", got.Same)
	requireEmpty(t, root, mine)
}

func TestAsNobody(t *testing.T) {
	dir := os.Getenv("FAIRLEAD_TEST_AS_NOBODY")
	if dir == "" {
		t.Skip("part of TestOwnerAndWritableAsAnotherUser")
	}
	got := asNobody{map[string]string{}, map[string]string{}, reason(SameVolume(dir+"/mine", dir+"/root"))}
	for _, name := range []string{"root", "shared/root", "shared/mine", "shared/link", "shared/stranger", "shared/absent", "mine"} {
		if owner, foreign := ForeignOwner(filepath.Join(dir, name)); foreign {
			got.Owner[name] = owner
		}
	}
	for _, name := range []string{"root", "shared", "mine"} {
		got.Writable[name] = reason(Writable(filepath.Join(dir, name)))
	}
	require.NoError(t, json.NewEncoder(os.Stdout).Encode(got))
	os.Exit(0) // before the test binary prints
}

func reason(err error) string {
	var number syscall.Errno
	switch {
	case err == nil:
		return ""
	case errors.As(err, &number):
		return number.Error()
	}
	return err.Error()
}

func TestSessionEnding(t *testing.T) { require.False(t, SessionEnding()) }
