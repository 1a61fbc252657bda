package tufrepo_test

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/trust"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

const day = 24 * time.Hour

// keySet is who signs a role.
type keySet struct {
	signers   []*tufrepo.Signer
	threshold int
}

func (k keySet) public() tufrepo.RoleKeys {
	keys := tufrepo.RoleKeys{Threshold: k.threshold}
	for _, s := range k.signers {
		keys.Keys = append(keys.Keys, s.Public())
	}
	return keys
}

// A vendor publishes one product from a folder, with a clock that the test turns.
type vendor struct {
	*testing.T
	rand      *rand.Rand
	dir       string // the repository
	work      string // artifacts
	now       time.Time
	root      []byte            // 1.root.json, as compiled into apps
	keys      map[string]keySet // by role, as edited
	published map[string]keySet // by role, as committed
	last      int               // number of the version released last
	url       string            // where go-tuf finds the repository
}

func newSeededVendor(t *testing.T, seed uint64) *vendor {
	v := &vendor{T: t, rand: rand.New(rand.NewPCG(seed, 1)), dir: filepath.Join(t.TempDir(), "repo"), work: t.TempDir(),
		now: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC), keys: map[string]keySet{}}
	for _, role := range []string{"root", "targets", "snapshot", "timestamp", "notes.stable", "notes.beta"} {
		v.keys[role] = v.newKeys(nil)
	}
	r, err := tufrepo.Create(t.Context(), v.store(), tufrepo.CreateConfig{Now: v.clock, Root: v.keys["root"].public(),
		Targets: v.keys["targets"].public(), Snapshot: v.keys["snapshot"].public(), Timestamp: v.keys["timestamp"].public()}, v.everybody()...)
	require.NoError(t, err)
	for _, name := range []string{"stable", "beta"} {
		require.NoError(t, r.AddChannel("notes", name, v.keys["notes."+name].public(), tufrepo.Policy{}))
	}
	v.commit(r)
	v.root, err = os.ReadFile(filepath.Join(v.dir, "metadata/1.root.json"))
	require.NoError(t, err)
	server := httptest.NewServer(http.FileServer(http.Dir(v.dir)))
	t.Cleanup(server.Close)
	v.url = server.URL
	return v
}

func (v *vendor) store() tufrepo.Store { return tufrepo.Dir(v.dir) }

func (v *vendor) clock() time.Time { return v.now }

func (v *vendor) open(store tufrepo.Store) *tufrepo.Repo {
	v.Helper()
	r, err := tufrepo.Open(v.Context(), store, tufrepo.OpenConfig{Root: v.root, Now: v.clock})
	require.NoError(v, err)
	return r
}

func (v *vendor) newSigner() *tufrepo.Signer {
	key, err := tufrepo.GenerateKey([]string{"ed25519", "ecdsa-p256"}[v.rand.IntN(2)])
	require.NoError(v, err)
	s, err := tufrepo.NewSigner(key)
	require.NoError(v, err)
	return s
}

// newKeys is one to three keys, perhaps some of the old ones among them, and as many or fewer that it takes.
func (v *vendor) newKeys(old []*tufrepo.Signer) keySet {
	signers := slices.Clone(old[:v.rand.IntN(len(old)+1)])
	for len(signers) < 1+v.rand.IntN(3) {
		signers = append(signers, v.newSigner())
	}
	return keySet{signers, 1 + v.rand.IntN(len(signers))}
}

// everybody has all keys of now and, for readers that do not have the next root yet, of before.
func (v *vendor) everybody() (list []*tufrepo.Signer) {
	for _, keys := range []map[string]keySet{v.keys, v.published} {
		for _, k := range keys {
			list = append(list, k.signers...)
		}
	}
	return list
}

// enough is no more keys than it takes.
func (v *vendor) enough() (list []*tufrepo.Signer) {
	some := func(k keySet) {
		for _, i := range v.rand.Perm(len(k.signers))[:k.threshold] {
			list = append(list, k.signers[i])
		}
	}
	for _, role := range slices.Sorted(maps.Keys(v.keys)) {
		some(v.keys[role])
	}
	some(v.published["root"])
	return list
}

func (v *vendor) committed() {
	v.published = maps.Clone(v.keys)
}

func (v *vendor) commit(r *tufrepo.Repo) {
	v.Helper()
	_, err := r.Commit(v.Context(), v.everybody()...)
	require.NoError(v, err)
	v.committed()
}

func (v *vendor) artifact(content string) []tufrepo.NewArtifact {
	name := filepath.Join(v.work, content)
	require.NoError(v, os.WriteFile(name, []byte(content), 0o755))
	return []tufrepo.NewArtifact{{Platform: channel.Platform{OS: "linux", Arch: "amd64"}, Path: name}}
}

func (v *vendor) client(dir string) *trust.Client {
	v.Helper()
	return v.clientOf(dir, v.dir)
}

