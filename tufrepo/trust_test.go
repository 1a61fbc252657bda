package tufrepo

import (
	"encoding/json"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// misSign publishes a role, pinned as it should be, that is signed with another key.
func (w *world) misSign(role, key string) {
	w.t.Helper()
	r := w.open()
	r.changed[role] = true
	b, err := r.prepare(w.all())
	require.NoError(w.t, err)
	b.find(role).signers = []*Signer{w.keys[key]}
	require.NoError(w.t, r.sign(b))
	require.NoError(w.t, (&committer{repo: r, batch: b}).write(w.t.Context()))
}

// rootOf returns the root with the version given of another repository.
func rootOf(t *testing.T, version int64) []byte {
	other := newWorld(t)
	for range version - 1 {
		r := other.open()
		r.changed["root"] = true
		other.commit(r)
	}
	data, err := os.ReadFile(other.path(metadataName("root", version)))
	require.NoError(t, err)
	return data
}

// TestAttacks: who holds the storage, and some of the keys, gets nothing past Open or Verify that the rest of the keys
// did not sign.
func TestAttacks(t *testing.T) {
	tests := map[string]struct {
		attack func(w *world)
		name   string
		want   string
	}{
		"stable signed by the beta key, online key stolen": {
			func(w *world) { w.misSign("notes.stable", "beta") }, "metadata/3.notes.stable.json", "not enough signatures, got 0, want 1"},
		"targets signed by the stable key, online key stolen": {
			func(w *world) { w.misSign("targets", "stable") }, "metadata/3.targets.json", "not enough signatures, got 0, want 1"},
		"snapshot signed by the stable key": {
			func(w *world) { w.misSign("snapshot", "stable") }, "metadata/5.snapshot.json", "not enough signatures, got 0, want 1"},
		"timestamp signed by the stable key": {
			func(w *world) { w.misSign("timestamp", "stable") }, "metadata/timestamp.json", "not enough signatures, got 0, want 1"},
		"root signed by the targets key": {
			func(w *world) { w.misSign("root", "targets") }, "metadata/2.root.json", "not enough signatures, got 0, want 1"},
		"another list, signed by the stolen stable key": {
			func(w *world) {
				// The same version and length as the one that the snapshot lists: only the hash tells.
				name := "metadata/2.notes.stable.json"
				m, err := metadata.Targets().FromFile(w.path(name))
				require.NoError(w.t, err)
				replaceCustom(m.Signed.Targets["notes/stable/1.1.0/release.json"], `"seq":2`, `"seq":9`)
				m.Signatures, err = signatures(m, []*Signer{w.keys["stable"]})
				require.NoError(w.t, err)
				data, err := json.Marshal(m)
				require.NoError(w.t, err)
				require.NoError(w.t, os.WriteFile(w.path(name), data, 0o644))
			}, "metadata/2.notes.stable.json", "has sha256"},
		"another keyed root": {
			func(w *world) {
				require.NoError(w.t, os.WriteFile(w.path("metadata/2.root.json"), rootOf(w.t, 2), 0o644))
			},
			"metadata/2.root.json", "not enough signatures, got 0, want 1"},
		"the same root again": {
			func(w *world) { w.copy("metadata/1.root.json", "metadata/2.root.json") }, "metadata/2.root.json", "has version 1, not 2"},
		"a role of another type": {
			func(w *world) { w.copy("metadata/1.root.json", "metadata/2.targets.json") }, "metadata/2.targets.json", "expected metadata type targets, got - root"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := auditWorld(t)
			tt.attack(w)
			_, err := Open(t.Context(), w.store, OpenConfig{Root: w.root, Now: w.clock})
			var trust *TrustError
			require.ErrorAs(t, err, &trust)
			require.Equal(t, tt.name, trust.Name)
			require.ErrorContains(t, err, tt.want)

			_, err = Verify(t.Context(), w.store, w.root, w.now)
			var failed *VerifyError
			require.ErrorAs(t, err, &failed)
			require.Equal(t, tt.name, failed.First.Name)
			require.Contains(t, failed.First.Problem, tt.want)

			_, err = w.client(w.root, "notes/stable/1.1.0/release.json")
			require.Error(t, err, "a client refuses it as well")
		})
	}
}

