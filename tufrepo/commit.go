package tufrepo

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/fairlead-dev/fairlead/channel"
)

// CommitResult says what a commit did. The zero value means that there was nothing to do.
type CommitResult struct {
	Roles    []PlannedRole // signed, in the order of signing
	Files    int           // written, blobs included
	Uploaded int64         // bytes of the blobs written
	Skipped  int           // blobs that were there already

	// Orphans are files that had the name of a role's next version, and were stepped over: an interrupted publication
	// leaves such. If there was none, the store may have been put back to an older state.
	Orphans []string
}

// maxOrphans is how many versions left by interrupted publishers a commit steps over before it gives up.
const maxOrphans = 100

// Commit signs what was edited, with those of the signers that the roles name, and publishes it in the order that the
// package comment gives. With fewer signers than a threshold asks for, the error is a [*MissingKeysError] (several are
// joined), and nothing is written; the same goes for a [*ParentExpiresError] and for a [*SigningError].
//
// With [ErrConflict] somebody else published since Open: nothing visible was changed (but see the package comment on a
// new root), and the edits are to be repeated on a freshly opened repository. After any other error the repository can be committed again. After
// success r stands for the repository as committed.
func (r *Repo) Commit(ctx context.Context, signers ...*Signer) (CommitResult, error) {
	if len(r.changed) == 0 && len(r.files) == 0 && len(r.blobs) == 0 {
		return CommitResult{}, nil
	}
	b, err := r.prepare(signers)
	if err != nil {
		return CommitResult{}, err
	}
	if len(b.missing) > 0 {
		return CommitResult{}, b.missingError()
	}
	if err := r.sign(b); err != nil {
		return CommitResult{}, err
	}
	c := &committer{repo: r, batch: b}
	if err := c.write(ctx); err != nil {
		if c.revision != "" { // only the root is not there yet
			edits := r.edits
			r.adoptBatch(b, c.revision)
			r.changed, r.edits = map[string]bool{metadata.ROOT: true}, edits
		}
		return c.result, err
	}
	c.result.Roles = b.planned()
	r.adoptBatch(b, c.revision)
	r.adoptRoot(b)
	return c.result, nil
}

// sign signs what is not signed yet. Snapshot and timestamp come last and pin what was signed before them.
func (r *Repo) sign(b *batch) error {
	for _, d := range b.docs {
		if d.data != nil {
			continue
		}
		switch m := d.doc.(type) {
		case *metadata.Metadata[metadata.SnapshotType]:
			for _, t := range b.docs {
				if _, ok := t.doc.(*metadata.Metadata[metadata.TargetsType]); ok {
					m.Signed.Meta[t.role+".json"] = metaFile(*headOf(t.doc).version, t.data)
				}
			}
		case *metadata.Metadata[metadata.TimestampType]:
			if s := b.find(metadata.SNAPSHOT); s != nil {
				m.Signed.Meta = map[string]*metadata.MetaFiles{"snapshot.json": metaFile(*headOf(s.doc).version, s.data)}
			}
		}
		sigs, err := signatures(d.doc, d.signers)
		if err != nil {
			return err
		}
		*headOf(d.doc).signatures = sigs
		if d.data, err = encode(d.role, d.doc); err != nil {
			return err
		}
	}
	return nil
}

// adoptBatch makes r the repository as committed, but for the root.
func (r *Repo) adoptBatch(b *batch, rev Revision) {
	for _, d := range b.docs {
		switch m := d.doc.(type) {
		case *metadata.Metadata[metadata.TimestampType]:
			r.timestamp, r.revision = m, rev
		case *metadata.Metadata[metadata.SnapshotType]:
			r.snapshot = m
		case *metadata.Metadata[metadata.TargetsType]:
			r.roles[d.role] = m
		}
	}
	r.reset()
}

func (r *Repo) adoptRoot(b *batch) {
	if d := b.find(metadata.ROOT); d != nil {
		r.root, _ = d.doc.(*metadata.Metadata[metadata.RootType])
	}
	r.trusted = r.root
}

// A committer writes one batch.
type committer struct {
	repo     *Repo
	batch    *batch
	mu       sync.Mutex // of result, while blobs are written
	result   CommitResult
	revision Revision // of the timestamp written
}

