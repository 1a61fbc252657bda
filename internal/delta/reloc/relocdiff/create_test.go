package relocdiff

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/internal/delta/reloc"
)

// apply makes the new file, and checks that it is the one.
func apply(t *testing.T, old, patch, next []byte) {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, reloc.Apply(&out, bytes.NewReader(old), int64(len(old)), bytes.NewReader(patch), int64(len(patch)), int64(len(next)), 1<<30))
	require.True(t, bytes.Equal(next, out.Bytes()))
}

func create(t *testing.T, old, next []byte) []byte {
	t.Helper()
	a, b := bytes.Clone(old), bytes.Clone(next)
	patch, memory, err := Create(t.Context(), a, b)
	require.NoError(t, err)
	require.Positive(t, memory)
	require.True(t, bytes.Equal(old, a) && bytes.Equal(next, b), "the files are as before")
	return patch
}

// rounds is how often something random is tried: under the race detector a few times do.
func rounds(n int) int {
	if testing.Short() {
		return n/8 + 1
	}
	return n
}

const programSource = `package main

import (
	"encoding/json"
	"fmt"
	"os"
	"sort"
)

type item struct {
	Name  string
	Count int
	%s
}

func (i item) String() string { return fmt.Sprintf("%%s: %%d", i.Name, i.Count) }

%s

func main() {
	var all []item
	if err := json.NewDecoder(os.Stdin).Decode(&all); err != nil {
		fmt.Println("version %s", err)
		os.Exit(1)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Count < all[j].Count })
	for _, i := range all {
		fmt.Println(i)
	}
}
`

// pairs are what buildPair has built, by its arguments.
var pairs = map[string][2][]byte{}

// buildPair builds two versions of a program: the second has a function, a field and some lines more. Each pair is built once.
func buildPair(t *testing.T, goos, goarch string, flags ...string) (old, next []byte) {
	t.Helper()
	key := fmt.Sprint(goos, goarch, flags)
	pair, built := pairs[key]
	if !built {
		pair[0], pair[1] = buildVersions(t, goos, goarch, flags...)
		pairs[key] = pair
	}
	return bytes.Clone(pair[0]), bytes.Clone(pair[1])
}

func buildVersions(t *testing.T, goos, goarch string, flags ...string) (old, next []byte) {
	t.Helper()
	build := func(version, field, more string) []byte {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), fmt.Appendf(nil, programSource, field, more, version), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example.com/items\n\ngo 1.26\n"), 0o600))
		cmd := exec.CommandContext(t.Context(), "go", append([]string{"build", "-trimpath", "-o", "items"}, flags...)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0", "GOFLAGS=")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		b, err := os.ReadFile(filepath.Join(dir, "items"))
		require.NoError(t, err)
		return b
	}
	more := `
// total is new. It moves everything behind it.
func total(all []item) (n int) {
	for _, i := range all {
		if i.Count > 0 {
			n += i.Count * len(i.Name)
		}
	}
	return n
}

func init() {
	if len(os.Args) > 100 {
		fmt.Println(total(nil))
	}
}`
	return build("1.0.0", "", ""), build("1.1.0", "Note *string", more)
}

// Patches of programs are a small part of what they are without knowing references: on every system, stripped or not.
func TestPrograms(t *testing.T) {
	for _, c := range []struct {
		os, arch string
		flags    []string
	}{
		{"linux", "amd64", []string{"-ldflags=-s -w"}},
		{"linux", "arm64", []string{"-ldflags=-s -w"}},
		{"darwin", "arm64", []string{"-ldflags=-s -w"}},
		{"windows", "amd64", []string{"-ldflags=-s -w"}},
		{"linux", "amd64", []string{"-ldflags=-compressdwarf=false"}},
		{"linux", "amd64", []string{"-ldflags=-s -w", "-buildmode=pie"}},
	} {
		if testing.Short() && (c.arch+c.os != "amd64linux" || c.flags[len(c.flags)-1] != "-ldflags=-s -w") {
			continue // it takes a standard library each
		}
		t.Run(c.os+"/"+c.arch+strings.Join(c.flags, ""), func(t *testing.T) {
			old, next := buildPair(t, c.os, c.arch, c.flags...)
			patch := create(t, old, next)
			apply(t, old, patch, next)
			other, _, err := newBytesDiff(old, next).make(t.Context())
			require.NoError(t, err)
			apply(t, old, other, next)
			t.Logf("%d bytes; without references %d; whole %d", len(patch), len(other), len(next))
			want := 3
			if strings.Contains(strings.Join(c.flags, ""), "dwarf") {
				want = 1 // references in debug information are not known
			}
			require.Less(t, len(patch)*want, len(other))
			again := create(t, old, next)
			require.True(t, bytes.Equal(patch, again), "the same input gives the same patch")
			err = reloc.Apply(io.Discard, bytes.NewReader(next), int64(len(next)), bytes.NewReader(patch), int64(len(patch)), int64(len(next)), 1<<30)
			require.ErrorIs(t, err, reloc.ErrBase)
		})
	}
}

