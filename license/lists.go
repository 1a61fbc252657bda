package license

import (
	"context"
	"crypto"
	"fmt"
	"slices"
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
// sentences say what of the lists could not be applied. A list that is nil changes nothing.
func (v *Verifier) With(lists *Lists) (*Verifier, []string) {
	if v == nil || lists == nil {
		return v, nil
	}
	with := *v
	if lists.Revocations != nil {
		with.revocations = lists.Revocations.indexed()
	}
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
	had, active := false, false
	for _, k := range r.keys {
		had = had || k.Retired.IsZero()
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
	if had && !active {
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

// lists are those of a source, as a store has taken them over: it never goes back.
type lists struct {
	source ListSource
	from   *Lists // the last that were looked at

	keys        *Keyring
	revocations *Revocations
	time        time.Time
	with        *Verifier
	warnings    []string
}

// verifier returns the one that knows the lists, and whether it is another than the last time.
func (a *lists) verifier(ctx context.Context, base *Verifier) (v *Verifier, fresh bool) {
	if a.source == nil && a.with == nil {
		return base, false
	}
	var published *Lists
	if a.source != nil {
		published = a.source.Lists(ctx)
	}
	if a.with != nil && published == a.from {
		return a.with, false
	}
	a.from = published
	none := published == nil
	if none {
		published = &Lists{}
	}
	a.take(published)
	if none && a.revocations == nil {
		a.warnings = append(a.warnings, "which licences the issuer took back is not known yet")
	}
	var warnings []string
	a.with, warnings = base.With(&Lists{Keys: a.keys, Revocations: a.revocations})
	a.warnings = append(a.warnings, warnings...)
	return a.with, true
}

// take takes over what is no older than what is here.
func (a *lists) take(published *Lists) {
	warn := func(format string, args ...any) { a.warnings = append(a.warnings, fmt.Sprintf(format, args...)) }
	a.warnings = slices.Clone(published.Warnings)
	if published.Time.IsZero() || !published.Time.Before(a.time) {
		if published.Time.After(a.time) {
			a.time = published.Time
		}
		if published.Keys != nil {
			a.keys = published.Keys
		} else if a.keys != nil {
			warn("the published key ring is not to be had any more: what was known of it counts")
		}
		a.takeRevocations(published.Revocations, warn)
	} else {
		warn("the lists of keys and revocations are of %s, older than those of %s that are known: they are not used",
			day(published.Time), day(a.time))
	}
}

func (a *lists) takeRevocations(published *Revocations, warn func(format string, args ...any)) {
	switch {
	case a.revocations == nil:
		a.revocations = published
	case published == nil:
		warn("the list of revocations is not to be had any more: number %d of it, which is known, counts", a.revocations.Number)
	case published.Number < a.revocations.Number:
		warn("the list of revocations went back from number %d to %d: the higher one counts", a.revocations.Number, published.Number)
	default:
		a.revocations = published
	}
}
