package reloc

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/andybalholm/brotli"
)

// Magic is how a patch begins.
const Magic = "FLrelo1\n"

// Streams of a patch, in their order: each is compressed with brotli (RFC 7932), and their compressed sizes stand behind the
// magic.
const (
	PlanStream    = iota
	NewStream     // of each block: new bytes in front of it
	SeekStream    // how far to go in the old file
	SizeStream    // how much is copied
	TargetStream  // of each run: where it begins
	ShiftStream   // how far targets are moved
	SameStream    // of the copied bytes: how many are as predicted
	WrongStream   // and how many then are not
	LiteralStream // what to add to those
	ExtraStream   // new bytes
	Streams
)

var streamNames = [Streams]string{"plan", "new", "seeks", "sizes", "targets", "shifts", "same", "wrong", "literals", "extra"}

// Bounds on what a patch may ask for.
const (
	MaxImage    = 1 << 30 // bytes of an old file that is read as an image
	maxSegments = 64
	maxBases    = 255
	maxRegions  = 1024
	maxFunction = 1 << 22 // in a table of functions
	maxParams   = 64
	maxFilled   = 16 // page hashes, and find tables
	minPage     = 10 // bits
	maxOverlap  = 8  // times the old file: all regions together
	minBlock    = 4  // bytes of a new file for each block, on average
	minRun      = 8  // bytes of an old file for each run, on average
)

// A FormatError says that a patch is not one of this format, or not one for this old file.
type FormatError struct{ Err error }

func (e *FormatError) Error() string { return "reloc/1: " + e.Err.Error() }
func (e *FormatError) Unwrap() error { return e.Err }

// A MemoryError says that a patch takes more memory than it may, in bytes.
type MemoryError struct{ Need, Limit int64 }

func (e *MemoryError) Error() string {
	return fmt.Sprintf("reloc/1: applying it takes %d bytes of memory, %d are allowed", e.Need, e.Limit)
}

// ErrBase says that a patch is for another old file.
var ErrBase = errors.New("the patch was made for another old file")

func damaged(format string, args ...any) error { return &FormatError{fmt.Errorf(format, args...)} }

// stream reads numbers and bytes of one stream.
type stream struct {
	*bufio.Reader
	name string
	err  error
}

// open finds the streams of a patch.
func open(patch io.ReaderAt, size int64) ([Streams]*stream, error) {
	var all [Streams]*stream
	head := make([]byte, min(size, int64(len(Magic)+Streams*binary.MaxVarintLen64)))
	if _, err := patch.ReadAt(head, 0); err != nil && err != io.EOF {
		return all, err
	}
	if len(head) < len(Magic) || string(head[:len(Magic)]) != Magic {
		return all, damaged("it does not begin with %q", Magic)
	}
	at := int64(len(Magic))
	var sizes [Streams]int64
	for i := range sizes {
		v, n := binary.Uvarint(head[at:])
		if n <= 0 || v > uint64(size) {
			return all, damaged("its head is damaged")
		}
		sizes[i], at = int64(v), at+int64(n)
	}
	for i, n := range sizes {
		if n > size-at {
			return all, damaged("it is too short")
		}
		all[i] = &stream{Reader: bufio.NewReaderSize(brotli.NewReader(io.NewSectionReader(patch, at, n)), 1<<14), name: streamNames[i]}
		at += n
	}
	if at != size {
		return all, damaged("it is too long")
	}
	return all, nil
}

func (s *stream) uint() uint64 {
	if s.err != nil {
		return 0
	}
	v, err := binary.ReadUvarint(s)
	s.err = err
	return v
}

func (s *stream) int() uint64 {
	v := s.uint()
	return v>>1 ^ -(v & 1)
}

// count reads a number of at most limit.
func (s *stream) count(limit uint64) int {
	v := s.uint()
	if s.err == nil && v > limit {
		s.err = fmt.Errorf("%d elements are more than %d", v, limit)
	}
	if s.err != nil {
		return 0
	}
	return int(v)
}

// end tells whether the stream was read without an error and to its end.
func (s *stream) end() error {
	if s.err == nil {
		if _, err := s.ReadByte(); err == nil {
			s.err = errors.New("something follows its end")
		} else if err != io.EOF {
			s.err = err
		}
	}
	return s.failed()
}

