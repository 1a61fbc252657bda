package license

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// maxWarnings bounds Status.Warnings: a folder may be full of rubbish.
const maxWarnings = 16

// A view is what one look of a store has found. It is not changed afterwards, so that it can be judged at any time.
type view struct {
	verifier *Verifier
	held     []held    // authentic tokens, in the order of the sources
	refused  []refused // what is no token for this product
	faults   []error   // of sources that could not be read
	unread   bool      // one of them is the store's own folder
	warnings []string  // of the lists
	floor    floor
}

type held struct {
	license *License
	token   string // in compact form
	source  string
}

type refused struct {
	err    error
	source string
}

// judge picks the licence that counts at the time t, see the package comment, and says what it is worth. nil is returned
// when there is no licence to be judged.
func (v *view) judge(t time.Time) (Status, *held) {
	statuses := make([]Status, len(v.held))
	best := map[string]int{} // by LicenseID
	for i := range v.held {
		statuses[i] = v.verifier.Evaluate(v.held[i].license, t)
		if !statuses[i].State.counts() {
			continue
		}
		lid := v.held[i].license.LicenseID
		if j, ok := best[lid]; !ok || renews(v.held[i].license, v.held[j].license) {
			best[lid] = i
		}
	}
	chosen := -1
	for i := range v.held { // not over best, so that the order of the sources decides between equals
		l := v.held[i].license
		if statuses[i].State.counts() && best[l.LicenseID] != i {
			continue
		}
		if chosen < 0 || outranks(&statuses[i], &statuses[chosen]) {
			chosen = i
		}
	}
	if chosen >= 0 && statuses[chosen].State != Invalid {
		s := statuses[chosen]
		s.Source = v.held[chosen].source
		s.warn(v.complaints()...)
		return s, &v.held[chosen]
	}
	return v.withoutLicense(t), nil
}

// counts reports whether a licence in this state can be chosen over others: it is authentic, for this machine, not
// revoked, and has started.
func (s State) counts() bool { return s.holds() || s == Expired }

// renews reports whether a replaces b, a token of the same licence: whatever it says, the issuer said it later.
func renews(a, b *License) bool {
	return cmp.Or(cmp.Compare(a.Seq, b.Seq), a.IssuedAt.Compare(b.IssuedAt), strings.Compare(a.ID, b.ID)) > 0
}

// outranks reports whether the licence of a comes before that of b, another one.
func outranks(a, b *Status) bool {
	return cmp.Or(cmp.Compare(a.State.rank(), b.State.rank()), cmp.Compare(a.License.sold(), b.License.sold()),
		a.License.IssuedAt.Compare(b.License.IssuedAt), strings.Compare(a.License.ID, b.License.ID)) > 0
}

// sold is 0 for a trial, which takes nothing from who has bought a licence, however early.
func (l *License) sold() int {
	if l.Trial {
		return 0
	}
	return 1
}

// rank orders the states of different licences: one that holds, one that did, and then what tells most.
func (s State) rank() int {
	switch {
	case s.holds():
		return 5
	case s == Expired:
		return 4
	case s == Revoked:
		return 3
	case s == WrongMachine:
		return 2
	case s == NotYetValid:
		return 1
	}
	return 0 // Invalid
}

// withoutLicense is Invalid if there is something, and Missing only if nothing is there for certain.
func (v *view) withoutLicense(t time.Time) Status {
	s := v.verifier.Evaluate(nil, t)
	complaints := v.complaints()
	switch {
	case s.State == Invalid: // there is no verifier
	case len(v.refused) > 0:
		s = v.verifier.invalid(v.refused[0].err, t)
		s.Source, complaints = v.refused[0].source, complaints[1:]
	case len(v.faults) > 0:
		s, complaints = v.verifier.invalid(v.faults[0], t), complaints[1:]
	}
	s.warn(complaints...)
	return s
}

func (v *view) complaints() []string {
	var out []string
	for _, r := range v.refused {
		out = append(out, fmt.Sprintf("%s has no licence that could be used: %s", r.source, plain(r.err)))
	}
	for _, err := range v.faults {
		out = append(out, plain(err))
	}
	return append(out, v.warnings...)
}

func (s *Status) warn(warnings ...string) {
	for _, w := range warnings {
		if len(s.Warnings) == maxWarnings {
			s.Warnings[maxWarnings-1] = "there are more warnings than these"
			return
		}
		s.Warnings = append(s.Warnings, w)
	}
}

// plain is what an error says, joined ones in one line, for use within a sentence.
func plain(err error) string {
	return strings.ReplaceAll(strings.TrimPrefix(err.Error(), "license: "), "\nlicense: ", "; ")
}

// next is the first moment after t at which the judgement may change by time alone, zero if there is none.
func (v *view) next(t time.Time) (first time.Time) {
	for i := range v.held {
		for _, m := range v.held[i].license.moments() {
			if m.After(t) && (first.IsZero() || m.Before(first)) {
				first = m
			}
		}
	}
	return first
}

// moments are those at which a licence starts or ends. The steps before an end can wait for the next look.
func (l *License) moments() []time.Time {
	out := []time.Time{l.NotBefore.Add(-leeway), l.IssuedAt.Add(-leeway), l.Expires, l.lastDay()}
	if !l.LicenseExpires.IsZero() {
		out = append(out, l.LicenseExpires)
	}
	return out
}

// ladder has the days before an end at which people want to be told.
var ladder = [...]int{1, 7, 14, 30}

// EndsWithin returns the rung of the ladder of notices on which the licence stands: 1, 7, 14 or 30, the least of these
// numbers of days after At within which the state ends (Until); 0 if that is further away, or the licence does not hold.
func (s Status) EndsWithin() (days int) {
	if !s.State.holds() || s.Until.IsZero() {
		return 0
	}
	left := s.Until.Sub(s.At)
	for _, days := range ladder {
		if left < time.Duration(days)*24*time.Hour {
			return days
		}
	}
	return 0
}
