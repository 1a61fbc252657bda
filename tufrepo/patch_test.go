package tufrepo

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/delta"
)

func noise(seed string, n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte(seed))).Read(data)
	return data
}

// edition is a program of which 700 bytes change from one to the next, elsewhere each time.
func edition(n int) string {
	p := noise("program", 320<<10)
	for i := 1; i <= n; i++ {
		copy(p[i*9000:], noise(fmt.Sprint("edition", i), 700))
	}
	return string(p)
}

func version(n int) string { return fmt.Sprintf("1.%d.0", n) }

// with opens the repository with a policy.
func (w *world) with(p PatchPolicy) *Repo {
	w.t.Helper()
	r, err := Open(w.t.Context(), w.store, OpenConfig{Root: w.root, Now: w.clock, Patches: p})
	require.NoError(w.t, err)
	return r
}

// publish releases an edition and returns what came of its patches.
func (w *world) publish(channelName string, n int, p PatchPolicy, change ...func(*NewRelease)) (channel.Release, []PatchReport) {
	w.t.Helper()
	r := w.with(p)
	nr := w.release(version(n), edition(n))
	for _, c := range change {
		c(&nr)
	}
	rel, err := r.Release(w.t.Context(), "notes", channelName, nr)
	require.NoError(w.t, err)
	reports := slices.Clone(r.PatchReports())
	w.commit(r)
	return rel, reports
}

func (w *world) blob(b channel.Blob) []byte {
	w.t.Helper()
	data, err := os.ReadFile(w.path(blobName(b.SHA256)))
	require.NoError(w.t, err)
	require.Equal(w.t, b, blobOf(data))
	return data
}

// list is what clients get to read.
func (w *world) list(channelName string, n int) *channel.Patches {
	w.t.Helper()
	rel, err := w.open().entry("notes", channelName, version(n))
	require.NoError(w.t, err)
	require.NotNil(w.t, rel.Patches)
	list, err := channel.ParsePatches(w.blob(*rel.Patches))
	require.NoError(w.t, err)
	require.Equal(w.t, "notes", list.Product)
	require.Equal(w.t, version(n), list.Version)
	return list
}

// leads follows the way from one edition to another as a client does, and returns how many steps it has; -1: there is none.
func (w *world) leads(list *channel.Patches, from, to int) int {
	w.t.Helper()
	have := edition(from)
	steps, found := list.Route(channel.RouteQuery{Installed: digestOf(have), Wanted: digestOf(edition(to)), Full: int64(len(have)),
		Formats: delta.Formats(), Memory: 1 << 30})
	if !found {
		return -1
	}
	for _, p := range steps {
		require.Equal(w.t, digestOf(have), p.From)
		var out bytes.Buffer
		body := w.blob(p.Blob)
		require.NoError(w.t, delta.Apply(w.t.Context(), &out, delta.Patch{Format: p.Format, Bases: []*io.SectionReader{sectionOf([]byte(have))},
			Body: sectionOf(body), Length: p.ToLength, Memory: p.Memory}))
		have = out.String()
	}
	require.Equal(w.t, edition(to), have)
	return len(steps)
}

func digestOf(content string) string { return blobOf([]byte(content)).SHA256 }

func sectionOf(data []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data)))
}

func versionsOf(reports []PatchReport) (list []string) {
	for _, r := range reports {
		if r.Err == nil {
			list = append(list, r.From)
		}
	}
	return list
}

