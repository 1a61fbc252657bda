package relocdiff

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"encoding/binary"
	"strings"

	"github.com/fairlead-dev/fairlead/internal/delta/reloc"
)

var le = binary.LittleEndian

// An image is an executable file, as far as references in it are concerned.
type image struct {
	b        []byte
	cleared  []cleared
	arch     string
	names    []string      // of segments
	segments []reloc.Place // in the order of the file's own list
	sections []section
	plan     *reloc.Plan // from this image to itself
	hashes   []reloc.PageHashes
	goProgram
	imageBase uint64   // of PE
	segAddrs  []uint64 // of Mach-O
	rebase    reloc.Range
}

// cleared is what was in a part of the file that is cleared because it follows from the rest.
type cleared struct {
	reloc.Range
	was []byte
}

func (im *image) clear(off, size uint64) {
	part := im.b[off : off+size]
	im.cleared = append(im.cleared, cleared{reloc.Range{Off: off, Size: size}, bytes.Clone(part)})
	clear(part)
}

// restore undoes what reading the image has cleared.
func (im *image) restore() {
	if im != nil {
		for _, c := range im.cleared {
			copy(im.b[c.Off:], c.was)
		}
	}
}

func (im *image) blanks() []reloc.Range {
	var all []reloc.Range
	for _, c := range im.cleared {
		all = append(all, c.Range)
	}
	return all
}

type section struct {
	name string
	code bool
	reloc.Range
	addr uint64
}

// parseImage reads an executable; nil: it is none that is known. b may be changed: hashes that follow from the rest are cleared.
func parseImage(b []byte) *image {
	im := &image{b: b}
	r := bytes.NewReader(b)
	if f, err := elf.NewFile(r); err == nil {
		im.elf(f)
	} else if f, err := pe.NewFile(r); err == nil {
		im.pe(f)
	} else if f, err := macho.NewFile(r); err == nil {
		im.macho(f)
	}
	if im.arch == "" || len(im.segments) == 0 || len(b) > reloc.MaxImage {
		im.restore()
		return nil
	}
	im.plan = &reloc.Plan{OldSize: uint64(len(b)), NewSize: uint64(len(b)), Lo: ^uint64(0)}
	for _, s := range im.segments {
		im.plan.Segments = append(im.plan.Segments, reloc.Segment{Old: s, New: s})
		im.plan.Lo, im.plan.Hi = min(im.plan.Lo, s.Addr), max(im.plan.Hi, s.Addr+max(s.Size, s.MemSize))
	}
	im.plan.Lo = max(im.plan.Lo, 0x1000)
	im.findGo()
	return im
}

func (im *image) segment(name string, p reloc.Place) {
	if n := uint64(len(im.b)); p.Off <= n && p.Size <= n-p.Off && p.Size+p.MemSize > 0 {
		im.names, im.segments = append(im.names, name), append(im.segments, p)
	}
}

func (im *image) section(name string, code bool, off, size, addr uint64) {
	if n := uint64(len(im.b)); off <= n && size <= n-off && size > 0 {
		im.sections = append(im.sections, section{name, code, reloc.Range{Off: off, Size: size}, addr})
	}
}

func (im *image) elf(f *elf.File) {
	switch f.Machine {
	case elf.EM_X86_64:
		im.arch = "amd64"
	case elf.EM_AARCH64:
		im.arch = "arm64"
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD {
			im.segment(p.Flags.String(), reloc.Place{Off: p.Off, Size: p.Filesz, Addr: p.Vaddr, MemSize: p.Memsz})
		}
	}
	for _, s := range f.Sections {
		if s.Flags&elf.SHF_ALLOC != 0 && s.Type != elf.SHT_NOBITS {
			im.section(s.Name, s.Flags&elf.SHF_EXECINSTR != 0, s.Offset, s.FileSize, s.Addr)
		}
	}
}

