package license

import (
	"context"
	"crypto"
	"fmt"
	"time"
)

// Lists is what the vendor's signed repository says about licences: its role license publishes a key ring and a list
// of revocations, so that keys rotate and licences are taken back without a new build of the app, and without a server.
type Lists struct {
	Keys        *Keyring     // keyring.json; nil: there is none
	Revocations *Revocations // revocations.json; nil: there is none

	// Time is the newest that the repository has proved: it is that late at least. Zero: not known.
	Time time.Time

	// Warnings say what somebody should see, such as that there is no list, or that it has not been renewed for long.
	Warnings []string
}

// A ListSource has the lists as they were last verified. Package update's Updater is one.
type ListSource interface {
	// Lists returns what is known now, nil if that is nothing. It is called at every judgement of a licence, so it neither
	// waits nor uses a network, and returns the same pointer as long as nothing has changed.
	Lists(ctx context.Context) *Lists
}

// A ListHolder is a Holder that wants the lists. Package update gives itself to the one in its Config.
type ListHolder interface {
	Holder
	UseLists(ListSource)
}

// With returns a verifier that knows the lists as well. Keys that were compiled in are the floor, see [Keyring.Merge]. The
// sentences say what of the lists could not be applied. A nil list changes nothing.
func (v *Verifier) With(lists *Lists) (*Verifier, []string) {
	if v == nil || lists == nil {
		return v, nil
	}
	with := *v
	with.revocations = lists.Revocations
	var warnings []string
	with.config.Keys, warnings = v.config.Keys.Merge(lists.Keys)
	return &with, warnings
}

// Merge returns this ring with what a signed one adds: new keys, and the retirement of known ones. It never takes a key
// away: one that signed does not name stays as it is, and a known id keeps its key, whatever signed says under that id. When
// every key would be retired, nothing is: a list that leaves nobody to issue licences is a mistake. The sentences say
// what was not followed.
func (r *Keyring) Merge(signed *Keyring) (*Keyring, []string) {
	if r == nil || signed == nil {
		return r, nil
	}
	var warnings []string
	warn := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	merged := &Keyring{byID: map[string]Key{}}
	active := false
	for _, k := range r.keys {
		if s, ok := signed.byID[k.ID]; ok {
			if !samePublic(s.Public, k.Public) {
				warn("the published key ring has another key under the id %q of one that is compiled in: it is not used", k.ID)
			} else if !s.Retired.IsZero() && (k.Retired.IsZero() || s.Retired.Before(k.Retired)) {
				k.Retired = s.Retired
			}
		}
		active = active || k.Retired.IsZero()
		merged.keys = append(merged.keys, k)
	}
	for _, s := range signed.keys {
		if _, known := r.byID[s.ID]; !known {
			active = active || s.Retired.IsZero()
			merged.keys = append(merged.keys, s)
		}
	}
	if !active {
		warn("the published key ring retires every key and has no new one: the keys that are compiled in stay")
		copy(merged.keys, r.keys)
	}
	for _, k := range merged.keys {
		merged.byID[k.ID] = k
	}
	return merged, warnings
}

func samePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}
