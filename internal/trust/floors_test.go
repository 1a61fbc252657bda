package trust

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A repository that goes back, one thing at a time. Each forged state is signed with the right keys: only the memory
// of the client tells it from news.
func TestRollbackIsRefused(t *testing.T) {
	cases := map[string]struct {
		role  string
		forge func(r *repo)
	}{
		"timestamp": {roleTimestamp, func(r *repo) {
			r.timestamp.Signed.Version = 0
			r.publishTimestamp()
		}},
		"snapshot": {roleSnapshot, func(r *repo) {
			r.snapshot.Signed.Version = 1
			r.publishSnapshot()
			r.publishTimestamp()
		}},
		"targets": {roleTargets, func(r *repo) {
			r.roles[roleTargets].Signed.Version = 0
			r.publish(roleTargets)
		}},
		"delegated role": {"notes.stable", func(r *repo) {
			r.roles["notes.stable"].Signed.Version = 1
			r.publish("notes.stable")
		}},
		"role that disappears": {"notes.beta", func(r *repo) {
			delete(r.snapshot.Signed.Meta, "notes.beta.json")
			r.publish()
		}},
	}
	losses := map[string]func(t *testing.T, dir string){
		"with its memory":   func(*testing.T, string) {},
		"without the cache": loseCache,
		"without floors":    func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, floorsName))) },
		"with broken floors": func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, floorsName), []byte(`{"sha256":"00","floors":{"root":9999}}`), 0o600))
		},
	}
	for name, c := range cases {
		for how, lose := range losses {
			t.Run(name+" "+how, func(t *testing.T) {
				r := newRepo(t)
				r.publish("notes.stable", roleTargets)
				r.publish("notes.stable")
				dir := t.TempDir()
				r.mustRefresh(dir, nil)
				honest := r.copyFiles()
				lose(t, dir)
				c.forge(r)

				_, err := r.refresh(dir, nil)
				requireRollback(t, err, c.role)
				before := treeHash(t, dir)
				_, err = r.refresh(dir, nil)
				requireRollback(t, err, c.role)
				require.Equal(t, before, treeHash(t, dir), "the second time, there is nothing left to note")
				if c.role == roleTimestamp || c.role == roleSnapshot { // else a newer timestamp has been verified
					r.mustRefresh(dir, FS(mapFS(honest)))
				}
			})
		}
	}
}

func loseCache(t *testing.T, dir string) {
	for _, pattern := range []string{"timestamp.json", "snapshot.*", "role.*", "roots"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		require.NoError(t, err)
		for _, f := range files {
			require.NoError(t, os.RemoveAll(f))
		}
	}
}

// TUF 5.4.3.1: of one version, what was trusted first stays.
func TestSameVersionWithOtherContentIsNoNews(t *testing.T) {
	r := newRepo(t)
	dir := t.TempDir()
	r.mustRefresh(dir, nil)
	before := treeHash(t, dir)
	r.timestamp.Signed.Version--
	r.release("notes.stable", "stable", "1.0.0")
	r.publish("notes.stable")
	v := r.mustRefresh(dir, nil)
	require.EqualValues(t, 1, v.Versions()["snapshot"])
	require.Equal(t, before, treeHash(t, dir))
}