func (im *image) pe(f *pe.File) {
	h, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok {
		return
	}
	switch f.Machine {
	case pe.IMAGE_FILE_MACHINE_AMD64:
		im.arch = "amd64"
	case pe.IMAGE_FILE_MACHINE_ARM64:
		im.arch = "arm64"
	}
	im.imageBase = h.ImageBase
	for _, s := range f.Sections {
		size := uint64(min(s.Size, max(s.VirtualSize, 1)))
		addr := h.ImageBase + uint64(s.VirtualAddress)
		im.segment(s.Name, reloc.Place{Off: uint64(s.Offset), Size: size, Addr: addr, MemSize: uint64(s.VirtualSize)})
		im.section(s.Name, s.Characteristics&pe.IMAGE_SCN_CNT_CODE != 0, uint64(s.Offset), size, addr)
	}
}

func (im *image) macho(f *macho.File) {
	switch f.Cpu {
	case macho.CpuAmd64:
		im.arch = "amd64"
	case macho.CpuArm64:
		im.arch = "arm64"
	}
	const pureInstructions, zeroFill = 0x80000000, 1
	for _, l := range f.Loads {
		switch l := l.(type) {
		case *macho.Segment:
			if len(im.segAddrs) < int(bases-baseSegment) {
				im.segAddrs = append(im.segAddrs, l.Addr)
			}
			if l.Prot == 0 { // __PAGEZERO
				continue
			}
			im.segment(l.Name, reloc.Place{Off: l.Offset, Size: l.Filesz, Addr: l.Addr, MemSize: l.Memsz})
		case macho.LoadBytes:
			im.codeSignature(f.ByteOrder, l)
			im.dyldInfo(f.ByteOrder, l)
		}
	}
	for _, s := range f.Sections {
		if s.Flags&0xff != zeroFill {
			im.section(s.Seg+" "+s.Name, s.Flags&pureInstructions != 0, uint64(s.Offset), s.Size, s.Addr)
		}
	}
}

// dyldInfo finds the rebase opcodes (mach-o/loader.h, struct dyld_info_command).
func (im *image) dyldInfo(order binary.ByteOrder, load []byte) {
	const info, infoOnly = 0x22, 0x80000022
	if len(load) < 48 || order.Uint32(load) != info && order.Uint32(load) != infoOnly {
		return
	}
	if r := (reloc.Range{Off: uint64(order.Uint32(load[8:])), Size: uint64(order.Uint32(load[12:]))}); r.Off+r.Size <= uint64(len(im.b)) {
		im.rebase = r
	}
}

// codeSignature finds the hashes of pages, which follow from the rest of the file (Apple, "TN3126: Inside Code Signing: Hashes";
// the structures are in xnu's cs_blobs.h), and clears them.
func (im *image) codeSignature(order binary.ByteOrder, load []byte) {
	const codeSignature, superBlob, codeDirectory, sha256Type = 0x1d, 0xfade0cc0, 0xfade0c02, 2
	if len(load) < 16 || order.Uint32(load) != codeSignature {
		return
	}
	off, size := uint64(order.Uint32(load[8:])), uint64(order.Uint32(load[12:]))
	if off+size > uint64(len(im.b)) || size < 12 {
		return
	}
	be, sig := binary.BigEndian, im.b[off:off+size]
	if be.Uint32(sig) != superBlob {
		return
	}
	for i := range uint64(be.Uint32(sig[8:])) {
		if 20+i*8 > size {
			return
		}
		at := uint64(be.Uint32(sig[16+i*8:]))
		if at+44 > size {
			return
		}
		d := sig[at:]
		if be.Uint32(d) != codeDirectory || d[36] != sha256.Size || d[37] != sha256Type || d[39] < 10 || d[39] > 30 {
			continue
		}
		h := reloc.PageHashes{Off: off + at + uint64(be.Uint32(d[16:])), Limit: uint64(be.Uint32(d[32:])), PageBits: d[39]}
		im.clearPageHashes(h, uint64(be.Uint32(d[28:])))
	}
}

func (im *image) clearPageHashes(h reloc.PageHashes, slots uint64) {
	page := uint64(1) << h.PageBits
	size := slots * sha256.Size
	if h.Limit > h.Off || h.Off+size > uint64(len(im.b)) || slots != (h.Limit+page-1)/page {
		return
	}
	stored := im.b[h.Off : h.Off+size]
	for i := range slots {
		sum := sha256.Sum256(im.b[i*page : min((i+1)*page, h.Limit)])
		if !bytes.Equal(sum[:], stored[i*sha256.Size:][:sha256.Size]) {
			return
		}
	}
	im.clear(h.Off, size)
	im.hashes = append(im.hashes, h)
}

