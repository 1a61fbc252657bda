package delta_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/delta"
)

// noise is content that does not compress, always the same for a seed.
func noise(seed uint64, n int) []byte {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	data := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(data)
	return data
}

func section(data []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data)))
}

// frame compresses data with a prefix.
func frame(t testing.TB, prefix, data []byte) []byte {
	t.Helper()
	window := 1 << 10
	for window < len(prefix)+len(data) {
		window <<= 1
	}
	options := []zstd.EOption{zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(1)}
	if len(prefix) > 0 {
		options = append(options, zstd.WithEncoderDictRaw(0, prefix))
	}
	e, err := zstd.NewWriter(nil, options...)
	require.NoError(t, err)
	return e.EncodeAll(data, nil)
}

const enough = 64 << 20

func TestApply(t *testing.T) {
	old := noise(1, 300<<10)
	changed := append(append(bytes.Clone(old[:100<<10]), "something new"...), old[110<<10:]...)
	both := append(bytes.Clone(old), changed...)
	damaged := frame(t, old, changed)
	damaged[len(damaged)/2] ^= 1
	single := frame(t, nil, bytes.Repeat([]byte("text "), 100))
	for name, c := range map[string]struct {
		format channel.PatchFormat
		bases  [][]byte
		patch  []byte
		want   []byte
		length int64 // 0: of want
		memory int64 // 0: enough
		cause  string
	}{
		"prefix":               {format: channel.ZstdPrefix, bases: [][]byte{old}, patch: frame(t, old, changed), want: changed},
		"several bases":        {format: channel.ZstdPrefix, bases: [][]byte{old, changed}, patch: frame(t, both, changed), want: changed},
		"an empty base":        {format: channel.ZstdPrefix, bases: [][]byte{{}}, patch: single, want: bytes.Repeat([]byte("text "), 100)},
		"whole":                {format: delta.Whole, patch: single, want: bytes.Repeat([]byte("text "), 100)},
		"empty":                {format: delta.Whole, patch: frame0(t), want: []byte{}},
		"another base":         {format: channel.ZstdPrefix, bases: [][]byte{noise(2, 300<<10)}, patch: frame(t, old, changed), cause: "CRC", length: int64(len(changed))},
		"a shorter base":       {format: channel.ZstdPrefix, bases: [][]byte{old[1000:]}, patch: frame(t, old, changed), cause: "zstd-prefix patch", length: int64(len(changed))},
		"bases out of order":   {format: channel.ZstdPrefix, bases: [][]byte{changed, old}, patch: frame(t, both, changed), cause: "zstd-prefix patch", length: int64(len(changed))},
		"no base":              {format: channel.ZstdPrefix, patch: frame(t, old, changed), cause: "it has 0 bases, not 1", length: 1},
		"a base too many":      {format: delta.Whole, bases: [][]byte{old}, patch: single, cause: "it has 1 bases, not 0", length: 500},
		"damaged":              {format: channel.ZstdPrefix, bases: [][]byte{old}, patch: damaged, cause: "zstd-prefix patch", length: int64(len(changed))},
		"cut off":              {format: delta.Whole, patch: single[:len(single)-5], cause: "zstd patch", length: 500},
		"nothing":              {format: delta.Whole, patch: nil, cause: "its header", length: 500},
		"no frame":             {format: delta.Whole, patch: []byte("what is this? what is it?"), cause: "its header", length: 500},
		"a skippable frame":    {format: delta.Whole, patch: append([]byte{0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0}, single...), cause: "no content", length: 500},
		"shorter than asked":   {format: delta.Whole, patch: streamed(t, make([]byte, 499)), cause: "ends 1 bytes early", length: 500},
		"longer than asked":    {format: delta.Whole, patch: streamed(t, make([]byte, 501)), cause: "more bytes than it should", length: 500},
		"another length":       {format: delta.Whole, patch: single, cause: "its frame makes 500 bytes, not 501", length: 501},
		"a bomb":               {format: delta.Whole, patch: streamed(t, make([]byte, 64<<20)), cause: "more bytes than it should", length: 500},
		"two frames":           {format: delta.Whole, patch: append(streamed(t, make([]byte, 400)), streamed(t, make([]byte, 200))...), cause: "more bytes than it should", length: 500},
		"a negative length":    {format: delta.Whole, patch: single, cause: "it makes -1 bytes", length: -1},
		"an unknown format":    {format: "magic/9", patch: single, cause: "not known here", length: 500},
		"too large a base":     {format: channel.ZstdPrefix, bases: [][]byte{old}, patch: frame(t, old, changed), memory: 200 << 10, cause: "bytes of memory", length: int64(len(changed))},
		"too large a window":   {format: channel.ZstdPrefix, bases: [][]byte{old}, patch: frame(t, old, changed), memory: 2<<20 + 310<<10, cause: "bytes of memory", length: int64(len(changed))},
		"a monstrous window":   {format: delta.Whole, patch: []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 1, 0, 0}, memory: 1 << 40, cause: "bytes of memory", length: 500},
		"a dictionary by name": {format: delta.Whole, patch: []byte{0x28, 0xb5, 0x2f, 0xfd, 0x01, 0x50, 7, 1, 0, 0}, cause: "names a dictionary", length: 500},
	} {
		t.Run(name, func(t *testing.T) {
			p := delta.Patch{Format: c.format, Body: section(c.patch), Length: c.length, Memory: c.memory}
			for _, b := range c.bases {
				p.Bases = append(p.Bases, section(b))
			}
			if p.Length == 0 {
				p.Length = int64(len(c.want))
			}
			if p.Memory == 0 {
				p.Memory = enough
			}
			var out bytes.Buffer
			err := delta.Apply(t.Context(), &out, p)
			require.LessOrEqual(t, int64(out.Len()), max(p.Length, 0))
			if c.cause == "" {
				require.NoError(t, err)
				require.True(t, bytes.Equal(c.want, out.Bytes()))
				return
			}
			require.ErrorContains(t, err, c.cause)
			var format *delta.FormatError
			var memory *delta.MemoryError
			require.True(t, errors.As(err, &format) || errors.As(err, &memory))
			require.Equal(t, strings.Contains(c.cause, "memory"), errors.As(err, &memory))
		})
	}
}

