package reloc

import (
	"cmp"
	"encoding/binary"
	"iter"
	"slices"
)

// What the Go linker writes: function records of the runtime's pclntab and type descriptors (internal/abi). Their
// layout is that of Go 1.20 and later; where it is another one, what is found is wrong, and the patch larger.

const (
	FuncHead     = 44 // bytes of a function record without its tables
	funcName     = 4  // where, in a record, it tells its name
	funcLines    = 24 // its table of lines
	funcTables   = 28 // how many tables it has,
	funcLine     = 36 // its first line
	funcDatas    = 43 // and how many data
	maxTables    = 64 // of a record
	funcDataNone = 0xffffffff

	InlineTree  = 3 // index of the inline tree in a function's data (internal/abi.FUNCDATA_InlTree)
	inlineSize  = 16
	inlineName  = 4  // where an element of it tells the function's name
	inlineLine  = 12 // and its first line
	inlineCalls = 2  // index of the table that says which element is running (internal/abi.PCDATA_InlTreeIndex)
	noTree      = ^uint64(0)

	stackObjects   = 2  // index of the stack objects (internal/abi.FUNCDATA_StackObjects): their number, then
	objectSize     = 16 // bytes each,
	objectPointers = 12 // of which there is the offset, from rodata, of their pointer bitmap
)

// A record is a function record: where it is, and how many tables and data it has, 4 bytes each.
type record struct {
	off           uint32
	tables, datas uint8
}

func (r record) table(i uint8) uint64 { return uint64(r.off) + FuncHead + 4*uint64(i) }
func (r record) data(i uint8) uint64  { return r.table(r.tables) + 4*uint64(i) }
func (r record) end() uint64          { return r.data(r.datas) }

// recordAt reads the head of a record; false: there is none.
func recordAt(b []byte, off uint64) (r record, ok bool) {
	if n := uint64(len(b)); off > n || n-off < FuncHead || le.Uint32(b[off+funcTables:]) > maxTables {
		return r, false
	}
	r = record{uint32(off), b[off+funcTables], b[off+funcDatas]}
	return r, r.end() <= uint64(len(b))
}

// RecordSize is how many bytes the function record has that b begins with.
func RecordSize(b []byte) (size uint64, ok bool) {
	r, ok := recordAt(b, 0)
	return r.end(), ok
}

// records walks function records, which stand one behind the other, each at a multiple of 8 bytes.
func records(b []byte) iter.Seq[record] {
	return func(yield func(record) bool) {
		for off := uint64(0); off < uint64(len(b)); {
			r, ok := recordAt(b, off)
			if !ok {
				off += 8 // look for the next one
				continue
			}
			if !yield(r) {
				return
			}
			off = (r.end() + 7) &^ 7
		}
	}
}

// FuncData visits the offsets from go:func.* of every function's data, by index.
func FuncData(funcs []byte, visit func(index int, off uint32)) {
	for r := range records(funcs) {
		for i := range r.datas {
			if off := le.Uint32(funcs[r.data(i):]); off != funcDataNone {
				visit(int(i), off)
			}
		}
	}
}

// goFuncs finds what function records refer to.
func (s *scanner) goFuncs() {
	p := s.region.Param
	text, names, pctab, cutab, gofunc := p[0], p[1], p[2], p[3], p[4]
	b := s.b[s.region.Off : s.region.Off+s.region.Size]
	// add adds a reference unless it is what stands for none.
	add := func(o, base uint64, form Form, none uint32) {
		if base > 0 && le.Uint32(b[o:]) != none {
			s.add(s.region.Off+o, form, base-1)
		}
	}
	always := func(o, base uint64) {
		if base > 0 {
			s.add(s.region.Off+o, Off32, base-1)
		}
	}
	for r := range records(b) {
		f := uint64(r.off)
		always(f, text)
		always(f+funcName, names)
		for o := f + 16; o <= f+funcLines; o += 4 {
			add(o, pctab, Off32, 0)
		}
		add(f+32, cutab, Off32x4, 0xffffffff)
		if text > 0 {
			s.add(s.region.Off+f+funcLine, LineFunc, 0)
		}
		for i := range r.tables {
			add(r.table(i), pctab, Off32, 0)
		}
		for i := range r.datas {
			add(r.data(i), gofunc, Off32, funcDataNone)
		}
	}
}

