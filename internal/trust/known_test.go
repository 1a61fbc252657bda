package trust

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/stretchr/testify/require"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

const (
	listRole = "license"
	listPath = "license/revocations.json"
)

// newListRepo is a repository with a small target that is to be kept.
func newListRepo(t *testing.T) *repo {
	r := newRepo(t)
	r.delegate(roleTargets, metadata.DelegatedRole{Name: listRole, Threshold: 1, Terminating: true, Paths: []string{"license/*"}})
	r.add(listRole, listPath, []byte("one"))
	r.publish(listRole, roleTargets)
	return r
}

// keep refreshes, and keeps the target.
func (r *repo) keep(dir string, src Source, change ...func(*Config)) {
	r.tb.Helper()
	v := r.mustRefresh(dir, src, change...)
	targets, err := v.Role(r.tb.Context(), listRole)
	require.NoError(r.tb, err)
	require.Len(r.tb, targets, 1)
	data, err := v.Fetch(r.tb.Context(), targets[0], 1000)
	require.NoError(r.tb, err)
	require.NoError(r.tb, v.Keep(r.tb.Context(), targets[0], data))
}

// known is what a process without a network knows.
func (r *repo) known(dir string, change ...func(*Config)) *Known {
	r.tb.Helper()
	k, err := r.client(dir, sourceFunc(nil), change...).Known(r.tb.Context(), listRole, listPath, "license/none.json", "notes/stable/1/x")
	require.NoError(r.tb, err)
	return k
}

func requireKnown(t *testing.T, k *Known, content string) {
	t.Helper()
	if content == "" {
		require.Empty(t, k.Kept)
		return
	}
	require.Equal(t, content, string(k.Kept[listPath].Data))
	require.Len(t, k.Kept, 1)
	require.Equal(t, listPath, k.Kept[listPath].Target.Path)
}

func keptFileIn(dir string) string { return filepath.Join(dir, keptCache(listRole, listPath)) }

// What was known once stays known, without a network, whatever the clock shows.
func TestKnownOutlastsExpiry(t *testing.T) {
	r := newListRepo(t)
	dir := t.TempDir()
	c := r.client(dir, sourceFunc(nil))
	_, err := c.Known(t.Context(), listRole, listPath)
	require.ErrorIs(t, err, ErrNotStored)
	_, err = r.client(filepath.Join(dir, "none"), nil).Known(t.Context(), listRole)
	require.ErrorIs(t, err, ErrNotStored)
	require.NoDirExists(t, filepath.Join(dir, "none"))

	r.keep(dir, nil)
	for _, now := range []time.Time{time.Unix(0, 0), start, start.Add(8 * day), start.Add(2 * 366 * day), start.Add(75 * 366 * day)} {
		before := treeHash(t, dir)
		k := r.known(dir, at(now))
		requireKnown(t, k, "one")
		require.True(t, k.Delegated)
		require.Equal(t, start, k.Signed)
		require.Equal(t, start.Add(120*day), k.Kept[listPath].Expires)
		require.Equal(t, k.Kept[listPath].Target, k.Listed[listPath])
		require.Equal(t, before, treeHash(t, dir), "looking changes nothing")
		if now.After(start.Add(7 * day)) {
			_, err := r.client(dir, sourceFunc(nil), at(now)).Load(t.Context())
			var expired *ExpiredError
			require.ErrorAs(t, err, &expired, "no other way makes anything of it")
		}
	}
	k, err := r.client(dir, nil).Known(t.Context(), "unheard", "unheard/x")
	require.NoError(t, err)
	require.False(t, k.Delegated)
	require.Empty(t, k.Kept)
}

// The same client, running, sees what it has refreshed.
func TestKnownOfARunningClient(t *testing.T) {
	r := newListRepo(t)
	dir := t.TempDir()
	r.keep(dir, nil)
	c := r.client(dir, nil)
	_, err := c.Refresh(t.Context())
	require.NoError(t, err)
	k, err := c.Known(t.Context(), listRole, listPath)
	require.NoError(t, err)
	requireKnown(t, k, "one")
	// Its newest timestamp counts as proof of the time, although what it leads to cannot be had.
	r.now = start.Add(3 * day)
	r.publish()
	broken := r.copyFiles()
	delete(broken, metadataName(r.root, roleSnapshot, r.snapshot.Signed.Version))
	_, err = r.refresh(dir, FS(mapFS(broken)))
	require.Error(t, err)
	k = r.known(dir)
	requireKnown(t, k, "one")
	require.Equal(t, start.Add(3*day), k.Signed)
}

