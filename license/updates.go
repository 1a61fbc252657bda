package license

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"

	"github.com/fairlead-dev/fairlead/channel"
)

// A Decision says whether a licence includes a release, and if not, every reason why, for people and programs.
type Decision struct {
	Allowed bool
	Denials []channel.Denial // empty if and only if Allowed
}

// AllowUpdate decides whether this licence includes the release r of a channel, for an installation that runs the
// version running. No clock is involved: the dates it compares are both signed, the licence's and
// [channel.Release.Published].
//
//   - Valid, ExpiringSoon and Grace: the channel is granted, the version included, the release published no later
//     than UpdatesUntil, and every entitlement that it requires granted.
//   - Expired: as before, but published no later than UpdatesUntil, or where that is not set, LicenseExpires, or
//     where that is not set either, Expires. Those were paid for.
//   - Any other state: nothing, except with [Config.Open].
//
// A security release of the major version that runs is owed to everybody whose licence covers (or covered) a version
// of that major: neither its dates nor its version range withhold it, until SecurityUntil where the licence
// sets one. Channel and entitlements still count. If running is not a version, say "dev", this rule does not
// apply.
func (s Status) AllowUpdate(channelName, running string, r channel.Release) Decision {
	return s.decide(channelName, &r, s.owes(running, &r), s.License.end())
}

// CoversRunning decides whether the licence covers the release r of a channel that runs here already. Once covered,
// always covered: the end of a licence takes nothing away from what was published before, so an app that shows
// "expired" beside a version that the customer has paid for asks this first. Compared with AllowUpdate, what was published
// while the licence was in its grace counts, and a security release is judged by its own major version.
func (s Status) CoversRunning(channelName string, r channel.Release) Decision {
	end := s.License.end()
	if l := s.License; l != nil && l.UpdatesUntil.IsZero() && l.lastDay().After(end) {
		end = l.lastDay()
	}
	return s.decide(channelName, &r, s.owes(r.Version, &r), end)
}

// LastCovered returns the highest release in a channel's list that the licence includes for an installation that runs
// the version running: the one to name to a customer whose newest releases are withheld. It may be below running. Held,
// withdrawn and unusable releases do not count. The platform is not asked about.
func (s Status) LastCovered(channelName, running string, list []channel.Release) (last channel.Release, found bool) {
	for _, r := range list {
		v := r.Semver()
		if v == nil || r.Defect() != nil || r.State == channel.Held || r.State == channel.Withdrawn {
			continue
		}
		if (!found || v.GreaterThan(last.Semver())) && s.AllowUpdate(channelName, running, r).Allowed {
			last, found = r, true
		}
	}
	return last, found
}

// decide collects the denials. end is the publish time of the last releases that an expired licence includes.
func (s Status) decide(channelName string, r *channel.Release, owed bool, end time.Time) Decision {
	if s.open && len(r.Requires) == 0 {
		return Decision{Allowed: true}
	}
	var denials []channel.Denial
	add := func(d *channel.Denial) {
		if d != nil {
			denials = append(denials, *d)
		}
	}
	add(s.denyState())
	if l := s.License; l != nil {
		if s.State == Expired && !owed {
			add(denyAfterEnd(end, r.Published))
		}
		add(l.denyChannel(channelName))
		if !owed {
			add(l.denyVersion(r))
		}
		if s.State != Expired && !owed {
			add(l.denyPublished(r.Published))
		}
		add(l.denyEntitlements(r.Requires))
	}
	return Decision{Allowed: len(denials) == 0, Denials: denials}
}

// owes reports whether r is a security release that this licence, even an expired one, does not withhold.
func (s Status) owes(running string, r *channel.Release) bool {
	l := s.License
	if l == nil || !s.State.holds() && s.State != Expired || !r.IsSecurity() || r.Published.IsZero() {
		return false
	}
	have, err := channel.ParseVersion(running)
	target := r.Semver()
	if err != nil || target == nil || have.Major() != target.Major() || !l.includes(have) && !l.includesMajor(have.Major()) {
		return false
	}
	return l.SecurityUntil.IsZero() || !r.Published.After(l.SecurityUntil)
}

func (s Status) denyState() *channel.Denial {
	switch s.State {
	case Missing:
		return &channel.Denial{Code: channel.ReasonLicenseMissing, Detail: "no licence is installed"}
	case NotYetValid:
		detail := "the licence is not valid yet"
		if !s.Until.IsZero() {
			detail += fmt.Sprintf(": it starts on %s; if that has passed, this computer's clock is wrong", day(s.Until))
		}
		return &channel.Denial{Code: channel.ReasonLicenseNotYetValid, Detail: detail}
	case ClockSuspect:
		if s.Reason != "" {
			return &channel.Denial{Code: channel.ReasonLicenseNotYetValid, Detail: "the licence cannot be judged: " + s.Reason}
		}
	case Revoked:
		return &channel.Denial{Code: channel.ReasonLicenseRevoked, Detail: "the licence was revoked by its issuer: " + s.Reason}
	case WrongMachine:
		return &channel.Denial{Code: channel.ReasonLicenseWrongMachine,
			Detail: cmp.Or(s.Reason, "the licence is for other installations, not for this one")}
	case Valid, ExpiringSoon, Grace, Expired:
		if s.License != nil {
			return nil // the licence's own terms decide
		}
	}
	return &channel.Denial{Code: channel.ReasonLicenseInvalid, Detail: s.whyInvalid()}
}

