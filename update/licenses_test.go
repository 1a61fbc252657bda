package update_test

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/license"
	"github.com/fairlead-dev/fairlead/tufrepo"
	"github.com/fairlead-dev/fairlead/update"
)

var _ license.ListSource = (*update.Updater)(nil)

// clocks are what an installation without a network may have.
var clocks = map[string]time.Time{
	"1970": time.Unix(0, 0).UTC(), "now": start.Add(time.Hour), "two years later": start.AddDate(2, 0, 0), "2100": start.AddDate(74, 0, 0),
}

// A vendor changes the key that issues licences: no new build of the app is needed, and no network afterwards.
func TestIssuerKeyRotates(t *testing.T) {
	l := newLicensor(t)
	l.newKey("2027")
	c := l.customer(l.token("2027"))
	u := c.process()
	require.NoDirExists(t, update.Dir(u), "New touches nothing")
	d := check(t, u)
	require.Equal(t, update.Withheld, d.Outcome)
	require.ErrorIs(t, d.License.Err, license.ErrUnknownKey)

	l.publishKeys(license.Key{ID: "2026"}, license.Key{ID: "2027"})
	d = check(t, u)
	require.Equal(t, update.Available, d.Outcome, d.String())
	require.Equal(t, license.Valid, d.License.State)
	for name, now := range clocks {
		u = c.offline()
		c.now = now
		require.Equal(t, license.Valid, c.state(), name)
		require.NotNil(t, u.Lists(t.Context()).Keys)
	}

	// The old key is retired: what it issued before counts, what it issues later does not.
	c.now = start.Add(time.Hour)
	retired := start.Add(48 * time.Hour)
	l.publishKeys(license.Key{ID: "2026", Retired: retired}, license.Key{ID: "2027"})
	for _, iat := range []time.Time{retired.Add(-time.Second), retired} {
		require.NoError(t, os.WriteFile(c.file, l.token("2026", func(t *license.License) { t.IssuedAt = iat }), 0o600))
		c.now = retired.Add(time.Hour)
		for _, u := range []*update.Updater{c.process(), c.offline()} {
			_, _ = u.Check(t.Context())
			s := c.store.Status(t.Context(), c.now)
			if iat.Before(retired) {
				require.Equal(t, license.Valid, s.State)
			} else {
				require.ErrorIs(t, s.Err, license.ErrKeyPeriod)
			}
		}
	}
}

// A licence is taken back: at the next check nothing newer is offered, the app runs on, and stays without a network what
// it is, whatever the clock shows. A renewed licence counts at once.
func TestRevocation(t *testing.T) {
	base := newLicensor(t)
	base.newKey("2027")
	base.publishKeys(license.Key{ID: "2026"})
	base.revoke(license.Revocations{Number: 1, Tokens: []string{"token-9"}})
	for name, r := range map[string]license.Revocations{
		"by jti": {Number: 1, Tokens: []string{"token-1"}},
		"by seq": {Number: 1, Licenses: map[string]int64{"L1": 2}},
		"by key": {Number: 1, Keys: map[string]time.Time{"2026": start}},
	} {
		t.Run(name, func(t *testing.T) {
			l := base.elsewhere(t)
			c := l.customer(l.token("2026"))
			u := c.start()
			d := check(t, u)
			require.Equal(t, update.Available, d.Outcome, d.String())
			require.Empty(t, d.NotCovered)
			require.Nil(t, d.LastCovered)

			r.Number = 2
			l.revoke(r)
			l.put("keyring.json", l.ring(license.Key{ID: "2026"}, license.Key{ID: "2027"}))
			d = check(t, u)
			require.Equal(t, update.Withheld, d.Outcome)
			require.Equal(t, license.Revoked, d.License.State)
			require.Equal(t, channel.ReasonLicenseRevoked, d.Plan.NotAllowed.Code)
			require.Equal(t, channel.ReasonLicenseRevoked, d.NotCovered[0].Code)
			require.Contains(t, d.String(), "the licence does not cover the running version (license_revoked), which runs on")
			require.Equal(t, "1.0.0", c.version())
			require.Equal(t, "1.0.0", func() string { c.start(); return c.version() }(), "the app starts as ever")

			for clock, now := range clocks {
				c.offline()
				c.now = now
				require.Equal(t, license.Revoked, c.state(), clock)
			}
			c.now = start.Add(time.Hour)
			renewed := l.token("2027", func(t *license.License) { t.Seq, t.ID = 2, "token-2" })
			require.NoError(t, os.WriteFile(c.file, renewed, 0o600))
			require.Equal(t, update.Available, check(t, c.start()).Outcome)
		})
	}
}