// frame0 is a frame of nothing.
func frame0(t testing.TB) []byte { return streamed(t, nil) }

// streamed compresses data without announcing its length.
func streamed(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	e, err := zstd.NewWriter(&b, zstd.WithZeroFrames(true))
	require.NoError(t, err)
	_, err = io.Copy(struct{ io.Writer }{e}, bytes.NewReader(data))
	require.NoError(t, errors.Join(err, e.Flush(), e.Close()))
	return b.Bytes()
}

// The errors of disks are not the patch's.
func TestApplyTellsWhoseError(t *testing.T) {
	old := noise(1, 300<<10)
	broken := errors.New("broken")
	good := delta.Patch{Format: channel.ZstdPrefix, Bases: []*io.SectionReader{section(old)}, Body: section(frame(t, old, old)), Length: int64(len(old)), Memory: enough}
	require.NoError(t, delta.Apply(t.Context(), io.Discard, good))
	bad := io.NewSectionReader(failing{broken}, 0, 1000)
	var format *delta.FormatError
	for name, spoil := range map[string]func(p *delta.Patch) io.Writer{
		"the base": func(p *delta.Patch) io.Writer { p.Bases = []*io.SectionReader{bad}; return io.Discard },
		"the body": func(p *delta.Patch) io.Writer { p.Body = bad; return io.Discard },
		"the file": func(*delta.Patch) io.Writer { return failing{broken} },
	} {
		p := good
		w := spoil(&p)
		err := delta.Apply(t.Context(), w, p)
		require.ErrorIs(t, err, broken, name)
		require.False(t, errors.As(err, &format), name)
	}
	large := good // what takes too much memory is not read at all
	large.Bases = []*io.SectionReader{io.NewSectionReader(failing{broken}, 0, enough)}
	var memory *delta.MemoryError
	require.ErrorAs(t, delta.Apply(t.Context(), io.Discard, large), &memory)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("the user"))
	require.EqualError(t, delta.Apply(ctx, io.Discard, good), "the user")
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }
func (f failing) Write([]byte) (int, error)         { return 0, f.err }

