package trust

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// damages are what can befall one file of the store.
var damages = map[string]func(t *testing.T, file string){
	"gone":  func(t *testing.T, file string) { require.NoError(t, os.RemoveAll(file)) },
	"empty": func(t *testing.T, file string) { overwrite(t, file, nil) },
	"truncated": func(t *testing.T, file string) {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		overwrite(t, file, data[:len(data)/2])
	},
	"zeroed": func(t *testing.T, file string) {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		overwrite(t, file, make([]byte, len(data)))
	},
	"one bit": func(t *testing.T, file string) {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		if len(data) > 0 {
			data[len(data)/2] ^= 4
		}
		overwrite(t, file, data)
	},
	"another document": func(t *testing.T, file string) {
		overwrite(t, file, []byte(`{"signed":{"_type":"mirrors"},"signatures":[]}`))
	},
	"null":     func(t *testing.T, file string) { overwrite(t, file, []byte(`null`)) },
	"too long": func(t *testing.T, file string) { overwrite(t, file, bytes.Repeat([]byte(" "), 6<<20)) },
	"folder": func(t *testing.T, file string) {
		require.NoError(t, os.Remove(file))
		require.NoError(t, os.MkdirAll(filepath.Join(file, "sub"), 0o700))
	},
	"symlink to itself": func(t *testing.T, file string) {
		require.NoError(t, os.Remove(file))
		require.NoError(t, os.Symlink(file, file))
	},
	"symlink to a file of somebody else": func(t *testing.T, file string) {
		other := filepath.Join(t.TempDir(), "precious")
		overwrite(t, other, []byte("precious"))
		require.NoError(t, os.Remove(file))
		require.NoError(t, os.Symlink(other, file))
		t.Cleanup(func() {
			data, err := os.ReadFile(other)
			require.NoError(t, err)
			require.Equal(t, "precious", string(data))
		})
	},
}

func overwrite(t *testing.T, file string, data []byte) {
	require.NoError(t, os.WriteFile(file, data, 0o600))
}

// storedFiles are the files that a store can hold: a chain of two roots, a role, and a pending timestamp.
func damagedStore(t *testing.T) (*repo, string, []string) {
	r := newRepo(t)
	r.publishRoot()
	r.publishRoot()
	r.release("notes.stable", "stable", "1.0.0")
	r.publish("notes.stable")
	dir := t.TempDir()
	v := r.mustRefresh(dir, nil)
	_, err := v.Role(t.Context(), "notes.stable")
	require.NoError(t, err)
	r.publish()
	broken := r.copyFiles()
	delete(broken, "metadata/3.snapshot.json")
	_, err = r.refresh(dir, FS(mapFS(broken)))
	require.Error(t, err)

	var names []string
	require.NoError(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, err := filepath.Rel(dir, p)
			require.NoError(t, err)
			names = append(names, rel)
		}
		return err
	}))
	require.Len(t, names, 2+3+4, "roots; floors, timestamp, pending; snapshot, targets, role, lock: %v", names)
	return r, dir, names
}

// Rule 3: nothing that befalls a file of the store is an error that lasts.
func TestDamagedStoreHeals(t *testing.T) {
	r, whole, names := damagedStore(t)
	for _, name := range names {
		for how, damage := range damages {
			if runtime.GOOS == "windows" && strings.HasPrefix(how, "symlink") {
				continue // takes a privilege there
			}
			t.Run(fmt.Sprintf("%s %s", strings.SplitN(name, ".", 2)[0], how), func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "store")
				require.NoError(t, os.CopyFS(dir, os.DirFS(whole)))
				damage(t, filepath.Join(dir, name))
				requireHealed(t, r, dir)
			})
		}
	}
}

func requireHealed(t *testing.T, r *repo, dir string) {
	t.Helper()
	_, _ = r.client(dir, sourceFunc(nil)).Load(t.Context()) // may lack what it needs, but does not panic, hang or write
	v := r.mustRefresh(dir, nil)
	list, err := v.Role(t.Context(), "notes.stable")
	require.NoError(t, err)
	require.Len(t, list, 1)
	v, err = r.client(dir, sourceFunc(nil)).Load(t.Context())
	require.NoError(t, err)
	list, err = v.Role(t.Context(), "notes.stable")
	require.NoError(t, err)
	require.Len(t, list, 1)
}

func TestFoldersOfTheStoreOfTheWrongType(t *testing.T) {
	for _, kind := range []string{"file", "symlink"} {
		if runtime.GOOS == "windows" && kind == "symlink" {
			continue
		}
		r, dir, _ := damagedStore(t)
		roots := filepath.Join(dir, rootsDir)
		require.NoError(t, os.RemoveAll(roots))
		if kind == "file" {
			overwrite(t, roots, []byte("x"))
		} else {
			require.NoError(t, os.Symlink(filepath.Join(dir, "none"), roots))
		}
		requireHealed(t, r, dir)
	}
}

func TestStoreThatCanNotBeUsed(t *testing.T) {
	r := newRepo(t)
	file := filepath.Join(t.TempDir(), "file")
	overwrite(t, file, nil)
	_, err := r.refresh(filepath.Join(file, "store"), nil)
	var bad *StoreError
	require.ErrorAs(t, err, &bad)
	require.Equal(t, filepath.Join(file, "store"), bad.Path)
}

func TestStoreIsPrivate(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no modes")
	}
	_, dir, names := damagedStore(t)
	for _, name := range names {
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode(), name)
	}
	r := newRepo(t)
	made := filepath.Join(t.TempDir(), "a", "b")
	r.mustRefresh(made, nil)
	info, err := os.Stat(made)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o700), info.Mode().Perm())
}

// No name of the repository becomes a name in the store.
func TestRoleNamesAreNoPaths(t *testing.T) {
	for _, name := range []string{"../../evil", "/evil", `..\evil`, "a/b", "CON", "timestamp.json", "x\x00y", strings.Repeat("long", 100), "%2e%2e", "ü ?#"} {
		r := newRepo(t)
		r.delegate(roleTargets, delegated(name, "evil/*"))
		r.add(name, "evil/1", []byte("1"))
		r.publish(name, roleTargets)
		base := t.TempDir()
		dir := filepath.Join(base, "a", "b", "store")
		v := r.mustRefresh(dir, nil)
		list, err := v.Role(t.Context(), name)
		require.NoError(t, err, name)
		require.Len(t, list, 1)
		require.FileExists(t, filepath.Join(dir, roleCache(name, 1)))
		for _, d := range []string{base, filepath.Join(base, "a"), filepath.Join(base, "a", "b")} {
			entries, err := os.ReadDir(d)
			require.NoError(t, err)
			require.Len(t, entries, 1)
		}
	}
}