func (s Status) whyInvalid() string {
	var token *TokenError
	switch {
	case errors.As(s.Err, &token):
		return token.Detail
	case s.Err != nil:
		return strings.TrimPrefix(s.Err.Error(), "license: ")
	}
	return "the licence cannot be used (state " + s.State.String() + ")"
}

// end is the publish time of the last releases that the licence includes once it has expired.
func (l *License) end() time.Time {
	switch {
	case l == nil:
		return time.Time{}
	case !l.UpdatesUntil.IsZero():
		return l.UpdatesUntil
	case !l.LicenseExpires.IsZero():
		return l.LicenseExpires
	}
	return l.Expires
}

func denyAfterEnd(end, published time.Time) *channel.Denial {
	if !published.IsZero() && !published.After(end) {
		return nil
	}
	return &channel.Denial{Code: channel.ReasonLicenseExpired,
		Detail: "the licence has expired; " + compare("it still includes releases published until", end, published)}
}

func (l *License) denyChannel(name string) *channel.Denial {
	granted := l.Channels
	if len(granted) == 0 {
		granted = []string{DefaultChannel}
	}
	if slices.Contains(granted, name) {
		return nil
	}
	return &channel.Denial{Code: channel.ReasonChannelNotGranted,
		Detail: fmt.Sprintf("the licence is for the channel %s, this release is in %q", strings.Join(granted, ", "), name)}
}

func (l *License) denyVersion(r *channel.Release) *channel.Denial {
	if l.Versions == "" || l.includes(r.Semver()) {
		return nil
	}
	return &channel.Denial{Code: channel.ReasonVersionOutOfRange,
		Detail: fmt.Sprintf("the licence is for versions %s, this release is %s", l.Versions, r.Version)}
}

// includes reports whether ver admits a version. A pre-release counts as what it leads to: by semver's order
// 4.0.0-rc.1 is <4.0.0, but who bought 3 did not buy 4, and who bought 2 may test 2.0.0-rc.1.
func (l *License) includes(v *semver.Version) bool {
	if l.Versions == "" {
		return true
	}
	constraint, err := channel.ParseConstraint(l.Versions)
	if err != nil || v == nil {
		return false
	}
	return constraint.Check(semver.New(v.Major(), v.Minor(), v.Patch(), "", ""))
}

// includesMajor reports whether ver admits any version of a major. A range ends at versions that ver names, so that
// if it has one of that major, it has the first, or one of those named, or one just beside those.
func (l *License) includesMajor(major uint64) bool {
	if l.includes(semver.New(major, 0, 0, "", "")) {
		return true
	}
	for _, text := range versionText.FindAllString(l.Versions, -1) {
		v, err := semver.NewVersion(text)
		if err != nil || v.Major() != major {
			continue
		}
		if beside := v.IncPatch(); l.includes(v) || l.includes(&beside) {
			return true
		}
	}
	return false
}

var versionText = regexp.MustCompile(`\d+(\.\d+){0,2}`)

func (l *License) denyPublished(published time.Time) *channel.Denial {
	if l.UpdatesUntil.IsZero() || !published.IsZero() && !published.After(l.UpdatesUntil) {
		return nil
	}
	return &channel.Denial{Code: channel.ReasonUpdatesExpired,
		Detail: compare("updates were included until", l.UpdatesUntil, published)}
}

func (l *License) denyEntitlements(required []string) *channel.Denial {
	var lacks []string
	for _, code := range required {
		if !l.Has(code) {
			lacks = append(lacks, code)
		}
	}
	if len(lacks) == 0 {
		return nil
	}
	return &channel.Denial{Code: channel.ReasonEntitlementMissing,
		Detail: "this release needs what the licence does not grant: " + strings.Join(lacks, ", ")}
}

// compare puts an end and a publish time into a sentence; with the time of day where the day does not tell.
func compare(sentence string, end, published time.Time) string {
	layout := time.DateOnly
	if day(end) == day(published) {
		layout = "2006-01-02 15:04:05 UTC"
	}
	when := "has no publish time"
	if !published.IsZero() {
		when = "was published on " + published.UTC().Format(layout)
	}
	return fmt.Sprintf("%s %s, this release %s", sentence, end.UTC().Format(layout), when)
}