func (v *vendor) clientOf(dir, repository string) *trust.Client {
	v.Helper()
	c, err := trust.New(trust.Config{Root: v.root, Dir: dir, Source: trust.FS(os.DirFS(repository)), Now: v.clock})
	require.NoError(v, err)
	return c
}

// listed is a channel as a client sees it.
func (v *vendor) listed(view *trust.View, channelName string) ([]channel.Release, error) {
	targets, err := view.Role(v.Context(), channel.RoleName("notes", channelName))
	var list []channel.Release
	for _, t := range targets {
		list = append(list, channel.ParseRelease(path.Base(path.Dir(t.Path)), t.Custom, channel.Blob{SHA256: t.SHA256, Length: t.Length}))
	}
	return bySeq(list), err
}

func bySeq(list []channel.Release) []channel.Release {
	slices.SortFunc(list, func(a, b channel.Release) int {
		return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Version, b.Version))
	})
	return list
}

// sees requires that a client reads the whole repository as the publisher does.
func (v *vendor) sees(who string, c *trust.Client, r *tufrepo.Repo) {
	v.Helper()
	view, err := c.Refresh(v.Context())
	require.NoError(v, err, who)
	for _, name := range r.Channels("notes") {
		want, err := r.Releases("notes", name)
		require.NoError(v, err)
		got, err := v.listed(view, name)
		require.NoError(v, err, "%s, %s", who, name)
		require.Equal(v, want, got, "%s, %s", who, name)
		if len(want) == 0 {
			continue
		}
		rel := want[v.rand.IntN(len(want))]
		target, err := view.Find(v.Context(), channel.TargetPath("notes", name, rel.Version))
		require.NoError(v, err)
		data, err := view.Fetch(v.Context(), target, channel.MaxManifest)
		require.NoError(v, err)
		m, err := channel.ParseManifest(data)
		require.NoError(v, err)
		there, err := r.Manifest(v.Context(), "notes", name, rel.Version)
		require.NoError(v, err)
		require.Equal(v, there, m)
	}
}

// anotherSees is sees with go-tuf's own client.
func (v *vendor) anotherSees(r *tufrepo.Repo) {
	v.Helper()
	cfg, err := config.New(v.url+"/metadata", v.root)
	require.NoError(v, err)
	cfg.DisableLocalCache, cfg.RemoteTargetsURL = true, v.url+"/targets"
	up, err := updater.New(cfg)
	require.NoError(v, err)
	up.UnsafeSetRefTime(v.now)
	require.NoError(v, up.Refresh())
	for _, name := range r.Channels("notes") {
		_, err := up.GetTargetInfo(channel.TargetPath("notes", name, "0.0.0"))
		require.ErrorContains(v, err, "0.0.0/release.json not found")
		set := up.GetTrustedMetadataSet()
		var got []channel.Release
		for target, t := range set.Targets[channel.RoleName("notes", name)].Signed.Targets {
			got = append(got, channel.ParseRelease(path.Base(path.Dir(target)), *t.Custom, channel.Blob{SHA256: t.Hashes["sha256"].String(), Length: t.Length}))
		}
		want, err := r.Releases("notes", name)
		require.NoError(v, err)
		require.Equal(v, want, bySeq(got), name)
	}
}

func (v *vendor) verifies() {
	v.Helper()
	report, err := tufrepo.Verify(v.Context(), v.store(), v.root, v.now)
	require.NoError(v, err)
	require.Empty(v, report.Findings)
}

// TestClientsSeeWhatIsPublished has a vendor do anything, in any order, and everybody see it.
func TestClientsSeeWhatIsPublished(t *testing.T) {
	t.Parallel()
	seeds, steps := 3, 20
	if testing.Short() {
		seeds, steps = 1, 12
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			v := newSeededVendor(t, uint64(seed))
			faithful, rare := v.client(t.TempDir()), v.client(t.TempDir())
			for step := range steps {
				v.pass(faithful)
				r := v.open(v.store())
				for range 1 + v.rand.IntN(4) {
					v.edit(r)
				}
				signers := v.everybody()
				if v.rand.IntN(2) == 0 {
					signers = v.enough()
				}
				require.Empty(t, r.Refresh(signers...), "step %d", step)
				_, err := r.Commit(t.Context(), signers...)
				require.NoError(t, err, "step %d: %q", step, r.Changes())
				v.committed()

				reopened := v.open(v.store())
				for _, name := range r.Channels("notes") {
					edited, _ := r.Releases("notes", name)
					stored, _ := reopened.Releases("notes", name)
					require.Equal(t, edited, stored)
				}
				v.sees(fmt.Sprintf("faithful, step %d", step), faithful, r)
				if step%5 == 4 {
					v.sees(fmt.Sprintf("rare, step %d", step), rare, r)
				}
				v.sees(fmt.Sprintf("new, step %d", step), v.client(t.TempDir()), r)
				v.anotherSees(r)
				v.verifies()
			}
		})
	}
}

