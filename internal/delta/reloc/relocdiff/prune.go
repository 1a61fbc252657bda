package relocdiff

import (
	"container/heap"
	"math/bits"

	"github.com/fairlead-dev/fairlead/internal/delta/reloc"
)

// What things cost in a patch, in hundredths of a byte, as measured on programs.
const (
	costNew      = 30  // a new byte
	costWrong    = 80  // a copied byte that has to be corrected
	costBlock    = 200 // a block, besides how far it is away
	costSeekByte = 120 // a byte of that distance
)

// prune takes out blocks that cost more than the new bytes they save: those that fetch a few bytes from far away.
func prune(blocks []reloc.Block, old, next []byte) []reloc.Block {
	p := &pruner{nodes: make([]node, len(blocks))}
	for i, b := range blocks {
		n := &p.nodes[i]
		*n = node{block: b, prev: i - 1, next: i + 1, at: i}
		for k := range b.Size {
			if old[b.Old+k] == next[b.New+k] {
				n.saves += costNew
			} else {
				n.saves -= costWrong - costNew
			}
		}
	}
	for i := range p.nodes {
		p.nodes[i].gain = p.worth(i)
		p.heap = append(p.heap, i)
	}
	heap.Init(p)
	for len(p.heap) > 0 && p.nodes[p.heap[0]].gain < 0 {
		i := heap.Pop(p).(int)
		n := &p.nodes[i]
		n.gone = true
		for _, k := range []int{n.prev, n.next} {
			if k < 0 || k >= len(p.nodes) {
				continue
			}
			if k == n.prev {
				p.nodes[k].next = n.next
			} else {
				p.nodes[k].prev = n.prev
			}
		}
		for _, k := range []int{n.prev, n.next} {
			if k >= 0 && k < len(p.nodes) {
				p.nodes[k].gain = p.worth(k)
				heap.Fix(p, p.nodes[k].at)
			}
		}
	}
	kept := blocks[:0]
	for _, n := range p.nodes {
		if !n.gone {
			kept = append(kept, n.block)
		}
	}
	return kept
}

type node struct {
	block          reloc.Block
	prev, next, at int
	saves, gain    int
	gone           bool
}

type pruner struct {
	nodes []node
	heap  []int
}

// worth is what the patch is smaller by with a block than without it.
func (p *pruner) worth(i int) int {
	n := &p.nodes[i]
	cost := costBlock + p.seek(n.prev, i)
	if n.next < len(p.nodes) {
		cost += p.seek(i, n.next) - p.seek(n.prev, n.next)
	}
	return n.saves - cost
}

// seek is what it costs to go from one block to another.
func (p *pruner) seek(from, to int) int {
	var at, end uint64
	if from >= 0 {
		b := p.nodes[from].block
		at, end = b.Old+b.Size, b.New+b.Size
	}
	b := p.nodes[to].block
	d := int64(b.Old - at)
	if d == int64(b.New-end) {
		d = 0
	}
	v := uint64(d<<1 ^ d>>63)
	return costSeekByte * (bits.Len64(v) + 6) / 7
}

func (p *pruner) Len() int           { return len(p.heap) }
func (p *pruner) Less(i, j int) bool { return p.nodes[p.heap[i]].gain < p.nodes[p.heap[j]].gain }
func (p *pruner) Push(x any)         { p.heap = append(p.heap, x.(int)) }
func (p *pruner) Swap(i, j int) {
	p.heap[i], p.heap[j] = p.heap[j], p.heap[i]
	p.nodes[p.heap[i]].at, p.nodes[p.heap[j]].at = i, j
}

func (p *pruner) Pop() any {
	i := p.heap[len(p.heap)-1]
	p.heap = p.heap[:len(p.heap)-1]
	return i
}
