package zprefix

import "math"

// costs says what the parts of sequences take, in 1/256 bits, as far as one knows before they are coded.
type costs struct {
	literal  [256]int32
	literals [36]int32 // by code, extra bits included
	match    [53]int32
	offset   [32]int32
}

// A census counts what was, for the costs of what will be.
type census struct {
	literal  [256]uint32
	literals [36]uint32
	match    [53]uint32
	offset   [32]uint32
}

// guess is for a first look at a block: of its bytes, few are literals, and rather those that are rare.
func guess(block []byte) *census {
	c := new(census)
	for _, b := range block {
		c.literal[b]++
	}
	for i := range c.literal {
		c.literal[i] = c.literal[i]/16 + 1
	}
	for i := range c.literals {
		c.literals[i] = uint32(max(1, 24-2*i))
	}
	for i := range c.match {
		c.match[i] = uint32(max(2, 20-i))
	}
	for i := range c.offset {
		c.offset[i] = 4
	}
	c.offset[0], c.offset[1] = 16, 8
	return c
}

func (c *census) costs() *costs {
	p := new(costs)
	price(p.literal[:], c.literal[:], nil)
	price(p.literals[:], c.literals[:], literalsBits[:])
	price(p.match[:], c.match[:], matchBits[:])
	price(p.offset[:], c.offset[:], nil)
	for i := range p.offset {
		p.offset[i] += int32(i) * 256
	}
	return p
}

// price gives each symbol its information, and half a symbol to those that were not seen.
func price(out []int32, counts []uint32, extra []uint8) {
	total := 0.0
	for _, n := range counts {
		total += float64(n) + 0.5
	}
	for i, n := range counts {
		bits := math.Log2(total / (float64(n) + 0.5))
		out[i] = int32(bits * 256)
		if extra != nil {
			out[i] += int32(extra[i]) * 256
		}
	}
}

// mixed is c with a part of what was before it.
func (c *census) mixed(before *census) *census {
	m := *c
	blend := func(now, old []uint32) {
		for i := range now {
			now[i] = now[i]*4 + old[i]
		}
	}
	blend(m.literal[:], before.literal[:])
	blend(m.literals[:], before.literals[:])
	blend(m.match[:], before.match[:])
	blend(m.offset[:], before.offset[:])
	return &m
}

// The codes of RFC 8878, 3.1.1.3.2.1.1: the base of each, and how many bits are added.
var (
	literalsBase = [36]uint32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 22, 24, 28, 32, 40, 48, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536}
	literalsBits = [36]uint8{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	matchBase    = [53]uint32{3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34,
		35, 37, 39, 41, 43, 47, 51, 59, 67, 83, 99, 131, 259, 515, 1027, 2051, 4099, 8195, 16387, 32771, 65539}
	matchBits = [53]uint8{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
)

func literalsCode(n uint32) uint8 {
	switch {
	case n < 16:
		return uint8(n)
	case n >= 64:
		return uint8(highBit(n) + 19)
	}
	code := uint8(16)
	for literalsBase[code+1] <= n {
		code++
	}
	return code
}

func matchCode(n uint32) uint8 {
	switch {
	case n < 35:
		return uint8(n - 3)
	case n-3 >= 128:
		return uint8(highBit(n-3) + 36)
	}
	code := uint8(32)
	for matchBase[code+1] <= n {
		code++
	}
	return code
}
