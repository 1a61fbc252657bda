package tufrepo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead-dev/fairlead/channel"
)

func blobName(sum string) string { return channel.BlobPath(sum) }

// blobsAtOnce is how many blobs are written at the same time: an object store takes a while to answer, however short
// the file.
const blobsAtOnce = 4

// writeBlobs writes the blobs, several at once. After an error no other is begun.
func (c *committer) writeBlobs(ctx context.Context) error {
	sums := slices.Sorted(maps.Keys(c.repo.blobs))
	t := &tally{progress: c.repo.progress}
	for i, sum := range sums {
		b := c.repo.blobs[sum]
		t.total += b.length
		if name := filepath.Base(b.path); i == 0 && b.path != "" {
			t.what = name
		}
	}
	if len(sums) != 1 || t.what == "" {
		t.what = fmt.Sprintf("%d files", len(sums))
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(blobsAtOnce)
	for _, sum := range sums {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return c.writeBlob(ctx, sum, c.repo.blobs[sum], t)
		})
	}
	return group.Wait()
}

func (c *committer) writeBlob(ctx context.Context, sum string, b pendingBlob, t *tally) error {
	name, cond := blobName(sum), IfAbsent()
	if b.damaged {
		cond = Always()
	} else if checker, ok := c.repo.store.(BlobChecker); ok {
		err := checker.CheckBlob(ctx, name, channel.Blob{SHA256: sum, Length: b.length}, b.open)
		switch {
		case err == nil:
			t.add(b.length)
			c.skipped()
			return nil
		case errors.Is(err, ErrDamaged):
			cond = Always()
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("tufrepo: publish: %w", err)
		}
	}
	f, err := b.open()
	if err != nil {
		return &ArtifactError{b.path, err}
	}
	defer func() { _ = f.Close() }()
	content := &blobReader{r: f, hash: sha256.New(), want: channel.Blob{SHA256: sum, Length: b.length}, path: b.path, tally: t}
	if content.path == "" {
		content.path = name
	}
	_, err = c.repo.store.Put(ctx, name, content, cond)
	switch {
	case errors.Is(err, ErrConflict):
		t.add(b.length - content.done)
		c.skipped()
	case err != nil:
		return fmt.Errorf("tufrepo: publish: %w", err)
	default:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.result.Files++
		c.result.Uploaded += b.length
	}
	return nil
}

func (c *committer) skipped() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.result.Skipped++
}

func (b pendingBlob) open() (io.ReadCloser, error) {
	if b.path == "" {
		return struct {
			io.ReadSeeker
			io.Closer
		}{bytes.NewReader(b.data), io.NopCloser(nil)}, nil
	}
	return os.Open(b.path)
}

// A tally is the progress of several files as one.
type tally struct {
	mu          sync.Mutex
	done, total int64
	what        string
	progress    func(done, total int64, what string)
}

func (t *tally) add(n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done += n
	t.progress(t.done, t.total, t.what)
}

// A blobReader fails at its end if the file is not any more what was hashed when it was released, so that nothing is
// stored under a name that it does not match. It can be read once more from its beginning.
type blobReader struct {
	r     io.Reader
	hash  hash.Hash
	want  channel.Blob
	path  string
	done  int64
	tally *tally
}

// Blob says what it is, to stores that can do with that.
func (b *blobReader) Blob() channel.Blob { return b.want }

func (b *blobReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	_, _ = b.hash.Write(p[:n])
	b.done += int64(n)
	b.tally.add(int64(n))
	if errors.Is(err, io.EOF) && hex.EncodeToString(b.hash.Sum(nil)) != b.want.SHA256 {
		return n, &ArtifactError{b.path, errors.New("was changed since it was released; release it again")}
	}
	return n, err
}

func (b *blobReader) Seek(offset int64, whence int) (int64, error) {
	s, ok := b.r.(io.Seeker)
	if !ok || offset != 0 || whence != io.SeekStart {
		return 0, errors.ErrUnsupported
	}
	if _, err := s.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	b.hash.Reset()
	b.tally.add(-b.done)
	b.done = 0
	return 0, nil
}
