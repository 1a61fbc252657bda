package relocdiff

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/internal/delta/reloc"
)

// A maker makes an old file that has references of every kind, and much that is nearly one, and a patch for it that moves them
// about at random. What the patch makes of it is what reloc.Apply says: two implementations of the format agree on it only if they
// find the same references, and move them the same way.
type maker struct {
	*rand.Rand
	arm  bool
	b    []byte
	plan *reloc.Plan
	seg  reloc.Place // the one being written
}

var writeGolden = flag.String("golden", "", "a folder: write files like those in testdata/golden, which freeze the format, there")

func TestWriteGolden(t *testing.T) {
	if *writeGolden == "" {
		t.Skip("no -golden")
	}
	var list []byte
	write := func(name string, old, patch, next []byte) {
		list = fmt.Appendf(list, "%x %d %s\n", sha256.Sum256(next), len(next), name)
		require.NoError(t, os.WriteFile(filepath.Join(*writeGolden, name+".old"), old, 0o644))
		require.NoError(t, os.WriteFile(filepath.Join(*writeGolden, name+".patch"), patch, 0o644))
	}
	// Of some hundred these are a few that, together, tell of each change of a rule that was tried.
	for arch, seeds := range map[string][]uint64{"amd64": {6, 31, 163, 164}, "arm64": {10, 17, 21, 25, 29, 124}} {
		for _, seed := range seeds {
			old, patch, next := made(t, seed, arch == "arm64")
			write(fmt.Sprint("made-", arch, "-", seed), old, patch, next)
		}
	}
	for name, pair := range map[string][2]string{
		"text": {program(1), program(2)}, "from-nothing": {"", program(1)}, "to-nothing": {program(1), ""}, "nothing": {"", ""},
	} {
		patch, _, err := Create(t.Context(), []byte(pair[0]), []byte(pair[1]))
		require.NoError(t, err)
		write(name, []byte(pair[0]), patch, []byte(pair[1]))
	}
	lines := strings.SplitAfter(string(list), "\n")
	slices.SortFunc(lines, func(a, b string) int {
		return strings.Compare(a[strings.LastIndex(a, " ")+1:], b[strings.LastIndex(b, " ")+1:])
	})
	require.NoError(t, os.WriteFile(filepath.Join(*writeGolden, "new"), []byte(strings.Join(lines, "")), 0o644))
}

const (
	madeLo, madeHi = 0x400000, 0x418000
	madeNames      = 500
	none32         = 0xffffffff
)

// made returns an old file, a patch, and what it makes.
func made(t *testing.T, seed uint64, arm bool) (old, patch, next []byte) {
	m := &maker{Rand: rand.New(rand.NewPCG(seed, 1)), arm: arm, plan: &reloc.Plan{Lo: madeLo, Hi: madeHi}}
	if m.chance(40) {
		m.plan.Hi = 0x70000000
	}
	functab := m.file()
	d := m.diff(functab)
	patch, err := encode(t.Context(), d.streams())
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, reloc.Apply(&out, bytes.NewReader(m.b), int64(len(m.b)), bytes.NewReader(patch), int64(len(patch)), int64(len(d.next)), 1<<30))
	return m.b, patch, out.Bytes()
}

func (m *maker) chance(percent int) bool      { return m.IntN(100) < percent }
func (m *maker) between(lo, hi int) int       { return lo + m.IntN(hi-lo) }
func (m *maker) u32(v int)                    { m.b = le.AppendUint32(m.b, uint32(v)) }
func (m *maker) bytes(b ...byte)              { m.b = append(m.b, b...) }
func (m *maker) oneOf(b ...byte) byte         { return b[m.IntN(len(b))] }
func (m *maker) addr(off int) uint64          { return m.seg.Addr + uint64(off) - m.seg.Off }
func (m *maker) address() uint64              { return uint64(m.between(madeLo-0x100, madeHi+0x100)) }
func (m *maker) place(off uint64) reloc.Place { return reloc.Place{Off: off, Addr: madeLo + off} }

func (m *maker) noise(n int) {
	for range n {
		m.bytes(byte(m.Uint32()))
	}
}

func (m *maker) align(n int) {
	for len(m.b)%n != 0 {
		m.bytes(0)
	}
}

