package tufrepo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// RoleKeys says which keys sign a role, and how many of them it takes.
type RoleKeys struct {
	Keys      []PublicKey
	Threshold int // 0 means 1
}

func (k RoleKeys) check(role string) (RoleKeys, error) {
	if k.Threshold == 0 {
		k.Threshold = 1
	}
	seen := map[string]bool{}
	for _, key := range k.Keys {
		if key.id == "" || seen[key.id] {
			return k, fmt.Errorf("tufrepo: keys of %s: key %q is empty or named twice", role, key.id)
		}
		seen[key.id] = true
	}
	if k.Threshold < 1 || k.Threshold > len(k.Keys) {
		return k, fmt.Errorf("tufrepo: keys of %s: a threshold of %d cannot be met with %d keys", role, k.Threshold, len(k.Keys))
	}
	return k, nil
}

func (k RoleKeys) ids() []string {
	var ids []string
	for _, key := range k.Keys {
		ids = append(ids, key.id)
	}
	return ids
}

// CreateConfig says what a new repository is like. The keys of the four top-level roles are required; one key may
// serve timestamp and snapshot.
type CreateConfig struct {
	Root, Targets, Snapshot, Timestamp RoleKeys

	License  RoleKeys          // no keys: no role for licence keys
	Policies map[string]Policy // by role; those missing get DefaultPolicy

	Now      func() time.Time                     // nil: time.Now
	Progress func(done, total int64, what string) // nil: none
}

// Create makes a repository without channels and commits it. It needs the thresholds of all roles. A store that
// already has a repository is refused with [ErrExists]; one whose creation with the same keys was interrupted is
// completed.
func Create(ctx context.Context, store Store, cfg CreateConfig, signers ...*Signer) (*Repo, error) {
	r := newRepo(store, cfg.Now, cfg.Progress)
	for role, p := range cfg.Policies {
		if !isTopLevel(role) && role != licenseRole {
			return nil, &NotFoundError{What: "role " + role, Next: "a new repository has root, targets, snapshot, timestamp and license"}
		}
		if err := p.check(role); err != nil {
			return nil, err
		}
	}
	r.root = metadata.Root(time.Time{})
	r.root.Signed.Version = 0 // signing makes it 1
	for role, keys := range map[string]RoleKeys{metadata.ROOT: cfg.Root, metadata.TARGETS: cfg.Targets,
		metadata.SNAPSHOT: cfg.Snapshot, metadata.TIMESTAMP: cfg.Timestamp} {
		if err := r.setTopKeys(role, keys); err != nil {
			return nil, err
		}
	}
	r.timestamp, r.snapshot = metadata.Timestamp(time.Time{}), metadata.Snapshot(time.Time{})
	r.timestamp.Signed.Version, r.snapshot.Signed.Version = 0, 0
	r.snapshot.Signed.Meta = map[string]*metadata.MetaFiles{}
	r.roles[metadata.TARGETS] = newTargets()
	for _, role := range []string{metadata.ROOT, metadata.TARGETS, metadata.SNAPSHOT, metadata.TIMESTAMP} {
		r.setPolicy(role, policyOf(cfg.Policies, role))
	}
	r.edits = []string{"create the repository"}
	if len(cfg.License.Keys) > 0 {
		if err := r.delegate(licenseRole, []string{"license/*"}, cfg.License, policyOf(cfg.Policies, licenseRole)); err != nil {
			return nil, err
		}
	}
	if err := r.adopt(ctx); err != nil {
		return nil, err
	}
	if _, err := r.Commit(ctx, signers...); err != nil {
		return nil, err
	}
	return r, nil
}

func policyOf(policies map[string]Policy, role string) Policy {
	if p, ok := policies[role]; ok {
		return p
	}
	return DefaultPolicy(role)
}

func newTargets() *metadata.Metadata[metadata.TargetsType] {
	t := metadata.Targets(time.Time{})
	t.Signed.Version = 0
	return t
}

