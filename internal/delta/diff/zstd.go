package diff

import (
	"context"
	"math/bits"

	"github.com/klauspost/compress/zstd"
)

const (
	maxWindow   = 512 << 20 // of the encoder
	windowSpare = 4 << 20   // what a decoder takes besides base and output
)

// zstdNeeds is what the encoder takes: its tables, and a history for the base and the content, twice.
func zstdNeeds(base, next int64) int64 { return 160<<20 + 3*base + 4*next }

func zstdFits(base, next int64) bool { return base+next < maxWindow }

// zstdPrefix writes one frame with base as raw content prefix; without base, an ordinary one.
func zstdPrefix(ctx context.Context, base, next []byte) (patch []byte, memory int64, err error) {
	if ctx.Err() != nil {
		return nil, 0, context.Cause(ctx)
	}
	window := 1 << max(bits.Len(uint(len(base)+len(next))), 10)
	options := []zstd.EOption{zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false),
		zstd.WithSingleSegment(true), zstd.WithWindowSize(min(window, maxWindow)), zstd.WithZeroFrames(true)}
	if len(base) > 0 {
		options = append(options, zstd.WithEncoderDictRaw(0, base))
	}
	enc, err := zstd.NewWriter(nil, options...)
	if err != nil {
		return nil, 0, err
	}
	patch = enc.EncodeAll(next, nil)
	return patch, int64(len(base)+len(next)) + windowSpare, enc.Close()
}
