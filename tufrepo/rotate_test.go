package tufrepo_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/trust"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

var errDead = errors.New("killed")

// A watchedStore calls before ahead of every Put, whose error is that of the Put.
type watchedStore struct {
	tufrepo.Store
	before func(name string) error
}

func (w *watchedStore) Put(ctx context.Context, name string, content io.Reader, cond tufrepo.Condition) (tufrepo.Revision, error) {
	if err := w.before(name); err != nil {
		return "", err
	}
	return w.Store.Put(ctx, name, content, cond)
}

// firstPut is where stories about metadata begin: short of time, after the blob and the manifest.
func firstPut() int {
	if testing.Short() {
		return 3
	}
	return 1
}

// newVendor has release 1.0.0 in stable, and one key a role.
func newVendor(t *testing.T) *vendor {
	v := newSeededVendor(t, 1)
	r := v.open(v.store())
	for _, role := range slices.Sorted(maps.Keys(v.keys)) {
		v.rotate(r, role)
	}
	_, err := r.Release(t.Context(), "notes", "stable", tufrepo.NewRelease{Version: "1.0.0", Artifacts: v.artifact("one")})
	require.NoError(t, err)
	v.commit(r)
	return v
}

// rotate gives roles new keys, one each, and keeps none.
func (v *vendor) rotate(r *tufrepo.Repo, roles ...string) {
	v.Helper()
	for _, role := range roles {
		v.keys[role] = keySet{[]*tufrepo.Signer{v.newSigner()}, 1}
		require.NoError(v, r.SetKeys(role, v.keys[role].public()))
	}
}

// elsewhere is the same vendor with a copy of the repository.
func (v *vendor) elsewhere(t *testing.T) *vendor {
	c := *v
	c.T, c.dir = t, filepath.Join(t.TempDir(), "repo")
	require.NoError(v, os.CopyFS(c.dir, os.DirFS(v.dir)))
	c.keys, c.published = maps.Clone(v.keys), maps.Clone(v.published)
	return &c
}

// state is the lists of two channels as one view has them.
func (v *vendor) state(view *trust.View) string {
	v.Helper()
	var lists [2][]channel.Release
	var err error
	for i, name := range []string{"stable", "beta"} {
		lists[i], err = v.listed(view, name)
		require.NoError(v, err)
	}
	text, err := json.Marshal(lists)
	require.NoError(v, err)
	return string(text)
}

// TestReadersBetweenPuts kills a publisher at every Put, and has clients look before each: they see the old lists or
// the new ones, never one channel without the other, never the old ones again, and never an error. Then the same
// commands complete what was interrupted.
func TestReadersBetweenPuts(t *testing.T) {
	t.Parallel()
	base := newVendor(t)
	var rotated map[string]keySet
	for name, edit := range map[string]func(v *vendor, r *tufrepo.Repo){
		"release": func(*vendor, *tufrepo.Repo) {},
		"release and rotation of all keys": func(v *vendor, r *tufrepo.Repo) {
			for _, role := range slices.Sorted(maps.Keys(v.keys)) {
				require.NoError(v, r.SetKeys(role, rotated[role].public()))
			}
			v.keys = rotated
		},
	} {
		t.Run(name, func(t *testing.T) {
			rotated = maps.Clone(base.keys)
			for role := range rotated {
				rotated[role] = keySet{[]*tufrepo.Signer{base.newSigner()}, 1}
			}
			for kill := firstPut(); ; kill++ {
				v := base.elsewhere(t)
				if !v.killedAt(kill, edit) {
					require.Greater(t, kill, 5, "there was nothing to kill")
					break
				}
			}
		})
	}
}