// adopt looks at what is in the store. The first root is written before all else, so that of two creators one wins; if
// there is one and no timestamp, then its creation was interrupted, and it goes on with that root if it names the same
// keys.
func (r *Repo) adopt(ctx context.Context) error {
	data, _, err := read(ctx, r.store, metadataName(metadata.ROOT, 1), maxRoot)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	f, _, err := r.store.Get(ctx, metadataName(metadata.TIMESTAMP, 0))
	if err == nil {
		_ = f.Close()
		return ErrExists
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	found, err := firstRoot(data)
	if err != nil {
		return &TrustError{metadataName(metadata.ROOT, 1), err}
	}
	if !sameKeys(found, r.root) {
		return fmt.Errorf("%w (its creation was interrupted; it can be completed only with the keys that its 1.root.json names)", ErrExists)
	}
	r.trusted, r.root = found, found
	delete(r.changed, metadata.ROOT)
	return nil
}

func sameKeys(a, b *metadata.Metadata[metadata.RootType]) bool {
	return maps.EqualFunc(a.Signed.Roles, b.Signed.Roles, func(x, y *metadata.Role) bool {
		return x.Threshold == y.Threshold && slices.Equal(slices.Sorted(slices.Values(x.KeyIDs)), slices.Sorted(slices.Values(y.KeyIDs)))
	})
}

// setTopKeys replaces the keys of a top-level role in the root that is to be.
func (r *Repo) setTopKeys(role string, keys RoleKeys) error {
	keys, err := keys.check(role)
	if err != nil {
		return err
	}
	next := *r.root
	next.Signed.Keys, next.Signed.Roles = maps.Clone(r.root.Signed.Keys), maps.Clone(r.root.Signed.Roles)
	next.Signed.Roles[role] = &metadata.Role{KeyIDs: keys.ids(), Threshold: keys.Threshold}
	for _, k := range keys.Keys {
		next.Signed.Keys[k.id] = k.key
	}
	maps.DeleteFunc(next.Signed.Keys, func(id string, _ *metadata.Key) bool { // those that no role names any more
		for _, other := range next.Signed.Roles {
			if slices.Contains(other.KeyIDs, id) {
				return false
			}
		}
		return true
	})
	r.root = &next
	r.changed[metadata.ROOT] = true
	return nil
}

// delegate adds a role below targets, with an empty list.
func (r *Repo) delegate(role string, paths []string, keys RoleKeys, p Policy) error {
	keys, err := keys.check(role)
	if err != nil {
		return err
	}
	if err := p.check(role); err != nil {
		return err
	}
	targets := r.roles[metadata.TARGETS]
	if targets.Signed.Delegations == nil {
		targets.Signed.Delegations = &metadata.Delegations{Keys: map[string]*metadata.Key{}}
	}
	d := targets.Signed.Delegations
	for _, k := range keys.Keys {
		d.Keys[k.id] = k.key
	}
	d.Roles = append(d.Roles, metadata.DelegatedRole{Name: role, KeyIDs: keys.ids(), Threshold: keys.Threshold, Terminating: true, Paths: paths})
	r.roles[role] = newTargets()
	r.setPolicy(role, p)
	r.changed[metadata.TARGETS] = true
	return nil
}

// document returns the role's document as edited, or nil.
func (r *Repo) document(role string) document {
	switch role {
	case metadata.ROOT:
		return r.root
	case metadata.TIMESTAMP:
		return r.timestamp
	case metadata.SNAPSHOT:
		return r.snapshot
	}
	if m := r.roles[role]; m != nil {
		return m
	}
	return nil
}

func (r *Repo) stamp(role string) stamp {
	h := headOf(r.document(role))
	return readStamp(role, *h.fields, *h.expires)
}

func (r *Repo) setPolicy(role string, p Policy) {
	if role == metadata.ROOT {
		next := *r.root // r.trusted may be the same
		r.root = &next
	}
	s := r.stamp(role)
	s.policy = p
	h := headOf(r.document(role))
	*h.fields = s.write(*h.fields)
	r.changed[role] = true
}