// goData finds the names and lines of functions in inline trees, and where stack objects have their pointers. They are in
// the region, Go's go:func.*, each up to the next data of a function.
func (s *scanner) goData() {
	p := s.region.Param
	var trees, objects, all []uint32
	FuncData(s.b[p[0]:p[0]+p[1]], func(i int, off uint32) {
		all = append(all, off)
		switch i {
		case InlineTree:
			trees = append(trees, off)
		case stackObjects:
			objects = append(objects, off)
		}
	})
	slices.Sort(all)
	s.data(trees, all, func(o, limit uint64) uint64 {
		for ; o+inlineSize <= limit; o += inlineSize {
			s.add(s.region.Off+o+inlineName, Off32, p[2]-1)
			s.add(s.region.Off+o+inlineLine, LineInline, 0)
		}
		return o
	})
	s.data(objects, all, func(o, limit uint64) uint64 {
		for o += 8; o+objectSize <= limit; o += objectSize {
			s.add(s.region.Off+o+objectPointers, Off32, p[3]-1)
		}
		return o
	})
	s.refs = sorted(s.refs)
}

// data visits data of functions, each once, up to where the next one begins.
func (s *scanner) data(starts, all []uint32, visit func(o, limit uint64) uint64) {
	slices.Sort(starts)
	var end uint64
	for _, start := range slices.Compact(starts) {
		next, _ := slices.BinarySearch(all, start+1)
		limit := s.region.Size
		if next < len(all) {
			limit = min(limit, uint64(all[next]))
		}
		if uint64(start) >= end {
			end = visit(uint64(start), limit)
		}
	}
}

// goLines walks the tables of lines, and finds where they step from one function's lines to another's: at their beginning, and
// where the code of inlined functions begins and ends.
func (s *scanner) goLines() {
	p := s.region.Param
	l := &lineWalker{
		tab: s.b[s.region.Off : s.region.Off+s.region.Size], funcs: s.b[p[0] : p[0]+p[1]], data: s.b[p[2] : p[2]+p[3]],
		budget: int(s.region.Size) * 8,
	}
	tables := slices.SortedStableFunc(records(l.funcs), func(a, b record) int { return cmp.Compare(l.lines(a), l.lines(b)) })
	end := uint64(1)
	for _, t := range tables {
		if uint64(l.lines(t)) < end {
			continue
		}
		end = l.walk(t, func(at, width uint64, step Step) {
			if width <= 3 && len(s.steps) <= maxArg {
				s.add(s.region.Off+at, Step1+Form(width-1), uint64(len(s.steps)))
				if !s.counting {
					s.steps = append(s.steps, step)
				}
			}
		})
	}
}

type lineWalker struct {
	tab, funcs, data []byte
	budget           int
}

// lines is where a function's table of lines is.
func (l *lineWalker) lines(r record) uint32 { return le.Uint32(l.funcs[uint64(r.off)+funcLines:]) }

// walk visits the steps of a function's table of lines, and returns where it ends.
func (l *lineWalker) walk(r record, visit func(at, width uint64, step Step)) uint64 {
	own := le.Uint32(l.funcs[uint64(r.off)+funcName:])
	tree := noTree
	calls := pcTable{value: -1}
	if r.tables > inlineCalls && r.datas > InlineTree {
		calls.rest = l.from(le.Uint32(l.funcs[r.table(inlineCalls):]))
		tree = uint64(le.Uint32(l.funcs[r.data(InlineTree):]))
	}
	last := Line{noName, 0}
	at := pcTable{rest: l.from(l.lines(r)), value: -1}
	for {
		before := len(at.rest)
		start := at.pc
		width, ok := at.next()
		if !ok {
			return uint64(len(l.tab) - before)
		}
		for calls.pc <= start && l.budget > 0 {
			l.budget--
			if _, ok := calls.next(); !ok {
				calls.value, calls.pc = -1, ^uint64(0)
			}
		}
		line := Line{own, uint32(at.value)}
		if o := tree + uint64(calls.value)*inlineSize; calls.value >= 0 && calls.value < 1<<31 && tree != noTree && o+inlineSize <= uint64(len(l.data)) {
			line.Name = le.Uint32(l.data[o+inlineName:])
		}
		if line.Name != last.Name {
			visit(uint64(len(l.tab)-before), width, Step{last, line})
		}
		last = line
	}
}

func (l *lineWalker) from(off uint32) []byte {
	if off == 0 || uint64(off) >= uint64(len(l.tab)) {
		return nil
	}
	return l.tab[off:]
}

// pcTable reads a table of values by program counter (Go's runtime/symtab.go, func step).
type pcTable struct {
	rest  []byte
	value int64
	pc    uint64 // where the value read last ends
	begun bool
}