// Patches are made from the last releases; older ones come by steps, of lists that were signed before.
func TestPatchesOfManyReleases(t *testing.T) {
	w := newWorld(t)
	const last = 12
	for n := range last + 1 {
		rel, reports := w.publish("stable", n, PatchPolicy{From: 3})
		var want []string
		for i := n - 1; i >= max(0, n-3); i-- {
			want = append(want, version(i))
		}
		require.Equal(t, want, versionsOf(reports))
		require.Equal(t, n > 0, rel.Patches != nil)
		for _, r := range reports {
			require.Equal(t, int64(320<<10), r.Full)
			require.Less(t, r.Patch.Length, int64(6000))
			require.Equal(t, int64(320<<10), r.Patch.ToLength)
			require.Positive(t, r.Patch.Memory)
		}
	}
	list := w.list("stable", last)
	for from := range last {
		steps := w.leads(list, from, last)
		require.Equal(t, (last-from+2)/3, steps, "from %s", version(from)) // 4 at most: from the very first
	}
	require.LessOrEqual(t, len(list.Patches), 3+9+9, "only what is on the cheapest ways is carried over")
	w.mustVerify()

	// One more, and the first is out of reach.
	w.publish("stable", last+1, PatchPolicy{From: 3})
	require.Equal(t, -1, w.leads(w.list("stable", last+1), 0, last+1))
	require.Equal(t, 4, w.leads(w.list("stable", last+1), 1, last+1))
}

// Of each platform, and of archives over their content.
func TestPatchesOfArchives(t *testing.T) {
	w := newWorld(t)
	release := func(n int) ([]PatchReport, NewRelease) {
		packed := w.file(fmt.Sprintf("notes-%d.tar.gz", n), tarGzOf(t, map[string]string{
			"notes-" + version(n) + "/notes": edition(n), "notes-" + version(n) + "/same": string(noise("same", 90<<10)),
			"notes-" + version(n) + "/new": strings.Repeat(version(n), 100)}))
		nr := w.release(version(n), edition(n))
		windows := channel.Platform{OS: "windows", Arch: "amd64"}
		nr.Artifacts = append(nr.Artifacts, NewArtifact{Platform: windows, Path: packed, Executable: "notes-" + version(n) + "/notes"})
		r := w.open()
		_, err := r.Release(t.Context(), "notes", "stable", nr)
		require.NoError(t, err)
		reports := slices.Clone(r.PatchReports())
		w.commit(r)
		return reports, nr
	}
	release(0)
	reports, nr := release(1)
	require.Len(t, reports, 2)
	require.Equal(t, nr.Artifacts[0].Platform, reports[0].Platform)
	require.NotEqual(t, channel.Tree, reports[0].Patch.Format)
	require.Empty(t, reports[0].Patch.Program)
	tree := reports[1].Patch
	require.Equal(t, "windows/amd64", reports[1].Platform.String())
	require.Equal(t, channel.Tree, tree.Format)
	require.Equal(t, digestOf(edition(0)), tree.Program)
	require.Zero(t, tree.ToLength)
	require.Less(t, tree.Length, int64(4000))
	m, err := w.open().Manifest(t.Context(), "notes", "stable", version(1))
	require.NoError(t, err)
	require.Equal(t, channel.ContentDigest(m.Artifacts[1].Files), tree.To)
	w.mustVerify()
}

// One artifact may stand for several platforms that had one each.
func TestPatchesToOneOfSeveral(t *testing.T) {
	w := newWorld(t)
	amd, arm := channel.Platform{OS: "darwin", Arch: "amd64"}, channel.Platform{OS: "darwin", Arch: "arm64"}
	_, _ = w.publish("stable", 0, PatchPolicy{}, func(nr *NewRelease) {
		nr.Artifacts = []NewArtifact{{Platform: amd, Path: w.file("amd", []byte(edition(1)))}, {Platform: arm, Path: w.file("arm", []byte(edition(2)))}}
	})
	_, reports := w.publish("stable", 3, PatchPolicy{}, func(nr *NewRelease) {
		nr.Artifacts = []NewArtifact{{Platform: amd, Path: nr.Artifacts[0].Path}, {Platform: arm, Path: nr.Artifacts[0].Path}}
	})
	require.Equal(t, []string{version(0), version(0)}, versionsOf(reports))
	list := w.list("stable", 3)
	require.Equal(t, 1, w.leads(list, 1, 3))
	require.Equal(t, 1, w.leads(list, 2, 3))
}

