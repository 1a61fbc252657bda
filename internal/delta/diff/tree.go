package diff

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strings"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/delta"
)

const maxNeighbours = 64 << 20 // bytes of a prefix that is not the file's old self

// An index says how the files of a tree/1 patch are made.
type index struct {
	Files []delta.Indexed `json:"files"`
}

// createTree makes the files of next that old does not have.
func createTree(ctx context.Context, old, next *Content, limits Limits) (*Patch, error) {
	missing := changed(old, next)
	pairs := pair(old, next, missing)
	similar, err := sample(ctx, old, missing)
	if err != nil {
		return nil, err
	}
	var parts []*part
	var memory int64
	for _, f := range missing {
		if wholeNeeds(f.Length) > limits.Memory {
			p, err := streamed(ctx, next, f.Blob, limits)
			if err != nil {
				return nil, err
			}
			memory = max(memory, p.memory)
			parts = append(parts, p)
			continue
		}
		data, err := next.read(f.SHA256)
		if err != nil {
			return nil, err
		}
		bases := similar.basesOf(f, data, pairs[f.SHA256])
		if f.SHA256 == next.program && old.program != "" {
			bases = [][]string{{old.program}} // an installation of the program alone has no other
		}
		p, err := best(ctx, sources{old, next}, data, f.Blob, bases, limits)
		if err != nil {
			return nil, err
		}
		if f.Length <= sampleOld && f.SHA256 != next.program {
			similar.add(f.SHA256, data)
		}
		memory = max(memory, p.memory)
		parts = append(parts, p)
	}
	data, err := writeTree(parts)
	if err == nil {
		err = checkTree(data, parts)
	}
	if err != nil {
		return nil, err
	}
	return &Patch{Format: channel.Tree, Data: data, Memory: memory + int64(len(parts))*512 + decoderSpare}, nil
}

// changed lists the files of next whose content old does not have, each content once: the program first, since an
// installation that keeps nothing else needs only that.
func changed(old, next *Content) []channel.File {
	var list []channel.File
	seen := map[string]bool{}
	for _, f := range next.files {
		if !old.has(f.SHA256) && !seen[f.SHA256] {
			seen[f.SHA256] = true
			list = append(list, f)
		}
	}
	slices.SortStableFunc(list, func(a, b channel.File) int {
		if first := b.SHA256 == next.program; first != (a.SHA256 == next.program) {
			if first {
				return 1
			}
			return -1
		}
		return strings.Compare(a.Path, b.Path)
	})
	return list
}

func writeTree(parts []*part) ([]byte, error) {
	idx := index{[]delta.Indexed{}}
	for _, p := range parts {
		idx.Files = append(idx.Files, delta.Indexed{SHA256: p.sum, Length: p.length, Format: p.format, Base: p.bases, Size: int64(len(p.data))})
	}
	text, err := json.Marshal(idx)
	if err != nil {
		return nil, err
	}
	if len(text) > delta.MaxIndex {
		return nil, &LimitError{"size of the index of a patch", int64(len(text)), delta.MaxIndex}
	}
	packed, _, err := zstdWhole(context.Background(), text)
	if err != nil {
		return nil, err
	}
	if len(packed) > delta.MaxPacked {
		return nil, &LimitError{"size of the compressed index of a patch", int64(len(packed)), delta.MaxPacked}
	}
	var out bytes.Buffer
	out.WriteString(delta.TreeMagic)
	out.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(packed))))
	out.Write(packed)
	for _, p := range parts {
		out.Write(p.data)
	}
	return out.Bytes(), nil
}
