package tufrepo

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
)

func (w *world) status(role string) RoleStatus {
	w.t.Helper()
	for _, s := range w.open().Status() {
		if s.Role == role {
			return s
		}
	}
	w.t.Fatal("no role " + role)
	return RoleStatus{}
}

// refresh is the daily job, with the keys named.
func (w *world) refresh(keys ...string) []RoleStatus {
	w.t.Helper()
	var signers []*Signer
	for _, k := range keys {
		signers = append(signers, w.keys[k])
	}
	r := w.open()
	due := r.Refresh(signers...)
	_, err := r.Commit(w.t.Context(), signers...)
	require.NoError(w.t, err)
	return due
}

func TestStatus(t *testing.T) {
	w := newWorld(t)
	var roles []string
	for _, s := range w.open().Status() {
		roles = append(roles, s.Role)
		require.Equal(t, epoch, s.Signed, s.Role)
		p := DefaultPolicy(s.Role)
		require.Equal(t, p, s.Policy, s.Role)
		require.Equal(t, epoch.Add(p.Period), s.Expires, s.Role)
		require.Equal(t, epoch.Add(p.Period-p.Margin), s.NextSigning, s.Role)
		require.Equal(t, 1, s.Threshold)
		require.Len(t, s.KeyIDs, 1)
	}
	require.Equal(t, []string{"root", "targets", "license", "notes.beta", "notes.stable", "snapshot", "timestamp"}, roles)
	require.Equal(t, epoch.Add(day), w.status("timestamp").NextSigning)

	// It all stands in the signed metadata, where monitors read it.
	data, err := os.ReadFile(w.path("metadata/1.notes.stable.json"))
	require.NoError(t, err)
	var file struct {
		Signed struct {
			Fairlead map[string]any `json:"fairlead"`
			Expires  string
		}
	}
	require.NoError(t, json.Unmarshal(data, &file))
	require.Equal(t, map[string]any{"v": 1., "signed": "2026-11-22T10:00:00Z", "period_s": 120. * 86400, "margin_s": 60. * 86400}, file.Signed.Fairlead)
	require.Equal(t, "2027-03-22T10:00:00Z", file.Signed.Expires)
}

func TestRefresh(t *testing.T) {
	w := newWorld(t)
	w.now = w.now.Add(day)
	require.Empty(t, w.refresh("online"))
	require.Equal(t, int64(3), w.status("timestamp").Version)
	require.Equal(t, int64(2), w.status("snapshot").Version, "only the timestamp was due")

	// After 31 days everything but the timestamp and the snapshot can wait, except the beta channel.
	w.now = epoch.Add(31 * day)
	due := w.refresh("online")
	require.Len(t, due, 1)
	require.Equal(t, "notes.beta", due[0].Role)
	require.Equal(t, w.keys["beta"].ID(), due[0].KeyIDs[0])
	require.Equal(t, int64(3), w.status("snapshot").Version)
	require.Equal(t, int64(1), w.status("notes.beta").Version)
	require.Empty(t, w.refresh("online", "beta"))
	require.Equal(t, int64(2), w.status("notes.beta").Version)
	require.Equal(t, w.now.Add(60*day), w.status("notes.beta").Expires)
	w.mustVerify()

	// A repository that was left alone until all had expired is healed.
	w.now = epoch.Add(1000 * day)
	_, err := Verify(t.Context(), w.store, w.root, w.now)
	var failed *VerifyError
	require.ErrorAs(t, err, &failed)
	require.Empty(t, w.refresh("online", "beta", "stable", "license", "targets", "root"))
	require.Empty(t, w.mustVerify().Findings)
	_, err = w.client(w.root, "notes/stable/1.0.0/release.json")
	require.ErrorContains(t, err, "not found")
}

// TestRefreshAroundAnExpiringParent: what the parent would not outlast is reported, and does not stop the rest.
func TestRefreshAroundAnExpiringParent(t *testing.T) {
	w := newWorld(t)
	w.now = epoch.Add(390 * day) // root and targets expire in 10 days
	due := w.refresh("online", "beta", "stable", "license")
	var roles []string
	for _, d := range due {
		roles = append(roles, d.Role)
	}
	require.Equal(t, []string{"root", "targets", "license", "notes.beta", "notes.stable", "snapshot"}, roles)
	require.Equal(t, int64(3), w.status("timestamp").Version)
	require.Empty(t, w.refresh("root", "targets", "online", "beta", "stable", "license"))
	w.mustVerify()
}