// What makes patches large shows even if the newest release cannot be read.
func TestHindrancesOfAnyBase(t *testing.T) {
	w := newWorld(t)
	publish := func(n int) []Hindrance {
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		_, err := z.Write(noise(version(n), 90<<10))
		require.NoError(t, errors.Join(err, z.Close()))
		path := w.file(fmt.Sprintf("notes-%d.tar.gz", n), tarGzOf(t, map[string]string{"notes": edition(n), "data.gz": packed.String()}))
		nr := w.release(version(n), edition(n))
		nr.Artifacts[0].Path, nr.Artifacts[0].Executable = path, "notes"
		r := w.open()
		_, err = r.Release(t.Context(), "notes", "stable", nr)
		require.NoError(t, err)
		found := slices.Clone(r.Hindrances())
		w.commit(r)
		return found
	}
	require.Empty(t, publish(0))
	require.Len(t, publish(1), 1)
	m, err := w.open().Manifest(t.Context(), "notes", "stable", version(1))
	require.NoError(t, err)
	w.remove(blobName(m.Artifacts[0].SHA256))
	found := publish(2)
	require.Len(t, found, 1)
	require.Equal(t, version(0), found[0].From)
}

func tarGzOf(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	for _, path := range slices.Sorted(maps.Keys(files)) {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: path, Size: int64(len(files[path])), Mode: 0o755}))
		_, err := io.WriteString(w, files[path])
		require.NoError(t, err)
	}
	require.NoError(t, errors.Join(w.Close(), z.Close()))
	return out.Bytes()
}

// Another channel has other releases before it. What was made already is not made again.
func TestPatchesOfPromotion(t *testing.T) {
	w := newWorld(t)
	promote := func(n int) []PatchReport {
		r := w.open()
		_, err := r.Promote(t.Context(), "notes", version(n), "beta", "stable", nil)
		require.NoError(t, err)
		reports := slices.Clone(r.PatchReports())
		w.commit(r)
		return reports
	}
	w.publish("beta", 0, PatchPolicy{})
	require.Empty(t, promote(0))
	for n := 1; n <= 3; n++ {
		w.publish("beta", n, PatchPolicy{})
	}
	reports := promote(3)
	require.Equal(t, []string{version(0)}, versionsOf(reports))
	require.True(t, reports[0].Reused, "beta has it")
	require.Len(t, w.list("stable", 3).Patches, 1)

	w.publish("beta", 4, PatchPolicy{From: 1})
	reports = promote(4)
	require.Equal(t, []string{version(3), version(0)}, versionsOf(reports))
	require.True(t, reports[0].Reused)
	require.False(t, reports[1].Reused)
	require.Equal(t, 1, w.leads(w.list("stable", 4), 0, 4))
	require.Empty(t, promote(4), "again: nothing to do")
	w.mustVerify()
}

// The patches of one channel are not those of another.
func TestPatchesStayInTheirChannel(t *testing.T) {
	w := newWorld(t)
	for n := range 2 {
		w.publish("beta", n, PatchPolicy{})
	}
	r := w.open()
	rel, err := r.Promote(t.Context(), "notes", version(1), "beta", "stable", nil)
	require.NoError(t, err)
	require.Nil(t, rel.Patches)
	w.commit(r)
	require.Len(t, w.list("beta", 1).Patches, 1)
}

// What is not offered, or may not be updated directly, is no base.
func TestPatchBases(t *testing.T) {
	w := newWorld(t)
	for n := range 5 {
		w.publish("stable", n, PatchPolicy{From: -1}, func(nr *NewRelease) {
			if n == 4 {
				nr.Hold = "not yet"
			}
		})
	}
	r := w.open()
	_, err := r.Withdraw("notes", "stable", version(3), "bad", "")
	require.NoError(t, err)
	w.commit(r)
	_, reports := w.publish("stable", 6, PatchPolicy{}, func(nr *NewRelease) { nr.From = ">=" + version(1) })
	require.Equal(t, []string{version(2), version(1)}, versionsOf(reports))
	_, reports = w.publish("stable", 5, PatchPolicy{})
	require.Equal(t, []string{version(2), version(1), version(0)}, versionsOf(reports), "not from a higher version")
}

