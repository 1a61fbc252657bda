package update_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/windows"

	"github.com/fairlead-dev/fairlead/update"
)

// hold opens a file as virus scanners and indexers do: others may read and write it, but neither rename nor remove it.
func hold(t *testing.T, path string) (release func()) {
	t.Helper()
	name, err := windows.UTF16PtrFromString(path)
	require.NoError(t, err)
	h, err := windows.CreateFile(name, windows.GENERIC_READ, windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE, nil, windows.OPEN_EXISTING, 0, 0)
	require.NoError(t, err)
	return func() { _ = windows.CloseHandle(h) }
}

// held are the files that a scanner may have open, by layout.
var held = map[string]map[string]string{
	"executable": {
		"what is staged":   ".notes.exe.fairlead/staging/new-*/notes.exe",
		"the journal":      ".notes.exe.fairlead/journal",
		"what is in place": "notes.exe",
	},
	"versions": {
		"what is staged": "notes/.fairlead/staging/new-*/tree/share/help.txt",
		"the journal":    "notes/.fairlead/journal",
		"the pointer":    "notes/current",
	},
}

// stagedAndHeld is an update that is staged, and a file that somebody holds.
func stagedAndHeld(t *testing.T, l layout, file string) (m *machine, u *update.Updater, up *update.Update, release func()) {
	t.Helper()
	v := newVendor(t)
	l.publish(v, "1.1.0")
	m = l.install(t, v, "1.0.0")
	u = m.start()
	up = check(t, u).Update
	require.NoError(t, u.Stage(t.Context(), up, nil))
	found, err := filepath.Glob(filepath.Join(m.dir, filepath.FromSlash(held[l.name][file])))
	require.NoError(t, err)
	require.Len(t, found, 1)
	return m, u, up, hold(t, found[0])
}

func TestHeldForAMoment(t *testing.T) {
	for _, l := range layouts {
		for file := range held[l.name] {
			t.Run(l.name+"/"+file, func(t *testing.T) {
				t.Parallel()
				m, u, up, release := stagedAndHeld(t, l, file)
				time.AfterFunc(500*time.Millisecond, release)
				require.NoError(t, u.Apply(t.Context(), up))
				require.Equal(t, "1.1.0", m.version())
				m.whole(l)
				require.NoError(t, m.start().Confirm(t.Context()))
			})
		}
	}
}

// renamesOpenFolders is true of wine.
func renamesOpenFolders(t *testing.T) bool {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "a")
	require.NoError(t, os.Mkdir(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	defer hold(t, filepath.Join(dir, "file"))()
	return os.Rename(dir, dir+"2") == nil
}

// What is held for too long makes Apply fail, with the old version in place all the time.
func TestHeldForTooLong(t *testing.T) {
	for _, l := range layouts {
		for file := range held[l.name] {
			t.Run(l.name+"/"+file, func(t *testing.T) {
				t.Parallel()
				if testing.Short() && file != "what is staged" && file != "the pointer" {
					t.Skip("ten seconds")
				}
				m, u, up, release := stagedAndHeld(t, l, file)
				stop, absent := make(chan struct{}), make(chan bool, 1)
				go func() {
					missed := false
					for {
						select {
						case <-stop:
							absent <- missed
							return
						case <-time.After(5 * time.Millisecond):
							_, err := os.Lstat(m.inPlace())
							missed = missed || err != nil
						}
					}
				}()
				err := u.Apply(t.Context(), up)
				close(stop)
				require.False(t, <-absent, "the program was away while somebody was waited for")
				if err == nil && l.name == "versions" && file == "what is staged" && renamesOpenFolders(t) {
					release()
					t.Skip("this is not Windows: it renames folders with open files")
				}
				var state *update.StateError
				require.ErrorAs(t, err, &state)
				require.True(t, errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_ACCESS_DENIED), err)
				require.Equal(t, "1.0.0", m.version())
				m.whole(l)
				release()
				u = m.start()
				require.Equal(t, "1.0.0", m.version())
				require.NoError(t, u.Apply(t.Context(), up), "it is still staged")
				require.Equal(t, "1.1.0", m.version())
				require.NoError(t, m.start().Confirm(t.Context()))
			})
		}
	}
}

// A file that somebody holds in a version that is needed no more is left for a later start, which no start waits for.
func TestHeldWhenNoLongerNeeded(t *testing.T) {
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			v := newVendor(t)
			l.publish(v, "1.0.0")
			m := l.install(t, v, "1.0.0")
			release := hold(t, m.inPlace())
			time.AfterFunc(300*time.Millisecond, release)
			for i, version := range []string{"1.1.0", "1.3.0", "1.4.0"} {
				l.publish(v, version)
				m.now = m.now.Add(time.Minute)
				old := m.start()
				m.updateTo(old, version)
				die(m, old)
				if i == 0 && l.place == nil {
					release = hold(t, filepath.Join(update.Dir(old), "previous"))
					time.AfterFunc(time.Second, release)
				} else if i == 0 {
					release = hold(t, filepath.Join(l.place(m.dir, "1.0.0"), "share", "help.txt"))
				}
				began := time.Now()
				u := m.start()
				require.NoError(t, u.Confirm(t.Context()))
				require.Less(t, time.Since(began), 5*time.Second, version)
				die(m, u)
			}
			if l.place == nil {
				return
			}
			left := func() int { // where it was, or on its way out
				gone, err := filepath.Glob(filepath.Join(m.dir, "notes", ".fairlead", "gone-*"))
				require.NoError(t, err)
				if _, err := os.Stat(l.place(m.dir, "1.0.0")); err == nil {
					return len(gone) + 1
				}
				return len(gone)
			}
			require.Equal(t, 1, left())
			release()
			die(m, m.start())
			require.Zero(t, left())
		})
	}
}
