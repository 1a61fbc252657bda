package tufrepo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
)

func get(t *testing.T, s Store, name string) (string, Revision) {
	t.Helper()
	f, rev, err := s.Get(t.Context(), name)
	require.NoError(t, err)
	data, err := io.ReadAll(f)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	return string(data), rev
}

func put(t *testing.T, s Store, name, content string, cond Condition) (Revision, error) {
	t.Helper()
	return s.Put(t.Context(), name, strings.NewReader(content), cond)
}

func TestDir(t *testing.T) {
	path := filepath.Join(t.TempDir(), "repo")
	s := Dir(path)
	_, _, err := s.Get(t.Context(), "metadata/timestamp.json")
	require.ErrorIs(t, err, fs.ErrNotExist)
	names, err := s.List(t.Context(), "")
	require.NoError(t, err)
	require.Empty(t, names)

	first, err := put(t, s, "metadata/timestamp.json", "one", IfAbsent())
	require.NoError(t, err)
	content, rev := get(t, s, "metadata/timestamp.json")
	require.Equal(t, "one", content)
	require.Equal(t, first, rev)
	_, err = put(t, s, "metadata/timestamp.json", "two", IfAbsent())
	require.ErrorIs(t, err, ErrConflict)
	_, err = put(t, s, "metadata/timestamp.json", "two", IfRevision(""))
	require.ErrorIs(t, err, ErrConflict)

	second, err := put(t, s, "metadata/timestamp.json", "two", IfRevision(first))
	require.NoError(t, err)
	require.NotEqual(t, first, second)
	_, err = put(t, s, "metadata/timestamp.json", "three", IfRevision(first))
	require.ErrorIs(t, err, ErrConflict)
	_, err = put(t, s, "metadata/gone.json", "three", IfRevision(first))
	require.ErrorIs(t, err, ErrConflict)
	content, _ = get(t, s, "metadata/timestamp.json")
	require.Equal(t, "two", content)
	_, err = put(t, s, "metadata/timestamp.json", "four", Always())
	require.NoError(t, err)

	_, err = put(t, s, "blobs/sha256/ab/abcd", "blob", Always())
	require.NoError(t, err)
	names, err = s.List(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, []string{"blobs/sha256/ab/abcd", "metadata/timestamp.json"}, names, "nothing temporary is left or listed")
	names, err = s.List(t.Context(), "metadata/time")
	require.NoError(t, err)
	require.Equal(t, []string{"metadata/timestamp.json"}, names)
	names, err = s.List(t.Context(), "targets/")
	require.NoError(t, err)
	require.Empty(t, names)
	check := s.(BlobChecker).CheckBlob
	require.NoError(t, check(t.Context(), "blobs/sha256/ab/abcd", channel.Blob{Length: 4}, nil))
	require.ErrorIs(t, check(t.Context(), "blobs/sha256/ab/abcd", channel.Blob{Length: 5}, nil), ErrDamaged)
	require.ErrorIs(t, check(t.Context(), "blobs/sha256/ab/gone", channel.Blob{Length: 4}, nil), fs.ErrNotExist)

	if runtime.GOOS != "windows" {
		for name, want := range map[string]fs.FileMode{"blobs/sha256/ab/abcd": 0o644, "blobs/sha256": 0o755} {
			info, err := os.Stat(filepath.Join(path, name))
			require.NoError(t, err)
			require.Equal(t, want, info.Mode().Perm())
		}
	}
}

// TestDirLargeRevision: above 1 MiB a revision is not a hash, and still changes with the file.
func TestDirLargeRevision(t *testing.T) {
	s := Dir(t.TempDir())
	large := strings.Repeat("x", hashedLength+1)
	first, err := put(t, s, "a", large, Always())
	require.NoError(t, err)
	content, rev := get(t, s, "a")
	require.Equal(t, large, content)
	require.Equal(t, first, rev)
	_, err = put(t, s, "a", large+"y", IfRevision(first))
	require.NoError(t, err)
	_, err = put(t, s, "a", large, IfRevision(first))
	require.ErrorIs(t, err, ErrConflict)
}

