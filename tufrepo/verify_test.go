package tufrepo

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// auditWorld has two releases in stable, the first promoted from beta.
func auditWorld(t *testing.T) *world {
	w := newWorld(t)
	w.published("beta", w.release("1.0.0", "one"))
	r := w.open()
	_, err := r.Promote(t.Context(), "notes", "1.0.0", "beta", "stable", nil)
	require.NoError(t, err)
	_, err = r.Release(t.Context(), "notes", "stable", w.release("1.1.0", "two"))
	require.NoError(t, err)
	require.NoError(t, r.PutLicense("keyring.json", []byte(`{}`)))
	w.commit(r)
	return w
}

// flip changes one bit in the middle of a file.
func (w *world) flip(name string) {
	w.t.Helper()
	data, err := os.ReadFile(w.path(name))
	require.NoError(w.t, err)
	data[len(data)/2] ^= 1
	require.NoError(w.t, os.WriteFile(w.path(name), data, 0o644))
}

// forge publishes with the right keys what this package would not: change is called before anything is signed.
func (w *world) forge(role string, change func(r *Repo, d document)) {
	w.t.Helper()
	r := w.open()
	r.changed[role] = true
	b, err := r.prepare(w.all())
	require.NoError(w.t, err)
	change(r, b.find(role).doc)
	require.NoError(w.t, r.sign(b))
	require.NoError(w.t, (&committer{repo: r, batch: b}).write(w.t.Context()))
}

func (w *world) forgeTargets(role string, change func(m *metadata.Metadata[metadata.TargetsType])) {
	w.forge(role, func(_ *Repo, d document) { change(d.(*metadata.Metadata[metadata.TargetsType])) })
}

// target finds the file behind a target of stable or beta.
func (w *world) manifest(channelName, version string) string {
	w.t.Helper()
	list, err := w.open().Releases("notes", channelName)
	require.NoError(w.t, err)
	for _, rel := range list {
		if rel.Version == version {
			return manifestFile("notes", channelName, rel)
		}
	}
	w.t.Fatal("no such release")
	return ""
}

func blobFile(content string) string { return blobName(blobOf([]byte(content)).SHA256) }

func replaceCustom(t *metadata.TargetFiles, old, with string) {
	raw := json.RawMessage(strings.Replace(string(*t.Custom), old, with, 1))
	t.Custom = &raw
}

