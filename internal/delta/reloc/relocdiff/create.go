// Package relocdiff makes patches of format reloc/1, which package reloc applies.
package relocdiff

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"math/bits"
	"runtime"
	"slices"

	"github.com/andybalholm/brotli"

	"github.com/fairlead-dev/fairlead/internal/delta/reloc"
)

// MaxSize is the size, in bytes, of the largest files that patches are made for.
const MaxSize = math.MaxInt32 - 1

// A SizeError says that a file is larger than MaxSize.
type SizeError struct{ Size int }

func (e *SizeError) Error() string {
	return fmt.Sprintf("a file of %d bytes is larger than %d: no reloc/1 patch is made for it", e.Size, MaxSize)
}

// Create makes a patch that leads from base to next, and tells how many bytes of memory applying it takes at most. The same input
// gives the same patch. While it runs, base and next are changed; then they are as before. It takes about 15 times the size of the
// larger file in memory. The error is a [*SizeError] or the cause of ctx.
func Create(ctx context.Context, base, next []byte) (patch []byte, memory int64, err error) {
	if n := max(len(base), len(next)); n > MaxSize {
		return nil, 0, &SizeError{n}
	}
	d := newDiff(base, next)
	patch, memory, err = d.make(ctx)
	d.oldImage.restore()
	d.nextImage.restore()
	if err == nil && d.isImage() && d.hits*2 < d.total { // two programs that have little in common, or none that we know
		plain := newBytesDiff(base, next)
		other, needs, err := plain.make(ctx)
		if err != nil {
			return nil, 0, err
		}
		if len(other) < len(patch) {
			return other, needs, nil
		}
	}
	return patch, memory, err
}

func (d *diff) make(ctx context.Context) (patch []byte, memory int64, err error) {
	if err := d.align(ctx); err != nil {
		return nil, 0, err
	}
	d.vote()
	if err := d.predict(ctx); err != nil {
		return nil, 0, err
	}
	streams := d.streams()
	patch, err = encode(ctx, streams)
	return patch, d.memory(streams), err
}

// newBytesDiff takes files as what they are to everybody: bytes.
func newBytesDiff(old, next []byte) *diff {
	return &diff{old: old, next: next, plan: bytesPlan(old, next), refs: new(reloc.Refs), nextRefs: new(reloc.Refs)}
}

func bytesPlan(old, next []byte) *reloc.Plan {
	return &reloc.Plan{OldSize: uint64(len(old)), NewSize: uint64(len(next)), OldCRC: crc32.ChecksumIEEE(old)}
}

// A diff is one patch being made. The images have no page hashes.
type diff struct {
	old, next []byte
	oldImage  *image
	nextImage *image
	plan      *reloc.Plan
	back      *reloc.Plan // the other way round: its old image is next
	refs      *reloc.Refs // of old
	nextRefs  *reloc.Refs
	blocks    []reloc.Block
	runs      []reloc.Run
	where     *reloc.Map

	sparse
	extra       []byte
	total, hits int // references in blocks, and those predicted
}

// newDiff may change both files: the images' restore undoes it.
func newDiff(old, next []byte) *diff {
	d := newBytesDiff(old, next)
	from, to := parseImage(old), parseImage(next)
	if from == nil || to == nil || from.arch != to.arch {
		from.restore()
		to.restore()
		return d
	}
	plan, back := pairImages(from, to), pairImages(to, from)
	plan.OldCRC = d.plan.OldCRC
	refs, err := plan.Refs(old)
	nextRefs, err2 := back.Refs(next)
	if err != nil || err2 != nil { // a damaged program: bytes
		from.restore()
		to.restore()
		return d
	}
	d.oldImage, d.nextImage, d.plan, d.back, d.refs, d.nextRefs = from, to, plan, back, refs, nextRefs
	return d
}

// pairImages makes the plan that leads from one image to another.
func pairImages(old, next *image) *reloc.Plan {
	p := &reloc.Plan{OldSize: uint64(len(old.b)), NewSize: uint64(len(next.b)), Lo: old.plan.Lo, Hi: old.plan.Hi, Blanks: old.blanks(), Hashes: next.hashes, FindTabs: next.findTabs}
	used := map[int]bool{}
	for i, name := range old.names {
		s := reloc.Segment{Old: old.segments[i]}
		for j, other := range next.names {
			if other == name && !used[j] {
				s.New, used[j] = next.segments[j], true
				break
			}
		}
		p.Segments = append(p.Segments, s)
	}
	for j := range next.names {
		if !used[j] {
			p.Segments = append(p.Segments, reloc.Segment{New: next.segments[j]})
		}
	}
	var index [bases]uint64
	a, b := old.baseAddrs(), next.baseAddrs()
	for k := range a {
		if a[k] != 0 && b[k] != 0 {
			p.Bases = append(p.Bases, reloc.Base{Old: a[k], New: b[k]})
			index[k] = uint64(len(p.Bases))
		}
	}
	p.Regions = old.regions(index)
	return p
}