// Without a patch, a release is a release.
func TestPatchesLeftOut(t *testing.T) {
	for name, c := range map[string]struct {
		policy PatchPolicy
		spoil  func(w *world)
		why    string
		next   string
	}{
		"time":            {policy: PatchPolicy{Time: 1}, why: "took longer than is allowed (1ns)", next: "allow more time"},
		"memory":          {policy: PatchPolicy{Memory: 1 << 10}, why: "bytes are needed, and 1024 allowed", next: "allow more memory"},
		"to apply":        {policy: PatchPolicy{Apply: 1 << 10}, why: "memory to apply a patch", next: "allow more memory"},
		"size":            {policy: PatchPolicy{MaxPercent: 1}, spoil: func(w *world) {}, why: "would be 2 % of the full download, and 1 % is the limit"},
		"half":            {policy: PatchPolicy{MaxPercent: 100}, why: "of the full download, and 50 % is the limit"},
		"a lost blob":     {spoil: func(w *world) { w.remove(blobName(digestOf(edition(0)))) }, why: "is missing", next: "release 1.0.0 again"},
		"a damaged blob":  {spoil: func(w *world) { w.flip(blobName(digestOf(edition(0)))) }, why: "does not hold the file", next: "release 1.0.0 again"},
		"a cut blob":      {spoil: func(w *world) { require.NoError(w.t, os.Truncate(w.path(blobName(digestOf(edition(0)))), 99)) }, why: "another length", next: "release 1.0.0 again"},
		"a lost manifest": {spoil: func(w *world) { w.remove(w.manifest("stable", "1.0.0")) }, why: "is listed but not there"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.publish("stable", 0, PatchPolicy{})
			if c.spoil != nil {
				c.spoil(w)
			}
			n := 1
			if name == "size" {
				n = 8
			}
			rel, reports := w.publish("stable", n, c.policy, func(nr *NewRelease) {
				if name == "half" {
					nr.Artifacts = w.release("half", edition(0)[:100<<10]+string(noise("half", 120<<10))).Artifacts
				}
			})
			require.Nil(t, rel.Patches)
			require.Len(t, reports, 1)
			require.Nil(t, reports[0].Patch)
			require.ErrorContains(t, reports[0].Err, c.why)
			require.Contains(t, reports[0].Err.Next, c.next)
			require.Equal(t, name == "size" || name == "half", errors.Is(reports[0].Err, ErrPatchTooLarge))
		})
	}
}

// A list has its limits: what was carried over goes first, then what leads from the oldest releases.
func TestPatchesFit(t *testing.T) {
	patches := func(from, n int) (list []channel.Patch) {
		for i := range n {
			name := digestOf(fmt.Sprint(from + i))
			list = append(list, channel.Patch{From: name, To: digestOf("to"), Program: name, Format: channel.ZstdPrefix,
				Blob: channel.Blob{SHA256: name, Length: 1<<53 - 1}, ToLength: 1<<53 - 1, Memory: 1<<53 - 1})
		}
		return list
	}
	for _, c := range []struct{ made, carried int }{{1000, 24}, {1000, 30}, {1030, 5}} {
		w := &patcher{r: &Repo{}, product: strings.Repeat("n", 64), rel: channel.Release{Version: version(9)}, age: map[string]int64{}, made: map[string][]byte{}}
		w.list = patches(0, c.made)
		for i, p := range w.list {
			w.age[p.From] = int64(i + 1) // the first is the oldest
			w.made[p.SHA256] = nil
			w.r.patched = append(w.r.patched, PatchReport{Product: w.product, Version: version(9), Patch: &p})
		}
		w.list = append(w.list, patches(c.made, c.carried)...)
		w.fit(c.made)
		require.Len(t, w.list, 1024)
		require.Equal(t, min(c.made, 1024), len(w.made))
		list := channel.Patches{V: channel.FormatVersion, Product: "notes", Version: version(9), Patches: w.list}
		data, err := list.Encode()
		require.NoError(t, err)
		require.Less(t, len(data), channel.MaxPatches)
		list.Patches = append(list.Patches, list.Patches[0])
		require.Error(t, list.Validate())
		for i, r := range w.r.patched {
			if i < c.made {
				require.Equal(t, i < c.made-1024, r.Err != nil)
				continue
			}
			require.ErrorContains(t, r.Err, fmt.Sprintf("%d patches of earlier releases are left out", c.made+c.carried-max(c.made, 1024)))
		}
		if c.made+c.carried > 1024 {
			require.Len(t, w.r.patched, c.made+1)
		}
	}
}