// A check says which version the licence still includes.
func TestLastCovered(t *testing.T) {
	l := newLicensor(t)
	l.now = start.Add(30 * 24 * time.Hour)
	l.release("1.2.0", program("1.2.0"))
	c := l.customer(l.token("2026", func(t *license.License) { t.UpdatesUntil = start.Add(24 * time.Hour) }))
	require.NoError(t, os.WriteFile(c.program, program("1.1.0"), 0o755))
	d := check(t, c.start())
	require.Equal(t, update.Withheld, d.Outcome)
	require.Equal(t, "1.1.0", d.LastCovered.Version)
	require.Empty(t, d.NotCovered)
	require.Contains(t, d.String(), "the highest version that the licence includes is 1.1.0")

	require.NoError(t, os.WriteFile(c.program, program("1.2.0"), 0o755)) // installed by hand
	d = check(t, c.start())
	require.Equal(t, update.UpToDate, d.Outcome)
	require.Equal(t, channel.ReasonUpdatesExpired, d.NotCovered[0].Code)
	require.Nil(t, d.LastCovered)
}

// The unchanged check takes the two requests that it always took, and what has changed is asked for once.
func TestListsCostNoRequests(t *testing.T) {
	l := newLicensor(t)
	l.publishKeys(license.Key{ID: "2026"})
	l.revoke(license.Revocations{Number: 1})
	c := l.customer(l.token("2026"), func(cfg *update.Config) { cfg.Version = "1.1.0" })
	u := c.process()
	check(t, u)
	require.Equal(t, 8, len(l.site.requests()), "root, timestamp, snapshot, targets, channel; role license, its two files")
	unchanged := []string{"2.root.json", "timestamp.json"}
	for range 2 {
		check(t, u)
		require.Equal(t, unchanged, l.site.requests(), "running")
		check(t, c.process())
		require.Equal(t, unchanged, l.site.requests(), "fresh")
	}
	l.revoke(license.Revocations{Number: 2})
	check(t, u)
	got := l.site.requests()
	require.Len(t, got, 5, "%v", got)
	require.Contains(t, strings.Join(got, " "), ".revocations.json")
	check(t, c.process())
	require.Equal(t, unchanged, l.site.requests())

	// A release is no news for the lists, and the other way around; a role that was only signed anew costs itself.
	l.release("1.2.0", program("1.2.0"))
	check(t, u)
	for _, name := range l.site.requests() {
		require.NotContains(t, name, "revocations")
		require.NotContains(t, name, "license.json")
	}
	l.edit(func(r *tufrepo.Repo) error {
		return r.SetPolicy("license", tufrepo.Policy{Period: 90 * 24 * time.Hour, Margin: time.Hour})
	})
	check(t, u)
	again := strings.Join(l.site.requests(), " ")
	require.Contains(t, again, "license.json")
	require.NotContains(t, again, "revocations")
	require.NotContains(t, again, "keyring")
}

// The lists stay the same thing while nothing changes, and know the newest time that was signed.
func TestListsAreStable(t *testing.T) {
	l := newLicensor(t)
	c := l.customer(l.token("2026"))
	u := c.process()
	require.Nil(t, u.Lists(t.Context()))
	check(t, u)
	first := u.Lists(t.Context())
	require.Equal(t, []string{
		"license/revocations.json is not in the vendor's repository: no licence is known to be revoked",
	}, first.Warnings)
	require.Nil(t, first.Keys)
	require.Equal(t, start, first.Time)
	check(t, u)
	require.Same(t, first, u.Lists(t.Context()))
	require.Equal(t, 1, strings.Count(c.log.String(), "no licence is known to be revoked"), "told once")

	l.publishKeys(license.Key{ID: "2026"})
	l.revoke(license.Revocations{Number: 1})
	check(t, u)
	second := u.Lists(t.Context())
	require.NotSame(t, first, second)
	require.Empty(t, second.Warnings)
	require.EqualValues(t, 1, second.Revocations.Number)
	require.Len(t, second.Keys.Keys(), 1)
	for range 3 {
		check(t, u)
		require.Same(t, second, u.Lists(t.Context()))
	}
	// The day's new timestamp is news of the time alone.
	l.now = start.Add(24 * time.Hour)
	l.edit(func(r *tufrepo.Repo) error { r.Refresh(l.signers()...); return nil })
	c.now = l.now
	check(t, u)
	third := u.Lists(t.Context())
	require.Equal(t, l.now, third.Time)
	require.Same(t, second.Keys, third.Keys)
	c.now = time.Unix(0, 0)
	c.offline()
	require.Equal(t, license.Valid, c.state())
	require.Equal(t, l.now, c.store.Status(t.Context(), c.now).At, "the licence's clock has its floor from it")
}