// begin begins a segment.
func (m *maker) begin() {
	m.noise(m.IntN(40)) // without an address
	m.seg = m.place(uint64(len(m.b)))
	m.seg.Addr += uint64(0x800 * len(m.plan.Segments))
}

// end ends a segment, and says where it is in the new file.
func (m *maker) end() {
	s := reloc.Segment{Old: m.seg}
	s.Old.Size = uint64(len(m.b)) - s.Old.Off
	s.Old.MemSize = s.Old.Size + uint64(m.oneOf(0, 0, 255, 16))
	if m.chance(20) {
		s.Old.MemSize = s.Old.Size / 2
	}
	s.New = s.Old
	if len(m.plan.Segments) > 0 {
		s.New.Off += uint64(m.between(-200, 200))
	}
	s.New.Addr += uint64(m.between(-600, 600))
	s.New.Size += uint64(m.between(-100, 300))
	m.plan.Segments = append(m.plan.Segments, s)
}

// base makes a base, and returns its number in parameters.
func (m *maker) base(addr uint64) uint64 {
	m.plan.Bases = append(m.plan.Bases, reloc.Base{Old: addr, New: addr + uint64(m.between(-500, 500))})
	return uint64(len(m.plan.Bases))
}

func (m *maker) region(kind reloc.Kind, from, to int, params ...uint64) {
	m.plan.Regions = append(m.plan.Regions, reloc.Region{Kind: kind, Range: reloc.Range{Off: uint64(from), Size: uint64(to - from)}, Param: params})
}

// file writes the old file, and returns where its table of functions is.
func (m *maker) file() reloc.Range {
	m.seg = m.place(0)
	m.noise(m.IntN(64))
	text := m.base(m.addr(len(m.b)))
	none := uint64(0)
	if m.chance(50) {
		none = m.base(m.addr(len(m.b)) + 64)
	}
	code := m.code(m.addr(len(m.b)))
	codeEnd := len(m.b)
	m.end()

	m.begin()
	m.align(8)
	names, rodata, cutab := m.base(m.addr(len(m.b))), m.base(m.addr(len(m.b)-100)), m.base(m.addr(len(m.b)+40))
	data, dataEnd := m.data(2000)
	pctab, pctabEnd, tables, calls := m.tables()
	m.align(8)
	pcBase, dataBase := m.base(m.addr(pctab)), m.base(m.addr(data))
	funcs, funcsEnd := m.functions(tables, calls, dataEnd-data)
	bases := []uint64{text, names, pcBase, cutab, dataBase}
	if m.chance(30) {
		bases[m.IntN(5)] = 0
	}
	m.region(reloc.GoFuncs, funcs, funcsEnd, bases...)
	m.region(reloc.GoData, data, dataEnd, uint64(funcs), uint64(funcsEnd-funcs), names, rodata)
	m.region(reloc.GoLines, pctab, pctabEnd, uint64(funcs), uint64(funcsEnd-funcs), uint64(data), uint64(dataEnd-data))
	functab := m.functab()
	table := len(m.b)
	for range 100 {
		m.u32(m.oneOfInts(none32, 0, m.IntN(0x8000), m.IntN(0x8000), -m.IntN(200)))
	}
	m.region(reloc.Table, table, len(m.b)-m.IntN(4), text, none, names)
	m.end()

	m.begin()
	m.noise(m.IntN(9))
	types := len(m.b)
	typesBase := m.base(m.addr(types))
	m.types(types)
	m.region(reloc.GoTypes, types, len(m.b), typesBase, text)
	kind := reloc.X86
	if m.arm {
		kind = reloc.ARM64
	}
	m.region(kind, code, codeEnd)
	pointers := len(m.b)
	if m.align(8); m.chance(10) {
		m.noise(m.IntN(9))
	}
	for range 120 {
		v := m.address()
		if m.chance(10) {
			v = []uint64{madeLo, madeLo - 1, madeHi, madeHi - 1, 0, ^uint64(0)}[m.IntN(6)]
		}
		m.b = le.AppendUint64(m.b, v)
	}
	m.region(reloc.Pointers, max(types, pointers-200), len(m.b))
	m.end()
	m.rebase([]uint64{0, text, typesBase, none, names})
	for range m.IntN(4) { // over others
		off := m.IntN(len(m.b) - 400)
		m.region(reloc.Table, off, off+m.IntN(400), names, none)
	}
	for i := len(m.plan.Regions) - 1; i > 0 && m.chance(30); i-- { // in another order
		j := m.IntN(i + 1)
		m.plan.Regions[i], m.plan.Regions[j] = m.plan.Regions[j], m.plan.Regions[i]
	}
	if m.chance(50) {
		off := uint64(m.between(0, len(m.b)-100))
		m.plan.Blanks = []reloc.Range{{Off: off, Size: uint64(m.IntN(100))}, {Off: off + 20, Size: 10}}
	}
	return functab
}

