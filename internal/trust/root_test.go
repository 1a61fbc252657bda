package trust

import (
	"context"
	"io"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// A mirror that hides the newer root must not get metadata accepted that is signed by the keys it revoked, not even
// by a process that has just been started (rule 2; go-tuf's own client accepts it).
func TestRevokedKeysStayRevokedAfterRestart(t *testing.T) {
	r := newRepo(t)
	dir := t.TempDir()
	r.mustRefresh(dir, nil)
	stolen := r.rotate(roleTimestamp)
	r.publishRoot()
	r.publishTimestamp()
	v := r.mustRefresh(dir, nil)
	require.EqualValues(t, 2, v.Versions()["root"])

	// The thief holds the old timestamp key and the mirror. It withholds root 2 and signs a newer timestamp.
	forged := r.copyFiles()
	delete(forged, rootName(2))
	r.timestamp.Signed.Version++
	forged["metadata/timestamp.json"] = sign(t, r.timestamp, stolen...)
	src := FS(mapFS(forged))

	before := treeHash(t, dir)
	_, err := r.refresh(dir, src)
	requireVerify(t, err, "metadata/timestamp.json")
	require.Equal(t, before, treeHash(t, dir))

	// Even without the stored chain, the floor says that there was a root 2.
	require.NoError(t, os.RemoveAll(filepath.Join(dir, rootsDir)))
	before = treeHash(t, dir)
	_, err = r.refresh(dir, src)
	requireRollback(t, err, roleRoot)
	_, err = r.client(dir, src).Load(t.Context())
	requireRollback(t, err, roleRoot)
	require.Equal(t, before, treeHash(t, dir))

	// What shows that the test bites: a client without any memory believes the thief.
	r.mustRefresh(t.TempDir(), src)

	r.mustRefresh(dir, nil) // the honest mirror is back
	v, err = r.client(dir, sourceFunc(nil)).Load(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, v.Versions()["root"])
}

func TestEmbeddedRootMayBeNewerThanTheStore(t *testing.T) {
	r := newRepo(t)
	dir := t.TempDir()
	r.mustRefresh(dir, nil)
	for range 3 {
		r.publishRoot()
	}
	v := r.mustRefresh(dir, nil, func(c *Config) { c.Root = r.get(rootName(3)) })
	require.EqualValues(t, 4, v.Versions()["root"])
	// And the old application, on the same store, walks all of it.
	v = r.mustRefresh(dir, nil)
	require.EqualValues(t, 4, v.Versions()["root"])
}

func TestStoredChainThatDoesNotVerifyIsFetchedAnew(t *testing.T) {
	for _, link := range []int64{2, 3, 4} {
		r := newRepo(t)
		for range 3 {
			r.publishRoot()
		}
		dir := t.TempDir()
		r.mustRefresh(dir, nil)
		file := filepath.Join(dir, filepath.FromSlash(rootFile(link)))
		good, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, r.get(rootName(1)), 0o600))

		require.EqualValues(t, 4, r.mustRefresh(dir, nil).Versions()["root"])
		now, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, good, now)
	}
}

func TestRootMustBeSignedByItsPredecessorAndItself(t *testing.T) {
	cases := map[string]func(r *repo) []byte{
		"not by the predecessor": func(r *repo) []byte {
			r.rotate(roleRoot)
			r.publishRoot()
			return r.get(rootName(2))
		},
		"not by itself": func(r *repo) []byte {
			old := r.rotate(roleRoot)
			r.root.Signed.Version = 2
			return sign(r.tb, r.root, old...)
		},
		"skips a version": func(r *repo) []byte {
			r.root.Signed.Version = 3
			return sign(r.tb, r.root, r.keys[roleRoot]...)
		},
		"same version again": func(r *repo) []byte { return r.get(rootName(1)) },
		"unknown specification": func(r *repo) []byte {
			r.root.Signed.Version, r.root.Signed.SpecVersion = 2, "2.0.0"
			return sign(r.tb, r.root, r.keys[roleRoot]...)
		},
	}
	for name, forge := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t)
			dir := t.TempDir()
			r.mustRefresh(dir, nil)
			before := treeHash(t, dir)
			honest := r.copyFiles()
			r.put(rootName(2), forge(r))
			_, err := r.refresh(dir, nil)
			requireVerify(t, err, rootName(2))
			require.Equal(t, before, treeHash(t, dir))
			r.mustRefresh(dir, FS(mapFS(honest)))
		})
	}
	// The honest case that these differ from.
	r := newRepo(t)
	r.publishRoot(r.rotate(roleRoot)...)
	require.EqualValues(t, 2, r.mustRefresh(t.TempDir(), nil).Versions()["root"])
}

