package tufrepo

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
)

// files lists everything in the repository with its content's hash, to show that nothing was written.
func (w *world) files() map[string]string {
	w.t.Helper()
	names, err := w.store.List(w.t.Context(), "")
	require.NoError(w.t, err)
	all := map[string]string{}
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(w.dir, name))
		require.NoError(w.t, err)
		all[name] = blobOf(data).SHA256
	}
	return all
}

func TestReleaseAgain(t *testing.T) {
	w := newWorld(t)
	first := w.published("stable", w.release("1.0.0", "bytes"))
	before := w.files()

	w.now = w.now.Add(time.Hour) // a release job that is run again, later
	r := w.open()
	again, err := r.Release(t.Context(), "notes", "stable", w.release("1.0.0", "bytes"))
	require.NoError(t, err)
	require.Equal(t, first.Manifest, again.Manifest)
	require.Equal(t, epoch, again.Published)
	require.Equal(t, CommitResult{}, w.commit(r))
	require.Equal(t, before, w.files(), "nothing was written")

	// In another channel it is the same release, published when it was.
	beta, err := r.Release(t.Context(), "notes", "beta", w.release("1.0.0", "bytes"))
	require.NoError(t, err)
	require.Equal(t, first.Manifest, beta.Manifest)
	require.Equal(t, epoch, beta.Published)

	// A line that changed since stays as it is.
	_, err = r.Hold("notes", "stable", "1.0.0", "wait")
	require.NoError(t, err)
	held, err := r.Release(t.Context(), "notes", "stable", w.release("1.0.0", "bytes"))
	require.NoError(t, err)
	require.Equal(t, channel.Held, held.State)
	w.commit(r)
	w.mustVerify()
}

func TestVersionReused(t *testing.T) {
	tests := map[string]struct {
		channel string
		change  func(w *world, n *NewRelease)
		detail  string
	}{
		"same channel":   {"stable", func(w *world, n *NewRelease) { *n = w.release("1.0.0", "other") }, "with other bytes for linux/amd64"},
		"other channel":  {"beta", func(w *world, n *NewRelease) { *n = w.release("1.0.0", "other") }, "with other bytes for linux/amd64"},
		"other notes":    {"stable", func(w *world, n *NewRelease) { n.Notes = &NewAttachment{Path: w.file("n.md", []byte("n"))} }, "notes or attachments"},
		"other platform": {"stable", func(w *world, n *NewRelease) { n.Artifacts[0].Platform.Arch = "arm64" }, "with other artifacts"},
		"other time":     {"stable", func(w *world, n *NewRelease) { n.Published = epoch.Add(time.Second) }, "was published on"},
		"other terms":    {"stable", func(w *world, n *NewRelease) { n.Critical = true }, "on other terms"},
		"other spelling": {"beta", func(w *world, n *NewRelease) { n.Version = "1.0.0-RC.1" }, "spelled 1.0.0-rc.1"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.published("stable", w.release("1.0.0", "bytes"))
			w.published("stable", w.release("1.0.0-rc.1", "bytes"))
			n := w.release("1.0.0", "bytes")
			r := w.open()
			_, err := r.Release(t.Context(), "notes", tt.channel, n)
			require.NoError(t, err, "the same bytes are fine")
			r = w.open()
			tt.change(w, &n)
			_, err = r.Release(t.Context(), "notes", tt.channel, n)
			var reused *VersionReusedError
			require.ErrorAs(t, err, &reused)
			require.Contains(t, reused.Detail, tt.detail)
			require.Equal(t, "stable", reused.Channel)
			require.Empty(t, r.Changes())
		})
	}
}

func TestVersionReusedAfterArchive(t *testing.T) {
	w := newWorld(t)
	w.published("stable", w.release("1.0.0", "bytes"))
	w.published("stable", w.release("1.1.0", "more"))
	r := w.open()
	moved, err := r.Archive("notes", "stable", 1)
	require.NoError(t, err)
	require.Len(t, moved, 1)
	w.commit(r)
	_, err = w.open().Release(t.Context(), "notes", "stable", w.release("1.0.0", "other"))
	var reused *VersionReusedError
	require.ErrorAs(t, err, &reused)
	require.Equal(t, "archive", reused.Channel)
}

