package relocdiff

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/internal/delta/reloc"
)

// pack makes a patch of streams that need not make sense.
func pack(streams [reloc.Streams][]byte) []byte {
	patch := []byte(reloc.Magic)
	var all []byte
	for _, s := range streams {
		var c bytes.Buffer
		w := brotli.NewWriterLevel(&c, 1)
		_, _ = w.Write(s)
		_ = w.Close()
		patch = binary.AppendUvarint(patch, uint64(c.Len()))
		all = append(all, c.Bytes()...)
	}
	return append(patch, all...)
}

// bounded fails when more is written than was announced.
type bounded struct {
	t    *testing.T
	left int64
}

func (b *bounded) Write(p []byte) (int, error) {
	b.left -= int64(len(p))
	require.GreaterOrEqual(b.t, b.left, int64(0), "more than was announced")
	return len(p), nil
}

func tryPatch(t *testing.T, old []byte, length int64, streams [reloc.Streams][]byte) error {
	patch := pack(streams)
	out := &bounded{t, length}
	err := reloc.Apply(out, bytes.NewReader(old), int64(len(old)), bytes.NewReader(patch), int64(len(patch)), length, 1<<30)
	if err == nil {
		require.Zero(t, out.left)
	}
	return err
}

// randomPlan has every kind of region, and numbers that are near to what is allowed, or beyond.
func randomPlan(r *rand.Rand, old []byte) *reloc.Plan {
	n := uint64(len(old))
	number := func() uint64 {
		switch r.IntN(12) {
		case 0:
			return r.Uint64()
		case 1:
			return -uint64(r.IntN(10))
		case 2:
			return n + uint64(r.IntN(3)) - 1
		}
		return r.Uint64N(n + 2)
	}
	p := &reloc.Plan{OldSize: n, NewSize: n, OldCRC: crc32.ChecksumIEEE(old), Lo: 0x1000, Hi: 0x1000 + 2*n}
	place := func(at uint64) reloc.Place { return reloc.Place{Off: 0, Size: n, Addr: at, MemSize: 2 * n} }
	p.Segments = []reloc.Segment{{Old: place(0x1000), New: place(0x3000)}}
	if r.IntN(4) == 0 {
		p.Segments = append(p.Segments, reloc.Segment{
			Old: reloc.Place{Off: number(), Size: number(), Addr: number(), MemSize: number()},
			New: reloc.Place{Off: number(), Size: number(), Addr: number(), MemSize: number()},
		})
	}
	for range 6 {
		a := 0x1000 + r.Uint64N(n)
		p.Bases = append(p.Bases, reloc.Base{Old: a, New: a + 0x2000})
	}
	params := map[reloc.Kind]int{reloc.Table: 1 + r.IntN(4), reloc.GoFuncs: 5, reloc.GoData: 4, reloc.GoTypes: 2, reloc.GoLines: 4, reloc.Rebase: 1 + r.IntN(8)}
	for range 1 + r.IntN(4) {
		off := r.Uint64N(n)
		g := reloc.Region{Kind: reloc.Kind(1 + r.IntN(9)), Range: reloc.Range{Off: off, Size: r.Uint64N(n - off)}}
		if r.IntN(20) == 0 {
			g.Range = reloc.Range{Off: number(), Size: number()}
		}
		for i := range params[g.Kind] {
			v := r.Uint64N(7)
			if g.Kind == reloc.GoData && i < 2 || g.Kind == reloc.GoLines {
				v = n / 4 * uint64(i%2+1)
			}
			if r.IntN(40) == 0 {
				v = number()
			}
			g.Param = append(g.Param, v)
		}
		p.Regions = append(p.Regions, g)
	}
	if r.IntN(3) == 0 {
		p.Blanks = []reloc.Range{{Off: number(), Size: number()}}
	}
	if r.IntN(3) == 0 {
		p.Hashes = []reloc.PageHashes{{Off: number(), Limit: number(), PageBits: uint8(r.IntN(31))}}
	}
	if r.IntN(3) == 0 {
		p.FindTabs = []reloc.FindTab{{Off: number(), Functab: number(), Count: number() / 8}}
	}
	return p
}