func (m *maker) oneOfInts(v ...int) int { return v[m.IntN(len(v))] }

func (m *maker) code(addr uint64) int {
	at := len(m.b)
	modrm := []byte{0x05, 0x0d, 0x15, 0x1d, 0x25, 0x2d, 0x35, 0x3d}
	op := []byte{0x01, 0x03, 0x39, 0x63, 0x69, 0x80, 0x83, 0x84, 0x8b, 0x8d, 0xc0, 0xc6, 0xc7, 0xd0, 0xdf, 0xf6, 0xff, 0x3c, 0x8e, 0xc2, 0x90}
	for len(m.b) < at+2500 {
		switch (m.IntN(8) + boolInt(m.arm)) * (1 + 10*boolInt(m.arm)) {
		case 0:
			m.bytes(m.oneOf(0xe8, 0xe9, 0xea))
			m.u32(m.between(-1500, 1500))
		case 1:
			m.bytes(0x0f, m.oneOf(0x80, 0x8f, 0x90, 0x85))
			m.u32(m.between(-1500, 1500))
		case 2:
			m.bytes(m.oneOf(op...), m.oneOf(modrm...))
			next := addr + uint64(len(m.b)-at) + 4
			m.u32(m.oneOfInts(m.between(-0x2000, 0x10000), m.between(-0x2000, 0x10000), int(m.plan.Lo-next)-m.IntN(2), int(m.plan.Hi-next)-m.IntN(2)))
		case 3:
			m.bytes(m.oneOf(0x0f, 0x38, 0x90), byte(m.Uint32()), m.oneOf(modrm...))
			m.u32(m.between(-0x800, 0x8000))
		case 4:
			m.bytes(m.oneOf(0xc4, 0xc5, 0x62, 0x90))
			m.noise(m.IntN(5))
			m.bytes(m.oneOf(modrm...))
			m.u32(m.between(-0x800, 0x8000))
		case 5: // two, the second of which begins in the first
			m.bytes(m.oneOf(op...), m.oneOf(modrm...), byte(m.Uint32()), 0, m.oneOf(op...), m.oneOf(modrm...))
			m.u32(m.between(-0x800, 0x8000))
		case 6, 7:
			m.noise(m.IntN(4))
		default: // arm64
			m.arm64()
		}
	}
	if m.arm {
		m.u32(0x14000002) // not one: the last word
	}
	return at
}

func (m *maker) arm64() {
	reg := m.IntN(31)
	x := m.oneOfInts(0x91000000, 0x11400000, 0x39400000, 0x79400000, 0xb9400000, 0xf9400000, 0x3dc00000, 0xfd400000, 0x7dc00000, 0x3d800000, 0x52000000)
	switch m.IntN(5) {
	case 0, 1:
		m.u32(m.oneOfInts(0x14000000, 0x94000000, 0x54000000) | m.between(-300, 300)&0x03ffffff)
	case 2, 3:
		page := m.oneOfInts(m.between(-2, 20), m.IntN(1<<21))
		m.u32(m.oneOfInts(0x90000000, 0x10000000) | page&3<<29 | page>>2&0x7ffff<<5 | reg)
		if m.chance(10) {
			reg = 30 - reg
		}
		m.u32(x | m.IntN(1<<12)<<10 | reg<<5 | m.IntN(32))
	default:
		m.u32(int(m.Uint32() & 0x8fffffff))
	}
}

// uleb writes a number, perhaps longer than it has to be.
func (m *maker) uleb(v uint64) {
	m.b = binary.AppendUvarint(m.b, v)
	if m.chance(5) {
		m.b[len(m.b)-1] |= 0x80
		m.bytes(0)
	}
}

