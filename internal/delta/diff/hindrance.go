package diff

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"fmt"
	"io"
	"math"
	"os"
	"strings"

	"github.com/fairlead-dev/fairlead/channel"
)

// A Hindrance is something about a build that makes patches larger than they need be.
type Hindrance struct {
	What string // which file, and what about it
	Cost string // what that costs
	Next string // what to do
}

func (h Hindrance) String() string { return h.What + ": " + h.Cost + "; " + h.Next }

const (
	leastPacked   = 16 << 10 // bytes: a shorter compressed file is not worth a word
	leastCode     = 64 << 10 // bytes of code, of which the entropy says something
	packedEntropy = 7.6      // bits a byte; machine code has 5.5 to 6.7
	maxNamed      = 3        // compressed files that are named one by one
)

// Hindrances compares two versions: what of the changed files no format can make a small patch for.
func Hindrances(old, next *Content) []Hindrance {
	var list []Hindrance
	var packed []channel.File
	files := changed(old, next)
	pairs := pair(old, next, files)
	for _, f := range files {
		if h := ofProgram(next, f, f.SHA256 == next.program, old); h != nil {
			list = append(list, h...)
			continue
		}
		if pairs[f.SHA256] != "" && f.Length >= leastPacked && compressedAs(head(next.path(f.SHA256))) != "" {
			packed = append(packed, f)
		}
	}
	return append(list, ofPacked(next, packed)...)
}

// ofPacked are files that were compressed before they were packed into the artifact.
func ofPacked(next *Content, files []channel.File) []Hindrance {
	var list []Hindrance
	var rest int64
	for i, f := range files {
		if i >= maxNamed {
			rest += f.Length
			continue
		}
		list = append(list, Hindrance{
			What: fmt.Sprintf("%s is compressed (%s), and was changed", f.Path, compressedAs(head(next.path(f.SHA256)))),
			Cost: fmt.Sprintf("most of its %d bytes are in every patch", f.Length),
			Next: "ship it as it is inside: the artifact is compressed anyway",
		})
	}
	if rest > 0 {
		list = append(list, Hindrance{
			What: fmt.Sprintf("%d more compressed files were changed", len(files)-maxNamed),
			Cost: fmt.Sprintf("most of their %d bytes are in every patch", rest),
			Next: "ship them as they are inside",
		})
	}
	return list
}

// head reads the beginning of a file; nothing of one that cannot be read.
func head(path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	b := make([]byte, 4096)
	n, _ := io.ReadFull(f, b)
	return b[:n]
}

// compressedAs names the format that data begins as, of those that are a choice: pictures and sound are as they are.
func compressedAs(data []byte) string {
	for _, m := range [][2]string{{"\x1f\x8b", "gzip"}, {"PK\x03\x04", "zip"}, {"\xfd7zXZ", "xz"}, {"BZh", "bzip2"}, {"\x28\xb5\x2f\xfd", "zstd"},
		{"7z\xbc\xaf", "7z"}, {"\x04\x22\x4d\x18", "lz4"}} {
		if bytes.HasPrefix(data, []byte(m[0])) {
			return m[1]
		}
	}
	return ""
}

// An executable is what is asked about one of any format.
type executable struct {
	names      []string // of sections
	compressed int64    // bytes of compressed debug information
	code       []io.ReadSeeker
}

