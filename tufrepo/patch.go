package tufrepo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/delta/diff"
)

// A PatchPolicy says which patches [Repo.Release] and [Repo.Promote] make. Of every field the zero value is the default.
//
// For each platform a patch is made from each of the last releases that the channel offers and that may be updated
// directly. Those releases' own patches are listed along with them where they are the cheapest way from older ones, in
// at most four steps. A full download below 64 KiB gets none: another request costs more.
type PatchPolicy struct {
	From       int           // from how many releases; 0: 5; negative: no patches at all
	MaxPercent int           // of the full download, above which a patch is left out; 0: 50, and no more than that: installations take none
	Time       time.Duration // to make and try one patch, after which it is left out; 0: 5 minutes
	Memory     int64         // bytes that making one may take; ways that would take more are not tried; 0: 4 GiB
	Apply      int64         // bytes that applying one may take; such ways are not taken; 0: 1 GiB
}

func (p PatchPolicy) withDefaults() PatchPolicy {
	return PatchPolicy{From: cmp.Or(p.From, 5), MaxPercent: min(cmp.Or(p.MaxPercent, 50), 50), Time: cmp.Or(p.Time, 5*time.Minute),
		Memory: cmp.Or(p.Memory, 4<<30), Apply: cmp.Or(p.Apply, 1<<30)}
}

// minPatched is the full download, in bytes, below which no patch is made.
const minPatched = 64 << 10

// A PatchReport is what came of one patch. Either Patch is set, which is listed, or Err, which says why it is not: no
// release fails for the lack of a patch, as installations take the full download instead.
type PatchReport struct {
	Product, Channel, Version string
	From                      string // version
	Platform                  channel.Platform
	Full                      int64 // bytes of the full download
	Patch                     *channel.Patch
	Reused                    bool // was made before, for another channel
	Err                       *PatchError
}

// ErrPatchTooLarge is the cause of a [PatchError] where a patch would have saved too little: nothing is wrong then.
var ErrPatchTooLarge = errors.New("saves too little")

type tooLargeError struct {
	length, full int64
	limit        int
}

func (e *tooLargeError) Error() string {
	return fmt.Sprintf("would be %d %% of the full download, and %d %% is the limit", (e.length*100+e.full-1)/e.full, e.limit)
}

func (e *tooLargeError) Is(target error) bool { return target == ErrPatchTooLarge }

// A PatchError says why a patch was left out.
type PatchError struct {
	Err  error
	Next string // what to do; "": nothing
}

func (e *PatchError) Error() string { return e.Err.Error() }
func (e *PatchError) Unwrap() error { return e.Err }

// A Hindrance is something about a release that makes its patches larger than they need be.
type Hindrance struct {
	Product, Version string
	Platform         channel.Platform
	From             string // the version that it was compared with
	diff.Hindrance
}

// PatchReports says what came of the patches of the releases edited since the repository was opened or last committed.
func (r *Repo) PatchReports() []PatchReport { return r.patched }

// Hindrances says what makes the patches of the releases edited since then large.
func (r *Repo) Hindrances() []Hindrance { return r.hinders }

// addPatches makes the patches that lead to rel, and has rel name them. m is its manifest; sources are files on this
// machine, by SHA-256. The error is the context's only.
func (r *Repo) addPatches(ctx context.Context, product, channelName string, rel *channel.Release, m *channel.Manifest, sources map[string]pendingBlob) error {
	w := r.newPatcher(product, channelName, *rel, m, sources)
	w.learn(ctx)
	data, err := w.run(ctx)
	if err != nil || data == nil {
		return err
	}
	blob := blobOf(data)
	rel.Patches = &blob
	r.blobs[blob.SHA256] = pendingBlob{data: data, length: blob.Length}
	for sum, patch := range w.made {
		r.blobs[sum] = pendingBlob{data: patch, length: int64(len(patch))}
	}
	return nil
}

// A patcher makes the patches of one release.
type patcher struct {
	r                    *Repo
	product, channelName string
	rel                  channel.Release
	manifest             *channel.Manifest
	sources              map[string]pendingBlob
	policy               PatchPolicy
	again                bool // to put back what was listed before, as it was

	bases []*patchBase
	known map[[2]string]channel.Patch // of the same release in other channels, by from and to
	list  []channel.Patch
	age   map[string]int64 // where they start, the Seq of the last release that has it
	made  map[string][]byte

	next     *diff.Content // of the artifact at hand
	compared bool          // it was, to find hindrances
}