func TestVerifyFinds(t *testing.T) {
	const one, two = "notes/stable/1.0.0/release.json", "notes/stable/1.1.0/release.json"
	tests := map[string]struct {
		harm func(w *world)
		name string // of the finding
		want string // in its problem
		warn bool
	}{
		"blob flipped":      {harm: func(w *world) { w.flip(blobFile("two")) }, name: blobFile("two"), want: "has sha256"},
		"blob cut":          {harm: func(w *world) { w.cut(blobFile("two")) }, name: blobFile("two"), want: "has 2 bytes, and targets/notes/stable/1.1.0/"},
		"blob longer":       {harm: func(w *world) { w.copy("metadata/1.root.json", blobFile("two")) }, name: blobFile("two"), want: "is longer than the 3 bytes"},
		"blob gone":         {harm: func(w *world) { w.remove(blobFile("one")) }, name: blobFile("one"), want: "is missing"},
		"blobs swapped":     {harm: func(w *world) { w.copy(blobFile("one"), blobFile("two")) }, name: blobFile("two"), want: "has sha256"},
		"manifest flipped":  {harm: func(w *world) { w.flip(w.manifest("stable", "1.0.0")) }, name: "targets/notes/stable/1.0.0/", want: "bytes and sha256"},
		"manifest gone":     {harm: func(w *world) { w.remove(w.manifest("stable", "1.0.0")) }, name: "targets/notes/stable/1.0.0/", want: "is missing"},
		"manifest swapped":  {harm: func(w *world) { w.copy(w.manifest("stable", "1.1.0"), w.manifest("stable", "1.0.0")) }, name: "targets/notes/stable/1.0.0/", want: "bytes and sha256"},
		"keyring flipped":   {harm: func(w *world) { w.flip("targets/license/" + blobOf([]byte("{}")).SHA256 + ".keyring.json") }, name: "targets/license/", want: "bytes and sha256"},
		"role flipped":      {harm: func(w *world) { w.flip("metadata/2.notes.stable.json") }, name: "metadata/2.notes.stable.json"},
		"role gone":         {harm: func(w *world) { w.remove("metadata/2.notes.stable.json") }, name: "metadata/2.notes.stable.json", want: "is missing"},
		"role rolled back":  {harm: func(w *world) { w.copy("metadata/1.notes.stable.json", "metadata/2.notes.stable.json") }, name: "metadata/2.notes.stable.json", want: "has version 1, and version 2 is listed"},
		"targets flipped":   {harm: func(w *world) { w.flip("metadata/2.targets.json") }, name: "metadata/2.targets.json"},
		"snapshot flipped":  {harm: func(w *world) { w.flip("metadata/4.snapshot.json") }, name: "metadata/4.snapshot.json"},
		"timestamp flipped": {harm: func(w *world) { w.flip("metadata/timestamp.json") }, name: "metadata/timestamp.json"},
		"timestamp gone":    {harm: func(w *world) { w.remove("metadata/timestamp.json") }, name: "metadata/timestamp.json", want: "is missing"},
		"root flipped":      {harm: func(w *world) { w.flip("metadata/1.root.json") }, name: "metadata/1.root.json", want: "is not the trusted root"},
		"root gone":         {harm: func(w *world) { w.remove("metadata/1.root.json") }, name: "metadata/1.root.json", want: "is missing"},
		"root of others": {harm: func(w *world) {
			require.NoError(w.t, os.WriteFile(w.path("metadata/2.root.json"), newWorld(w.t).root, 0o644))
		}, name: "metadata/2.root.json", want: "does not follow from the root before it"},
		"expired":      {harm: func(w *world) { w.now = w.now.Add(7 * day) }, name: "metadata/timestamp.json", want: "expired on"},
		"due":          {harm: func(w *world) { w.now = w.now.Add(day) }, name: "metadata/timestamp.json", want: "was to be renewed on", warn: true},
		"unknown file": {harm: func(w *world) { w.copy("metadata/1.root.json", "index.html") }, name: "index.html", want: "belongs to no repository", warn: true},
		"orphan":       {harm: func(w *world) { w.copy("metadata/2.notes.stable.json", "metadata/3.notes.stable.json") }, name: "metadata/3.notes.stable.json", want: "newer than the version", warn: true},
		"second manifest": {harm: func(w *world) {
			w.copy("metadata/1.root.json", "targets/notes/stable/1.0.0/"+strings.Repeat("a", 64)+".release.json")
		}, name: "targets/notes/stable/1.0.0/aaaa", want: "is another manifest", warn: true},

		"reused version": {harm: func(w *world) {
			w.forgeTargets("notes.stable", func(m *metadata.Metadata[metadata.TargetsType]) {
				t := *m.Signed.Targets[two]
				raw := json.RawMessage(strings.Replace(string(*t.Custom), `"1.1.0"`, `"1.0.0"`, 1))
				t.Custom = &raw
				m.Signed.Targets[one] = &t
			})
		}, name: "metadata/2.notes.beta.json", want: "version 1.0.0 of notes stands for other bytes in stable"},
		"sequence number twice": {harm: func(w *world) {
			w.forgeTargets("notes.stable", func(m *metadata.Metadata[metadata.TargetsType]) {
				replaceCustom(m.Signed.Targets[two], `"seq":2`, `"seq":1`)
			})
		}, name: "metadata/3.notes.stable.json", want: "1.0.0 and 1.1.0 have the same sequence number 1"},
		"entry of another time": {harm: func(w *world) {
			w.forgeTargets("notes.stable", func(m *metadata.Metadata[metadata.TargetsType]) {
				replaceCustom(m.Signed.Targets[two], `2026-11-22`, `2026-11-21`)
			})
		}, name: "targets/notes/stable/1.1.0/", want: "and the list says"},
		"entry for another platform": {harm: func(w *world) {
			w.forgeTargets("notes.stable", func(m *metadata.Metadata[metadata.TargetsType]) {
				replaceCustom(m.Signed.Targets[two], `linux/amd64`, `linux/arm64`)
			})
		}, name: "targets/notes/stable/1.1.0/", want: "is for linux/amd64, and the list says linux/arm64"},
		"entry without custom": {harm: func(w *world) {
			w.forgeTargets("notes.stable", func(m *metadata.Metadata[metadata.TargetsType]) { m.Signed.Targets[two].Custom = nil })
		}, name: "metadata/3.notes.stable.json", want: "is unusable"},
		"goes back to nothing": {harm: func(w *world) {
			w.forgeTargets("notes.stable", func(m *metadata.Metadata[metadata.TargetsType]) {
				replaceCustom(m.Signed.Targets[two], `"v":1`, `"v":1,"state":"withdrawn","revert_to":"0.9.0"`)
			})
		}, name: "metadata/3.notes.stable.json", want: "1.1.0 goes back to 0.9.0, which is not listed"},
		"path of another channel": {harm: func(w *world) {
			w.forgeTargets("notes.beta", func(m *metadata.Metadata[metadata.TargetsType]) {
				m.Signed.Targets["notes/stable/9.0.0/release.json"] = m.Signed.Targets["notes/beta/1.0.0/release.json"]
			})
		}, name: "metadata/3.notes.beta.json", want: "not named <product>/<channel>/<version>/release.json"},
		"licence path": {harm: func(w *world) {
			w.forgeTargets("license", func(m *metadata.Metadata[metadata.TargetsType]) {
				m.Signed.Targets["license/a/keyring.json"] = m.Signed.Targets["license/keyring.json"]
			})
		}, name: "metadata/3.license.json", want: "not a path that it may sign"},
		"two hashes": {harm: func(w *world) {
			w.forgeTargets("notes.stable", func(m *metadata.Metadata[metadata.TargetsType]) {
				m.Signed.Targets[two].Hashes["sha512"] = make([]byte, 64)
			})
		}, name: "metadata/3.notes.stable.json", want: "does not have sha256 as its only hash"},
		"large number": {harm: func(w *world) {
			w.forgeTargets("notes.stable", func(m *metadata.Metadata[metadata.TargetsType]) {
				replaceCustom(m.Signed.Targets[two], `"v":1`, `"v":1,"x":9007199254740993`)
			})
		}, name: "metadata/3.notes.stable.json", want: "is the number 9007199254740993"},
		"capital key": {harm: func(w *world) {
			w.forgeTargets("notes.stable", func(m *metadata.Metadata[metadata.TargetsType]) {
				replaceCustom(m.Signed.Targets[two], `"v":1`, `"v":1,"Größe":1`)
			})
		}, name: "metadata/3.notes.stable.json", want: `the key "Größe" in custom metadata`},
		"fraction of a second": {harm: func(w *world) {
			w.forge("notes.stable", func(_ *Repo, d document) { *headOf(d).expires = headOf(d).expires.Add(time.Millisecond) })
		}, name: "metadata/3.notes.stable.json", want: "whole seconds"},
		"role expired": {harm: func(w *world) {
			w.forge("notes.stable", func(_ *Repo, d document) { *headOf(d).expires = epoch })
		}, name: "metadata/3.notes.stable.json", want: "expired on"},
		"targets of targets": {harm: func(w *world) {
			w.forgeTargets("targets", func(m *metadata.Metadata[metadata.TargetsType]) {
				m.Signed.Targets = map[string]*metadata.TargetFiles{"x": {Hashes: metadata.Hashes{"sha256": make([]byte, 32)}}}
			})
		}, name: "metadata/3.targets.json", want: "lists 1 targets of its own"},
		"overlap": {harm: func(w *world) {
			w.forgeTargets("targets", func(m *metadata.Metadata[metadata.TargetsType]) {
				m.Signed.Delegations.Roles[1].Paths = []string{"notes/*/*/*"}
			})
		}, name: "metadata/3.targets.json", want: "delegates overlapping paths: notes/*/*/* to notes.stable"},
		"delegated twice": {harm: func(w *world) {
			w.forgeTargets("targets", func(m *metadata.Metadata[metadata.TargetsType]) {
				m.Signed.Delegations.Roles = append(m.Signed.Delegations.Roles, m.Signed.Delegations.Roles[1])
			})
		}, name: "metadata/3.targets.json", want: "delegates to notes.stable twice"},
		"not terminating": {harm: func(w *world) {
			w.forgeTargets("targets", func(m *metadata.Metadata[metadata.TargetsType]) { m.Signed.Delegations.Roles[1].Terminating = false })
		}, name: "metadata/3.targets.json", want: "without terminating"},
		"hash prefixes": {harm: func(w *world) {
			w.forgeTargets("targets", func(m *metadata.Metadata[metadata.TargetsType]) {
				m.Signed.Delegations.Roles[1].Paths, m.Signed.Delegations.Roles[1].PathHashPrefixes = nil, []string{"00"}
			})
		}, name: "metadata/3.targets.json", want: "path_hash_prefixes"},
		"key of another kind": {harm: func(w *world) {
			w.forgeTargets("targets", func(m *metadata.Metadata[metadata.TargetsType]) {
				d := m.Signed.Delegations
				k := *d.Keys[d.Roles[1].KeyIDs[0]]
				k.Type = "ml-dsa-65"
				d.Keys["feed"] = &k
				d.Roles[1].KeyIDs = append(d.Roles[1].KeyIDs, "feed")
			})
		}, name: "metadata/3.targets.json", want: "key feed: unsupported public key type"},
		"delegates further": {harm: func(w *world) {
			w.forgeTargets("notes.beta", func(m *metadata.Metadata[metadata.TargetsType]) {
				m.Signed.Delegations = &metadata.Delegations{Keys: map[string]*metadata.Key{}, Roles: []metadata.DelegatedRole{}}
			})
		}, name: "metadata/3.notes.beta.json", want: "delegates further"},
		"snapshot without length": {harm: func(w *world) {
			w.forge("snapshot", func(_ *Repo, d document) {
				m := d.(*metadata.Metadata[metadata.SnapshotType])
				m.Signed.Meta["notes.beta.json"] = &metadata.MetaFiles{Version: 2}
			})
		}, name: "metadata/2.notes.beta.json", want: "and 0 are listed"},
		"role unlisted": {harm: func(w *world) {
			w.forge("snapshot", func(_ *Repo, d document) {
				delete(d.(*metadata.Metadata[metadata.SnapshotType]).Signed.Meta, "notes.beta.json")
			})
		}, name: "metadata/5.snapshot.json", want: "does not list notes.beta.json"},
		"undelegated role": {harm: func(w *world) {
			w.forge("snapshot", func(_ *Repo, d document) {
				m := d.(*metadata.Metadata[metadata.SnapshotType])
				m.Signed.Meta["notes.gone.json"] = m.Signed.Meta["notes.beta.json"]
			})
		}, name: "metadata/5.snapshot.json", want: "which nothing delegates to", warn: true},
		"consistent snapshots off": {harm: func(w *world) {
			w.forge("root", func(_ *Repo, d document) { d.(*metadata.Metadata[metadata.RootType]).Signed.ConsistentSnapshot = false })
		}, name: "metadata/2.root.json", want: "consistent_snapshot is off"},
	}
	base := auditWorld(t)
	require.Empty(t, base.mustVerify().Findings)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := base.elsewhere(t)
			tt.harm(w)
			report, err := Verify(t.Context(), w.store, w.root, w.now)
			i := slices.IndexFunc(report.Findings, func(f Finding) bool {
				return strings.HasPrefix(f.Name, tt.name) && strings.Contains(f.Problem, tt.want)
			})
			require.GreaterOrEqual(t, i, 0, "%v", report.Findings)
			require.NotEmpty(t, report.Findings[i].Next)
			if tt.warn {
				require.NoError(t, err)
				require.Equal(t, Warning, report.Findings[i].Severity)
				return
			}
			var failed *VerifyError
			require.ErrorAs(t, err, &failed)
			require.Equal(t, Error, report.Findings[i].Severity)
			require.Equal(t, report.Errors(), failed.Count)
		})
	}
}

