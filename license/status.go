package license

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	leeway = 5 * time.Minute     // for clocks that are behind the issuer's
	soon   = 30 * 24 * time.Hour // before the end of a licence
)

// A State says what a licence is worth now. The zero value is Missing.
type State int

// The states. ClockSuspect comes from a [Store] only, which has a memory of time.
const (
	Missing      State = iota // there is none
	Invalid                   // what there is cannot be used: Status.Err says why
	NotYetValid               // it starts later
	Valid                     // it holds
	ExpiringSoon              // it holds, for less than 30 days more
	Grace                     // it has ended, and counts for a while yet
	Expired                   // it has ended
	Revoked                   // the issuer took it back
	WrongMachine              // it is for other installations
	ClockSuspect              // this machine's clock cannot be right
)

var stateNames = [...]string{"missing", "invalid", "not_yet_valid", "valid", "expiring_soon", "grace", "expired",
	"revoked", "wrong_machine", "clock_suspect"}

func (s State) String() string {
	if s < 0 || int(s) >= len(stateNames) {
		return fmt.Sprintf("state(%d)", int(s))
	}
	return stateNames[s]
}

// holds reports whether a licence in this state is good.
func (s State) holds() bool { return s == Valid || s == ExpiringSoon || s == Grace }

// A Status is the judgement on a licence at one time. It decides nothing: what an app does with an Expired one
// is the app's own decision. The zero value is that of a missing licence.
type Status struct {
	State   State
	License *License // nil unless authentic and for this product
	Err     error    // for Invalid, why; nil otherwise
	Reason  string   // for Revoked, WrongMachine and ClockSuspect, why, in words; empty otherwise
	Source  string   // where a Store found the licence, in words; empty without a Store

	// At is the time at which it was judged. A Store may have brought it up from that of a clock that is behind.
	At time.Time

	// Since and Until bound the state. Valid and ExpiringSoon count as one here: Since is the start and Until the
	// end of the licence, or of its token and grace if that comes first. Zero: unknown, or no bound.
	Since, Until time.Time

	// Warnings are sentences that somebody should see although the licence holds.
	Warnings []string

	open bool // Config.Open
}

// Status is Parse and Evaluate. An empty token, white space aside, is Missing; one that Parse refuses is Invalid.
func (v *Verifier) Status(token []byte, now time.Time) Status {
	if len(token) <= maxInput && len(trim(token)) == 0 {
		return v.Evaluate(nil, now)
	}
	l, err := v.Parse(token)
	if err != nil {
		return v.invalid(err, now)
	}
	return v.Evaluate(l, now)
}

func (v *Verifier) invalid(err error, now time.Time) Status {
	return Status{State: Invalid, Err: err, At: now, open: v != nil && v.config.Open}
}

// Evaluate judges a licence that Parse has returned at the time now. It is pure: same input, same answer. A nil licence is
// Missing, and one of another issuer or for another product is Invalid.
func (v *Verifier) Evaluate(l *License, now time.Time) Status {
	if v == nil || v.config.Keys == nil {
		return v.invalid(refuse(ErrUnknownKey, "no keys are known: make the verifier with NewVerifier"), now)
	}
	s := Status{License: l, At: now, open: v.config.Open}
	if l == nil {
		return s
	}
	if err := v.checkScope(l); err != nil {
		return v.invalid(err, now)
	}
	if reason, revoked := v.revocations.Revoked(l); revoked {
		s.State, s.Reason = Revoked, reason
		return s
	}
	if len(l.Nodes) > 0 && (v.config.Node == "" || !slices.Contains(l.Nodes, v.config.Node)) {
		s.State, s.Reason = WrongMachine, "the licence is for other installations, not for this one"
		if v.config.Node == "" {
			s.Reason = "the licence is for certain machines, and this one cannot be told from others: it has no id that the app knows"
		}
		return s
	}
	start := l.NotBefore
	if l.IssuedAt.After(start) {
		start = l.IssuedAt // nobody has a token from the future, except with a clock that is behind
	}
	if now.Before(start.Add(-leeway)) {
		s.State, s.Until = NotYetValid, start
		return s
	}
	s.judgeEnd(now, start)
	return s
}

// judgeEnd applies exp and lic_exp. Whatever way time passes, the state only gets worse: a licence that expired
// because nobody refreshed its token does not come back as Grace when lic_exp passes, too.
func (s *Status) judgeEnd(now, start time.Time) {
	l := s.License
	end, perpetual := l.lastDay(), l.LicenseExpires.IsZero()
	passed := func(t time.Time) bool { return !now.Before(t) } // RFC 7519 section 4.1.4: "on or after"
	switch {
	case passed(end):
		s.State, s.Since = Expired, end
		return
	case !perpetual && passed(l.LicenseExpires):
		s.State, s.Since, s.Until = Grace, l.LicenseExpires, end
		return
	}
	s.State, s.Since, s.Until = Valid, start, end
	if !perpetual {
		if l.LicenseExpires.Before(end) {
			s.Until = l.LicenseExpires
		}
		if l.LicenseExpires.Sub(now) < soon {
			s.State = ExpiringSoon
		}
	}
	if passed(l.Expires) {
		s.Warnings = append(s.Warnings, fmt.Sprintf("refresh overdue: the licence itself holds, but its token expired on %s "+
			"and is accepted until %s only: install a fresh one", day(l.Expires), day(end)))
	}
}

// lastDay is when the licence stops to hold: its end or that of its token, whichever comes first, and the grace.
func (l *License) lastDay() time.Time {
	end := l.Expires
	if !l.LicenseExpires.IsZero() && l.LicenseExpires.Before(end) {
		end = l.LicenseExpires
	}
	return end.Add(max(0, min(l.Grace, MaxGrace)))
}

// String says it in a line, for logs, terminals and support.
func (s Status) String() string {
	text := strings.ReplaceAll(s.State.String(), "_", " ")
	switch {
	case s.State == Invalid:
		text += ": " + s.whyInvalid()
	case s.Reason != "":
		text += ": " + s.Reason
	case s.State == NotYetValid && !s.Until.IsZero():
		text += " before " + day(s.Until)
	case s.State == Expired && !s.Since.IsZero():
		text += " since " + day(s.Since)
	case s.State.holds() && !s.Until.IsZero():
		text += " until " + day(s.Until)
	}
	if l := s.License; l != nil {
		text += fmt.Sprintf(" (licence %s, number %d", l.LicenseID, l.Seq)
		if s.Source != "" {
			text += ", from " + s.Source
		}
		text += ")"
	}
	return text
}

// Has reports whether the licence holds now and grants an entitlement, see [License.Has].
func (s Status) Has(code string) bool { return s.State.holds() && s.License.Has(code) }

// Limit returns the number of an entitlement of a licence that holds now.
func (s Status) Limit(code string) (int64, bool) {
	if !s.State.holds() {
		return 0, false
	}
	return s.License.Limit(code)
}

// Value returns the text of an entitlement of a licence that holds now.
func (s Status) Value(code string) (string, bool) {
	if !s.State.holds() {
		return "", false
	}
	return s.License.Value(code)
}