// find returns where in the file the bytes of a segment from an address on are.
func (im *image) find(addr uint64) (r reloc.Range) {
	for _, s := range im.segments {
		if d := addr - s.Addr; d < s.Size {
			return reloc.Range{Off: s.Off + d, Size: s.Size - d}
		}
	}
	return r
}

// at returns them.
func (im *image) at(addr uint64) []byte {
	r := im.find(addr)
	return im.b[r.Off : r.Off+r.Size]
}

func (im *image) off(addr uint64) uint64 { return im.find(addr).Off }

func (im *image) isText(addr uint64) bool {
	for _, s := range im.sections {
		if s.code && addr-s.addr < s.Size {
			return true
		}
	}
	return false
}

// baseKey names what a base is, to pair those of two images.
type baseKey int

const (
	baseText baseKey = iota
	baseNames
	basePctab
	baseCutab
	baseFiletab
	baseFunctab
	baseGofunc
	baseTypes
	baseImage
	baseFrame
	baseRodata
	baseSegment // the first of several
	bases       = baseSegment + 8
)

// baseAddrs are the addresses of the bases; 0: there is none.
func (im *image) baseAddrs() (a [bases]uint64) {
	a[baseImage] = im.imageBase
	copy(a[baseSegment:], im.segAddrs)
	if im.hasGo {
		a[baseText], a[baseNames], a[basePctab], a[baseCutab] = im.text, im.nametab, im.pctab, im.cutab
		a[baseFiletab], a[baseFunctab], a[baseGofunc], a[baseTypes], a[baseRodata] = im.filetab, im.functab, im.gofunc, im.types, im.rodata
	}
	for _, s := range im.sections {
		if s.name == ".eh_frame_hdr" {
			a[baseFrame] = s.addr
		}
	}
	return a
}

// regions lists where references are. index gives 1 + the index of a base in the plan, or 0.
func (im *image) regions(index [bases]uint64) []reloc.Region {
	var list []reloc.Region
	add := func(k reloc.Kind, r reloc.Range, param ...uint64) {
		if r.Size > 0 {
			list = append(list, reloc.Region{Kind: k, Range: r, Param: param})
		}
	}
	if im.hasGo && index[baseText] > 0 {
		add(reloc.GoFuncs, im.funcs, index[baseText], index[baseNames], index[basePctab], index[baseCutab], index[baseGofunc])
		if index[baseGofunc] > 0 && index[baseRodata] > 0 {
			add(reloc.GoData, im.funcData, im.funcs.Off, im.funcs.Size, index[baseNames], index[baseRodata])
		}
		add(reloc.GoLines, im.pctabRange, im.funcs.Off, im.funcs.Size, im.funcData.Off, im.funcData.Size)
		add(reloc.Table, im.functabRange, index[baseText], index[baseFunctab])
		add(reloc.Table, im.cutabRange, index[baseFiletab])
		if index[baseTypes] > 0 {
			add(reloc.Table, im.typelinks, index[baseTypes])
			add(reloc.GoTypes, im.typesRange, index[baseTypes], index[baseText])
		}
	}
	for _, s := range im.sections {
		switch {
		case s.name == ".pdata" && index[baseImage] > 0 && im.arch == "amd64":
			add(reloc.Table, s.Range, index[baseImage], index[baseImage], index[baseImage])
		case s.name == ".eh_frame_hdr" && index[baseFrame] > 0 && s.Size > 12:
			add(reloc.Table, reloc.Range{Off: s.Off + 12, Size: s.Size - 12}, index[baseFrame], index[baseFrame])
		}
	}
	if im.rebase.Size > 0 {
		add(reloc.Rebase, im.rebase, index[baseSegment:]...)
	}
	for _, s := range im.sections {
		if s.code && im.arch == "amd64" {
			add(reloc.X86, s.Range)
		} else if s.code {
			add(reloc.ARM64, s.Range)
		}
	}
	for _, s := range im.sections {
		if !s.code && !strings.HasSuffix(s.name, "gopclntab") {
			add(reloc.Pointers, s.Range)
		}
	}
	return list
}
