package tufrepo

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// A Plan is what [Repo.Commit] would do.
type Plan struct {
	Edits   []string            // what was edited, in words
	Roles   []PlannedRole       // to sign, in the order of signing
	Files   []string            // to write, in the order of writing; those that are there already are skipped
	Upload  int64               // bytes of the blobs among them
	Missing []*MissingKeysError // roles for which keys are missing
}

// A PlannedRole is a role as it is to be signed, or was. The version is the next free one at the time of planning; an
// interrupted publication can have taken it.
type PlannedRole struct {
	Role    string
	Version int64
	Expires time.Time
	KeyIDs  []string // that sign it
}

// Plan says what Commit with the same signers would do, without signing or writing anything. The error is a
// [*ParentExpiresError]; missing keys are part of the plan.
func (r *Repo) Plan(signers ...*Signer) (Plan, error) {
	b, err := r.prepare(signers)
	if err != nil {
		return Plan{}, err
	}
	p := Plan{Edits: r.Changes(), Roles: b.planned(), Missing: b.missing}
	for _, sum := range slices.Sorted(maps.Keys(r.blobs)) {
		p.Files = append(p.Files, blobName(sum))
		p.Upload += r.blobs[sum].length
	}
	p.Files = append(p.Files, slices.Sorted(maps.Keys(r.files))...)
	for _, i := range b.writeOrder() {
		p.Files = append(p.Files, metadataName(b.docs[i].role, *headOf(b.docs[i].doc).version))
	}
	return p, nil
}

// Changes says in words what was edited since the repository was opened or last committed.
func (r *Repo) Changes() []string { return slices.Clone(r.edits) }

// A batch is what one commit signs, in the order of signing: root, targets, channels, snapshot, timestamp.
type batch struct {
	now      time.Time
	creating bool
	rootLast bool
	docs     []*pendingDoc
	missing  []*MissingKeysError
}

type pendingDoc struct {
	role    string
	doc     document
	signers []*Signer
	data    []byte // once signed
}

func (b *batch) find(role string) *pendingDoc {
	for _, d := range b.docs {
		if d.role == role {
			return d
		}
	}
	return nil
}

func (b *batch) planned() []PlannedRole {
	var list []PlannedRole
	for _, d := range b.docs {
		h := headOf(d.doc)
		p := PlannedRole{Role: d.role, Version: *h.version, Expires: *h.expires}
		for _, s := range d.signers {
			p.KeyIDs = append(p.KeyIDs, s.ID())
		}
		list = append(list, p)
	}
	return list
}

// writeOrder lists the indices of docs as they are written; see the package comment.
func (b *batch) writeOrder() []int {
	place := func(role string) int {
		switch {
		case role == metadata.ROOT && b.creating:
			return 0
		case role == metadata.SNAPSHOT:
			return 2
		case role == metadata.ROOT && !b.rootLast:
			return 3
		case role == metadata.TIMESTAMP:
			return 4
		case role == metadata.ROOT:
			return 5
		}
		return 1
	}
	order := make([]int, len(b.docs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(place(b.docs[i].role), place(b.docs[j].role)) })
	return order
}

// prepare decides what is to be signed, and with which of the signers. Nothing of r is changed.
func (r *Repo) prepare(signers []*Signer) (*batch, error) {
	b := &batch{now: r.clock(), creating: r.timestamp.Signed.Version == 0}
	byID := map[string]*Signer{}
	for _, s := range signers {
		if s != nil {
			byID[s.ID()] = s
		}
	}
	changed, err := r.toSign()
	if err != nil {
		return nil, err
	}
	for _, role := range r.roleOrder() {
		if !changed[role] {
			continue
		}
		d, missing, err := r.assign(role, byID)
		if err != nil {
			return nil, err
		}
		if missing != nil {
			b.missing = append(b.missing, missing)
		}
		d.doc = copyDocument(r.document(role))
		h := headOf(d.doc)
		s := r.stamp(role)
		s.signed = b.now
		*h.version++
		*h.expires = b.now.Add(s.policy.Period)
		*h.fields = s.write(*h.fields)
		b.docs = append(b.docs, d)
	}
	b.rootLast = !b.creating && r.oldRootAccepts(b)
	return b, r.checkParents(b)
}

