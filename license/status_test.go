package license_test

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/license"
)

const oneDay = 24 * time.Hour

// The three ends, at each of their boundaries. The genuine licence ends 2027-01-01 and has 14 days of grace.
func TestEvaluate(t *testing.T) {
	end, graceEnd := date("2027-01-01"), date("2027-01-15")
	shortToken := func(l *license.License) { l.Expires = date("2026-02-01") }
	perpetual := func(l *license.License) { l.LicenseExpires, l.Expires = time.Time{}, date("2100-01-01") }
	longToken := func(l *license.License) { l.Expires = date("2030-01-01") }
	noGrace := func(l *license.License) { l.Grace = 0 }
	for _, c := range []struct {
		name         string
		change       func(*license.License)
		at           time.Time
		state        license.State
		since, until time.Time
		warning      string
	}{
		{"long before", nil, issued.Add(-5*time.Minute - 1), license.NotYetValid, time.Time{}, issued, ""},
		{"leeway", nil, issued.Add(-5 * time.Minute), license.Valid, issued, end, ""},
		{"year 1", nil, time.Time{}, license.NotYetValid, time.Time{}, issued, ""},
		{"start", nil, issued, license.Valid, issued, end, ""},
		{"30 days left", nil, end.Add(-30 * oneDay), license.Valid, issued, end, ""},
		{"less", nil, end.Add(-30*oneDay + 1), license.ExpiringSoon, issued, end, ""},
		{"last moment", nil, end.Add(-1), license.ExpiringSoon, issued, end, ""},
		{"end", nil, end, license.Grace, end, graceEnd, ""},
		{"last moment of grace", nil, graceEnd.Add(-1), license.Grace, end, graceEnd, ""},
		{"end of grace", nil, graceEnd, license.Expired, graceEnd, time.Time{}, ""},
		{"ages after", nil, date("2199-12-31"), license.Expired, graceEnd, time.Time{}, ""},
		{"no grace", noGrace, end, license.Expired, end, time.Time{}, ""},
		{"later start", func(l *license.License) { l.NotBefore = date("2026-04-01") }, now, license.NotYetValid, time.Time{}, date("2026-04-01"), ""},
		{"issued in the future", func(l *license.License) { l.IssuedAt = date("2026-04-01") }, now, license.NotYetValid, time.Time{}, date("2026-04-01"), ""},

		{"token fresh", shortToken, date("2026-02-01").Add(-1), license.Valid, issued, date("2026-02-15"), ""},
		{"token overdue", shortToken, date("2026-02-01"), license.Valid, issued, date("2026-02-15"), "refresh overdue"},
		{"token still overdue", shortToken, date("2026-02-15").Add(-1), license.Valid, issued, date("2026-02-15"), "until 2026-02-15"},
		{"token dead", shortToken, date("2026-02-15"), license.Expired, date("2026-02-15"), time.Time{}, ""},
		{"token dead, licence in grace", shortToken, end.Add(oneDay), license.Expired, date("2026-02-15"), time.Time{}, ""},
		{"overdue and expiring", func(l *license.License) { l.Expires = date("2026-12-25") }, date("2026-12-26"), license.ExpiringSoon, issued, end, "refresh overdue"},
		{"overdue and in grace", func(l *license.License) { l.Expires = date("2026-12-25") }, date("2027-01-02"), license.Grace, end, date("2027-01-08"), ""},
		{"token outlives", longToken, graceEnd, license.Expired, graceEnd, time.Time{}, ""},
		{"perpetual", perpetual, date("2099-12-31"), license.Valid, issued, date("2100-01-15"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.change == nil {
				c.change = func(*license.License) {}
			}
			s := verifier(t).Status(issue(t, c.change), c.at)
			require.Equal(t, c.state.String(), s.State.String())
			require.Equal(t, c.since, s.Since)
			require.Equal(t, c.until, s.Until)
			require.NotNil(t, s.License)
			require.NoError(t, s.Err)
			if c.warning == "" {
				require.Empty(t, s.Warnings)
				return
			}
			require.Len(t, s.Warnings, 1)
			require.Contains(t, s.Warnings[0], c.warning)
		})
	}
}

