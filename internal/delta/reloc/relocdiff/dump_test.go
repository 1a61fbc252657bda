package relocdiff

import (
	"fmt"

	"github.com/fairlead-dev/fairlead/internal/delta/reloc"
)

func (d *diff) dump(sec string, max int) {
	pred := make([]byte, len(d.next))
	for _, b := range d.blocks {
		copy(pred[b.New:], d.old[b.Old:b.Old+b.Size])
	}
	ref := map[uint64]string{}
	d.each(func(r reloc.Ref, off uint64) {
		d.plan.Move(pred[off:], r, off, d.where, d.old, d.refs)
		ref[off] = fmt.Sprint("form ", r.Form())
	})
	n := 0
	for _, b := range d.blocks {
		for i := b.New; i < b.New+b.Size; i++ {
			if d.next[i] != pred[i] && d.sectionOf(i) == sec {
				n++
				if n > 200 && n < 200+max {
					lo := i &^ 15
					fmt.Printf("%x rel %x old %x\n   old  %x\n   pred %x\n   next %x\n", i, i-lo, i-b.New+b.Old, d.old[lo-b.New+b.Old:][:32], pred[lo:][:32], d.next[lo:][:32])
					for k := lo; k < lo+32; k++ {
						if s, ok := ref[k]; ok {
							fmt.Printf("     ref at +%d %s\n", k-lo, s)
						}
					}
					i = lo + 16
				}
			}
		}
	}
}