func TestEditsRefused(t *testing.T) {
	type edit = func(w *world, r *Repo) error
	release := func(channelName string, change func(n *NewRelease)) edit {
		return func(w *world, r *Repo) error {
			n := w.release("3.0.0", "three")
			change(&n)
			_, err := r.Release(w.t.Context(), "notes", channelName, n)
			return err
		}
	}
	none := func(*NewRelease) {}
	tests := map[string]struct {
		fine, bad edit
		want      string
	}{
		"unknown channel":   {release("stable", none), release("nightly", none), "tufrepo: there is no channel nightly of product notes; add it first"},
		"bad channel name":  {release("stable", none), release("../stable", none), "channel: channel: \"../stable\" is not a name"},
		"archive":           {release("stable", none), release("archive", none), "is where old releases go"},
		"bad version":       {release("stable", none), release("stable", func(n *NewRelease) { n.Version = "v3.0.0" }), "has a leading v"},
		"path as version":   {release("stable", none), release("stable", func(n *NewRelease) { n.Version = "../../3" }), "is not a semantic version"},
		"no artifact":       {release("stable", none), release("stable", func(n *NewRelease) { n.Artifacts = nil }), "platforms: is empty"},
		"twice a platform":  {release("stable", none), release("stable", func(n *NewRelease) { n.Artifacts = append(n.Artifacts, n.Artifacts[0]) }), "names linux/amd64 twice"},
		"bad constraint":    {release("stable", none), release("stable", func(n *NewRelease) { n.From = "newest" }), "is not a version constraint"},
		"bad entitlement":   {release("stable", none), release("stable", func(n *NewRelease) { n.Requires = []string{"Pro Plan"} }), "is not an entitlement code"},
		"missing file":      {release("stable", none), release("stable", func(n *NewRelease) { n.Artifacts[0].Path += ".gone" }), syscall.ENOENT.Error()},
		"folder":            {release("stable", none), release("stable", func(n *NewRelease) { n.Artifacts[0].Path = filepath.Dir(n.Artifacts[0].Path) }), "is not a regular file"},
		"attachment's name": {release("stable", none), release("stable", func(n *NewRelease) { n.Notes = &NewAttachment{Name: "../notes.md", Path: n.Artifacts[0].Path} }), "is not a name for an attachment"},
		"add a channel twice": {
			func(w *world, r *Repo) error { return r.AddChannel("notes", "nightly", only(w.keys["beta"]), Policy{}) },
			func(w *world, r *Repo) error { return r.AddChannel("notes", "stable", only(w.keys["beta"]), Policy{}) }, "is there already"},
		"add archive as channel": {
			func(w *world, r *Repo) error { return r.AddArchive("notes", only(w.keys["beta"]), Policy{}) },
			func(w *world, r *Repo) error { return r.AddChannel("notes", "archive", only(w.keys["beta"]), Policy{}) }, "is where old releases go"},
		"product license": {
			func(w *world, r *Repo) error { return r.AddChannel("licenses", "x", only(w.keys["beta"]), Policy{}) },
			func(w *world, r *Repo) error { return r.AddChannel("license", "x", only(w.keys["beta"]), Policy{}) }, "would share its paths"},
		"slash in a channel": {
			func(w *world, r *Repo) error { return r.AddChannel("notes", "a-b", only(w.keys["beta"]), Policy{}) },
			func(w *world, r *Repo) error { return r.AddChannel("notes", "a/b", only(w.keys["beta"]), Policy{}) }, "is not a name"},
		"threshold too high": {
			func(w *world, r *Repo) error {
				return r.AddChannel("notes", "x", RoleKeys{only(w.keys["beta"]).Keys, 1}, Policy{})
			},
			func(w *world, r *Repo) error {
				return r.AddChannel("notes", "x", RoleKeys{only(w.keys["beta"]).Keys, 2}, Policy{})
			}, "a threshold of 2 cannot be met with 1 keys"},
		"negative threshold": {
			func(w *world, r *Repo) error {
				return r.SetKeys("notes.stable", RoleKeys{only(w.keys["beta"]).Keys, 1})
			},
			func(w *world, r *Repo) error {
				return r.SetKeys("notes.stable", RoleKeys{only(w.keys["beta"]).Keys, -1})
			}, "a threshold of -1"},
		"margin above period": {
			func(w *world, r *Repo) error { return r.SetPolicy("notes.stable", Policy{2 * day, day}) },
			func(w *world, r *Repo) error { return r.SetPolicy("notes.stable", Policy{2 * day, 2 * day}) }, "is not less than the period"},
		"fraction of a second": {
			func(w *world, r *Repo) error { return r.SetPolicy("notes.stable", Policy{2 * day, time.Second}) },
			func(w *world, r *Repo) error { return r.SetPolicy("notes.stable", Policy{2 * day, time.Millisecond}) }, "must be whole seconds"},
		"hold without reason": {
			func(w *world, r *Repo) error { _, err := r.Hold("notes", "stable", "1.0.0", "why"); return err },
			func(w *world, r *Repo) error { _, err := r.Hold("notes", "stable", "1.0.0", ""); return err }, "no reason is given"},
		"hold what is withdrawn": {
			func(w *world, r *Repo) error { _, err := r.Hold("notes", "stable", "1.0.0", "why"); return err },
			func(w *world, r *Repo) error { _, err := r.Hold("notes", "stable", "1.1.0", "why"); return err }, "is withdrawn, which is more than held"},
		"offer what is withdrawn": {
			func(w *world, r *Repo) error { _, err := r.Offer("notes", "stable", "1.0.0"); return err },
			func(w *world, r *Repo) error { _, err := r.Offer("notes", "stable", "1.1.0"); return err }, "is withdrawn for good"},
		"roll out what is withdrawn": {
			func(w *world, r *Repo) error { _, err := r.SetRollout("notes", "stable", "1.0.0", nil); return err },
			func(w *world, r *Repo) error { _, err := r.SetRollout("notes", "stable", "1.1.0", nil); return err }, "nothing to roll out"},
		"bad rollout": {
			func(w *world, r *Repo) error {
				_, err := r.SetRollout("notes", "stable", "1.0.0", &channel.Rollout{To: 10_000, Start: epoch})
				return err
			},
			func(w *world, r *Repo) error {
				_, err := r.SetRollout("notes", "stable", "1.0.0", &channel.Rollout{To: 10_001, Start: epoch})
				return err
			}, "basis points"},
		"go back to what is not listed": {
			func(w *world, r *Repo) error {
				_, err := r.Withdraw("notes", "stable", "2.0.0", "why", "1.0.0")
				return err
			},
			func(w *world, r *Repo) error {
				_, err := r.Withdraw("notes", "stable", "2.0.0", "why", "0.9.0")
				return err
			}, "which is not listed"},
		"go back to what is withdrawn": {
			func(w *world, r *Repo) error {
				_, err := r.Withdraw("notes", "stable", "2.0.0", "why", "1.0.0")
				return err
			},
			func(w *world, r *Repo) error {
				_, err := r.Withdraw("notes", "stable", "2.0.0", "why", "1.1.0")
				return err
			}, "or withdrawn itself"},
		"go back to itself": {
			func(w *world, r *Repo) error {
				_, err := r.Withdraw("notes", "stable", "2.0.0", "why", "1.0.0")
				return err
			},
			func(w *world, r *Repo) error {
				_, err := r.Withdraw("notes", "stable", "2.0.0", "why", "2.0.0")
				return err
			}, "names the withdrawn release itself"},
		"withdraw where others go back to": {
			func(w *world, r *Repo) error { _, err := r.Withdraw("notes", "stable", "2.0.0", "why", ""); return err },
			func(w *world, r *Repo) error { _, err := r.Withdraw("notes", "stable", "1.0.0", "why", ""); return err }, "is what the withdrawn 1.1.0 goes back to"},
		"promote what is withdrawn": {
			func(w *world, r *Repo) error {
				_, err := r.Promote(t.Context(), "notes", "1.0.0", "stable", "beta", nil)
				return err
			},
			func(w *world, r *Repo) error {
				_, err := r.Promote(t.Context(), "notes", "1.1.0", "stable", "beta", nil)
				return err
			}, "is withdrawn (loses data)"},
		"promote what is not there": {
			func(w *world, r *Repo) error {
				_, err := r.Promote(t.Context(), "notes", "1.0.0", "stable", "beta", nil)
				return err
			},
			func(w *world, r *Repo) error {
				_, err := r.Promote(t.Context(), "notes", "9.0.0", "stable", "beta", nil)
				return err
			}, "there is no version 9.0.0 in channel stable"},
		"promote to where it is withdrawn": {
			func(w *world, r *Repo) error {
				_, err := r.Promote(t.Context(), "notes", "1.5.0", "beta", "stable", nil)
				return err
			},
			func(w *world, r *Repo) error {
				_, err := r.Promote(t.Context(), "notes", "1.6.0", "beta", "stable", nil)
				return err
			}, "1.6.0 in stable is withdrawn for good"},
		"archive everything": {
			func(w *world, r *Repo) error { _, err := r.Archive("notes", "stable", 1); return err },
			func(w *world, r *Repo) error { _, err := r.Archive("notes", "stable", 0); return err }, "fewer than one release"},
		"licence file's name": {
			func(w *world, r *Repo) error { return r.PutLicense("keyring.json", []byte("{}")) },
			func(w *world, r *Repo) error { return r.PutLicense("../keyring.json", []byte("{}")) }, "there is no licence file \"../keyring.json\""},
	}
	base := newWorld(t)
	base.published("stable", base.release("1.0.0", "one"))
	base.published("stable", base.release("1.1.0", "bad"))
	base.published("stable", base.release("2.0.0", "two"))
	base.published("beta", base.release("1.5.0", "five"))
	base.published("beta", base.release("1.6.0", "six"))
	r := base.open()
	_, err := r.Promote(t.Context(), "notes", "1.6.0", "beta", "stable", nil)
	require.NoError(t, err)
	_, err = r.Withdraw("notes", "stable", "1.6.0", "bad", "")
	require.NoError(t, err)
	_, err = r.Withdraw("notes", "stable", "1.1.0", "loses data", "1.0.0")
	require.NoError(t, err)
	base.commit(r)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, tt.fine(base, base.open()))
			r := base.open()
			require.ErrorContains(t, tt.bad(base, r), tt.want)
			require.Empty(t, r.Changes(), "nothing was edited")
			require.Empty(t, r.changed)
		})
	}
}