func TestVerifyFromALaterRoot(t *testing.T) {
	w := auditWorld(t)
	first := w.root
	w.keys["root2"] = newSigner(t, "ecdsa-p256")
	r := w.open()
	require.NoError(t, r.SetKeys("root", only(w.keys["root2"])))
	w.commit(r)
	second, err := os.ReadFile(w.path("metadata/2.root.json"))
	require.NoError(t, err)
	w.mustVerify()
	w.root = second
	require.Empty(t, w.mustVerify().Findings)
	w.open()

	// Without the first root, who has only that one is lost: found from the second, too.
	w.remove("metadata/1.root.json")
	report, err := Verify(t.Context(), w.store, second, w.now)
	var failed *VerifyError
	require.ErrorAs(t, err, &failed)
	require.Len(t, report.Findings, 1)
	require.Equal(t, "metadata/1.root.json", failed.First.Name)
	require.NotEmpty(t, first)
}

func TestVerifyUnreadable(t *testing.T) {
	w := auditWorld(t)
	_, err := Verify(t.Context(), &dyingStore{Store: w.store, dead: true}, w.root, w.now)
	require.ErrorIs(t, err, errKilled)
	var failed *VerifyError
	require.False(t, errors.As(err, &failed), "what cannot be read is not tampered with")
	_, err = Verify(t.Context(), w.store, []byte("{}"), w.now)
	require.ErrorAs(t, err, &failed)
	require.Equal(t, "the trusted root", failed.First.Name)
}

// TestVerifyOnFirstUse: without a root it is the store's own, whoever made it.
func TestVerifyOnFirstUse(t *testing.T) {
	w := auditWorld(t)
	given := w.mustVerify()
	report, err := Verify(t.Context(), w.store, nil, w.now)
	require.NoError(t, err)
	require.Equal(t, given, report)
	_, err = Verify(t.Context(), Dir(t.TempDir()), nil, w.now)
	var missing *NotFoundError
	require.ErrorAs(t, err, &missing)
	require.NoError(t, os.WriteFile(w.path("metadata/1.root.json"), []byte("{}"), 0o644))
	_, err = Verify(t.Context(), w.store, nil, w.now)
	var failed *VerifyError
	require.ErrorAs(t, err, &failed)
	require.Equal(t, "the trusted root", failed.First.Name)
}