// pass lets time pass. Clients notice what has expired, and nothing else.
func (v *vendor) pass(faithful *trust.Client) {
	switch n := v.rand.IntN(30); {
	case n == 0:
		v.now = v.now.Add(500 * day)
	case n < 3:
		v.now = v.now.Add(130 * day)
	case n < 6:
		v.now = v.now.Add(20 * day)
	default:
		v.now = v.now.Add(time.Duration(v.rand.IntN(30)) * time.Hour)
	}
	over := map[string]bool{}
	r := v.open(v.store())
	for _, s := range r.Status() {
		over[s.Role] = v.now.After(s.Expires)
	}
	for _, c := range []*trust.Client{faithful, v.client(v.TempDir())} {
		view, err := c.Refresh(v.Context())
		var expired *trust.ExpiredError
		if over["root"] || over["targets"] || over["snapshot"] || over["timestamp"] {
			require.ErrorAs(v, err, &expired)
			require.True(v, over[expired.Role], expired.Role)
			continue
		}
		require.NoError(v, err)
		for _, name := range r.Channels("notes") {
			_, err := v.listed(view, name)
			if over["notes."+name] {
				require.ErrorAs(v, err, &expired)
			} else {
				require.NoError(v, err)
			}
		}
	}
}

// edit does one thing, at random. What does not fit is refused with one of the errors that say so.
func (v *vendor) edit(r *tufrepo.Repo) {
	v.Helper()
	ctx := v.Context()
	channels := r.Channels("notes")
	name, other := channels[v.rand.IntN(len(channels))], channels[v.rand.IntN(len(channels))]
	version := fmt.Sprintf("1.%d.0", v.rand.IntN(v.last+1))
	ramp := &channel.Rollout{From: int(v.rand.IntN(5000)), To: channel.Everybody, Start: v.now, Duration: 3600}
	roles := slices.Sorted(maps.Keys(v.keys))
	role := roles[v.rand.IntN(len(roles))]
	var err error
	switch v.rand.IntN(14) {
	case 0:
		fresh := []string{"nightly", "edge", "next"}[v.rand.IntN(3)]
		keys := v.newKeys(v.keys["notes."+name].signers) // may share some with a channel
		if err = r.AddChannel("notes", fresh, keys.public(), tufrepo.Policy{}); err == nil {
			v.keys["notes."+fresh] = keys
		}
	case 1, 2, 3, 4:
		if v.rand.IntN(4) > 0 {
			v.last++
			version = fmt.Sprintf("1.%d.0", v.last)
		}
		n := tufrepo.NewRelease{Version: version, Artifacts: v.artifact("notes-" + version), Published: v.now}
		switch v.rand.IntN(4) {
		case 0:
			n.Hold = "wait"
		case 1:
			n.Rollout, n.From = ramp, ">=1.0.0"
		case 2:
			n.Kind, n.Critical, n.Published = channel.Security, true, time.Time{}
		}
		_, err = r.Release(ctx, "notes", name, n)
	case 5:
		_, err = r.Promote(ctx, "notes", version, name, other, ramp)
	case 6:
		_, err = r.SetRollout("notes", name, version, ramp)
	case 7:
		_, err = r.Hold("notes", name, version, "crash reports")
	case 8:
		_, err = r.Offer("notes", name, version)
	case 9:
		_, err = r.Withdraw("notes", name, version, "loses data", []string{"", fmt.Sprintf("1.%d.0", v.rand.IntN(v.last+1))}[v.rand.IntN(2)])
	case 10:
		if _, err = r.Archive("notes", name, 1+v.rand.IntN(3)); err == nil && slices.Contains(r.Channels("notes"), "archive") && v.keys["notes.archive"].signers == nil {
			v.keys["notes.archive"] = v.keys["notes."+name]
		}
	case 11, 12:
		keys := v.newKeys(v.keys[role].signers)
		if v.rand.IntN(4) == 0 && role == "timestamp" {
			keys = v.keys["snapshot"]
		}
		require.NoError(v, r.SetKeys(role, keys.public()))
		v.keys[role] = keys
	case 13:
		require.NoError(v, r.SetPolicy(role, v.policy(role)))
	}
	var state *tufrepo.StateError
	var missing *tufrepo.NotFoundError
	var reused *tufrepo.VersionReusedError
	var invalid *channel.InvalidError
	if err != nil && !errors.As(err, &state) && !errors.As(err, &missing) && !errors.As(err, &reused) && !errors.As(err, &invalid) {
		require.NoError(v, err)
	}
}

// policy is one with which no role outlasts its parent.
func (v *vendor) policy(role string) tufrepo.Policy {
	days := func(low, high int) time.Duration { return time.Duration(low+v.rand.IntN(high-low)) * day }
	switch role {
	case "root":
		return tufrepo.Policy{Period: days(400, 500), Margin: days(200, 250)}
	case "targets":
		return tufrepo.Policy{Period: days(300, 400), Margin: days(200, 250)}
	case "timestamp":
		return tufrepo.Policy{Period: days(2, 10), Margin: day}
	}
	return tufrepo.Policy{Period: days(40, 90), Margin: days(1, 40)}
}
