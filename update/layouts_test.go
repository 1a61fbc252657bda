package update_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/tufrepo"
	"github.com/fairlead-dev/fairlead/update"
)

// layout is one way to install, on a machine of its own.
type layout struct {
	name      string
	installer func(dir string) update.Installer
	program   string                           // below dir
	place     func(dir, version string) string // where the first version's files go, below dir
	patched   bool                             // updates come as patches, see patched
}

// programPath is the path of the program in a folder.
var programPath = "bin/notes" + exeSuffix

// exeSuffix ends the names of programs.
var exeSuffix = map[bool]string{true: ".exe"}[runtime.GOOS == "windows"]

var layouts = append([]layout{
	{
		name: "executable",
		installer: func(dir string) update.Installer {
			return update.Executable{Path: filepath.Join(dir, "notes"+exeSuffix)}
		},
		program: "notes" + exeSuffix,
	},
	{
		name: "versions",
		installer: func(dir string) update.Installer {
			return update.Versions{Root: filepath.Join(dir, "notes"), Program: programPath}
		},
		program: "notes/current/" + programPath,
		place:   func(dir, version string) string { return filepath.Join(dir, "notes", "versions", version) },
	},
}, systemLayouts...)

// treeFiles is what a version of several files holds.
func treeFiles(version string) map[string][]byte {
	return map[string][]byte{
		programPath:                program(version),
		"share/help.txt":           []byte("help of " + version + "\n"),
		"share/same.txt":           []byte("the same in every version\n"),
		"share/deep/er/" + version: {},
	}
}

// files is what a version of the layout holds.
func (l layout) files(version string) map[string][]byte {
	files := treeFiles(version)
	if l.patched {
		files["share/big.bin"] = bigFile
	}
	return files
}

// publish publishes a version in the form that the layout needs.
func (l layout) publish(v *vendor, version string) {
	v.t.Helper()
	if l.patched {
		l.publishPatched(v, version)
		return
	}
	if l.place == nil && version != "1.2.0" {
		v.release(version, program(version))
		return
	}
	if l.place == nil {
		v.release(version, tarGz(v.t.(*testing.T), map[string][]byte{"notes": program(version)}), func(n *tufrepo.NewRelease) {
			n.Artifacts[0].Format, n.Artifacts[0].Executable = channel.TarGz, "notes"
		})
		return
	}
	files := map[string][]byte{}
	for name, content := range l.files(version) {
		files["notes-"+version+"/"+name] = content
	}
	v.release(version, tarGz(v.t.(*testing.T), files), func(n *tufrepo.NewRelease) {
		n.Artifacts[0].Format, n.Artifacts[0].Executable = channel.TarGz, "notes-"+version+"/"+programPath
	})
}

// install puts a version on a machine as the vendor's installer would.
func (l layout) install(t *testing.T, v *vendor, version string, change ...func(*update.Config)) *machine {
	t.Helper()
	dir := t.TempDir()
	m := &machine{t: t, vendor: v, dir: dir, program: filepath.Join(dir, l.program), now: v.now.Add(1)}
	m.change = append(m.change, func(c *update.Config) { c.Installer = l.installer(dir) })
	m.change = append(m.change, change...)
	if l.place == nil {
		require.NoError(t, os.WriteFile(m.program, program(version), 0o755))
		return m
	}
	place := l.place(dir, version)
	for name, content := range l.files(version) {
		path := filepath.Join(place, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, content, 0o755))
	}
	if l.name == "versions" {
		require.NoError(t, pointTo(filepath.Join(dir, "notes"), version))
	}
	return m
}

// pointTo makes the pointer of update.Versions, as a vendor's setup does.
func pointTo(root, version string) error {
	if runtime.GOOS == "windows" {
		return os.WriteFile(filepath.Join(root, "current"), []byte(version+"\r\n"), 0o644)
	}
	return os.Symlink("versions/"+version, filepath.Join(root, "current"))
}

// inPlace is where the program in place really is.
func (m *machine) inPlace() string {
	root, rest, found := strings.Cut(filepath.ToSlash(m.program), "/current/")
	if !found || runtime.GOOS != "windows" {
		return m.program
	}
	name, err := os.ReadFile(filepath.Join(root, "current"))
	require.NoError(m.t, err)
	return filepath.Join(root, "versions", strings.TrimSpace(string(name)), rest)
}

