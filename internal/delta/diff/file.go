package diff

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/delta"
	"github.com/fairlead-dev/fairlead/internal/delta/diff/zprefix"
	"github.com/fairlead-dev/fairlead/internal/delta/reloc/relocdiff"
)

// A part makes one file.
type part struct {
	sum    string // of the file
	length int64
	format channel.PatchFormat
	bases  []string
	data   []byte
	memory int64 // to apply it
}

// cost is what a part adds to a patch: its bytes, and about what a base takes in the index.
func (p *part) cost() int { return len(p.data) + 40*len(p.bases) }

// A candidate is one way to make a file of a base.
type candidate struct {
	format  channel.PatchFormat
	single  bool                                // takes one base only
	needs   func(base, next int64) int64        // bytes of memory to make it
	fits    func(base, next int64) bool         // whether the format can hold it
	hopeful func(next []byte, sofar *part) bool // whether it may be smaller than what another one came to; nil is nothing
	make    func(ctx context.Context, base, next []byte) (data []byte, memory int64, err error)
}

func candidates() []candidate {
	return []candidate{
		{channel.Reloc, true, relocNeeds, relocFits, always, relocdiff.Create},
		{channel.ZstdPrefix, false, zprefix.Memory, zstdFits, zstdHopeful, zstdPrefix},
	}
}

func always([]byte, *part) bool { return true }

// worthless is how small a part is, in bytes, that no other way is tried for.
const worthless = 256

// best tries the ways to make a file that is data, from each of the lists of bases in turn, and returns the smallest
// part, which was applied. There must be memory for wholeNeeds. It does without a base where there is none, or where that may be smaller: no text shrinks to less
// than a tenth by itself.
func best(ctx context.Context, from sources, data []byte, file channel.Blob, bases [][]string, limits Limits) (*part, error) {
	size := file.Length
	var won *part
	for _, names := range append(slices.Clone(bases), nil) {
		if won != nil && (won.cost() <= worthless || names == nil && int64(won.cost()) < size/10) {
			continue
		}
		parts, err := ways(ctx, from, names, data, limits)
		if err != nil {
			return nil, err
		}
		for _, p := range parts {
			if p.memory <= limits.Apply && (won == nil || p.cost() < won.cost()) {
				p.sum, p.length = file.SHA256, size
				won = p
			}
		}
	}
	if won == nil {
		return nil, &LimitError{"memory to apply a patch", size, limits.Apply}
	}
	return won, check(ctx, from, won)
}

// streamed makes the part of a file that is too large to be held in memory: without a base.
func streamed(ctx context.Context, next *Content, file channel.Blob, limits Limits) (*part, error) {
	if streamNeeds > limits.Memory {
		return nil, &LimitError{"memory to compress a file", streamNeeds, limits.Memory}
	}
	f, err := os.Open(next.path(file.SHA256))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	packed, memory, err := zstdStream(ctx, f, limits.Memory-streamNeeds)
	if err != nil {
		return nil, err
	}
	if memory > limits.Apply {
		return nil, &LimitError{"memory to apply a patch", memory, limits.Apply}
	}
	p := &part{sum: file.SHA256, length: file.Length, format: delta.Whole, data: packed, memory: memory}
	return p, check(ctx, nil, p)
}

// ways makes data of the concatenation of the bases named in every format that can.
func ways(ctx context.Context, from sources, names []string, data []byte, limits Limits) ([]*part, error) {
	if len(names) == 0 {
		packed, memory, err := zstdWhole(ctx, data)
		return []*part{{format: delta.Whole, data: packed, memory: memory}}, err
	}
	var total int64
	for _, name := range names {
		total += from.size(name)
	}
	var usable []candidate
	for _, c := range candidates() {
		if (len(names) == 1 || !c.single) && c.fits(total, int64(len(data))) && c.needs(total, int64(len(data))) <= limits.Memory {
			usable = append(usable, c)
		}
	}
	if len(usable) == 0 {
		return nil, nil
	}
	base, err := concatenate(from, names)
	if err != nil {
		return nil, err
	}
	var parts []*part
	var smallest *part
	for _, c := range usable {
		if !c.hopeful(data, smallest) {
			continue
		}
		patch, memory, err := c.make(ctx, base, data)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.format, err)
		}
		p := &part{format: c.format, bases: names, data: patch, memory: memory}
		if smallest == nil || p.cost() < smallest.cost() {
			smallest = p
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// sources are where bases come from: the old content, and of the next one what was made before.
type sources []*Content

// find returns which of them has a file.
func (s sources) find(sum string) (*Content, error) {
	for _, c := range s {
		if c.has(sum) {
			return c, nil
		}
	}
	return nil, fs.ErrNotExist
}

func (s sources) size(sum string) int64 {
	c, err := s.find(sum)
	if err != nil {
		return 0
	}
	return c.size(sum)
}

func (s sources) read(sum string) ([]byte, error) {
	c, err := s.find(sum)
	if err != nil {
		return nil, err
	}
	return c.read(sum)
}

// open opens a base.
func (s sources) open(sum string) (*os.File, int64, error) {
	c, err := s.find(sum)
	if err != nil {
		return nil, 0, err
	}
	f, err := os.Open(c.path(sum))
	return f, c.size(sum), err
}

func concatenate(c sources, names []string) ([]byte, error) {
	if len(names) == 1 {
		return c.read(names[0])
	}
	var all bytes.Buffer
	for _, name := range names {
		data, err := c.read(name)
		if err != nil {
			return nil, err
		}
		all.Write(data)
	}
	return all.Bytes(), nil
}

// check applies a part, as a client does.
func check(ctx context.Context, from sources, p *part) error {
	hash := sha256.New()
	if err := apply(ctx, from, p, hash); err != nil {
		return fmt.Errorf("a patch of format %s that was just made cannot be applied: %w", p.format, err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != p.sum {
		return fmt.Errorf("a patch of format %s that was just made gives sha256 %s instead of %s", p.format, got, p.sum)
	}
	return nil
}
