package tufrepo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/fairlead-dev/fairlead/channel"
)

// OpenConfig says how to open a repository. The zero value trusts the store's own first root.
type OpenConfig struct {
	// Root is the content of a root.json that is trusted, of any version. nil means the store's own 1.root.json:
	// trust on first use, which whoever can write to the store can abuse to have a foreign repository signed.
	Root []byte

	Now      func() time.Time                     // nil: time.Now
	Progress func(done, total int64, what string) // nil: none; done and total are bytes of what: a file, or several

	Patches PatchPolicy // of [Repo.Release] and [Repo.Promote]; the zero value makes some
}

// A Repo is an open repository with the edits made to it. It is not for use by several goroutines at once.
type Repo struct {
	store    Store
	now      func() time.Time
	progress func(done, total int64, what string)
	policy   PatchPolicy

	trusted   *metadata.Metadata[metadata.RootType] // as in the store; nil while creating
	root      *metadata.Metadata[metadata.RootType] // as it is to be
	timestamp *metadata.Metadata[metadata.TimestampType]
	snapshot  *metadata.Metadata[metadata.SnapshotType]
	roles     map[string]*metadata.Metadata[metadata.TargetsType] // targets and all that it delegates to
	revision  Revision                                            // of the timestamp

	changed map[string]bool // roles to sign
	edits   []string        // in words
	files   map[string]pendingFile
	blobs   map[string]pendingBlob // by sha256
	patched []PatchReport
	hinders []Hindrance
}

// A pendingFile is a target file to write: data, or the content of another file of the store.
type pendingFile struct {
	blob channel.Blob
	data []byte
	from string
}

type pendingBlob struct {
	path   string // on the publisher's machine; "": it is data
	data   []byte
	length int64

	damaged bool // what the store has under its name, if anything, is to be replaced
}

// Open loads a repository and checks every signature, threshold, version, length and hash, from the trusted root on.
// Expired metadata is tolerated, so that it can be renewed, and so is a change of keys that was interrupted, see the
// package comment: [Repo.Changes] says so, and the next commit completes it. What else does not verify is a [*TrustError]; a store without a
// repository is a [*NotFoundError].
func Open(ctx context.Context, store Store, cfg OpenConfig) (*Repo, error) {
	r := newRepo(store, cfg.Now, cfg.Progress)
	r.policy = cfg.Patches
	replaced, err := r.loadRoot(ctx, cfg.Root)
	if err != nil {
		return nil, err
	}
	err = r.load(ctx)
	var refused *TrustError
	if errors.As(err, &refused) && len(replaced) > 0 {
		if again := r.recover(ctx, replaced); again == nil {
			return r, nil
		} else if !errors.As(again, &refused) {
			return nil, again
		}
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// load loads what is below the root.
func (r *Repo) load(ctx context.Context) error {
	if err := r.loadTimestamp(ctx); err != nil {
		return err
	}
	if err := r.loadSnapshot(ctx); err != nil {
		return err
	}
	return r.loadTargets(ctx)
}

func newRepo(store Store, now func() time.Time, progress func(done, total int64, what string)) *Repo {
	if now == nil {
		now = time.Now
	}
	if progress == nil {
		progress = func(int64, int64, string) {}
	}
	r := &Repo{store: store, now: now, progress: progress, roles: map[string]*metadata.Metadata[metadata.TargetsType]{}}
	r.reset()
	return r
}

// reset forgets the edits.
func (r *Repo) reset() {
	r.changed, r.edits = map[string]bool{}, nil
	r.files, r.blobs = map[string]pendingFile{}, map[string]pendingBlob{}
	r.patched, r.hinders = nil, nil
}

// clock is the time of an operation, as it can stand in metadata.
func (r *Repo) clock() time.Time { return r.now().UTC().Truncate(time.Second) }

// read gets a whole file of at most limit bytes.
func read(ctx context.Context, store Store, name string, limit int64) ([]byte, Revision, error) {
	f, rev, err := store.Get(ctx, name)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		return nil, "", fmt.Errorf("tufrepo: read %s: %w", name, err)
	case int64(len(data)) > limit:
		return nil, "", &TrustError{name, fmt.Errorf("is longer than %d bytes", limit)}
	}
	return data, rev, nil
}

// loadRoot follows the chain of roots from the trusted one to its end, and returns those before the last.
func (r *Repo) loadRoot(ctx context.Context, trusted []byte) (replaced []*metadata.Metadata[metadata.RootType], err error) {
	if trusted == nil {
		if trusted, err = storedRoot(ctx, r.store); err != nil {
			return nil, err
		}
	}
	root, err := firstRoot(trusted)
	if err != nil {
		return nil, &TrustError{"the trusted root", err}
	}
	for {
		name := metadataName(metadata.ROOT, root.Signed.Version+1)
		data, _, err := read(ctx, r.store, name, maxRoot)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, err
		}
		replaced = append(replaced, root)
		if root, err = nextRoot(root, data); err != nil {
			return nil, &TrustError{name, err}
		}
	}
	r.trusted, r.root = root, root
	return replaced, nil
}

// storedRoot reads the root that a store begins with, for those who trust on first use.
func storedRoot(ctx context.Context, store Store) ([]byte, error) {
	data, _, err := read(ctx, store, metadataName(metadata.ROOT, 1), maxRoot)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NotFoundError{What: "repository in the store", Next: "create one"}
	}
	return data, err
}