func TestMissingKeys(t *testing.T) {
	w := newWorld(t)
	before := w.files()
	r := w.open()
	_, err := r.Release(t.Context(), "notes", "stable", w.release("1.0.0", "one"))
	require.NoError(t, err)
	_, err = r.Commit(t.Context(), w.keys["online"], w.keys["beta"])
	var missing *MissingKeysError
	require.ErrorAs(t, err, &missing)
	require.Equal(t, &MissingKeysError{"notes.stable", 0, 1, []string{w.keys["stable"].ID()}}, missing)
	require.Equal(t, before, w.files(), "nothing was written")
	_, err = r.Commit(t.Context(), w.keys["online"], w.keys["stable"])
	require.NoError(t, err)
}

func TestThreshold(t *testing.T) {
	w := newWorld(t)
	a, b := newSigner(t, "ed25519"), newSigner(t, "ecdsa-p256")
	r := w.open()
	require.NoError(t, r.SetKeys("notes.stable", RoleKeys{Keys: []PublicKey{a.Public(), b.Public(), w.keys["stable"].Public()}, Threshold: 2}))
	w.keys["a"], w.keys["b"] = a, b
	w.commit(r)
	r = w.open()
	_, err := r.Release(t.Context(), "notes", "stable", w.release("1.0.0", "one"))
	require.NoError(t, err)
	_, err = r.Commit(t.Context(), w.keys["online"], a, a) // one key twice is one key
	var missing *MissingKeysError
	require.ErrorAs(t, err, &missing)
	require.Equal(t, 1, missing.Have)
	require.Equal(t, 2, missing.Need)
	_, err = r.Commit(t.Context(), w.keys["online"], a, b)
	require.NoError(t, err)
	w.mustVerify()
	_, err = w.client(w.root, "notes/stable/1.0.0/release.json")
	require.NoError(t, err)
}

