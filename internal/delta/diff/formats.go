package diff

import (
	"bytes"
	"context"
	"io"
	"math"

	"github.com/klauspost/compress/zstd"

	"github.com/fairlead-dev/fairlead/internal/delta/diff/zprefix"
)

const (
	decoderSpare = 4 << 20  // what a Zstandard decoder takes besides base and window
	maxWhole     = 32 << 20 // a longer file is compressed in a window of this size, faster
)

func zstdFits(base, next int64) bool { return base+next < zprefix.MaxLength }

// zstdPrefix writes one frame with base as raw content prefix.
func zstdPrefix(ctx context.Context, base, next []byte) (patch []byte, memory int64, err error) {
	patch, err = zprefix.Encode(ctx, base, next)
	return patch, int64(len(base)+len(next)) + decoderSpare, err
}

// zstdHopeful spares the search where it is known to lose: in programs, whose references change with every address.
func zstdHopeful(next []byte, sofar *part) bool {
	return sofar == nil || !isProgram(next) || len(sofar.data) > len(next)/16
}

// zstdWhole writes one frame without a base.
func zstdWhole(ctx context.Context, next []byte) (patch []byte, memory int64, err error) {
	if len(next) <= maxWhole {
		patch, err = zprefix.Encode(ctx, nil, next)
		return patch, int64(len(next)) + decoderSpare, err
	}
	return zstdStream(ctx, bytes.NewReader(next), math.MaxInt64)
}

// zstdStream does so without holding the content. The error is a LimitError if that is more than most bytes, compressed.
func zstdStream(ctx context.Context, next io.Reader, most int64) (patch []byte, memory int64, err error) {
	out := cappedBuffer{most: most}
	enc, err := zstd.NewWriter(&out, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false), zstd.WithWindowSize(maxWhole))
	if err != nil {
		return nil, 0, err
	}
	_, err = io.Copy(enc, &contextReader{ctx, next})
	if closed := enc.Close(); err == nil {
		err = closed
	}
	return out.Bytes(), maxWhole + decoderSpare, err
}

// cappedBuffer takes so many bytes.
type cappedBuffer struct {
	bytes.Buffer
	most int64
}

func (b *cappedBuffer) Write(p []byte) (int, error) {
	if need := int64(b.Len() + len(p)); need > b.most {
		return 0, &LimitError{"memory for a compressed file", need, b.most}
	}
	return b.Buffer.Write(p)
}

// streamNeeds is what zstdStream takes, besides what comes out.
const streamNeeds = 8 * maxWhole

func wholeNeeds(next int64) int64 {
	if next <= maxWhole {
		return next + zprefix.Memory(0, next)
	}
	return 2*next + streamNeeds
}

// relocNeeds is what relocdiff takes.
func relocNeeds(base, next int64) int64 { return 20*max(base, next) + 64<<20 }

func relocFits(base, next int64) bool { return max(base, next) < math.MaxInt32 }

// isProgram reports whether data begins as an executable does.
func isProgram(data []byte) bool {
	for _, magic := range []string{"\x7fELF", "MZ", "\xcf\xfa\xed\xfe", "\xca\xfe\xba\xbe"} {
		if bytes.HasPrefix(data, []byte(magic)) {
			return true
		}
	}
	return false
}

func section(data []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data)))
}
