package tufrepo

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// A Policy says how long a role's signature lasts, and how long before its end it is to be renewed: next signing =
// signing + Period - Margin. Both are whole seconds.
type Policy struct {
	Period, Margin time.Duration
}

const day = 24 * time.Hour

// DefaultPolicy is what a role gets that nobody chose a policy for. A role with an online key is renewed long before
// its end, so that missed runs do no harm; a role signed by people at half its time.
func DefaultPolicy(role string) Policy {
	switch role {
	case metadata.TIMESTAMP:
		return Policy{7 * day, 6 * day}
	case metadata.SNAPSHOT:
		return Policy{365 * day, 335 * day}
	case metadata.ROOT, metadata.TARGETS:
		return Policy{400 * day, 200 * day}
	case licenseRole:
		return Policy{120 * day, 60 * day}
	}
	_, name, _ := strings.Cut(role, ".")
	switch name {
	case "stable":
		return Policy{120 * day, 60 * day}
	case "nightly":
		return Policy{14 * day, 7 * day}
	case archiveChannel:
		return Policy{365 * day, 300 * day}
	}
	return Policy{60 * day, 30 * day}
}

func (p Policy) check(role string) error {
	switch {
	case p.Period < time.Hour || p.Period > 100*365*day:
		return fmt.Errorf("tufrepo: policy of %s: a period of %s is not between an hour and a century", role, p.Period)
	case p.Margin < 0 || p.Margin >= p.Period:
		return fmt.Errorf("tufrepo: policy of %s: a margin of %s is not less than the period of %s", role, p.Margin, p.Period)
	case p.Period%time.Second != 0 || p.Margin%time.Second != 0:
		return fmt.Errorf("tufrepo: policy of %s: period and margin must be whole seconds", role)
	}
	return nil
}

// A stamp is what stands under the key "fairlead" in the signed part of a role; see the package comment.
type stamp struct {
	signed time.Time
	policy Policy
	seq    int64 // channels and license only
}

const stampKey = "fairlead"

// readStamp is lenient: a role signed by another tool has no stamp, and gets the default policy.
func readStamp(role string, fields map[string]any, expires time.Time) stamp {
	s := stamp{policy: DefaultPolicy(role)}
	m, _ := fields[stampKey].(map[string]any)
	number := func(key string) int64 {
		f, _ := m[key].(float64)
		return int64(f)
	}
	p := Policy{time.Duration(number("period_s")) * time.Second, time.Duration(number("margin_s")) * time.Second}
	if number("period_s") <= int64(100*365*day/time.Second) && p.check(role) == nil {
		s.policy = p
	}
	text, _ := m["signed"].(string)
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		s.signed = t.UTC()
	} else {
		s.signed = expires.Add(-s.policy.Period)
	}
	s.seq = number("seq")
	return s
}

// write returns fields with s in it, keeping what it does not know. The numbers are float64, as they are when read.
func (s stamp) write(fields map[string]any) map[string]any {
	fields = maps.Clone(fields)
	if fields == nil {
		fields = map[string]any{}
	}
	m, _ := fields[stampKey].(map[string]any)
	if m = maps.Clone(m); m == nil {
		m = map[string]any{}
	}
	m["v"] = float64(1)
	m["signed"] = s.signed.Format(time.RFC3339)
	m["period_s"] = float64(s.policy.Period / time.Second)
	m["margin_s"] = float64(s.policy.Margin / time.Second)
	if s.seq > 0 {
		m["seq"] = float64(s.seq)
	}
	fields[stampKey] = m
	return fields
}

func (s stamp) nextSigning(expires time.Time) time.Time { return expires.Add(-s.policy.Margin) }