// firstRoot reads a root that is trusted from elsewhere: it need only be signed by itself.
func firstRoot(data []byte) (*metadata.Metadata[metadata.RootType], error) {
	root, err := parse[metadata.RootType](data)
	if err != nil {
		return nil, err
	}
	return root, verifyRoot(root, root)
}

// nextRoot follows the chain one link: signed by the thresholds of both, and the version is the next.
func nextRoot(trusted *metadata.Metadata[metadata.RootType], data []byte) (*metadata.Metadata[metadata.RootType], error) {
	root, err := parse[metadata.RootType](data)
	if err != nil {
		return nil, err
	}
	if root.Signed.Version != trusted.Signed.Version+1 {
		return nil, fmt.Errorf("has version %d, not %d", root.Signed.Version, trusted.Signed.Version+1)
	}
	if err := verifyRoot(trusted, root); err != nil {
		return nil, err
	}
	return root, verifyRoot(root, root)
}

func verifyRoot(by, root *metadata.Metadata[metadata.RootType]) error {
	g, err := rootDelegates(by, metadata.ROOT)
	if err != nil {
		return err
	}
	return g.verify(metadata.ROOT, root)
}

func verifyTop(root *metadata.Metadata[metadata.RootType], role string, d document) error {
	g, err := rootDelegates(root, role)
	if err != nil {
		return err
	}
	return g.verify(role, d)
}

func (r *Repo) loadTimestamp(ctx context.Context) error {
	name := metadataName(metadata.TIMESTAMP, 0)
	data, rev, err := read(ctx, r.store, name, maxTimestamp)
	if errors.Is(err, fs.ErrNotExist) {
		return &NotFoundError{What: name + " in the store", Next: "its creation was interrupted: create it again with the same keys"}
	}
	if err != nil {
		return err
	}
	if r.timestamp, err = parse[metadata.TimestampType](data); err == nil {
		err = verifyTop(r.trusted, metadata.TIMESTAMP, r.timestamp)
	}
	if err != nil {
		return &TrustError{name, err}
	}
	r.revision = rev
	return nil
}

func (r *Repo) loadSnapshot(ctx context.Context) error {
	pin := r.timestamp.Signed.Meta["snapshot.json"]
	if pin == nil {
		return &TrustError{metadataName(metadata.TIMESTAMP, 0), errors.New("lists no snapshot")}
	}
	name := metadataName(metadata.SNAPSHOT, pin.Version)
	data, err := r.pinned(ctx, name, maxSnapshot)
	if err != nil {
		return err
	}
	if r.snapshot, err = parse[metadata.SnapshotType](data); err == nil {
		if err = matches(pin, r.snapshot.Signed.Version, data); err == nil {
			err = verifyTop(r.trusted, metadata.SNAPSHOT, r.snapshot)
		}
	}
	if err != nil {
		return &TrustError{name, err}
	}
	return nil
}

// pinned reads a file that a verified one lists, so that its absence is no ordinary one.
func (r *Repo) pinned(ctx context.Context, name string, limit int64) ([]byte, error) {
	data, _, err := read(ctx, r.store, name, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &TrustError{name, errors.New("is listed but not there")}
	}
	return data, err
}

func (r *Repo) loadTargets(ctx context.Context) error {
	g, err := rootDelegates(r.trusted, metadata.TARGETS)
	if err != nil {
		return &TrustError{metadataName(metadata.ROOT, r.trusted.Signed.Version), err}
	}
	if err := r.loadRole(ctx, metadata.TARGETS, g); err != nil {
		return err
	}
	targets := r.roles[metadata.TARGETS]
	for _, role := range delegatedRoles(targets) {
		g, err := targetsDelegates(targets, role)
		if err == nil && (!roleNameRE.MatchString(role) || isTopLevel(role)) {
			err = fmt.Errorf("delegates to %q, which is no role name", role)
		}
		if err != nil {
			return &TrustError{metadataName(metadata.TARGETS, targets.Signed.Version), err}
		}
		if err := r.loadRole(ctx, role, g); err != nil {
			return err
		}
	}
	return nil
}

func isTopLevel(role string) bool {
	return role == metadata.ROOT || role == metadata.TIMESTAMP || role == metadata.SNAPSHOT || role == metadata.TARGETS
}

func (r *Repo) loadRole(ctx context.Context, role string, g delegator) error {
	pin := r.snapshot.Signed.Meta[role+".json"]
	if pin == nil {
		return &TrustError{metadataName(metadata.SNAPSHOT, r.snapshot.Signed.Version), fmt.Errorf("does not list %s.json", role)}
	}
	name := metadataName(role, pin.Version)
	data, err := r.pinned(ctx, name, maxTargets)
	if err != nil {
		return err
	}
	m, err := parse[metadata.TargetsType](data)
	if err == nil {
		if err = matches(pin, m.Signed.Version, data); err == nil {
			err = g.verify(role, m)
		}
	}
	if err != nil {
		return &TrustError{name, err}
	}
	if m.Signed.Targets == nil {
		m.Signed.Targets = map[string]*metadata.TargetFiles{}
	}
	if d := m.Signed.Delegations; d != nil && d.Keys == nil {
		d.Keys = map[string]*metadata.Key{}
	}
	r.roles[role] = m
	return nil
}

// delegatedRoles names the roles that targets delegates to, in its order.
func delegatedRoles(targets *metadata.Metadata[metadata.TargetsType]) []string {
	if targets == nil || targets.Signed.Delegations == nil {
		return nil
	}
	var names []string
	for _, d := range targets.Signed.Delegations.Roles {
		names = append(names, d.Name)
	}
	return names
}