func (d *diff) isImage() bool { return len(d.plan.Regions) > 0 }

func (d *diff) align(ctx context.Context) (err error) {
	if !d.isImage() {
		d.blocks, err = newMatcher(d.old).match(ctx, d.next)
		d.where = reloc.NewMap(d.plan, d.blocks)
		return err
	}
	// First by what references name, as far as that can be told from one image alone. Then by where it has gone, as the first
	// alignment tells it.
	if err := d.alignBy(ctx, nil, nil); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r := d.reversed()
	r.vote()
	return d.alignBy(ctx, func(addr uint64) uint64 { return addr }, r.where.Project)
}

// alignBy aligns the images with their references masked. The functions tell an address in a space that both have in common.
func (d *diff) alignBy(ctx context.Context, old, next func(addr uint64) uint64) (err error) {
	masked := d.oldImage.masked(d.plan, d.refs, old)
	runtime.GC() // what came before this step, and what it takes, is several times the size of the files
	m := newMatcher(masked)
	d.blocks, err = m.match(ctx, d.nextImage.masked(d.back, d.nextRefs, next))
	d.where = reloc.NewMap(d.plan, d.blocks)
	runtime.GC()
	return err
}

// reversed is the diff from next to old, with the same blocks.
func (d *diff) reversed() *diff {
	r := &diff{old: d.next, next: d.old, oldImage: d.nextImage, nextImage: d.oldImage, plan: d.back, back: d.plan, refs: d.nextRefs, nextRefs: d.refs}
	for _, b := range d.blocks {
		r.blocks = append(r.blocks, reloc.Block{Old: b.New, New: b.Old, Size: b.Size})
	}
	r.where = reloc.NewMap(r.plan, r.blocks)
	return r
}

// each visits every reference that is copied in a block, with its offset in the new file.
func (d *diff) each(visit func(r reloc.Ref, off uint64)) {
	for _, b := range d.blocks {
		i, _ := slices.BinarySearchFunc(d.refs.List, b.Old, func(r reloc.Ref, off uint64) int { return cmp.Compare(uint64(r.Off), off) })
		for ; i < len(d.refs.List); i++ {
			r := d.refs.List[i]
			if uint64(r.Off)+r.Form().Width() > b.Old+b.Size {
				break
			}
			visit(r, b.New+uint64(r.Off)-b.Old)
		}
	}
}

type ballot struct{ from, to uint64 }

// vote tells, of each target, where the new file's references say that it has gone, and makes runs where the blocks
// do not know it.
func (d *diff) vote() {
	n := 0
	d.each(func(reloc.Ref, uint64) { n++ })
	ballots := make([]ballot, 0, n)
	d.each(func(r reloc.Ref, off uint64) {
		if target, is, ok := d.plan.Vote(r, off, d.old, d.next); ok {
			ballots = append(ballots, ballot{target, is})
		}
	})
	slices.SortFunc(ballots, func(a, b ballot) int {
		if a.from != b.from {
			return cmp.Compare(a.from, b.from)
		}
		return cmp.Compare(a.to, b.to)
	})
	type seg struct {
		target, shift uint64
		gain          int
	}
	var segs []seg
	for i := 0; i < len(ballots); {
		from := ballots[i].from
		guess := d.where.Guess(from)
		best, most, forGuess := guess, 0, 0
		for i < len(ballots) && ballots[i].from == from {
			to, n := ballots[i].to, 0
			for i < len(ballots) && ballots[i] == (ballot{from, to}) {
				i, n = i+1, n+1
			}
			if to == guess {
				forGuess = n
			}
			if n > most || n == most && to == guess {
				best, most = to, n
			}
		}
		shift := best - guess
		if s := int64(shift); s > 1<<27 || s < -(1<<27) {
			shift = 0
		}
		if len(segs) > 0 && segs[len(segs)-1].shift == shift {
			segs[len(segs)-1].gain += most
			continue
		}
		segs = append(segs, seg{from, shift, most - forGuess})
	}
	shift := uint64(0)
	for _, s := range segs {
		if s.shift == shift || s.gain < 2 && s.shift != 0 {
			continue
		}
		d.runs = append(d.runs, reloc.Run{Target: s.target, Shift: s.shift})
		shift = s.shift
	}
	d.where.SetRuns(d.runs)
}