// A panickingStore stands for code that breaks at what a program holds.
type panickingStore struct {
	Store
	name string
}

func (s *panickingStore) Get(ctx context.Context, name string) (io.ReadCloser, Revision, error) {
	if name == s.name {
		panic("index out of range")
	}
	return s.Store.Get(ctx, name)
}

func TestPatchesPanic(t *testing.T) {
	w := newWorld(t)
	w.publish("stable", 0, PatchPolicy{})
	w.publish("stable", 1, PatchPolicy{})
	w.store = &panickingStore{w.store, blobName(digestOf(edition(1)))}
	_, reports := w.publish("stable", 2, PatchPolicy{})
	require.Equal(t, []string{version(0)}, versionsOf(reports))
	require.ErrorContains(t, reports[0].Err, "panic: index out of range")
	require.Contains(t, reports[0].Err.Next, "report it")
}

// Nothing is made for what is small, or the same; and none at all, if so wished.
func TestNoPatches(t *testing.T) {
	w := newWorld(t)
	w.publish("stable", 0, PatchPolicy{})
	_, reports := w.publish("stable", 1, PatchPolicy{From: -1})
	require.Empty(t, reports)
	same := func(nr *NewRelease) { nr.Artifacts = w.release("x", edition(1)).Artifacts }
	_, reports = w.publish("stable", 2, PatchPolicy{}, same)
	require.Equal(t, []string{version(0)}, versionsOf(reports), "1.1.0 is the same: there is nothing to download")
	small := func(nr *NewRelease) { nr.Artifacts = w.release("y", edition(1)[:60<<10]).Artifacts }
	_, reports = w.publish("stable", 3, PatchPolicy{}, small)
	require.Empty(t, reports)
}

// Several releases in one commit are bases of each other before they are in the store.
func TestPatchesOfOneCommit(t *testing.T) {
	w := newWorld(t)
	r := w.open()
	for n := range 3 {
		_, err := r.Release(t.Context(), "notes", "stable", w.release(version(n), edition(n)))
		require.NoError(t, err)
	}
	require.Equal(t, []string{version(0), version(1), version(0)}, versionsOf(r.PatchReports()))
	w.commit(r)
	require.Empty(t, r.PatchReports())
	require.Equal(t, 1, w.leads(w.list("stable", 2), 0, 2))
	w.mustVerify()
}