// A patchBase is a release to make patches from.
type patchBase struct {
	rel      channel.Release
	manifest *channel.Manifest // nil: cannot be read
	err      error
}

func (r *Repo) newPatcher(product, channelName string, rel channel.Release, m *channel.Manifest, sources map[string]pendingBlob) *patcher {
	return &patcher{r: r, product: product, channelName: channelName, rel: rel, manifest: m, sources: sources, policy: r.policy.withDefaults(),
		known: map[[2]string]channel.Patch{}, made: map[string][]byte{}, age: map[string]int64{}}
}

// run makes the list; nil if it would be empty. The error is the context's, or says that the repository cannot be read.
func (w *patcher) run(ctx context.Context) ([]byte, error) {
	if w.policy.From < 0 {
		return nil, nil
	}
	if err := w.findBases(ctx); err != nil {
		return nil, err
	}
	for i := range w.manifest.Artifacts {
		if err := w.artifact(ctx, &w.manifest.Artifacts[i]); err != nil {
			return nil, err
		}
	}
	made := len(w.list)
	if err := w.carry(ctx); err != nil {
		return nil, err
	}
	w.fit(made)
	if len(w.list) == 0 {
		return nil, nil
	}
	list := &channel.Patches{V: channel.FormatVersion, Product: w.product, Version: w.rel.Version, Patches: w.list}
	data, err := list.Encode()
	if err != nil {
		w.drop(0, err)
		return nil, nil
	}
	return data, nil
}

// findBases picks the last releases that the channel offered before this one, newest first.
func (w *patcher) findBases(ctx context.Context) error {
	list, err := w.r.Releases(w.product, w.channelName)
	if err != nil {
		return err
	}
	if err := w.rel.Validate(); err != nil {
		return err
	}
	for i := len(list) - 1; i >= 0 && len(w.bases) < w.policy.From; i-- {
		if !w.updatesFrom(list[i]) {
			continue
		}
		m, err := w.r.Manifest(ctx, w.product, w.channelName, list[i].Version)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		w.bases = append(w.bases, &patchBase{list[i], m, err})
	}
	return nil
}

// updatesFrom reports whether an installation of old may be updated to the release directly.
func (w *patcher) updatesFrom(old channel.Release) bool {
	if old.Defect() != nil || old.State != "" && old.State != channel.Offered || old.Seq >= w.rel.Seq || !old.Semver().LessThan(w.rel.Semver()) {
		return false
	}
	if w.rel.From == "" {
		return true
	}
	from, err := channel.ParseConstraint(w.rel.From)
	return err == nil && from.Check(old.Semver())
}

// artifact makes the patches to one artifact.
func (w *patcher) artifact(ctx context.Context, a *channel.Artifact) error {
	defer func() {
		if w.next != nil {
			_ = w.next.Close()
			w.next = nil
		}
		w.compared = false
	}()
	if a.Length < minPatched {
		return nil
	}
	to := channel.ContentDigest(a.Files)
	for _, base := range w.bases {
		report := PatchReport{Product: w.product, Channel: w.channelName, Version: w.rel.Version, From: base.rel.Version, Platform: a.Platform, Full: a.Length}
		old, err := base.artifact(a.Platform)
		if err == nil {
			if old == nil {
				continue
			}
			from := channel.ContentDigest(old.Files)
			if from == to || slices.ContainsFunc(w.list, func(p channel.Patch) bool { return p.From == from && p.To == to }) {
				continue // nothing to download at all, or nothing else
			}
			report.Patch, report.Reused, err = w.patch(ctx, base, old, a, from, to)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			report.Err = w.explain(err, base, a)
		} else {
			w.list = append(w.list, *report.Patch)
			w.age[report.Patch.From] = max(w.age[report.Patch.From], base.rel.Seq)
		}
		w.r.patched = append(w.r.patched, report)
	}
	return nil
}

// artifact returns what a release has for exactly the platform; nil if that is nothing.
func (b *patchBase) artifact(p channel.Platform) (*channel.Artifact, error) {
	if b.err != nil {
		return nil, b.err
	}
	p.MinOS = ""
	for i := range b.manifest.Artifacts {
		other := b.manifest.Artifacts[i].Platform
		if other.MinOS = ""; other == p {
			return &b.manifest.Artifacts[i], nil
		}
	}
	return nil, nil
}

