package reloc

import (
	"errors"
	"hash/crc32"
	"io"
	"sort"
)

// Apply makes the new file, of length bytes, from the old one and a patch, and writes it to w from beginning to end.
// Whether it is the right one is for the caller to tell, by its hash; for an old file other than the one the patch was
// made for, the error satisfies errors.Is(err, ErrBase), unless their CRC-32 are the same.
//
// Memory bounds, in bytes, what grows with the files: of a program the old file, its references, and what is filled in;
// blocks and runs of any file. Besides there are the streams' windows, of 16 MiB each at most, and small buffers. Errors:
// [*FormatError], [*MemoryError], those of old, patch and w.
func Apply(w io.Writer, old io.ReaderAt, oldSize int64, patch io.ReaderAt, patchSize, length, memory int64) error {
	in, err := open(patch, patchSize)
	if err != nil {
		return err
	}
	plan, err := in[PlanStream].plan()
	if err != nil {
		return err
	}
	if plan.OldSize != uint64(oldSize) {
		return &FormatError{ErrBase}
	}
	if plan.NewSize != uint64(length) {
		return damaged("it makes %d bytes, not %d", plan.NewSize, length)
	}
	a := &applier{in: in, plan: plan, old: old, memory: memory, out: w, refs: new(Refs)}
	return a.run()
}

type applier struct {
	in     [Streams]*stream
	plan   *Plan
	old    io.ReaderAt
	memory int64
	taken  int64
	image  []byte // the old file, if the plan has regions
	out    io.Writer
	fill   []filler

	blocks  []Block
	refs    *Refs
	where   *Map
	same    uint64 // bytes until the next literals
	literal uint64 // literals until the next gap
	done    uint64 // bytes written
}

const chunk = 1 << 17

func (a *applier) run() error {
	if err := a.readOld(); err != nil {
		return err
	}
	if err := a.readBlocks(); err != nil {
		return err
	}
	a.where = NewMap(a.plan, a.blocks)
	if err := a.readRuns(); err != nil {
		return err
	}
	if err := a.fillers(); err != nil {
		return err
	}
	buf := make([]byte, chunk+16)
	for _, b := range a.blocks {
		if err := a.extra(b.New-a.done, buf); err != nil {
			return err
		}
		if err := a.copyBlock(b, buf); err != nil {
			return err
		}
	}
	if err := a.extra(a.plan.NewSize-a.done, buf); err != nil {
		return err
	}
	if a.same|a.literal != 0 {
		return damaged("same: more than there are bytes")
	}
	return endOf(a.in[SameStream:]...)
}

// readOld checks that the old file is the one, and keeps it if it is read as an image.
func (a *applier) readOld() error {
	r := io.NewSectionReader(a.old, 0, int64(a.plan.OldSize))
	sum := crc32.NewIEEE()
	if len(a.plan.Regions) == 0 {
		if _, err := io.CopyBuffer(struct{ io.Writer }{sum}, struct{ io.Reader }{r}, make([]byte, chunk)); err != nil {
			return err
		}
	} else {
		if a.plan.OldSize > MaxImage {
			return damaged("an image of %d bytes is larger than %d", a.plan.OldSize, MaxImage)
		}
		if err := a.take(a.plan.OldSize); err != nil {
			return err
		}
		a.image = make([]byte, a.plan.OldSize)
		if _, err := io.ReadFull(r, a.image); err != nil {
			return err
		}
		_, _ = sum.Write(a.image)
	}
	if sum.Sum32() != a.plan.OldCRC {
		return &FormatError{ErrBase}
	}
	if a.image == nil {
		return nil
	}
	for _, r := range a.plan.Blanks {
		if r.Off > a.plan.OldSize || r.Size > a.plan.OldSize-r.Off {
			return &FormatError{errRegion}
		}
		clear(a.image[r.Off : r.Off+r.Size])
	}
	var err error
	var memory *MemoryError
	if a.refs, err = a.plan.refs(a.image, a.take); err != nil && !errors.As(err, &memory) {
		err = &FormatError{err}
	}
	return err
}

// take counts memory.
func (a *applier) take(n uint64) error {
	if a.taken += int64(n); a.taken > a.memory {
		return &MemoryError{a.taken, a.memory}
	}
	return nil
}

// What blocks and runs take, each.
const (
	BlockBytes = 48 // a block, in two orders
	RunBytes   = 16
)

func (a *applier) readBlocks() error {
	fresh, seeks, sizes := a.in[NewStream], a.in[SeekStream], a.in[SizeStream]
	n := fresh.count(a.plan.NewSize/minBlock + 1)
	if err := a.take(uint64(n) * BlockBytes); err != nil {
		return err
	}
	a.blocks = make([]Block, 0, min(n, 1<<16))
	var old, at uint64
	for range n {
		at += fresh.uint()
		old += seeks.int()
		b := Block{Old: old, New: at, Size: sizes.uint()}
		if fresh.err != nil || seeks.err != nil || sizes.err != nil {
			break
		}
		if b.Size == 0 || b.Old > a.plan.OldSize || b.Size > a.plan.OldSize-b.Old || b.New > a.plan.NewSize || b.Size > a.plan.NewSize-b.New {
			return damaged("a block is outside of the files")
		}
		a.blocks = append(a.blocks, b)
		old, at = old+b.Size, at+b.Size
	}
	return endOf(fresh, seeks, sizes)
}