// killedAt kills the publisher ahead of its nth Put, and reports whether there were so many.
func (v *vendor) killedAt(kill int, edit func(*vendor, *tufrepo.Repo)) bool {
	v.Helper()
	client, states, left := v.client(v.TempDir()), []string{}, kill
	look := func() {
		view, err := client.Refresh(v.Context())
		require.NoError(v, err, "killed at %d, %d left", kill, left)
		if now := v.state(view); len(states) == 0 || states[len(states)-1] != now {
			states = append(states, now)
		}
	}
	publish := func(before func(string) error) error {
		r := v.open(&watchedStore{v.store(), before})
		_, err := r.Release(v.Context(), "notes", "stable", tufrepo.NewRelease{Version: "1.1.0", Artifacts: v.artifact("two")})
		require.NoError(v, err)
		_, err = r.Promote(v.Context(), "notes", "1.0.0", "stable", "beta", nil)
		require.NoError(v, err)
		edit(v, r)
		_, err = r.Commit(v.Context(), v.everybody()...)
		return err
	}
	look()
	err := publish(func(string) error {
		look()
		if left--; left <= 0 {
			return errDead
		}
		return nil
	})
	if err == nil {
		look()
		require.Len(v, states, 2)
		return false
	}
	require.ErrorIs(v, err, errDead)
	look()
	require.NoError(v, publish(func(string) error { look(); return nil }), "again after a kill at put %d", kill)
	look()
	require.Len(v, states, 2, "killed at put %d", kill)
	v.committed()
	v.sees("new", v.client(v.TempDir()), v.open(v.store()))
	v.verifies()
	return true
}

// lostCommit releases 1.1.0 and gives roles the keys that v has by now, without their old ones, but for the root's.
func (v *vendor) lostCommit(r *tufrepo.Repo, roles ...string) error {
	v.Helper()
	for _, role := range roles {
		require.NoError(v, r.SetKeys(role, v.keys[role].public()))
	}
	_, err := r.Release(v.Context(), "notes", "stable", tufrepo.NewRelease{Version: "1.1.0", Artifacts: v.artifact("two")})
	require.NoError(v, err)
	_, err = r.Commit(v.Context(), v.enough()...)
	return err
}

// TestLostKeys replaces keys that are not at hand, so that the new root must be there before the timestamp, and kills
// the publisher at every Put. In between clients can only refuse; the same commands heal it.
func TestLostKeys(t *testing.T) {
	t.Parallel()
	base := newVendor(t)
	changes := [][]string{{"timestamp", "snapshot", "targets"}, {"timestamp"}, {"snapshot"}, {"targets"}}
	if testing.Short() {
		changes = changes[:2]
	}
	for _, lost := range changes {
		t.Run(fmt.Sprint(lost), func(t *testing.T) {
			refused := 0
			for kill := firstPut(); ; kill++ {
				v := base.elsewhere(t)
				client := v.client(t.TempDir())
				v.sees("before", client, v.open(v.store()))
				for _, role := range lost {
					v.keys[role] = keySet{[]*tufrepo.Signer{v.newSigner()}, 1}
				}
				err := v.lostCommit(v.open(dyingAt(v, kill)), lost...)
				if err != nil {
					require.ErrorIs(t, err, errDead)
					if _, err := client.Refresh(t.Context()); err != nil {
						var verify *trust.VerifyError
						require.ErrorAs(t, err, &verify)
						require.Equal(t, []string{"complete an interrupted change of keys"}, v.open(v.store()).Changes())
						refused++
					}
					require.NoError(t, v.lostCommit(v.open(v.store()), lost...), "again after a kill at put %d", kill)
				}
				v.committed()
				r := v.open(v.store())
				require.Empty(t, r.Changes())
				v.sees("faithful", client, r)
				v.sees("new", v.client(t.TempDir()), r)
				v.verifies()
				list, err2 := r.Releases("notes", "stable")
				require.NoError(t, err2)
				require.Len(t, list, 2)
				if err == nil {
					require.Equal(t, 1, refused, "between root and timestamp, and nowhere else")
					return
				}
			}
		})
	}
}

func dyingAt(v *vendor, put int) tufrepo.Store {
	return &watchedStore{v.store(), func(string) error {
		if put--; put <= 0 {
			return errDead
		}
		return nil
	}}
}

