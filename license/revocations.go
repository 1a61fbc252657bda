package license

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// MaxRevocations is the most bytes that a list of revocations may have: some thirty thousand tokens.
const MaxRevocations = 1 << 20

// EveryNumber is the number in Revocations.Licenses below which all of a licence is revoked: the highest that a Seq can have.
const EveryNumber = maxInt

// Revocations is what an issuer took back. Apps get it signed, as license/revocations.json of the repository; nothing in
// it is a customer's name.
type Revocations struct {
	// Number (num) rises with every change of the list.
	Number int64

	// Tokens (jti) are single tokens, by License.ID.
	Tokens []string

	// Licenses (lid) maps a licence to the least Seq of it that still counts: what renewals have replaced, or, with
	// EveryNumber, all of it.
	Licenses map[string]int64

	// Keys (kid) maps an issuer's key to its cut-off: what it signed with an iat at or after that is void. The zero time
	// (0): all of it, as for a key that was stolen, whose thief writes the iat he likes.
	Keys map[string]time.Time

	index map[string]struct{} // of Tokens, where a verifier has a list of its own
}

// indexed returns a copy that answers in the same time however long it is, and that nobody can change.
func (r *Revocations) indexed() *Revocations {
	if r == nil {
		return nil
	}
	own := &Revocations{Number: r.Number, Tokens: slices.Clone(r.Tokens), Licenses: maps.Clone(r.Licenses), Keys: maps.Clone(r.Keys),
		index: make(map[string]struct{}, len(r.Tokens))}
	for _, id := range own.Tokens {
		own.index[id] = struct{}{}
	}
	return own
}

// ParseRevocations reads a list: a JSON object with v (1), num, and optionally jti (list of strings), lid (object of
// integers) and kid (object of times in seconds since 1970, or 0). Members it does not know are ignored; a higher v is
// [ErrUnsupportedVersion].
func ParseRevocations(data []byte) (*Revocations, error) {
	if len(data) > MaxRevocations {
		return nil, fmt.Errorf("license: a list of revocations of %d bytes; at most %d are read", len(data), MaxRevocations)
	}
	members, err := readObject(data)
	if err != nil {
		return nil, fmt.Errorf("license: the list of revocations %w", err)
	}
	r := reader{members: members}
	r.require("v", "num")
	if v := r.integer("v"); r.err == nil && v > FormatVersion {
		return nil, refuse(ErrUnsupportedVersion,
			"the list of revocations has format version %d, this app reads up to %d: update the app first", v, FormatVersion)
	}
	r.check("v", r.integer("v") >= 1, "is below 1")
	list := &Revocations{Number: r.integer("num"), Tokens: r.texts("jti", MaxRevocations),
		Licenses: map[string]int64{}, Keys: map[string]time.Time{}}
	r.check("num", list.Number >= 1, "is below 1")
	for id, value := range r.object("lid") {
		r.check("lid", id != "", "has an empty id")
		list.Licenses[r.asText("lid", id, maxText)] = r.asInteger("lid", value)
	}
	cutoffs := r.object("kid")
	inner := reader{members: cutoffs}
	for id := range cutoffs {
		r.check("kid", checkKeyID(id) == nil, "names %.64q, which is no key id", id)
		list.Keys[id] = inner.date(id)
	}
	if err := errors.Join(r.err, inner.err); err != nil {
		return nil, fmt.Errorf("license: the list of revocations cannot be used: %w", err)
	}
	slices.Sort(list.Tokens)
	return list, nil
}

// MarshalJSON writes the list as ParseRevocations reads it, the same bytes for the same list. What that would refuse is an
// error: an app that cannot read a list goes on without it.
func (r *Revocations) MarshalJSON() ([]byte, error) {
	cutoffs := make(map[string]int64, len(r.Keys))
	for id, t := range r.Keys {
		cutoffs[id] = unix(t)
	}
	data, err := json.Marshal(struct {
		Keys     map[string]int64 `json:"kid,omitempty"`
		Licenses map[string]int64 `json:"lid,omitempty"`
		Number   int64            `json:"num"`
		Tokens   []string         `json:"jti,omitempty"`
		Version  int              `json:"v"`
	}{cutoffs, r.Licenses, r.Number, slices.Compact(slices.Sorted(slices.Values(r.Tokens))), FormatVersion})
	if err != nil {
		return nil, err
	}
	if _, err := ParseRevocations(data); err != nil {
		return nil, err
	}
	return data, nil
}

// Revoked reports whether the list takes back a licence, and by what, in words. A nil list takes back nothing.
func (r *Revocations) Revoked(l *License) (reason string, revoked bool) {
	if r == nil || l == nil {
		return "", false
	}
	if r.names(l.ID) {
		return fmt.Sprintf("token %s was revoked", l.ID), true
	}
	if least, ok := r.Licenses[l.LicenseID]; ok && l.Seq < least {
		if least == EveryNumber {
			return fmt.Sprintf("licence %s was revoked", l.LicenseID), true
		}
		return fmt.Sprintf("licence %s was replaced or revoked: number %d of it does not count, the next is %d", l.LicenseID, l.Seq, least), true
	}
	if cutoff, ok := r.Keys[l.KeyID]; ok && !l.IssuedAt.Before(cutoff) {
		return fmt.Sprintf("the key %q that issued it was revoked", l.KeyID), true
	}
	return "", false
}

func (r *Revocations) names(id string) bool {
	if r.index != nil {
		_, ok := r.index[id]
		return ok
	}
	return slices.Contains(r.Tokens, id)
}