// No patch makes more than it announces, none makes the applier panic, and those that could be right are applied.
func TestHostilePlans(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	applied := 0
	for range rounds(3000) {
		old := make([]byte, 64+r.IntN(3000))
		for i := range old {
			if old[i] = byte(r.Uint32()); r.IntN(2) == 0 { // much of it small, as counts and offsets are
				old[i] = byte(r.IntN(4))
			}
		}
		p := randomPlan(r, old)
		n := uint64(len(old))
		var s [reloc.Streams][]byte
		s[reloc.PlanStream] = reloc.AppendPlan(nil, p)
		blocks := 1 + r.Uint64N(3)
		s[reloc.NewStream] = binary.AppendUvarint(nil, blocks)
		size := n / blocks
		for i := range blocks {
			s[reloc.NewStream] = binary.AppendUvarint(s[reloc.NewStream], 0)
			s[reloc.SeekStream] = binary.AppendVarint(s[reloc.SeekStream], int64(i))
			s[reloc.SizeStream] = binary.AppendUvarint(s[reloc.SizeStream], size-blocks+uint64(r.IntN(2)))
		}
		s[reloc.TargetStream], s[reloc.ShiftStream] = []byte{2, 5, 200, 30}, []byte{9, 7}
		s[reloc.SameStream] = binary.AppendUvarint(nil, 4*n)
		s[reloc.WrongStream] = []byte{0}
		s[reloc.ExtraStream] = make([]byte, n)
		if err := tryPatch(t, old, int64(n), s); err == nil {
			applied++
		}
		// Again, as far as that goes: with gaps and new bytes as the blocks leave them.
		s[reloc.SameStream], s[reloc.WrongStream], s[reloc.ExtraStream] = nil, nil, nil
		for k, v := uint64(0), s[reloc.SizeStream]; len(v) > 0; {
			size, w := binary.Uvarint(v)
			v, k = v[w:], k+size
			if len(v) == 0 && k <= n {
				s[reloc.SameStream], s[reloc.WrongStream] = binary.AppendUvarint(nil, k), []byte{0}
				s[reloc.ExtraStream] = make([]byte, n-k)
			}
		}
		if err := tryPatch(t, old, int64(n), s); err == nil {
			applied++
		}
	}
	require.Greater(t, applied, rounds(200), "most fail for a reason, not all")
}

func TestRefused(t *testing.T) {
	old, next := bytes.Repeat([]byte("some text. "), 300), bytes.Repeat([]byte("some text? "), 310)
	patch := create(t, old, next)
	err := func(old, patch []byte, length int) error {
		return reloc.Apply(io.Discard, bytes.NewReader(old), int64(len(old)), bytes.NewReader(patch), int64(len(patch)), int64(length), 1<<30)
	}
	require.NoError(t, err(old, patch, len(next)))
	other := bytes.Clone(old)
	other[100]++
	require.ErrorIs(t, err(other, patch, len(next)), reloc.ErrBase)
	require.ErrorIs(t, err(old[1:], patch, len(next)), reloc.ErrBase)
	var format *reloc.FormatError
	require.ErrorAs(t, err(old, patch, len(next)+1), &format)
	require.ErrorAs(t, err(old, append(bytes.Clone(patch), 0), len(next)), &format)
	require.ErrorAs(t, err(old, []byte("BSDIFF40"), len(next)), &format)
	for i := range patch {
		require.Error(t, err(old, patch[:i], len(next)), "cut at %d", i)
	}
}

// Streams that take more than they should are refused before memory is taken for them.
func TestBombs(t *testing.T) {
	old := make([]byte, 1000)
	base := func() (s [reloc.Streams][]byte) {
		s[reloc.PlanStream] = reloc.AppendPlan(nil, &reloc.Plan{OldSize: 1000, NewSize: 1000, OldCRC: crc32.ChecksumIEEE(old)})
		s[reloc.NewStream], s[reloc.TargetStream] = []byte{0}, []byte{0}
		s[reloc.ExtraStream] = make([]byte, 1000)
		return s
	}
	require.NoError(t, tryPatch(t, old, 1000, base()))
	for name, change := range map[string]func(*[reloc.Streams][]byte){
		"blocks":         func(s *[reloc.Streams][]byte) { s[reloc.NewStream] = binary.AppendUvarint(nil, 1<<40) },
		"runs":           func(s *[reloc.Streams][]byte) { s[reloc.TargetStream] = binary.AppendUvarint(nil, 1<<40) },
		"too many runs":  func(s *[reloc.Streams][]byte) { s[reloc.TargetStream] = append([]byte{200, 1}, make([]byte, 200)...) },
		"more new bytes": func(s *[reloc.Streams][]byte) { s[reloc.ExtraStream] = make([]byte, 1001) },
		"segments":       func(s *[reloc.Streams][]byte) { s[reloc.PlanStream] = append(s[reloc.PlanStream][:7:7], 65) },
		"an empty gap":   func(s *[reloc.Streams][]byte) { s[reloc.SameStream], s[reloc.WrongStream] = []byte{0}, []byte{0} },
		"more is the same than there is": func(s *[reloc.Streams][]byte) {
			s[reloc.NewStream], s[reloc.SeekStream], s[reloc.SizeStream] = []byte{1, 0}, []byte{0}, binary.AppendUvarint(nil, 1000)
			s[reloc.SameStream], s[reloc.WrongStream], s[reloc.ExtraStream] = binary.AppendUvarint(nil, 1001), []byte{0}, nil
		},
		"a block behind the old file": func(s *[reloc.Streams][]byte) {
			s[reloc.NewStream], s[reloc.SeekStream], s[reloc.SizeStream] = []byte{1, 0}, []byte{2}, binary.AppendUvarint(nil, 1000)
			s[reloc.SameStream], s[reloc.WrongStream], s[reloc.ExtraStream] = binary.AppendUvarint(nil, 1000), []byte{0}, nil
		},
		"a block behind the new file": func(s *[reloc.Streams][]byte) {
			s[reloc.NewStream], s[reloc.SeekStream], s[reloc.SizeStream] = []byte{1, 1}, []byte{0}, binary.AppendUvarint(nil, 1000)
			s[reloc.SameStream], s[reloc.WrongStream], s[reloc.ExtraStream] = binary.AppendUvarint(nil, 1000), []byte{0}, make([]byte, 1)
		},
		"65 segments": func(s *[reloc.Streams][]byte) {
			p := &reloc.Plan{OldSize: 1000, NewSize: 1000, OldCRC: crc32.ChecksumIEEE(old), Segments: make([]reloc.Segment, 65)}
			s[reloc.PlanStream] = reloc.AppendPlan(nil, p)
		},
		"empty blocks": func(s *[reloc.Streams][]byte) {
			s[reloc.NewStream], s[reloc.SeekStream], s[reloc.SizeStream] = []byte{1, 0}, []byte{0}, []byte{0}
		},
	} {
		s := base()
		change(&s)
		var format *reloc.FormatError
		require.ErrorAs(t, tryPatch(t, old, 1000, s), &format, name)
	}
}

