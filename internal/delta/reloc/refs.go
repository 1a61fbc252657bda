package reloc

import (
	"encoding/binary"
	"errors"
)

var le = binary.LittleEndian

// A Ref is a reference in an image: some bytes that name an address, or a line of a source file.
type Ref struct {
	Off  uint32
	word uint32
}

func newRef(off uint64, f Form, arg uint64) Ref { return Ref{uint32(off), uint32(f) | uint32(arg)<<8} }

// Form is how it is written.
func (r Ref) Form() Form { return Form(r.word) }

// arg: of Off32 and Off32x4 the index in Plan.Bases, of steps the index in Refs.Steps.
func (r Ref) arg() uint64 { return uint64(r.word >> 8) }

const maxArg = 1<<24 - 1

// Refs are the references in a file.
type Refs struct {
	List  []Ref // in order, none overlaps another
	Steps []Step
	Bytes uint64 // that they take while they are collected
}

// A Step is one from a line to another, as a table of lines tells it.
type Step struct{ From, To Line }

// A Line of a function. Its name is told by where it is in funcnametab; noName: of none.
type Line struct{ Name, Line uint32 }

const noName = 0xffffffff

// Form says how a reference is written.
type Form uint8

// The forms of references.
const (
	Rel32      Form = iota // x86-64: 4 bytes, relative to their end
	Abs64                  // 8 bytes
	Off32                  // 4 bytes, from a base
	Off32x4                // the same, in units of 4 bytes
	Branch                 // arm64: b or bl
	Page                   // arm64: adrp and the instruction after it
	LineFunc               // Go: the line of a function, 4 bytes, in its record
	LineInline             // the same, in an inline tree
	Uleb1                  // an offset from a base as ULEB128, of 1 byte
	Uleb2
	Uleb3
	Uleb4
	Step1 // Go: a step in a table of lines, a varint of 1 byte
	Step2
	Step3
)

// Width is how many bytes a reference has.
func (f Form) Width() uint64 {
	switch f {
	case Abs64, Page:
		return 8
	case Uleb1, Uleb2, Uleb3, Uleb4:
		return uint64(f-Uleb1) + 1
	case Step1, Step2, Step3:
		return uint64(f-Step1) + 1
	}
	return 4
}

// Target is the address that the reference in b, loaded at addr, names. base is the address of its base.
func (r Ref) Target(b []byte, addr, base uint64) uint64 {
	switch r.Form() {
	case Rel32:
		return addr + 4 + signed(le.Uint32(b))
	case Abs64:
		return le.Uint64(b)
	case Off32:
		return base + signed(le.Uint32(b))
	case Off32x4:
		return base + 4*signed(le.Uint32(b))
	case Branch:
		return addr + 4*signed26(le.Uint32(b))
	case LineFunc, LineInline:
		return base + uint64(le.Uint32(b)&maxLine)
	case Uleb1, Uleb2, Uleb3, Uleb4:
		v, _ := binary.Uvarint(b[:r.Form().Width()])
		return base + v
	default:
		w, x := le.Uint32(b), le.Uint32(b[4:])
		page := uint64(int64(int32((w>>5&0x7ffff<<2|w>>29&3)<<11) >> 11))
		return addr&^0xfff + page<<12 + uint64(x>>10&0xfff)<<pageShift(x)
	}
}

// Put writes into b, which holds a reference of this form, one that is loaded at addr and names target.
func (r Ref) Put(b []byte, addr, target, base uint64) {
	switch r.Form() {
	case Rel32:
		le.PutUint32(b, uint32(target-addr-4))
	case Abs64:
		le.PutUint64(b, target)
	case Off32:
		le.PutUint32(b, uint32(target-base))
	case Off32x4:
		le.PutUint32(b, uint32((target-base)>>2))
	case Branch:
		le.PutUint32(b, le.Uint32(b)&0xfc000000|uint32((target-addr)>>2)&0x03ffffff)
	case LineFunc, LineInline:
		le.PutUint32(b, le.Uint32(b)&^maxLine|uint32(target)&maxLine)
	case Uleb1, Uleb2, Uleb3, Uleb4:
		putUleb(b, target-base, r.Form().Width())
	default:
		w, x := le.Uint32(b), le.Uint32(b[4:])
		page := uint32((target&^0xfff - addr&^0xfff) >> 12)
		le.PutUint32(b, w&0x9f00001f|page&3<<29|page>>2&0x7ffff<<5)
		le.PutUint32(b[4:], x&^(0xfff<<10)|uint32(target&0xfff)>>pageShift(x)&0xfff<<10)
	}
}

// putUleb writes v if it takes n bytes: else it leaves what is there.
func putUleb(b []byte, v, n uint64) {
	if v>>(7*n) != 0 || n > 1 && v>>(7*(n-1)) == 0 {
		return
	}
	for i := range n {
		b[i] = byte(v>>(7*i)) | 0x80
	}
	b[n-1] &= 0x7f
}

func signed(v uint32) uint64 { return uint64(int64(int32(v))) }

func signed26(v uint32) uint64 { return uint64(int64(int32(v<<6) >> 6)) }

