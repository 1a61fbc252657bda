package diff_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/delta"
	"github.com/fairlead-dev/fairlead/internal/delta/diff"
)

var linux = channel.Platform{OS: "linux", Arch: "amd64"}

func sum(data string) string {
	h := sha256.Sum256([]byte(data))
	return hex.EncodeToString(h[:])
}

func listed(path, content string) channel.File {
	return channel.File{Path: path, Blob: channel.Blob{SHA256: sum(content), Length: int64(len(content))}, Mode: 0o644}
}

// raw is an artifact of one file.
func raw(t testing.TB, content string) *diff.Content {
	t.Helper()
	f := listed("notes", content)
	a := &channel.Artifact{Platform: linux, Blob: f.Blob, Format: channel.Raw, Executable: "notes", Files: []channel.File{f}}
	return unpack(t, a, content)
}

func unpack(t testing.TB, a *channel.Artifact, content string) *diff.Content {
	t.Helper()
	c, err := diff.Unpack(t.Context(), a, strings.NewReader(content), t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// packed is an artifact of several files; the one whose path ends in "/notes", or is "notes", is its program.
func packed(t testing.TB, files map[string]string) *diff.Content {
	t.Helper()
	a, blob := archived(t, files)
	return unpack(t, a, blob)
}

func archived(t testing.TB, files map[string]string) (*channel.Artifact, string) {
	t.Helper()
	a := &channel.Artifact{Platform: linux, Format: channel.TarGz}
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	for _, path := range sorted(files) {
		a.Files = append(a.Files, listed(path, files[path]))
		if filepath.Base(path) == "notes" {
			a.Executable = path
		}
		require.NoError(t, w.WriteHeader(&tar.Header{Name: path, Size: int64(len(files[path])), Mode: 0o644}))
		_, err := io.WriteString(w, files[path])
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.NoError(t, z.Close())
	a.Length, a.SHA256 = int64(out.Len()), sum(out.String())
	return a, out.String()
}

func sorted(files map[string]string) []string {
	var paths []string
	for p := range files {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	return paths
}

var roomy = diff.Limits{Memory: 4 << 30, Apply: 1 << 30}

func create(t testing.TB, old, next *diff.Content) *diff.Patch {
	t.Helper()
	p, err := diff.Create(t.Context(), old, next, roomy)
	require.NoError(t, err)
	return p
}

// text is lines of words, different for each seed.
func text(seed uint64, lines int) string {
	r := rand.New(rand.NewPCG(seed, 1))
	var b strings.Builder
	for range lines {
		fmt.Fprintf(&b, "func f%d(x int) int { return x*%d + %d }\n", r.IntN(1e6), r.IntN(1e6), r.IntN(1e6))
	}
	return b.String()
}

func section(data []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data)))
}

func tree(t testing.TB, p *diff.Patch) *delta.Tree {
	t.Helper()
	require.Equal(t, channel.Tree, p.Format)
	got, err := delta.OpenTree(section(p.Data))
	require.NoError(t, err)
	return got
}

// build applies a tree to old files, as a client does: in the order of its index.
func build(t testing.TB, p *diff.Patch, old map[string]string) map[string]string {
	t.Helper()
	have := map[string]string{}
	for _, content := range old {
		have[sum(content)] = content
	}
	patch := tree(t, p)
	for _, f := range patch.Files {
		part := delta.Patch{Format: f.Format, Body: patch.Part(f), Length: f.Length, Memory: p.Memory}
		for _, base := range f.Bases {
			require.Contains(t, have, base, "a base that is not there yet")
			part.Bases = append(part.Bases, section([]byte(have[base])))
		}
		var out bytes.Buffer
		require.NoError(t, delta.Apply(t.Context(), &out, part))
		require.Equal(t, f.SHA256, sum(out.String()))
		have[f.SHA256] = out.String()
	}
	return have
}

func TestFile(t *testing.T) {
	base := text(1, 20_000)
	next := strings.Replace(base, "return", "return 1 +", 3)
	p := create(t, raw(t, base), raw(t, next))
	require.NotEqual(t, channel.Tree, p.Format)
	require.Less(t, len(p.Data), 300)
	var out bytes.Buffer
	require.NoError(t, delta.Apply(t.Context(), &out, delta.Patch{Format: p.Format, Bases: []*io.SectionReader{section([]byte(base))},
		Body: section(p.Data), Length: int64(len(next)), Memory: p.Memory}))
	require.Equal(t, sum(next), sum(out.String()))

	// The same bytes at every run, or a release that is run again could not put a lost patch back.
	require.Equal(t, p, create(t, raw(t, base), raw(t, next)))

	// Nothing in common: still a patch of a file, of about the size of the file compressed.
	other := create(t, raw(t, text(3, 10)), raw(t, next))
	require.NotEqual(t, channel.Tree, other.Format)
	require.NotEqual(t, delta.Whole, other.Format)
	require.Less(t, len(other.Data), len(next)/2)
}

// What both have is left out, whatever it is called; the rest is made of what it was, wherever it was.
func TestTree(t *testing.T) {
	long, moved, code := text(1, 3000), text(2, 2000), text(3, 3000)
	old := map[string]string{
		"notes-1.0.0/bin/notes": text(4, 3000), "notes-1.0.0/same.txt": "same", "notes-1.0.0/changed.txt": long,
		"notes-1.0.0/short.txt": text(8, 5), "notes-1.0.0/short-1.0.0.txt": text(9, 5), "notes-1.0.0/old/only.txt": text(10, 5),
		"notes-1.0.0/moved.txt": moved, "notes-1.0.0/app.3f2a1bc4.js": code, "notes-1.0.0/gone.txt": text(5, 1000),
	}
	split := strings.SplitAfterN(text(5, 1000), "\n", 500)
	next := map[string]string{
		"notes-1.1.0/bin/notes": text(4, 3000) + "fix\n", "notes-1.1.0/same.txt": "same", "notes-1.1.0/changed.txt": "new " + long,
		"notes-1.1.0/short.txt": text(8, 5) + "x", "notes-1.1.0/short-1.1.0.txt": text(9, 5) + "x", "notes-1.1.0/new/only.txt": text(10, 5) + "x",
		"notes-1.1.0/elsewhere/moved2.txt": moved, "notes-1.1.0/app.99d0e1f2.js": code + "more\n",
		"notes-1.1.0/part.txt":  strings.Join(split[:250], "") + text(6, 20),
		"notes-1.1.0/fresh.txt": text(7, 300), "notes-1.1.0/again.txt": "again\n" + text(7, 300),
	}
	p := create(t, packed(t, old), packed(t, next))
	have := build(t, p, old)
	for path, content := range next {
		require.Equal(t, content, have[sum(content)], path)
	}
	paths := map[string]string{}
	for _, files := range []map[string]string{old, next} {
		for path, content := range files {
			paths[sum(content)] = path
		}
	}
	got, size := map[string][]string{}, map[string]int64{}
	var order []string
	for _, f := range tree(t, p).Files {
		var bases []string
		for _, b := range f.Bases {
			bases = append(bases, paths[b])
		}
		got[paths[f.SHA256]], size[paths[f.SHA256]] = bases, tree(t, p).Part(f).Size()
		order = append(order, paths[f.SHA256])
	}
	require.Equal(t, "notes-1.1.0/bin/notes", order[0], "the program comes first")
	require.NotContains(t, got, "notes-1.1.0/same.txt")
	require.NotContains(t, got, "notes-1.1.0/elsewhere/moved2.txt")
	require.Equal(t, []string{"notes-1.0.0/bin/notes"}, got["notes-1.1.0/bin/notes"])
	require.Equal(t, []string{"notes-1.0.0/changed.txt"}, got["notes-1.1.0/changed.txt"])
	require.Equal(t, []string{"notes-1.0.0/app.3f2a1bc4.js"}, got["notes-1.1.0/app.99d0e1f2.js"])
	// Too short for their content to tell: by name.
	require.Equal(t, []string{"notes-1.0.0/short.txt"}, got["notes-1.1.0/short.txt"])
	require.Equal(t, []string{"notes-1.0.0/short-1.0.0.txt"}, got["notes-1.1.0/short-1.1.0.txt"])
	require.Equal(t, []string{"notes-1.0.0/old/only.txt"}, got["notes-1.1.0/new/only.txt"])
	require.Contains(t, got["notes-1.1.0/part.txt"], "notes-1.0.0/gone.txt")
	require.Contains(t, got["notes-1.1.0/fresh.txt"], "notes-1.1.0/again.txt")
	require.Less(t, size["notes-1.1.0/fresh.txt"], int64(100))
	require.Less(t, size["notes-1.1.0/changed.txt"], int64(100))
}

// An installation that has kept the program alone can still use the first part.
func TestProgramNeedsOnlyTheProgram(t *testing.T) {
	shared := text(9, 2000)
	old := map[string]string{"notes": text(1, 2000), "plugin": shared}
	next := map[string]string{"notes": text(1, 2000) + shared, "plugin": shared}
	f := tree(t, create(t, packed(t, old), packed(t, next))).Files[0]
	require.Equal(t, []string{sum(old["notes"])}, f.Bases)
}

// The folder that everything is in may have any name.
func TestTopFolder(t *testing.T) {
	old := map[string]string{"alpha/notes": "x", "alpha/a/short.txt": text(1, 2), "alpha/b/short.txt": text(2, 2)}
	next := map[string]string{"beta/notes": "x", "beta/a/short.txt": text(1, 2) + "x", "beta/b/short.txt": text(2, 2) + "x"}
	for _, f := range tree(t, create(t, packed(t, old), packed(t, next))).Files {
		require.Len(t, f.Bases, 1)
	}
}

func TestTreeOfNothing(t *testing.T) {
	old := map[string]string{"notes": "a", "more": "b", "gone": "c"}
	next := map[string]string{"notes": "a", "more": "b"}
	p := create(t, packed(t, old), packed(t, next))
	require.Empty(t, tree(t, p).Files)
	require.Less(t, len(p.Data), 64)
}

// From one file to several, and back.
func TestOneAndSeveral(t *testing.T) {
	program := text(1, 3000)
	one, several := map[string]string{"notes": program}, map[string]string{"notes": program + "x", "help.txt": "help"}
	p := create(t, packed(t, one), packed(t, several))
	require.Contains(t, build(t, p, one), sum("help"))
	require.Less(t, len(p.Data), 500)
	p = create(t, packed(t, several), packed(t, one))
	require.Contains(t, build(t, p, several), sum(program))

	// An archive of one file is that file.
	p = create(t, packed(t, one), packed(t, map[string]string{"notes": program + "y"}))
	require.NotEqual(t, channel.Tree, p.Format)
}

func TestLimits(t *testing.T) {
	old, next := raw(t, text(1, 5000)), raw(t, text(1, 5000)+"x")
	for name, l := range map[string]diff.Limits{"to make": {Memory: 1 << 20, Apply: 1 << 30}, "to apply": {Memory: 4 << 30, Apply: 1 << 10}} {
		_, err := diff.Create(t.Context(), old, next, l)
		var limit *diff.LimitError
		require.ErrorAs(t, err, &limit, name)
	}
	// That is known before anything is read.
	gone := raw(t, text(1, 5000)+"y")
	require.NoError(t, gone.Close())
	_, err := diff.Create(t.Context(), old, gone, diff.Limits{Memory: 1 << 20, Apply: 1 << 30})
	var limit *diff.LimitError
	require.ErrorAs(t, err, &limit)
	// Enough to compress the file, and not enough for any way that looks at a base.
	large := string(bytes.Repeat([]byte(text(2, 10_000)), 13)) // 6.5 MB
	p, err := diff.Create(t.Context(), raw(t, large[1:]), raw(t, large), diff.Limits{Memory: 96<<20 + 13*7<<20, Apply: 1 << 30})
	require.NoError(t, err)
	require.Greater(t, len(p.Data), 10_000)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(io.ErrClosedPipe)
	_, err = diff.Create(ctx, old, next, roomy)
	require.ErrorIs(t, err, io.ErrClosedPipe)
}

// In a tree, a file that is too large to be held is compressed as it is read. The others get patches all the same.
func TestTreeOfLargeFile(t *testing.T) {
	large := strings.Repeat(text(1, 20_000), 45) // 42 MB: 340 MB to hold and compress it, 256 MiB as a stream
	old := map[string]string{"notes": text(2, 3000), "data": large[1:]}
	next := map[string]string{"notes": text(2, 3000) + "x", "data": large}
	from, to := packed(t, old), packed(t, next)
	p, err := diff.Create(t.Context(), from, to, diff.Limits{Memory: 300 << 20, Apply: 1 << 30})
	require.NoError(t, err)
	files := tree(t, p).Files
	require.Len(t, files, 2)
	require.Equal(t, []string{sum(old["notes"])}, files[0].Bases)
	require.Equal(t, delta.Whole, files[1].Format)
	require.Equal(t, large, build(t, p, old)[sum(large)])

	var limit *diff.LimitError
	for name, l := range map[string]diff.Limits{
		"the stream":    {Memory: 200 << 20, Apply: 1 << 30},
		"what it makes": {Memory: 256<<20 + 1000, Apply: 1 << 30},
		"to apply":      {Memory: 300 << 20, Apply: 16 << 20},
	} {
		_, err := diff.Create(t.Context(), from, to, l)
		require.ErrorAs(t, err, &limit, name)
	}
}

// The content is compared with the manifest before anything is made of it.
func TestUnpackRefuses(t *testing.T) {
	a, blob := archived(t, map[string]string{"notes": "program", "help": "help"})
	for name, change := range map[string]func(){
		"another hash":   func() { a.Files[0].SHA256 = sum("x") },
		"another length": func() { a.Files[0].Length++ },
	} {
		file := a.Files[0]
		change()
		dir := t.TempDir()
		_, err := diff.Unpack(t.Context(), a, strings.NewReader(blob), dir)
		require.ErrorContains(t, err, "does not hold the file help", name)
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, left, "the folder is removed")
		a.Files[0] = file
	}
	_, err := diff.Unpack(t.Context(), a, strings.NewReader(blob[:len(blob)-9]), t.TempDir())
	require.Error(t, err)
}