func TestEvaluateWithoutLicense(t *testing.T) {
	v := verifier(t)
	for _, empty := range []string{"", " \r\n\t", "\ufeff"} {
		s := v.Status([]byte(empty), now)
		require.Equal(t, license.Missing, s.State)
		require.NoError(t, s.Err)
	}
	require.Equal(t, license.Missing, v.Evaluate(nil, now).State)

	foreign := parse(t)
	require.Equal(t, license.Valid, v.Evaluate(foreign, now).State)
	copied := *foreign
	copied.Audience = []string{"acme-mail"}
	s := v.Evaluate(&copied, now)
	require.Equal(t, license.Invalid, s.State)
	require.ErrorIs(t, s.Err, license.ErrWrongProduct)
	require.Nil(t, s.License)
	copied = *foreign
	copied.Issuer = "https://evil.example"
	require.ErrorIs(t, v.Evaluate(&copied, now).Err, license.ErrWrongIssuer)
}

func TestNodes(t *testing.T) {
	bound := func(l *license.License) { l.Nodes = []string{"aa", "bb"} }
	for _, c := range []struct {
		node   string
		change func(*license.License)
		want   license.State
	}{
		{"bb", bound, license.Valid},
		{"cc", bound, license.WrongMachine},
		{"BB", bound, license.WrongMachine},
		{"", bound, license.WrongMachine},
		{"", func(*license.License) {}, license.Valid},
		{"cc", func(*license.License) {}, license.Valid},
		// A licence for another machine says so, whatever its dates.
		{"cc", func(l *license.License) { bound(l); l.NotBefore = date("2026-12-01") }, license.WrongMachine},
	} {
		s := verifier(t, func(k *license.Config) { k.Node = c.node }).Status(issue(t, c.change), now)
		require.Equal(t, c.want.String(), s.State.String(), c.node)
		require.NotNil(t, s.License)
		if c.want == license.Valid {
			require.Empty(t, s.Reason)
			continue
		}
		words := "for other installations, not for this one"
		if c.node == "" {
			words = "no id that the app knows"
		}
		require.Contains(t, s.Reason, words)
		require.Contains(t, s.String(), words)
		require.Contains(t, s.AllowUpdate("stable", "2.3.0", release()).Denials[0].Detail, words)
	}
	hole := license.License{Issuer: issuerName, Audience: []string{product}, Nodes: []string{""}, Expires: date("2027-01-01")}
	require.Equal(t, license.WrongMachine, verifier(t).Evaluate(&hole, now).State, "no fingerprint is nobody's fingerprint")
}

// The clamp holds for a license that nobody parsed, too.
func TestGraceIsCapped(t *testing.T) {
	l := *parse(t)
	l.Grace = 1000 * oneDay
	require.Equal(t, date("2027-01-01").Add(license.MaxGrace), verifier(t).Evaluate(&l, date("2027-01-02")).Until)
	l.Grace = -oneDay
	require.Equal(t, license.Expired, verifier(t).Evaluate(&l, date("2027-01-01")).State)
}

// Whatever the dates, time makes a licence no better once it has started.
func TestStateOnlyGetsWorse(t *testing.T) {
	v, l := verifier(t), *parse(t)
	r := rand.New(rand.NewPCG(1, 2))
	seen := map[license.State]int{}
	for range 500 {
		days := func(n int) time.Duration { return time.Duration(r.IntN(n)) * oneDay }
		l.Expires, l.LicenseExpires, l.Grace = issued.Add(days(400)), issued.Add(days(400)), days(200)
		if r.IntN(5) == 0 {
			l.LicenseExpires = time.Time{}
		}
		worst := license.NotYetValid
		for at := issued.Add(-days(10)); at.Before(issued.Add(800 * oneDay)); at = at.Add(oneDay + days(9)) {
			s := v.Evaluate(&l, at)
			seen[s.State]++
			require.GreaterOrEqual(t, s.State, worst, "at %s of %+v", at, l)
			worst = s.State
			// The bounds tell the truth: just before Until nothing worse than ExpiringSoon has come, at Until it has.
			if s.State != license.Expired {
				require.Greater(t, v.Evaluate(&l, s.Until).State, s.State)
				require.LessOrEqual(t, v.Evaluate(&l, s.Until.Add(-1)).State, max(s.State, license.ExpiringSoon))
			}
		}
	}
	for _, s := range []license.State{license.NotYetValid, license.Valid, license.ExpiringSoon, license.Grace, license.Expired} {
		require.Positive(t, seen[s], s.String())
	}
}

func TestStateString(t *testing.T) {
	require.Equal(t, "missing", license.State(0).String())
	require.Equal(t, "clock_suspect", license.ClockSuspect.String())
	require.Equal(t, "expiring_soon", license.ExpiringSoon.String())
	require.Equal(t, "state(10)", license.State(10).String())
	require.Equal(t, "state(-1)", license.State(-1).String())
}