// TestHealingBelievesNoReplacedKey: who holds the store and all keys that were replaced cannot have his lists signed,
// nor, with the online keys alone, older lists of ours.
func TestHealingBelievesNoReplacedKey(t *testing.T) {
	t.Parallel()
	online := []string{"root", "snapshot", "timestamp"}
	for _, roles := range [][]string{online, append([]string{"targets", "notes.stable", "notes.beta"}, online...)} {
		heal(t, roles, len(roles) > len(online))
	}
}

func heal(t *testing.T, replaced []string, evil bool) {
	v := newVendor(t)
	old := v.elsewhere(t)
	r := v.open(v.store())
	_, err := r.Release(t.Context(), "notes", "stable", tufrepo.NewRelease{Version: "1.1.0", Artifacts: v.artifact("two")})
	require.NoError(t, err)
	v.rotate(r, replaced...)
	v.commit(r)
	honest, err := r.Releases("notes", "stable")
	require.NoError(t, err)

	// The thief's repository goes on from before the change, far ahead of ours.
	for range 3 {
		r := old.open(old.store())
		require.Empty(t, r.Refresh(old.everybody()...))
		require.NoError(t, r.SetPolicy("snapshot", tufrepo.DefaultPolicy("snapshot")))
		if evil {
			_, err := r.Release(t.Context(), "notes", "stable", tufrepo.NewRelease{Version: fmt.Sprintf("6.6.%d", old.last), Artifacts: old.artifact("evil")})
			require.NoError(t, err)
			old.last++
		}
		old.commit(r)
	}
	stolen, err := filepath.Glob(filepath.Join(old.dir, "metadata/*"))
	require.NoError(t, err)
	for _, name := range stolen { // wherever they do not replace what a present key signed; and the timestamp
		there := filepath.Join(v.dir, "metadata", filepath.Base(name))
		if _, err := os.Stat(there); err == nil && filepath.Base(name) != "timestamp.json" {
			continue
		}
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(there, data, 0o644))
	}
	r = v.open(v.store())
	list, err := r.Releases("notes", "stable")
	require.NoError(t, err)
	require.Equal(t, honest, list)
	v.commit(r)
	v.sees("new", v.client(t.TempDir()), v.open(v.store()))

	// A timestamp that no root's key signed is just damage.
	require.NoError(t, os.WriteFile(filepath.Join(v.dir, "metadata/timestamp.json"), mustRead(t, filepath.Join(newVendor(t).dir, "metadata/timestamp.json")), 0o644))
	_, err = tufrepo.Open(t.Context(), v.store(), tufrepo.OpenConfig{Root: v.root, Now: v.clock})
	var refused *tufrepo.TrustError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "metadata/timestamp.json", refused.Name)
}

func mustRead(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	return data
}

// TestCommitAgain: a root that could not be written after the timestamp that it belongs to is written by the next try.
func TestCommitAgain(t *testing.T) {
	t.Parallel()
	v := newVendor(t)
	failed := false
	r := v.open(&watchedStore{v.store(), func(name string) error {
		if name == "metadata/3.root.json" && !failed {
			failed = true
			return errDead
		}
		return nil
	}})
	v.rotate(r, "root", "timestamp")
	_, err := r.Release(t.Context(), "notes", "stable", tufrepo.NewRelease{Version: "1.1.0", Artifacts: v.artifact("two")})
	require.NoError(t, err)
	edits := r.Changes()
	_, err = r.Commit(t.Context(), v.everybody()...)
	require.ErrorIs(t, err, errDead)
	require.Equal(t, edits, r.Changes())
	v.sees("new", v.client(t.TempDir()), r)
	res, err := r.Commit(t.Context(), v.everybody()...)
	require.NoError(t, err)
	require.Len(t, res.Roles, 1)
	require.Equal(t, "root", res.Roles[0].Role)
	v.committed()
	v.sees("new", v.client(t.TempDir()), v.open(v.store()))
	v.verifies()
}