// What the zstd tool makes with --patch-from is applied, whatever window it chose.
func TestToolPatches(t *testing.T) {
	if _, err := exec.LookPath("zstd"); err != nil {
		t.Skip("there is no zstd")
	}
	dir := t.TempDir()
	for _, size := range []int{0, 1, 1000, 1 << 17, 1<<20 + 1, 5_000_000, 20_000_000} {
		old := noise(1, size)
		// Blocks of the old file, the last one first: matches reach as far back as they can.
		var fresh []byte
		for i := 8; i > 0; i-- {
			fresh = append(fresh, old[size/8*(i-1):size/8*i]...)
		}
		fresh = append(fresh, noise(2, 100)...)
		for name, data := range map[string][]byte{"old": old, "new": fresh} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
		}
		for _, level := range []string{"-1", "-9", "-19"} {
			if level == "-19" && size > 5_000_000 {
				continue
			}
			cmd := exec.CommandContext(t.Context(), "zstd", "-q", "-f", "--long=31", level, "--patch-from=old", "new", "-o", "patch")
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, string(out))
			patch, err := os.ReadFile(filepath.Join(dir, "patch"))
			require.NoError(t, err)
			var got bytes.Buffer
			p := delta.Patch{Format: channel.ZstdPrefix, Bases: []*io.SectionReader{section(old)}, Body: section(patch), Length: int64(len(fresh)), Memory: 256 << 20}
			require.NoError(t, delta.Apply(t.Context(), &got, p), "%d bytes, level %s", size, level)
			require.True(t, bytes.Equal(fresh, got.Bytes()), "%d bytes, level %s", size, level)
		}
	}
}

// part is a file of a tree made by hand.
type part struct {
	SHA256 string   `json:"sha256"`
	Length int64    `json:"length"`
	Format string   `json:"format"`
	Base   []string `json:"base,omitempty"`
	Size   int64    `json:"size"`
	body   []byte
}

func treeOf(t testing.TB, parts ...part) []byte {
	t.Helper()
	if parts == nil {
		parts = []part{}
	}
	index, err := json.Marshal(map[string]any{"files": parts})
	require.NoError(t, err)
	out := withIndex(t, index)
	for _, p := range parts {
		out = append(out, p.body...)
	}
	return out
}

func withIndex(t testing.TB, index []byte) []byte {
	t.Helper()
	return packedIndex(frame(t, nil, index))
}