// next reads a value, of which the step has width bytes.
func (t *pcTable) next() (width uint64, ok bool) {
	v, n := binary.Uvarint(t.rest)
	if n <= 0 || v == 0 && t.begun {
		return 0, false
	}
	pc, m := binary.Uvarint(t.rest[n:])
	if m <= 0 {
		return 0, false
	}
	t.rest, t.begun = t.rest[n+m:], true
	t.value += int64(v>>1) ^ -int64(v&1)
	t.pc += pc
	return uint64(n), true
}

// sorted sorts references, and drops those that overlap the one before.
func sorted(refs []Ref) []Ref {
	slices.SortStableFunc(refs, func(a, b Ref) int { return cmp.Compare(a.Off, b.Off) })
	kept := refs[:0]
	var end uint64
	for _, r := range refs {
		if uint64(r.Off) >= end {
			kept = append(kept, r)
			end = uint64(r.Off) + r.Form().Width()
		}
	}
	return kept
}

// kinds of types (internal/abi.Kind)
const (
	kindArray     = 17
	kindChan      = 18
	kindFunc      = 19
	kindInterface = 20
	kindMap       = 21
	kindPointer   = 22
	kindSlice     = 23
	kindStruct    = 25
	lastKind      = 26
)

// goTypes finds what looks like a type descriptor, at every eighth byte.
func (s *scanner) goTypes() {
	types, text := s.region.Param[0]-1, s.region.Param[1]-1
	b := s.b[s.region.Off : s.region.Off+s.region.Size]
	first, _ := s.plan.OldAddr(s.region.Off)
	n := uint64(len(b))
	found := uint64(0) // those included that are found twice: methods that several types claim
	add := func(o, base uint64) { s.add(s.region.Off+o, Off32, base); found++ }
	address := func(v uint64) bool { return v == 0 || v >= s.plan.Lo && v < s.plan.Hi }
	for i := uint64(0); i+48 <= n && found <= n/2; i += 8 {
		t := b[i:]
		align, kind := t[21], t[23]&31
		if align == 0 || align > 8 || align&(align-1) != 0 || t[22] != align || kind == 0 || kind > lastKind || t[20]&0x80 != 0 {
			continue
		}
		name, ptr := uint64(le.Uint32(t[40:])), uint64(le.Uint32(t[44:]))
		if name == 0 || name >= n || ptr >= n || le.Uint64(t[8:]) > le.Uint64(t) || !address(le.Uint64(t[24:])) || !address(le.Uint64(t[32:])) {
			continue
		}
		add(i+40, types)
		if ptr != 0 {
			add(i+44, types)
		}
		if kind == kindInterface && i+72 <= n {
			methods, count := le.Uint64(t[56:])-first, le.Uint64(t[64:])
			if count < 4096 && methods <= n && count*8 <= n-methods {
				for m := methods; m < methods+count*8; m += 4 {
					add(m, types)
				}
			}
		}
		if t[20]&1 != 0 {
			s.uncommon(b, i, kind, add, types, text)
		}
	}
	s.refs = sorted(s.refs)
}

// sizes of a type descriptor, by kind: where the methods of a named type are told. A map's has changed over the years.
func headSizes(kind byte) []uint64 {
	switch kind {
	case kindInterface, kindStruct:
		return []uint64{80}
	case kindPointer, kindSlice, kindFunc:
		return []uint64{56}
	case kindArray:
		return []uint64{72}
	case kindChan:
		return []uint64{64}
	case kindMap:
		return []uint64{96, 104, 88, 80, 112}
	}
	return []uint64{48}
}

// uncommon finds the names, types and code of a type's methods.
func (s *scanner) uncommon(b []byte, i uint64, kind byte, add func(o, base uint64), types, text uint64) {
	n := uint64(len(b))
	for _, head := range headSizes(kind) {
		if i+head+16 > n {
			continue
		}
		u := b[i+head:]
		pkg, count, exported, moff := uint64(le.Uint32(u)), uint64(le.Uint16(u[4:])), uint64(le.Uint16(u[6:])), uint64(le.Uint32(u[8:]))
		if pkg >= n || exported > count || moff < 16 || moff > 1<<16 || le.Uint32(u[12:]) != 0 || i+head+moff+count*16 > n {
			continue
		}
		if pkg != 0 {
			add(i+head, types)
		}
		for m := i + head + moff; m < i+head+moff+count*16; m += 16 {
			add(m, types)
			for k, base := range []uint64{types, text, text} {
				o := m + 4 + 4*uint64(k)
				if v := le.Uint32(b[o:]); v != 0 && v != 0xffffffff {
					add(o, base)
				}
			}
		}
		return
	}
}