// TestPublishersMeet has one publisher commit, with the keys of before, ahead of each Put of another one that replaces
// them. What one of them was told is published is there for everybody; what is not can be published again.
func TestPublishersMeet(t *testing.T) {
	t.Parallel()
	base := newVendor(t)
	for _, lost := range []bool{false, true} { // the old keys
		for _, late := range []bool{false, true} { // the other opens just before it commits
			for at, more := firstPut(), true; more; at++ {
				v := base.elsewhere(t)
				more = v.meet(lost, late, at)
			}
		}
	}
}

func (v *vendor) meet(lost, late bool, at int) (more bool) {
	name := fmt.Sprintf("lost %v, late %v, put %d", lost, late, at)
	before, other := v.everybody(), v.open(v.store())
	otherErr := errors.New("never came to it")
	left, next := at, ""
	r := v.open(&watchedStore{v.store(), func(name string) error {
		if left--; left == 0 {
			next = name
			if late {
				other = v.open(v.store())
			}
			_, err := other.Release(v.Context(), "notes", "beta", tufrepo.NewRelease{Version: "2.0.0", Artifacts: v.artifact("other")})
			require.NoError(v, err)
			_, otherErr = other.Commit(v.Context(), before...)
		}
		return nil
	}})
	v.rotate(r, "root", "timestamp", "snapshot")
	_, err := r.Release(v.Context(), "notes", "stable", tufrepo.NewRelease{Version: "1.1.0", Artifacts: v.artifact("two")})
	require.NoError(v, err)
	signers := v.everybody()
	if lost {
		signers = v.enough()
	}
	_, err = r.Commit(v.Context(), signers...)
	if left > 0 {
		require.NoError(v, err, name)
		return false
	}
	var missing *tufrepo.MissingKeysError
	require.True(v, err == nil || errors.Is(err, tufrepo.ErrConflict), "%s: %v", name, err)
	require.True(v, otherErr == nil || errors.Is(otherErr, tufrepo.ErrConflict) || errors.As(otherErr, &missing), "%s: %v", name, otherErr)
	require.True(v, err == nil || otherErr == nil, "%s: one gets through", name)

	if err != nil && next != "metadata/3.root.json" && next != "metadata/timestamp.json" {
		v.sees(name, v.client(v.TempDir()), other) // nothing visible was changed
	}

	// Both try again, with the keys of now.
	r = v.open(v.store())
	for _, role := range []string{"root", "timestamp", "snapshot"} {
		require.NoError(v, r.SetKeys(role, v.keys[role].public()))
	}
	for version, channelName := range map[string]string{"1.1.0": "stable", "2.0.0": "beta"} {
		content := map[string]string{"1.1.0": "two", "2.0.0": "other"}[version]
		_, err := r.Release(v.Context(), "notes", channelName, tufrepo.NewRelease{Version: version, Artifacts: v.artifact(content)})
		require.NoError(v, err)
	}
	_, err = r.Commit(v.Context(), v.everybody()...)
	require.NoError(v, err, name)
	v.committed()
	v.sees(name, v.client(v.TempDir()), v.open(v.store()))
	v.verifies()
	return true
}

