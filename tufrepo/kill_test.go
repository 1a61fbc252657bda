package tufrepo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

var errKilled = errors.New("killed")

// A dyingStore is killed at its nth Put: before it did anything, or after it was done but before anybody heard of it.
// Then nothing works any more.
type dyingStore struct {
	Store
	after bool

	mu   sync.Mutex
	left int
	dead bool
}

func (d *dyingStore) Put(ctx context.Context, name string, content io.Reader, cond Condition) (Revision, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return "", errKilled
	}
	if d.left--; d.left == 0 {
		d.dead = true
		if d.after {
			_, _ = d.Store.Put(ctx, name, content, cond)
		}
		return "", errKilled
	}
	return d.Store.Put(ctx, name, content, cond)
}

func (d *dyingStore) Get(ctx context.Context, name string) (io.ReadCloser, Revision, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return nil, "", errKilled
	}
	return d.Store.Get(ctx, name)
}

// everyKill runs publish with a store that dies at every Put in turn, until one run lives. After each death check is
// called, then publish again with a good store, then done.
func everyKill(t *testing.T, fresh func(t *testing.T) *world, publish func(w *world, s Store) error, check, done func(w *world)) {
	base := fresh(t)
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			w := base.elsewhere(t)
			err := publish(w, &dyingStore{Store: w.store, left: n, after: after})
			if err == nil {
				require.Greater(t, n, 3, "there was nothing to kill")
				done(w)
				break
			}
			require.ErrorIs(t, err, errKilled, "put %d", n)
			check(w)
			require.NoError(t, publish(w, w.store), "again after put %d, after %v", n, after)
			done(w)
		}
	}
}

func (w *world) mustVerify() *Report {
	w.t.Helper()
	report, err := Verify(w.t.Context(), w.store, w.root, w.now)
	require.NoError(w.t, err)
	return report
}

func TestKilledRelease(t *testing.T) {
	fresh := func(t *testing.T) *world {
		w := newWorld(t)
		w.published("stable", w.release("1.0.0", "one"))
		return w
	}
	everyKill(t, fresh, func(w *world, s Store) error {
		r, err := Open(t.Context(), s, OpenConfig{Root: w.root, Now: w.clock})
		if err != nil {
			return err
		}
		if _, err := r.Release(t.Context(), "notes", "stable", w.release("1.1.0", "two")); err != nil {
			return err
		}
		if _, err := r.Release(t.Context(), "notes", "beta", w.release("2.0.0", "three")); err != nil {
			return err
		}
		if _, err := r.Promote(t.Context(), "notes", "1.0.0", "stable", "beta", nil); err != nil {
			return err
		}
		_, err = r.Commit(t.Context(), w.all()...)
		return err
	}, func(w *world) {
		// The old state or the new, to an auditor and to a client: never one channel without the other.
		w.mustVerify()
		_, stable := w.client(w.root, "notes/stable/1.1.0/release.json")
		_, beta := w.client(w.root, "notes/beta/2.0.0/release.json")
		require.Equal(t, stable == nil, beta == nil)
		_, err := w.client(w.root, "notes/stable/1.0.0/release.json")
		require.NoError(t, err)
	}, func(w *world) {
		w.mustVerify()
		for _, target := range []string{"stable/1.1.0", "beta/2.0.0", "beta/1.0.0"} {
			_, err := w.client(w.root, "notes/"+target+"/release.json")
			require.NoError(t, err)
		}
	})
}

func TestKilledCreation(t *testing.T) {
	everyKill(t, emptyWorld, func(w *world, s Store) error {
		_, err := Create(t.Context(), s, w.config(), w.all()...)
		if errors.Is(err, ErrExists) { // killed after the last step
			return nil
		}
		return err
	}, func(w *world) {
		_, err := Open(t.Context(), w.store, OpenConfig{Now: w.clock})
		if err != nil {
			var missing *NotFoundError
			require.ErrorAs(t, err, &missing)
		}
	}, func(w *world) {
		var err error
		w.root, err = os.ReadFile(filepath.Join(w.dir, "metadata", "1.root.json"))
		require.NoError(t, err)
		w.mustVerify()
		_, err = w.client(w.root, "notes/stable/1.0.0/release.json")
		require.ErrorContains(t, err, "target notes/stable/1.0.0/release.json not found")
	})
}