// roleOrder lists all roles in the order of signing.
func (r *Repo) roleOrder() []string {
	order := []string{metadata.ROOT, metadata.TARGETS}
	order = append(order, slices.Sorted(slices.Values(delegatedRoles(r.roles[metadata.TARGETS])))...)
	return append(order, metadata.SNAPSHOT, metadata.TIMESTAMP)
}

// toSign is what was edited, and what that entails.
func (r *Repo) toSign() (map[string]bool, error) {
	changed := maps.Clone(r.changed)
	for _, role := range r.roleOrder()[1:] {
		// New keys or a higher threshold: the signatures that are there may not do any more.
		if g, err := r.delegator(role); err != nil {
			return nil, err
		} else if (changed[metadata.ROOT] || changed[metadata.TARGETS]) && g.verify(role, r.document(role)) != nil {
			changed[role] = true
		}
		if changed[role] && role != metadata.TIMESTAMP {
			changed[metadata.SNAPSHOT] = true
		}
	}
	if changed[metadata.SNAPSHOT] {
		changed[metadata.TIMESTAMP] = true
	}
	return changed, nil
}

// delegator returns who says which keys sign a role, as edited.
func (r *Repo) delegator(role string) (delegator, error) {
	if isTopLevel(role) {
		return rootDelegates(r.root, role)
	}
	return targetsDelegates(r.roles[metadata.TARGETS], role)
}

// assign finds the signers of a role. A root is signed by the thresholds of the last root and its own; and where the
// last root named other keys for a top-level role, those that are at hand sign as well, for readers of that root.
func (r *Repo) assign(role string, byID map[string]*Signer) (*pendingDoc, *MissingKeysError, error) {
	g, err := r.delegator(role)
	if err != nil {
		return nil, nil, err
	}
	d := &pendingDoc{role: role}
	ids := g.countSigners(byID)
	var missing *MissingKeysError
	if len(ids) < g.threshold {
		missing = &MissingKeysError{role, len(ids), g.threshold, slices.Clone(g.keyIDs)}
	}
	if isTopLevel(role) && r.trusted != nil && r.trusted != r.root {
		old, err := rootDelegates(r.trusted, role)
		if err != nil {
			return nil, nil, err
		}
		before := old.countSigners(byID)
		if role == metadata.ROOT && missing == nil && len(before) < old.threshold {
			missing = &MissingKeysError{role, len(before), old.threshold, slices.Clone(old.keyIDs)}
		}
		for _, id := range before {
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	for _, id := range ids {
		d.signers = append(d.signers, byID[id])
	}
	return d, missing, nil
}

// oldRootAccepts reports whether readers that still have the last root can use everything that is signed now. Then
// the new root is written last, and no reader ever sees one without the other.
func (r *Repo) oldRootAccepts(b *batch) bool {
	for _, d := range b.docs {
		if d.role == metadata.ROOT || !isTopLevel(d.role) {
			continue
		}
		old, err := rootDelegates(r.trusted, d.role)
		if err != nil {
			return false
		}
		byID := map[string]*Signer{}
		for _, s := range d.signers {
			byID[s.ID()] = s
		}
		if len(old.countSigners(byID)) < old.threshold {
			return false
		}
	}
	return true
}

// checkParents refuses to sign a role whose parent would expire before the role's next signing.
func (r *Repo) checkParents(b *batch) error {
	for _, d := range b.docs {
		if d.role == metadata.ROOT {
			continue
		}
		h := headOf(d.doc)
		next := readStamp(d.role, *h.fields, *h.expires).nextSigning(*h.expires)
		if err := r.checkParent(b, d.role, next); err != nil {
			return err
		}
	}
	return nil
}

func (r *Repo) checkParent(b *batch, role string, next time.Time) error {
	parent := metadata.ROOT
	if !isTopLevel(role) {
		parent = metadata.TARGETS
	}
	expires := *headOf(r.document(parent)).expires
	if d := b.find(parent); d != nil {
		expires = *headOf(d.doc).expires
	}
	if next.After(expires) {
		return &ParentExpiresError{Parent: parent, Child: role, ParentExpires: expires, NextSigning: next}
	}
	return nil
}

// missingError joins what is missing.
func (b *batch) missingError() error {
	var errs []error
	for _, m := range b.missing {
		errs = append(errs, m)
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}