// TUF 5.3.10: the last root must not have expired, and is kept nevertheless.
func TestExpiredRootIsKeptButNotUsed(t *testing.T) {
	r := newRepo(t)
	dir := t.TempDir()
	r.mustRefresh(dir, nil)
	r.root.Signed.Expires = start.Add(-day)
	r.publishRoot()
	_, err := r.refresh(dir, nil)
	requireExpired(t, err, roleRoot)
	require.FileExists(t, filepath.Join(dir, filepath.FromSlash(rootFile(2))))
	_, err = r.client(dir, nil).Load(t.Context())
	requireExpired(t, err, roleRoot)

	r.root.Signed.Expires = start.Add(day)
	r.publishRoot()
	require.EqualValues(t, 3, r.mustRefresh(dir, nil).Versions()["root"], "an expired root in between is no obstacle")
}

func TestRotationsBeyondTheLimitGoOnInTheNextRun(t *testing.T) {
	r := newRepo(t)
	r.keys[roleRoot] = nil // Ed25519 is quicker to sign with
	r.root.Signed.Roles[roleRoot].KeyIDs = nil
	r.addKey(roleRoot, ed25519Signer(t))
	r.root.Signed.Version = 0
	for range maxRotations + 10 {
		r.publishRoot()
	}
	srv, dir := r.serve(), t.TempDir()
	c := r.client(dir, srv.source(t))
	_, err := c.Refresh(t.Context())
	require.ErrorIs(t, err, ErrMoreRoots)
	require.Len(t, srv.asked(), maxRotations+1, "the roots and the timestamp")

	v := r.mustRefresh(dir, srv.source(t))
	require.EqualValues(t, maxRotations+10, v.Versions()["root"])
	require.Len(t, srv.asked(), 9+1+1+2, "the rest of the roots, the probe, the timestamp, snapshot and targets")
	v, err = c.Refresh(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, maxRotations+10, v.Versions()["root"])
}

func TestTimestampFromBeforeTheNewRootIsAskedForAgain(t *testing.T) {
	r := newRepo(t)
	dir := t.TempDir()
	r.mustRefresh(dir, nil)
	old := r.get("metadata/timestamp.json")
	r.rotate(roleTimestamp)
	r.publishRoot()
	r.publishTimestamp()
	first := true
	src := sourceFunc(func(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
		files := r.copyFiles()
		if name == "metadata/timestamp.json" && first {
			first = false
			files = maps.Clone(files)
			files[name] = old
		}
		return FS(mapFS(files)).Open(ctx, name, offset)
	})
	v := r.mustRefresh(dir, src)
	require.EqualValues(t, 2, v.Versions()["timestamp"])
	require.False(t, first)
}

func TestKeysOfEveryKindCountOnceEach(t *testing.T) {
	r := newRepo(t)
	r.addKey(roleRoot, ed25519Signer(t))
	r.root.Signed.Roles[roleRoot].Threshold = 2
	r.publishRoot()
	require.EqualValues(t, 2, r.mustRefresh(t.TempDir(), nil).Versions()["root"])

	// One key under two ids does not make a threshold of two.
	r = newRepo(t)
	twin := *tufKey(t, r.keys[roleRoot][0])
	twin.UnrecognizedFields = map[string]any{"x": "y"}
	require.NoError(t, r.root.Signed.AddKey(&twin, roleRoot))
	r.root.Signed.Roles[roleRoot].Threshold = 2
	r.root.Signed.Version = 2
	sign(t, r.root, r.keys[roleRoot]...)
	id, err := twin.ID()
	require.NoError(t, err)
	r.root.Signatures = append(r.root.Signatures, metadata.Signature{KeyID: id, Signature: r.root.Signatures[0].Signature})
	data, err := r.root.ToBytes(false)
	require.NoError(t, err)
	r.put(rootName(2), data)
	_, err = r.refresh(t.TempDir(), nil)
	requireVerify(t, err, rootName(2))
}
