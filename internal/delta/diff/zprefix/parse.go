package zprefix

import "math"

// A parser chooses the sequences of a block. What the tree finds is kept, so that a block can be parsed again at better
// known costs.
type parser struct {
	from, to []int32 // in found, by position in the block
	found    []match
	long     []match // by position: what is left of a nice match that covers it
	nodes    []node
}

// A node is the cheapest way known to a position.
type node struct {
	cost     int32
	match    int32  // length of the match that ends here; 0: a literal does
	code     uint32 // offset code of that match
	literals int32  // that end here
	reps     [3]uint32
}

// look asks the tree about the positions from at to end.
func (p *parser) look(t *tree, at, end int) {
	n := end - at
	p.found = p.found[:0]
	if cap(p.from) < n+1 {
		p.from, p.to, p.long, p.nodes = make([]int32, maxBlock+1), make([]int32, maxBlock+1), make([]match, maxBlock+1), make([]node, maxBlock+1)
	}
	clear(p.from)
	clear(p.to)
	clear(p.long)
	for pos := at; pos < end; pos++ {
		i := pos - at
		p.from[i] = int32(len(p.found))
		if pos < t.next { // inside of a nice match that the block before ended in
			p.to[i] = p.from[i]
			continue
		}
		var short match
		longest := int(t.find(pos, &p.found, &short))
		if short.length > 0 && (len(p.found) == int(p.from[i]) || p.found[p.from[i]].distance > short.distance) {
			p.found = append(p.found, match{})
			copy(p.found[p.from[i]+1:], p.found[p.from[i]:])
			p.found[p.from[i]] = short
		}
		p.to[i] = int32(len(p.found))
		if longest >= nice {
			pos = p.pass(t, at, end, pos, longest) - 1
		}
	}
}

// pass notes a nice match for all positions that it covers in the block, puts some of them into the tree, and returns the
// position after it.
func (p *parser) pass(t *tree, at, end, pos, length int) int {
	distance := p.found[len(p.found)-1].distance
	stop := min(pos+length, end)
	for q := pos; q < stop; q++ {
		p.long[q-at] = match{int32(stop - q), distance}
		p.from[q-at], p.to[q-at] = int32(len(p.found)), int32(len(p.found))
	}
	for q := max(pos+1, stop-skipTo); q < stop; q++ {
		t.find(q, nil, nil)
	}
	t.next = stop
	return stop
}

// run finds the cheapest sequences for block. What is left at its end are its last literals.
func (p *parser) run(block, buf []byte, at int, reps [3]uint32, c *costs) []sequence {
	var all []sequence
	pending := uint32(0) // literals before the segment
	for begin := 0; begin < len(block); {
		end := p.segment(block, buf, at, begin, reps, int32(pending), c)
		part, left := p.trace(begin, end)
		if len(part) > 0 {
			part[0].literals += pending
			pending = 0
		}
		pending += left
		all = append(all, part...)
		reps = p.nodes[end].reps
		begin = end
	}
	return all
}

// segment fills the nodes from begin on, up to the end of the block or of the first match that is taken whatever else
// there is, and returns that end.
func (p *parser) segment(block, buf []byte, at, begin int, reps [3]uint32, pending int32, c *costs) int {
	reach := begin
	p.nodes[begin] = node{literals: pending, reps: reps}
	for i := begin; i < len(block); i++ {
		here := &p.nodes[i]
		if i == reach {
			reach++
			p.nodes[reach] = node{cost: math.MaxInt32}
		}
		literal := here.cost + c.literal[block[i]] + c.literals[literalsCode(uint32(here.literals+1))] - c.literals[literalsCode(uint32(here.literals))]
		if next := &p.nodes[i+1]; literal < next.cost {
			*next = node{cost: literal, literals: here.literals + 1, reps: here.reps}
		}
		if end := p.matches(block, buf, at, i, &reach, c); end > 0 {
			return end
		}
	}
	return len(block)
}

// matches takes all matches from position i. If one is taken in any case, it returns its end.
func (p *parser) matches(block, buf []byte, at, i int, reach *int, c *costs) int {
	here := p.nodes[i]
	least := minMatch
	longest := p.long[i]
	best := match{}
	var bestCode uint32
	for code := uint32(1); code <= 3; code++ {
		reps := here.reps
		distance := int(repeat(&reps, code, uint32(here.literals)))
		if distance == 0 || distance > at+i {
			continue
		}
		length := common(buf[at+i-distance:], block[i:])
		if length > int(best.length) {
			best, bestCode = match{int32(length), int32(distance)}, code
		}
		if length >= least && length < nice {
			p.relax(i, least, length, code, reach, c)
			least = length + 1
		}
	}
	if best.length >= nice && best.length+8 >= longest.length {
		return p.take(i, int(best.length), bestCode, c)
	}
	if longest.length >= nice {
		return p.take(i, int(longest.length), uint32(longest.distance)+3, c)
	}
	found := p.found[p.from[i]:p.to[i]]
	if longest.length >= minMatch {
		p.relax(i, minMatch, int(longest.length), uint32(longest.distance)+3, reach, c)
		return 0
	}
	for _, m := range found {
		length := min(int(m.length), len(block)-i)
		p.relax(i, least, length, uint32(m.distance)+3, reach, c)
		least = max(least, length+1)
	}
	return 0
}

// relax offers a match from i in all lengths from least on.
func (p *parser) relax(i, least, length int, code uint32, reach *int, c *costs) {
	if length < least {
		return
	}
	for *reach < i+length {
		*reach++
		p.nodes[*reach] = node{cost: math.MaxInt32}
	}
	here := &p.nodes[i]
	base := here.cost + c.offset[highBit(code)] + c.literals[0]
	reps, done := here.reps, false
	for n := length; n >= least; n-- {
		cost := base + c.match[matchCode(uint32(n))]
		if to := &p.nodes[i+n]; cost < to.cost {
			if !done {
				repeat(&reps, code, uint32(here.literals))
				done = true
			}
			*to = node{cost: cost, match: int32(n), code: code, reps: reps}
		}
	}
}

// take ends a segment with a match.
func (p *parser) take(i, length int, code uint32, c *costs) int {
	here := p.nodes[i]
	reps := here.reps
	repeat(&reps, code, uint32(here.literals))
	p.nodes[i+length] = node{match: int32(length), code: code, reps: reps}
	return i + length
}

// trace reads the sequences of a segment backwards. left counts the literals after the last.
func (p *parser) trace(begin, end int) (list []sequence, left uint32) {
	i := end
	for i > begin && p.nodes[i].match == 0 {
		i--
		left++
	}
	for i > begin {
		n := p.nodes[i]
		s := sequence{match: uint32(n.match), offset: n.code}
		i -= int(n.match)
		for i > begin && p.nodes[i].match == 0 {
			i--
			s.literals++
		}
		list = append(list, s)
	}
	for a, b := 0, len(list)-1; a < b; a, b = a+1, b-1 {
		list[a], list[b] = list[b], list[a]
	}
	return list, left
}
