package channel

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
)

// FormatVersion is the major version of the release entry and of the manifest that this package reads and
// writes (field "v"). A higher number in signed metadata means that the app must be updated first.
const FormatVersion = 1

// CustomKey is the key of the entry within a TUF target's custom metadata.
const CustomKey = "fairlead"

// State says whether a release is on offer. The zero value means Offered.
type State string

// The states of a release in a channel.
const (
	Offered   State = "offered"   // anybody it suits may install it
	Held      State = "held"      // nobody new gets it; who runs it may stay
	Withdrawn State = "withdrawn" // nobody gets it, and whoever runs it should leave it
)

// Kind says what a release is for. The zero value means Feature.
type Kind string

// The kinds of releases.
const (
	Feature  Kind = "feature"
	Security Kind = "security" // never withheld inside the covered major version, see package license
)

// A Blob names bytes by what they are. SHA256 is 64 lower-case hex digits, Length counts bytes.
type Blob struct {
	SHA256 string `json:"sha256"`
	Length int64  `json:"length"`
}

// A Release is one line of a channel's signed list: everything needed to choose.
//
// Read one with [ParseRelease]; check one that is to be signed with [Release.Validate]. Fields that this
// version of the package does not know are kept and written back, so that an older tool does not lose what a
// newer one wrote.
type Release struct {
	V          int         `json:"v"`                    // format, see FormatVersion
	Version    string      `json:"version"`              // semver 2.0.0, no leading v, no build metadata
	Seq        int64       `json:"seq"`                  // number within the channel; only rises, never reused
	Published  time.Time   `json:"published"`            // first publication anywhere, UTC, whole seconds; promotion keeps it
	State      State       `json:"state,omitempty"`      // "" means Offered
	Reason     string      `json:"reason,omitempty"`     // why it is held or withdrawn, for people
	Kind       Kind        `json:"kind,omitempty"`       // "" means Feature
	Critical   bool        `json:"critical,omitempty"`   // reaches everybody at once: passes any rollout
	Advisories []string    `json:"advisories,omitempty"` // ids such as CVE-2026-1234 that it fixes
	Rollout    *Rollout    `json:"rollout,omitempty"`    // nil: everybody
	From       string      `json:"from,omitempty"`       // semver constraint on versions that may jump here directly; "": any
	RevertTo   string      `json:"revert_to,omitempty"`  // of a withdrawn release: the version to go back to, even if lower
	Platforms  []Platform  `json:"platforms"`            // what it was built for
	Requires   []string    `json:"requires,omitempty"`   // entitlement codes, all of them needed
	Components []Component `json:"components,omitempty"` // reserved: releases that name any are passed over with ReasonComponents
	Patches    *Blob       `json:"patches,omitempty"`    // a blob, see type Patches; nil: there are none

	// Manifest is the TUF target behind the entry. It comes from the target's own length and hash, so it is not
	// part of the entry's JSON.
	Manifest Blob `json:"-"`

	extra   map[string]json.RawMessage
	version *semver.Version // nil when Version is not valid
	from    *semver.Constraints
	defect  error
}

// A Component is a constraint on another product's version that must hold together with a release. Reserved.
type Component struct {
	Product    string `json:"product"`
	Constraint string `json:"constraint"`
}

// ParseRelease reads the custom metadata of a target whose path names version, and whose file is manifest.
//
// It is total: one bad line must not stop a whole channel. A line that cannot be used carries the cause, see
// [Release.Defect]; [Resolve] passes over it with ReasonMalformed, or with ReasonFormat when it was written in a
// newer format.
func ParseRelease(version string, custom []byte, manifest Blob) Release {
	r, err := parseRelease(version, custom)
	r.Manifest = manifest
	if err != nil {
		r.Version, r.defect = version, err
		r.version, _ = semver.StrictNewVersion(version)
	}
	return r
}

func parseRelease(version string, custom []byte) (r Release, err error) {
	var outer map[string]json.RawMessage
	if err := json.Unmarshal(custom, &outer); err != nil || outer[CustomKey] == nil {
		return Release{}, &InvalidError{"entry", "the target has no custom metadata under the key " + CustomKey}
	}
	if err := json.Unmarshal(outer[CustomKey], &r); err != nil {
		var newer *NewerFormatError
		if errors.As(err, &newer) {
			return r, newer
		}
		return Release{}, &InvalidError{"entry", err.Error()}
	}
	if r.Version != version {
		return r, &InvalidError{"version", fmt.Sprintf("the entry says %q but the target's path says %q", r.Version, version)}
	}
	return r, r.Validate()
}

