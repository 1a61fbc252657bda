package license_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/license"
)

func TestCoversRunning(t *testing.T) {
	noUpdateEnd := func(l *license.License) { l.UpdatesUntil = time.Time{} }
	shortToken := func(l *license.License) { l.UpdatesUntil, l.Expires = time.Time{}, date("2026-02-01") }
	none := []channel.Reason{}
	expired := date("2028-06-01")
	for _, c := range []struct {
		name    string
		license func(*license.License)
		at      time.Time
		channel string
		release func(*channel.Release)
		want    []channel.Reason
	}{
		{"valid", nil, now, "stable", nil, none},
		{"expired", nil, expired, "stable", nil, none},
		{"expired, last day", nil, expired, "stable", published("2026-06-30"), none},
		{"published later", nil, now, "stable", published("2026-07-01"), []channel.Reason{channel.ReasonUpdatesExpired}},
		{"expired, published later", nil, expired, "stable", published("2026-07-01"), []channel.Reason{channel.ReasonLicenseExpired}},
		{"in its grace", noUpdateEnd, expired, "stable", published("2027-01-14"), none},
		{"after its grace", noUpdateEnd, expired, "stable", published("2027-01-16"), []channel.Reason{channel.ReasonLicenseExpired}},
		{"token over, licence not", shortToken, expired, "stable", published("2026-12-31"), none},
		{"another major version", nil, now, "stable", version("4.0.0"), []channel.Reason{channel.ReasonVersionOutOfRange}},
		{"channel", nil, now, "beta", nil, []channel.Reason{channel.ReasonChannelNotGranted}},
		{"entitlement", nil, now, "stable", func(r *channel.Release) { r.Requires = []string{"ha"} }, []channel.Reason{channel.ReasonEntitlementMissing}},
		{"security, expired", nil, expired, "stable", both(security, published("2027-12-01")), none},
		{"security, over", nil, expired, "stable", both(security, published("2028-01-02")), []channel.Reason{channel.ReasonLicenseExpired}},
		{"security beyond ver", func(l *license.License) { l.Versions = "<2.4.0" }, now, "stable", security, none},
		{"security of another major", nil, now, "stable", both(security, version("4.0.1")), []channel.Reason{channel.ReasonVersionOutOfRange}},
		{"not yet", nil, date("2025-01-01"), "stable", nil, []channel.Reason{channel.ReasonLicenseNotYetValid}},
		{"wrong machine", bound, now, "stable", security, []channel.Reason{channel.ReasonLicenseWrongMachine}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.license == nil {
				c.license = func(*license.License) {}
			}
			if c.release == nil {
				c.release = func(*channel.Release) {}
			}
			d := verifier(t).Status(issue(t, c.license), c.at).CoversRunning(c.channel, release(c.release))
			require.Equal(t, c.want, codes(d))
			require.Equal(t, len(c.want) == 0, d.Allowed)
		})
	}
	free := release(func(r *channel.Release) { r.Requires = nil })
	require.False(t, license.Status{}.CoversRunning("stable", free).Allowed)
	require.True(t, verifier(t, func(c *license.Config) { c.Open = true }).Status(nil, now).CoversRunning("stable", free).Allowed)
}

// Whatever could be installed while it was published is covered ever after; and the fixes of its major version are not
// withheld from whoever runs a fix.
func TestOnceCoveredAlwaysCovered(t *testing.T) {
	v, base := verifier(t), *parse(t)
	r := rand.New(rand.NewPCG(19, 20))
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	at := func() time.Time { return issued.Add(time.Duration(r.IntN(1000)) * oneDay) }
	orZero := func(t time.Time) time.Time {
		if r.IntN(3) == 0 {
			return time.Time{}
		}
		return t
	}
	installed, byThenExpired, fixes := 0, 0, 0
	for range 20_000 {
		l := base
		l.Expires, l.LicenseExpires, l.UpdatesUntil, l.SecurityUntil = at(), orZero(at()), orZero(at()), orZero(at())
		l.Grace = time.Duration(r.IntN(60)) * oneDay
		l.Versions = pick("", ">=2.0.0 <4.0.0", "<2.4.0", "~2.3", ">2.3.0 <3.0.0", "2.x || =3.1.4")
		rel := release(version(pick("2.3.0", "2.3.9", "2.4.0", "3.0.0-rc.1", "3.1.4", "3.2.0", "4.0.0")))
		rel.Published, rel.Requires = at(), nil
		if r.IntN(3) == 0 {
			rel.Kind = channel.Security
		}
		day := at()
		if day.Before(rel.Published) || !v.Evaluate(&l, day).AllowUpdate("stable", pick("2.3.1", "3.1.4"), rel).Allowed {
			continue
		}
		installed++
		later := v.Evaluate(&l, day.Add(time.Duration(r.IntN(2000))*oneDay))
		if later.State == license.Expired {
			byThenExpired++
		}
		require.True(t, later.CoversRunning("stable", rel).Allowed, "%+v %+v", l, rel)
		if rel.IsSecurity() && (l.SecurityUntil.IsZero() || !rel.Published.After(l.SecurityUntil)) {
			fixes++
			fix := rel
			fix.Version = map[byte]string{'2': "2.99.0", '3': "3.99.0"}[rel.Version[0]]
			require.True(t, later.AllowUpdate("stable", rel.Version, fix).Allowed, "%+v %+v", l, rel)
		}
	}
	for _, n := range []int{installed, byThenExpired, fixes} {
		require.Greater(t, n, 300)
	}
}

func TestLastCovered(t *testing.T) {
	list := []channel.Release{
		release(version("2.2.0"), published("2026-01-10")),
		release(version("3.0.0"), published("2026-06-01")),
		release(version("3.1.0"), published("2026-06-29"), func(r *channel.Release) { r.State, r.Reason = channel.Withdrawn, "broken" }),
		release(version("3.1.1"), published("2026-06-30"), func(r *channel.Release) { r.State = channel.Held }),
		channel.ParseRelease("3.1.2", []byte(`{"fairlead":{"v":1}}`), channel.Blob{}),
		release(version("2.9.0"), published("2026-06-30")),
		release(version("3.2.0"), published("2026-07-15")),
		release(version("3.2.1"), published("2026-08-15"), security),
		release(version("4.0.0"), published("2026-06-20")),
	}
	s := verifier(t).Status(issue(t), now)
	for running, want := range map[string]string{"2.9.0": "3.0.0", "4.0.0": "3.0.0", "dev": "3.0.0", "3.0.0": "3.2.1"} {
		last, found := s.LastCovered("stable", running, list)
		require.True(t, found)
		require.Equal(t, want, last.Version, running)
	}
	_, found := s.LastCovered("beta", "3.0.0", list)
	require.False(t, found)
	_, found = verifier(t).Status(nil, now).LastCovered("stable", "3.0.0", list)
	require.False(t, found)
}