// TUF 5.3.11: new keys free a client from versions that a thief of the old ones has raised, and only they do.
func TestFastForwardRecovery(t *testing.T) {
	recovered := map[string]func(r *repo){
		"timestamp": func(r *repo) {
			r.rotate(roleTimestamp)
			r.publishRoot()
			r.timestamp.Signed.Version = 0
			r.publishTimestamp()
		},
		"snapshot and timestamp": func(r *repo) {
			r.rotate(roleTimestamp)
			r.rotate(roleSnapshot)
			r.publishRoot()
			r.timestamp.Signed.Version, r.snapshot.Signed.Version = 0, 0
			r.publish()
		},
		"roles by a new snapshot key": func(r *repo) {
			r.rotate(roleSnapshot)
			r.publishRoot()
			r.roles["notes.stable"].Signed.Version = 0
			r.roles[roleTargets].Signed.Version = 0
			delete(r.snapshot.Signed.Meta, "notes.beta.json")
			r.publish("notes.stable", roleTargets)
		},
	}
	for name, recover := range recovered {
		t.Run(name, func(t *testing.T) {
			r, dir := fastForwarded(t)
			recover(r)
			v := r.mustRefresh(dir, nil)
			require.EqualValues(t, r.timestamp.Signed.Version, v.Versions()["timestamp"])
			require.EqualValues(t, r.snapshot.Signed.Version, v.Versions()["snapshot"])
			require.EqualValues(t, r.roles[roleTargets].Signed.Version, v.Versions()["targets"])
			_, err := r.client(dir, sourceFunc(nil)).Load(t.Context())
			require.NoError(t, err)

			// The lower floors protect again.
			r.timestamp.Signed.Version -= 2
			r.publishTimestamp()
			_, err = r.refresh(dir, nil)
			require.Error(t, err)
			if r.timestamp.Signed.Version > 0 {
				requireRollback(t, err, roleTimestamp)
			}
		})
	}

	notRecovered := map[string]struct {
		role   string
		change func(r *repo)
	}{
		"another role's key": {roleTimestamp, func(r *repo) { r.rotate(roleSnapshot); r.rotate(roleTargets) }},
		"a key more":         {roleTimestamp, func(r *repo) { r.addKey(roleTimestamp, ed25519Signer(t)) }},
		"no new key":         {roleTimestamp, func(*repo) {}},
	}
	for name, c := range notRecovered {
		t.Run(name, func(t *testing.T) {
			r, dir := fastForwarded(t)
			c.change(r)
			r.publishRoot()
			r.timestamp.Signed.Version = 0
			r.publish()
			_, err := r.refresh(dir, nil)
			requireRollback(t, err, c.role)
		})
	}
}

// fastForwarded returns a repository whose versions a thief has raised by 100, and a store that has seen them.
func fastForwarded(t *testing.T) (*repo, string) {
	r := newRepo(t)
	r.timestamp.Signed.Version += 100
	r.snapshot.Signed.Version += 100
	r.roles["notes.stable"].Signed.Version += 100
	r.roles[roleTargets].Signed.Version += 100
	r.publish("notes.stable", roleTargets)
	dir := t.TempDir()
	r.mustRefresh(dir, nil)
	return r, dir
}

// Two of three keys are the threshold. The floor stays as long as two of those who signed it are still trusted, for
// so long the old file would verify too.
func TestFloorsKnowWhoSigned(t *testing.T) {
	for name, c := range map[string]struct {
		signed  int   // by the first of the three keys
		revoke  []int // then
		dropped bool
	}{
		"two signed, the third is revoked":     {2, []int{2}, false},
		"two signed, one of them is revoked":   {2, []int{0}, true},
		"three signed, one of them is revoked": {3, []int{0}, false},
		"three signed, two are revoked":        {3, []int{0, 1}, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t)
			r.addKey(roleTimestamp, ed25519Signer(t))
			r.addKey(roleTimestamp, ed25519Signer(t))
			keys := r.keys[roleTimestamp]
			r.root.Signed.Roles[roleTimestamp].Threshold = 2
			r.publishRoot()
			r.keys[roleTimestamp] = keys[:c.signed]
			r.publishTimestamp()
			r.publishTimestamp()
			dir := t.TempDir()
			require.EqualValues(t, 3, r.mustRefresh(dir, nil).Versions()["timestamp"])

			r.keys[roleTimestamp] = keys
			for range c.revoke {
				r.addKey(roleTimestamp, ed25519Signer(t))
			}
			for _, i := range c.revoke {
				id, err := tufKey(t, keys[i]).ID()
				require.NoError(t, err)
				require.NoError(t, r.root.Signed.RevokeKey(id, roleTimestamp))
			}
			r.publishRoot()
			r.timestamp.Signed.Version = 0
			r.publishTimestamp()
			loseCache(t, dir) // which would prove the same
			_, err := r.refresh(dir, nil)
			if c.dropped {
				require.NoError(t, err)
			} else {
				requireRollback(t, err, roleTimestamp)
			}
		})
	}
}

// A crash can come after the metadata was written and before the floors were.
func TestFloorsThatLagBehindTheCache(t *testing.T) {
	r := newRepo(t)
	dir := t.TempDir()
	r.mustRefresh(dir, nil)
	lagging, err := os.ReadFile(filepath.Join(dir, floorsName))
	require.NoError(t, err)
	stale := r.copyFiles()
	r.publish("notes.stable")
	r.mustRefresh(dir, nil)
	require.NoError(t, os.WriteFile(filepath.Join(dir, floorsName), lagging, 0o600))
	_, err = r.refresh(dir, FS(mapFS(stale)))
	requireRollback(t, err, roleTimestamp)
	r.mustRefresh(dir, nil)
}