// tables writes tables of lines and of inlined calls, one after the other, and returns where each begins.
func (m *maker) tables() (from, to int, lines, calls []int) {
	from = len(m.b)
	m.bytes(0)
	for i := range 60 {
		at := len(m.b) - from
		if i%2 == 0 {
			lines = append(lines, at)
		} else {
			calls = append(calls, at)
		}
		value := -1
		for k := range m.IntN(14) {
			to := m.between(-1, 6)
			if i%2 == 0 {
				to = m.oneOfInts(m.IntN(100), m.IntN(5000), m.IntN(1<<21))
			}
			if to == value && k > 0 {
				to++
			}
			d := int64(to - value)
			value = to
			m.uleb(uint64(d<<1 ^ d>>63))
			m.uleb(uint64(m.oneOfInts(m.IntN(20), m.IntN(20), m.IntN(300))))
		}
		m.bytes(0)
	}
	for range m.IntN(12) { // at the end there is one that is not whole
		m.bytes(m.oneOf(0x80, 0x81, 0xff))
	}
	return from, len(m.b), lines, calls
}

// data writes what functions have: numbers that look like inline trees.
func (m *maker) data(n int) (from, to int) {
	from = len(m.b)
	for len(m.b) < from+n {
		m.u32(m.oneOfInts(m.IntN(madeNames), m.IntN(madeNames), m.IntN(0x8000), none32))
	}
	m.noise(m.IntN(8))
	return from, len(m.b)
}

func (m *maker) functions(tables, calls []int, data int) (from, to int) {
	from = len(m.b)
	var starts []int // of data
	for range m.between(10, 60) {
		starts = append(starts, 4*m.IntN(data/4), m.IntN(data+40))
	}
	for range 70 {
		if m.chance(10) {
			m.noise(8 * m.IntN(4))
		}
		p, d := m.oneOfInts(m.IntN(5), 3, 4), m.oneOfInts(m.IntN(6), 4, 5)
		if m.chance(4) {
			p = m.between(63, 66)
		}
		m.u32(m.IntN(0x3000))
		m.u32(m.IntN(madeNames))
		m.noise(8)
		m.u32(m.IntN(2) * m.IntN(1000))
		m.u32(m.IntN(2) * m.IntN(1000))
		m.u32(m.oneOfInts(tables[m.IntN(len(tables))], tables[m.IntN(len(tables))], m.IntN(2000), 0))
		m.u32(p)
		m.u32(m.oneOfInts(none32, m.IntN(2000), -1-m.IntN(20)))
		m.u32(int(m.Uint32()))
		m.noise(3)
		m.bytes(byte(d))
		for i := range p {
			v := m.IntN(2) * m.IntN(1000)
			if i == 2 {
				v = m.oneOfInts(calls[m.IntN(len(calls))], calls[m.IntN(len(calls))], m.IntN(2)*m.IntN(4000))
			}
			m.u32(v)
		}
		for range d {
			m.u32(m.oneOfInts(none32, starts[m.IntN(len(starts))], starts[m.IntN(len(starts))]))
		}
		if m.chance(80) {
			m.align(8)
		} else {
			for (len(m.b)-from)%8 != 0 {
				m.noise(1)
			}
		}
	}
	if m.chance(50) {
		m.b = m.b[:len(m.b)-m.between(1, 20)] // one that is not whole
	}
	return from, len(m.b)
}

func (m *maker) functab() reloc.Range {
	m.align(4)
	at, start, n := len(m.b), 0, m.between(1, 90)
	for i := range n + 1 {
		m.u32(start)
		if i < n {
			m.u32(m.IntN(4000))
		}
		start += m.oneOfInts(0, m.IntN(20), m.IntN(600), m.IntN(1500))
		if m.chance(2) {
			start = max(0, start-300)
		}
	}
	return reloc.Range{Off: uint64(at), Size: uint64(8*n + 4)}
}

