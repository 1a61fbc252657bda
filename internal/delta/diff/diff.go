// Package diff makes patches, for publishers: see docs/formats.md. What applies them is elsewhere, and apps link only
// that.
//
// [Unpack] puts the content of an artifact into a folder, file by file and checked, and [Create] makes the patch from one
// such folder to another. Whole files are held in memory, one pair at a time; what that may take is bounded by [Limits].
// Whoever calls says how long it may take, by the context.
package diff

import (
	"context"
	"fmt"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/delta"
)

// Limits bound what making a patch, and applying it, may take.
type Limits struct {
	Memory int64 // bytes to make it with; ways that would take more are not tried
	Apply  int64 // bytes to apply it with; such ways are not taken
}

// A Patch makes the content of one artifact from that of another.
type Patch struct {
	Format channel.PatchFormat
	Data   []byte
	Memory int64 // bytes that applying it takes at most
}

// A LimitError says that there is no way to make a patch within the limits.
type LimitError struct {
	What        string // such as "memory to make a patch of notes"
	Need, Limit int64  // bytes
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%s: %d bytes are needed, and %d allowed", e.What, e.Need, e.Limit)
}

// Create makes the smallest patch from old to next that it knows of, and applies it to see that next comes out.
// Where both are one file, that is a patch of a file; otherwise it is one of format [channel.Tree].
func Create(ctx context.Context, old, next *Content, limits Limits) (*Patch, error) {
	from, to := old.only(), next.only()
	if from != "" && to != "" {
		return createFile(ctx, old, next, from, to, limits)
	}
	return createTree(ctx, old, next, limits)
}

func createFile(ctx context.Context, old, next *Content, from, to string, limits Limits) (*Patch, error) {
	if need := wholeNeeds(next.size(to)); need > limits.Memory {
		return nil, &LimitError{"memory to compress a file", need, limits.Memory}
	}
	data, err := next.read(to)
	if err != nil {
		return nil, err
	}
	p, err := best(ctx, sources{old}, data, channel.Blob{SHA256: to, Length: int64(len(data))}, [][]string{{from}}, limits)
	if err != nil {
		return nil, err
	}
	if p.format == delta.Whole {
		p.format = channel.ZstdPrefix // which need not make use of its base
	}
	return &Patch{Format: p.format, Data: p.data, Memory: p.memory}, nil
}
