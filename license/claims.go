package license

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"
	"unicode"

	"github.com/fairlead-dev/fairlead/channel"
)

// FormatVersion is the major version of the claims (v) that this package reads and writes.
const FormatVersion = 1

const (
	maxText  = 256        // bytes of any text
	maxURL   = 2048       // bytes of the refresh URL
	maxList  = 64         // products, channels
	maxNodes = 256        // fingerprints
	maxCodes = 256        // entitlements
	maxInt   = 1<<53 - 1  // integers that every JSON reader keeps
	minDate  = 946684800  // 2000-01-01T00:00:00Z
	maxDate  = 7258118399 // 2199-12-31T23:59:59Z
)

var claimNames = [...]string{"v", "iss", "aud", "sub", "jti", "iat", "nbf", "exp", "lid", "seq", "lic_exp", "grace_s",
	"upd_until", "sec_until", "ver", "chan", "ent", "plan", "trial", "env", "nodes", "max_nodes", "refresh", "req"}

// readClaims reads a payload whose signature has been verified. It judges form, not scope and not time.
// Claims it does not know are left out, so that later versions may add some.
func readClaims(payload []byte) (*License, error) {
	members, err := readObject(payload)
	if err != nil {
		return nil, refuse(ErrMalformed, "the token's payload %v", err)
	}
	for name := range members {
		if known := fold(name); name != known && slices.Contains(claimNames[:], known) {
			return nil, refuse(ErrMalformed, "the claim %q is written %q; capitals count", known, name)
		}
	}
	r := reader{members: members}
	r.require("v", "iss", "aud", "sub", "jti", "iat", "exp", "lid", "seq")
	v := r.integer("v")
	if r.err == nil && v > FormatVersion {
		return nil, refuse(ErrUnsupportedVersion,
			"the licence has format version %d, this app reads up to %d: update the app first", v, FormatVersion)
	}
	r.check("v", v >= 1, "is below 1")
	l := r.license()
	if r.err != nil {
		return nil, &TokenError{Code: ErrClaims, Detail: "the licence cannot be used: " + r.err.Error()}
	}
	return l, nil
}

func (r *reader) license() *License {
	l := &License{
		Issuer: r.text("iss"), Subject: r.text("sub"), ID: r.text("jti"), LicenseID: r.text("lid"),
		Seq:      r.integer("seq"),
		Audience: r.texts("aud", maxList),
		IssuedAt: r.date("iat"), NotBefore: r.date("nbf"), Expires: r.date("exp"),
		LicenseExpires: r.date("lic_exp"), UpdatesUntil: r.date("upd_until"), SecurityUntil: r.date("sec_until"),
		Versions: r.text("ver"),
		Channels: r.texts("chan", maxList),
		Plan:     r.text("plan"), Trial: r.boolean("trial"), Env: r.text("env"),
		Nodes: r.texts("nodes", maxNodes), MaxNodes: r.integer("max_nodes"),
		Entitlements: r.entitlements("ent"),
		Refresh:      r.refresh("refresh"),
		Request:      r.text("req"),
	}
	// Clamped before it is multiplied: an int64 of nanoseconds ends after 292 years.
	grace := r.integer("grace_s")
	l.Grace = time.Duration(min(grace, int64(MaxGrace/time.Second))) * time.Second
	if l.NotBefore.IsZero() {
		l.NotBefore = l.IssuedAt
	}
	r.check("iss", l.Issuer != "", "is empty")
	r.check("sub", l.Subject != "", "is empty")
	r.check("jti", l.ID != "", "is empty")
	r.check("lid", l.LicenseID != "", "is empty")
	r.check("aud", len(l.Audience) > 0, "names no product")
	r.check("iat", !l.IssuedAt.IsZero(), "is 0")
	r.check("exp", !l.Expires.IsZero(), "is 0")
	r.check("seq", l.Seq >= 1, "is below 1")
	r.check("grace_s", grace >= 0, "is negative")
	r.check("max_nodes", l.MaxNodes >= 0, "is negative")
	r.check("nodes", l.MaxNodes <= 0 || int64(len(l.Nodes)) <= l.MaxNodes, "has %d installations; max_nodes is %d", len(l.Nodes), l.MaxNodes)
	if l.Versions != "" {
		_, err := channel.ParseConstraint(l.Versions)
		r.check("ver", err == nil, "is not a version constraint such as >=2.0.0 <4.0.0")
	}
	for _, name := range l.Channels {
		r.check("chan", channel.CheckName("chan", name) == nil, "has %q, which is not the name of a channel", name)
	}
	return l
}

// A reader takes typed members out of an object, and keeps the first thing that was wrong. A member that is
// absent reads as its type's zero value; null is wrong, as is any other type.
type reader struct {
	members map[string]any
	err     error
}

func (r *reader) check(name string, ok bool, fault string, args ...any) {
	if !ok && r.err == nil {
		r.err = fmt.Errorf("%s "+fault, append([]any{name}, args...)...)
	}
}

func (r *reader) require(names ...string) {
	for _, name := range names {
		_, ok := r.members[name]
		r.check(name, ok, "is missing")
	}
}

func (r *reader) text(name string) string {
	value, ok := r.members[name]
	if !ok {
		return ""
	}
	return r.asText(name, value, maxText)
}

func (r *reader) asText(name string, value any, limit int) string {
	s, ok := value.(string)
	r.check(name, ok, "is not a string")
	r.check(name, len(s) <= limit, "is longer than %d bytes", limit)
	r.check(name, isPrintable(s), "has control characters or invalid ones")
	return s
}

// isPrintable keeps out what could command a terminal: licences end up in logs and on screens. U+FFFD is what JSON
// readers make of what is no character.
func isPrintable(s string) bool {
	for _, c := range s {
		if unicode.IsControl(c) || c == unicode.ReplacementChar {
			return false
		}
	}
	return true
}

