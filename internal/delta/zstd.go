package delta

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/klauspost/compress/zstd"
)

const (
	// commonWindow is what a frame may always ask for, as far as memory allows: what zstd -22 --ultra needs.
	commonWindow = 128 << 20
	// decoderMemory is what the decoder takes beside window and prefix: buffers of a few blocks, and tables.
	decoderMemory = 2 << 20
)

// wholeWindow is the largest window of a frame without prefix.
func wholeWindow(memory int64) int64 { return min(commonWindow, memory-decoderMemory) }

// zstdPrefix decodes a frame whose window may reach back into the bases, which are held in memory.
func (a *applying) zstdPrefix(body *io.SectionReader, bases []*io.SectionReader, p Patch) error {
	var size int64
	for _, b := range bases {
		if size += b.Size(); size < 0 || size > p.Memory-decoderMemory || size > math.MaxInt32 {
			return &MemoryError{Need: size, Limit: min(p.Memory-decoderMemory, math.MaxInt32)}
		}
	}
	prefix := make([]byte, 0, size)
	for _, b := range bases {
		part := prefix[len(prefix) : len(prefix)+int(b.Size())]
		if _, err := io.ReadFull(b, part); err != nil {
			return errors.Join(err, errors.New("a base is shorter than it was"))
		}
		prefix = prefix[:len(prefix)+len(part)]
	}
	// What encoders choose for files of such lengths: the next power of two, or the one after that.
	window := max(commonWindow, 4*max(size, min(p.Length, math.MaxInt32)))
	return a.zstd(body, prefix, min(window, p.Memory-decoderMemory-size))
}

// zstd decodes one frame. Its header is looked at first, since a decoder allots what it asks for.
func (a *applying) zstd(body *io.SectionReader, prefix []byte, window int64) error {
	var h zstd.Header
	head := make([]byte, zstd.HeaderMaxSize)
	n, err := io.ReadFull(io.NewSectionReader(body, 0, body.Size()), head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	if err := h.Decode(head[:n]); err != nil {
		return fmt.Errorf("its header: %w", err)
	}
	need := h.WindowSize
	if h.SingleSegment {
		need = h.FrameContentSize
	}
	switch {
	case h.Skippable || h.DictionaryID != 0:
		return errors.New("its first frame has no content, or names a dictionary")
	case h.HasFCS && h.FrameContentSize != uint64(a.left):
		return fmt.Errorf("its frame makes %d bytes, not %d", h.FrameContentSize, a.left)
	case window < zstd.MinWindowSize || need > uint64(window):
		return &MemoryError{Need: int64(min(need, math.MaxInt64)), Limit: window}
	}
	options := []zstd.DOption{
		zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(uint64(window)), zstd.WithDecoderMaxMemory(uint64(window)),
	}
	if len(prefix) > 0 {
		options = append(options, zstd.WithDecoderDictRaw(0, prefix))
	}
	d, err := zstd.NewReader(body, options...)
	if err != nil {
		return err
	}
	defer d.Close()
	_, err = io.CopyBuffer(struct{ io.Writer }{a}, struct{ io.Reader }{d}, make([]byte, 128<<10))
	return err
}

// readFrame decodes a small frame without prefix, and fails if that is more than limit bytes. What it allots grows with
// what is there.
func readFrame(body *io.SectionReader, limit int64) (*bytes.Buffer, error) {
	d, err := zstd.NewReader(body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(uint64(limit)))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(d, limit+1))
	if n > limit {
		err = fmt.Errorf("it is more than %d bytes", limit)
	}
	return &b, err
}