// Without the role the vendor does not use it: nobody is warned.
func TestNoRoleNoWarning(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	u := newMachine(t, v, "1.0.0").start()
	check(t, u)
	lists := u.Lists(t.Context())
	require.Equal(t, &license.Lists{Time: start}, lists)
	check(t, u)
	require.Same(t, lists, u.Lists(t.Context()))
}

// Whatever a mirror, the vendor or a user does to make a list go away, the last known one stays in force: in this process
// and after a restart without a network.
func TestRemovalAttempts(t *testing.T) {
	base := newLicensor(t, func(_ *vendor, c *tufrepo.CreateConfig) {
		c.Policies = map[string]tufrepo.Policy{"license": {Period: 48 * time.Hour, Margin: time.Hour}}
	})
	base.publishKeys(license.Key{ID: "2026"})
	base.revoke(license.Revocations{Number: 1})
	old := treeAsItIs(t, base.dir)
	base.revoke(license.Revocations{Number: 2, Tokens: []string{"token-1"}})
	evil := []byte(`{"v":1,"num":9}`)
	for name, c := range map[string]struct {
		attempt func(l *licensor, c *customer)
		fails   bool   // the check; then the lists have no say in it
		warning string // of the lists
		later   string // of the lists, without a network and whatever the clock shows
	}{
		"the mirror shows an old state": {attempt: func(l *licensor, _ *customer) { l.site.show(old) }, fails: true},
		"the mirror shows the old role": {attempt: func(l *licensor, _ *customer) {
			l.revoke(license.Revocations{Number: 3})
			l.site.answer(func(w http.ResponseWriter, name string) bool {
				if !strings.HasSuffix(name, ".license.json") {
					return false
				}
				data, err := os.ReadFile(filepath.Join(old, "metadata", "2.license.json"))
				require.NoError(l.t, err)
				_, _ = w.Write(data)
				return true
			})
		}, warning: "license/revocations.json cannot be looked up in the vendor's repository"},
		"the mirror has no role": {attempt: func(l *licensor, _ *customer) {
			l.revoke(license.Revocations{Number: 3})
			l.site.answer(missing(".license.json"))
		}, warning: "license/revocations.json cannot be looked up in the vendor's repository"},
		"the mirror has no list": {attempt: func(l *licensor, _ *customer) {
			l.revoke(license.Revocations{Number: 3})
			l.site.answer(missing(".revocations.json"))
		}, warning: "license/revocations.json could not be fetched: "},
		"the mirror has another list": {attempt: func(l *licensor, _ *customer) {
			l.revoke(license.Revocations{Number: 3})
			l.site.answer(func(w http.ResponseWriter, name string) bool {
				if !strings.HasSuffix(name, ".revocations.json") {
					return false
				}
				_, _ = w.Write(evil)
				return true
			})
		}, warning: "license/revocations.json could not be fetched: "},
		"the mirror never ends": {attempt: func(l *licensor, _ *customer) {
			l.revoke(license.Revocations{Number: 3})
			l.site.answer(func(w http.ResponseWriter, name string) bool {
				if !strings.HasSuffix(name, ".revocations.json") {
					return false
				}
				for _, err := w.Write(evil); err == nil; _, err = w.Write(make([]byte, 1<<16)) {
				}
				return true
			})
		}, warning: "license/revocations.json could not be fetched: "},
		"the vendor lists it no longer": {attempt: func(l *licensor, _ *customer) {
			l.forge(func(s *metadata.TargetsType) { delete(s.Targets, "license/revocations.json") })
		}, warning: "license/revocations.json is not in the vendor's repository: the last one that is known stays in force"},
		"the vendor goes back": {attempt: func(l *licensor, _ *customer) {
			l.forge(func(s *metadata.TargetsType) {
				s.Targets["license/revocations.json"] = l.listed("revocations.json", []byte(`{"v":1,"num":1}`))
			})
		}, warning: "license/revocations.json cannot be used as it is published: it goes back from number 2 to 1: the last one"},
		"the vendor has a newer format": {attempt: func(l *licensor, _ *customer) {
			l.put("revocations.json", []byte(`{"v":2,"num":9}`))
		}, warning: "license/revocations.json cannot be used as it is published: license: the list of revocations has format version 2"},
		"the vendor has published rubbish": {attempt: func(l *licensor, _ *customer) {
			l.put("revocations.json", []byte(`{"v":1,"num":9,"jti":"all"}`))
		}, warning: "license/revocations.json cannot be used as it is published"},
		"the vendor has published too much": {attempt: func(l *licensor, _ *customer) {
			l.forge(func(s *metadata.TargetsType) {
				s.Targets["license/revocations.json"] = l.listed("revocations.json", append([]byte(`{"v":1,"num":9}`), bytes.Repeat([]byte(" "), 1<<20)...))
			})
		}, warning: "license/revocations.json could not be fetched: "},
		"the role expires": {attempt: func(l *licensor, c *customer) {
			l.now = start.Add(100 * time.Hour)
			c.now = l.now
			l.edit(func(r *tufrepo.Repo) error { r.Refresh(l.signer); return nil }) // all but the role
		}, warning: "license/revocations.json cannot be looked up in the vendor's repository: trust: license expired at 2026-11-03T12:00:00Z",
			later: "license/revocations.json was to be signed anew by 2026-11-03T12:00:00Z"}, // the repository has proved that it is later
	} {
		t.Run(name, func(t *testing.T) {
			l := base.elsewhere(t)
			cu := l.customer(l.token("2026"))
			u := cu.process()
			require.Equal(t, license.Revoked, check(t, u).License.State)

			c.attempt(l, cu)
			for range 2 {
				d, err := u.Check(t.Context())
				if c.fails {
					var rollback *update.RollbackError
					require.ErrorAs(t, err, &rollback)
				} else {
					require.NoError(t, err)
					require.Equal(t, license.Revoked, d.License.State)
					require.Equal(t, update.Withheld, d.Outcome)
					require.Contains(t, strings.Join(u.Lists(t.Context()).Warnings, "\n"), c.warning)
				}
				require.Equal(t, license.Revoked, cu.state(), "this process")
				require.EqualValues(t, 2, u.Lists(t.Context()).Revocations.Number)
			}
			for clock, now := range clocks {
				u := cu.offline()
				cu.now = now
				require.Equal(t, license.Revoked, cu.state(), clock)
				require.Contains(t, strings.Join(u.Lists(t.Context()).Warnings, "\n"), c.later)
			}

			// The next honest check succeeds, in the same process and in a fresh one.
			cu.now = l.now.Add(time.Hour)
			l.site.answer(nil)
			l.site.show(l.dir)
			l.edit(func(r *tufrepo.Repo) error { r.Refresh(l.signers()...); return nil })
			l.put("revocations.json", &license.Revocations{Number: 10})
			for _, u := range []*update.Updater{u, cu.process()} {
				check(t, u)
				require.Empty(t, u.Lists(t.Context()).Warnings)
				require.EqualValues(t, 10, u.Lists(t.Context()).Revocations.Number)
				require.Equal(t, license.Valid, cu.state())
			}
		})
	}
}