func TestParentExpires(t *testing.T) {
	w := newWorld(t)
	publish := func() error {
		w.refresh("online")
		r := w.open()
		_, err := r.Release(t.Context(), "notes", "stable", w.release("1.0.0", "one"))
		require.NoError(t, err)
		_, err = r.Commit(t.Context(), w.keys["online"], w.keys["stable"])
		return err
	}
	// stable is next signed 60 days from now, and targets expires 400 days after it was signed.
	w.now = epoch.Add(340 * day).Add(time.Second)
	before := w.files()
	r := w.open()
	_, err := r.Release(t.Context(), "notes", "stable", w.release("1.0.0", "one"))
	require.NoError(t, err)
	_, err = r.Commit(t.Context(), w.keys["online"], w.keys["stable"])
	var parent *ParentExpiresError
	require.ErrorAs(t, err, &parent)
	require.Equal(t, &ParentExpiresError{"targets", "notes.stable", epoch.Add(400 * day), w.now.Add(60 * day)}, parent)
	require.ErrorContains(t, err, "re-sign targets first")
	_, err = r.Plan(w.all()...)
	require.ErrorAs(t, err, &parent)
	require.Equal(t, before, w.files(), "nothing was written")

	// Renewed in the same commit, the parent counts with its new date; its own parent is the root.
	r.Refresh(w.keys["targets"])
	_, err = r.Commit(t.Context(), w.all()...)
	require.ErrorAs(t, err, &parent)
	r.Refresh(w.all()...)
	_, err = r.Commit(t.Context(), w.all()...)
	require.NoError(t, err)
	w.mustVerify()

	w = newWorld(t)
	w.now = epoch.Add(340 * day)
	require.NoError(t, publish())
}

func TestRootAlone(t *testing.T) {
	w := newWorld(t)
	w.now = w.now.Add(210 * day)
	r := w.open()
	r.changed = map[string]bool{"root": true}
	res, err := r.Commit(t.Context(), w.keys["root"])
	require.NoError(t, err, "a root ceremony takes no online key")
	require.Equal(t, 1, res.Files)
	require.Equal(t, int64(2), w.status("root").Version)
}

func TestPolicies(t *testing.T) {
	w := newWorld(t)
	r := w.open()
	p := Policy{10 * day, 4 * day}
	require.NoError(t, r.SetPolicy("notes.beta", p))
	require.NoError(t, r.SetPolicy("root", Policy{500 * day, 20 * day}))
	century := Policy{100 * 365 * day, 100*365*day - 30*day} // the longest there is
	require.NoError(t, r.SetPolicy("snapshot", century))
	require.NoError(t, r.AddChannel("notes", "nightly", only(w.keys["beta"]), Policy{day, time.Hour}))
	require.NoError(t, r.AddChannel("notes", "preview", only(w.keys["beta"]), Policy{}))
	w.commit(r)
	w.published("beta", w.release("1.0.0", "one")) // signed again: the policy stays
	require.Equal(t, p, w.status("notes.beta").Policy)
	require.Equal(t, w.now.Add(10*day), w.status("notes.beta").Expires)
	require.Equal(t, w.now.Add(500*day), w.status("root").Expires)
	require.Equal(t, century, w.status("snapshot").Policy)
	require.Equal(t, w.now.Add(day), w.status("notes.nightly").Expires)
	require.Equal(t, Policy{60 * day, 30 * day}, w.status("notes.preview").Policy)
}

