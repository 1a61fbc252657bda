package license_test

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/license"
)

func codes(d license.Decision) []channel.Reason {
	out := []channel.Reason{}
	for _, denial := range d.Denials {
		out = append(out, denial.Code)
	}
	return out
}

func published(day string) func(*channel.Release) {
	return func(r *channel.Release) { r.Published = date(day) }
}

func version(v string) func(*channel.Release) { return func(r *channel.Release) { r.Version = v } }

func security(r *channel.Release) { r.Kind = channel.Security }

func both(f, g func(*channel.Release)) func(*channel.Release) {
	return func(r *channel.Release) { f(r); g(r) }
}

func TestAllowUpdate(t *testing.T) {
	const stay = "" // the genuine value
	var (
		noChannels    = func(l *license.License) { l.Channels = nil }
		noVersions    = func(l *license.License) { l.Versions = "" }
		noUpdateEnd   = func(l *license.License) { l.UpdatesUntil = time.Time{} }
		noSecurityEnd = func(l *license.License) { l.SecurityUntil = time.Time{} }
		securityEnds  = func(l *license.License) { l.SecurityUntil = date("2026-05-01") }
		perpetual     = func(l *license.License) { l.UpdatesUntil, l.LicenseExpires = time.Time{}, time.Time{} }
		none          = []channel.Reason{}
		expired       = date("2028-06-01")
	)
	for _, c := range []struct {
		name    string
		license func(*license.License)
		at      time.Time
		channel string
		running string
		release func(*channel.Release)
		want    []channel.Reason
		detail  string
	}{
		{"all is well", nil, now, stay, stay, nil, none, ""},
		{"other granted channel", nil, now, "lts", stay, nil, none, ""},
		{"channel", nil, now, "beta", stay, nil, []channel.Reason{channel.ReasonChannelNotGranted},
			`the licence is for the channel stable, lts, this release is in "beta"`},
		{"no channels: stable", noChannels, now, stay, stay, nil, none, ""},
		{"no channels: not lts", noChannels, now, "lts", stay, nil, []channel.Reason{channel.ReasonChannelNotGranted}, "channel stable,"},

		{"version above", nil, now, stay, stay, version("4.0.0"), []channel.Reason{channel.ReasonVersionOutOfRange},
			"the licence is for versions >=2.0.0 <4.0.0, this release is 4.0.0"},
		{"pre-release leaks not", nil, now, stay, stay, version("4.0.0-rc.1"), []channel.Reason{channel.ReasonVersionOutOfRange}, "4.0.0-rc.1"},
		{"pre-release included", nil, now, stay, stay, version("2.0.0-rc.1"), none, ""},
		{"last version", nil, now, stay, stay, version("3.99.99"), none, ""},
		{"no versions", noVersions, now, stay, stay, version("9.0.0"), none, ""},
		{"release without version", nil, now, stay, stay, version("latest"), []channel.Reason{channel.ReasonVersionOutOfRange}, "latest"},

		{"last day", nil, now, stay, stay, published("2026-06-30"), none, ""},
		{"a second later", nil, now, stay, stay, func(r *channel.Release) { r.Published = date("2026-06-30").Add(time.Second) },
			[]channel.Reason{channel.ReasonUpdatesExpired},
			"updates were included until 2026-06-30 00:00:00 UTC, this release was published on 2026-06-30 00:00:01 UTC"},
		{"too late", nil, now, stay, stay, published("2026-07-02"), []channel.Reason{channel.ReasonUpdatesExpired},
			"updates were included until 2026-06-30, this release was published on 2026-07-02"},
		{"in grace too late", nil, date("2027-01-05"), stay, stay, published("2026-07-02"), []channel.Reason{channel.ReasonUpdatesExpired}, "2026-07-02"},
		{"in grace", nil, date("2027-01-05"), stay, stay, nil, none, ""},
		{"expiring soon", nil, date("2026-12-25"), stay, stay, nil, none, ""},
		{"no end", noUpdateEnd, now, stay, stay, published("2099-07-02"), none, ""},
		{"no publish time", nil, now, stay, stay, func(r *channel.Release) { r.Published = time.Time{} },
			[]channel.Reason{channel.ReasonUpdatesExpired}, "no publish time"},

		{"entitlements", nil, now, stay, stay, func(r *channel.Release) { r.Requires = []string{"sso", "audit", "nodes", "ha"} },
			[]channel.Reason{channel.ReasonEntitlementMissing}, "does not grant: audit, ha"},
		{"everything at once", nil, now, "beta", stay, func(r *channel.Release) {
			r.Version, r.Published, r.Requires = "4.1.0", date("2027-01-01"), []string{"ha"}
		}, []channel.Reason{channel.ReasonChannelNotGranted, channel.ReasonVersionOutOfRange, channel.ReasonUpdatesExpired,
			channel.ReasonEntitlementMissing}, stay},

		{"expired, paid for", nil, expired, stay, stay, published("2026-06-30"), none, ""},
		{"expired, later", nil, expired, stay, stay, published("2026-07-02"), []channel.Reason{channel.ReasonLicenseExpired},
			"the licence has expired; it still includes releases published until 2026-06-30, this release was published on 2026-07-02"},
		{"expired, no update end", noUpdateEnd, expired, stay, stay, published("2027-01-01"), none, ""},
		{"expired, after lic_exp", noUpdateEnd, expired, stay, stay, published("2027-01-02"), []channel.Reason{channel.ReasonLicenseExpired}, "until 2027-01-01"},
		{"token expired, before exp", perpetual, expired, stay, stay, published("2027-01-01"), none, ""},
		{"token expired, after exp", perpetual, expired, stay, stay, published("2027-01-02"), []channel.Reason{channel.ReasonLicenseExpired}, "until 2027-01-01"},
		{"expired, channel and entitlement", nil, expired, "beta", stay, func(r *channel.Release) { r.Requires = []string{"ha"} },
			[]channel.Reason{channel.ReasonChannelNotGranted, channel.ReasonEntitlementMissing}, stay},
		{"expired, no publish time", nil, expired, stay, stay, func(r *channel.Release) { r.Published = time.Time{} },
			[]channel.Reason{channel.ReasonLicenseExpired}, "no publish time"},

		{"not yet", nil, date("2025-01-01"), stay, stay, nil, []channel.Reason{channel.ReasonLicenseNotYetValid}, "starts on 2026-01-01"},
		{"not yet, and more", nil, date("2025-01-01"), "beta", stay, nil,
			[]channel.Reason{channel.ReasonLicenseNotYetValid, channel.ReasonChannelNotGranted}, stay},

		{"security, updates over", nil, now, stay, "2.3.0", both(security, published("2026-12-01")), none, ""},
		{"feature, updates over", nil, now, stay, "2.3.0", published("2026-12-01"), []channel.Reason{channel.ReasonUpdatesExpired}, stay},
		{"security, expired", nil, expired, stay, "2.3.0", both(security, published("2027-12-01")), none, ""},
		{"security, no end of it", noSecurityEnd, expired, stay, "2.3.0", both(security, published("2050-12-01")), none, ""},
		{"security, last day", securityEnds, now, stay, "2.3.0", both(security, published("2026-05-01")), none, ""},
		{"security over, updates over", securityEnds, now, stay, "2.3.0", both(security, published("2026-07-02")),
			[]channel.Reason{channel.ReasonUpdatesExpired}, stay},
		{"security over, updates not", securityEnds, now, stay, "2.3.0", both(security, published("2026-05-02")), none, ""},
		{"security over, expired", nil, expired, stay, "2.3.0", both(security, published("2028-01-02")),
			[]channel.Reason{channel.ReasonLicenseExpired}, stay},
		{"security, other major", nil, now, stay, "2.3.0", both(security, both(version("3.0.0"), published("2026-12-01"))),
			[]channel.Reason{channel.ReasonUpdatesExpired}, stay},
		{"security, running not covered", nil, now, stay, "4.3.0", both(security, version("4.3.1")),
			[]channel.Reason{channel.ReasonVersionOutOfRange}, stay},
		{"security, beyond ver but same major", func(l *license.License) { l.Versions = "<2.4.0" }, now, stay, "2.3.0", security, none, ""},
		{"feature, beyond ver", func(l *license.License) { l.Versions = "<2.4.0" }, now, stay, "2.3.0", nil,
			[]channel.Reason{channel.ReasonVersionOutOfRange}, stay},
		{"security, no ver", noVersions, expired, stay, "9.0.0", both(security, both(version("9.0.1"), published("2027-12-01"))), none, ""},
		{"security, channel holds", nil, now, "beta", "2.3.0", security, []channel.Reason{channel.ReasonChannelNotGranted}, stay},
		{"security, entitlements hold", nil, now, stay, "2.3.0", both(security, func(r *channel.Release) { r.Requires = []string{"ha"} }),
			[]channel.Reason{channel.ReasonEntitlementMissing}, stay},
		{"security, not yet valid", nil, date("2025-01-01"), stay, "2.3.0", security, []channel.Reason{channel.ReasonLicenseNotYetValid}, stay},
		{"security, not yet valid and late", nil, date("2025-01-01"), stay, "2.3.0", both(security, published("2026-12-01")),
			[]channel.Reason{channel.ReasonLicenseNotYetValid, channel.ReasonUpdatesExpired}, stay},
		{"security, dev build", nil, now, stay, "dev", both(security, published("2026-12-01")), []channel.Reason{channel.ReasonUpdatesExpired}, stay},
		{"security, running unknown", nil, now, stay, "none", both(security, published("2026-12-01")), []channel.Reason{channel.ReasonUpdatesExpired}, stay},
		{"security, running with v", nil, now, stay, "v2.3.0", both(security, published("2026-12-01")), []channel.Reason{channel.ReasonUpdatesExpired}, stay},
		{"security, release malformed", nil, now, stay, "2.3.0", both(security, version("2.x")), []channel.Reason{channel.ReasonVersionOutOfRange}, stay},
		{"security, no publish time", nil, now, stay, "2.3.0", both(security, func(r *channel.Release) { r.Published = time.Time{} }),
			[]channel.Reason{channel.ReasonUpdatesExpired}, stay},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.license == nil {
				c.license = func(*license.License) {}
			}
			if c.release == nil {
				c.release = func(*channel.Release) {}
			}
			if c.channel == stay {
				c.channel = "stable"
			}
			switch c.running {
			case stay:
				c.running = "2.3.0"
			case "none":
				c.running = ""
			}
			d := verifier(t).Status(issue(t, c.license), c.at).AllowUpdate(c.channel, c.running, release(c.release))
			require.Equal(t, c.want, codes(d))
			require.Equal(t, len(c.want) == 0, d.Allowed)
			if c.detail != "" {
				require.Contains(t, d.Denials[0].Detail, c.detail)
			}
		})
	}
}

