package update_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/tufrepo"
	"github.com/fairlead-dev/fairlead/update"
)

// largeOnDisk publishes 1.0.0 and 1.1.0 that share a file of size bytes, with a patch, and installs 1.0.0 in dir.
func largeOnDisk(t *testing.T, dir string, size int) (m *machine, place string) {
	t.Helper()
	v := newVendor(t)
	files := func(version string) map[string][]byte {
		return map[string][]byte{programPath: program(version), "share/large.bin": noise("large", size)}
	}
	for _, version := range []string{"1.0.0", "1.1.0"} {
		v.release(version, tarGz(t, files(version)), func(n *tufrepo.NewRelease) {
			n.Artifacts[0].Format, n.Artifacts[0].Executable = channel.TarGz, programPath
		})
	}
	v.publishPatches("1.1.0", treePatch(t, files("1.0.0"), files("1.1.0"), nil))
	l := layouts[1]
	m = &machine{t: t, vendor: v, dir: dir, program: filepath.Join(dir, l.program), now: v.now.Add(1)}
	m.change = append(m.change, func(c *update.Config) { c.Installer = l.installer(dir) })
	place = l.place(dir, "1.0.0")
	for name, content := range files("1.0.0") {
		path := filepath.Join(place, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, content, 0o755))
	}
	require.NoError(t, pointTo(filepath.Join(dir, "notes"), "1.0.0"))
	return m, place
}

// Where there is space for a patch and not for the whole, the patch is offered; when it fails, the lack of space is told
// before anything more is downloaded.
func TestPatchNeedsLessSpace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "small")
	require.NoError(t, os.Mkdir(dir, 0o755))
	mount(t, "-t", "tmpfs", "-o", "size=55m,mode=755", "tmpfs", dir)
	m, _ := largeOnDisk(t, dir, 20<<20)
	w := watching(m.vendor.dir)
	m.change = append(m.change, func(c *update.Config) { c.Source = w })

	u := m.process(func(c *update.Config) { c.MaxPatchMemory = -1 })
	d := check(t, u)
	require.NotNil(t, d.Obstacle, "the whole does not fit")
	require.Equal(t, update.NoSpace, d.Obstacle.Obstacle)

	u = m.process()
	d = check(t, u)
	require.Nil(t, d.Obstacle, "the patch does")
	patches := m.vendor.entry("1.1.0").Patches.SHA256
	for sum := range w.read {
		require.Equal(t, patches, sum)
	}
	bad := func(c *update.Config) { c.MaxPatchMemory = 2 << 20 } // enough for the list, not for applying
	m.vendor.republish("1.1.0", func(p *channel.Patch) { p.Memory = 1 })
	u = m.process(bad)
	d = check(t, u)
	require.Nil(t, d.Obstacle)
	var full *update.PreflightError
	require.ErrorAs(t, u.Stage(t.Context(), d.Update, nil), &full)
	require.Equal(t, update.NoSpace, full.Obstacle)
	require.Zero(t, w.read[d.Update.Artifact.SHA256])

	u = m.process()
	require.NoError(t, u.Stage(t.Context(), check(t, u).Update, nil))
	d = check(t, u)
	require.Nil(t, d.Obstacle, "it is staged: no more space is needed")
	require.NoError(t, u.Apply(t.Context(), d.Update))
	require.Equal(t, "1.1.0", m.version())
}

// On a file system that clones, unchanged files share their blocks with the version before, and are files of their own
// nevertheless: whoever writes to one does not change the other.
func TestPatchClones(t *testing.T) {
	const size = 64 << 20
	dir := cloning(t)
	m, place := largeOnDisk(t, dir, size)
	before := used(t, dir)
	m.updateTo(m.start(), "1.1.0")
	require.Less(t, used(t, dir)-before, int64(size/2), "it was copied")
	path := filepath.Join(m.root(), "share", "large.bin")
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("changed"), 1000)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	old, err := os.ReadFile(filepath.Join(place, "share", "large.bin"))
	require.NoError(t, err)
	require.Equal(t, digest(noise("large", size)), digest(old))
}

// cloning returns a folder on an XFS of its own.
func cloning(t *testing.T) string {
	t.Helper()
	image, dir := filepath.Join(t.TempDir(), "image"), filepath.Join(t.TempDir(), "xfs")
	require.NoError(t, os.Mkdir(dir, 0o755))
	require.NoError(t, os.WriteFile(image, nil, 0o600))
	require.NoError(t, os.Truncate(image, 512<<20))
	if out, err := exec.CommandContext(t.Context(), "mkfs.xfs", "-q", image).CombinedOutput(); err != nil {
		t.Skipf("cannot make an XFS: %v %s", err, out)
	}
	mount(t, "-o", "loop", image, dir)
	return dir
}

// used is how many bytes of a file system are in use.
func used(t *testing.T, dir string) int64 {
	t.Helper()
	syscall.Sync()
	var s syscall.Statfs_t
	require.NoError(t, syscall.Statfs(dir, &s))
	return int64(s.Blocks-s.Bfree) * s.Bsize
}
