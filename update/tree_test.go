package update_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/disk"
	"github.com/fairlead-dev/fairlead/tufrepo"
	"github.com/fairlead-dev/fairlead/update"
)

// member is one entry of an archive made by hand.
type member struct {
	name, content, link string
	mode                int64
}

func tarOf(t *testing.T, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Mode: m.mode, Size: int64(len(m.content)), Typeflag: tar.TypeReg}
		if m.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, m.link
		}
		require.NoError(t, w.WriteHeader(h))
		_, err := w.Write([]byte(m.content))
		require.NoError(t, err)
	}
	require.NoError(t, errors.Join(w.Close(), z.Close()))
	return b.Bytes()
}

// The signed file list is the only truth: what is unpacked equals it exactly, or nothing is used.
func TestTreeIsExactlyTheSignedList(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no links in archives for Windows; installertest has what is left")
	}
	good := []member{
		{name: "bin/notes", content: "program", mode: 0o755},
		{name: "share/help.txt", content: "help", mode: 0o640},
		{name: "share/latest", link: "help.txt"},
	}
	list := []channel.File{
		{Path: "bin/notes", Blob: blobOf([]byte("program")), Mode: 0o755},
		{Path: "share/help.txt", Blob: blobOf([]byte("help")), Mode: 0o640},
		{Path: "share/latest", Link: "help.txt"},
	}
	with := func(i int, m member) []member {
		changed := append([]member{}, good...)
		changed[i] = m
		return changed
	}
	for name, c := range map[string]struct {
		members []member
		cause   string
	}{
		"exact":            {good, ""},
		"a file more":      {append(with(0, good[0]), member{name: "share/more", content: ""}), "one more than 3 files"},
		"a link more":      {append(with(0, good[0]), member{name: "share/more", link: "help.txt"}), "one more than 3 files"},
		"another file":     {with(1, member{name: "share/helm.txt", content: "help", mode: 0o640}), "not in the signed file list"},
		"a file less":      {good[1:], `bin/notes does not verify: is in the signed file list, but not in the archive`},
		"a link less":      {good[:2], `share/latest does not verify: is in the signed file list, but not in the archive`},
		"other content":    {with(1, member{name: "share/help.txt", content: "hell", mode: 0o644}), "are signed"},
		"longer":           {with(1, member{name: "share/help.txt", content: "helpful", mode: 0o644}), "does not verify"},
		"shorter":          {with(1, member{name: "share/help.txt", content: "hel", mode: 0o644}), "are signed"},
		"another link":     {with(2, member{name: "share/latest", link: "../bin/notes"}), `says that it links to "help.txt", the archive to "../bin/notes"`},
		"a link escapes":   {with(2, member{name: "share/latest", link: "../../etc/passwd"}), "does not verify"},
		"a link for files": {with(1, member{name: "share/help.txt", link: "latest"}), "says that it links to"},
		"a file for links": {with(2, member{name: "share/latest", content: "", mode: 0o644}), "says that it links to"},
		"set-uid":          {with(0, member{name: "bin/notes", content: "program", mode: 0o4755}), "such bits are not installed"},
		"outside":          {with(1, member{name: "../help.txt", content: "help", mode: 0o644}), "does not verify"},
		"twice":            {append(with(0, good[0]), good[0]), "bin/notes"},
	} {
		t.Run(name, func(t *testing.T) {
			data := tarOf(t, c.members...)
			a := &channel.Artifact{Blob: blobOf(data), Format: channel.TarGz, Executable: "bin/notes", Files: list, Platform: thisPlatform(t)}
			blob, into := filepath.Join(t.TempDir(), "blob"), t.TempDir()
			require.NoError(t, os.WriteFile(blob, data, 0o600))
			i := update.Versions{Root: t.TempDir(), Program: "bin/notes"}
			st, err := i.Unpack(t.Context(), a, blob, into)
			if c.cause != "" {
				var wrong *update.VerifyError
				require.ErrorAs(t, err, &wrong)
				require.ErrorContains(t, err, c.cause)
				return
			}
			require.NoError(t, err)
			digest, err := i.Digest(st.Path)
			require.NoError(t, err)
			require.Equal(t, st.Digest, digest)
			require.Equal(t, i.Expect(a), digest)
			for path, mode := range map[string]fs.FileMode{"bin/notes": 0o755, "share/help.txt": 0o640, "share": fs.ModeDir | 0o755, "share/latest": fs.ModeSymlink | 0o777} {
				info, err := os.Lstat(filepath.Join(st.Path, path))
				require.NoError(t, err)
				require.Equal(t, mode, info.Mode(), path)
			}
		})
	}
}