func TestArchive(t *testing.T) {
	w := newWorld(t)
	r := w.open()
	add := func(version string, change func(n *NewRelease)) {
		t.Helper()
		n := w.release(version, "content "+version)
		if change != nil {
			change(&n)
		}
		_, err := r.Release(t.Context(), "notes", "stable", n)
		require.NoError(t, err)
	}
	add("1.0.0", nil)
	add("1.1.0", nil) // the version to go back to
	add("1.2.0", nil) // withdrawn
	add("1.3.0", nil)
	add("1.4.0", nil) // the highest from which 2.1.0 may be installed
	add("3.0.0", nil) // the highest
	add("2.0.0", func(n *NewRelease) { n.From = "1.3.0" })
	add("2.1.0", func(n *NewRelease) { n.From = ">=1.3.0 <2.0.0" })
	add("2.2.0", nil)
	_, err := r.Withdraw("notes", "stable", "1.2.0", "loses data", "1.1.0")
	require.NoError(t, err)
	w.commit(r)

	r = w.open()
	moved, err := r.Archive("notes", "stable", 2)
	require.NoError(t, err)
	require.Equal(t, []string{"1.0.0", "1.3.0", "2.0.0"}, versions(moved))
	_, err = r.Commit(t.Context(), w.keys["online"], w.keys["stable"])
	var missing *MissingKeysError
	require.ErrorAs(t, err, &missing)
	require.Equal(t, "targets", missing.Role, "a new role is delegated")
	w.commit(r)
	w.mustVerify()

	r = w.open()
	left, err := r.Releases("notes", "stable")
	require.NoError(t, err)
	require.Equal(t, []string{"1.1.0", "1.2.0", "1.4.0", "3.0.0", "2.1.0", "2.2.0"}, versions(left))
	archived, err := r.Releases("notes", "archive")
	require.NoError(t, err)
	require.Equal(t, []string{"1.0.0", "1.3.0", "2.0.0"}, versions(archived))
	m, err := r.Manifest(t.Context(), "notes", "archive", "1.0.0")
	require.NoError(t, err)
	require.Equal(t, "1.0.0", m.Version)
	_, err = w.client(w.root, "notes/archive/1.0.0/release.json")
	require.NoError(t, err)
	_, err = r.Hold("notes", "archive", "1.0.0", "why")
	require.ErrorContains(t, err, "is archived")
	moved, err = r.Archive("notes", "stable", 2)
	require.NoError(t, err)
	require.Empty(t, moved)
	require.Empty(t, r.Changes())
}

func versions(list []channel.Release) (names []string) {
	for _, rel := range list {
		names = append(names, rel.Version)
	}
	return names
}

// TestSeqIsNeverReused: the line with the highest number leaves, and its number with it.
func TestSeqIsNeverReused(t *testing.T) {
	w := newWorld(t)
	w.published("stable", w.release("1.0.0", "one"))
	w.published("stable", w.release("1.1.0", "two"))
	r := w.open()
	delete(r.roles["notes.stable"].Signed.Targets, "notes/stable/1.1.0/release.json")
	r.changed["notes.stable"] = true
	w.commit(r)
	require.Equal(t, int64(3), w.published("stable", w.release("1.2.0", "three")).Seq)
}

// TestUnknownFieldsSurvive: a newer tool wrote more than this one knows.
func TestUnknownFieldsSurvive(t *testing.T) {
	w := newWorld(t)
	w.published("stable", w.release("1.0.0", "one"))
	r := w.open()
	target := r.roles["notes.stable"].Signed.Targets["notes/stable/1.0.0/release.json"]
	replaceCustom(target, `{"fairlead":{`, `{"other":{"a":[1]},"fairlead":{"later":{"b":2},`)
	target.UnrecognizedFields = map[string]any{"more": "c"}
	r.roles["notes.stable"].Signed.UnrecognizedFields["most"] = "d"
	r.changed["notes.stable"] = true
	w.commit(r)

	r = w.open()
	_, err := r.Hold("notes", "stable", "1.0.0", "why")
	require.NoError(t, err)
	w.commit(r)
	data, err := os.ReadFile(w.path("metadata/4.notes.stable.json"))
	require.NoError(t, err)
	for _, want := range []string{`"other":{"a":[1]}`, `"later":{"b":2}`, `"more":"c"`, `"most":"d"`, `"state":"held"`} {
		require.Contains(t, string(data), want)
	}
	w.mustVerify()
}
