package crashfs

import (
	"bytes"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
)

const (
	allSubsets = 7 // up to so many operations that are not durable, every subset is tried
	allDirty   = 3 // up to so many files that are not durable, every combination
	blockSize  = 16
)

// Crashes returns the states that a loss of power at this moment may leave, each a disk of its own: all of them when
// there are few, and otherwise the likeliest (every beginning of the operations, every single one lost, every single
// one kept) and random ones, at most about max. The disk itself stays as it is.
func (f *FS) Crashes(rng *rand.Rand, most int) []*FS {
	var states []*FS
	for _, kept := range f.subsets(rng, most) {
		base, copies := f.copy()
		for _, o := range kept {
			o.apply(copies)
		}
		for _, contents := range dirtyContents(base, f.Zeros, rng, max(1, most/8)) {
			states = append(states, reboot(base, contents))
		}
		if len(states) > most {
			break
		}
	}
	return states
}

func (f *FS) subsets(rng *rand.Rand, most int) [][]op {
	n := len(f.pending)
	pick := func(has func(i int) bool) []op {
		var list []op
		for i, o := range f.pending {
			if has(i) {
				list = append(list, o)
			}
		}
		return list
	}
	var all [][]op
	if n <= allSubsets {
		for bits := range 1 << n {
			all = append(all, pick(func(i int) bool { return bits>>i&1 == 1 }))
		}
		return all
	}
	for k := range n + 1 {
		all = append(all, pick(func(i int) bool { return i < k }))
	}
	for k := range n {
		all = append(all, pick(func(i int) bool { return i != k }), pick(func(i int) bool { return i == k }))
	}
	for len(all) < most {
		all = append(all, pick(func(int) bool { return rng.IntN(2) == 0 }))
	}
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// copy copies all nodes that are durable or may become so, with their durable entries.
func (f *FS) copy() (root *node, copies map[*node]*node) {
	copies = map[*node]*node{}
	var visit func(n *node) *node
	visit = func(n *node) *node {
		if n == nil {
			return nil
		}
		if c, ok := copies[n]; ok {
			return c
		}
		c := &node{typ: n.typ, perm: n.perm, synced: n.synced, data: n.data, durable: n.durable, target: n.target, changed: n.changed}
		copies[n] = c
		if n.typ == fs.ModeDir {
			c.base = map[string]*node{}
			for name, child := range n.base {
				c.base[name] = visit(child)
			}
			for _, child := range n.now {
				visit(child)
			}
		}
		return c
	}
	root = visit(f.root)
	for _, o := range f.pending {
		for _, c := range o.changes {
			visit(c.dir)
			visit(c.to)
			visit(c.file)
		}
	}
	return root, copies
}

// dirtyContents lists what the files that are reachable and not durable may hold.
func dirtyContents(root *node, zeros bool, rng *rand.Rand, most int) []map[*node][]byte {
	var dirty []*node
	seen := map[*node]bool{}
	var visit func(n *node)
	visit = func(n *node) {
		if seen[n] {
			return
		}
		seen[n] = true
		if n.typ == 0 && !bytes.Equal(n.data, n.durable) {
			dirty = append(dirty, n)
		}
		for _, name := range slices.Sorted(maps.Keys(n.base)) {
			visit(n.base[name])
		}
	}
	visit(root)
	variants := func(n *node) [][]byte {
		v := [][]byte{n.durable, n.data}
		if len(n.data) > 0 {
			torn := bytes.Clone(n.data)
			clear(torn[(len(torn)-1)/blockSize*blockSize:])
			v = append(v, torn, n.data[:len(n.data)/2])
		}
		if zeros && len(n.data) > len(n.durable) {
			v = append(v, append(bytes.Clone(n.durable), make([]byte, len(n.data)-len(n.durable))...))
		}
		return v
	}
	var all []map[*node][]byte
	if len(dirty) <= allDirty {
		all = []map[*node][]byte{{}}
		for _, n := range dirty {
			var next []map[*node][]byte
			for _, v := range variants(n) {
				for _, m := range all {
					m = maps.Clone(m)
					m[n] = v
					next = append(next, m)
				}
			}
			all = next
		}
	} else {
		for range max(4, most) {
			m := map[*node][]byte{}
			for _, n := range dirty {
				v := variants(n)
				m[n] = v[rng.IntN(len(v))]
			}
			all = append(all, m)
		}
	}
	if len(all) > most {
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:most]
	}
	return all
}

// reboot makes a disk of what is durable: the state after the machine has come up again.
func reboot(root *node, contents map[*node][]byte) *FS {
	copies := map[*node]*node{}
	var visit func(n *node) *node
	visit = func(n *node) *node {
		if c, ok := copies[n]; ok {
			return c
		}
		c := &node{typ: n.typ, perm: n.synced, synced: n.synced, durable: n.durable, target: n.target, changed: n.changed}
		if v, ok := contents[n]; ok {
			c.durable = v
		}
		c.data = c.durable
		copies[n] = c
		if n.typ == fs.ModeDir {
			c.now, c.base = map[string]*node{}, map[string]*node{}
			for name, child := range n.base {
				c.now[name] = visit(child)
				c.base[name] = c.now[name]
			}
		}
		return c
	}
	return &FS{root: visit(root), stop: -1, clock: 1 << 40}
}

// Clone returns a disk like this one, with what is not durable yet, for the next process.
func (f *FS) Clone() *FS {
	copies := map[*node]*node{}
	var visit func(n *node) *node
	visit = func(n *node) *node {
		if n == nil {
			return nil
		}
		if c, ok := copies[n]; ok {
			return c
		}
		c := &node{typ: n.typ, perm: n.perm, synced: n.synced, data: n.data, durable: n.durable, target: n.target, changed: n.changed}
		copies[n] = c
		if n.typ == fs.ModeDir {
			c.now, c.base = map[string]*node{}, map[string]*node{}
			for name, child := range n.now {
				c.now[name] = visit(child)
			}
			for name, child := range n.base {
				c.base[name] = visit(child)
			}
		}
		return c
	}
	c := &FS{root: visit(f.root), stop: -1, clock: f.clock, Zeros: f.Zeros}
	for _, o := range f.pending {
		var changes []change
		for _, ch := range o.changes {
			changes = append(changes, change{dir: visit(ch.dir), name: ch.name, to: visit(ch.to), file: visit(ch.file), perm: ch.perm})
		}
		c.pending = append(c.pending, op{changes})
	}
	return c
}
