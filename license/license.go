package license

import (
	"time"
)

// DefaultChannel is the channel that a licence grants if it names none.
const DefaultChannel = "stable"

// MaxGrace is the longest grace period that counts.
const MaxGrace = 180 * 24 * time.Hour

// A License is what one token says: read by [Verifier.Parse], or filled in for [Issuer.Issue].
//
// Treat one that was parsed as read-only: a Holder hands the same one to everybody. Renewing means to copy it,
// raise Seq, set the dates, clear ID and KeyID, and issue the copy.
type License struct {
	// Issuer (iss) says who issued it. Issue fills it in.
	Issuer string

	// Subject (sub) is the customer: an id of the vendor's own, no e-mail address. Required.
	Subject string

	// ID (jti) is this token's, of no other: what revocation names. Issue makes one up if it is empty.
	ID string

	// LicenseID (lid) stays the same over renewals; Seq (seq) starts at 1 and rises with each. Required.
	LicenseID string
	Seq       int64

	// KeyID (header kid) names the issuer's key. Issue fills it in.
	KeyID string

	// Audience (aud) names the products it is for. Required.
	Audience []string

	// IssuedAt (iat) is when the token was made. Required. NotBefore (nbf) is when it starts to count; zero: at
	// once. Times have whole seconds, from 2000 to 2199; Issue drops fractions.
	IssuedAt, NotBefore time.Time

	// Expires (exp) ends the token, not the licence: until then it should be replaced by a fresh one. Required.
	Expires time.Time

	// LicenseExpires (lic_exp) ends the licence; zero: it is perpetual.
	LicenseExpires time.Time

	// Grace (grace_s) is how long after either of these ends it still counts. Whole seconds, at most MaxGrace.
	Grace time.Duration

	// UpdatesUntil (upd_until) is the publish time of the last releases included; zero: no end.
	UpdatesUntil time.Time

	// SecurityUntil (sec_until) is the publish time of the last security releases that are owed for the covered
	// major version whatever the other dates say; zero: no end.
	SecurityUntil time.Time

	// Versions (ver) is a semver constraint on the versions included, as package channel reads it; "": all. A
	// pre-release counts as the version it leads to: a licence for <4.0.0 does not include 4.0.0-rc.1.
	Versions string

	// Channels (chan) are the channels granted; none: DefaultChannel.
	Channels []string

	// Entitlements (ent) maps codes to bool, int64 or string; Issue takes int, too. At most 256.
	Entitlements map[string]any

	// Plan (plan) and Env (env) say under which terms it was sold. Nothing here depends on them.
	Plan string
	Env  string

	// Trial (trial) says that it was not sold: of two licences that hold, the other one counts, see the package comment.
	Trial bool

	// Nodes (nodes) are the fingerprints of the installations it is for; none: any. MaxNodes (max_nodes) is how many
	// were sold; 0: no limit. A token that names more is refused, so that none can be added without buying them. There is
	// room for some 170 that MachineNode made.
	Nodes    []string
	MaxNodes int64

	// Request (req) is the id of the activation request that the token answers; "": none.
	Request string

	// Refresh (refresh) is where a fresh token may be had; nil: nowhere.
	Refresh *Refresh
}

// A Refresh is a hint. Fetching is the app's job, and so is to check that the URL is one it knows.
type Refresh struct {
	URL   string    // https
	After time.Time // not before; zero: any time
}

// Has reports whether the licence grants an entitlement: the code is there, and neither false, nor 0, nor "".
// It does not look at dates, see [Status.Has]. A nil licence grants nothing.
func (l *License) Has(code string) bool {
	if l == nil {
		return false
	}
	switch value := l.Entitlements[code].(type) {
	case bool:
		return value
	case int64:
		return value != 0
	case string:
		return value != ""
	}
	return false
}

// Limit returns the number of an entitlement, and whether it has one.
func (l *License) Limit(code string) (int64, bool) {
	if l == nil {
		return 0, false
	}
	n, ok := l.Entitlements[code].(int64)
	return n, ok
}

// Value returns the text of an entitlement, and whether it has one.
func (l *License) Value(code string) (string, bool) {
	if l == nil {
		return "", false
	}
	s, ok := l.Entitlements[code].(string)
	return s, ok
}