func TestDirWholeOrNotAtAll(t *testing.T) {
	path := t.TempDir()
	s := Dir(path)
	_, err := put(t, s, "a/b", "old", Always())
	require.NoError(t, err)
	broken := errors.New("broken")
	_, err = s.Put(t.Context(), "a/b", io.MultiReader(strings.NewReader("ne"), iotest.ErrReader(broken)), Always())
	require.ErrorIs(t, err, broken)
	ctx, cancel := context.WithCancel(t.Context())
	_, err = s.Put(ctx, "a/b", io.MultiReader(strings.NewReader("ne"), readerFunc(func(p []byte) (int, error) {
		cancel()
		return copy(p, "w"), nil
	})), Always())
	require.ErrorIs(t, err, context.Canceled)
	content, _ := get(t, s, "a/b")
	require.Equal(t, "old", content)
	entries, err := os.ReadDir(filepath.Join(path, "a"))
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing temporary is left")
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestDirNames(t *testing.T) {
	s := Dir(t.TempDir())
	_, err := put(t, s, "a/b.json", "x", Always())
	require.NoError(t, err)
	for _, name := range []string{"", ".", "..", "../a", "a/../b", "/a", "a//b", "a/", "./a", ".lock", "a/.tmp-1", `a\b`, "c:a", "a\x00b", "a b", "a\n", strings.Repeat("a/", 300) + "a"} {
		_, err := put(t, s, name, "x", Always())
		require.ErrorContains(t, err, "is not the name of a repository's file", "%q", name)
		_, _, err = s.Get(t.Context(), name)
		require.ErrorContains(t, err, "is not the name of a repository's file", "%q", name)
		err = s.(BlobChecker).CheckBlob(t.Context(), name, channel.Blob{}, nil)
		require.ErrorContains(t, err, "is not the name of a repository's file", "%q", name)
	}
	_, err = s.List(t.Context(), "../")
	require.Error(t, err)
}

func TestDirDoesNotFollowOut(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("symbolic links take a privilege on Windows")
	}
	path, outside := t.TempDir(), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o644))
	require.NoError(t, os.Symlink(outside, filepath.Join(path, "metadata")))
	s := Dir(path)
	_, _, err := s.Get(t.Context(), "metadata/secret")
	require.ErrorContains(t, err, "escapes")
	_, err = put(t, s, "metadata/timestamp.json", "x", Always())
	require.ErrorContains(t, err, "escapes")
	require.NoFileExists(t, filepath.Join(outside, "timestamp.json"))
	err = s.(BlobChecker).CheckBlob(t.Context(), "metadata/secret", channel.Blob{}, nil)
	require.ErrorContains(t, err, "escapes")
}

// TestDirOneWins: of many writers with the same condition exactly one gets it, time and again.
func TestDirOneWins(t *testing.T) {
	path := t.TempDir()
	rev := Revision("")
	for round := range 20 {
		var won atomic.Int32
		var next atomic.Value
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				got, err := put(t, Dir(path), "timestamp.json", fmt.Sprintf("%d by %d", round, i), IfRevision(rev))
				switch {
				case err == nil:
					won.Add(1)
					next.Store(got)
				case !errors.Is(err, ErrConflict):
					t.Errorf("put: %v", err)
				}
			})
		}
		wg.Wait()
		require.Equal(t, int32(1), won.Load())
		rev, _ = next.Load().(Revision)
		_, have := get(t, Dir(path), "timestamp.json")
		require.Equal(t, rev, have)
	}
}

// TestDirSweeps: what a killed writer left is removed by the next Put into the same folder, a day later.
func TestDirSweeps(t *testing.T) {
	path := t.TempDir()
	leave := func(name string, age time.Duration) string {
		name = filepath.Join(path, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(t, os.WriteFile(name, []byte("half"), 0o644))
		then := time.Now().Add(-age)
		require.NoError(t, os.Chtimes(name, then, then))
		return name
	}
	stale, young := leave("blobs/.tmp-a", 25*time.Hour), leave("blobs/.tmp-b", 23*time.Hour)
	other, elsewhere := leave("blobs/old", 1000*time.Hour), leave("targets/.tmp-c", 1000*time.Hour)
	folder := filepath.Join(path, "blobs", ".tmp-d")
	require.NoError(t, os.Mkdir(folder, 0o755))
	require.NoError(t, os.Chtimes(folder, time.Unix(0, 0), time.Unix(0, 0)))

	_, err := put(t, Dir(path), "blobs/old", "x", IfAbsent())
	require.ErrorIs(t, err, ErrConflict)
	require.FileExists(t, stale, "nothing was put")
	_, err = put(t, Dir(path), "blobs/new", "x", IfAbsent())
	require.NoError(t, err)
	require.NoFileExists(t, stale)
	for _, name := range []string{young, other, elsewhere} {
		require.FileExists(t, name)
	}
	require.DirExists(t, folder, "no writer made that")
}