func TestCreateTwice(t *testing.T) {
	w := newWorld(t)
	before := w.files()
	_, err := Create(t.Context(), w.store, w.config(), w.all()...)
	require.ErrorIs(t, err, ErrExists)
	require.Equal(t, before, w.files())
}

func TestOpenRefused(t *testing.T) {
	tests := map[string]struct {
		harm func(w *world)
		want string
	}{
		"no repository": {func(w *world) { require.NoError(w.t, os.RemoveAll(w.dir)); w.root = nil }, "there is no repository in the store"},
		"foreign root":  {func(w *world) { other := newWorld(w.t); w.root = other.root }, "metadata/timestamp.json is not what the repository's keys signed"},
		"cut timestamp": {func(w *world) { w.cut("metadata/timestamp.json") }, "metadata/timestamp.json"},
		"cut snapshot":  {func(w *world) { w.cut("metadata/2.snapshot.json") }, "metadata/2.snapshot.json"},
		"cut role":      {func(w *world) { w.cut("metadata/1.notes.beta.json") }, "metadata/1.notes.beta.json"},
		"no role":       {func(w *world) { w.remove("metadata/1.notes.beta.json") }, "metadata/1.notes.beta.json is not what the repository's keys signed: is listed but not there"},
		"role swapped": {func(w *world) {
			w.copy("metadata/1.notes.beta.json", "metadata/1.notes.stable.json")
		}, "metadata/1.notes.stable.json is not what the repository's keys signed: has "},
		"older timestamp's keys": {func(w *world) { w.copy("metadata/1.snapshot.json", "metadata/2.snapshot.json") }, "metadata/2.snapshot.json is not what the repository's keys signed: has version 1, and version 2 is listed"},
		"null in timestamp": {func(w *world) {
			require.NoError(w.t, os.WriteFile(filepath.Join(w.dir, "metadata/timestamp.json"), []byte(`{"signed":{"_type":"timestamp","meta":{"snapshot.json":null}},"signatures":[]}`), 0o644))
		}, "is null"},
		"huge timestamp": {func(w *world) {
			require.NoError(w.t, os.WriteFile(filepath.Join(w.dir, "metadata/timestamp.json"), make([]byte, maxTimestamp+1), 0o644))
		}, "is longer than"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.open()
			tt.harm(w)
			_, err := Open(t.Context(), w.store, OpenConfig{Root: w.root, Now: w.clock})
			require.ErrorContains(t, err, tt.want)
			if name != "no repository" {
				var trust *TrustError
				require.ErrorAs(t, err, &trust)
			}
		})
	}
}

func (w *world) path(name string) string { return filepath.Join(w.dir, filepath.FromSlash(name)) }

func (w *world) remove(name string) {
	w.t.Helper()
	require.NoError(w.t, os.Remove(w.path(name)))
}

func (w *world) copy(from, to string) {
	w.t.Helper()
	data, err := os.ReadFile(w.path(from))
	require.NoError(w.t, err)
	require.NoError(w.t, os.WriteFile(w.path(to), data, 0o644))
}

// cut takes the last byte away.
func (w *world) cut(name string) {
	w.t.Helper()
	info, err := os.Stat(w.path(name))
	require.NoError(w.t, err)
	require.NoError(w.t, os.Truncate(w.path(name), info.Size()-1))
}