// types writes what looks like descriptors of types, and their methods, from the offset at on.
func (m *maker) types(at int) {
	n := 4500
	if m.chance(10) {
		n = 40_000
	}
	for range n / 4 {
		m.u32(m.oneOfInts(0, m.IntN(n), m.IntN(8), none32))
	}
	m.bytes(0, 0, 0)
	heads := [27]int{17: 72, 18: 64, 19: 56, 20: 80, 22: 56, 23: 56, 25: 80}
	for o := 0; o < n-200; o += 8 * m.between(4, 30) {
		t := m.b[at+o:]
		kind := m.between(1, 27)
		if m.chance(3) {
			kind = m.IntN(32)
		}
		le.PutUint64(t, uint64(m.IntN(64)))
		le.PutUint64(t[8:], uint64(m.IntN(32)))
		t[20], t[21], t[23] = m.oneOf(0, 1, 3, 7, 4, 1, 0x81), m.oneOf(1, 2, 4, 8, 8, 8, 3), byte(kind)|m.oneOf(0, 0x20)
		t[22] = t[21] ^ m.oneOf(0, 0, 0, 0, 0, 0, 0, 0, 3)
		for _, o := range []int{24, 32} {
			le.PutUint64(t[o:], m.oneOfAddr(0, m.address()))
		}
		length := len(m.b) - at
		le.PutUint32(t[40:], uint32(m.oneOfInts(m.IntN(n), m.IntN(n), m.IntN(n), m.IntN(n), 0, length-m.IntN(2))))
		le.PutUint32(t[44:], uint32(m.oneOfInts(m.IntN(n), m.IntN(n), 0, 0, 0, length-m.IntN(2))))
		if kind == 20 {
			c := m.oneOfInts(m.IntN(9), m.IntN(9), m.between(4094, 4098))
			le.PutUint64(t[56:], m.addr(at)+uint64(m.oneOfInts(m.IntN(n), length-8*c-m.between(-1, 3), -4)))
			le.PutUint64(t[64:], uint64(c))
		}
		head := 48
		if kind == 21 {
			head = m.oneOfInts(96, 104, 88, 80, 112)
		} else if kind < len(heads) && heads[kind] != 0 {
			head = heads[kind]
		}
		m.methods(t[head:], n)
		if kind == 21 && head < 100 {
			m.methods(t[head+16:], n)
		}
	}
}

// methods writes what stands before those of a type.
func (m *maker) methods(u []byte, n int) {
	count := m.IntN(4)
	le.PutUint32(u, uint32(m.IntN(2)*m.IntN(n)))
	le.PutUint16(u[4:], uint16(count))
	le.PutUint16(u[6:], uint16(m.IntN(count+1)+boolInt(m.chance(20))))
	le.PutUint32(u[8:], uint32(m.oneOfInts(16, 16, 24, 15, m.IntN(100))))
	le.PutUint32(u[12:], uint32(boolInt(m.chance(10))))
}

func (m *maker) oneOfAddr(v ...uint64) uint64 { return v[m.IntN(len(v))] }

func (m *maker) rebase(params []uint64) {
	from := len(m.b)
	for range 150 {
		op := m.oneOf(0x00, 0x11, 0x21, 0x22, 0x21, 0x22, 0x20, 0x23, 0x24, 0x25, 0x2f, 0x30, 0x43, 0x51, 0x60, 0x70, 0x80, 0x90)
		m.bytes(op)
		numbers := map[byte]int{2: 1, 3: 1, 6: 1, 7: 1, 8: 2}[op>>4]
		for range numbers {
			m.uleb(uint64(m.oneOfInts(m.IntN(128), m.IntN(1<<14), m.IntN(1<<14), m.IntN(1<<21), m.IntN(1<<28), m.IntN(1<<40))))
		}
	}
	for range m.IntN(12) {
		m.bytes(0xff)
	}
	m.begin() // its own segment, so that it has addresses
	m.seg.Off = uint64(from)
	m.end()
	m.region(reloc.Rebase, from, len(m.b), params...)
}

