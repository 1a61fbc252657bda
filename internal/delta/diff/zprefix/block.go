package zprefix

import (
	"bytes"

	"github.com/klauspost/compress/huff0"
)

// tables are what a block may use again of those before it.
type tables struct {
	huffman                   *huff0.Scratch
	again                     bool // huffman's table is the last one written
	literals, offsets, length *fseTable
	census                    *census
}

const (
	blockRaw = iota
	blockRLE
	blockCompressed
)

func (e *encoder) block(at, end int) {
	content := e.buf[at:end]
	last := 0
	if end == len(e.buf) {
		last = 1
	}
	head := func(kind, size int) {
		h := size<<3 | kind<<1 | last
		e.out = append(e.out, byte(h), byte(h>>8), byte(h>>16))
	}
	e.parse.look(e.tree, at, end)
	sequences := e.sequences(content, at)
	before, reps := e.prev, e.reps
	body := e.compressed(content, sequences)
	if uniform(content) && len(body) > 1 {
		e.prev, e.reps = before, reps
		e.prev.again = false
		head(blockRLE, len(content))
		e.out = append(e.out, content[0])
		return
	}
	if len(body) >= len(content) {
		e.prev, e.reps = before, reps
		e.prev.again = false
		head(blockRaw, len(content))
		e.out = append(e.out, content...)
		return
	}
	head(blockCompressed, len(body))
	e.out = append(e.out, body...)
}

// sequences parses a block until its costs are those of what it came to.
func (e *encoder) sequences(content []byte, at int) []sequence {
	passes := 2
	known := e.prev.census
	if known == nil {
		known = guess(content)
		passes = 3
	}
	var list []sequence
	for range passes {
		list = e.parse.run(content, e.buf, at, e.reps, known.costs())
		now := count(content, list)
		e.prev.census = now
		known = now.mixed(known)
	}
	e.prev.census = known.shrunk()
	return list
}

// shrunk keeps the counts of a long file from outgrowing those of a block.
func (c *census) shrunk() *census {
	s := *c
	for _, counts := range [][]uint32{s.literal[:], s.literals[:], s.match[:], s.offset[:]} {
		var total uint32
		for _, n := range counts {
			total += n
		}
		for total > 8192 {
			total = 0
			for i := range counts {
				counts[i] /= 2
				total += counts[i]
			}
		}
	}
	return &s
}

func count(content []byte, list []sequence) *census {
	c := new(census)
	at := uint32(0)
	for _, s := range list {
		for _, b := range content[at : at+s.literals] {
			c.literal[b]++
		}
		at += s.literals + s.match
		c.literals[literalsCode(s.literals)]++
		c.match[matchCode(s.match)]++
		c.offset[highBit(s.offset)]++
	}
	for _, b := range content[at:] {
		c.literal[b]++
	}
	return c
}

// compressed writes the content of a compressed block, and moves reps and tables along.
func (e *encoder) compressed(content []byte, list []sequence) []byte {
	var literals []byte
	at := uint32(0)
	for _, s := range list {
		literals = append(literals, content[at:at+s.literals]...)
		at += s.literals + s.match
		repeat(&e.reps, s.offset, s.literals)
	}
	literals = append(literals, content[at:]...)
	out := e.literals(nil, literals)
	switch n := len(list); {
	case n == 0:
		return append(out, 0)
	case n < 128:
		out = append(out, byte(n))
	case n < 0x7f00:
		out = append(out, byte(n>>8)+128, byte(n))
	default:
		out = append(out, 255, byte(n-0x7f00), byte((n-0x7f00)>>8))
	}
	return e.codes(out, list)
}

const (
	literalsRaw = iota
	literalsRLE
	literalsHuffman
	literalsAgain
)

// uniform reports whether all bytes are the same.
func uniform(b []byte) bool {
	return bytes.Count(b, b[:1]) == len(b)
}

// literals writes the literals section.
func (e *encoder) literals(out, literals []byte) []byte {
	n := len(literals)
	plain := func(kind int) []byte {
		switch {
		case n < 32:
			return append(out, byte(kind|n<<3))
		case n < 4096:
			return append(out, byte(kind|1<<2|n<<4), byte(n>>4))
		}
		return append(out, byte(kind|3<<2|n<<4), byte(n>>4), byte(n>>12))
	}
	if n > 2 && uniform(literals) {
		return append(plain(literalsRLE), literals[0])
	}
	packed, again, single := e.huffman(literals)
	if packed == nil {
		return append(plain(literalsRaw), literals...)
	}
	kind := literalsHuffman
	if again {
		kind = literalsAgain
	}
	format, width, length := 1, 10, 3
	switch m := max(n, len(packed)); {
	case single:
		format = 0
	case m >= 1<<14:
		format, width, length = 3, 18, 5
	case m >= 1<<10:
		format, width, length = 2, 14, 4
	}
	h := uint64(kind) | uint64(format)<<2 | uint64(n)<<4 | uint64(len(packed))<<(4+width)
	for range length {
		out = append(out, byte(h))
		h >>= 8
	}
	return append(out, packed...)
}

// huffman packs literals if that saves anything.
func (e *encoder) huffman(literals []byte) (packed []byte, again, single bool) {
	if len(literals) < 8 {
		return nil, false, false
	}
	// A scratch of its own for each block: the one before stays what the decoder has if this one is not written.
	s := &huff0.Scratch{WantLogLess: 10}
	if e.prev.again {
		s.TransferCTable(e.prev.huffman)
	} else {
		s.Reuse = huff0.ReusePolicyNone
	}
	var err error
	if single = len(literals) < 1000; single {
		packed, again, err = huff0.Compress1X(literals, s)
	} else {
		packed, again, err = huff0.Compress4X(literals, s)
	}
	if err != nil || len(packed)+4 >= len(literals) || single && len(packed) >= 1000 {
		return nil, false, false
	}
	e.prev.huffman, e.prev.again = s, true
	return packed, again, single
}