// TestKilledRotation replaces the online key and the root key, with the old ones at hand: readers with the old root or
// the new never see a repository that does not verify.
func TestKilledRotation(t *testing.T) {
	fresh := func(t *testing.T) *world {
		w := newWorld(t)
		w.published("stable", w.release("1.0.0", "one"))
		w.keys["online2"], w.keys["root2"] = newSigner(t, "ed25519"), newSigner(t, "ed25519")
		return w
	}
	reads := func(w *world) {
		_, err := w.client(w.root, "notes/stable/1.0.0/release.json")
		require.NoError(t, err)
		w.mustVerify()
	}
	everyKill(t, fresh, func(w *world, s Store) error {
		r, err := Open(t.Context(), s, OpenConfig{Root: w.root, Now: w.clock})
		if err != nil {
			return err
		}
		for role, key := range map[string]string{"root": "root2", "timestamp": "online2", "snapshot": "online2"} {
			if err := r.SetKeys(role, only(w.keys[key])); err != nil {
				return err
			}
		}
		_, err = r.Commit(t.Context(), w.all()...)
		return err
	}, reads, func(w *world) {
		reads(w)
		// The old keys are good for nothing now.
		r := w.open()
		r.Refresh(w.keys["online"])
		_, err := r.Commit(t.Context(), w.keys["online"], w.keys["root"])
		var missing *MissingKeysError
		require.ErrorAs(t, err, &missing)
		require.Equal(t, []string{w.keys["online2"].ID()}, missing.KeyIDs)
	})
}

// TestLostOnlineKey replaces a key that is not at hand: the new root must be there before the timestamp.
func TestLostOnlineKey(t *testing.T) {
	w := newWorld(t)
	w.keys["online"] = newSigner(t, "ed25519")
	r := w.open()
	require.NoError(t, r.SetKeys("timestamp", only(w.keys["online"])))
	require.NoError(t, r.SetKeys("snapshot", only(w.keys["online"])))
	plan, err := r.Plan(w.all()...)
	require.NoError(t, err)
	require.Equal(t, []string{"metadata/3.snapshot.json", "metadata/2.root.json", "metadata/timestamp.json"}, plan.Files)
	w.commit(r)
	w.mustVerify()
	_, err = w.client(w.root, "notes/stable/1.0.0/release.json")
	require.ErrorContains(t, err, "not found")
}

func TestTwoPublishers(t *testing.T) {
	w := newWorld(t)
	w.published("stable", w.release("1.0.0", "one"))
	const publishers = 6
	type outcome struct{ conflicts int }
	outcomes := make([]outcome, publishers)
	var wg sync.WaitGroup
	for i := range publishers {
		version := fmt.Sprintf("1.%d.0", i+1)
		n := w.release(version, "content "+version)
		wg.Go(func() {
			for {
				r, err := Open(t.Context(), Dir(w.dir), OpenConfig{Root: w.root, Now: w.clock})
				if err != nil {
					// A snapshot is read after the timestamp that names it, so it must be there.
					t.Errorf("open: %v", err)
					return
				}
				if _, err := r.Release(t.Context(), "notes", "stable", n); err != nil {
					t.Errorf("release: %v", err)
					return
				}
				_, err = r.Commit(t.Context(), w.all()...)
				if err == nil {
					return
				}
				if !errors.Is(err, ErrConflict) {
					t.Errorf("commit: %v", err)
					return
				}
				outcomes[i].conflicts++
			}
		})
	}
	wg.Wait()
	list, err := w.open().Releases("notes", "stable")
	require.NoError(t, err)
	require.Len(t, list, publishers+1, "nothing is lost")
	for i, rel := range list {
		require.Equal(t, int64(i+1), rel.Seq)
	}
	w.mustVerify()
}

func TestConflict(t *testing.T) {
	w := newWorld(t)
	slow, fast := w.open(), w.open()
	_, err := slow.Release(t.Context(), "notes", "stable", w.release("1.0.0", "slow"))
	require.NoError(t, err)
	_, err = fast.Release(t.Context(), "notes", "stable", w.release("1.1.0", "fast"))
	require.NoError(t, err)
	w.commit(fast)
	before := w.mustVerify()
	_, err = slow.Commit(t.Context(), w.all()...)
	require.ErrorIs(t, err, ErrConflict)
	require.ErrorContains(t, err, "open the repository again")
	after := w.mustVerify()
	require.Equal(t, before.Releases, after.Releases)
	list, err := w.open().Releases("notes", "stable")
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, "1.1.0", list[0].Version)
	require.NotEmpty(t, slow.Changes(), "the edits are still there to be shown")

	// What the slow one left under names that are free for the next is stepped over, and told.
	r := w.open()
	_, err = r.Release(t.Context(), "notes", "stable", w.release("1.2.0", "next"))
	require.NoError(t, err)
	res := w.commit(r)
	require.Equal(t, []string{"metadata/3.notes.stable.json", "metadata/4.snapshot.json"}, res.Orphans)
}