const noShift = 99

// pageShift is how far an instruction behind adrp shifts its 12 bits: add (immediate), or a load or store with an
// unsigned offset; noShift: it is another one.
func pageShift(x uint32) uint {
	switch {
	case x&0x7fc00000 == 0x11000000:
		return 0
	case x&0x3b000000 == 0x39000000:
		if x&0x04800000 == 0x04800000 && x>>30 == 0 { // 16 bytes
			return 4
		}
		return uint(x >> 30)
	}
	return noShift
}

// errRegion says that a plan names bytes which are not there.
var errRegion = errors.New("a region, or what it refers to, is outside of the file")

// Refs finds the references in the old file, b.
func (p *Plan) Refs(b []byte) (*Refs, error) { return p.refs(b, func(uint64) error { return nil }) }

// refBytes is what a reference, or a step, takes while they are collected.
const refBytes = 16

// refs asks take for the memory that it needs.
func (p *Plan) refs(b []byte, take func(n uint64) error) (*Refs, error) {
	if p.overlap() {
		return nil, errors.New("its regions overlap too often")
	}
	all := new(Refs)
	counts := make([]int, len(p.Regions))
	total, steps := 0, 0
	for i, r := range p.Regions {
		s := scanner{plan: p, b: b, region: r, counting: true}
		if err := s.scan(); err != nil {
			return nil, err
		}
		counts[i], total = s.count, total+s.count
		if r.Kind == GoLines {
			steps += s.count
		}
	}
	all.Bytes = uint64(total+steps) * refBytes
	if err := take(all.Bytes); err != nil {
		return nil, err
	}
	all.List, all.Steps = make([]Ref, 0, total), make([]Step, 0, steps) // these are large: no copy is made of them
	for i, r := range p.Regions {
		s := scanner{plan: p, b: b, region: r, refs: make([]Ref, 0, counts[i]), steps: all.Steps}
		if err := s.scan(); err != nil {
			return nil, err
		}
		all.List, all.Steps = merge(all.List, s.refs), s.steps
	}
	return all, nil
}

// overlap reports whether all regions together are too large: then the old file would be read too often.
func (p *Plan) overlap() bool {
	var sum uint64
	add := func(sizes ...uint64) {
		for _, n := range sizes {
			sum += min(n, p.OldSize)
		}
	}
	for _, r := range p.Regions {
		add(r.Size)
		switch {
		case r.Kind == GoData && len(r.Param) > 1:
			add(r.Param[1])
		case r.Kind == GoLines && len(r.Param) > 3:
			add(r.Param[1], r.Param[3])
		}
	}
	return sum > maxOverlap*p.OldSize
}

// merge adds to a sorted list, in its place, those of another that overlap none of it.
func merge(first, second []Ref) []Ref {
	kept, i := second[:0], 0
	for _, s := range second {
		for i < len(first) && first[i].Off <= s.Off {
			i++
		}
		if i > 0 && uint64(first[i-1].Off)+first[i-1].Form().Width() > uint64(s.Off) ||
			i < len(first) && uint64(s.Off)+s.Form().Width() > uint64(first[i].Off) {
			continue
		}
		kept = append(kept, s)
	}
	at := len(first)
	all := first[:at+len(kept)]
	for to := len(all) - 1; len(kept) > 0; to-- {
		if at > 0 && all[at-1].Off > kept[len(kept)-1].Off {
			at--
			all[to] = all[at]
		} else {
			all[to] = kept[len(kept)-1]
			kept = kept[:len(kept)-1]
		}
	}
	return all
}

type scanner struct {
	plan   *Plan
	b      []byte
	region Region
	refs   []Ref
	steps  []Step

	counting bool // count them, and keep none
	count    int
}

func (s *scanner) add(off uint64, f Form, arg uint64) {
	if s.counting {
		s.count++
		return
	}
	s.refs = append(s.refs, newRef(off, f, arg))
}

func (s *scanner) scan() error {
	if n := uint64(len(s.b)); s.region.Off > n || s.region.Size > n-s.region.Off {
		return errRegion
	}
	if err := s.check(); err != nil {
		return err
	}
	switch s.region.Kind {
	case X86, ARM64:
		addr, ok := s.plan.OldAddr(s.region.Off)
		if !ok {
			return errRegion
		}
		if s.region.Kind == X86 {
			s.x86(addr)
		} else {
			s.arm64()
		}
	case Pointers:
		s.pointers()
	case Table:
		s.table()
	case GoFuncs:
		s.goFuncs()
	case GoData:
		s.goData()
	case GoTypes:
		s.goTypes()
	case GoLines:
		s.goLines()
	case Rebase:
		s.rebase()
	}
	return nil
}

