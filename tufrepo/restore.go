package tufrepo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
)

// restoreBlobs has those of a listed release's blobs written again that the store lost, or holds damaged. It takes no
// key: what is listed was signed.
func (r *Repo) restoreBlobs(ctx context.Context, what string, sources map[string]pendingBlob) error {
	restored := 0
	for _, sum := range slices.Sorted(maps.Keys(sources)) {
		b := sources[sum]
		whole, err := r.holds(ctx, sum, b.length)
		if err != nil {
			return fmt.Errorf("tufrepo: check %s: %w", blobName(sum), err)
		}
		if !whole {
			b.damaged = true
			r.blobs[sum] = b
			restored++
		}
	}
	if restored > 0 {
		r.edited("put back %d lost or damaged files of %s", restored, what)
	}
	return nil
}

// holds reads a blob of the store: its length alone would not tell that a disk turned a bit.
func (r *Repo) holds(ctx context.Context, sum string, length int64) (bool, error) {
	f, _, err := r.store.Get(ctx, blobName(sum))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	hash := sha256.New()
	if _, err := io.Copy(hash, io.LimitReader(&contextReader{ctx, f}, length+1)); err != nil {
		return false, err
	}
	return hex.EncodeToString(hash.Sum(nil)) == sum, nil
}
