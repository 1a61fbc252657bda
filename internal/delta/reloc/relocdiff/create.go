// Package relocdiff makes patches of format reloc/1, which package reloc applies.
package relocdiff

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"slices"

	"github.com/andybalholm/brotli"

	"github.com/fairlead-dev/fairlead/internal/delta/reloc"
)

// Create makes a patch that leads from base to next, and tells how many bytes of memory applying it takes, about. The same input gives
// the same patch. It takes about 16 times the size of base in memory.
func Create(ctx context.Context, base, next []byte) (patch []byte, memory int64, err error) {
	d := newDiff(bytes.Clone(base), bytes.Clone(next))
	if err := d.align(ctx); err != nil {
		return nil, 0, err
	}
	d.vote()
	d.predict()
	patch = d.encode()
	return patch, d.memory(), nil
}

// A diff is one patch being made. The images have no page hashes.
type diff struct {
	old, next []byte
	oldImage  *image
	nextImage *image
	plan      *reloc.Plan
	back      *reloc.Plan // the other way round: its old image is next
	refs      []reloc.Ref // of old
	nextRefs  []reloc.Ref
	blocks    []reloc.Block
	runs      []reloc.Run
	where     *reloc.Map

	gaps, literals, extra []byte
	total, hits           int // references in blocks, and those predicted
}

func newDiff(old, next []byte) *diff {
	d := &diff{old: old, next: next}
	sum := crc32.ChecksumIEEE(old)
	d.plan = &reloc.Plan{OldSize: uint64(len(old)), NewSize: uint64(len(next)), OldCRC: sum}
	d.oldImage, d.nextImage = parseImage(old), parseImage(next)
	if d.oldImage == nil || d.nextImage == nil || d.oldImage.arch != d.nextImage.arch {
		return d
	}
	d.plan = pairImages(d.oldImage, d.nextImage)
	d.plan.OldCRC = sum
	d.back = pairImages(d.nextImage, d.oldImage)
	var err, err2 error
	d.refs, err = d.plan.Refs(old)
	d.nextRefs, err2 = d.back.Refs(next)
	if err != nil || err2 != nil { // a damaged program: bytes
		d.plan = &reloc.Plan{OldSize: uint64(len(old)), NewSize: uint64(len(next)), OldCRC: sum}
		d.refs, d.nextRefs = nil, nil
	}
	return d
}

// pairImages makes the plan that leads from one image to another.
func pairImages(old, next *image) *reloc.Plan {
	p := &reloc.Plan{OldSize: uint64(len(old.b)), NewSize: uint64(len(next.b)), Lo: old.plan.Lo, Hi: old.plan.Hi, Blanks: old.blanks, Hashes: next.hashes}
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
	a, b := d.old, d.next
	if d.isImage() {
		a, b = d.oldImage.masked(d.back, d.refs), d.nextImage.masked(d.plan, d.nextRefs)
	}
	d.blocks, err = match(ctx, a, b)
	d.where = reloc.NewMap(d.plan, d.blocks)
	return err
}