// Somebody changes what is staged, before it is put in place.
func TestStagedTreeIsHashedAgain(t *testing.T) {
	for _, l := range layouts[1:] {
		v := newVendor(t)
		for _, version := range []string{"1.0.0", "1.1.0"} {
			l.publish(v, version)
		}
		for name, spoil := range map[string]func(tree string) error{
			"content": func(tree string) error {
				return os.WriteFile(filepath.Join(tree, "share/help.txt"), []byte("evil"), 0o644)
			},
			"a file more": func(tree string) error {
				return os.WriteFile(filepath.Join(tree, "share/plugin.so"), []byte("evil"), 0o644)
			},
			"a file less":   func(tree string) error { return os.Remove(filepath.Join(tree, "share/same.txt")) },
			"cannot be run": func(tree string) error { return os.Chmod(filepath.Join(tree, programPath), 0o644) },
			"a link": func(tree string) error {
				help := filepath.Join(tree, "share/help.txt")
				return errors.Join(os.Rename(help, tree+".aside"), os.Symlink(tree+".aside", help))
			},
			"a FIFO": func(tree string) error {
				help := filepath.Join(tree, "share/help.txt")
				return errors.Join(os.Remove(help), mkfifo(help))
			},
		} {
			t.Run(l.name+"/"+name, func(t *testing.T) {
				if runtime.GOOS == "windows" && (name == "cannot be run" || name == "a FIFO") {
					t.Skip("there is no such thing")
				}
				m := l.install(t, v, "1.0.0")
				u := m.start()
				d := check(t, u)
				require.NoError(t, u.Stage(t.Context(), d.Update, nil))
				staged, err := filepath.Glob(filepath.Join(update.Dir(u), "staging", "new-*", "tree"))
				require.NoError(t, err)
				require.Len(t, staged, 1)
				require.NoError(t, spoil(staged[0]))
				require.Error(t, u.Apply(t.Context(), d.Update))
				require.Equal(t, "1.0.0", m.version())
				m.whole(l)
				m.updateTo(m.start(), "1.1.0")
				m.whole(l)
			})
		}
	}
}

// swapping is a disk on which somebody is faster: between the hash and the rename, the staged files become others.
type swapping struct {
	disk.FS
	swap func(from string)
}

func (s swapping) Rename(from, to string) error { s.swap(from); return s.FS.Rename(from, to) }
func (s swapping) Exchange(a, b string) error   { s.swap(a); return s.FS.Exchange(a, b) }

// What gets the name is what was hashed, not what has the name by then.
func TestReplacedAfterTheHash(t *testing.T) {
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			v := newVendor(t)
			for _, version := range []string{"1.0.0", "1.1.0"} {
				l.publish(v, version)
			}
			m := l.install(t, v, "1.0.0")
			swapped := false
			fast := swapping{disk.OS, func(from string) {
				base := filepath.Base(from)
				if !strings.Contains(filepath.ToSlash(from), "/staging/new-") || (base != "tree" && base != "notes"+exeSuffix) || swapped {
					return
				}
				swapped = true
				require.NoError(t, os.Rename(from, from+".aside"))
				if base == "tree" {
					require.NoError(t, os.MkdirAll(filepath.Join(from, "bin"), 0o755))
					from = filepath.Join(from, programPath)
				}
				require.NoError(t, os.WriteFile(from, program("6.6.6"), 0o755))
			}}
			// The swap comes with Apply: until then the disk is the real one.
			u := m.start()
			d := check(t, u)
			require.NoError(t, u.Stage(t.Context(), d.Update, nil))
			u, err := update.NewOn(fast, m.config("1.0.0"))
			require.NoError(t, err)
			err = u.Apply(t.Context(), d.Update)
			require.True(t, swapped)
			require.ErrorContains(t, err, "was replaced after it had been hashed")
			require.Equal(t, "1.0.0", m.version())
			m.whole(l)
			m.updateTo(m.start(), "1.1.0")
			m.whole(l)
		})
	}
}