func packedIndex(packed []byte) []byte {
	return append(binary.LittleEndian.AppendUint32([]byte("FLtree1\n"), uint32(len(packed))), packed...)
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

func TestTree(t *testing.T) {
	old, fresh := noise(1, 5000), noise(2, 700)
	changed := append(bytes.Clone(old), "end"...)
	a := part{SHA256: sum(changed), Length: int64(len(changed)), Format: "zstd-prefix", Base: []string{sum(old)}, body: frame(t, old, changed)}
	b := part{SHA256: sum(fresh), Length: int64(len(fresh)), Format: "zstd", body: frame(t, nil, fresh)}
	a.Size, b.Size = int64(len(a.body)), int64(len(b.body))
	tree, err := delta.OpenTree(section(treeOf(t, a, b)))
	require.NoError(t, err)
	require.Len(t, tree.Files, 2)
	contents := map[string][]byte{sum(old): old}
	for i, want := range [][]byte{changed, fresh} {
		f := tree.Files[i]
		require.Equal(t, channel.Blob{SHA256: sum(want), Length: int64(len(want))}, f.Blob)
		p := delta.Patch{Format: f.Format, Body: tree.Part(f), Length: f.Length, Memory: enough}
		for _, base := range f.Bases {
			p.Bases = append(p.Bases, section(contents[base]))
		}
		var out bytes.Buffer
		require.NoError(t, delta.Apply(t.Context(), &out, p))
		require.True(t, bytes.Equal(want, out.Bytes()))
	}
	_, err = delta.OpenTree(section(treeOf(t)))
	require.NoError(t, err, "a tree of no files")
	_, err = delta.OpenTree(io.NewSectionReader(failing{io.ErrClosedPipe}, 0, 100))
	require.ErrorIs(t, err, io.ErrClosedPipe)
	var format *delta.FormatError
	require.False(t, errors.As(err, &format))
	packed := &sparse{head: []byte("FLtree1\n\x01\x00\x00\x01"), at: 32 << 20}
	_, err = delta.OpenTree(io.NewSectionReader(packed, 0, packed.at))
	require.ErrorContains(t, err, "its index is 16777217 bytes")

	with := func(change func(p *part)) []byte {
		p := b
		change(&p)
		return treeOf(t, a, p)
	}
	long := part{SHA256: sum(fresh), Format: "zstd", Size: 0}
	many := make([]part, channel.MaxFiles+1)
	for i := range many {
		many[i] = long
		many[i].SHA256 = sum([]byte{byte(i), byte(i >> 8)})
	}
	good := treeOf(t, a, b)
	for name, c := range hostileTrees(t, good, with, many) {
		_, err := delta.OpenTree(section(c.data))
		require.ErrorContains(t, err, c.cause, name)
		require.ErrorAs(t, err, &format, name)
	}
}

type hostile struct {
	data  []byte
	cause string
}

func hostileTrees(t testing.TB, good []byte, with func(func(*part)) []byte, many []part) map[string]hostile {
	t.Helper()
	huge := bytes.Clone(good)
	copy(huge[8:], "\xff\xff\xff\xff")
	return map[string]hostile{
		"empty":                    {nil, "does not begin as a tree"},
		"another magic":            {append([]byte("FLtree2\n"), good[8:]...), "does not begin as a tree"},
		"cut off in the head":      {good[:10], "does not begin as a tree"},
		"cut off in the index":     {good[:40], "its index is"},
		"a huge index":             {huge, "its index is 4294967295 bytes"},
		"cut off in a part":        {good[:len(good)-1], "ends behind the patch"},
		"something behind":         {append(bytes.Clone(good), 'x'), "1 bytes follow its parts"},
		"twice":                    {with(func(p *part) { p.SHA256 = sum(append(noise(1, 5000), "end"...)) }), "stands twice"},
		"a huge size":              {with(func(p *part) { p.Size = 1<<63 - 1 }), "ends behind the patch"},
		"a negative size":          {with(func(p *part) { p.Size = -1 }), "made of -1"},
		"a negative length":        {with(func(p *part) { p.Length = -1 }), "it has -1 bytes"},
		"a huge length":            {with(func(p *part) { p.Length = 1 << 62 }), "it has 4611686018427387904 bytes"},
		"no hash":                  {with(func(p *part) { p.SHA256 = "../../../etc/passwd" }), "is no SHA-256"},
		"a hash in capitals":       {with(func(p *part) { p.SHA256 = strings.ToUpper(p.SHA256) }), "is no SHA-256"},
		"a base that is no hash":   {with(func(p *part) { p.Format, p.Base = "zstd-prefix", []string{"/etc/passwd"} }), "is no SHA-256"},
		"whole with a base":        {with(func(p *part) { p.Base = []string{p.SHA256} }), "it has 1 bases"},
		"prefix without a base":    {with(func(p *part) { p.Format = "zstd-prefix" }), "it has 0 bases"},
		"reloc with two":           {with(func(p *part) { p.Format, p.Base = "reloc/1", []string{p.SHA256, p.SHA256} }), "it has 2 bases"},
		"many bases":               {with(func(p *part) { p.Format, p.Base = "zstd-prefix", slicesRepeat(p.SHA256, 257) }), "it has 257 bases"},
		"a format that is unknown": {with(func(p *part) { p.Format = "tree/1" }), "format"},
		"too many files":           {treeOf(t, many...), "more than 10000 files"},
		"a bomb":                   {withIndex(t, bytes.Repeat([]byte(" "), 64<<20+1)), "exceeds configured limit"},
		"a bomb that streams":      {packedIndex(streamed(t, bytes.Repeat([]byte(" "), 64<<20+1))), "more than 67108864 bytes"},
		"no JSON":                  {withIndex(t, []byte("files")), "its index"},
		"an unknown field":         {withIndex(t, []byte(`{"files":[{"sha256":"","mode":4095}]}`)), "unknown field"},
		"another field":            {withIndex(t, []byte(`{"links":[]}`)), "links"},
		"two fields":               {withIndex(t, []byte(`{"files":[],"more":1}`)), "more"},
		"two values":               {withIndex(t, []byte(`{"files":[]}{}`)), "something follows"},
		"null":                     {withIndex(t, []byte(`{"files":null}`)), "its index"},
		"a file that is null":      {withIndex(t, []byte(`{"files":[null]}`)), "is no SHA-256"},
	}
}

func slicesRepeat(s string, n int) []string {
	return strings.Split(strings.TrimSuffix(strings.Repeat(s+" ", n), " "), " ")
}

// Files of more than 4 GiB: no length is cut to 32 bits, and memory does not grow with them.
func TestHugeFile(t *testing.T) {
	if testing.Short() {
		t.Skip("seconds")
	}
	const length = 5<<30 + 17
	var b bytes.Buffer
	e, err := zstd.NewWriter(&b)
	require.NoError(t, err)
	_, err = io.CopyN(struct{ io.Writer }{e}, zeros{}, length)
	require.NoError(t, errors.Join(err, e.Close()))
	out := new(counting)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	require.NoError(t, delta.Apply(t.Context(), out, delta.Patch{Format: delta.Whole, Body: section(b.Bytes()), Length: length, Memory: enough}))
	runtime.ReadMemStats(&after)
	require.Equal(t, int64(length), out.n)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(enough))

	// A part that lies behind 4 GiB of another one, in a patch of which only what is read exists.
	small := frame(t, nil, []byte("small"))
	tree := treeOf(t, part{SHA256: sum([]byte("large")), Format: "zstd", Size: length}, part{SHA256: sum([]byte("small")), Length: 5, Format: "zstd", Size: int64(len(small))})
	far := &sparse{head: tree, at: int64(len(tree)) + length, tail: small}
	opened, err := delta.OpenTree(io.NewSectionReader(far, 0, far.at+int64(len(small))))
	require.NoError(t, err)
	var text bytes.Buffer
	require.NoError(t, delta.Apply(t.Context(), &text, delta.Patch{Format: delta.Whole, Body: opened.Part(opened.Files[1]), Length: 5, Memory: enough}))
	require.Equal(t, "small", text.String())
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type counting struct{ n int64 }

func (c *counting) Write(p []byte) (int, error) { c.n += int64(len(p)); return len(p), nil }

// sparse is a long file of which beginning and end are known.
type sparse struct {
	head, tail []byte
	at         int64 // of tail
}

func (s *sparse) ReadAt(p []byte, at int64) (int, error) {
	if at >= s.at {
		return bytes.NewReader(s.tail).ReadAt(p, at-s.at)
	}
	clear(p)
	if at < int64(len(s.head)) {
		copy(p, s.head[at:])
	}
	return len(p), nil
}

// What hostile patches cost is bounded, and they end in an error of a known kind.
func FuzzApply(f *testing.F) {
	old := noise(1, 4000)
	for _, seed := range [][]byte{frame(f, old, append(bytes.Clone(old), "new"...)), frame(f, nil, old), frame0(f), streamed(f, make([]byte, 1<<20)), nil, {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 1, 0, 0}} {
		f.Add(seed, int64(4003), true)
		f.Add(seed, int64(4000), false)
	}
	f.Fuzz(func(t *testing.T, patch []byte, length int64, prefix bool) {
		length &= 1<<20 - 1
		p := delta.Patch{Format: delta.Whole, Body: section(patch), Length: length, Memory: 8 << 20}
		if prefix {
			p.Format, p.Bases = channel.ZstdPrefix, []*io.SectionReader{section(old)}
		}
		out := new(counting)
		err := delta.Apply(t.Context(), out, p)
		var format *delta.FormatError
		var memory *delta.MemoryError
		switch {
		case out.n > length:
			t.Fatalf("%d bytes, not %d", out.n, length)
		case err == nil && out.n != length:
			t.Fatalf("no error, and %d bytes, not %d", out.n, length)
		case err != nil && !errors.As(err, &format) && !errors.As(err, &memory):
			t.Fatalf("an error of another kind: %v", err)
		}
	})
}

func FuzzOpenTree(f *testing.F) {
	old := noise(1, 100)
	good := treeOf(f, part{SHA256: sum(old), Length: 100, Format: "zstd", Size: 3, body: []byte("abc")})
	f.Add(good)
	many := []part{{SHA256: sum(old), Format: "zstd"}}
	for _, h := range hostileTrees(f, good, func(change func(*part)) []byte {
		p := part{SHA256: sum(old), Length: 100, Format: "zstd", Size: 3, body: []byte("abc")}
		change(&p)
		return treeOf(f, p)
	}, many) {
		f.Add(h.data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		tree, err := delta.OpenTree(section(data))
		var format *delta.FormatError
		if err != nil {
			require.ErrorAs(t, err, &format)
			return
		}
		var all int64
		for _, file := range tree.Files {
			p := tree.Part(file)
			all += p.Size()
			_, err := io.Copy(io.Discard, p)
			require.NoError(t, err)
		}
		require.Less(t, all, int64(len(data)))
	})
}
