package diff

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/archive"
)

// Content is what an artifact holds, in a folder of its own: each distinct file once, named by its SHA-256.
type Content struct {
	dir     string
	files   []channel.File // without links
	program string         // SHA-256
	sizes   map[string]int64
}

// Unpack reads the whole blob of an artifact into a folder that is new below temp ("" is the system's place for such),
// and compares it with the list of files. Close removes the folder.
func Unpack(ctx context.Context, a *channel.Artifact, blob io.ReaderAt, temp string) (*Content, error) {
	dir, err := os.MkdirTemp(temp, "fairlead-patch-")
	if err != nil {
		return nil, err
	}
	c := &Content{dir: dir, program: a.Program().SHA256, sizes: map[string]int64{}}
	for _, f := range a.Files {
		if f.Link == "" {
			c.files = append(c.files, f)
		}
	}
	if err := c.fill(ctx, a, blob); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Content) fill(ctx context.Context, a *channel.Artifact, blob io.ReaderAt) error {
	if a.Format == channel.Raw {
		if err := c.store(ctx, io.NewSectionReader(blob, 0, a.Length)); err != nil {
			return err
		}
	} else {
		err := archive.Read(ctx, blob, a.Length, a.Format, a.Platform.OS, archive.Limits{}, func(m archive.Member, content io.Reader) error {
			if m.Kind != archive.File {
				return nil
			}
			return c.store(ctx, content)
		})
		if err != nil {
			return err
		}
	}
	for _, f := range c.files {
		if size, ok := c.sizes[f.SHA256]; !ok || size != f.Length {
			return fmt.Errorf("does not hold the file %s that its manifest lists (sha256 %s)", f.Path, f.SHA256)
		}
	}
	return nil
}

func (c *Content) store(ctx context.Context, content io.Reader) error {
	f, err := os.CreateTemp(c.dir, "new-")
	if err != nil {
		return err
	}
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, hash), &contextReader{ctx, content})
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	sum := hex.EncodeToString(hash.Sum(nil))
	c.sizes[sum] = n
	return os.Rename(f.Name(), c.path(sum))
}

// Close removes the folder.
func (c *Content) Close() error { return os.RemoveAll(c.dir) }

func (c *Content) path(sum string) string { return filepath.Join(c.dir, sum) }

func (c *Content) size(sum string) int64 { return c.sizes[sum] }

func (c *Content) has(sum string) bool { _, ok := c.sizes[sum]; return ok }

func (c *Content) read(sum string) ([]byte, error) { return os.ReadFile(c.path(sum)) }

// only is the one content that all files have, or "".
func (c *Content) only() string {
	if len(c.sizes) != 1 || len(c.files) == 0 {
		return ""
	}
	return c.files[0].SHA256
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
