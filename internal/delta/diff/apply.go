package diff

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/fairlead-dev/fairlead/channel"
)

// apply decodes one part.
func apply(ctx context.Context, from sources, p *part, w io.Writer) error {
	base, err := concatenate(from, p.bases)
	if err != nil {
		return err
	}
	switch p.format {
	case plain, channel.ZstdPrefix:
		options := []zstd.DOption{zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(1 << 31)}
		if len(base) > 0 {
			options = append(options, zstd.WithDecoderDictRaw(0, base))
		}
		dec, err := zstd.NewReader(bytes.NewReader(p.data), options...)
		if err != nil {
			return err
		}
		defer dec.Close()
		_, err = io.Copy(w, &contextReader{ctx, io.LimitReader(dec, p.length+1)})
		return err
	}
	return fmt.Errorf("format %q is not known", p.format)
}