// UnmarshalJSON reads an entry and keeps the fields that it does not know.
func (r *Release) UnmarshalJSON(data []byte) error {
	type plain Release
	var head struct {
		V int `json:"v"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return err
	}
	if head.V > FormatVersion {
		r.V = head.V
		return &NewerFormatError{What: "release entry", Version: head.V}
	}
	var p plain
	if err := json.Unmarshal(data, &p); err != nil {
		return err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		return err
	}
	for _, known := range releaseFields {
		delete(all, known)
	}
	if len(all) > 0 {
		p.extra = all
	}
	*r = Release(p)
	return nil
}

// MarshalJSON writes an entry, unknown fields included.
func (r Release) MarshalJSON() ([]byte, error) {
	type plain Release
	known, err := json.Marshal(plain(r))
	if err != nil || len(r.extra) == 0 {
		return known, err
	}
	rest, err := json.Marshal(r.extra)
	if err != nil {
		return nil, err
	}
	return append(append(bytes.TrimSuffix(known, []byte("}")), ','), bytes.TrimPrefix(rest, []byte("{"))...), nil
}

var releaseFields = []string{"v", "version", "seq", "published", "state", "reason", "kind", "critical", "advisories",
	"rollout", "from", "revert_to", "platforms", "requires", "components", "patches"}

// Custom returns the custom metadata that stands for r in its TUF target.
func (r Release) Custom() ([]byte, error) {
	return json.Marshal(map[string]Release{CustomKey: r})
}

// Defect says why a parsed release cannot be used, or nil: an [*InvalidError] or a [*NewerFormatError].
func (r Release) Defect() error { return r.defect }

// IsSecurity reports whether r is of kind security.
func (r Release) IsSecurity() bool { return r.Kind == Security }

// Semver returns the parsed version, or nil if there is none.
func (r Release) Semver() *semver.Version {
	if r.version != nil {
		return r.version
	}
	v, _ := semver.StrictNewVersion(r.Version)
	return v
}

// Validate checks every field by itself and prepares r for [Resolve]. The error is an [*InvalidError].
func (r *Release) Validate() error {
	v, err := ParseVersion(r.Version)
	if err != nil {
		return err
	}
	r.version = v
	if r.V != FormatVersion {
		return &InvalidError{"v", fmt.Sprintf("%d is no format version; this is version %d", r.V, FormatVersion)}
	}
	if r.Seq < 1 {
		return &InvalidError{"seq", fmt.Sprintf("%d is not a positive number", r.Seq)}
	}
	if err := checkTime("published", r.Published); err != nil {
		return err
	}
	if err := r.validateState(); err != nil {
		return err
	}
	if err := r.Rollout.Validate(); err != nil {
		return err
	}
	r.from = nil
	if r.From != "" {
		if r.from, err = ParseConstraint(r.From); err != nil {
			return &InvalidError{"from", err.Error()}
		}
	}
	return r.validateLists()
}

func (r *Release) validateState() error {
	switch r.State {
	case "", Offered, Held, Withdrawn:
	default:
		return &InvalidError{"state", fmt.Sprintf("%q is none of offered, held, withdrawn", r.State)}
	}
	switch r.Kind {
	case "", Feature, Security:
	default:
		return &InvalidError{"kind", fmt.Sprintf("%q is none of feature, security", r.Kind)}
	}
	if len(r.Reason) > maxText {
		return &InvalidError{"reason", fmt.Sprintf("is longer than %d bytes", maxText)}
	}
	if r.RevertTo == "" {
		return nil
	}
	if r.State != Withdrawn {
		return &InvalidError{"revert_to", "only a withdrawn release has a version to go back to"}
	}
	if _, err := ParseVersion(r.RevertTo); err != nil {
		return &InvalidError{"revert_to", err.Error()}
	}
	if r.RevertTo == r.Version {
		return &InvalidError{"revert_to", "names the withdrawn release itself"}
	}
	return nil
}

func (r *Release) validateLists() error {
	if r.Patches != nil {
		if err := r.Patches.validate("patches"); err != nil {
			return err
		}
	}
	if len(r.Platforms) == 0 {
		return &InvalidError{"platforms", "is empty: name at least one, such as linux/amd64"}
	}
	if len(r.Platforms) > maxList || len(r.Requires) > maxList || len(r.Advisories) > maxList || len(r.Components) > maxList {
		return &InvalidError{"platforms, requires, advisories or components", fmt.Sprintf("has more than %d elements", maxList)}
	}
	seen := map[Platform]bool{}
	for _, p := range r.Platforms {
		if err := p.Validate(); err != nil {
			return err
		}
		key := p
		key.MinOS = ""
		if seen[key] {
			return &InvalidError{"platforms", fmt.Sprintf("names %s twice", key)}
		}
		seen[key] = true
	}
	for _, code := range r.Requires {
		if err := CheckEntitlement(code); err != nil {
			return err
		}
	}
	for _, id := range r.Advisories {
		if !advisoryRE.MatchString(id) {
			return &InvalidError{"advisories", fmt.Sprintf("%q is not an advisory id such as CVE-2026-1234", id)}
		}
	}
	return nil
}

const (
	maxText    = 1024 // bytes of free text in an entry
	maxList    = 64   // elements of any list in an entry
	maxVersion = 64   // bytes of a version: it becomes a path element
)

var (
	nameRE     = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)
	codeRE     = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,63}$`)
	advisoryRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$`)
)

// CheckName checks the name of a product or a channel: a lower-case letter, then letters, digits and dashes, at
// most 63 in all. Names become path elements and parts of TUF role names, so no dots, slashes or capitals. What
// says what is named, for the error.
func CheckName(what, name string) error {
	if !nameRE.MatchString(name) {
		return &InvalidError{what, fmt.Sprintf("%q is not a name: use a lower-case letter, then letters, digits and dashes, at most 63", name)}
	}
	if strings.HasSuffix(name, "-") {
		return &InvalidError{what, fmt.Sprintf("%q ends in a dash", name)}
	}
	return nil
}

// CheckEntitlement checks an entitlement code, as releases require and licences grant them.
func CheckEntitlement(code string) error {
	if !codeRE.MatchString(code) {
		return &InvalidError{"requires", fmt.Sprintf("%q is not an entitlement code: use lower-case letters, digits, dots, dashes and underscores", code)}
	}
	return nil
}

// ParseVersion reads a version as releases carry it: semver 2.0.0 without leading v and without build metadata
// (which has no precedence, section 10, so two such versions could not be told apart). The error is an
// [*InvalidError].
func ParseVersion(s string) (*semver.Version, error) {
	v, err := semver.StrictNewVersion(s)
	switch {
	case err != nil && strings.HasPrefix(s, "v"):
		return nil, &InvalidError{"version", fmt.Sprintf("%q has a leading v; write %q", s, s[1:])}
	case err != nil:
		return nil, &InvalidError{"version", fmt.Sprintf("%q is not a semantic version such as 1.4.0 or 2.0.0-rc.1", s)}
	case v.Metadata() != "":
		return nil, &InvalidError{"version", fmt.Sprintf("%q has build metadata, which has no precedence; leave out +%s", s, v.Metadata())}
	case len(s) > maxVersion:
		return nil, &InvalidError{"version", fmt.Sprintf("%q is longer than %d bytes", s, maxVersion)}
	}
	return v, nil
}

// ParseConstraint reads a semver constraint such as ">=1.4.0 <2.0.0" or "^1.4". Pre-releases take part in semver
// order: 2.0.0-rc.1 satisfies "<2.0.0".
func ParseConstraint(s string) (*semver.Constraints, error) {
	if len(s) > 256 {
		return nil, &InvalidError{"constraint", "is longer than 256 bytes"}
	}
	c, err := semver.NewConstraint(s)
	if err != nil {
		return nil, &InvalidError{"constraint", fmt.Sprintf("%q is not a version constraint such as >=1.4.0 <2.0.0", s)}
	}
	c.IncludePrerelease = true
	return c, nil
}

// TargetPath names the TUF target of a release. Its arguments must have passed CheckName and ParseVersion.
func TargetPath(product, channel, version string) string {
	return product + "/" + channel + "/" + version + "/release.json"
}

// RoleName names the TUF role that signs a channel's list.
func RoleName(product, channel string) string { return product + "." + channel }

// BlobPath names the file that holds a blob, below the repository's root.
func BlobPath(sha256 string) string { return "blobs/sha256/" + sha256[:2] + "/" + sha256 }

func checkTime(field string, t time.Time) error {
	switch {
	case t.IsZero():
		return &InvalidError{field, "is missing"}
	case t.Nanosecond() != 0:
		return &InvalidError{field, "has a fraction of a second; other TUF implementations refuse those"}
	case t.Location() != time.UTC:
		return &InvalidError{field, "is not in UTC"}
	}
	return nil
}

// An InvalidError says which field of an entry, a manifest or a query is wrong, and how.
type InvalidError struct {
	Field  string
	Detail string
}

func (e *InvalidError) Error() string { return "channel: " + e.Field + ": " + e.Detail }

// A NewerFormatError says that signed data is written in a format newer than this package: update the app first.
type NewerFormatError struct {
	What    string
	Version int
}

func (e *NewerFormatError) Error() string {
	return fmt.Sprintf("channel: %s has format version %d, this app reads up to %d: update the app first", e.What, e.Version, FormatVersion)
}
