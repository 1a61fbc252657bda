package license_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/license"
)

func TestEndOfDay(t *testing.T) {
	want := time.Date(2026, 11, 27, 23, 59, 59, 0, time.UTC)
	for _, in := range []time.Time{date("2026-11-27"), want, time.Date(2026, 11, 28, 1, 0, 0, 0, time.FixedZone("", 2*3600))} {
		require.Equal(t, want, license.EndOfDay(in))
	}
}

// A clock that is behind what signed data proves, by less than a day, by more, and in 1970.
func TestClockBehindTheFloor(t *testing.T) {
	build, signed := date("2026-02-01"), date("2026-05-01")
	late := func(l *license.License) { l.NotBefore = date("2026-08-01") }
	year1970 := time.Unix(0, 0)
	for _, c := range []struct {
		name    string
		change  func(*license.License)
		build   time.Time
		signed  time.Time
		now     time.Time
		state   license.State
		at      time.Time
		warning string
	}{
		{"right", nil, build, signed, signed, license.Valid, signed, ""},
		{"a day behind", nil, build, signed, signed.Add(-oneDay), license.Valid, signed, ""},
		{"more", nil, build, signed, signed.Add(-oneDay - 1), license.Valid, signed, "clock says 2026-04-29, but it is at least 2026-05-01, when its vendor's repository was signed"},
		{"1970", nil, build, signed, year1970, license.Valid, signed, "clock says 1970-01-01, but it is at least 2026-05-01"},
		{"year 1", nil, build, signed, time.Time{}, license.Valid, signed, "clock says 0001-01-01"},
		{"1970, build", nil, build, time.Time{}, year1970, license.Valid, build, "at least 2026-02-01, when this app was built"},
		{"1970, issue", nil, time.Time{}, time.Time{}, year1970, license.Valid, issued, "at least 2026-01-01, when a licence was issued"},
		{"behind the issuer", nil, time.Time{}, time.Time{}, issued.Add(-10 * time.Hour), license.Valid, issued, ""},
		{"expired, set back", ended, build, signed, issued, license.Expired, signed, "at least 2026-05-01"},
		{"expired, 1970", ended, build, signed, year1970, license.Expired, signed, "at least 2026-05-01"},

		{"not yet", late, build, signed, signed, license.NotYetValid, signed, ""},
		{"not yet, a day behind", late, build, signed, signed.Add(-oneDay), license.NotYetValid, signed, ""},
		{"not yet, more", late, build, signed, signed.Add(-oneDay - 1), license.ClockSuspect, signed, "set the clock"},
		{"not yet, before the build", late, build, time.Time{}, build.Add(-time.Second), license.ClockSuspect, build, ""},
		{"not yet, at the build", late, build, time.Time{}, build, license.NotYetValid, build, ""},
		{"holds, before the build", nil, build, time.Time{}, build.Add(-time.Second), license.Valid, build, ""},
		{"started by the floor", late, build, date("2026-08-01"), year1970, license.Valid, date("2026-08-01"), "set the clock"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.change == nil {
				c.change = func(*license.License) {}
			}
			s := open(t, from(license.Token("t", issue(t, c.change))), func(k *license.StoreConfig) {
				k.BuildTime, k.Now = c.build, func() time.Time { return c.now }
			})
			s.UseLists(&listSource{&license.Lists{Time: c.signed, Revocations: &license.Revocations{Number: 1}}})
			for _, status := range []license.Status{s.Status(t.Context(), c.now), s.Current()} {
				requireCounts(t, status, c.state, "")
				require.Equal(t, c.at, status.At)
				require.Equal(t, c.state == license.Valid, s.Has("sso"))
				if c.warning == "" {
					require.Empty(t, status.Warnings)
				} else {
					require.Len(t, status.Warnings, 1)
					require.Contains(t, status.Warnings[0], c.warning)
				}
				if c.state == license.ClockSuspect {
					d := status.AllowUpdate("stable", "2.3.0", release())
					require.Equal(t, []channel.Reason{channel.ReasonLicenseNotYetValid}, codes(d))
					require.Contains(t, d.Denials[0].Detail, "this computer's clock says")
				}
			}
		})
	}
}

// A stolen key's tokens, once revoked, move no clock.
func TestRevokedTokensMoveNoClock(t *testing.T) {
	far := issue(t, lid("thief"), func(l *license.License) {
		l.IssuedAt, l.Expires, l.LicenseExpires = date("2150-01-01"), date("2160-01-01"), time.Time{}
	})
	s := open(t, from(license.Token("far", far), license.Token("t", numbered(t, 1))))
	requireCounts(t, s.Current(), license.Valid, "jti-thief")
	s.UseLists(&listSource{&license.Lists{Revocations: &license.Revocations{Number: 1, Tokens: []string{"jti-thief"}}}})
	status := s.Current()
	requireCounts(t, status, license.Valid, "jti-1")
	require.Equal(t, now, status.At)
}