// What was kept is proved by what is kept beside it, when the role has moved on: to another file that could not be had, to
// none, or to metadata that could not be had itself. So whoever is killed between a refresh and Keep has lost nothing.
func TestKeptOutlastsTheRole(t *testing.T) {
	for name, next := range map[string]func(r *repo) (list bool){
		"killed before the role":   func(r *repo) bool { r.add(listRole, listPath, []byte("two")); return false },
		"killed before the target": func(r *repo) bool { r.add(listRole, listPath, []byte("two")); return true },
		"not listed any more":      func(r *repo) bool { delete(r.roles[listRole].Signed.Targets, listPath); return true },
	} {
		t.Run(name, func(t *testing.T) {
			r := newListRepo(t)
			dir := t.TempDir()
			r.keep(dir, nil)
			list := next(r)
			for range 2 {
				r.publish(listRole)
				v := r.mustRefresh(dir, nil)
				if list {
					_, err := v.Role(t.Context(), listRole)
					require.NoError(t, err)
				}
				requireKnown(t, r.known(dir), "one")
			}
			if k := r.known(dir); list {
				require.NotNil(t, k.Listed)
				require.NotEqual(t, k.Kept[listPath].Target, k.Listed[listPath])
			} else {
				require.Nil(t, k.Listed)
			}
			r.add(listRole, listPath, []byte("three"))
			r.publish(listRole)
			r.keep(dir, nil)
			requireKnown(t, r.known(dir), "three")
			files, err := filepath.Glob(filepath.Join(dir, "kept.*"))
			require.NoError(t, err)
			require.Len(t, files, 1)
		})
	}
}

// Keys that were taken from a role take what only they have signed with them, unless the role still lists it.
func TestKeptFallsWithItsKeys(t *testing.T) {
	rotateRole := func(r *repo) {
		d := r.roles[roleTargets].Signed.Delegations
		r.roles[roleTargets].Signed.Delegations.Roles = d.Roles[:len(d.Roles)-1]
		r.keys[listRole] = []signature.Signer{ed25519Signer(r.tb)}
		r.delegateTo(roleTargets, metadata.DelegatedRole{Name: listRole, Threshold: 1, Terminating: true, Paths: []string{"license/*"}}, r.keys[listRole]...)
		r.publish(listRole, roleTargets)
	}
	rotateSnapshot := func(r *repo) { r.rotate(roleSnapshot); r.publishRoot(); r.publish(listRole) }
	rotateTargets := func(r *repo) { r.rotate(roleTargets); r.publishRoot(); r.publish(listRole, roleTargets) }
	for name, c := range map[string]struct {
		rotate func(*repo)
		falls  bool
	}{"role": {rotateRole, true}, "snapshot": {rotateSnapshot, true}, "targets": {rotateTargets, false}} {
		for _, listed := range []bool{true, false} {
			t.Run(fmt.Sprint(name, " listed ", listed), func(t *testing.T) {
				r := newListRepo(t)
				dir := t.TempDir()
				r.keep(dir, nil)
				if !listed {
					delete(r.roles[listRole].Signed.Targets, listPath)
				}
				c.rotate(r)
				v := r.mustRefresh(dir, nil)
				_, err := v.Role(t.Context(), listRole)
				require.NoError(t, err)
				if c.falls && !listed {
					requireKnown(t, r.known(dir), "")
				} else {
					requireKnown(t, r.known(dir), "one")
				}
			})
		}
	}
}

// forge is what somebody can put into the store who has these keys.
type forge struct {
	snapshot, role []signature.Signer
	pin, version   int64 // of the snapshot and the role
	as             int64 // that the snapshot says the role has; 0: the one that it has
}

