package channel

import (
	"cmp"
	"slices"
)

// What a way by patches may be: each of its patches costs a request and a pass over the files, as much as this many bytes
// of download; a long way is seldom shorter than it looks; and to save less than half is not worth what can go wrong.
const (
	hopCost  = 64 << 10
	maxSteps = 4
)

// A RouteQuery is what the way from one content to another depends on.
type RouteQuery struct {
	// Installed is the [ContentDigest] of what is installed. "": only Program is known.
	Installed string
	// Program is the SHA-256 of the installed program, where nothing else of an artifact was kept.
	Program string
	Wanted  string          // the ContentDigest of what is to be installed
	Full    int64           // bytes that are to be downloaded without patches
	Formats []PatchFormat   // those that can be applied
	Memory  int64           // bytes that applying a patch may take
	Without map[string]bool // patches, by SHA256, that are not to be used
}

// Route finds the cheapest way to the wanted content: a patch that leads there, or a chain of at most four. found is
// false if there is none, or none that is worth it: then the artifact is to be downloaded as a whole. A way of no steps
// means that the content is installed already.
//
// The cost of a way is what is downloaded, and 64 KiB for each step. It is worth it if it is below that of the whole
// artifact, and the download is at most half of that. Of two ways at the same cost the one of fewer steps is taken, and
// of those the one whose patches have the lower SHA-256s. So the result does not depend on the order of the list.
func (p *Patches) Route(q RouteQuery) (steps []Patch, found bool) {
	if q.Installed != "" && q.Installed == q.Wanted {
		return nil, true
	}
	if p == nil {
		return nil, false
	}
	usable := slices.DeleteFunc(slices.Clone(p.Patches), func(e Patch) bool { return !q.mayUse(e) })
	ways := map[string]way{} // the best of so many steps, by where it leads
	var best way
	for hop := range maxSteps {
		next := map[string]way{}
		for _, e := range usable {
			from, reached := ways[e.From]
			if hop == 0 {
				reached = q.begins(e)
			}
			if !reached {
				continue
			}
			w := from.and(e)
			if old, known := next[e.To]; !known || w.compare(old) < 0 {
				next[e.To] = w
			}
		}
		ways = next
		if w, ok := ways[q.Wanted]; ok && w.bytes <= q.Full/2 && w.cost() < q.Full && (best.steps == nil || w.cost() < best.cost()) {
			best = w
		}
	}
	return best.steps, best.steps != nil
}

func (q RouteQuery) mayUse(e Patch) bool {
	applicable := slices.Contains(q.Formats, e.Format) && e.Memory <= q.Memory && !q.Without[e.SHA256]
	return applicable && (e.Format == Tree || e.ToLength > 0 || e.To == q.Wanted)
}

// begins reports whether a patch can be applied to what is installed.
func (q RouteQuery) begins(e Patch) bool {
	if q.Installed != "" {
		return e.From == q.Installed
	}
	return q.Program != "" && cmp.Or(e.Program, e.From) == q.Program
}

// way is a beginning of a route.
type way struct {
	steps []Patch
	bytes int64
}

func (w way) cost() int64 { return w.bytes + hopCost*int64(len(w.steps)) }

func (w way) and(e Patch) way {
	return way{append(slices.Clip(w.steps), e), w.bytes + e.Length} // no overflow: four lengths below 1<<53
}

// compare puts ways of equally many steps in order.
func (w way) compare(other way) int {
	return cmp.Or(cmp.Compare(w.bytes, other.bytes), slices.CompareFunc(w.steps, other.steps, func(a, b Patch) int {
		return cmp.Or(cmp.Compare(a.SHA256, b.SHA256), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To), cmp.Compare(a.Format, b.Format))
	}))
}