func TestAllowUpdateByState(t *testing.T) {
	l := parse(t)
	broken := license.Status{State: license.Invalid, Err: errors.New("license: the licence file cannot be read")}
	forged := verifier(t).Status(mint(`{"alg":"none"}`, "{}"), now)
	for _, c := range []struct {
		status license.Status
		want   channel.Reason
		detail string
	}{
		{license.Status{}, channel.ReasonLicenseMissing, "no licence is installed"},
		{forged, channel.ReasonLicenseInvalid, "the header's typ"},
		{broken, channel.ReasonLicenseInvalid, "the licence file cannot be read"},
		{license.Status{State: license.Revoked, License: l}, channel.ReasonLicenseRevoked, "revoked"},
		{license.Status{State: license.WrongMachine, License: l}, channel.ReasonLicenseWrongMachine, "other installations"},
		{license.Status{State: license.NotYetValid, License: l}, channel.ReasonLicenseNotYetValid, "not valid yet"},
		{license.Status{State: license.ClockSuspect, License: l}, channel.ReasonLicenseInvalid, "clock_suspect"},
		{license.Status{State: 42, License: l}, channel.ReasonLicenseInvalid, "state(42)"},
		{license.Status{State: license.Valid}, channel.ReasonLicenseInvalid, "valid"},
		{license.Status{State: license.Expired}, channel.ReasonLicenseInvalid, "expired"},
	} {
		for _, r := range []channel.Release{release(), release(security), release(func(r *channel.Release) { r.Requires = nil })} {
			d := c.status.AllowUpdate("stable", "2.3.0", r)
			require.False(t, d.Allowed)
			require.Equal(t, []channel.Reason{c.want}, codes(d))
			require.Contains(t, d.Denials[0].Detail, c.detail)
			require.NotContains(t, d.Denials[0].Detail, "license: ")
		}
	}
	require.True(t, license.Status{State: license.Valid, License: l}.AllowUpdate("stable", "2.3.0", release()).Allowed)
}