// patch makes one patch, or finds it made before.
func (w *patcher) patch(ctx context.Context, base *patchBase, old, next *channel.Artifact, from, to string) (*channel.Patch, bool, error) {
	if p, ok := w.known[[2]string{from, to}]; ok && w.small(p.Length, next) && p.Memory <= w.policy.Apply {
		return &p, true, nil
	}
	limited, cancel := context.WithTimeoutCause(ctx, w.policy.Time, errPatchTime)
	defer cancel()
	what := fmt.Sprintf("patch from %s for %s", base.rel.Version, next.Platform)
	w.r.progress(0, next.Length, what)
	made, err := w.make(limited, base, old, next)
	w.r.progress(next.Length, next.Length, what)
	if err != nil {
		return nil, false, err
	}
	p := &channel.Patch{From: from, To: to, Format: made.Format, Blob: blobOf(made.Data), Memory: made.Memory}
	if p.Format != channel.Tree {
		p.ToLength = next.Program().Length // all of its files are this one
	}
	if program := old.Program().SHA256; program != from {
		p.Program = program
	}
	if !w.small(p.Length, next) {
		return nil, false, &tooLargeError{p.Length, next.Length, w.policy.MaxPercent}
	}
	w.made[p.SHA256] = made.Data
	return p, false, nil
}

func (w *patcher) small(length int64, next *channel.Artifact) bool {
	return length*100 <= next.Length*int64(w.policy.MaxPercent)
}

var errPatchTime = errors.New("took longer than is allowed")

func (w *patcher) make(ctx context.Context, base *patchBase, old, next *channel.Artifact) (_ *diff.Patch, err error) {
	defer caught(&err)
	if w.next == nil {
		content, err := w.unpack(ctx, next)
		if err != nil {
			return nil, fmt.Errorf("the new artifact %w", err)
		}
		w.next = content
	}
	before, err := w.unpack(ctx, old)
	if err != nil {
		return nil, fmt.Errorf("the artifact of %s %w", base.rel.Version, err)
	}
	defer func() { _ = before.Close() }()
	if !w.compared {
		w.compared = true
		w.hindrances(before, base, next.Platform)
	}
	return diff.Create(ctx, before, w.next, diff.Limits{Memory: w.policy.Memory, Apply: w.policy.Apply})
}

func (w *patcher) hindrances(before *diff.Content, base *patchBase, p channel.Platform) {
	var ignored error // they are advice
	defer caught(&ignored)
	for _, h := range diff.Hindrances(before, w.next) {
		w.r.hinders = append(w.r.hinders, Hindrance{w.product, w.rel.Version, p, base.rel.Version, h})
	}
}

// caught makes a panic the error of the function that defers it. Programs of any kind are taken apart here, by code that was
// not written for hostile ones, and no release fails for that.
func caught(err *error) {
	if p := recover(); p != nil {
		*err = &panicError{p}
	}
}

type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprintf("cannot be made: panic: %v", e.value) }

// explain says what to do about a patch that was left out.
func (w *patcher) explain(err error, base *patchBase, a *channel.Artifact) *PatchError {
	var limit *diff.LimitError
	var lost *lostBlobError
	var panicked *panicError
	switch {
	case errors.Is(err, ErrPatchTooLarge):
		return &PatchError{err, ""}
	case errors.Is(err, errPatchTime) || errors.Is(err, context.DeadlineExceeded):
		return &PatchError{fmt.Errorf("%w (%s)", errPatchTime, w.policy.Time), "allow more time, or run the release on a faster machine"}
	case errors.As(err, &panicked):
		return &PatchError{err, fmt.Sprintf("report it, with the artifacts for %s; installations download it whole meanwhile", a.Platform)}
	case errors.As(err, &limit):
		return &PatchError{err, "allow more memory"}
	case errors.As(err, &lost):
		return &PatchError{err, fmt.Sprintf("release %s again, with the same bytes, to put it back", base.rel.Version)}
	}
	return &PatchError{err, fmt.Sprintf("look at the artifact for %s; installations download it whole meanwhile", a.Platform)}
}