func (s *stream) failed() error {
	if s.err == io.EOF {
		s.err = io.ErrUnexpectedEOF
	}
	if s.err != nil {
		return damaged("%s: %w", s.name, s.err)
	}
	return nil
}

// AppendPlan writes a plan as readPlan reads it.
func AppendPlan(b []byte, p *Plan) []byte {
	u := func(list ...uint64) {
		for _, v := range list {
			b = binary.AppendUvarint(b, v)
		}
	}
	u(p.OldSize, p.NewSize, uint64(p.OldCRC), p.Lo, p.Hi-p.Lo, uint64(len(p.Segments)))
	var last Segment
	for _, s := range p.Segments {
		b = appendPlace(b, s.Old, last.Old)
		b = appendPlace(b, s.New, last.New)
		last = s
	}
	u(uint64(len(p.Bases)))
	var base uint64
	for _, x := range p.Bases {
		b = binary.AppendVarint(b, int64(x.Old-base))
		b = binary.AppendVarint(b, int64(x.New-x.Old))
		base = x.Old
	}
	u(uint64(len(p.Regions)))
	var end uint64
	for _, r := range p.Regions {
		u(uint64(r.Kind))
		b = binary.AppendVarint(b, int64(r.Off-end))
		u(r.Size, uint64(len(r.Param)))
		u(r.Param...)
		end = r.Off + r.Size
	}
	u(uint64(len(p.Blanks)))
	for _, r := range p.Blanks {
		u(r.Off, r.Size)
	}
	u(uint64(len(p.Hashes)))
	for _, h := range p.Hashes {
		u(h.Off, h.Limit, uint64(h.PageBits))
	}
	u(uint64(len(p.FindTabs)))
	for _, f := range p.FindTabs {
		u(f.Off, f.Functab, f.Count)
	}
	return b
}

func appendPlace(b []byte, p, last Place) []byte {
	b = binary.AppendVarint(b, int64(p.Off-last.Off-last.Size))
	b = binary.AppendVarint(b, int64(p.Addr-last.Addr-last.MemSize))
	b = binary.AppendUvarint(b, p.Size)
	return binary.AppendVarint(b, int64(p.MemSize-p.Size))
}

func (s *stream) place(last Place) (p Place) {
	p.Off = last.Off + last.Size + s.int()
	p.Addr = last.Addr + last.MemSize + s.int()
	p.Size = s.uint()
	p.MemSize = p.Size + s.int()
	return p
}

func (s *stream) plan() (*Plan, error) {
	p := &Plan{OldSize: s.uint(), NewSize: s.uint(), OldCRC: uint32(s.uint()), Lo: s.uint()}
	p.Hi = p.Lo + s.uint()
	p.Segments = make([]Segment, s.count(maxSegments))
	var last Segment
	for i := range p.Segments {
		last = Segment{s.place(last.Old), s.place(last.New)}
		p.Segments[i] = last
	}
	p.Bases = make([]Base, s.count(maxBases))
	var base uint64
	for i := range p.Bases {
		base += s.int()
		p.Bases[i] = Base{base, base + s.int()}
	}
	p.Regions = make([]Region, s.count(maxRegions))
	var end uint64
	for i := range p.Regions {
		r := &p.Regions[i]
		r.Kind = Kind(s.count(255))
		r.Off = end + s.int()
		r.Size = s.uint()
		r.Param = make([]uint64, s.count(maxParams))
		for k := range r.Param {
			r.Param[k] = s.uint()
		}
		end = r.Off + r.Size
	}
	p.Blanks = make([]Range, s.count(maxRegions))
	for i := range p.Blanks {
		p.Blanks[i] = Range{s.uint(), s.uint()}
	}
	p.Hashes = make([]PageHashes, s.count(maxFilled))
	for i := range p.Hashes {
		p.Hashes[i] = PageHashes{s.uint(), s.uint(), uint8(s.count(30))}
	}
	p.FindTabs = make([]FindTab, s.count(maxFilled))
	for i := range p.FindTabs {
		p.FindTabs[i] = FindTab{s.uint(), s.uint(), s.uint()}
	}
	return p, s.end()
}
