package reloc

import "slices"

// What the Go linker writes: function records of the runtime's pclntab and type descriptors (internal/abi). Their
// layout is that of Go 1.20 and later; where it is another one, what is found is wrong, and the patch larger.

const (
	funcHead     = 44 // bytes of a function record without its tables
	funcDataNone = 0xffffffff
	inlineTree   = 3 // index of the inline tree in a function's data (internal/abi.FUNCDATA_InlTree)
	inlineSize   = 16
)

// goFuncs walks function records, which stand one behind the other, each at a multiple of 8 bytes. data is told the
// offsets from go:func.* of every function's data.
func (s *scanner) goFuncs(data func(index int, off uint32)) {
	p := s.region.Param
	text, names, pctab, cutab, gofunc := p[0], p[1], p[2], p[3], p[4]
	b := s.b[s.region.Off : s.region.Off+s.region.Size]
	word := func(o uint64) uint32 { return le.Uint32(b[o:]) }
	add := func(o, base uint64, form Form) {
		if base > 0 {
			s.add(s.region.Off+o, form, base-1)
		}
	}
	n := uint64(len(b))
	for f := uint64(0); f+funcHead <= n; {
		npc, nfd := uint64(word(f+28)), uint64(b[f+43])
		if npc > 64 || f+funcHead+4*(npc+nfd) > n {
			f += 8 // no record: look for the next one
			continue
		}
		add(f, text, Off32)
		add(f+4, names, Off32)
		for o := f + 16; o <= f+24; o += 4 {
			if word(o) != 0 {
				add(o, pctab, Off32)
			}
		}
		if word(f+32) != 0xffffffff {
			add(f+32, cutab, Off32x4)
		}
		o := f + funcHead
		for range npc {
			if word(o) != 0 {
				add(o, pctab, Off32)
			}
			o += 4
		}
		for i := range nfd {
			if v := word(o); v != funcDataNone {
				add(o, gofunc, Off32)
				if data != nil {
					data(int(i), v)
				}
			}
			o += 4
		}
		f = (o + 7) &^ 7
	}
}

// goInline finds the function names in inline trees. They are in go:func.*, the region, each up to the next data of a
// function.
func (s *scanner) goInline() {
	p := s.region.Param
	var starts, all []uint32
	funcs := scanner{plan: s.plan, b: s.b, region: Region{GoFuncs, Range{p[0], p[1]}, make([]uint64, 5)}}
	funcs.goFuncs(func(i int, off uint32) {
		all = append(all, off)
		if i == inlineTree {
			starts = append(starts, off)
		}
	})
	slices.Sort(all)
	slices.Sort(starts)
	starts = slices.Compact(starts)
	var end uint64 // what was looked at
	for _, start := range starts {
		next, _ := slices.BinarySearch(all, start+1)
		limit := s.region.Size
		if next < len(all) {
			limit = min(limit, uint64(all[next]))
		}
		for o := max(uint64(start), end); o+inlineSize <= limit; o += inlineSize {
			s.add(s.region.Off+o+4, Off32, p[2]-1)
			end = o + inlineSize
		}
	}
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
	first, _ := s.plan.oldAddr(s.region.Off)
	n := uint64(len(b))
	var found []Ref
	add := func(o, base uint64) { found = append(found, Ref{uint32(s.region.Off + o), Off32, uint8(base)}) }
	address := func(v uint64) bool { return v == 0 || v >= s.plan.Lo && v < s.plan.Hi }
	for i := uint64(0); i+48 <= n; i += 8 {
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
	slices.SortStableFunc(found, func(a, b Ref) int { return int(int64(a.Off) - int64(b.Off)) })
	for _, r := range found {
		if len(s.refs) == 0 || s.refs[len(s.refs)-1].Off+4 <= r.Off {
			s.refs = append(s.refs, r)
		}
	}
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