// root is the folder that the program in place is in, of a layout of folders.
func (m *machine) root() string {
	return strings.TrimSuffix(filepath.ToSlash(m.inPlace()), "/"+programPath)
}

// whole fails unless exactly one version is in place, with all of its files and, but for extra ones, no others.
func (m *machine) whole(l layout, extra ...string) {
	m.t.Helper()
	version := m.version()
	if l.place == nil {
		return
	}
	want := l.files(version)
	got := filesBelow(m.t, m.root())
	require.Equal(m.t, slices.Sorted(maps.Keys(want)), slices.DeleteFunc(slices.Sorted(maps.Keys(got)), func(s string) bool { return slices.Contains(extra, s) }))
	for name := range want {
		require.Equal(m.t, string(want[name]), got[name], name)
	}
}

// filesBelow returns the files below a folder, by path.
func filesBelow(t *testing.T, dir string) map[string]string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(dir)
	require.NoError(t, err)
	files := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data := []byte(nil)
		if target, lerr := os.Readlink(path); lerr == nil {
			data = []byte("-> " + target)
		} else {
			data, err = os.ReadFile(path)
		}
		rel, _ := filepath.Rel(dir, path)
		files[filepath.ToSlash(rel)] = string(data)
		return err
	}))
	return files
}

func TestLayouts(t *testing.T) {
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			v := newVendor(t)
			for _, version := range []string{"1.0.0", "1.1.0", "1.2.0", "1.3.0"} {
				l.publish(v, version)
			}
			m := l.install(t, v, "1.0.0", func(c *update.Config) { c.Wishes.Constraint = "<1.2.0" })
			u := m.start()
			m.updateTo(u, "1.1.0")
			m.whole(l)
			u = m.start()
			require.NoError(t, u.Confirm(t.Context()))
			require.NoError(t, u.Rollback(t.Context(), "test"))
			require.Equal(t, "1.0.0", m.version())
			m.whole(l)
			u = m.start()
			require.Equal(t, update.Withheld, check(t, u).Outcome, "it is not tried again")

			m.change = append(m.change, func(c *update.Config) { c.Wishes.Constraint = "<1.3.0" })
			m.updateTo(m.start(), "1.2.0")
			for range 3 { // it crashes
				die(m, m.start())
			}
			m.start()
			require.Equal(t, "1.0.0", m.version())
			m.whole(l)

			m.change = append(m.change, func(c *update.Config) { c.Wishes.Constraint = "" })
			m.updateTo(m.start(), "1.3.0")
			require.NoError(t, m.start().Confirm(t.Context()))
			m.whole(l)
			require.NoError(t, m.start().Rollback(t.Context(), "test"))
			m.start()
			require.Equal(t, "1.0.0", m.version(), "the first version is the one before")
			m.whole(l)
		})
	}
}

// A hundred updates, every other one of them rolled back, leave nothing behind.
func TestNoDiskGrowth(t *testing.T) {
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			if testing.Short() {
				t.Skip("a hundred updates")
			}
			v := newVendor(t)
			l.publish(v, "1.0.0")
			m := l.install(t, v, "1.0.0")
			m.unmanaged = true
			var sizes []int
			for i := range 100 {
				version := fmt.Sprintf("1.%d.0", i+100)
				l.publish(v, version)
				old := m.start()
				m.updateTo(old, version)
				die(m, old)
				u := m.start()
				if i%2 == 0 {
					require.NoError(t, u.Confirm(t.Context()))
				} else {
					require.NoError(t, u.Rollback(t.Context(), "test"))
				}
				die(m, u)
				die(m, m.start())
				size := 0
				for name, content := range filesBelow(t, m.dir) {
					if !strings.Contains(name, "/trust/") && !strings.HasSuffix(name, "/journal") { // they grow with the repository
						size += 1 + len(content)
					}
				}
				sizes = append(sizes, size)
			}
			require.Equal(t, sizes[40], sizes[98], "files and bytes after each: %v", sizes)
		})
	}
}
