package reloc

import (
	"bytes"
	"crypto/sha256"
	"hash"
)

// A filler sees every byte of the new file before it is written, in order, and fills in what follows from those before.
type filler interface {
	pass(part []byte, at uint64)
}

func (a *applier) fillers() error {
	for _, f := range a.plan.FindTabs {
		size := 8*f.Count + 4
		if f.Count == 0 || f.Count > maxFunction || f.Off < size || f.Functab > f.Off-size {
			return damaged("a table for finding functions does not stand behind that of functions")
		}
		if err := a.take(f.Bytes(a.plan.NewSize)); err != nil {
			return err
		}
		a.fill = append(a.fill, &findTab{FindTab: f, newSize: a.plan.NewSize})
	}
	// Pages are hashed as they will be: when all else has been filled in.
	for _, h := range a.plan.Hashes {
		if h.Off < h.Limit || h.Off > a.plan.NewSize || h.PageBits < minPage {
			return damaged("page hashes do not stand behind the pages, or of too many")
		}
		if err := a.take(h.Bytes()); err != nil {
			return err
		}
		a.fill = append(a.fill, &pageHasher{PageHashes: h, hash: sha256.New()})
	}
	return nil
}

// Bytes is what filling in takes, of the tables at hand and to be filled in.
func (f FindTab) Bytes(newSize uint64) uint64 { return 8*f.Count + 4 + findLimit(newSize) }

// Bytes is what filling in takes.
func (h PageHashes) Bytes() uint64 { return h.Limit >> h.PageBits * sha256.Size }

// fillIn copies what stands at off of the new file into the part of it that begins at at.
func fillIn(part []byte, at, off uint64, content []byte) {
	if off < at {
		if at-off < uint64(len(content)) {
			copy(part, content[at-off:])
		}
	} else if off-at < uint64(len(part)) {
		copy(part[off-at:], content)
	}
}

// pageHasher hashes pages, and fills in their hashes.
type pageHasher struct {
	PageHashes
	hash   hash.Hash
	hashed uint64
	sums   bytes.Buffer
}

func (h *pageHasher) pass(part []byte, at uint64) {
	page := uint64(1) << h.PageBits
	for rest := part; len(rest) > 0 && h.hashed < h.Limit; {
		n := min(uint64(len(rest)), page-h.hashed%page, h.Limit-h.hashed)
		_, _ = h.hash.Write(rest[:n])
		rest, h.hashed = rest[n:], h.hashed+n
		if h.hashed%page == 0 || h.hashed == h.Limit {
			h.sums.Write(h.hash.Sum(nil))
			h.hash.Reset()
		}
	}
	if at+uint64(len(part)) > h.Off {
		fillIn(part, at, h.Off, h.sums.Bytes())
	}
}

// findTab keeps the table of functions, and fills in the one for finding them.
type findTab struct {
	FindTab
	newSize uint64
	functab []byte
	table   []byte
}

func (f *findTab) pass(part []byte, at uint64) {
	end := at + uint64(len(part))
	if want := f.Functab + uint64(len(f.functab)); want < f.Functab+8*f.Count+4 && at <= want && want < end {
		f.functab = append(f.functab, part[want-at:min(uint64(len(part)), f.Functab+8*f.Count+4-at)]...)
	}
	if end <= f.Off {
		return
	}
	if f.table == nil {
		f.table = FindTable(f.functab, f.newSize)
	}
	fillIn(part, at, f.Off, f.table)
}

const (
	findBucket = 4096 // bytes of text for each record: a number of 4 bytes, and 16 differences from it
	findPart   = 256  // bytes of text for each of those
)

// findLimit is more than such a table of a program of that size has.
func findLimit(size uint64) uint64 { return size/64 + 1024 }

// FindTable makes Go's table for finding functions (cmd/link/internal/ld/pcln.go, findfunctab) in a file of that size from the
// table of functions: for each 256 bytes of text the number of the first function in them. It is empty if it would be too
// large.
func FindTable(functab []byte, size uint64) []byte {
	count := len(functab) / 8
	if count == 0 || len(functab) != 8*count+4 {
		return []byte{}
	}
	start := func(i int) uint64 { return uint64(le.Uint32(functab[8*i:])) }
	text := start(count)
	parts := (text + findPart - 1) / findPart
	buckets := (text + findBucket - 1) / findBucket
	if 4*buckets+parts > findLimit(size) {
		return []byte{}
	}
	table := make([]byte, 4*buckets+parts)
	i := 0
	var base int
	for part := range parts {
		for i+1 < count && start(i+1) <= part*findPart {
			i++
		}
		at := part/16*20 + part%16 + 4
		if part%16 == 0 {
			base = i
			le.PutUint32(table[at-4:], uint32(base))
		}
		table[at] = byte(i - base)
	}
	return table
}
