package trust

import (
	"context"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Stored returns the newest metadata in the store by role, byte for byte as the repository signed it, for whoever
// wants to show it or to copy it elsewhere. A role that nobody has asked for is not there. Only the chain of roots is verified again
// here, so it is no way to a verified view: that is Load.
func (c *Client) Stored(ctx context.Context) (map[string][]byte, error) {
	release, err := c.store.lock(ctx, true)
	if err != nil {
		return nil, err
	}
	defer release()
	r := c.look()
	out := map[string][]byte{roleRoot: c.cfg.Root}
	if v := r.root.Signed.Version; v != c.root.Signed.Version {
		out[roleRoot] = c.store.read(rootFile(v), maxRoot)
	}
	// The pending timestamp is the newer one, but what belongs to it may be missing.
	for _, data := range [][]byte{r.stored.pending, r.stored.timestamp} {
		ts := metadata.Timestamp()
		if data == nil || guarded(timestampName, data, func() error { _, err := ts.FromBytes(data); return err }) != nil {
			continue
		}
		keepFirst(out, roleTimestamp, data)
		if meta := ts.Signed.Meta[snapshotFile]; meta != nil {
			c.storedSnapshot(out, meta.Version)
		}
	}
	return out, nil
}

func (c *Client) storedSnapshot(out map[string][]byte, version int64) {
	name := snapshotCache(version)
	data := c.store.read(name, maxSnapshot)
	sn := metadata.Snapshot()
	if data == nil || guarded(name, data, func() error { _, err := sn.FromBytes(data); return err }) != nil {
		return
	}
	keepFirst(out, roleSnapshot, data)
	for file, meta := range sn.Signed.Meta {
		if role, ok := roleOf(file); ok && meta != nil {
			keepFirst(out, role, c.store.read(roleCache(role, meta.Version), maxTargets))
		}
	}
}

func keepFirst(m map[string][]byte, key string, data []byte) {
	if _, ok := m[key]; !ok && data != nil {
		m[key] = data
	}
}