func (r *repo) forged(f forge, content string) keptFile {
	other := newListRepo(r.tb.(*testing.T)) // to have metadata of the same shape
	other.add(listRole, listPath, []byte(content))
	md := other.roles[listRole]
	md.Signed.Version = f.version
	role := sign(r.tb, md, f.role...)
	other.snapshot.Signed.Version = f.pin
	other.snapshot.Signed.Meta[listRole+".json"] = pinned(cmp.Or(f.as, f.version), role)
	return keptFile{sign(r.tb, other.snapshot, f.snapshot...), role, []byte(content)}
}

// Rule 1: the store is hostile. Whatever stands in the place of a kept target, it is what the repository signed or nothing.
func TestPlantedKeptFiles(t *testing.T) {
	read := func(t *testing.T, dir string) (f keptFile) {
		data, err := os.ReadFile(keptFileIn(dir))
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(data, &f))
		return f
	}
	thief := []signature.Signer{ed25519Signer(t)}
	cases := map[string]struct {
		plant func(t *testing.T, r *repo, dir string) any
		want  string // what is known then
	}{
		"other content":        {plant: func(t *testing.T, _ *repo, dir string) any { f := read(t, dir); f.Data = []byte("evil"); return f }},
		"one more byte":        {plant: func(t *testing.T, _ *repo, dir string) any { f := read(t, dir); f.Data = append(f.Data, ' '); return f }},
		"no content":           {plant: func(t *testing.T, _ *repo, dir string) any { f := read(t, dir); f.Data = nil; return f }},
		"nothing":              {plant: func(*testing.T, *repo, string) any { return nil }},
		"a list":               {plant: func(*testing.T, *repo, string) any { return []int{1} }},
		"no metadata":          {plant: func(t *testing.T, _ *repo, dir string) any { return keptFile{Data: []byte("evil")} }},
		"metadata of somebody": {plant: func(_ *testing.T, r *repo, _ string) any { return r.forged(forge{thief, thief, 1, 1, 0}, "evil") }},
		"role's keys only": {plant: func(_ *testing.T, r *repo, _ string) any {
			return r.forged(forge{thief, r.keys[listRole], 1, 1, 0}, "evil")
		}},
		"snapshot's keys only": {plant: func(_ *testing.T, r *repo, _ string) any {
			return r.forged(forge{r.keys[roleSnapshot], thief, 1, 1, 0}, "evil")
		}},
		"keys of another role": {plant: func(_ *testing.T, r *repo, _ string) any {
			return r.forged(forge{r.keys[roleSnapshot], r.keys["notes.beta"], 1, 1, 0}, "evil")
		}},
		"a snapshot to come": {plant: func(_ *testing.T, r *repo, _ string) any {
			return r.forged(forge{r.keys[roleSnapshot], r.keys[listRole], 99, 1, 0}, "evil")
		}},
		"a version to come": {plant: func(_ *testing.T, r *repo, _ string) any {
			return r.forged(forge{r.keys[roleSnapshot], r.keys[listRole], 1, 99, 0}, "evil")
		}},
		"a version called another": {plant: func(_ *testing.T, r *repo, _ string) any {
			return r.forged(forge{r.keys[roleSnapshot], r.keys[listRole], 1, 99, 1}, "evil")
		}},
		"another pin": {plant: func(t *testing.T, r *repo, dir string) any {
			f := r.forged(forge{r.keys[roleSnapshot], r.keys[listRole], 1, 1, 0}, "evil")
			f.Snapshot = read(t, dir).Snapshot
			return f
		}},
		"metadata that is wrong": {plant: func(t *testing.T, _ *repo, dir string) any {
			f := read(t, dir)
			f.Role = []byte(`{"signed":null}`)
			return f
		}},
		"not wrong at all": {plant: func(t *testing.T, _ *repo, dir string) any { return read(t, dir) }, want: "one"},
		"both roles' keys": {plant: func(_ *testing.T, r *repo, _ string) any {
			return r.forged(forge{r.keys[roleSnapshot], r.keys[listRole], 1, 1, 0}, "by both")
		}, want: "by both"}, // so the cases above are refused for what they say
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newListRepo(t)
			dir := t.TempDir()
			r.keep(dir, nil)
			// The role has moved on, and only what is kept beside it proves what is kept.
			delete(r.roles[listRole].Signed.Targets, listPath)
			r.publish(listRole)
			_, err := r.mustRefresh(dir, nil).Role(t.Context(), listRole)
			require.NoError(t, err)
			data, err := json.Marshal(c.plant(t, r, dir))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(keptFileIn(dir), data, 0o600))
			requireKnown(t, r.known(dir), c.want)

			// And while the role lists it, edited or renamed files count for as little.
			r.add(listRole, listPath, []byte("one"))
			r.publish(listRole)
			r.keep(dir, nil)
			requireKnown(t, r.known(dir), "one")
		})
	}
	t.Run("under the name of another", func(t *testing.T) {
		r := newListRepo(t)
		r.add(listRole, "license/keyring.json", []byte("keys"))
		r.publish(listRole)
		dir := t.TempDir()
		v := r.mustRefresh(dir, nil)
		targets, err := v.Role(t.Context(), listRole)
		require.NoError(t, err)
		require.NoError(t, v.Keep(t.Context(), targets[0], []byte("keys")))
		require.NoError(t, os.Rename(filepath.Join(dir, keptCache(listRole, "license/keyring.json")), keptFileIn(dir)))
		requireKnown(t, r.known(dir), "")
	})
}