func (c *committer) write(ctx context.Context) error {
	if c.batch.creating {
		if err := c.writeDoc(ctx, c.batch.find(metadata.ROOT)); err != nil {
			return err
		}
	}
	if err := c.writeBlobs(ctx); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(c.repo.files)) {
		if err := c.writeFile(ctx, name, c.repo.files[name]); err != nil {
			return err
		}
	}
	order := c.batch.writeOrder()
	for i := 0; i < len(order); i++ {
		d := c.batch.docs[order[i]]
		if d.role == metadata.ROOT && c.batch.creating {
			continue
		}
		if d.role == metadata.ROOT {
			if err := c.checkUnchanged(ctx); err != nil {
				return err
			}
		}
		err := c.writeDoc(ctx, d)
		var taken *versionTaken
		if errors.As(err, &taken) {
			c.result.Orphans = append(c.result.Orphans, taken.name)
			// Signed anew under the next version, and so are snapshot and timestamp, which were not written yet.
			if err := c.renumber(d); err != nil {
				return err
			}
			i--
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkUnchanged finds, just before a root is written, that somebody else published meanwhile. A root cannot be taken
// back, and what the other one signed with the old keys may not go with it.
func (c *committer) checkUnchanged(ctx context.Context) error {
	want := cmp.Or(c.revision, c.repo.revision)
	f, have, err := c.repo.store.Get(ctx, metadataName(metadata.TIMESTAMP, 0))
	if err == nil {
		_ = f.Close()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("tufrepo: publish: %w", err)
	}
	if have != want {
		return conflict(fmt.Errorf("%s: %w", metadataName(metadata.TIMESTAMP, 0), ErrConflict))
	}
	return nil
}

func conflict(err error) error {
	return fmt.Errorf("tufrepo: somebody else published meanwhile; open the repository again and repeat the edits: %w", err)
}

// versionTaken says that another file has the name of a role's next version.
type versionTaken struct{ name string }

func (e *versionTaken) Error() string { return e.name + " was left by an interrupted publication" }

func (c *committer) renumber(d *pendingDoc) error {
	h := headOf(d.doc)
	if *h.version++; *h.version > *headOf(c.repo.document(d.role)).version+maxOrphans {
		return &StateError{"role " + d.role, fmt.Sprintf("has %d versions that no timestamp names; check that the store is not another repository's", maxOrphans)}
	}
	d.data = nil
	for _, role := range []string{metadata.SNAPSHOT, metadata.TIMESTAMP} {
		if later := c.batch.find(role); later != nil {
			later.data = nil
		}
	}
	return c.repo.sign(c.batch)
}

func (c *committer) writeDoc(ctx context.Context, d *pendingDoc) error {
	if d == nil {
		return nil
	}
	name := metadataName(d.role, *headOf(d.doc).version)
	cond := IfAbsent()
	if d.role == metadata.TIMESTAMP {
		cond = IfRevision(c.repo.revision)
	}
	rev, err := c.repo.store.Put(ctx, name, bytes.NewReader(d.data), cond)
	switch {
	case err == nil:
		c.result.Files++
		if d.role == metadata.TIMESTAMP {
			c.revision = rev
		}
		return nil
	case !errors.Is(err, ErrConflict):
		return fmt.Errorf("tufrepo: publish: %w", err)
	case d.role == metadata.ROOT && c.batch.creating:
		return ErrExists
	case d.role == metadata.TIMESTAMP || d.role == metadata.ROOT:
		// A root's version cannot be stepped over: its chain has no gaps.
		return conflict(err)
	}
	if there, _, err := read(ctx, c.repo.store, name, maxLength(d.role)); err == nil && bytes.Equal(there, d.data) {
		return nil
	}
	return &versionTaken{name}
}

// writeFile writes a target file, whose name carries its hash: what is there under that name is the same bytes, or
// damaged and replaced.
func (c *committer) writeFile(ctx context.Context, name string, f pendingFile) error {
	data := f.data
	if data == nil {
		var err error
		if data, _, err = read(ctx, c.repo.store, f.from, channel.MaxManifest); err != nil {
			return err
		}
		if blobOf(data) != f.blob {
			return &TrustError{f.from, errors.New("its length or sha256 is not the one listed")}
		}
	}
	_, err := c.repo.store.Put(ctx, name, bytes.NewReader(data), IfAbsent())
	if errors.Is(err, ErrConflict) {
		there, _, readErr := read(ctx, c.repo.store, name, channel.MaxManifest)
		if readErr == nil && bytes.Equal(there, data) {
			return nil
		}
		_, err = c.repo.store.Put(ctx, name, bytes.NewReader(data), Always())
	}
	if err != nil {
		return fmt.Errorf("tufrepo: publish: %w", err)
	}
	c.result.Files++
	return nil
}
