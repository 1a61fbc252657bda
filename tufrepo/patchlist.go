package tufrepo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/fairlead-dev/fairlead/channel"
)

const (
	maxSteps   = 4        // patches on the way from one release to another
	stepCost   = 64 << 10 // bytes that a client counts for each, as package update does
	maxCarried = 256      // patches of earlier lists in one list
)

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

// A way leads from some content to an artifact of the release.
type way struct {
	from  string
	steps []channel.Patch
	bytes int64
	full  int64 // of the artifact
}

func (w way) cost() int64 { return w.bytes + stepCost*int64(len(w.steps)) }

// cheapest returns those of edges that are part of the cheapest way from some content to an artifact, of ways that save
// enough.
func (w *patcher) cheapest(edges map[[2]string]channel.Patch) []channel.Patch {
	direct := map[[2]string]bool{}
	for _, p := range w.list {
		edges[[2]string{p.From, p.To}] = p
		direct[[2]string{p.From, p.To}] = true
	}
	var ways []way
	for _, best := range w.ways(edges) {
		if best.bytes*100 <= best.full*int64(w.policy.MaxPercent) && len(best.steps) > 0 {
			ways = append(ways, best)
		}
	}
	slices.SortFunc(ways, func(a, b way) int { return cmp.Or(cmp.Compare(a.cost(), b.cost()), cmp.Compare(a.from, b.from)) })
	var kept []channel.Patch
	for _, best := range ways {
		for _, p := range best.steps {
			if key := [2]string{p.From, p.To}; !direct[key] && len(kept) < maxCarried {
				direct[key] = true
				kept = append(kept, p)
			}
		}
	}
	return kept
}

// ways finds the cheapest way from every content that edges start at, in at most maxSteps (Bellman and Ford).
func (w *patcher) ways(edges map[[2]string]channel.Patch) map[string]way {
	best := map[string]way{}
	for i := range w.manifest.Artifacts {
		a := &w.manifest.Artifacts[i]
		to := channel.ContentDigest(a.Files)
		if known, ok := best[to]; !ok || a.Length < known.full {
			best[to] = way{from: to, full: a.Length}
		}
	}
	last := best
	for range maxSteps {
		next := map[string]way{}
		for _, p := range edges {
			rest, ok := last[p.To]
			if !ok {
				continue
			}
			longer := way{p.From, append([]channel.Patch{p}, rest.steps...), rest.bytes + p.Length, rest.full}
			if known, ok := next[p.From]; !ok || longer.cost() < known.cost() || longer.cost() == known.cost() && p.To < known.steps[0].To {
				next[p.From] = longer
			}
		}
		merged := map[string]way{}
		for from, known := range best {
			merged[from] = known
		}
		for from, found := range next {
			if known, ok := merged[from]; !ok || found.cost() < known.cost() {
				merged[from] = found
			}
		}
		best, last = merged, next
	}
	return best
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
	data, err := again.Encode()
	w.made[blobOf(data).SHA256] = data
	return w.made, err
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