// texts reads a list of non-empty strings. For aud RFC 7519 section 4.1.3 allows a single string as well.
func (r *reader) texts(name string, limit int) []string {
	value, ok := r.members[name]
	if !ok {
		return nil
	}
	if single, ok := value.(string); ok && name == "aud" {
		value = []any{single}
	}
	list, ok := value.([]any)
	r.check(name, ok, "is not a list of strings")
	r.check(name, len(list) <= limit, "has more than %d elements", limit)
	if r.err != nil || len(list) == 0 {
		return nil
	}
	out := make([]string, len(list))
	for i := range list {
		out[i] = r.asText(name, list[i], maxText)
		r.check(name, out[i] != "", "has an empty element")
	}
	return out
}

func (r *reader) boolean(name string) bool {
	value, ok := r.members[name]
	if !ok {
		return false
	}
	b, ok := value.(bool)
	r.check(name, ok, "is not true or false")
	return b
}

func (r *reader) integer(name string) int64 {
	value, ok := r.members[name]
	if !ok {
		return 0
	}
	return r.asInteger(name, value)
}

// asInteger takes integers written as such: 1e300 and 1.5 read differently from one JSON reader to the next.
func (r *reader) asInteger(name string, value any) int64 {
	number, ok := value.(json.Number)
	r.check(name, ok, "is not a number")
	if !ok {
		return 0
	}
	n, err := strconv.ParseInt(string(number), 10, 64)
	r.check(name, err == nil && number != "-0", "is not an integer")
	r.check(name, -maxInt <= n && n <= maxInt, "is too large")
	return n
}

// date reads a NumericDate (RFC 7519 section 2) in whole seconds. 0 reads as absent.
func (r *reader) date(name string) time.Time {
	n := r.integer(name)
	if n == 0 {
		return time.Time{}
	}
	r.check(name, minDate <= n && n <= maxDate, "is not a time between 2000 and 2199, in seconds since 1970")
	return time.Unix(n, 0).UTC()
}

func (r *reader) object(name string) map[string]any {
	value, ok := r.members[name]
	if !ok {
		return nil
	}
	object, ok := value.(map[string]any)
	r.check(name, ok, "is not an object")
	return object
}

func (r *reader) entitlements(name string) map[string]any {
	object := r.object(name)
	r.check(name, len(object) <= maxCodes, "has more than %d codes", maxCodes)
	if r.err != nil || len(object) == 0 {
		return nil
	}
	out := make(map[string]any, len(object))
	inner := reader{members: object}
	for code, value := range object {
		if channel.CheckEntitlement(code) != nil {
			r.check(name, false, "has %.64q, which is not an entitlement code", code)
			return nil
		}
		switch value := value.(type) {
		case bool:
			out[code] = value
		case json.Number:
			out[code] = inner.asInteger(code, value)
		case string:
			out[code] = inner.asText(code, value, maxText)
		default:
			inner.check(code, false, "is neither true or false, nor an integer, nor a string")
		}
	}
	r.adopt(name, &inner)
	return out
}

// adopt takes over what was wrong inside the member name.
func (r *reader) adopt(name string, inner *reader) {
	if r.err == nil && inner.err != nil {
		r.err = fmt.Errorf("%s.%w", name, inner.err)
	}
}

func (r *reader) refresh(name string) *Refresh {
	object := r.object(name)
	if object == nil || r.err != nil {
		return nil
	}
	inner := reader{members: object}
	inner.require("url")
	hint := &Refresh{URL: inner.asText("url", object["url"], maxURL), After: inner.date("after")}
	u, err := url.Parse(hint.URL)
	inner.check("url", err == nil && u.Scheme == "https" && u.Host != "", "is not an https URL")
	r.adopt(name, &inner)
	return hint
}

// encode writes the claims of l: the one encoder, so that a token never depends on how another one orders or
// escapes. Members are sorted; what says nothing is left out.
func (l *License) encode() ([]byte, error) {
	claims := map[string]any{
		"v": FormatVersion, "iss": l.Issuer, "aud": l.Audience, "sub": l.Subject, "jti": l.ID, "lid": l.LicenseID,
		"seq": l.Seq, "iat": unix(l.IssuedAt), "nbf": unix(l.NotBefore), "exp": unix(l.Expires),
		"lic_exp": unix(l.LicenseExpires), "trial": l.Trial,
	}
	for name, t := range map[string]time.Time{"upd_until": l.UpdatesUntil, "sec_until": l.SecurityUntil} {
		if !t.IsZero() {
			claims[name] = unix(t)
		}
	}
	for name, s := range map[string]string{"ver": l.Versions, "plan": l.Plan, "env": l.Env, "req": l.Request} {
		if s != "" {
			claims[name] = s
		}
	}
	for name, list := range map[string][]string{"chan": l.Channels, "nodes": l.Nodes} {
		if len(list) > 0 {
			claims[name] = list
		}
	}
	for name, n := range map[string]int64{"grace_s": int64(l.Grace / time.Second), "max_nodes": l.MaxNodes} {
		if n != 0 {
			claims[name] = n
		}
	}
	if len(l.Entitlements) > 0 {
		claims["ent"] = l.Entitlements
	}
	if l.Refresh != nil {
		refresh := map[string]any{"url": l.Refresh.URL}
		if !l.Refresh.After.IsZero() {
			refresh["after"] = unix(l.Refresh.After)
		}
		claims["refresh"] = refresh
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false) // ver is full of < and >
	err := enc.Encode(claims)
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), err
}

// unix is the NumericDate of t, and 0 for the zero time.
func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