// Files that a user has put into a folder of the app are not lost when the folder goes.
func TestFilesOfTheUser(t *testing.T) {
	for _, l := range layouts[1:] {
		for _, known := range []bool{true, false} {
			name := l.name + "/the first version is published"
			if !known {
				name = l.name + "/it is not"
			}
			t.Run(name, func(t *testing.T) {
				v := newVendor(t)
				if known {
					l.publish(v, "1.0.0")
				}
				for _, version := range []string{"1.1.0", "1.2.0"} {
					l.publish(v, version)
				}
				m := l.install(t, v, "1.0.0", func(c *update.Config) { c.Wishes.Constraint = "<1.2" })
				place := l.place(m.dir, "1.0.0")
				require.NoError(t, os.WriteFile(filepath.Join(place, "share", "mine.txt"), []byte("mine"), 0o644))
				require.NoError(t, os.WriteFile(filepath.Join(place, "share", "help.txt"), []byte("my own help"), 0o644))
				old := m.start()
				m.updateTo(old, "1.1.0")
				die(m, old)
				u := m.start()
				require.NoError(t, u.Confirm(t.Context()))
				root := m.root()
				require.NoError(t, os.WriteFile(filepath.Join(root, "new.txt"), []byte("a new one"), 0o644))
				die(m, u)
				m.change = append(m.change, func(c *update.Config) { c.Wishes.Constraint = "" })
				old = m.start()
				m.updateTo(old, "1.2.0")
				die(m, old)
				require.NoError(t, m.start().Confirm(t.Context()))
				require.Contains(t, m.events, "update.rescued ")
				rescued := func() (contents []string) {
					for name, content := range filesBelow(t, filepath.Join(update.Dir(u), "rescued")) {
						contents = append(contents, filepath.Base(name)+": "+content)
					}
					return contents
				}
				if known {
					require.ElementsMatch(t, []string{"mine.txt: mine", "help.txt: my own help"}, rescued())
				} else { // nobody can tell which are the vendor's
					require.Subset(t, rescued(), []string{"mine.txt: mine", "help.txt: my own help"})
				}
				require.NoError(t, m.start().Rollback(t.Context(), "test"))
				u = m.start()
				root = m.root()
				data, err := os.ReadFile(filepath.Join(root, "new.txt"))
				require.NoError(t, err, "the folder of 1.1.0 is back, with what the user put there")
				require.Equal(t, "a new one", string(data))
			})
		}
	}
}

// A version that writes into its own folder is on trial all the same, and so is one whose files a user has changed; the
// version before comes back though its files were changed, too.
func TestChangedFoldersGoBack(t *testing.T) {
	for _, l := range layouts[1:] {
		t.Run(l.name, func(t *testing.T) {
			v := newVendor(t)
			for _, version := range []string{"1.0.0", "1.1.0"} {
				l.publish(v, version)
			}
			m := l.install(t, v, "1.0.0")
			change := func(content string) {
				require.NoError(t, os.WriteFile(filepath.Join(m.root(), "cache"), []byte(content), 0o644))
				require.NoError(t, os.WriteFile(filepath.Join(m.root(), "share", "help.txt"), []byte(content), 0o644))
			}
			change("before")
			m.updateTo(m.start(), "1.1.0")
			for i := range 3 {
				die(m, m.start())
				require.Equal(t, "1.1.0", m.version())
				change("start " + string(rune('1'+i)))
			}
			m.start()
			require.Equal(t, "1.0.0", m.version())
			for _, name := range []string{"cache", "share/help.txt"} {
				data, err := os.ReadFile(filepath.Join(m.root(), name))
				require.NoError(t, err)
				require.Equal(t, "before", string(data), "as it was left")
			}
		})
	}
}