// What cannot be used is fetched once, not at every check; what could not be had is asked for again, until it is there.
func TestUnusableListIsFetchedOnce(t *testing.T) {
	l := newLicensor(t)
	l.put("revocations.json", []byte(`{"v":2,"num":9}`))
	l.publishKeys(license.Key{ID: "2026"})
	l.site.answer(missing(".keyring.json"))
	c := l.customer(l.token("2026"))
	u := c.process()
	require.Equal(t, license.Valid, check(t, u).License.State, "fails open")
	warnings := u.Lists(t.Context()).Warnings
	require.Contains(t, warnings[0], "license/keyring.json could not be fetched")
	require.Contains(t, warnings[1], "update the app first: no licence is known to be revoked")
	l.site.requests()
	for range 3 {
		check(t, u)
		require.Equal(t, warnings, u.Lists(t.Context()).Warnings)
		asked := strings.Join(l.site.requests(), " ")
		require.NotContains(t, asked, "revocations")
		require.Contains(t, asked, "keyring")
	}
	l.site.answer(nil)
	check(t, u)
	lists := u.Lists(t.Context())
	require.NotNil(t, lists.Keys)
	require.Equal(t, warnings[1:], lists.Warnings)
}

// A check that was overtaken by a later one does not put older lists in the place of newer ones.
func TestOvertakenCheck(t *testing.T) {
	l := newLicensor(t)
	l.revoke(license.Revocations{Number: 1})
	c := l.customer(l.token("2026"))
	u := c.process()
	reached, goOn := make(chan struct{}), make(chan struct{})
	var asked atomic.Int32
	l.site.answer(func(_ http.ResponseWriter, name string) bool {
		if strings.HasSuffix(name, ".revocations.json") && asked.Add(1) == 1 {
			close(reached)
			<-goOn
		}
		return false
	})
	slow := make(chan error)
	go func() { _, err := u.Check(t.Context()); slow <- err }()
	<-reached
	l.revoke(license.Revocations{Number: 2})
	check(t, u)
	require.EqualValues(t, 2, u.Lists(t.Context()).Revocations.Number)
	close(goOn)
	require.NoError(t, <-slow)
	require.EqualValues(t, 2, u.Lists(t.Context()).Revocations.Number)
	require.EqualValues(t, 2, c.offline().Lists(t.Context()).Revocations.Number)
}
