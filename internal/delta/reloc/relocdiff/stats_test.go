package relocdiff

import (
	"fmt"
	"sort"

	"github.com/fairlead-dev/fairlead/internal/delta/reloc"
)

func (d *diff) sectionOf(off uint64) string {
	im := d.nextImage
	if im == nil {
		return "?"
	}
	in := func(r rangeLike) bool { return off-r.Off < r.Size }
	switch {
	case in(rangeLike(im.funcs)):
		return "pcln-funcs"
	case in(rangeLike(im.functabRange)):
		return "pcln-functab"
	case in(rangeLike(im.cutabRange)):
		return "pcln-cutab"
	case in(rangeLike(im.typesRange)):
		return "types"
	case in(rangeLike(im.typelinks)):
		return "typelinks"
	case in(rangeLike(im.funcData)):
		return "gofunc"
	}
	if im.hasGo {
		n, c, f, p, t := im.off(im.names_), im.off(im.cutab), im.off(im.filetab), im.off(im.pctab), im.off(im.functab)
		switch {
		case off >= n && off < c:
			return "pcln-names"
		case off >= f && off < p:
			return "pcln-filetab"
		case off >= p && off < t:
			return "pcln-pctab"
		}
	}
	for _, s := range im.sections {
		if off-s.Off < s.Size {
			return s.name
		}
	}
	return "hdr"
}

type rangeLike struct{ Off, Size uint64 }

func (d *diff) stats() {
	type st struct {
		blocks, misses    int
		extra, lits, gaps []byte
	}
	m := map[string]*st{}
	get := func(off uint64) *st {
		n := d.sectionOf(off)
		if m[n] == nil {
			m[n] = &st{}
		}
		return m[n]
	}
	pred := make([]byte, len(d.next))
	for _, b := range d.blocks {
		copy(pred[b.New:], d.old[b.Old:b.Old+b.Size])
	}
	d.each(func(r reloc.Ref, off uint64) {
		d.plan.Move(pred[off:], r, off, d.where, d.old, d.refs)
		w := r.Form().Width()
		if string(pred[off:off+w]) != string(d.next[off:off+w]) {
			get(off).misses++
		}
	})
	at := uint64(0)
	for _, b := range d.blocks {
		for i := at; i < b.New; i++ {
			s := get(i)
			s.extra = append(s.extra, d.next[i])
		}
		get(b.New).blocks++
		z := 0
		for i := b.New; i < b.New+b.Size; i++ {
			if d.next[i] != pred[i] {
				s := get(i)
				s.lits = append(s.lits, d.next[i]-pred[i])
				for z >= 128 {
					s.gaps = append(s.gaps, byte(z)|128)
					z >>= 7
				}
				s.gaps = append(s.gaps, byte(z))
				z = 0
			} else {
				z++
			}
		}
		at = b.New + b.Size
	}
	for i := at; i < uint64(len(d.next)); i++ {
		s := get(i)
		s.extra = append(s.extra, d.next[i])
	}
	var names []string
	for n := range m {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		s := m[n]
		fmt.Printf("   %-16s blocks %6d misses %6d lits %7d>%6d gaps>%6d extra %7d>%6d\n", n, s.blocks, s.misses, len(s.lits), len(compress(s.lits, 11)), len(compress(s.gaps, 11)), len(s.extra), len(compress(s.extra, 11)))
	}
}
