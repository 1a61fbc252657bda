package relocdiff

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/fairlead-dev/fairlead/internal/delta/reloc"
)

// goProgram is what a Go linker has put into an image: addresses, and where their tables are in the file. All of it is found by what
// it looks like, without symbols.
type goProgram struct {
	hasGo                                         bool
	text, nametab, pctab, cutab, filetab, functab uint64
	gofunc, rodata, types, etypes                 uint64
	funcs, functabRange, cutabRange, typelinks    reloc.Range
	funcData, typesRange, pctabRange              reloc.Range
	functions                                     []function // by address
	findTabs                                      []reloc.FindTab
}

type function struct {
	addr uint64
	id   uint32
}

const pclntabMagic = 0xfffffff1 // since Go 1.20

func (im *image) findGo() {
	for _, s := range im.sections {
		if s.code {
			continue
		}
		b := im.b[s.Off : s.Off+s.Size]
		for i := int((s.addr+7)&^7 - s.addr); i+72 <= len(b); i += 8 {
			if le.Uint32(b[i:]) == pclntabMagic && b[i+4] == 0 && b[i+5] == 0 && b[i+7] == 8 && im.pclntab(s.addr+uint64(i), b[i:]) {
				im.moduledata(s.addr + uint64(i))
				return
			}
		}
	}
}

// pclntab reads the table of functions (Go's runtime/symtab.go, type pcHeader). b is the rest of its section.
func (im *image) pclntab(addr uint64, b []byte) bool {
	n := le.Uint64(b[8:])
	var off [5]uint64 // names, cutab, filetab, pctab, functab
	for i := range off {
		off[i] = le.Uint64(b[32+8*i:])
		if off[i] > uint64(len(b)) || i > 0 && off[i] < off[i-1] {
			return false
		}
	}
	if n < 16 || n > 1<<24 || off[4]+n*8+4 > uint64(len(b)) {
		return false
	}
	text := le.Uint64(b[24:])
	if text == 0 { // since Go 1.26
		for _, s := range im.sections {
			if s.code && (s.name == ".text" || s.name == "__TEXT __text") {
				text = s.addr
			}
		}
	}
	tab := b[off[4]:]
	first, last := uint64(len(tab)), uint64(0)
	for i := range n {
		f := uint64(le.Uint32(tab[i*8+4:]))
		if f+reloc.FuncHead > uint64(len(tab)) {
			return false
		}
		first, last = min(first, f), max(last, f)
	}
	size, ok := reloc.RecordSize(tab[last:])
	if !ok {
		return false
	}
	at := im.off(addr)
	im.hasGo = true
	im.text, im.nametab, im.cutab, im.filetab, im.pctab, im.functab = text, addr+off[0], addr+off[1], addr+off[2], addr+off[3], addr+off[4]
	im.funcs = reloc.Range{Off: at + off[4] + first, Size: last + size - first}
	im.functabRange = reloc.Range{Off: at + off[4], Size: n*8 + 4}
	im.cutabRange = reloc.Range{Off: at + off[1], Size: (off[2] - off[1]) &^ 3}
	im.pctabRange = reloc.Range{Off: at + off[3], Size: off[4] - off[3]}
	im.functions = make([]function, 0, n)
	for i := range n {
		f := tab[le.Uint32(tab[i*8+4:]):]
		name := off[0] + uint64(le.Uint32(f[4:]))
		var id uint32
		if name < off[1] {
			if end := bytes.IndexByte(b[name:off[1]], 0); end >= 0 {
				id = hash32(b[name : name+uint64(end)])
			}
		}
		im.functions = append(im.functions, function{text + uint64(le.Uint32(tab[i*8:])), id})
	}
	slices.SortStableFunc(im.functions, func(a, b function) int { return cmp.Compare(a.addr, b.addr) })
	return true
}

// moduledata finds where types and the data of functions are. The layout of runtime.moduledata is Go's own affair, and differs from
// one release to the next: what fits is taken.
func (im *image) moduledata(pclntab uint64) {
	words := im.moduleWords(pclntab)
	best := 0
	for i := 20; i+6 < len(words) && i < 60; i++ {
		for _, j := range []int{i + 1, i + 2} {
			types, etypes := words[i], words[j]
			if etypes <= types || etypes-types > 1<<28 || im.isText(types) || im.find(types).Size < etypes-types {
				continue
			}
			p := *im.plan
			p.Bases = []reloc.Base{{Old: types}, {Old: im.text}}
			r := reloc.Range{Off: im.off(types), Size: etypes - types}
			p.Regions = []reloc.Region{{Kind: reloc.GoTypes, Range: r, Param: []uint64{1, 2}}}
			refs, err := p.Refs(im.b)
			if err != nil || len(refs.List) <= best {
				continue
			}
			best = len(refs.List)
			im.types, im.etypes, im.typesRange = types, etypes, r
		}
	}
	im.checkGofunc(words)
	im.findTable(words)
	im.findTypelinks(words)
}