func endOf(all ...*stream) error {
	for _, s := range all {
		if err := s.end(); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) readRuns() error {
	targets, shifts := a.in[TargetStream], a.in[ShiftStream]
	n := targets.count(a.plan.OldSize/minRun + 1)
	if err := a.take(uint64(n) * RunBytes); err != nil {
		return err
	}
	runs := make([]Run, 0, min(n, 1<<16))
	var r Run
	for range n {
		r = Run{r.Target + targets.uint(), r.Shift + shifts.int()}
		if targets.err != nil || shifts.err != nil {
			break
		}
		runs = append(runs, r)
	}
	a.where.SetRuns(runs)
	return endOf(targets, shifts)
}

// extra writes new bytes.
func (a *applier) extra(n uint64, buf []byte) error {
	for n > 0 {
		part := buf[:min(n, chunk)]
		s := a.in[ExtraStream]
		if _, s.err = io.ReadFull(s, part); s.err != nil {
			return s.failed()
		}
		if err := a.write(part); err != nil {
			return err
		}
		n -= uint64(len(part))
	}
	return nil
}

// copyBlock writes a block: the old bytes, with their references moved, and corrected.
func (a *applier) copyBlock(b Block, buf []byte) error {
	refs := a.refs.List
	i := sort.Search(len(refs), func(i int) bool { return uint64(refs[i].Off) >= b.Old })
	for b.Size > 0 {
		part := buf[:min(b.Size, chunk)]
		j := i
		for j < len(refs) && uint64(refs[j].Off) < b.Old+uint64(len(part)) {
			j++
		}
		if j > i && uint64(len(part)) < b.Size { // a reference across the end is for the next part
			if r := refs[j-1]; uint64(r.Off)+r.Form().Width() > b.Old+uint64(len(part)) {
				part, j = part[:uint64(r.Off)-b.Old], j-1
			}
		}
		if err := a.read(part, b.Old); err != nil {
			return err
		}
		for ; i < j; i++ {
			if r := refs[i]; uint64(r.Off)+r.Form().Width() <= b.Old+b.Size {
				a.plan.Move(part[uint64(r.Off)-b.Old:], r, b.New+uint64(r.Off)-b.Old, a.where, a.image, a.refs)
			}
		}
		if err := a.correct(part); err != nil {
			return err
		}
		if err := a.write(part); err != nil {
			return err
		}
		n := uint64(len(part))
		b = Block{b.Old + n, b.New + n, b.Size - n}
	}
	return nil
}

func (a *applier) read(part []byte, off uint64) error {
	if a.image != nil {
		copy(part, a.image[off:])
		return nil
	}
	_, err := a.old.ReadAt(part, int64(off))
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Move changes b, which holds the reference r of the old image and stands at the offset off of the new one, so that it
// names where its target has gone.
func (p *Plan) Move(b []byte, r Ref, off uint64, where *Map, old []byte, refs *Refs) {
	if f := r.Form(); f >= Step1 {
		s := refs.Steps[r.arg()]
		d := s.To.moved(where) - s.From.moved(where)
		putUleb(b, uint64(d<<1^d>>63), f.Width())
		return
	}
	from, ok := p.OldAddr(uint64(r.Off))
	to, ok2 := p.NewAddr(off)
	if !ok || !ok2 {
		return
	}
	base := p.base(old, r)
	r.Put(b, to, where.Project(r.Target(b, from, base.Old)), base.New)
}

// Vote tells which address the reference r of the old image names, and which one the new file, at the offset off, has there.
func (p *Plan) Vote(r Ref, off uint64, old, next []byte) (target, is uint64, ok bool) {
	from, ok := p.OldAddr(uint64(r.Off))
	to, ok2 := p.NewAddr(off)
	if !ok || !ok2 || r.Form() >= Step1 {
		return 0, 0, false
	}
	base := p.base(old, r)
	return r.Target(old[r.Off:], from, base.Old), r.Target(next[off:], to, base.New), true
}

// correct adds the literals.
func (a *applier) correct(part []byte) error {
	same, wrong, literals := a.in[SameStream], a.in[WrongStream], a.in[LiteralStream]
	for len(part) > 0 {
		if a.same == 0 && a.literal == 0 {
			if a.same, a.literal = same.uint(), wrong.uint(); same.err != nil || wrong.err != nil {
				return errors.Join(same.failed(), wrong.failed())
			}
			if a.same == 0 && a.literal == 0 {
				return damaged("same: nothing, and nothing wrong behind it")
			}
		}
		n := min(a.same, uint64(len(part)))
		part, a.same = part[n:], a.same-n
		if a.same > 0 {
			continue
		}
		for ; len(part) > 0 && a.literal > 0; a.literal-- {
			c, err := literals.ReadByte()
			if err != nil {
				literals.err = err
				return literals.failed()
			}
			part[0] += c
			part = part[1:]
		}
	}
	return nil
}

func (a *applier) write(part []byte) error {
	for _, f := range a.fill {
		f.pass(part, a.done)
	}
	a.done += uint64(len(part))
	_, err := a.out.Write(part)
	return err
}