// diff makes a patch: blocks, runs, and a few corrections.
func (m *maker) diff(functab reloc.Range) *diff {
	p := m.plan
	p.OldSize, p.OldCRC = uint64(len(m.b)), crc32.ChecksumIEEE(m.b)
	old := bytes.Clone(m.b)
	for _, r := range p.Blanks {
		clear(old[r.Off : r.Off+r.Size])
	}
	d := &diff{old: old, plan: p}
	cuts := []int{0, len(old)}
	for range m.between(5, 60) {
		if c := m.IntN(len(old)); uint64(c)-functab.Off >= functab.Size {
			cuts = append(cuts, c)
		}
	}
	slices.Sort(cuts)
	var parts []reloc.Block
	for i, c := range cuts[:len(cuts)-1] {
		b := reloc.Block{Old: uint64(c), Size: uint64(cuts[i+1] - c)}
		if b.Size > 0 && (functab.Off-b.Old < b.Size || m.chance(95)) {
			parts = append(parts, b)
		}
		if b.Size > 0 && m.chance(10) { // a part of it twice
			parts = append(parts, reloc.Block{Old: b.Old + b.Size/3, Size: (b.Size + 2) / 3})
		}
	}
	for range m.IntN(4) {
		i, j := m.IntN(len(parts)), m.IntN(len(parts))
		parts[i], parts[j] = parts[j], parts[i]
	}
	var at, functabAt uint64
	for _, b := range parts {
		at += uint64(m.IntN(3) * m.IntN(40))
		b.New = at
		at += b.Size
		if functab.Off-b.Old < b.Size && functab.Off-b.Old+functab.Size <= b.Size {
			functabAt = b.New + functab.Off - b.Old
		}
		d.blocks = append(d.blocks, b)
	}
	p.NewSize = at + uint64(m.between(200, 1200))
	d.where = reloc.NewMap(p, d.blocks)
	for range 80 {
		r := reloc.Run{Target: m.address(), Shift: uint64(m.between(-300, 300))}
		if m.chance(50) {
			r = reloc.Run{Target: 1<<62 + uint64(m.IntN(madeNames))<<24 + uint64(m.IntN(300)), Shift: uint64(m.between(-20, 40))}
		}
		d.runs = append(d.runs, r)
	}
	slices.SortFunc(d.runs, func(a, b reloc.Run) int { return cmp.Compare(a.Target, b.Target) })
	d.where.SetRuns(d.runs)
	for i := range p.Bases {
		if b := &p.Bases[i]; m.chance(50) { // as it would be in a program
			b.New = d.where.Project(b.Old) + uint64(m.IntN(40))
		}
	}
	m.fills(functabAt, functab.Size)

	refs, err := p.Refs(old)
	if err != nil {
		panic(err)
	}
	d.refs = refs
	d.next = make([]byte, p.NewSize)
	at = 0
	for _, b := range d.blocks {
		for ; at < b.New; at++ {
			d.next[at] = "new bytes "[at%10]
		}
		at += uint64(copy(d.next[at:], old[b.Old:b.Old+b.Size]))
	}
	d.each(func(r reloc.Ref, off uint64) { p.Move(d.next[off:], r, off, d.where, old, refs) })
	for range 40 {
		d.next[m.IntN(len(d.next))]++
	}
	if err := d.predict(context.Background()); err != nil {
		panic(err)
	}
	return d
}

// fills asks for tables and hashes, some of which run over the end.
func (m *maker) fills(functab, size uint64) {
	p := m.plan
	n := int(p.NewSize)
	after := m.between(int(functab+size), n)
	p.FindTabs = append(p.FindTabs, reloc.FindTab{Off: uint64(after), Functab: functab, Count: size / 8})
	if m.chance(30) { // of something else
		p.FindTabs = append(p.FindTabs, reloc.FindTab{Off: uint64(n - m.IntN(200)), Functab: uint64(m.IntN(n / 2)), Count: uint64(m.between(1, 100))})
	}
	if limit := m.IntN(n - 100); m.chance(80) {
		p.Hashes = append(p.Hashes, reloc.PageHashes{Off: uint64(m.between(max(limit, n-500), n)), Limit: uint64(limit), PageBits: uint8(m.between(10, 15))})
	}
	if m.chance(30) {
		p.Hashes = append(p.Hashes, reloc.PageHashes{Off: p.NewSize - uint64(m.IntN(64)), Limit: uint64(m.IntN(200)), PageBits: uint8(m.between(10, 16))})
	}
	if m.chance(20) {
		p.Hashes = append(p.Hashes, reloc.PageHashes{Off: p.NewSize, Limit: p.NewSize, PageBits: 12})
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