// A delegation confines its role here as well.
func TestKnownPathsAreCovered(t *testing.T) {
	r := newListRepo(t)
	r.add(listRole, "notes/stable/1/x", []byte("stray"))
	r.publish(listRole)
	dir := t.TempDir()
	v := r.mustRefresh(dir, nil)
	_, err := v.Role(t.Context(), listRole)
	require.NoError(t, err)
	require.NoError(t, v.Keep(t.Context(), newTarget(listRole, "notes/stable/1/x", r.roles[listRole].Signed.Targets["notes/stable/1/x"]), []byte("stray")))
	k := r.known(dir)
	require.Empty(t, k.Kept)
	require.NotContains(t, k.Listed, "notes/stable/1/x")
}

func TestKeepRefusals(t *testing.T) {
	r := newListRepo(t)
	dir := t.TempDir()
	v := r.mustRefresh(dir, nil)
	list, err := v.Role(t.Context(), listRole)
	require.NoError(t, err)
	before := treeHash(t, dir)
	require.ErrorContains(t, v.Keep(t.Context(), list[0], []byte("two")), "its sha256 is another one")
	require.ErrorContains(t, v.Keep(t.Context(), list[0], make([]byte, maxKept+1)), "more than 2097152 bytes")
	other := list[0]
	other.Role = "unheard"
	require.ErrorContains(t, v.Keep(t.Context(), other, []byte("one")), `no role "unheard" lists it`)
	other.Role = "notes.beta"
	require.Error(t, v.Keep(t.Context(), other, []byte("one")))
	require.Equal(t, before, treeHash(t, dir))

	// One who was overtaken by another process keeps nothing: it has less to say.
	r.add(listRole, listPath, []byte("two"))
	r.publish(listRole)
	r.keep(dir, nil)
	before = treeHash(t, dir)
	require.NoError(t, v.Keep(t.Context(), list[0], []byte("one")))
	require.Equal(t, before, treeHash(t, dir))
	r.keep(dir, nil)
	require.Equal(t, before, treeHash(t, dir), "nothing new, nothing written")
}