// A release that is run again changes nothing, and puts back what was lost.
func TestPatchesAgain(t *testing.T) {
	w := newWorld(t)
	for n := range 4 {
		w.publish("stable", n, PatchPolicy{From: 2})
	}
	rel, err := w.open().entry("notes", "stable", version(3))
	require.NoError(t, err)
	list := w.list("stable", 3)
	before := w.tree()
	again := func() ([]PatchReport, []string) {
		r := w.with(PatchPolicy{From: 2})
		there, err := r.Release(t.Context(), "notes", "stable", w.release(version(3), edition(3)))
		require.NoError(t, err)
		require.Equal(t, rel.Patches, there.Patches)
		reports, changes := slices.Clone(r.PatchReports()), r.Changes()
		w.commit(r)
		return reports, changes
	}
	reports, changes := again()
	require.Empty(t, reports)
	require.Empty(t, changes)
	require.Equal(t, before, w.tree())

	direct := list.Patches[:2]
	for name, spoil := range map[string]func(){
		"a lost patch":      func() { w.remove(blobName(direct[0].SHA256)) },
		"a damaged patch":   func() { w.flip(blobName(direct[1].SHA256)) },
		"the list":          func() { w.remove(blobName(rel.Patches.SHA256)) },
		"the list, damaged": func() { w.flip(blobName(rel.Patches.SHA256)) },
		"the list and one":  func() { w.remove(blobName(rel.Patches.SHA256)); w.remove(blobName(direct[1].SHA256)) },
		"the list and others": func() {
			w.remove(blobName(rel.Patches.SHA256))
			w.flip(blobName(direct[0].SHA256))
			w.flip(blobName(direct[1].SHA256))
		},
	} {
		spoil()
		report, err := Verify(t.Context(), w.store, w.root, w.now)
		var failed *VerifyError
		require.ErrorAs(t, err, &failed, name)
		require.Contains(t, report.Findings[0].Next, "publish the same release again", name)
		reports, changes = again()
		require.Empty(t, reports, name)
		require.Len(t, changes, 1, name)
		require.Contains(t, changes[0], "lost or damaged patches of notes 1.3.0")
		require.Equal(t, before, w.tree(), name)
	}

	// The list comes back as it was even if a patch of it is lost that only an earlier release makes.
	require.Len(t, list.Patches, 3)
	carried := blobName(list.Patches[2].SHA256)
	kept := w.blob(list.Patches[2].Blob)
	w.remove(blobName(rel.Patches.SHA256))
	w.remove(carried)
	_, changes = again()
	require.Len(t, changes, 1)
	require.NoError(t, os.WriteFile(w.path(carried), kept, 0o644))
	require.Equal(t, before, w.tree())

	// What cannot be made again is told, and nothing else changes.
	w.remove(blobName(direct[0].SHA256))
	r := w.open()
	_, err = r.Withdraw("notes", "stable", version(2), "bad", "")
	require.NoError(t, err)
	w.commit(r)
	reports, changes = again()
	require.Empty(t, changes)
	require.Len(t, reports, 1)
	require.ErrorContains(t, reports[0].Err, "cannot be made again as it was")
}

// tree is the content of all blobs.
func (w *world) tree() map[string]string {
	w.t.Helper()
	names, err := w.store.List(w.t.Context(), "")
	require.NoError(w.t, err)
	all := map[string]string{}
	for _, name := range names {
		data, err := os.ReadFile(w.path(name))
		require.NoError(w.t, err)
		all[name] = digestOf(string(data))
	}
	return all
}

// A list that was carried over from leads on only if its patches are there.
func TestPatchesCarriedOnlyIfThere(t *testing.T) {
	w := newWorld(t)
	for n := range 3 {
		w.publish("stable", n, PatchPolicy{From: 1})
	}
	lost := w.list("stable", 1).Patches[0]
	w.remove(blobName(lost.SHA256))
	_, reports := w.publish("stable", 3, PatchPolicy{From: 1})
	require.Len(t, reports, 1)
	list := w.list("stable", 3)
	require.False(t, slices.ContainsFunc(list.Patches, func(p channel.Patch) bool { return p.SHA256 == lost.SHA256 }))
	require.Equal(t, 2, w.leads(list, 1, 3))
	require.Equal(t, -1, w.leads(list, 0, 3))

	w.flip(blobName(w.blobOfList("stable", 3)))
	_, reports = w.publish("stable", 4, PatchPolicy{From: 1})
	require.Len(t, reports, 2)
	require.ErrorContains(t, reports[1].Err, "the list of its patches cannot be read")
	require.Equal(t, 1, w.leads(w.list("stable", 4), 3, 4))
}

func (w *world) blobOfList(channelName string, n int) string {
	w.t.Helper()
	rel, err := w.open().entry("notes", channelName, version(n))
	require.NoError(w.t, err)
	return rel.Patches.SHA256
}