// The time last seen: what a clock that goes back, for good or for bad, does to a licence that ends on 2027-01-01.
func TestClockThatGoesBack(t *testing.T) {
	end := date("2027-01-01")
	year := numbered(t, 1, func(l *license.License) { l.Grace = 0 })
	where := filepath.Join(t.TempDir(), "store")
	c := clockAt(now)
	s := open(t, dir(where), c.in, from(license.Token("t", year)))
	restart := func() { s = open(t, dir(where), c.in, from(license.Token("t", year))) }
	is := func(at time.Time, state license.State, warnings int) {
		t.Helper()
		c.set(at)
		for range 2 {
			status := s.Current()
			requireCounts(t, status, state, "")
			require.Len(t, status.Warnings, warnings, "%v", status.Warnings)
			require.Equal(t, state == license.Valid || state == license.ExpiringSoon, s.Has("sso"))
			restart()
		}
	}
	run := func(from, to time.Time, state license.State) {
		for at := from; at.Before(to); at = at.Add(20 * time.Hour) {
			is(at, state, 0)
		}
	}
	run(now, now.AddDate(0, 0, 20), license.Valid)
	is(end.AddDate(0, 0, -40), license.Valid, 0) // switched off for months
	is(end.AddDate(0, 0, -38), license.Valid, 0)
	is(end.Add(-oneDay), license.ExpiringSoon, 0)
	run(end, end.AddDate(0, 0, 10), license.Expired)

	// Set back: no better, for a week; and not in 1970, however long.
	is(now, license.Expired, 1)
	is(now.AddDate(0, 0, 6), license.Expired, 1)
	is(issued.AddDate(0, 0, 20), license.Expired, 1) // soon after a signed time that was known before
	for days := range 400 {
		if days%80 == 0 {
			is(time.Unix(0, 0).AddDate(0, 0, days), license.Expired, 1)
		}
	}
	is(issued.AddDate(0, 0, -2), license.Expired, 1)
	is(end.AddDate(0, 0, 11), license.Expired, 0)

	// A little is tolerated without a word: it is no clock set back.
	is(end.AddDate(0, 0, 10), license.Expired, 0)
}

// A signed time that was known before speaks for no clock, though it was away in the meantime: a licence that was hidden, or
// lists that the app has only after its first question.
func TestKnownTimesSpeakOnce(t *testing.T) {
	end := date("2027-01-01")
	signed := date("2026-12-10")
	token := issue(t, func(l *license.License) { l.IssuedAt, l.NotBefore, l.Grace = signed, signed, 0 })
	lists := &listSource{&license.Lists{Time: signed, Revocations: &license.Revocations{Number: 1}}}
	for name, ask := range map[string]func(where string, c *clock) license.Status{
		"hidden": func(where string, c *clock) license.Status {
			t.Setenv("ACME_LICENSE", string(token))
			status := open(t, dir(where), c.in, from(license.Env("ACME_LICENSE"))).Current()
			t.Setenv("ACME_LICENSE", "")
			open(t, dir(where), c.in, from(license.Env("ACME_LICENSE"))).Current()
			return status
		},
		"lists": func(where string, c *clock) license.Status {
			s := open(t, dir(where), c.in, from(license.Token("t", numbered(t, 1, func(l *license.License) { l.Grace = 0 }))))
			s.Current()
			s.UseLists(lists)
			return s.Current()
		},
	} {
		t.Run(name, func(t *testing.T) {
			where := filepath.Join(t.TempDir(), "store")
			c := clockAt(end.AddDate(0, 0, -3))
			for c.now().Before(end.AddDate(0, 0, 3)) {
				ask(where, c)
				c.add(20 * time.Hour)
			}
			requireCounts(t, ask(where, c), license.Expired, "")
			c.set(signed.AddDate(0, 0, 5))
			for range 3 {
				requireCounts(t, ask(where, c), license.Expired, "")
				c.add(20 * time.Hour)
			}
		})
	}
}

// A clock that was once wrong ends no licence for ever.
func TestClockThatWasAhead(t *testing.T) {
	where := filepath.Join(t.TempDir(), "store")
	c := clockAt(now)
	s := open(t, dir(where), c.in, from(license.Token("t", numbered(t, 1))))
	is := func(at time.Time, state license.State) {
		t.Helper()
		c.set(at)
		requireCounts(t, s.Current(), state, "")
		s = open(t, dir(where), c.in, from(license.Token("t", numbered(t, 1))))
	}
	far := date("2035-01-01")
	is(now, license.Valid)
	is(far, license.Expired) // on the first day, when nothing is known yet
	is(now.Add(time.Hour), license.Valid)
	is(now.AddDate(0, 0, 2), license.Valid)
	// For an hour: forgotten at once.
	is(far, license.Expired)
	is(far.Add(time.Hour), license.Expired)
	is(now.AddDate(0, 0, 3), license.Valid)
	// For days: believed again after a week.
	is(far, license.Expired)
	is(far.AddDate(0, 0, 3), license.Expired)
	is(now.AddDate(0, 0, 7), license.Expired)
	is(now.AddDate(0, 0, 13), license.Expired)
	is(now.AddDate(0, 0, 14), license.Valid)
	// For days, and the vendor helps: a fresh licence speaks for the clock.
	is(far, license.Expired)
	is(far.AddDate(0, 0, 3), license.Expired)
	is(now.AddDate(0, 0, 20), license.Expired)
	_, err := s.Install(t.Context(), numbered(t, 2, func(l *license.License) { l.IssuedAt = now.AddDate(0, 0, 19) }))
	require.NoError(t, err)
	is(now.AddDate(0, 0, 20), license.Valid)
	is(now.AddDate(0, 0, 21), license.Valid)
}

// Asking about another time leaves nothing behind, and the folder is written about once an hour.
func TestClockIsNotedSeldom(t *testing.T) {
	where := filepath.Join(t.TempDir(), "store")
	c := clockAt(now)
	s := open(t, dir(where), c.in, from(license.Token("t", numbered(t, 1))))
	requireCounts(t, s.Status(t.Context(), date("2150-01-01")), license.Expired, "")
	require.NoDirExists(t, where)
	writes, last := 0, ""
	for range 48 * 60 {
		s.Has("sso")
		if data, _ := os.ReadFile(filepath.Join(where, "clock.json")); string(data) != last {
			writes, last = writes+1, string(data)
		}
		c.add(time.Minute)
	}
	require.Greater(t, writes, 20) // after a day, in which it was not believed yet
	require.LessOrEqual(t, writes, 49)
	require.True(t, s.Has("sso"))
}
