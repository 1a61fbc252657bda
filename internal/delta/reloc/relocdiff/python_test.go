package relocdiff

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var seeds = flag.Int("seeds", 10, "how many made files the second decoder is tried with")

// A second decoder, testdata/reloc1.py, was written from docs/formats.md. What both make of a patch is the same: so the document
// says what the code does.

// python returns a python3 that has the module brotli.
func python(t *testing.T) string {
	var said []string
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		out, err := exec.CommandContext(t.Context(), name, "-c", "import brotli").CombinedOutput()
		if err == nil {
			return name
		}
		said = append(said, fmt.Sprintf("%s: %v: %s", name, err, out))
	}
	t.Skip("no python3 with the module brotli (Debian: python3-brotli): " + strings.Join(said, "\n"))
	return ""
}

// applyPython lets the second decoder apply a patch.
func applyPython(t *testing.T, python string, old, patch []byte) (next []byte, err error) {
	dir := t.TempDir()
	files := []string{filepath.Join(dir, "old"), filepath.Join(dir, "patch"), filepath.Join(dir, "new")}
	require.NoError(t, os.WriteFile(files[0], old, 0o644))
	require.NoError(t, os.WriteFile(files[1], patch, 0o644))
	cmd := exec.CommandContext(t.Context(), python, append([]string{"../testdata/reloc1.py"}, files...)...)
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	next, err = os.ReadFile(files[2])
	require.NoError(t, err)
	return next, nil
}

// requireEqual compares long files.
func requireEqual(t *testing.T, want, got []byte) {
	t.Helper()
	if !bytes.Equal(want, got) {
		at := 0
		for at < min(len(want), len(got)) && want[at] == got[at] {
			at++
		}
		require.Failf(t, "the files differ", "%d and %d bytes, from offset %d on", len(want), len(got), at)
	}
}

// program is the source of two versions of a program: with other functions, types, methods and lines.
func program(version int) string {
	src := `package main

import (
	"fmt"
	"os"
	"sort"
)

type shape interface {
	area() float64
	fmt.Stringer
}

type square struct{ side float64 }

func (s square) area() float64   { return s.side * s.side }
func (s square) String() string  { return fmt.Sprintf("square of %g", s.side) }
`
	if version == 2 {
		src += `
type circle struct {
	radius float64
	name   *string
	tags   map[string][]int
}

// area is that of a circle.
func (c *circle) area() float64 { return 3.14159 * c.radius * c.radius }
func (c *circle) String() string {
	if c.name != nil {
		return *c.name
	}
	return fmt.Sprint("circle", c.radius, c.tags)
}
`
	}
	src += `
func double(x float64) float64 { return 2 * x }

func main() {
	all := []shape{square{1}, square{double(float64(len(os.Args)))}}
`
	if version == 2 {
		src += "\tall = append(all, &circle{radius: 2})\n\tdefer fmt.Println(len(all))\n"
	}
	return src + `	sort.Slice(all, func(i, j int) bool { return all[i].area() < all[j].area() })
	for _, s := range all {
		fmt.Println(s, s.area())
	}
}
`
}

// build builds a version of the program.
func build(t *testing.T, goos, goarch string, version int) []byte {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example.com/shapes\n\ngo 1.21\n"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(program(version)), 0o644))
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", "shapes", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch, "GOWORK=off", "GOFLAGS=")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	b, err := os.ReadFile(filepath.Join(dir, "shapes"))
	require.NoError(t, err)
	return b
}

func TestPythonPrograms(t *testing.T) {
	if testing.Short() {
		t.Skip("builds programs for four systems")
	}
	python := python(t)
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip(err)
	}
	for _, target := range []string{"linux/amd64", "linux/arm64", "windows/amd64", "darwin/arm64"} {
		t.Run(target, func(t *testing.T) {
			goos, goarch, _ := strings.Cut(target, "/")
			old, next := build(t, goos, goarch, 1), build(t, goos, goarch, 2)
			patch, _, err := Create(t.Context(), old, next)
			require.NoError(t, err)
			require.Less(t, len(patch), len(next)/20)
			got, err := applyPython(t, python, old, patch)
			require.NoError(t, err)
			requireEqual(t, next, got)
		})
	}
}

func TestPythonFiles(t *testing.T) {
	python := python(t)
	text := []byte(strings.Repeat("Numbers are unsigned and little-endian unless said otherwise.\n", 100) + program(1))
	for name, pair := range map[string][2][]byte{
		"text":              {text, []byte(strings.ReplaceAll(string(text), "unsigned", "whole") + program(2))},
		"from nothing":      {nil, text},
		"to nothing":        {text, nil},
		"nothing":           {nil, nil},
		"nothing in common": {bytes.Repeat([]byte{1}, 5000), []byte(program(2))},
		"the same":          {text, text},
	} {
		t.Run(name, func(t *testing.T) {
			patch, _, err := Create(t.Context(), pair[0], pair[1])
			require.NoError(t, err)
			got, err := applyPython(t, python, pair[0], patch)
			require.NoError(t, err)
			requireEqual(t, pair[1], got)
			_, err = applyPython(t, python, append([]byte("x"), pair[0]...), patch)
			require.ErrorContains(t, err, "the patch is for another file")
		})
	}
}

func TestPythonMade(t *testing.T) {
	python := python(t)
	for seed := range uint64(*seeds) {
		for _, arm := range []bool{false, true} {
			t.Run(fmt.Sprint(seed, arm), func(t *testing.T) {
				old, patch, next := made(t, seed, arm)
				got, err := applyPython(t, python, old, patch)
				require.NoError(t, err)
				requireEqual(t, next, got)
			})
		}
	}
}

func TestPythonGolden(t *testing.T) {
	python := python(t)
	list, err := os.ReadFile("../testdata/golden/new")
	require.NoError(t, err)
	for line := range strings.Lines(string(list)) {
		field := strings.Fields(line)
		t.Run(field[2], func(t *testing.T) {
			old, err := os.ReadFile("../testdata/golden/" + field[2] + ".old")
			require.NoError(t, err)
			patch, err := os.ReadFile("../testdata/golden/" + field[2] + ".patch")
			require.NoError(t, err)
			next, err := applyPython(t, python, old, patch)
			require.NoError(t, err)
			require.Equal(t, field[0], fmt.Sprintf("%x", sha256.Sum256(next)))
		})
	}
}
