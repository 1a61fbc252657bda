package relocdiff

import (
	"hash/fnv"
	"sort"

	"github.com/fairlead-dev/fairlead/internal/delta/reloc"
)

func hash32(b []byte) uint32 {
	h := fnv.New32a()
	_, _ = h.Write(b)
	return h.Sum32()
}

// identities tells what references name, in a way that does not depend on addresses: so the matcher aligns code by meaning.
type identities struct {
	im    *image
	known map[uint64]uint32
	gone  func(addr uint64) uint64 // the address in the other image; nil: not known
}

// masked returns the image with every reference replaced by the identity of what it names.
func (im *image) masked(p *reloc.Plan, refs *reloc.Refs, gone func(addr uint64) uint64) []byte {
	d := &identities{im, map[uint64]uint32{}, gone}
	c := append([]byte(nil), im.b...)
	for _, r := range refs.List {
		off := uint64(r.Off)
		addr, ok := p.OldAddr(off)
		if !ok {
			continue
		}
		w := c[off:]
		if r.Form() >= reloc.Step1 {
			clear(w[:r.Form().Width()])
			continue
		}
		target := p.Target(im.b, r)
		switch r.Form() {
		case reloc.Rel32:
			if !d.local(addr, target) {
				le.PutUint32(w, d.of(target))
			}
		case reloc.Branch:
			if !d.local(addr, target) {
				le.PutUint32(w, le.Uint32(w)&0xfc000000|d.of(target)&0x03ffffff)
			}
		case reloc.Page:
			h := d.of(target)
			le.PutUint32(w, le.Uint32(w)&0x9f00001f|h&0x7ffff<<5)
			le.PutUint32(w[4:], le.Uint32(w[4:])&^(0xfff<<10)|h>>20&0xfff<<10)
		case reloc.Abs64:
			le.PutUint64(w, uint64(d.of(target)))
		case reloc.Off32, reloc.Off32x4:
			le.PutUint32(w, d.of(target))
		case reloc.Uleb1, reloc.Uleb2, reloc.Uleb3, reloc.Uleb4:
			h := d.ofPointer(target)
			for i := range r.Form().Width() {
				w[i] = byte(h >> (8 * i))
			}
		default: // lines
			clear(w[:r.Form().Width()])
		}
	}
	return c
}

// function returns the index of the function in which an address is, or -1.
func (d *identities) function(addr uint64) int {
	f := d.im.functions
	return sort.Search(len(f), func(i int) bool { return f[i].addr > addr }) - 1
}

// local reports whether both addresses are in one function: then the reference needs no identity, it does not change.
func (d *identities) local(a, b uint64) bool {
	i := d.function(a)
	return i >= 0 && d.im.isText(b) && d.function(b) == i
}

func (d *identities) of(addr uint64) uint32 {
	if d.im.isText(addr) {
		if i := d.function(addr); i >= 0 {
			return d.im.functions[i].id + uint32(addr-d.im.functions[i].addr)*2654435761
		}
	}
	h, ok := d.known[addr]
	if !ok && d.gone != nil {
		h = uint32((d.gone(addr) * 0x9e3779b97f4a7c15) >> 32)
		d.known[addr] = h
	} else if !ok {
		h = d.content(addr)
		d.known[addr] = h
	}
	return h
}

// ofPointer is the identity of where there is a pointer: what that names is more telling, at first.
func (d *identities) ofPointer(addr uint64) uint32 {
	if b := d.im.at(addr); d.gone == nil && len(b) >= 8 {
		return d.of(le.Uint64(b))
	}
	return d.of(addr)
}

// content identifies data by what it says.
func (d *identities) content(addr uint64) uint32 {
	b := d.im.at(addr)
	if len(b) < 16 {
		return 0
	}
	if d.im.hasGo && addr-d.im.functab-d.im.functabRange.Size < d.im.funcs.Size+8 { // a function's record
		return d.of(d.im.text+uint64(le.Uint32(b))) ^ 0x5bd1e995
	}
	if h, ok := d.typeName(addr, b); ok {
		return h
	}
	for i := 0; i < 16; i += 8 {
		if v := le.Uint64(b[i:]); v >= max(d.im.plan.Lo, 0x10000) && v < d.im.plan.Hi {
			if h, ok := d.known[v]; ok {
				return h ^ 0x77
			}
			return 0x1234567
		}
	}
	return hash32(b[:8])
}

// typeName identifies a type descriptor by its name.
func (d *identities) typeName(addr uint64, b []byte) (uint32, bool) {
	im := d.im
	if im.types == 0 || addr < im.types || addr >= im.etypes || len(b) < 48 {
		return 0, false
	}
	if align := b[21]; align == 0 || align > 8 || b[22] != align || b[23]&31 == 0 || b[23]&31 > 26 {
		return 0, false
	}
	name := im.at(im.types + uint64(le.Uint32(b[40:])))
	if len(name) < 3 {
		return 0, false
	}
	n, at := uint64(name[1]), uint64(2)
	if n&0x80 != 0 {
		n, at = n&0x7f|uint64(name[2])<<7, 3
	}
	if at+n > uint64(len(name)) {
		return 0, false
	}
	return hash32(name[at:at+n]) ^ uint32(b[23]&31)<<24, true
}