// TestRootNeedsBothThresholds: neither the old root's keys nor the new one's make a root by themselves.
func TestRootNeedsBothThresholds(t *testing.T) {
	w := newWorld(t)
	old := w.keys["root"]
	w.keys["root"] = newSigner(t, "ed25519")
	for _, signers := range [][]*Signer{{w.keys["root"]}, {old}} {
		r := w.open()
		require.NoError(t, r.SetKeys("root", only(w.keys["root"])))
		_, err := r.Commit(t.Context(), signers...)
		var missing *MissingKeysError
		require.ErrorAs(t, err, &missing)
		require.Equal(t, "root", missing.Role)
		require.NotContains(t, missing.KeyIDs, signers[0].ID())
		require.NoFileExists(t, w.path("metadata/2.root.json"))
	}
	r := w.open()
	require.NoError(t, r.SetKeys("root", only(w.keys["root"])))
	_, err := r.Commit(t.Context(), w.keys["root"], old)
	require.NoError(t, err)
	w.mustVerify()
	_, err = w.client(w.root, "notes/stable/1.0.0/release.json")
	require.ErrorContains(t, err, "not found")
}

// TestRevokedChannelKey: after targets names another key, the old one signs nothing that anybody takes.
func TestRevokedChannelKey(t *testing.T) {
	w := auditWorld(t)
	stolen := w.keys["stable"]
	w.keys["stable"] = newSigner(t, "ecdsa-p256")
	r := w.open()
	require.NoError(t, r.SetKeys("notes.stable", only(w.keys["stable"])))
	w.commit(r)
	w.mustVerify()
	data, err := os.ReadFile(w.path("metadata/3.targets.json"))
	require.NoError(t, err)
	require.NotContains(t, string(data), stolen.ID(), "a key that no role names is not carried on")
	w.keys["stolen"] = stolen
	w.misSign("notes.stable", "stolen")
	_, err = Open(t.Context(), w.store, OpenConfig{Root: w.root, Now: w.clock})
	require.ErrorContains(t, err, "not enough signatures")
}

// TestInterruptedCreationWithOtherKeys: a root that is there is adopted only if it says what was asked for.
func TestInterruptedCreationWithOtherKeys(t *testing.T) {
	for name, change := range map[string]func(cfg *CreateConfig, w *world){
		"none":      func(*CreateConfig, *world) {},
		"key":       func(cfg *CreateConfig, w *world) { cfg.Timestamp = only(w.keys["stable"]) },
		"threshold": func(cfg *CreateConfig, w *world) { cfg.Root.Threshold = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			w := emptyWorld(t)
			cfg := w.config()
			cfg.Root.Keys = append(cfg.Root.Keys, w.keys["beta"].Public())
			_, err := Create(t.Context(), &dyingStore{Store: w.store, left: 2}, cfg, w.all()...)
			require.ErrorIs(t, err, errKilled)
			require.Equal(t, []string{"metadata/1.root.json"}, sortedKeys(w.files()))
			change(&cfg, w)
			_, err = Create(t.Context(), w.store, cfg, w.all()...)
			if name == "none" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, ErrExists)
			require.ErrorContains(t, err, "only with the keys that its 1.root.json names")
		})
	}
}

func sortedKeys(m map[string]string) (names []string) {
	for name := range maps.Keys(m) {
		names = append(names, name)
	}
	return names
}

// TestSignatureOfNobody: a role may carry signatures of keys that it does not name; they count for nothing.
func TestSignatureOfNobody(t *testing.T) {
	w := auditWorld(t)
	r := w.open()
	r.changed["notes.stable"] = true
	b, err := r.prepare(w.all())
	require.NoError(t, err)
	b.find("notes.stable").signers = []*Signer{w.keys["beta"], w.keys["stable"]}
	require.NoError(t, r.sign(b))
	require.NoError(t, (&committer{repo: r, batch: b}).write(t.Context()))
	w.mustVerify()
	data, err := os.ReadFile(w.path("metadata/3.notes.stable.json"))
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(string(data), `"keyid"`))
}