// The table follows from signed numbers, but not from checked ones.
func TestFindTableIsBounded(t *testing.T) {
	functab := binary.LittleEndian.AppendUint32(make([]byte, 16*8), 0xffffffff)
	require.Empty(t, reloc.FindTable(functab, 1<<20))
	require.Len(t, reloc.FindTable(binary.LittleEndian.AppendUint32(make([]byte, 16*8), 4097), 1<<20), 2*4+17)
	require.Empty(t, reloc.FindTable(nil, 1<<20))
}

// A real program, whose tables are there, with a plan that is not quite the right one.
func TestHostileProgram(t *testing.T) {
	old, next := buildPair(t, "linux", "amd64", "-ldflags=-s -w")
	d := newDiff(old, next)
	_, _, err := d.make(t.Context())
	require.NoError(t, err)
	d.oldImage.restore()
	d.nextImage.restore()
	good := d.streams()
	require.NoError(t, tryPatch(t, old, int64(len(next)), good))
	r := rand.New(rand.NewPCG(13, 14))
	for range rounds(200) {
		p := *d.plan
		p.Bases, p.Segments, p.Regions = slices.Clone(p.Bases), slices.Clone(p.Segments), slices.Clone(p.Regions)
		for range 1 + r.IntN(2) {
			g := &p.Regions[r.IntN(len(p.Regions))]
			g.Param = slices.Clone(g.Param)
			small := []uint64{0, 1, 2, 7, 16, ^uint64(0)}[r.IntN(6)]
			switch r.IntN(8) {
			case 0:
				p.Bases = p.Bases[:r.IntN(len(p.Bases))]
			case 1:
				g.Size = r.Uint64N(g.Size + 1)
			case 2:
				g.Off += small
			case 3:
				p.Segments = p.Segments[:r.IntN(len(p.Segments))]
			case 4:
				g.Kind = reloc.Kind(1 + r.IntN(10))
			default:
				if len(g.Param) > 0 {
					if i := r.IntN(len(g.Param)); r.IntN(2) == 0 {
						g.Param[i] = small
					} else {
						g.Param[i] = r.Uint64N(g.Param[i] + 1)
					}
				}
			}
		}
		s := good
		s[reloc.PlanStream] = reloc.AppendPlan(nil, &p)
		_ = tryPatch(t, old, int64(len(next)), s)
	}
}

// zeros is an old file of any size.
type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) {
	clear(p)
	return len(p), nil
}