// The other window of a crash: the new snapshot and role are there, the timestamp is not.
func TestCommitCutShortLeavesTheOldView(t *testing.T) {
	r := newRepo(t)
	dir := t.TempDir()
	r.mustRefresh(dir, nil)
	ts, err := os.ReadFile(filepath.Join(dir, timestampName))
	require.NoError(t, err)
	sn, err := os.ReadFile(filepath.Join(dir, snapshotCache(1)))
	require.NoError(t, err)
	fl, err := os.ReadFile(filepath.Join(dir, floorsName))
	require.NoError(t, err)
	tg, err := os.ReadFile(filepath.Join(dir, roleCache(roleTargets, 1)))
	require.NoError(t, err)
	r.publish(roleTargets)
	r.mustRefresh(dir, nil)
	require.NoFileExists(t, filepath.Join(dir, snapshotCache(1)), "swept")
	for name, data := range map[string][]byte{timestampName: ts, snapshotCache(1): sn, floorsName: fl, roleCache(roleTargets, 1): tg} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	v, err := r.client(dir, sourceFunc(nil)).Load(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, v.Versions()["targets"])
	require.EqualValues(t, 2, r.mustRefresh(dir, nil).Versions()["targets"])
	require.NoFileExists(t, filepath.Join(dir, snapshotCache(1)))
}

// A store whose cached files were put back to an older state, properly signed, is no view.
func TestLoadHoldsTheFloors(t *testing.T) {
	r := newRepo(t)
	dir, older := t.TempDir(), t.TempDir()
	r.mustRefresh(dir, nil)
	require.NoError(t, os.CopyFS(older+"/1", os.DirFS(dir)))
	r.publish(roleTargets)
	r.mustRefresh(dir, nil)
	for _, name := range []string{timestampName, snapshotCache(1), roleCache(roleTargets, 1)} {
		data, err := os.ReadFile(filepath.Join(older, "1", name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	_, err := r.client(dir, sourceFunc(nil)).Load(t.Context())
	requireRollback(t, err, roleTimestamp)
	_, err = r.client(older+"/1", sourceFunc(nil)).Load(t.Context())
	require.NoError(t, err, "with its own floors, it is one")
	require.EqualValues(t, 2, r.mustRefresh(dir, nil).Versions()["targets"])
}

// TUF 5.4.5: a timestamp that verified is remembered although what it lists can not be had. The last whole view stays.
func TestVerifiedTimestampIsRememberedWithoutItsSnapshot(t *testing.T) {
	r := newRepo(t)
	dir := t.TempDir()
	r.mustRefresh(dir, nil)
	r.publish("notes.stable")
	broken := r.copyFiles()
	delete(broken, "metadata/2.snapshot.json")
	_, err := r.refresh(dir, FS(mapFS(broken)))
	var gone *SourceError
	require.ErrorAs(t, err, &gone)
	require.Equal(t, "metadata/2.snapshot.json", gone.Name)

	v, err := r.client(dir, sourceFunc(nil)).Load(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, v.Versions()["timestamp"])

	stored, err := r.client(dir, nil).Stored(t.Context())
	require.NoError(t, err)
	require.Equal(t, r.get("metadata/timestamp.json"), stored[roleTimestamp])
	require.Equal(t, r.get("metadata/1.snapshot.json"), stored[roleSnapshot])

	r.mustRefresh(dir, nil)
	require.NoFileExists(t, filepath.Join(dir, pendingName))
}

func TestFloorsSurviveTheirFile(t *testing.T) {
	f := floors{
		Root: 3, Whole: 6, Signed: start, Seen: start.Add(time.Hour),
		Timestamp: &timestampFloor{7, 5, []string{"a"}},
		Snapshot:  &snapshotFloor{5, map[string]int64{"targets": 2}, []string{"b"}},
	}
	data, err := f.marshal()
	require.NoError(t, err)
	got, err := parseFloors(data)
	require.NoError(t, err)
	require.Equal(t, f, got)
	for i := range data {
		bad := append([]byte{}, data...)
		bad[i] ^= 1
		if got, err := parseFloors(bad); err == nil {
			require.Equal(t, f, got, "byte %d", i) // the case of a field's name does not matter
		}
	}
}

func FuzzParseFloors(f *testing.F) {
	data, err := floors{Root: 1}.marshal()
	require.NoError(f, err)
	f.Add(data)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, err := parseFloors(data); err == nil {
			again, err := got.marshal()
			require.NoError(t, err)
			_, err = parseFloors(again)
			require.NoError(t, err)
		}
	})
}