// predict makes the streams of gaps, literals and extra bytes.
func (d *diff) predict(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	predicted := make([]byte, len(d.next)) // of blocks only
	for _, b := range d.blocks {
		copy(predicted[b.New:], d.old[b.Old:b.Old+b.Size])
	}
	d.each(func(r reloc.Ref, off uint64) {
		part := predicted[off:]
		d.plan.Move(part, r, off, d.where, d.old, d.refs)
		d.total++
		if w := r.Form().Width(); bytes.Equal(part[:w], d.next[off:off+w]) {
			d.hits++
		}
	})
	copied := uint64(0)
	for _, b := range d.blocks {
		copied += b.Size
	}
	diff := make([]byte, 0, copied)
	at := uint64(0)
	for _, b := range d.blocks {
		d.extra = append(d.extra, d.next[at:b.New]...)
		for i := b.New; i < b.New+b.Size; i++ {
			diff = append(diff, d.next[i]-predicted[i])
		}
		at = b.New + b.Size
	}
	d.extra = append(d.extra, d.next[at:]...)
	for i, enough := range []int{3, 6, 12, 24} {
		s, err := newSparse(ctx, diff, enough)
		if err != nil {
			return err
		}
		if i == 0 || s.size < d.size {
			d.sparse = s
		}
	}
	return nil
}

// sparse tells where bytes are not zero, and which they are then.
type sparse struct {
	same, wrong, literals []byte
	size                  int // compressed
}

// newSparse makes one in which fewer zeros than enough are literals, too.
func newSparse(ctx context.Context, diff []byte, enough int) (s sparse, err error) {
	for i := 0; i < len(diff); {
		j := i
		for j < len(diff) && diff[j] == 0 {
			j++
		}
		end, zeros := j, 0
		for k := j; k < len(diff) && zeros < enough; k++ {
			zeros++
			if diff[k] != 0 {
				end, zeros = k+1, 0
			}
		}
		s.same = binary.AppendUvarint(s.same, uint64(j-i))
		s.wrong = binary.AppendUvarint(s.wrong, uint64(end-j))
		s.literals = append(s.literals, diff[j:end]...)
		i = end
	}
	for _, b := range [][]byte{s.same, s.wrong, s.literals} {
		packed, err := compress(ctx, b, 6)
		if err != nil {
			return s, err
		}
		s.size += len(packed)
	}
	return s, nil
}

func (d *diff) streams() (all [reloc.Streams][]byte) {
	all[reloc.PlanStream] = reloc.AppendPlan(nil, d.plan)
	all[reloc.NewStream] = binary.AppendUvarint(nil, uint64(len(d.blocks)))
	var old, at uint64
	for _, x := range d.blocks {
		all[reloc.NewStream] = binary.AppendUvarint(all[reloc.NewStream], x.New-at)
		all[reloc.SeekStream] = binary.AppendVarint(all[reloc.SeekStream], int64(x.Old-old))
		all[reloc.SizeStream] = binary.AppendUvarint(all[reloc.SizeStream], x.Size)
		old, at = x.Old+x.Size, x.New+x.Size
	}
	all[reloc.TargetStream] = binary.AppendUvarint(nil, uint64(len(d.runs)))
	var last reloc.Run
	for _, r := range d.runs {
		all[reloc.TargetStream] = binary.AppendUvarint(all[reloc.TargetStream], r.Target-last.Target)
		all[reloc.ShiftStream] = binary.AppendVarint(all[reloc.ShiftStream], int64(r.Shift-last.Shift))
		last = r
	}
	all[reloc.SameStream], all[reloc.WrongStream], all[reloc.LiteralStream] = d.same, d.wrong, d.literals
	all[reloc.ExtraStream] = d.extra
	return all
}

func encode(ctx context.Context, streams [reloc.Streams][]byte) ([]byte, error) {
	patch := []byte(reloc.Magic)
	var packed [][]byte
	for _, s := range streams {
		c, err := compress(ctx, s, brotli.BestCompression)
		if err != nil {
			return nil, err
		}
		packed = append(packed, c)
		patch = binary.AppendUvarint(patch, uint64(len(c)))
	}
	for _, c := range packed {
		patch = append(patch, c...)
	}
	return patch, nil
}

// compress looks at ctx before it begins.
func compress(ctx context.Context, b []byte, quality int) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var buf bytes.Buffer
	window := max(10, min(24, bits.Len(uint(len(b))))) // the encoder takes memory for all of it
	w := brotli.NewWriterOptions(&buf, brotli.WriterOptions{Quality: quality, LGWin: window})
	_, _ = w.Write(b) // to memory: no error
	_ = w.Close()
	return buf.Bytes(), nil
}

// memory is what applying takes: the image, its references, what is filled in, blocks and runs, and the windows of the streams.
func (d *diff) memory(streams [reloc.Streams][]byte) int64 {
	n := uint64(len(d.blocks))*reloc.BlockBytes + uint64(len(d.runs))*reloc.RunBytes + 4<<20
	if d.isImage() {
		n += uint64(len(d.old)) + d.refs.Bytes
	}
	for _, f := range d.plan.FindTabs {
		n += f.Bytes(d.plan.NewSize)
	}
	for _, h := range d.plan.Hashes {
		n += h.Bytes()
	}
	for _, s := range streams {
		n += uint64(min(len(s)*2, 1<<24))
	}
	return int64(n)
}