// An open product: what requires nothing is for everybody, and nobody is better off without a licence than with.
func TestOpenProduct(t *testing.T) {
	openly := func(c *license.Config) { c.Open = true }
	tokens := map[string][]byte{
		"missing":       nil,
		"invalid":       []byte("a.b.c"),
		"not yet valid": issue(t, func(l *license.License) { l.NotBefore = date("2026-12-01") }),
		"wrong machine": issue(t, func(l *license.License) { l.Nodes = []string{"aa"} }),
		"expired":       issue(t, func(l *license.License) { l.Expires, l.Grace = date("2026-02-01"), 0 }),
		"valid":         issue(t),
	}
	for name, token := range tokens {
		free := release(func(r *channel.Release) { r.Requires, r.Published, r.Version = nil, date("2030-01-01"), "9.0.0" })
		require.True(t, verifier(t, openly).Status(token, now).AllowUpdate("beta", "2.3.0", free).Allowed, name)
		require.False(t, verifier(t).Status(token, now).AllowUpdate("beta", "2.3.0", free).Allowed, name)
		paid := free
		paid.Requires = []string{"sso"}
		require.False(t, verifier(t, openly).Status(token, now).AllowUpdate("beta", "2.3.0", paid).Allowed, name)
	}
}

// Over random licences, times and releases: what must never be allowed, and what must never be withheld.
func TestAllowUpdateProperties(t *testing.T) {
	v, base := verifier(t), *parse(t)
	r := rand.New(rand.NewPCG(3, 4))
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	at := func() time.Time { return issued.Add(time.Duration(r.IntN(1000)-50) * oneDay) }
	orZero := func(t time.Time) time.Time {
		if r.IntN(4) == 0 {
			return time.Time{}
		}
		return t
	}
	var allowed, owed, denied int
	for range 50_000 {
		l := base
		l.Expires, l.LicenseExpires, l.UpdatesUntil, l.SecurityUntil = at(), orZero(at()), orZero(at()), orZero(at())
		l.Versions, l.Channels = pick("", ">=2.0.0 <4.0.0", "<3.0.0"), [][]string{nil, {"stable", "beta"}}[r.IntN(2)]
		rel := release(version(pick("2.4.0", "3.0.0-rc.1", "3.1.0", "4.0.0-rc.1", "4.0.0")))
		rel.Published, rel.Requires = at(), [][]string{nil, {"sso"}, {"ha"}}[r.IntN(3)]
		if r.IntN(2) == 0 {
			rel.Kind = channel.Security
		}
		s, name, running := v.Evaluate(&l, at()), pick("stable", "beta"), pick("2.3.0", "3.0.0", "dev", "")
		d := s.AllowUpdate(name, running, rel)

		require.Equal(t, d.Allowed, len(d.Denials) == 0)
		seen := map[channel.Reason]bool{}
		for _, denial := range d.Denials {
			require.False(t, seen[denial.Code], "a reason is given once")
			seen[denial.Code] = true
			require.NotEmpty(t, denial.Detail)
		}
		if !d.Allowed {
			denied++
			continue
		}
		allowed++
		require.NotEqual(t, license.NotYetValid, s.State)
		require.True(t, name == "stable" || len(l.Channels) == 2)
		require.NotContains(t, rel.Requires, "ha")
		if !rel.IsSecurity() || running == "dev" || running == "" {
			require.False(t, !l.UpdatesUntil.IsZero() && rel.Published.After(l.UpdatesUntil), "published after upd_until")
			require.False(t, s.State == license.Expired && l.UpdatesUntil.IsZero() && !l.LicenseExpires.IsZero() && rel.Published.After(l.LicenseExpires))
			require.False(t, l.Versions == "<3.0.0" && rel.Semver().Major() >= 3)
			require.False(t, l.Versions != "" && rel.Semver().Major() >= 4)
		}
		if rel.IsSecurity() && !l.UpdatesUntil.IsZero() && rel.Published.After(l.UpdatesUntil) {
			owed++
			require.Equal(t, running[:1], rel.Version[:1], "only inside the major version that runs")
			require.False(t, !l.SecurityUntil.IsZero() && rel.Published.After(l.SecurityUntil))
		}
	}
	for _, n := range []int{allowed, owed, denied} {
		require.Greater(t, n, 100)
	}
}
