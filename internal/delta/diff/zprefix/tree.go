package zprefix

import (
	"context"
	"encoding/binary"
	"math/bits"
)

const (
	depth  = 96  // nodes of the tree looked at for one position
	nice   = 384 // a match this long is taken without a look at others
	skipTo = 24  // of a nice match, positions at its end that are put into the tree
)

// A match is found at a distance.
type match struct{ length, distance int32 }

// A tree finds, for a position, ever longer matches at ever greater distances: for each hash of four bytes a binary tree
// of the positions that have it, sorted by what follows, the newest at the top (as in LZMA's bt4).
type tree struct {
	buf    []byte
	shift  uint
	head   []int32 // position + 1
	son    []int32 // two for each position
	short  [1 << 16]int32
	next   int // the first position that is not in it
	chunks int
}

func newTree(buf []byte) *tree {
	log := min(max(bits.Len(uint(len(buf))), 10), 24)
	return &tree{buf: buf, shift: uint(32 - log), head: make([]int32, 1<<log), son: make([]int32, 2*len(buf))}
}

// insertTo puts all positions before end into the tree.
func (t *tree) insertTo(ctx context.Context, end int) error {
	for t.next < end {
		if t.next>>20 > t.chunks {
			t.chunks = t.next >> 20
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
		pos := t.next
		longest := t.find(pos, nil, nil)
		if longest >= nice { // what follows is in the tree already, from where it was found
			t.next = min(pos+max(int(longest)-skipTo, 1), end)
			if t.next == end {
				return nil
			}
		}
	}
	return nil
}

// find puts pos into the tree and appends to found, if that is not nil, the matches that it passes. Matches end where buf
// does. It returns the length of the longest.
func (t *tree) find(pos int, found *[]match, short *match) int32 {
	t.next = pos + 1
	buf := t.buf
	if pos+4 > len(buf) {
		return 0
	}
	value := binary.LittleEndian.Uint32(buf[pos:])
	if short != nil {
		h := (value << 8 * 506832829) >> 16
		if at := int(t.short[h]) - 1; at >= 0 && pos-at < 1<<17 && buf[at] == buf[pos] && buf[at+1] == buf[pos+1] && buf[at+2] == buf[pos+2] {
			*short = match{3, int32(pos - at)}
		}
		t.short[h] = int32(pos) + 1
	}
	h := value * 2654435761 >> t.shift
	at := int(t.head[h]) - 1
	t.head[h] = int32(pos) + 1
	limit := min(len(buf)-pos, nice)
	left, right := 2*pos, 2*pos+1
	var leftLen, rightLen int
	longest := 3
	for n := depth; at >= 0 && n > 0; n-- {
		length := min(leftLen, rightLen)
		length += common(buf[at+length:], buf[pos+length:pos+limit])
		if length > longest {
			longest = length
			if found != nil {
				*found = append(*found, match{int32(length), int32(pos - at)})
			}
		}
		if length == limit {
			t.son[left], t.son[right] = t.son[2*at], t.son[2*at+1]
			return t.extend(pos, longest, found)
		}
		if buf[at+length] < buf[pos+length] {
			t.son[left] = int32(at) + 1
			left, leftLen = 2*at+1, length
			at = int(t.son[left]) - 1
		} else {
			t.son[right] = int32(at) + 1
			right, rightLen = 2*at, length
			at = int(t.son[right]) - 1
		}
	}
	t.son[left], t.son[right] = 0, 0
	return int32(longest)
}

// extend follows a nice match to its end.
func (t *tree) extend(pos, length int, found *[]match) int32 {
	if found == nil || len(*found) == 0 {
		return int32(length)
	}
	last := &(*found)[len(*found)-1]
	at := pos - int(last.distance)
	last.length += int32(common(t.buf[at+length:], t.buf[pos+length:]))
	return last.length
}

// common counts the bytes that a and b begin with, both; b is not longer than a.
func common(a, b []byte) int {
	n := 0
	for len(b)-n >= 8 {
		if d := binary.LittleEndian.Uint64(a[n:]) ^ binary.LittleEndian.Uint64(b[n:]); d != 0 {
			return n + bits.TrailingZeros64(d)/8
		}
		n += 8
	}
	for n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