// What was kept must still have its program and the vendor's files, or there is no going back to it.
func TestDamagedPrevious(t *testing.T) {
	for _, l := range layouts[1:] {
		for _, name := range []string{programPath, "share/help.txt"} {
			t.Run(l.name+"/"+name, func(t *testing.T) {
				v := newVendor(t)
				for _, version := range []string{"1.0.0", "1.1.0"} {
					l.publish(v, version)
				}
				m := l.install(t, v, "1.0.0")
				m.updateTo(m.start(), "1.1.0")
				u := m.start()
				kept := filepath.Join(update.Dir(u), "previous")
				if l.name == "versions" {
					kept = l.place(m.dir, "1.0.0")
				}
				require.NoError(t, os.WriteFile(filepath.Join(kept, name), []byte("damaged"), 0o755))
				var none *update.NoPreviousError
				err := u.Rollback(t.Context(), "test")
				require.ErrorAs(t, err, &none)
				require.ErrorContains(t, err, name+" is not what it was")
				require.Equal(t, "1.1.0", m.version())
				m.whole(l)
				m.start()
				require.Equal(t, "1.1.0", m.version())
			})
		}
	}
}

// A version that is still on this machine is not downloaded again.
func TestVersionsFindsWhatItHas(t *testing.T) {
	l := layouts[1]
	v := newVendor(t)
	for _, version := range []string{"1.0.0", "1.1.0", "1.2.0"} {
		l.publish(v, version)
	}
	m := l.install(t, v, "1.0.0", func(c *update.Config) { c.Wishes.Constraint = "<1.2" })
	m.updateTo(m.start(), "1.1.0")
	require.NoError(t, m.start().Confirm(t.Context()))
	m.change = append(m.change, func(c *update.Config) { c.Wishes.Constraint = "" })
	m.updateTo(m.start(), "1.2.0")
	require.NoError(t, m.start().Confirm(t.Context()))
	v.now = v.now.Add(1)
	v.edit(func(r *tufrepo.Repo) error {
		_, err := r.Withdraw("notes", "stable", "1.2.0", "broken", "1.1.0")
		return err
	})
	require.NoError(t, os.RemoveAll(filepath.Join(v.dir, "blobs")))
	u := m.start()
	d := check(t, u)
	require.Equal(t, "1.1.0", d.Update.Release.Version)
	var steps []update.Step
	require.NoError(t, u.Stage(t.Context(), d.Update, func(p update.Progress) { steps = append(steps, p.Step) }))
	require.Empty(t, steps)
	require.NoError(t, u.Apply(t.Context(), d.Update))
	require.Equal(t, "1.1.0", m.version())
	m.whole(l)
}

func TestVersionsKeeps(t *testing.T) {
	l := layouts[1]
	v := newVendor(t)
	l.publish(v, "1.0.0")
	m := l.install(t, v, "1.0.0", func(c *update.Config) {
		i := c.Installer.(update.Versions)
		i.Keep = 3
		c.Installer = i
	})
	folders := func() int {
		entries, err := os.ReadDir(filepath.Join(m.dir, "notes", "versions"))
		require.NoError(t, err)
		n := 0
		for _, e := range entries {
			if e.IsDir() {
				n++
			}
		}
		return n
	}
	var running *update.Updater
	for i, version := range []string{"1.1.0", "1.2.0", "1.3.0", "1.4.0", "1.5.0"} {
		l.publish(v, version)
		old := m.start()
		m.updateTo(old, version)
		if i == 2 {
			running = old // a process of 1.2.0 goes on
		} else {
			die(m, old)
		}
		u := m.start()
		require.NoError(t, u.Confirm(t.Context()))
		die(m, u)
		want := min(i+2, 3)
		if i == 4 {
			want = 4 // with the one that is still running
		}
		require.Equal(t, want, folders(), version)
	}
	die(m, running)
	m.start()
	require.Equal(t, 3, folders(), "it has ended")
}
