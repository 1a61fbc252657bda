// Package reloc applies patches of format reloc/1, which docs/formats.md specifies: copies from the old file in which
// every reference (a call, an address in data) has been moved to where its target is in the new file, sparse
// corrections, and new bytes.
//
// What is a reference, and where its target has gone, is guessed from the old file and the patch alone. A wrong guess costs
// bytes in the patch, never correctness: the patch corrects it, and whoever applies one compares the result with the signed
// hash. Package relocdiff makes patches.
package reloc

import (
	"sort"
)

// A Plan says how to read the old file as a program's image, and where its parts are in the new one. It is the head
// of a patch. The zero Plan, but for the sizes, is that of a file which is just bytes.
type Plan struct {
	OldSize, NewSize uint64
	OldCRC           uint32 // CRC-32 (IEEE) of the old file
	Lo, Hi           uint64 // an address below Lo, or not below Hi, is no address
	Segments         []Segment
	Bases            []Base
	Regions          []Region // in order of precedence
	Blanks           []Range  // of the old file, read as zeros
	Hashes           []PageHashes
	FindTabs         []FindTab
}

// A Segment is a part of the file that is loaded at an address: Size bytes of the file, then zeros up to MemSize.
type Segment struct{ Old, New Place }

// Place is where a segment is in one of the files.
type Place struct{ Off, Size, Addr, MemSize uint64 }

// A Base is an address from which offsets count.
type Base struct{ Old, New uint64 }

// A Range of the old file.
type Range struct{ Off, Size uint64 }

// PageHashes are SHA-256 of the pages of the first Limit bytes of the new file, in order, at Off.
type PageHashes struct {
	Off, Limit uint64
	PageBits   uint8
}

// A FindTab is Go's table for finding functions, at Off of the new file, which follows from the one of functions, of Count
// records and an end, at Functab before it.
type FindTab struct{ Off, Functab, Count uint64 }

// A Region of the old file has references of one kind.
type Region struct {
	Kind Kind
	Range
	Param []uint64 // see Kind
}

// Kind says how references are found in a region.
type Kind uint8

// The kinds of regions, and their parameters.
const (
	X86      Kind = 1 // code for x86-64
	ARM64    Kind = 2 // code for arm64
	Pointers Kind = 3 // addresses of 8 bytes
	Table    Kind = 4 // records of 4-byte offsets: for each column 1 + index of its base, or 0
	GoFuncs  Kind = 5 // Go's function records: bases of text, funcnametab, pctab, cutab, go:func.*; 1 + base or 0
	GoData   Kind = 6 // Go's go:func.*: offset and size of the function records' region; bases of funcnametab and rodata
	GoTypes  Kind = 7 // Go's type descriptors: bases of types and text
	GoLines  Kind = 8 // Go's pctab: offset and size of the function records' region, and of go:func.*
	Rebase   Kind = 9 // Mach-O's rebase opcodes: for each segment 1 + index of the base that is its beginning, or 0
)

// addr returns the address at which a byte of the file is loaded.
func (p *Place) addr(off uint64) (uint64, bool) { return p.Addr + off - p.Off, off-p.Off < p.Size }

// OldAddr returns the address at which a byte of the old file is loaded.
func (p *Plan) OldAddr(off uint64) (uint64, bool) {
	for i := range p.Segments {
		if addr, ok := p.Segments[i].Old.addr(off); ok {
			return addr, true
		}
	}
	return 0, false
}

// NewAddr returns the address at which a byte of the new file is loaded.
func (p *Plan) NewAddr(off uint64) (uint64, bool) {
	for i := range p.Segments {
		if addr, ok := p.Segments[i].New.addr(off); ok {
			return addr, true
		}
	}
	return 0, false
}

// segmentAt returns the index of the segment in which an address of the old image is, or -1.
func (p *Plan) segmentAt(addr uint64) int {
	for i := range p.Segments {
		if s := &p.Segments[i].Old; addr-s.Addr < max(s.Size, s.MemSize) {
			return i
		}
	}
	return -1
}

// Target returns the address that a reference in the old file, b, names.
func (p *Plan) Target(b []byte, r Ref) uint64 {
	addr, _ := p.OldAddr(uint64(r.Off))
	return r.Target(b[r.Off:], addr, p.base(b, r).Old)
}

// Lines of source files move like addresses do, function by function: they get addresses of their own, that no program
// has.
const (
	lines    = 1 << 62
	lineBits = 24
	maxLine  = 1<<lineBits - 1
)

func (l Line) addr() uint64 { return lines + uint64(l.Name)<<lineBits + uint64(l.Line&maxLine) }

// moved is where a line has gone; -1: it is none.
func (l Line) moved(where *Map) int64 {
	if l.Name == noName {
		return -1
	}
	return int64(where.Project(l.addr()) & maxLine)
}

// base is what an offset counts from. b is the old file.
func (p *Plan) base(b []byte, r Ref) Base {
	name := uint64(r.Off)
	switch r.Form() {
	case Off32, Off32x4, Uleb1, Uleb2, Uleb3, Uleb4:
		return p.Bases[r.arg()]
	case LineFunc:
		name -= funcLine - funcName
	case LineInline:
		name -= inlineLine - inlineName
	default:
		return Base{}
	}
	of := Line{Name: le.Uint32(b[name:])}.addr()
	return Base{of, of}
}

// A Block is a part of the new file that is copied, with corrections, from the old one.
type Block struct{ Old, New, Size uint64 }

// A Run corrects where targets have gone: those from Target on, up to the next run, by Shift.
type Run struct{ Target, Shift uint64 }

// A Map tells where an address of the old image is in the new one.
type Map struct {
	plan   *Plan
	blocks []Block // sorted by Old
	runs   []Run   // sorted by Target
}

// NewMap makes a map without runs. blocks are in the order of the new file.
func NewMap(p *Plan, blocks []Block) *Map {
	sorted := append([]Block(nil), blocks...)
	sort.SliceStable(sorted, func(i, j int) bool { return sorted[i].Old < sorted[j].Old })
	return &Map{plan: p, blocks: sorted}
}

// SetRuns adds the runs, sorted by target.
func (m *Map) SetRuns(runs []Run) { m.runs = runs }

// Guess is where the blocks say that an address has gone.
func (m *Map) Guess(addr uint64) uint64 {
	i := m.plan.segmentAt(addr)
	if i < 0 {
		return addr
	}
	s := &m.plan.Segments[i]
	if addr-s.Old.Addr >= s.Old.Size { // zeros behind the file's part
		return addr - s.Old.Addr + s.New.Addr
	}
	off := s.Old.Off + addr - s.Old.Addr
	i = sort.Search(len(m.blocks), func(i int) bool { return m.blocks[i].Old > off })
	if i == 0 {
		return addr
	}
	b := &m.blocks[i-1]
	if to, ok := m.plan.NewAddr(b.New + off - b.Old); ok {
		return to
	}
	return addr
}

// Project is Guess, corrected by the runs.
func (m *Map) Project(addr uint64) uint64 {
	to := m.Guess(addr)
	if i := sort.Search(len(m.runs), func(i int) bool { return m.runs[i].Target > addr }); i > 0 {
		to += m.runs[i-1].Shift
	}
	return to
}
