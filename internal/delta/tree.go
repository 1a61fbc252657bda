package delta

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/fairlead-dev/fairlead/channel"
)

// A tree begins with TreeMagic, the length of its index, and that, compressed.
const (
	TreeMagic = "FLtree1\n"
	MaxPacked = 16 << 20 // bytes of an index, as it is in the patch
	MaxIndex  = 64 << 20 // and decompressed

	treeHead = len(TreeMagic) + 4
	maxBases = 256 // of one file
)

// A Tree is a patch of several files, in format channel.Tree: an index, and what it lists. The whole of the index has been
// checked, but for whether the bases exist.
type Tree struct {
	Files []TreeFile
	body  *io.SectionReader
}

// A TreeFile is a file that a tree makes.
type TreeFile struct {
	channel.Blob
	Format channel.PatchFormat
	Bases  []string // SHA-256s
	at     int64    // of its part
	size   int64
}

// Part is what makes a file of t.
func (t *Tree) Part(f TreeFile) *io.SectionReader { return io.NewSectionReader(t.body, f.at, f.size) }

// Indexed is a TreeFile as the index has it.
type Indexed struct {
	SHA256 string              `json:"sha256"`
	Length int64               `json:"length"`
	Format channel.PatchFormat `json:"format"`
	Base   []string            `json:"base,omitempty"`
	Size   int64               `json:"size"`
}

// OpenTree reads the index of a tree. What it allots is bounded by the limits above, and grows with what is there. The error is a [*FormatError] or that of the body.
func OpenTree(body *io.SectionReader) (*Tree, error) {
	a := &applying{ctx: context.Background()}
	t := &Tree{body: body}
	if err := t.read(a.watch(body)); err != nil {
		return nil, a.typed(channel.Tree, err)
	}
	return t, nil
}

func (t *Tree) read(body *io.SectionReader) error {
	head := make([]byte, treeHead)
	if _, err := io.ReadFull(body, head); err != nil || string(head[:len(TreeMagic)]) != TreeMagic {
		return errors.Join(errors.New("it does not begin as a tree does"), err)
	}
	size := int64(binary.LittleEndian.Uint32(head[len(TreeMagic):]))
	if size > MaxPacked || size > body.Size()-int64(treeHead) {
		return fmt.Errorf("its index is %d bytes", size)
	}
	index, err := readFrame(io.NewSectionReader(body, int64(treeHead), size), MaxIndex)
	if err != nil {
		return fmt.Errorf("its index: %w", err)
	}
	if err := t.list(index); err != nil {
		return fmt.Errorf("its index: %w", err)
	}
	return t.place(int64(treeHead)+size, body.Size())
}

// list reads the JSON of the index, one element after the other.
func (t *Tree) list(index io.Reader) error {
	d := json.NewDecoder(index)
	d.DisallowUnknownFields()
	if err := expect(d, json.Delim('{'), "files", json.Delim('[')); err != nil {
		return err
	}
	seen := map[string]bool{}
	for d.More() {
		var i Indexed
		if err := d.Decode(&i); err != nil {
			return err
		}
		if len(t.Files) == channel.MaxFiles {
			return fmt.Errorf("it has more than %d files", channel.MaxFiles)
		}
		if err := i.check(); err != nil {
			return fmt.Errorf("file %.70q: %w", i.SHA256, err)
		}
		if seen[i.SHA256] {
			return fmt.Errorf("file %s stands twice", i.SHA256)
		}
		seen[i.SHA256] = true
		t.Files = append(t.Files, TreeFile{Blob: channel.Blob{SHA256: i.SHA256, Length: i.Length}, Format: i.Format, Bases: i.Base, size: i.Size})
	}
	if err := expect(d, json.Delim(']'), json.Delim('}')); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows it")
	}
	return nil
}

func expect(d *json.Decoder, tokens ...json.Token) error {
	for _, want := range tokens {
		got, err := d.Token()
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("it has %v where %v should be", got, want)
		}
	}
	return nil
}

func (i Indexed) check() error {
	for _, s := range append([]string{i.SHA256}, i.Base...) {
		if !channel.IsSHA256(s) {
			return fmt.Errorf("%.70q is no SHA-256", s)
		}
	}
	n := len(i.Base)
	fits := map[channel.PatchFormat]bool{Whole: n == 0, channel.ZstdPrefix: n > 0 && n <= maxBases, channel.Reloc: n == 1}
	switch {
	case !fits[i.Format]:
		return fmt.Errorf("it has %d bases and format %.70q", n, i.Format)
	case i.Length < 0 || i.Length > channel.MaxUnpacked || i.Size < 0:
		return fmt.Errorf("it has %d bytes, made of %d", i.Length, i.Size)
	}
	return nil
}

// place finds the parts, which fill the rest exactly.
func (t *Tree) place(at, end int64) error {
	for i := range t.Files {
		f := &t.Files[i]
		if f.size > end-at {
			return fmt.Errorf("the part of file %s ends behind the patch", f.SHA256)
		}
		f.at = at
		at += f.size
	}
	if at != end {
		return fmt.Errorf("%d bytes follow its parts", end-at)
	}
	return nil
}