// TestRevokedChannelKey: a key that was taken from a channel publishes nothing any more, neither by way of package
// tufrepo nor by its own list put in the place of the genuine one.
func TestRevokedChannelKey(t *testing.T) {
	t.Parallel()
	v := newVendor(t)
	client := v.client(t.TempDir())
	v.sees("before", client, v.open(v.store()))
	thief := v.elsewhere(t)
	r := v.open(v.store())
	v.rotate(r, "notes.stable")
	v.commit(r)
	v.sees("after", client, r)

	_, err := r.Release(t.Context(), "notes", "stable", tufrepo.NewRelease{Version: "6.6.6", Artifacts: v.artifact("evil")})
	require.NoError(t, err)
	signers := slices.Concat(thief.keys["notes.stable"].signers, v.keys["snapshot"].signers, v.keys["timestamp"].signers)
	_, err = r.Commit(t.Context(), signers...)
	var missing *tufrepo.MissingKeysError
	require.ErrorAs(t, err, &missing)
	require.Equal(t, "notes.stable", missing.Role)
	require.Equal(t, []string{v.keys["notes.stable"].signers[0].ID()}, missing.KeyIDs)

	// The thief signs a list, and has the online keys too, but no targets key: the delegation is that of before.
	for range 3 { // so that its numbers are not too low
		r := thief.open(thief.store())
		_, err := r.Release(t.Context(), "notes", "stable", tufrepo.NewRelease{Version: fmt.Sprintf("6.6.%d", thief.last), Artifacts: thief.artifact("evil")})
		require.NoError(t, err)
		thief.last++
		thief.commit(r)
	}
	_, err = v.clientOf(filepath.Join(t.TempDir(), "new"), thief.dir).Refresh(t.Context())
	require.NoError(t, err, "who never saw the change can not know")
	dir := t.TempDir()
	seen := v.client(dir)
	v.sees("after", seen, v.open(v.store()))
	_, err = v.clientOf(dir, thief.dir).Refresh(t.Context())
	var back *trust.RollbackError
	require.ErrorAs(t, err, &back)
	require.Equal(t, "targets", back.Role)

	// But the genuine online key has signed higher numbers, which are remembered, until that key is replaced (TUF 5.3.11).
	_, err = seen.Refresh(t.Context())
	require.ErrorAs(t, err, &back)
	require.Equal(t, "timestamp", back.Role)
	r = v.open(v.store())
	v.rotate(r, "timestamp", "snapshot")
	v.commit(r)
	v.sees("after the attack", seen, v.open(v.store()))
}

// TestOldRepositoryServedAgain: after the timestamp key was replaced, a mirror with the repository of before is refused,
// and so it is if only the memory of versions stands against it.
func TestOldRepositoryServedAgain(t *testing.T) {
	t.Parallel()
	for _, roles := range [][]string{nil, {"timestamp"}, {"root", "timestamp", "snapshot"}} {
		v := newVendor(t)
		old := v.elsewhere(t)
		dir := t.TempDir()
		r := v.open(v.store())
		v.rotate(r, roles...)
		_, err := r.Release(t.Context(), "notes", "stable", tufrepo.NewRelease{Version: "1.1.0", Artifacts: v.artifact("two")})
		require.NoError(t, err)
		v.commit(r)
		v.sees("new", v.client(dir), r)

		_, err = v.clientOf(dir, old.dir).Refresh(t.Context())
		var back *trust.RollbackError
		var refused *trust.VerifyError
		if roles == nil {
			require.ErrorAs(t, err, &back)
			require.Equal(t, "timestamp", back.Role)
		} else {
			require.ErrorAs(t, err, &refused)
			require.Equal(t, "metadata/timestamp.json", refused.File)
		}
		view, err := v.clientOf(dir, old.dir).Load(t.Context())
		require.NoError(t, err)
		list, err := v.listed(view, "stable")
		require.NoError(t, err)
		require.Len(t, list, 2)
	}
}

// TestCarriedByHand: a copy of the folder is a source like any other, without a network.
func TestCarriedByHand(t *testing.T) {
	t.Parallel()
	v := newVendor(t)
	copied := v.elsewhere(t)
	client := v.clientOf(t.TempDir(), copied.dir)
	v.sees("by hand", client, copied.open(copied.store()))
	r := v.open(v.store())
	v.rotate(r, "root", "timestamp", "snapshot", "targets", "notes.stable")
	v.commit(r)
	v.sees("still the first copy", client, copied.open(copied.store()))
	require.NoError(t, os.RemoveAll(copied.dir))
	require.NoError(t, os.CopyFS(copied.dir, os.DirFS(v.dir)))
	v.sees("the next copy", client, r)
}