func TestEntitlements(t *testing.T) {
	l := parse(t, func(l *license.License) {
		l.Entitlements["none"], l.Entitlements["blank"], l.Entitlements["minus"] = int64(0), "", -1
	})
	for code, want := range map[string]bool{"sso": true, "audit": false, "nodes": true, "region": true,
		"none": false, "blank": false, "minus": true, "absent": false, "SSO": false, "": false} {
		require.Equal(t, want, l.Has(code), code)
		for _, state := range []license.State{license.Valid, license.ExpiringSoon, license.Grace} {
			require.Equal(t, want, license.Status{State: state, License: l}.Has(code), code)
		}
	}
	n, ok := l.Limit("nodes")
	require.True(t, ok)
	require.EqualValues(t, 25, n)
	region, ok := l.Value("region")
	require.True(t, ok)
	require.Equal(t, "eu", region)
	n, ok = license.Status{State: license.Valid, License: l}.Limit("nodes")
	require.True(t, ok)
	require.EqualValues(t, 25, n)
	region, ok = license.Status{State: license.Grace, License: l}.Value("region")
	require.True(t, ok)
	require.Equal(t, "eu", region)
	for _, wrong := range []string{"sso", "region", "absent"} {
		_, ok = l.Limit(wrong)
		require.False(t, ok, wrong)
	}
	for _, wrong := range []string{"sso", "nodes", "absent"} {
		_, ok = l.Value(wrong)
		require.False(t, ok, wrong)
	}
	none := func(g interface {
		Has(string) bool
		Limit(string) (int64, bool)
		Value(string) (string, bool)
	}) {
		require.False(t, g.Has("sso"))
		n, ok := g.Limit("nodes")
		require.False(t, ok)
		require.Zero(t, n)
		s, ok := g.Value("region")
		require.False(t, ok)
		require.Empty(t, s)
	}
	none((*license.License)(nil))
	none(&license.License{})
	none(license.Status{})
	none(license.Status{State: license.Valid}) // no license behind it
	for _, state := range []license.State{license.Missing, license.Invalid, license.NotYetValid, license.Expired,
		license.Revoked, license.WrongMachine, license.ClockSuspect, 99} {
		none(license.Status{State: state, License: l})
	}
}

func TestUnmadeValues(t *testing.T) {
	for _, v := range []*license.Verifier{nil, {}} {
		l, err := v.Parse(issue(t))
		require.Nil(t, l)
		require.ErrorIs(t, err, license.ErrUnknownKey)
		require.Equal(t, license.Invalid, v.Evaluate(parse(t), now).State)
		require.Equal(t, license.Invalid, v.Status(nil, now).State)
		require.Equal(t, license.Invalid, license.FromToken(v, issue(t)).Status(t.Context(), now).State)
	}
	for _, i := range []*license.Issuer{nil, {}} {
		_, err := i.Issue(terms())
		require.ErrorContains(t, err, "NewIssuer")
	}
	_, err := license.NewVerifier(license.Config{Product: product, Keys: ring(t)})
	require.ErrorContains(t, err, "Config.Issuer is empty")
	_, err = license.NewVerifier(license.Config{Issuer: issuerName, Keys: ring(t)})
	require.ErrorContains(t, err, "Config.Product is empty")
	_, err = license.NewVerifier(license.Config{Issuer: issuerName, Product: product})
	require.ErrorContains(t, err, "Config.Keys is empty")
	_, err = license.NewVerifier(license.Config{Issuer: issuerName, Product: product, Keys: &license.Keyring{}})
	require.ErrorContains(t, err, "Config.Keys is empty")
}

func TestStatusSaysItself(t *testing.T) {
	l := &license.License{LicenseID: "L-1", Seq: 2}
	end := time.Date(2027, 12, 31, 23, 59, 59, 0, time.UTC)
	for want, s := range map[string]license.Status{
		"missing": {},
		"expiring soon until 2027-12-31 (licence L-1, number 2, from the file x)": {State: license.ExpiringSoon, License: l, Until: end, Source: "the file x"},
		"valid (licence L-1, number 2)":                                           {State: license.Valid, License: l},
		"expired since 2027-12-31 (licence L-1, number 2)":                        {State: license.Expired, License: l, Since: end},
		"not yet valid before 2027-12-31 (licence L-1, number 2)":                 {State: license.NotYetValid, License: l, Until: end},
		"revoked: token x was revoked (licence L-1, number 2)":                    {State: license.Revoked, License: l, Reason: "token x was revoked"},
		"invalid: no keys": {State: license.Invalid, Err: errors.New("license: no keys")},
	} {
		require.Equal(t, want, s.String())
	}
}