// What is damaged so that it still looks like a program is handled as one or as bytes, never with a panic.
func TestDamagedPrograms(t *testing.T) {
	old, next := buildPair(t, "linux", "amd64", "-ldflags=-s -w")
	r := rand.New(rand.NewPCG(1, 2))
	for range rounds(6) {
		a := bytes.Clone(old)
		for range 20 { // also in headers and tables
			at := r.IntN(len(a))
			if r.IntN(2) == 0 {
				at = r.IntN(8192)
			}
			a[at] = byte(r.Uint32())
		}
		apply(t, a, create(t, a, next), next)
	}
}

func TestBytes(t *testing.T) {
	text := func(lines, from int) []byte {
		var b bytes.Buffer
		for i := range lines {
			_, _ = fmt.Fprintf(&b, "line %d of a file that is no program\n", i+from)
		}
		return b.Bytes()
	}
	noise := make([]byte, 40_000)
	r := rand.New(rand.NewPCG(3, 4))
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	changed := bytes.Clone(noise)
	changed = append(changed[:10_000], append([]byte("inserted"), changed[10_000:]...)...)
	for i := 20_000; i < 20_400; i += 7 {
		changed[i]++
	}
	for name, c := range map[string]struct {
		old, next []byte
		most      int
	}{
		"both empty":         {nil, nil, 72},
		"from nothing":       {nil, text(100, 0), 600},
		"to nothing":         {text(100, 0), nil, 72},
		"the same":           {noise, noise, 96},
		"nothing in common":  {text(1000, 0), noise, 41_000},
		"one byte":           {[]byte{1}, []byte{2}, 72},
		"edited":             {noise, changed, 400},
		"moved":              {noise, append(bytes.Clone(noise[20_000:]), noise[:20_000]...), 120},
		"all zeros, shorter": {make([]byte, 100_000), make([]byte, 70_000), 96},
	} {
		t.Run(name, func(t *testing.T) {
			patch := create(t, c.old, c.next)
			apply(t, c.old, patch, c.next)
			require.LessOrEqual(t, len(patch), c.most)
		})
	}
}

// What applying takes at most is told, and kept to.
func TestMemory(t *testing.T) {
	old, next := buildPair(t, "linux", "amd64", "-ldflags=-s -w")
	patch, memory, err := Create(t.Context(), old, next)
	require.NoError(t, err)
	try := func(memory int64) error {
		return reloc.Apply(io.Discard, bytes.NewReader(old), int64(len(old)), bytes.NewReader(patch), int64(len(patch)), int64(len(next)), memory)
	}
	require.NoError(t, try(memory))
	var over *reloc.MemoryError
	require.ErrorAs(t, try(int64(len(old))-1), &over)
	require.ErrorAs(t, try(int64(len(old))+1<<20), &over)
	require.ErrorAs(t, try(over.Need-1), &over)
	err = over
	for tries := 0; errors.As(err, &over); tries++ { // it is told step by step
		require.Less(t, tries, 8)
		require.LessOrEqual(t, over.Need, memory)
		err = try(over.Need)
	}
	require.NoError(t, err)
}

