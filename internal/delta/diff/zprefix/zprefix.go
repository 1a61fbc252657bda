// Package zprefix writes Zstandard frames (RFC 8878) with a raw content prefix, as small as it can: what
// zstd --patch-from writes, and zstd -d --patch-from reads.
//
// The encoder of klauspost/compress, which reads them too, remembers two places for each of four million hashes, so of a
// prefix of tens of megabytes most is out of its sight; and it takes the first good match. This one has a binary tree over
// all of prefix and content, and looks for the cheapest way to write each block. It is for publishers, who have time: about
// a second for a megabyte of prefix and content.
package zprefix

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"
)

// MaxLength bounds prefix and content together: [klauspost's decoder] reads offsets of 30 bits.
const MaxLength = 1<<30 - 1<<20

const (
	maxBlock = 128 << 10
	minMatch = 3
)

// Memory is how many bytes Encode takes at most.
func Memory(prefix, content int64) int64 { return 12*(prefix+content) + 96<<20 }

// Encode writes content as one frame, without a checksum. ctx is looked at between blocks.
func Encode(ctx context.Context, prefix, content []byte) ([]byte, error) {
	if len(prefix)+len(content) > MaxLength {
		return nil, fmt.Errorf("prefix and content are %d bytes, more than %d", len(prefix)+len(content), MaxLength)
	}
	e := &encoder{buf: append(append(make([]byte, 0, len(prefix)+len(content)), prefix...), content...), start: len(prefix), reps: [3]uint32{1, 4, 8}}
	e.out = header(e.out, uint64(len(content)))
	if len(content) == 0 {
		return append(e.out, 1, 0, 0), nil // an empty raw block
	}
	e.tree = newTree(e.buf)
	if err := e.tree.insertTo(ctx, len(prefix)); err != nil {
		return nil, err
	}
	for at := len(prefix); at < len(e.buf); at += maxBlock {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		e.block(at, min(at+maxBlock, len(e.buf)))
	}
	return e.out, nil
}

// header starts a frame of one segment: its window is its content, and the prefix is in reach all the way.
func header(out []byte, size uint64) []byte {
	const single = 1 << 5
	out = append(out, 0x28, 0xb5, 0x2f, 0xfd)
	switch {
	case size < 256:
		return append(out, single, byte(size))
	case size < 65536+256:
		return binary.LittleEndian.AppendUint16(append(out, 1<<6|single), uint16(size-256))
	case size < 1<<32:
		return binary.LittleEndian.AppendUint32(append(out, 2<<6|single), uint32(size))
	}
	return binary.LittleEndian.AppendUint64(append(out, 3<<6|single), size)
}

// A sequence is literals and the match that follows them.
type sequence struct {
	literals, match uint32
	offset          uint32 // as it is coded: 1 to 3 repeat, else the distance + 3
}

type encoder struct {
	buf   []byte // prefix and content
	start int    // of the content
	tree  *tree
	out   []byte
	reps  [3]uint32
	prev  tables // of the block before
	parse parser
}

func highBit(v uint32) int { return bits.Len32(v) - 1 }

// repeat returns the distance that an offset code stands for, and moves reps along (RFC 8878, 3.1.1.5).
func repeat(reps *[3]uint32, code uint32, literals uint32) uint32 {
	if code > 3 {
		reps[2], reps[1], reps[0] = reps[1], reps[0], code-3
		return code - 3
	}
	index := code - 1
	if literals == 0 {
		index++
	}
	var distance uint32
	switch index {
	case 0:
		return reps[0]
	case 1:
		distance = reps[1]
		reps[1] = reps[0]
	case 2, 3:
		distance = reps[2]
		if index == 3 {
			distance = reps[0] - 1
		}
		reps[2], reps[1] = reps[1], reps[0]
	}
	reps[0] = distance
	return distance
}
