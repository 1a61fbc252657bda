package license_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/license"
)

// A year of a licence, by a clock that runs: what a banner is told, and when. The clock of such a test starts on 2000-01-01.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		end := start.Add(40 * oneDay)
		path := filepath.Join(t.TempDir(), "acme.license")
		terms := func(seq int64, end time.Time) []byte {
			return numbered(t, seq, func(l *license.License) {
				l.IssuedAt, l.NotBefore, l.Expires, l.LicenseExpires, l.Grace = start, start, end, end, 2*oneDay
			})
		}
		s := open(t, from(license.File(path)), dir(""), func(c *license.StoreConfig) { c.Now = nil })
		ctx, cancel := context.WithCancel(t.Context())
		watch := s.Watch(ctx)
		var got []string
		read := func() {
			synctest.Wait()
			for {
				select {
				case status, ok := <-watch:
					if !ok {
						return
					}
					got = append(got, fmt.Sprintf("%v %s %d", time.Since(start), status.State, status.EndsWithin()))
					synctest.Wait()
				default:
					return
				}
			}
		}
		expect := func(want ...string) {
			t.Helper()
			read()
			require.Equal(t, want, got)
			got = nil
		}
		expect("0s missing 0")
		require.NoError(t, os.WriteFile(path, terms(1, end), 0o600))
		time.Sleep(time.Minute)
		expect("1m0s valid 0")
		for time.Now().Before(start.Add(43 * oneDay)) { // the receiver looks once an hour
			time.Sleep(time.Hour - time.Since(start)%time.Hour)
			read()
		}
		day := func(n int, rest string) string { return fmt.Sprintf("%v %s", time.Duration(n)*oneDay, rest) }
		later := func(n int, rest string) string { return fmt.Sprintf("%v %s", time.Duration(n)*oneDay+time.Hour, rest) }
		require.Equal(t, []string{later(10, "expiring_soon 30"), later(26, "expiring_soon 14"), later(33, "expiring_soon 7"),
			later(39, "expiring_soon 1"), day(40, "grace 7"), later(41, "grace 1"), day(42, "expired 0")}, got)
		got = nil

		_, err := s.Install(t.Context(), terms(2, start.Add(400*oneDay)))
		require.NoError(t, err)
		expect(day(43, "valid 0"))
		require.NoError(t, s.Remove(t.Context()))
		expect(day(43, "expired 0"))
		_, err = s.Install(t.Context(), terms(3, start.Add(400*oneDay)))
		require.NoError(t, err)
		expect(day(43, "valid 0"))
		_, err = s.Install(t.Context(), terms(4, start.Add(300*oneDay)))
		require.NoError(t, err)
		expect(day(43, "valid 0")) // another token
		s.UseLists(&listSource{&license.Lists{Revocations: &license.Revocations{Number: 1, Licenses: map[string]int64{"lic_42": 9}}}})
		expect(day(43, "revoked 0"))
		time.Sleep(10 * time.Minute)
		expect()

		// Only the latest is kept for who does not read.
		require.NoError(t, s.Remove(t.Context()))
		synctest.Wait()
		_, err = s.Install(t.Context(), issue(t, lid("other"), func(l *license.License) {
			l.IssuedAt, l.NotBefore, l.Expires, l.LicenseExpires = start, start, start.Add(400*oneDay), time.Time{}
		}))
		require.NoError(t, err)
		synctest.Wait()
		status := <-watch
		require.Equal(t, "jti-other", status.License.ID)
		require.Equal(t, license.Valid, status.State)

		cancel()
		synctest.Wait() // and the bubble fails if a goroutine is left
		_, open := <-watch
		require.False(t, open)
	})
}

// Has by the clock of the system, which is not asked each time: it still ends in time.
func TestHasByTheSystemClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		end := start.Add(100 * time.Second)
		s := open(t, func(c *license.StoreConfig) { c.Now = nil }, from(license.Token("t", issue(t, func(l *license.License) {
			l.IssuedAt, l.NotBefore, l.Expires, l.LicenseExpires, l.Grace = start, start, end, end, 0
		}))))
		for time.Now().Before(end) {
			require.True(t, s.Has("sso"))
			time.Sleep(500 * time.Millisecond)
		}
		require.False(t, s.Has("sso"))
	})
}