func TestVerifyFindsPatches(t *testing.T) {
	fresh := newWorld(t)
	for n := range 2 {
		fresh.publish("stable", n, PatchPolicy{})
	}
	patch := fresh.list("stable", 1).Patches[0]
	report := fresh.mustVerify()
	require.Equal(t, 4, report.Blobs, "two artifacts, a list, a patch")
	relist := func(w *world, change func(*channel.Patches)) {
		list := w.list("stable", 1)
		change(list)
		data, err := list.Encode()
		require.NoError(t, err)
		b := blobOf(data)
		_, err = w.store.Put(t.Context(), blobName(b.SHA256), bytes.NewReader(data), Always())
		require.NoError(t, err)
		r := w.open()
		_, err = r.edit("notes", "stable", version(1), func(rel *channel.Release) error { rel.Patches = &b; return nil }, "spoil %s %s in %s")
		require.NoError(t, err)
		w.commit(r)
	}
	for name, c := range map[string]struct {
		spoil    func(w *world)
		problem  string
		severity Severity
	}{
		"lost patch":      {func(w *world) { w.remove(blobName(patch.SHA256)) }, "is missing", Error},
		"damaged patch":   {func(w *world) { w.flip(blobName(patch.SHA256)) }, "has sha256", Error},
		"lost list":       {func(w *world) { w.remove(blobName(w.blobOfList("stable", 1))) }, "is missing", Error},
		"damaged list":    {func(w *world) { w.flip(blobName(w.blobOfList("stable", 1))) }, "has sha256", Error},
		"another version": {func(w *world) { relist(w, func(p *channel.Patches) { p.Version = "1.0.0" }) }, "is the list of patches of notes 1.0.0", Error},
		"no list":         {func(w *world) { relistAs(w, `{"v":1}`) }, "is no usable list of patches", Error},
		"astray":          {func(w *world) { relist(w, func(p *channel.Patches) { p.Patches[0].To = digestOf("x") }) }, "has a patch to sha256", Warning},
	} {
		t.Run(name, func(t *testing.T) {
			w := fresh.elsewhere(t)
			c.spoil(w)
			report, err := Verify(t.Context(), w.store, w.root, w.now)
			require.Equal(t, c.severity == Error, err != nil)
			require.Len(t, report.Findings, 1)
			require.Equal(t, c.severity, report.Findings[0].Severity)
			require.Contains(t, report.Findings[0].Problem, c.problem)
		})
	}
}

func relistAs(w *world, text string) {
	b := blobOf([]byte(text))
	_, err := w.store.Put(w.t.Context(), blobName(b.SHA256), strings.NewReader(text), Always())
	require.NoError(w.t, err)
	r := w.open()
	_, err = r.edit("notes", "stable", version(1), func(rel *channel.Release) error { rel.Patches = &b; return nil }, "spoil %s %s in %s")
	require.NoError(w.t, err)
	w.commit(r)
}

// The archive is read by no installation: lines there name no patches.
func TestArchivedWithoutPatches(t *testing.T) {
	w := newWorld(t)
	for n := range 3 {
		w.publish("stable", n, PatchPolicy{})
	}
	r := w.open()
	moved, err := r.Archive("notes", "stable", 1)
	require.NoError(t, err)
	require.Len(t, moved, 2)
	w.commit(r)
	rel, err := w.open().entry("notes", archiveChannel, version(1))
	require.NoError(t, err)
	require.Nil(t, rel.Patches)
	require.Equal(t, 1, w.leads(w.list("stable", 2), 0, 2), "what stays is as it was")
	w.mustVerify()
}

// A publisher who gives up in the middle has released nothing.
func TestPatchesCancelled(t *testing.T) {
	w := newWorld(t)
	w.publish("stable", 0, PatchPolicy{})
	before := w.tree()
	r := w.with(PatchPolicy{})
	ctx, cancel := context.WithCancel(t.Context())
	r.progress = func(_, _ int64, what string) {
		if strings.HasPrefix(what, "patch") {
			cancel()
		}
	}
	_, err := r.Release(ctx, "notes", "stable", w.release(version(1), edition(1)))
	require.ErrorIs(t, err, ctx.Err())
	require.Empty(t, r.Changes())
	require.Equal(t, before, w.tree())
}
