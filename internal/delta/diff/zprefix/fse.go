package zprefix

import (
	"math"
	"math/bits"
)

// A bitWriter fills bytes from their least bits on.
type bitWriter struct {
	out []byte
	acc uint64
	n   uint
}

func (w *bitWriter) add(value uint32, n uint) {
	w.acc |= (uint64(value) & (1<<n - 1)) << w.n
	for w.n += n; w.n >= 8; w.n -= 8 {
		w.out = append(w.out, byte(w.acc))
		w.acc >>= 8
	}
}

// end writes what is left; a bit stream that is read from its end has a 1 there.
func (w *bitWriter) end() []byte {
	if w.n > 0 {
		w.out = append(w.out, byte(w.acc))
	}
	return w.out
}

// An fseTable codes symbols (RFC 8878, 4.1). With log 0 there is one symbol, which takes no bits.
type fseTable struct {
	log     uint
	norm    []int16
	states  []uint16
	bits    []uint32 // by symbol: what is added to a state to see how many bits it gives off
	find    []int32
	written []byte // the description; nil for the predefined tables
}

func newTable(norm []int16, log uint) *fseTable {
	size := 1 << log
	t := &fseTable{log: log, norm: norm, states: make([]uint16, size), bits: make([]uint32, len(norm)), find: make([]int32, len(norm))}
	symbols := make([]uint8, size)
	next := make([]int, len(norm)+1)
	high := size - 1
	for s, n := range norm {
		if n == -1 {
			next[s+1] = next[s] + 1
			symbols[high] = uint8(s)
			high--
			continue
		}
		next[s+1] = next[s] + int(n)
	}
	pos, step := 0, size>>1+size>>3+3
	for s, n := range norm {
		for range n {
			symbols[pos] = uint8(s)
			for pos = (pos + step) & (size - 1); pos > high; pos = (pos + step) & (size - 1) {
			}
		}
	}
	for u, s := range symbols {
		t.states[next[s]] = uint16(size + u)
		next[s]++
	}
	total := int32(0)
	for s, n := range norm {
		switch n {
		case 0:
			t.bits[s] = uint32(log+1)<<16 - uint32(size)
		case -1, 1:
			t.bits[s] = uint32(log)<<16 - uint32(size)
			t.find[s] = total - 1
			total++
		default:
			most := uint32(log) - uint32(highBit(uint32(n-1)))
			t.bits[s] = most<<16 - uint32(n)<<most
			t.find[s] = total - int32(n)
			total += int32(n)
		}
	}
	return t
}

// first is the state that a stream of symbols ends in, as it is read.
func (t *fseTable) first(symbol uint8) uint32 {
	if t.log == 0 {
		return 0
	}
	n := (t.bits[symbol] + 1<<15) >> 16
	value := n<<16 - t.bits[symbol]
	return uint32(t.states[int32(value>>n)+t.find[symbol]])
}

func (t *fseTable) encode(w *bitWriter, state uint32, symbol uint8) uint32 {
	if t.log == 0 {
		return 0
	}
	n := (state + t.bits[symbol]) >> 16
	w.add(state, uint(n))
	return uint32(t.states[int32(state>>n)+t.find[symbol]])
}

// cost is how many bits the symbols counted take; infinite if the table does not have them all.
func (t *fseTable) cost(counts []uint32) float64 {
	total := 0.0
	for s, n := range counts {
		switch {
		case n == 0:
		case t == nil || s >= len(t.norm) || t.norm[s] == 0 || t.log == 0:
			return math.Inf(1)
		default:
			total += float64(n) * (float64(t.log) - math.Log2(math.Abs(float64(t.norm[s]))))
		}
	}
	return total
}

// fitted makes a table for the symbols counted, of which there are two at least.
func fitted(counts []uint32, most uint) *fseTable {
	var total uint32
	distinct, last := 0, 0
	for s, n := range counts {
		if n > 0 {
			total += n
			distinct++
			last = s
		}
	}
	log := uint(min(max(bits.Len32(total-1)-1, bits.Len(uint(distinct)), 5), int(most)))
	var best *fseTable
	bestBits := math.Inf(1)
	for l := log; l >= 5 && 1<<l >= distinct; l-- {
		t := newTable(normalize(counts[:last+1], total, l), l)
		t.written = describe(t.norm, l)
		if cost := t.cost(counts) + float64(8*len(t.written)); cost < bestBits {
			best, bestBits = t, cost
		}
	}
	return best
}

