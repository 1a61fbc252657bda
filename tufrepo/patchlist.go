package tufrepo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/fairlead-dev/fairlead/channel"
)

// maxCarried bounds the patches of earlier lists in one list.
const maxCarried = 256

// learn looks up the patches of the same release in other channels, which need not be made again.
func (w *patcher) learn(ctx context.Context) {
	for _, name := range w.r.Channels(w.product) {
		rel, err := w.r.entry(w.product, name, w.rel.Version)
		if err != nil || name == w.channelName || rel.Patches == nil || rel.Manifest != w.rel.Manifest {
			continue
		}
		list, err := w.r.patchesOf(ctx, rel)
		if err != nil {
			continue // as good as none; Verify complains of it
		}
		for _, p := range list.Patches {
			if w.r.stands(ctx, p.Blob) {
				w.known[[2]string{p.From, p.To}] = p
			}
		}
	}
}

// carry adds patches that the lists of the releases before have, where they are the cheapest way from an older release.
func (w *patcher) carry(ctx context.Context) error {
	edges := map[[2]string]channel.Patch{}
	for _, base := range w.bases {
		if base.rel.Patches == nil {
			continue
		}
		list, err := w.r.patchesOf(ctx, base.rel)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			w.r.patched = append(w.r.patched, PatchReport{Product: w.product, Channel: w.channelName, Version: w.rel.Version, From: base.rel.Version,
				Err: &PatchError{fmt.Errorf("the list of its patches %w", err), "older releases take the full download; restore the file from a copy"}})
			continue
		}
		for _, p := range list.Patches {
			key := [2]string{p.From, p.To}
			if known, ok := edges[key]; (!ok || p.Length < known.Length) && p.Memory <= w.policy.Apply && (w.again || w.r.stands(ctx, p.Blob)) {
				edges[key] = p
			}
		}
	}
	w.list = append(w.list, w.cheapest(edges)...)
	return nil
}

// cheapest returns those of edges that are part of the way that clients would take from some older release, the ways that
// are the least to download first.
func (w *patcher) cheapest(edges map[[2]string]channel.Patch) []channel.Patch {
	listed := map[[2]string]bool{}
	for _, p := range w.list {
		edges[[2]string{p.From, p.To}] = p
		listed[[2]string{p.From, p.To}] = true
	}
	var kept []channel.Patch
	for _, steps := range w.ways(edges) {
		for _, p := range steps {
			if key := [2]string{p.From, p.To}; !listed[key] && len(kept) < maxCarried {
				listed[key] = true
				kept = append(kept, p)
			}
		}
	}
	return kept
}

// fit leaves out what is too much: of what was carried over the longest ways first, then of what was made the oldest.
func (w *patcher) fit(made int) {
	if len(w.list) <= channel.MaxListed {
		return
	}
	if made > channel.MaxListed {
		slices.SortStableFunc(w.list[:made], func(a, b channel.Patch) int { return cmp.Compare(w.age[b.From], w.age[a.From]) })
	}
	w.drop(channel.MaxListed, fmt.Errorf("a list has at most %d patches", channel.MaxListed))
}

// drop leaves out what stands behind the first n, and reports it.
func (w *patcher) drop(n int, why error) {
	const next = "make patches from fewer releases"
	left := w.list[n:]
	w.list = w.list[:n]
	maps.DeleteFunc(w.made, func(sum string, _ []byte) bool {
		return !slices.ContainsFunc(w.list, func(p channel.Patch) bool { return p.SHA256 == sum })
	})
	carried := len(left)
	for i := range w.r.patched {
		r := &w.r.patched[i]
		same := r.Patch != nil && r.Product == w.product && r.Channel == w.channelName && r.Version == w.rel.Version
		if same && slices.Contains(left, *r.Patch) {
			r.Patch, r.Err = nil, &PatchError{why, next}
			carried--
		}
	}
	if carried > 0 {
		w.r.patched = append(w.r.patched, PatchReport{Product: w.product, Channel: w.channelName, Version: w.rel.Version,
			Err: &PatchError{fmt.Errorf("%d patches of earlier releases are left out: %w", carried, why), next}})
	}
}

