package tufrepo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// maxVersion is what every TUF client can count up to: 2^53 - 1.
const maxVersion = 1<<53 - 1

// recover makes a repository usable whose newest root came without the timestamp that belongs to it: the publisher died
// in between, or another one, who had only the old keys, was just then ahead of it. Clients refuse such a state, and
// only a new timestamp helps.
//
// What the replaced keys signed is not believed, for they may have been replaced because they were stolen. The old
// timestamp gives its version, which the next one has to exceed. The lists are those of a snapshot that verifies from
// the newest root on: the one listed, if it does, which is the state before; else the newest in the store, which was
// written just before the root. Thus somebody who holds the store and a replaced key can choose among states that the
// present keys signed, which holding the store is enough for, see the package comment.
func (r *Repo) recover(ctx context.Context, roots []*metadata.Metadata[metadata.RootType]) error {
	name := metadataName(metadata.TIMESTAMP, 0)
	data, rev, err := read(ctx, r.store, name, maxTimestamp)
	if err != nil {
		return err
	}
	ts, err := parse[metadata.TimestampType](data)
	if err != nil {
		return &TrustError{name, err}
	}
	genuine := func(root *metadata.Metadata[metadata.RootType]) bool {
		return verifyTop(root, metadata.TIMESTAMP, ts) == nil
	}
	if !slices.ContainsFunc(roots, genuine) || ts.Signed.Version >= maxVersion {
		return &TrustError{name, errors.New("was signed by no key that any root named")}
	}
	r.timestamp, r.revision = ts, rev
	versions, err := r.snapshotVersions(ctx)
	if err != nil {
		return err
	}
	for _, v := range versions {
		var refused *TrustError
		switch err := r.restart(ctx, v); {
		case err == nil:
			r.changed[metadata.TIMESTAMP] = true
			r.edited("complete an interrupted change of keys")
			return nil
		case !errors.As(err, &refused):
			return err
		}
	}
	return &TrustError{name, errors.New("was signed by replaced keys, and no snapshot verifies by the present ones")}
}

// snapshotVersions lists the snapshots in the store: the listed one first, then the newest first.
func (r *Repo) snapshotVersions(ctx context.Context) ([]int64, error) {
	names, err := r.store.List(ctx, "metadata/")
	if err != nil {
		return nil, err
	}
	listed := int64(0)
	if pin := r.timestamp.Signed.Meta["snapshot.json"]; pin != nil {
		listed = pin.Version
	}
	var versions []int64
	for _, name := range names {
		number, ok := strings.CutSuffix(strings.TrimPrefix(name, "metadata/"), "."+metadata.SNAPSHOT+".json")
		if v, err := strconv.ParseInt(number, 10, 64); ok && err == nil && metadataName(metadata.SNAPSHOT, v) == name {
			versions = append(versions, v)
		}
	}
	slices.SortFunc(versions, func(a, b int64) int {
		switch listed {
		case a:
			return -1
		case b:
			return 1
		}
		return cmp.Compare(b, a)
	})
	return versions, nil
}

// restart takes a snapshot of the store as the current one, if it and all that it lists verify.
func (r *Repo) restart(ctx context.Context, version int64) error {
	name := metadataName(metadata.SNAPSHOT, version)
	data, err := r.pinned(ctx, name, maxSnapshot)
	if err != nil {
		return err
	}
	sn, err := parse[metadata.SnapshotType](data)
	if err == nil {
		err = verifyTop(r.root, metadata.SNAPSHOT, sn)
	}
	if err == nil && sn.Signed.Version != version {
		err = fmt.Errorf("has version %d", sn.Signed.Version)
	}
	if err != nil {
		return &TrustError{name, err}
	}
	r.snapshot, r.roles = sn, map[string]*metadata.Metadata[metadata.TargetsType]{}
	if err := r.loadTargets(ctx); err != nil {
		return err
	}
	r.timestamp.Signed.Meta = map[string]*metadata.MetaFiles{"snapshot.json": metaFile(version, data)}
	return nil
}