// ofProgram is nil if f is no executable.
func ofProgram(next *Content, f channel.File, isProgram bool, old *Content) []Hindrance {
	file, err := os.Open(next.path(f.SHA256))
	if err != nil {
		return nil
	}
	defer func() { _ = file.Close() }()
	e := readExecutable(file)
	if e == nil {
		return nil
	}
	list := []Hindrance{}
	if how := e.packedBy(head(next.path(f.SHA256))); how != "" {
		return append(list, Hindrance{
			What: fmt.Sprintf("%s is packed (%s)", f.Path, how),
			Cost: "a patch is about as large as the file: all of its bytes change with every build",
			Next: "release it unpacked: installations take patches, and the first download can be a .tar.zst",
		})
	}
	if e.compressed > 0 {
		list = append(list, Hindrance{
			What: fmt.Sprintf("%s has %d bytes of compressed debug information", f.Path, e.compressed),
			Cost: "most of them are in every patch (that of a small fix to fzf grew from 3 kB to 1.5 MB)",
			Next: "build with -ldflags=\"-s -w\" (none), or -ldflags=-compressdwarf=false (not compressed)",
		})
	}
	if before, now := toolchain(old.path(old.program)), toolchain(next.path(f.SHA256)); isProgram && before != now && before != "" && now != "" {
		list = append(list, Hindrance{
			What: fmt.Sprintf("%s was built by %s, and the version before by %s", f.Path, now, before),
			Cost: "all code of the runtime and of the standard library differs: patches are ten times as large, or more",
			Next: "build patch releases with the toolchain of the release before",
		})
	}
	return list
}

// toolchain is what a Go program was built with, or "".
func toolchain(path string) string {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return ""
	}
	return info.GoVersion
}

func readExecutable(r io.ReaderAt) *executable {
	if f, err := elf.NewFile(r); err == nil {
		return ofELF(f)
	}
	if f, err := macho.NewFile(r); err == nil {
		return ofMachO(f)
	}
	magic := make([]byte, 2)
	// Without these two letters package pe reads any bytes as an object file.
	if n, _ := r.ReadAt(magic, 0); n < 2 || string(magic) != "MZ" {
		return nil
	}
	if f, err := pe.NewFile(r); err == nil {
		return ofPE(f)
	}
	return nil
}

func ofELF(f *elf.File) *executable {
	e := &executable{}
	for _, s := range f.Sections {
		e.names = append(e.names, s.Name)
		// debug_gdb_scripts and the like are not compressed, so the flag tells; older linkers renamed the section instead.
		if strings.HasPrefix(s.Name, ".debug_") && s.Flags&elf.SHF_COMPRESSED != 0 || strings.HasPrefix(s.Name, ".zdebug_") {
			e.compressed += int64(s.FileSize)
		}
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 {
			e.code = append(e.code, p.Open())
		}
	}
	return e
}

func ofMachO(f *macho.File) *executable {
	e := &executable{}
	for _, s := range f.Sections {
		e.names = append(e.names, s.Name)
		if strings.HasPrefix(s.Name, "__zdebug") {
			e.compressed += int64(s.Size)
		}
		if s.Seg == "__TEXT" && s.Name == "__text" {
			e.code = append(e.code, s.Open())
		}
	}
	return e
}

func ofPE(f *pe.File) *executable {
	const executes = 0x20000000 // IMAGE_SCN_MEM_EXECUTE
	e := &executable{}
	for _, s := range f.Sections {
		e.names = append(e.names, s.Name)
		if strings.HasPrefix(s.Name, ".zdebug") {
			e.compressed += int64(s.Size)
		}
		if s.Characteristics&executes != 0 {
			e.code = append(e.code, s.Open())
		}
	}
	return e
}

// packedBy tells how an executable is packed, by names that packers leave, and by code that looks like noise.
func (e *executable) packedBy(head []byte) string {
	for _, name := range e.names {
		if strings.HasPrefix(name, "UPX") || strings.HasPrefix(name, "__XHDR") {
			return "UPX"
		}
	}
	if bytes.Contains(head, []byte("UPX!")) {
		return "UPX"
	}
	var counts [256]int64
	var total int64
	buf := make([]byte, 64<<10)
	for _, r := range e.code {
		for {
			n, err := r.Read(buf)
			for _, b := range buf[:n] {
				counts[b]++
			}
			total += int64(n)
			if err != nil {
				break
			}
		}
	}
	if bits := entropy(counts, total); total >= leastCode && bits > packedEntropy {
		return fmt.Sprintf("its code has %.1f bits of entropy a byte", bits)
	}
	return ""
}

func entropy(counts [256]int64, total int64) float64 {
	bits := 0.0
	for _, n := range counts {
		if n > 0 {
			bits -= float64(n) / float64(total) * math.Log2(float64(n)/float64(total))
		}
	}
	return bits
}