// ways finds the way to each artifact from every content that edges start at.
func (w *patcher) ways(edges map[[2]string]channel.Patch) [][]channel.Patch {
	all := &channel.Patches{Patches: slices.Collect(maps.Values(edges))}
	starts := map[string]bool{}
	for _, p := range all.Patches {
		starts[p.From] = true
	}
	var ways [][]channel.Patch
	bytes := func(steps []channel.Patch) (n int64) {
		for _, p := range steps {
			n += p.Length
		}
		return n
	}
	for i := range w.manifest.Artifacts {
		a := &w.manifest.Artifacts[i]
		q := channel.RouteQuery{Wanted: channel.ContentDigest(a.Files), Full: a.Length, Memory: w.policy.Apply,
			Formats: []channel.PatchFormat{channel.ZstdPrefix, channel.Reloc, channel.Tree}}
		for _, q.Installed = range slices.Sorted(maps.Keys(starts)) {
			if steps, found := all.Route(q); found && len(steps) > 0 && w.small(bytes(steps), a) {
				ways = append(ways, steps)
			}
		}
	}
	slices.SortStableFunc(ways, func(a, b []channel.Patch) int {
		return cmp.Or(cmp.Compare(bytes(a), bytes(b)), cmp.Compare(a[0].SHA256, b[0].SHA256))
	})
	return ways
}

// restorePatches puts back those patches of a listed release that the store lost, or holds damaged, if they can be made
// again as they were. What is listed stays as it is.
func (r *Repo) restorePatches(ctx context.Context, product, channelName string, there channel.Release, m *channel.Manifest, sources map[string]pendingBlob) error {
	if there.Patches == nil {
		return nil
	}
	var lost []channel.Blob
	check := func(b channel.Blob) error {
		whole, err := r.holds(ctx, b.SHA256, b.Length)
		if err == nil && !whole && !slices.Contains(lost, b) {
			lost = append(lost, b)
		}
		return err
	}
	if err := check(*there.Patches); err != nil {
		return err
	}
	list, err := r.patchesOf(ctx, there)
	if err == nil {
		for _, p := range list.Patches {
			if err := check(p.Blob); err != nil {
				return err
			}
		}
	}
	if len(lost) == 0 {
		return nil
	}
	w := r.newPatcher(product, channelName, there, m, sources)
	w.again = true
	made, err := w.remake(ctx)
	if err != nil {
		return err
	}
	if list == nil { // so nobody knows which patches it had
		for sum, data := range made {
			if err := check(channel.Blob{SHA256: sum, Length: int64(len(data))}); err != nil {
				return err
			}
		}
	}
	r.putBack(w, lost, made)
	return nil
}

// remake makes the patches and the list of a listed release again, by SHA-256.
func (w *patcher) remake(ctx context.Context) (map[string][]byte, error) {
	before := w.r.patched
	again, err := w.run(ctx)
	w.r.patched = before // what is listed does not change
	if err != nil || again == nil {
		return w.made, err
	}
	w.made[blobOf(again).SHA256] = again
	return w.made, nil
}

func (r *Repo) putBack(w *patcher, lost []channel.Blob, made map[string][]byte) {
	restored := 0
	for _, b := range lost {
		if data, ok := made[b.SHA256]; ok {
			r.blobs[b.SHA256] = pendingBlob{data: data, length: b.Length, damaged: true}
			restored++
			continue
		}
		r.patched = append(r.patched, PatchReport{Product: w.product, Channel: w.channelName, Version: w.rel.Version,
			Err: &PatchError{&lostBlobError{blobName(b.SHA256), errors.New("is lost or damaged, and cannot be made again as it was")},
				"restore it from a copy; installations take the full download meanwhile"}})
	}
	if restored > 0 {
		r.edited("put back %d lost or damaged patches of %s %s", restored, w.product, w.rel.Version)
	}
}