// moduleWords returns the words of the moduledata, which begins with a pointer to the pclntab and a slice of its names.
func (im *image) moduleWords(pclntab uint64) []uint64 {
	for _, s := range im.sections {
		if s.code {
			continue
		}
		b := im.b[s.Off : s.Off+s.Size]
		for i := int((s.addr+7)&^7 - s.addr); i+16 <= len(b); i += 8 {
			if le.Uint64(b[i:]) != pclntab || le.Uint64(b[i+8:]) != im.nametab {
				continue
			}
			var words []uint64
			for ; i+8 <= len(b) && len(words) < 96; i += 8 {
				words = append(words, le.Uint64(b[i:]))
			}
			return words
		}
	}
	return nil
}

// checkGofunc looks for the address that the offsets in function records count from: the one at which inline trees name functions.
func (im *image) checkGofunc(words []uint64) {
	namesSize := im.cutab - im.nametab
	names := im.at(im.nametab)
	trees, high := im.trees()
	if len(trees) == 0 || namesSize > uint64(len(names)) {
		return
	}
	best, bestAddr := 0, uint64(0)
	tried := map[uint64]bool{}
	for i, w := range words {
		data := im.at(w)
		if tried[w] || uint64(len(data)) < high {
			continue
		}
		tried[w] = true
		good := 0
		for _, t := range trees {
			if uint64(t)+16 > uint64(len(data)) {
				continue
			}
			if name := uint64(le.Uint32(data[t+4:])); name > 0 && name < namesSize && names[name-1] == 0 && names[name] != 0 {
				good++
			}
		}
		if good > best {
			best, bestAddr = good, w
			if im.rodata = 0; i > 0 && im.find(words[i-1]).Size > 0 {
				im.rodata = words[i-1]
			}
		}
	}
	if best*10 >= len(trees)*9 {
		im.gofunc = bestAddr
		im.funcData = im.find(bestAddr)
		im.funcData.Size = min(high+1<<10, im.funcData.Size)
	}
}

// findTable looks for the table that functions are found by, if it stands behind that of functions, and clears it.
func (im *image) findTable(words []uint64) {
	r := im.functabRange
	functab := im.b[r.Off : r.Off+r.Size]
	table := reloc.FindTable(functab, uint64(len(im.b)))
	for _, w := range words {
		if data := im.at(w); len(table) > 64 && len(data) >= len(table) && bytes.Equal(data[:len(table)], table) && im.off(w) >= r.Off+r.Size {
			im.clear(im.off(w), uint64(len(table)))
			im.findTabs = append(im.findTabs, reloc.FindTab{Off: im.off(w), Functab: r.Off, Count: r.Size / 8})
			return
		}
	}
}

// trees returns the offsets of inline trees, and the highest one of any data.
func (im *image) trees() (trees []uint32, high uint64) {
	reloc.FuncData(im.b[im.funcs.Off:im.funcs.Off+im.funcs.Size], func(i int, off uint32) {
		high = max(high, uint64(off))
		if i == reloc.InlineTree {
			trees = append(trees, off)
		}
	})
	return trees, high
}

// findTypelinks looks for a slice of offsets of types.
func (im *image) findTypelinks(words []uint64) {
	if im.types == 0 {
		return
	}
	types := im.at(im.types)[:im.etypes-im.types]
	for i := 20; i+2 < len(words); i++ {
		n := words[i+1]
		list := im.at(words[i])
		if n != words[i+2] || n < 16 || n > 1<<22 || uint64(len(list)) < n*4 {
			continue
		}
		good := uint64(0)
		for ; good < n; good++ {
			if t := uint64(le.Uint32(list[good*4:])); t+48 > uint64(len(types)) || types[t+21] == 0 || types[t+21] != types[t+22] {
				break
			}
		}
		if good == n {
			im.typelinks = reloc.Range{Off: im.off(words[i]), Size: n * 4}
			return
		}
	}
}
