package tufrepo

import (
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// A RoleStatus is one role as it stands in the store.
type RoleStatus struct {
	Role        string
	Version     int64
	Signed      time.Time // when it was signed; estimated for roles signed by other tools
	Expires     time.Time
	NextSigning time.Time // when it is due to be signed anew
	KeyIDs      []string  // that may sign it
	Threshold   int
	Policy      Policy
}

// Status lists all roles in the order of signing: root, targets, channels, snapshot, timestamp.
func (r *Repo) Status() []RoleStatus {
	var list []RoleStatus
	for _, role := range r.roleOrder() {
		list = append(list, r.status(role))
	}
	return list
}

func (r *Repo) status(role string) RoleStatus {
	h, s := headOf(r.document(role)), r.stamp(role)
	st := RoleStatus{Role: role, Version: *h.version, Signed: s.signed, Expires: *h.expires, NextSigning: s.nextSigning(*h.expires), Policy: s.policy}
	if g, err := r.delegator(role); err == nil {
		st.KeyIDs, st.Threshold = slices.Clone(g.keyIDs), g.threshold
	}
	return st
}

// Refresh marks for signing what a scheduled job renews: the timestamp always, and every other role that is within its
// margin, as far as the signers given can sign it and its parent lasts until its next signing. What is due but cannot be
// signed is returned, so that somebody hears of it. Nothing is written before Commit with the same signers.
func (r *Repo) Refresh(signers ...*Signer) (due []RoleStatus) {
	now := r.clock()
	byID := map[string]*Signer{}
	for _, s := range signers {
		if s != nil {
			byID[s.ID()] = s
		}
	}
	for _, role := range r.roleOrder() {
		st := r.status(role)
		if r.changed[role] || (role != metadata.TIMESTAMP && now.Before(st.NextSigning)) {
			continue
		}
		if role != metadata.TIMESTAMP && !r.renewable(role, byID, now) {
			due = append(due, st)
			continue
		}
		r.changed[role] = true
		r.edited("renew %s", role)
	}
	return due
}

func (r *Repo) renewable(role string, byID map[string]*Signer, now time.Time) bool {
	if _, missing, err := r.assign(role, byID); err != nil || missing != nil {
		return false
	}
	if role == metadata.ROOT {
		return true
	}
	p := r.stamp(role).policy
	// Parents come first in the order of signing, so one that is renewed as well is marked by now.
	b := &batch{now: now}
	for _, parent := range []string{metadata.ROOT, metadata.TARGETS} {
		if r.changed[parent] {
			doc := copyDocument(r.document(parent))
			*headOf(doc).expires = now.Add(r.stamp(parent).policy.Period)
			b.docs = append(b.docs, &pendingDoc{role: parent, doc: doc})
		}
	}
	return r.checkParent(b, role, now.Add(p.Period-p.Margin)) == nil
}
