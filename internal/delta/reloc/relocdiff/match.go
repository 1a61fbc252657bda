package relocdiff

import (
	"bytes"
	"context"

	"github.com/fairlead-dev/fairlead/internal/delta/reloc"
)

// newMatcher takes its time, and 9 times as much memory as old while it does: what it is matched with is better made
// afterwards.
func newMatcher(old []byte) *matcher { return &matcher{old: old, sa: suffixArray(old, 255)} }

// match aligns next with old: which parts of it are best copied, corrected here and there, from where. It is the matching of
// bsdiff (Percival, "Naive differences of executable code", 2003) on a suffix array.
func (m *matcher) match(ctx context.Context, next []byte) ([]reloc.Block, error) {
	m.next = next
	old := m.old
	var scan, length, pos, lastScan, lastPos, lastOffset int
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	work := 0 // bytes looked at since the context was
	for scan < len(next) {
		oldScore := 0
		scan += length
		for ahead := scan; scan < len(next); scan++ {
			pos, length = m.longest(next[scan:])
			if work += 1 + length; work >= 1<<16 {
				if work = 0; ctx.Err() != nil {
					return nil, context.Cause(ctx)
				}
			}
			for ; ahead < scan+length; ahead++ {
				if i := ahead + lastOffset; i >= 0 && i < len(old) && old[i] == next[ahead] {
					oldScore++
				}
			}
			if length == oldScore && length != 0 || length > oldScore+slack {
				break
			}
			if i := scan + lastOffset; i >= 0 && i < len(old) && old[i] == next[scan] {
				oldScore--
			}
		}
		if length == oldScore && scan < len(next) {
			continue
		}
		forward := m.forward(lastScan, lastPos, scan)
		backward := 0
		if scan < len(next) {
			backward = m.backward(scan, pos, lastScan)
		}
		if overlap := lastScan + forward - (scan - backward); overlap > 0 {
			cut := m.cut(lastScan+forward-overlap, lastPos+forward-overlap, scan-backward, pos-backward, overlap)
			forward += cut - overlap
			backward -= cut
		}
		if forward > 0 {
			m.blocks = append(m.blocks, reloc.Block{Old: uint64(lastPos), New: uint64(lastScan), Size: uint64(forward)})
		}
		lastScan, lastPos, lastOffset = scan-backward, pos-backward, pos-scan
	}
	return prune(m.blocks, old, next), nil
}

const slack = 5

type matcher struct {
	old, next []byte
	sa        []int32
	blocks    []reloc.Block
}

// longest finds the longest prefix of p in old.
func (m *matcher) longest(p []byte) (pos, length int) {
	if len(m.sa) == 0 {
		return 0, 0
	}
	lo, hi := 0, len(m.sa)-1
	lenLo, lenHi := common(m.old[m.sa[lo]:], p), common(m.old[m.sa[hi]:], p)
	for hi-lo > 1 {
		mid := int(uint(lo+hi) >> 1)
		from := min(lenLo, lenHi) // what all between have in common
		s := m.old[m.sa[mid]:]
		n := from
		if n < len(s) {
			n += common(s[n:], p[n:])
		}
		if n == len(p) || n < len(s) && s[n] > p[n] {
			hi, lenHi = mid, n
		} else {
			lo, lenLo = mid, n
		}
	}
	if lenLo >= lenHi {
		return int(m.sa[lo]), lenLo
	}
	return int(m.sa[hi]), lenHi
}

// common is how many bytes a and b begin with alike.
func common(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for i+32 <= n && bytes.Equal(a[i:i+32], b[i:i+32]) {
		i += 32
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}

// forward is how far a match goes on, as long as more than half of the bytes are the same.
func (m *matcher) forward(scan, pos, limit int) (length int) {
	score, best := 0, 0
	for i := 0; scan+i < limit && pos+i < len(m.old); {
		if m.old[pos+i] == m.next[scan+i] {
			score++
		}
		i++
		if score*2-i > best*2-length {
			best, length = score, i
		}
	}
	return length
}

func (m *matcher) backward(scan, pos, limit int) (length int) {
	score, best := 0, 0
	for i := 1; scan >= limit+i && pos >= i; i++ {
		if m.old[pos-i] == m.next[scan-i] {
			score++
		}
		if score*2-i > best*2-length {
			best, length = score, i
		}
	}
	return length
}

// cut divides bytes that two matches claim.
func (m *matcher) cut(scan1, pos1, scan2, pos2, n int) (at int) {
	score, best := 0, 0
	for i := range n {
		if m.next[scan1+i] == m.old[pos1+i] {
			score++
		}
		if m.next[scan2+i] == m.old[pos2+i] {
			score--
		}
		if score > best {
			best, at = score, i+1
		}
	}
	return at
}
