package diff

import (
	"context"

	"github.com/fairlead-dev/fairlead/internal/delta/diff/zprefix"
)

const windowSpare = 4 << 20 // what a decoder takes besides base and output

func zstdFits(base, next int64) bool { return base+next < zprefix.MaxLength }

// zstdPrefix writes one frame with base as raw content prefix; without base, an ordinary one.
func zstdPrefix(ctx context.Context, base, next []byte) (patch []byte, memory int64, err error) {
	patch, err = zprefix.Encode(ctx, base, next)
	return patch, int64(len(base)+len(next)) + windowSpare, err
}