// normalize makes counts add up to 1<<log, each at least 1, at the least cost in bits.
func normalize(counts []uint32, total uint32, log uint) []int16 {
	norm := make([]int16, len(counts))
	left := 1 << log
	for s, n := range counts {
		if n > 0 {
			norm[s] = max(1, int16(uint64(n)<<log/uint64(total)))
			left -= int(norm[s])
		}
	}
	for ; left != 0; left -= sign(left) {
		best, gain := -1, math.Inf(-1)
		for s, n := range counts {
			if n == 0 || left < 0 && norm[s] == 1 {
				continue
			}
			if g := float64(n) * math.Log2(float64(norm[s]+int16(sign(left)))/float64(norm[s])); g > gain {
				best, gain = s, g
			}
		}
		norm[best] += int16(sign(left))
	}
	return norm
}

func sign(n int) int {
	if n < 0 {
		return -1
	}
	return 1
}

// describe writes the table's counts (RFC 8878, 4.1.1).
func describe(norm []int16, log uint) []byte {
	var w bitWriter
	w.add(uint32(log-5), 4)
	remaining, threshold, width := 1<<log+1, 1<<log, log+1
	zeros := false
	for s := 0; s < len(norm) && remaining > 1; {
		if zeros {
			start := s
			for norm[s] == 0 {
				s++
			}
			run := s - start
			for ; run >= 3; run -= 3 {
				w.add(3, 2)
			}
			w.add(uint32(run), 2)
		}
		count := int(norm[s])
		s++
		limit := 2*threshold - 1 - remaining
		remaining -= max(count, -count)
		count++
		if count >= threshold {
			count += limit
		}
		if n := width; count < limit {
			w.add(uint32(count), n-1)
		} else {
			w.add(uint32(count), n)
		}
		zeros = count == 1
		for remaining < threshold {
			width--
			threshold >>= 1
		}
	}
	return w.end()
}

var (
	predefinedLiterals = []int16{4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1}
	predefinedMatch    = []int16{1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
		-1, -1, -1, -1, -1, -1, -1}
	predefinedOffsets = []int16{1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1}
)

const (
	modePredefined = iota
	modeRLE
	modeFSE
	modeRepeat
)

// choose picks the cheapest way to code the symbols counted. prev is the table of the block before, if that wrote one.
func choose(counts []uint32, predefined []int16, log, most uint, prev *fseTable) (t *fseTable, mode byte, kept *fseTable) {
	distinct, symbol := 0, 0
	for s, n := range counts {
		if n > 0 {
			distinct++
			symbol = s
		}
	}
	given := newTable(predefined, log)
	least, mode := given.cost(counts), byte(modePredefined)
	t = given
	if distinct == 1 && 8 < least {
		return &fseTable{written: []byte{byte(symbol)}}, modeRLE, nil
	}
	if c := prev.cost(counts); c < least {
		t, least, mode, kept = prev, c, modeRepeat, prev
	}
	if distinct > 1 {
		if f := fitted(counts, most); f.cost(counts)+float64(8*len(f.written)) < least {
			return f, modeFSE, f
		}
	}
	return t, mode, kept
}

// codes writes the sequences section after their number.
func (e *encoder) codes(out []byte, list []sequence) []byte {
	var literals, offsets, lengths [64]uint32
	for _, s := range list {
		literals[literalsCode(s.literals)]++
		offsets[highBit(s.offset)]++
		lengths[matchCode(s.match)]++
	}
	var modes [3]byte
	var ll, of, ml *fseTable
	ll, modes[0], e.prev.literals = choose(literals[:], predefinedLiterals, 6, 9, e.prev.literals)
	of, modes[1], e.prev.offsets = choose(offsets[:], predefinedOffsets, 5, 8, e.prev.offsets)
	ml, modes[2], e.prev.length = choose(lengths[:], predefinedMatch, 6, 9, e.prev.length)
	out = append(out, modes[0]<<6|modes[1]<<4|modes[2]<<2)
	for i, t := range []*fseTable{ll, of, ml} {
		if modes[i] == modeFSE || modes[i] == modeRLE {
			out = append(out, t.written...)
		}
	}
	w := &bitWriter{out: out}
	var l, o, m uint32
	for i := len(list) - 1; i >= 0; i-- {
		s := list[i]
		lc, oc, mc := literalsCode(s.literals), uint8(highBit(s.offset)), matchCode(s.match)
		if i == len(list)-1 {
			m, o, l = ml.first(mc), of.first(oc), ll.first(lc)
		} else {
			o = of.encode(w, o, oc)
			m = ml.encode(w, m, mc)
			l = ll.encode(w, l, lc)
		}
		w.add(s.literals-literalsBase[lc], uint(literalsBits[lc]))
		w.add(s.match-matchBase[mc], uint(matchBits[mc]))
		w.add(s.offset, uint(oc))
	}
	w.add(m, ml.log)
	w.add(o, of.log)
	w.add(l, ll.log)
	w.add(1, 1)
	return w.end()
}