// program builds a Go program and returns it.
func program(t *testing.T, source string, env []string, flags ...string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o600))
	out := filepath.Join(dir, "notes")
	cmd := exec.CommandContext(t.Context(), "go", slices.Concat([]string{"build", "-trimpath", "-o", out}, flags, []string{filepath.Join(dir, "main.go")})...)
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS="), env...)
	message, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", message)
	data, err := os.ReadFile(out)
	require.NoError(t, err)
	return string(data)
}

const hello = `package main

import "fmt"

func main() { fmt.Println("hello") }
`

func TestHindrances(t *testing.T) {
	if testing.Short() {
		t.Skip("builds programs")
	}
	changed := strings.Replace(hello, "hello", "hello, world", 1)
	whats := func(old, next *diff.Content) string {
		var b strings.Builder
		for _, h := range diff.Hindrances(old, next) {
			require.NotEmpty(t, h.Cost)
			require.NotEmpty(t, h.Next)
			b.WriteString(h.String() + "\n")
		}
		return b.String()
	}
	for _, platform := range []string{"linux/amd64", "darwin/arm64", "windows/amd64"} {
		system, arch, _ := strings.Cut(platform, "/")
		env := []string{"GOOS=" + system, "GOARCH=" + arch}
		old := raw(t, program(t, hello, env, "-ldflags=-s -w"))
		require.Empty(t, whats(old, raw(t, program(t, changed, env, "-ldflags=-s -w"))), platform)
		require.Empty(t, whats(old, raw(t, program(t, changed, env, "-ldflags=-compressdwarf=false"))), platform)
		require.Contains(t, whats(old, raw(t, program(t, changed, env))), "bytes of compressed debug information", platform)
	}
	stripped := program(t, hello, nil, "-ldflags=-s -w")
	other := strings.ReplaceAll(stripped, "go1.", "go0.") // another toolchain, as far as the program says
	require.Contains(t, whats(raw(t, other), raw(t, stripped)), "was built by go1.")

	packer := []byte(stripped)
	copy(packer[0xf00:], "UPX!")
	require.Contains(t, whats(raw(t, stripped), raw(t, string(packer))), "notes is packed (UPX)")
	f, err := elf.NewFile(strings.NewReader(stripped))
	require.NoError(t, err)
	code := f.Section(".text")
	encrypted := []byte(stripped)
	_, _ = rand.NewChaCha8([32]byte{}).Read(encrypted[code.Offset : code.Offset+code.Size])
	require.Contains(t, whats(raw(t, stripped), raw(t, string(encrypted))), "bits of entropy a byte")
	if upx, err := exec.LookPath("upx"); err == nil {
		path := filepath.Join(t.TempDir(), "notes")
		require.NoError(t, os.WriteFile(path, []byte(stripped), 0o700))
		message, err := exec.CommandContext(t.Context(), upx, "-q", path).CombinedOutput()
		require.NoError(t, err, "%s", message)
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Contains(t, whats(raw(t, stripped), raw(t, string(data))), "notes is packed (UPX)")
	}

	squeezed := func(seed uint64) string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, err := io.WriteString(z, text(seed, 3000))
		require.NoError(t, err)
		require.NoError(t, z.Close())
		return b.String()
	}
	before, after := map[string]string{"notes": "x"}, map[string]string{"notes": "x", "new.gz": squeezed(99)}
	for i := range 5 {
		name := fmt.Sprintf("assets%c.gz", 'a'+i)
		before[name], after[name] = squeezed(uint64(i)), squeezed(uint64(i+10))
	}
	got := whats(packed(t, before), packed(t, after))
	require.Contains(t, got, "assetsa.gz is compressed (gzip), and was changed")
	require.Contains(t, got, "2 more compressed files were changed")
	require.NotContains(t, got, "new.gz")
}
