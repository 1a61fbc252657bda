package license

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Whatever a clock has said: a clock that goes right for eight days, with a look each day, is believed; and one that is
// proven wrong changes nothing.
func TestMemoryProperties(t *testing.T) {
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	r := rand.New(rand.NewPCG(11, 12))
	day := 24 * time.Hour
	misled, ahead := 0, 0
	for range 5000 {
		var m memory
		proven := start.Add(-time.Duration(r.IntN(400)) * day)
		for range r.IntN(30) {
			at := start.Add(time.Duration(r.IntN(2000)-1000) * day / 2)
			for range r.IntN(4) {
				before := m
				m = m.observe(at, proven)
				require.False(t, at.Before(proven.Add(-day)) && m != before, "a clock that is proven wrong")
				if m.Seen > before.Seen && before.Seen != 0 {
					ahead++
				}
				at = at.Add(time.Duration(r.IntN(48)) * time.Hour)
			}
		}
		if m.seen().After(start.Add(day)) {
			misled++
		}
		at := start
		for range 9 {
			m = m.observe(at, proven)
			at = at.Add(day)
		}
		j := judgeClock(at, floor{at: proven}, m)
		require.Equal(t, at, j.at, "%+v", m)
	}
	require.Greater(t, misled, 500)
	require.Greater(t, ahead, 500)
}

// A clock that goes on, in steps of any length up to a week, is followed at once.
func TestMemoryFollows(t *testing.T) {
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	m := memory{Seen: at.Unix()}
	for i := range 200 {
		at = at.Add(time.Duration(i) * time.Hour * 168 / 200)
		m = m.observe(at, time.Time{})
		require.Equal(t, at, m.seen())
	}
	far := at.AddDate(150, 0, 0)
	require.Equal(t, m, m.observe(far.AddDate(100, 0, 0), time.Time{}), "a year that no licence knows")
	m = m.observe(far, time.Time{})
	require.Equal(t, at, m.seen())
	// What a wrong clock has begun does not keep a right one, after a long time switched off, from being followed.
	m = m.observe(at.AddDate(0, 1, 0), time.Time{})
	m = m.observe(at.AddDate(0, 1, 1), time.Time{})
	require.Equal(t, at.AddDate(0, 1, 1), m.seen())
}

func TestParseMemory(t *testing.T) {
	for _, bad := range []string{"", "{", "[]", "null x", `{"seen":"x"}`, `{"seen":1}`, `{"seen":-5}`, `{"ahead":99999999999}`, `{"behind":1e300}`, `{"proven":7258118400}`} {
		m, err := parseMemory([]byte(bad))
		require.Error(t, err, bad)
		require.Zero(t, m)
	}
	m, err := parseMemory([]byte(`{"seen":1772323200,"later":"x"}`))
	require.NoError(t, err)
	require.Equal(t, memory{Seen: 1772323200}, m)
}