// check looks at the parameters: how many there are, and that they name bases.
func (s *scanner) check() error {
	p := s.region.Param
	bases, want := p, -1
	switch s.region.Kind {
	case X86, ARM64, Pointers:
		want = 0
	case Table, Rebase:
		if len(p) == 0 {
			return errRegion
		}
	case GoFuncs:
		want = 5
	case GoData:
		want = 4
		if len(p) == 4 {
			if p[0] > uint64(len(s.b)) || p[1] > uint64(len(s.b))-p[0] {
				return errRegion
			}
			bases = p[2:]
		}
	case GoTypes:
		want = 2
	case GoLines:
		want, bases = 4, nil
		for i := 0; i+1 < len(p); i += 2 {
			if p[i] > uint64(len(s.b)) || p[i+1] > uint64(len(s.b))-p[i] {
				return errRegion
			}
		}
	default:
		return errors.New("a region is of an unknown kind")
	}
	if want >= 0 && len(p) != want {
		return errors.New("a region has too many or too few parameters")
	}
	for _, b := range bases {
		if b == 0 && (s.region.Kind == GoData || s.region.Kind == GoTypes) {
			return errors.New("a region does not name its base")
		}
		if b > uint64(len(s.plan.Bases)) || b > 255 {
			return errors.New("a region names a base that is not there")
		}
	}
	return nil
}

// opcodes with a ModRM byte that often have a RIP-relative operand.
var opcodes = func() (set [256]bool) {
	for i := range 0x40 {
		set[i] = i&7 < 4
	}
	for _, i := range []int{0x63, 0x69, 0x6b, 0x80, 0x81, 0x83, 0xc0, 0xc1, 0xc6, 0xc7, 0xf6, 0xf7, 0xfe, 0xff} {
		set[i] = true
	}
	for i := 0x84; i <= 0x8d; i++ {
		set[i] = true
	}
	for i := 0xd0; i <= 0xdf; i++ {
		set[i] = true
	}
	return set
}()

// x86 finds operands by the bytes in front of them: after e8, e9 or 0f 8x if they lead into the region; after a ModRM byte
// that means RIP-relative if it follows a byte that may be its opcode, and they lead into the image.
func (s *scanner) x86(addr uint64) {
	b := s.b[s.region.Off : s.region.Off+s.region.Size]
	lo, hi := s.plan.Lo, s.plan.Hi
	for i := 2; i+4 <= len(b); i++ {
		c := b[i-1]
		near := c&0xfe == 0xe8 || b[i-2] == 0x0f && c&0xf0 == 0x80
		if !near && c&0xc7 != 5 {
			continue
		}
		target := addr + uint64(i) + 4 + signed(le.Uint32(b[i:]))
		if near && target-addr < s.region.Size || c&0xc7 == 5 && target >= lo && target < hi && mayBeOpcode(b, i-2) {
			s.add(s.region.Off+uint64(i), Rel32, 0)
			i += 4
		}
	}
}

// mayBeOpcode: one of one byte, or after an escape byte, or after a VEX or EVEX prefix.
func mayBeOpcode(b []byte, i int) bool {
	return opcodes[b[i]] || i >= 1 && (b[i-1] == 0x0f || b[i-1] == 0x38) || i >= 3 && (b[i-3] == 0xc4 || b[i-2] == 0xc5) ||
		i >= 4 && b[i-4] == 0x62
}

func (s *scanner) arm64() {
	b := s.b[s.region.Off : s.region.Off+s.region.Size]
	for i := 0; i+8 <= len(b); i += 4 {
		w := le.Uint32(b[i:])
		if w&0x7c000000 == 0x14000000 {
			s.add(s.region.Off+uint64(i), Branch, 0)
		} else if w&0x9f000000 == 0x90000000 {
			if x := le.Uint32(b[i+4:]); pageShift(x) != noShift && x>>5&31 == w&31 {
				s.add(s.region.Off+uint64(i), Page, 0)
				i += 4
			}
		}
	}
}

// rebase reads the opcodes that say where a Mach-O image has addresses (Apple's mach-o/loader.h, REBASE_OPCODE_*).
func (s *scanner) rebase() {
	b := s.b[s.region.Off : s.region.Off+s.region.Size]
	for i := 0; i < len(b); {
		op := b[i]
		i++
		numbers := 0
		switch op & 0xf0 {
		case 0x20, 0x30, 0x60, 0x70:
			numbers = 1
		case 0x80:
			numbers = 2
		}
		for range numbers {
			_, n := binary.Uvarint(b[i:])
			if n <= 0 {
				return
			}
			if seg := int(op & 15); op&0xf0 == 0x20 && n <= 4 && seg < len(s.region.Param) && s.region.Param[seg] > 0 {
				s.add(s.region.Off+uint64(i), Uleb1+Form(n-1), s.region.Param[seg]-1)
			}
			i += n
		}
	}
}

func (s *scanner) pointers() {
	end := s.region.Off + s.region.Size
	for o := (s.region.Off + 7) &^ 7; o+8 <= end; o += 8 {
		if v := le.Uint64(s.b[o:]); v >= s.plan.Lo && v < s.plan.Hi {
			s.add(o, Abs64, 0)
		}
	}
}

func (s *scanner) table() {
	end := s.region.Off + s.region.Size
	for o := s.region.Off; o+4 <= end; {
		for _, base := range s.region.Param {
			if o+4 <= end && base > 0 && le.Uint32(s.b[o:]) != 0xffffffff {
				s.add(o, Off32, base-1)
			}
			o += 4
		}
	}
}