// each visits every reference that is copied in a block, with its offset in the new file.
func (d *diff) each(visit func(r reloc.Ref, off uint64)) {
	for _, b := range d.blocks {
		i, _ := slices.BinarySearchFunc(d.refs, b.Old, func(r reloc.Ref, off uint64) int {
			if uint64(r.Off) < off {
				return -1
			}
			return boolInt(uint64(r.Off) > off)
		})
		for ; i < len(d.refs); i++ {
			r := d.refs[i]
			if uint64(r.Off)+r.Form.Width() > b.Old+b.Size {
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
	var ballots []ballot
	d.each(func(r reloc.Ref, off uint64) {
		from, ok := d.back.NewAddr(uint64(r.Off))
		to, ok2 := d.plan.NewAddr(off)
		if !ok || !ok2 {
			return
		}
		var base reloc.Base
		if r.Form == reloc.Off32 || r.Form == reloc.Off32x4 {
			base = d.plan.Bases[r.Base]
		}
		ballots = append(ballots, ballot{r.Target(d.old[r.Off:], from, base.Old), r.Target(d.next[off:], to, base.New)})
	})
	slices.SortFunc(ballots, func(a, b ballot) int {
		switch {
		case a.from < b.from, a.from == b.from && a.to < b.to:
			return -1
		case a == b:
			return 0
		}
		return 1
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
func (d *diff) predict() {
	predicted := make([]byte, len(d.next)) // of blocks only
	for _, b := range d.blocks {
		copy(predicted[b.New:], d.old[b.Old:b.Old+b.Size])
	}
	d.each(func(r reloc.Ref, off uint64) {
		part := predicted[off:]
		d.plan.Move(part, r, off, d.where)
		d.total++
		if w := r.Form.Width(); bytes.Equal(part[:w], d.next[off:off+w]) {
			d.hits++
		}
	})
	var diff []byte
	at := uint64(0)
	for _, b := range d.blocks {
		d.extra = append(d.extra, d.next[at:b.New]...)
		for i := b.New; i < b.New+b.Size; i++ {
			diff = append(diff, d.next[i]-predicted[i])
		}
		at = b.New + b.Size
	}
	d.extra = append(d.extra, d.next[at:]...)
	d.sparse(diff)
}

// sparse tells where diff is not zero. Fewer zeros than fill a gap's description are literals, too.
func (d *diff) sparse(diff []byte) {
	const enough = 4
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
		d.gaps = binary.AppendUvarint(binary.AppendUvarint(d.gaps, uint64(j-i)), uint64(end-j))
		d.literals = append(d.literals, diff[j:end]...)
		i = end
	}
}

func (d *diff) control() []byte {
	b := binary.AppendUvarint(nil, uint64(len(d.blocks)))
	var old, at uint64
	for _, x := range d.blocks {
		b = binary.AppendUvarint(b, x.New-at)
		b = binary.AppendVarint(b, int64(x.Old-old))
		b = binary.AppendUvarint(b, x.Size)
		old, at = x.Old+x.Size, x.New+x.Size
	}
	return b
}

func (d *diff) runTable() []byte {
	b := binary.AppendUvarint(nil, uint64(len(d.runs)))
	var last reloc.Run
	for _, r := range d.runs {
		b = binary.AppendUvarint(b, r.Target-last.Target)
		b = binary.AppendVarint(b, int64(r.Shift-last.Shift))
		last = r
	}
	return b
}

func (d *diff) streams() [reloc.Streams][]byte {
	return [reloc.Streams][]byte{reloc.AppendPlan(nil, d.plan), d.control(), d.runTable(), d.gaps, d.literals, d.extra}
}

func (d *diff) encode() []byte {
	patch := []byte(reloc.Magic)
	var packed [][]byte
	for _, s := range d.streams() {
		c := compress(s)
		packed = append(packed, c)
		patch = binary.AppendUvarint(patch, uint64(len(c)))
	}
	for _, c := range packed {
		patch = append(patch, c...)
	}
	return patch
}

func compress(b []byte) []byte {
	var buf bytes.Buffer
	w := brotli.NewWriterOptions(&buf, brotli.WriterOptions{Quality: brotli.BestCompression, LGWin: 24})
	_, _ = w.Write(b) // to memory: no error
	_ = w.Close()
	return buf.Bytes()
}

// memory is what applying takes: the image, its references, blocks and runs, and the windows of the streams.
func (d *diff) memory() int64 {
	n := int64(len(d.blocks))*48 + int64(len(d.runs))*16 + 4<<20
	if d.isImage() {
		n += int64(len(d.old)) + int64(len(d.refs))*16
	}
	for _, s := range d.streams() {
		n += int64(min(len(s)*2, 1<<24))
	}
	return n
}