// Whatever is edited comes back.
func TestEdits(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range rounds(120) {
		old := make([]byte, r.IntN(3000))
		for i := range old {
			old[i] = byte(r.Uint32() % 5)
		}
		next := bytes.Clone(old)
		for range r.IntN(10) {
			at, n := r.IntN(len(next)+1), r.IntN(50)
			switch r.IntN(3) {
			case 0:
				next = append(next[:at:at], append(bytes.Repeat([]byte{byte(r.Uint32())}, n), next[at:]...)...)
			case 1:
				next = append(next[:at:at], next[min(at+n, len(next)):]...)
			default:
				next = append(next, next[at:min(at+n, len(next))]...)
			}
		}
		apply(t, old, create(t, old, next), next)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	cancel(stop)
	_, _, err := Create(ctx, make([]byte, 1000), make([]byte, 1000))
	require.ErrorIs(t, err, stop)
}

// lastingContext ends after it was looked at so many times.
type lastingContext struct {
	context.Context
	cancel context.CancelCauseFunc
	looks  int
}

var errLooked = errors.New("looked at often enough")

func (c *lastingContext) Err() error {
	if c.looks--; c.looks < 0 {
		c.cancel(errLooked)
	}
	return c.Context.Err()
}

func lasting(t *testing.T, looks int) *lastingContext {
	ctx, cancel := context.WithCancelCause(t.Context())
	t.Cleanup(func() { cancel(nil) })
	return &lastingContext{ctx, cancel, looks}
}

// Between steps, and between streams: whenever the context ends, so does the work.
func TestCancelledInBetween(t *testing.T) {
	old := bytes.Repeat([]byte("the same all over "), 100)
	next := append([]byte("new "), old...)
	const many = 1000
	whole := lasting(t, many)
	want, _, err := Create(whole, old, next)
	require.NoError(t, err)
	looks := many - whole.looks
	require.GreaterOrEqual(t, looks, 2+12+int(reloc.Streams), "at matching and predicting, and at each compression")
	for n := range looks {
		_, _, err := Create(lasting(t, n), old, next)
		require.ErrorIs(t, err, errLooked)
	}
	got, _, err := Create(lasting(t, looks), old, next)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// Files that have nothing in common are one long search.
func TestCancelledWhileMatching(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	old, next := make([]byte, 300_000), make([]byte, 300_000)
	for i := range old {
		old[i], next[i] = byte(r.Uint32()), byte(r.Uint32())
	}
	_, err := newMatcher(old).match(lasting(t, 3), next)
	require.ErrorIs(t, err, errLooked)
}

func TestSuffixArray(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 400 {
		s := make([]byte, r.IntN(200))
		letters := 1 + r.Uint32()%4
		for i := range s {
			s[i] = byte(r.Uint32() % letters)
		}
		if len(s) > 0 && r.IntN(4) == 0 {
			s[r.IntN(len(s))] = 255
		}
		sa := suffixArray(s, 255)
		require.Len(t, sa, len(s))
		seen := map[int32]bool{}
		for i, v := range sa {
			seen[v] = true
			if i > 0 {
				require.Negative(t, bytes.Compare(s[sa[i-1]:], s[v:]), "%v", s)
			}
		}
		require.Len(t, seen, len(s))
	}
}

func BenchmarkCreate(b *testing.B) {
	old, next := benchPair(b)
	b.SetBytes(int64(len(next)))
	for b.Loop() {
		patch, _, err := Create(b.Context(), old, next)
		require.NoError(b, err)
		b.ReportMetric(float64(len(patch)), "patch-bytes")
	}
}

func BenchmarkApply(b *testing.B) {
	old, next := benchPair(b)
	patch, _, err := Create(b.Context(), old, next)
	require.NoError(b, err)
	b.SetBytes(int64(len(next)))
	b.ReportAllocs()
	for b.Loop() {
		require.NoError(b, reloc.Apply(io.Discard, bytes.NewReader(old), int64(len(old)), bytes.NewReader(patch), int64(len(patch)), int64(len(next)), 1<<30))
	}
}

// benchPair is the test program itself, and the same with a part of it elsewhere.
func benchPair(b *testing.B) (old, next []byte) {
	path, err := os.Executable()
	require.NoError(b, err)
	old, err = os.ReadFile(path)
	require.NoError(b, err)
	next = append(bytes.Clone(old[:len(old)/2]), append(bytes.Repeat([]byte("inserted"), 100), old[len(old)/2:]...)...)
	return old, next
}