// Floors hold, and a vanished role's files are swept.
func TestKnownDoesNotGoBack(t *testing.T) {
	r := newListRepo(t)
	dir := t.TempDir()
	r.keep(dir, nil)
	old := t.TempDir()
	require.NoError(t, os.CopyFS(old, os.DirFS(dir)))
	r.add(listRole, listPath, []byte("two"))
	r.publish(listRole)
	r.keep(dir, nil)
	for _, name := range []string{timestampName, "snapshot.2.json", roleCache(listRole, 1)} { // all but the floors
		data, err := os.ReadFile(filepath.Join(old, name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	_, err := r.client(dir, nil).Known(t.Context(), listRole, listPath)
	requireRollback(t, err, roleTimestamp)
	r.keep(dir, nil)
	requireKnown(t, r.known(dir), "two")

	r.rotate(roleSnapshot) // else it may not vanish
	r.publishRoot()
	d := r.roles[roleTargets].Signed.Delegations
	d.Roles = d.Roles[:len(d.Roles)-1]
	delete(r.snapshot.Signed.Meta, listRole+".json")
	r.publish(roleTargets)
	r.mustRefresh(dir, nil)
	require.NoFileExists(t, keptFileIn(dir))
	require.False(t, r.known(dir).Delegated)
}

// Rule 3, for what was kept: whatever befalls a file of the store, what is known then is right or nothing, never an error
// that lasts, and only damage to the chain that leads to it makes it nothing.
func TestDamagedKeptHeals(t *testing.T) {
	r := newListRepo(t)
	r.rotate(roleTimestamp)
	r.publishRoot()
	r.publish()
	whole := t.TempDir()
	r.keep(whole, nil)
	var names []string
	require.NoError(t, filepath.WalkDir(whole, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, strings.TrimPrefix(p, whole+string(filepath.Separator)))
		}
		return err
	}))
	require.Len(t, names, 8, "%v", names)
	for _, name := range names {
		chain := strings.HasPrefix(name, "kept.") || strings.HasPrefix(name, rootsDir) || name == timestampName ||
			strings.HasPrefix(name, "snapshot.") || name == roleCache(roleTargets, 2)
		for how, damage := range damages {
			if runtime.GOOS == "windows" && strings.HasPrefix(how, "symlink") {
				continue // takes a privilege there
			}
			t.Run(strings.SplitN(name, ".", 2)[0]+" "+how, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "store")
				require.NoError(t, os.CopyFS(dir, os.DirFS(whole)))
				damage(t, filepath.Join(dir, name))
				k, err := r.client(dir, sourceFunc(nil), at(start.Add(1000*day))).Known(t.Context(), listRole, listPath)
				var back *RollbackError
				switch {
				case strings.HasPrefix(name, "kept."):
					require.NoError(t, err)
					if len(k.Kept) > 0 { // the role lists it still, and only what else would prove it is damaged
						requireKnown(t, k, "one")
						require.Equal(t, "one bit", how)
					}
				case !chain:
					require.NoError(t, err)
					requireKnown(t, k, "one")
				case strings.HasPrefix(name, rootsDir):
					require.ErrorAs(t, err, &back)
				default:
					require.ErrorIs(t, err, ErrDamaged)
				}
				r.keep(dir, nil)
				requireKnown(t, r.known(dir), "one")
			})
		}
	}
}

// Several processes keep and look at once; nobody sees less than he has seen.
func TestKeepersShareAStore(t *testing.T) {
	r := newListRepo(t)
	dir := t.TempDir()
	r.keep(dir, nil)
	var done sync.WaitGroup
	stop := make(chan struct{})
	problems := make(chan string, 100)
	for range 4 {
		done.Go(func() {
			seen := ""
			for {
				select {
				case <-stop:
					return
				default:
				}
				c := r.client(dir, nil)
				v, err := c.Refresh(t.Context())
				if err != nil {
					continue // it read while the repository was being written
				}
				if list, err := v.Role(t.Context(), listRole); err == nil && len(list) == 1 {
					if data, err := v.Fetch(t.Context(), list[0], 100); err == nil {
						_ = v.Keep(t.Context(), list[0], data)
					}
				}
				k, err := c.Known(t.Context(), listRole, listPath)
				if err != nil || string(k.Kept[listPath].Data) < seen {
					problems <- fmt.Sprint(err, k, seen)
					return
				}
				seen = string(k.Kept[listPath].Data)
			}
		})
	}
	for i := range 20 {
		r.add(listRole, listPath, fmt.Appendf(nil, "x%02d", i))
		r.publish(listRole)
		time.Sleep(10 * time.Millisecond)
	}
	close(stop)
	done.Wait()
	require.Empty(t, problems)
	r.keep(dir, nil)
	requireKnown(t, r.known(dir), "x19")
}