// Files beyond 4 GiB, in little memory.
func TestLargeFile(t *testing.T) {
	if testing.Short() {
		t.Skip("10 GiB of zeros")
	}
	const size = 5 << 30
	sum := crc32.NewIEEE()
	buf := make([]byte, 1<<20)
	for range size / len(buf) {
		_, _ = sum.Write(buf)
	}
	var s [reloc.Streams][]byte
	s[reloc.PlanStream] = reloc.AppendPlan(nil, &reloc.Plan{OldSize: size, NewSize: size + 3, OldCRC: sum.Sum32()})
	s[reloc.NewStream], s[reloc.TargetStream] = []byte{1, 3}, []byte{0}
	s[reloc.SeekStream], s[reloc.SizeStream] = []byte{0}, binary.AppendUvarint(nil, size)
	s[reloc.SameStream], s[reloc.WrongStream] = binary.AppendUvarint(nil, size-1), []byte{1}
	s[reloc.LiteralStream], s[reloc.ExtraStream] = []byte{7}, []byte("new")
	patch := pack(s)
	var out tail
	require.NoError(t, reloc.Apply(&out, zeros{}, size, bytes.NewReader(patch), int64(len(patch)), size+3, 1<<30))
	require.Equal(t, int64(size+3), out.n)
	require.Equal(t, byte(7), out.last)
}

type tail struct {
	n    int64
	last byte
}

func (w *tail) Write(p []byte) (int, error) {
	w.n, w.last = w.n+int64(len(p)), p[len(p)-1]
	return len(p), nil
}

// FuzzApply takes patches apart: compressed, hardly any change of theirs would be read at all.
func FuzzApply(f *testing.F) {
	r := rand.New(rand.NewPCG(11, 12))
	for range 40 {
		old := make([]byte, 200+r.IntN(400))
		for i := range old {
			old[i] = byte(r.IntN(6))
		}
		n := uint64(len(old))
		f.Add(old, reloc.AppendPlan(nil, randomPlan(r, old)), []byte{1, 0}, []byte{0}, binary.AppendUvarint(nil, n), []byte{1, 5}, []byte{9},
			binary.AppendUvarint(nil, n), []byte{0}, []byte{}, []byte{})
	}
	f.Fuzz(func(t *testing.T, old, plan, fresh, seeks, sizes, targets, shifts, same, wrong, literals, extra []byte) {
		_, w := binary.Uvarint(plan) // the old file's size and CRC are put right, or nothing else would be tried
		if w <= 0 {
			return
		}
		length, w2 := binary.Uvarint(plan[w:])
		if w2 <= 0 || length > 1<<16 {
			return
		}
		_, w3 := binary.Uvarint(plan[w+w2:])
		if w3 <= 0 {
			return
		}
		head := binary.AppendUvarint(nil, uint64(len(old)))
		head = binary.AppendUvarint(head, length)
		head = binary.AppendUvarint(head, uint64(crc32.ChecksumIEEE(old)))
		_ = tryPatch(t, old, int64(length), [reloc.Streams][]byte{append(head, plan[w+w2+w3:]...), fresh, seeks, sizes, targets, shifts, same, wrong, literals, extra})
	})
}

// What a patch has filled in, and how often it has the old file read, is bounded.
func TestFilledInIsBounded(t *testing.T) {
	const n = 1 << 20
	old := make([]byte, n)
	try := func(change func(*reloc.Plan)) error {
		p := &reloc.Plan{OldSize: n, NewSize: n, OldCRC: crc32.ChecksumIEEE(old), Segments: []reloc.Segment{{Old: reloc.Place{Size: n}, New: reloc.Place{Size: n}}}}
		change(p)
		var s [reloc.Streams][]byte
		s[reloc.PlanStream] = reloc.AppendPlan(nil, p)
		s[reloc.NewStream], s[reloc.TargetStream], s[reloc.ExtraStream] = []byte{0}, []byte{0}, old
		patch := pack(s)
		return reloc.Apply(io.Discard, bytes.NewReader(old), n, bytes.NewReader(patch), int64(len(patch)), n, 2*n)
	}
	require.NoError(t, try(func(*reloc.Plan) {}))
	hashes := func(count int, bits uint8) func(*reloc.Plan) {
		return func(p *reloc.Plan) {
			for range count {
				p.Hashes = append(p.Hashes, reloc.PageHashes{Off: n, Limit: n, PageBits: bits})
			}
		}
	}
	regions := func(count int) func(*reloc.Plan) {
		return func(p *reloc.Plan) {
			for range count {
				p.Regions = append(p.Regions, reloc.Region{Kind: reloc.Pointers, Range: reloc.Range{Size: n}})
			}
		}
	}
	require.NoError(t, try(hashes(16, 12)))
	require.NoError(t, try(regions(8)))
	var format *reloc.FormatError
	require.ErrorAs(t, try(hashes(17, 12)), &format)
	require.ErrorAs(t, try(hashes(1, 9)), &format)
	require.ErrorAs(t, try(regions(9)), &format)
	var memory *reloc.MemoryError
	require.ErrorAs(t, try(func(p *reloc.Plan) { regions(1)(p); hashes(16, 10)(p); p.Lo, p.Hi = 0, 1 }), &memory)
}
