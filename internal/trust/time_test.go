package trust

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func storedFloors(t *testing.T, dir string) floors {
	data, err := os.ReadFile(filepath.Join(dir, floorsName))
	require.NoError(t, err)
	f, err := parseFloors(data)
	require.NoError(t, err)
	return f
}

// Everything expires at its own time, one second after the last at which it is good.
func TestEverythingExpires(t *testing.T) {
	expire := map[string]func(r *repo, at time.Time){
		roleRoot:       func(r *repo, at time.Time) { r.root.Signed.Expires = at; r.publishRoot() },
		roleTimestamp:  func(r *repo, at time.Time) { r.timestamp.Signed.Expires = at; r.publishTimestamp() },
		roleSnapshot:   func(r *repo, at time.Time) { r.snapshot.Signed.Expires = at; r.publish() },
		roleTargets:    func(r *repo, at time.Time) { r.roles[roleTargets].Signed.Expires = at; r.publish(roleTargets) },
		"notes.stable": func(r *repo, at time.Time) { r.roles["notes.stable"].Signed.Expires = at; r.publish("notes.stable") },
	}
	good := start.Add(time.Hour)
	for role, set := range expire {
		t.Run(role, func(t *testing.T) {
			r := newRepo(t)
			set(r, good)
			dir := t.TempDir()
			c := r.client(dir, nil, func(c *Config) { c.Now = func() time.Time { return r.now } })
			read := func(refresh bool) error {
				do := c.Load
				if refresh {
					do = c.Refresh
				}
				v, err := do(t.Context())
				if err == nil {
					_, err = v.Role(t.Context(), "notes.stable")
				}
				return err
			}
			r.now = good
			require.NoError(t, read(true))
			require.NoError(t, read(false))
			r.now = good.Add(time.Second)
			requireExpired(t, read(true), role) // warm: what is shared is judged anew
			requireExpired(t, read(false), role)
			requireExpired(t, refreshAll(r, dir, nil), role)
			requireExpired(t, refreshAll(r, t.TempDir(), nil), role)
		})
	}
}

func TestExpiredNewsLeavesNoTrace(t *testing.T) {
	r := newRepo(t)
	dir := t.TempDir()
	r.mustRefresh(dir, nil)
	before := treeHash(t, dir)
	r.timestamp.Signed.Expires = start.Add(-day)
	r.publish()
	_, err := r.refresh(dir, nil)
	requireExpired(t, err, roleTimestamp)
	require.Equal(t, before, treeHash(t, dir))
}

// Rule 8: stale, within a limit, is not expired; but only for timestamp and snapshot.
func TestBoundedStaleness(t *testing.T) {
	r := newRepo(t)
	r.snapshot.Signed.Expires = start.Add(8 * day)
	r.publish()
	dir := t.TempDir()
	allow := func(c *Config) { c.MaxStaleness = 90 * day }
	v := r.mustRefresh(dir, nil, allow)
	require.Zero(t, v.Staleness())

	limit := start.Add((7 + 90) * day)
	for _, fresh := range []bool{true, false} {
		c := r.client(dir, nil, allow, at(limit))
		if fresh {
			c = r.client(t.TempDir(), nil, allow, at(limit))
		}
		v, err := c.Refresh(t.Context())
		require.NoError(t, err)
		require.Equal(t, 90*day, v.Staleness())
		require.Equal(t, limit, v.Time())
		_, err = v.Role(t.Context(), "notes.stable")
		require.NoError(t, err)
	}
	_, err := r.client(dir, nil, allow, at(limit)).Load(t.Context())
	require.NoError(t, err)
	_, err = r.refresh(dir, nil, allow, at(limit.Add(time.Second)))
	requireExpired(t, err, roleTimestamp)
	_, err = r.refresh(t.TempDir(), nil, at(start.Add(7*day+time.Second)))
	requireExpired(t, err, roleTimestamp)

	// The others are judged at the real time.
	r.roles["notes.stable"].Signed.Expires = start.Add(20 * day)
	r.publish("notes.stable")
	v = r.mustRefresh(t.TempDir(), nil, allow, at(start.Add(21*day)))
	_, err = v.Role(t.Context(), "notes.stable")
	requireExpired(t, err, "notes.stable")
	_, err = v.Role(t.Context(), "notes.beta")
	require.NoError(t, err)
	r.roles[roleTargets].Signed.Expires = start.Add(20 * day)
	r.publish(roleTargets)
	_, err = r.refresh(t.TempDir(), nil, allow, at(start.Add(21*day)))
	requireExpired(t, err, roleTargets)
	r.root.Signed.Expires = start.Add(20 * day)
	r.publishRoot()
	_, err = r.refresh(t.TempDir(), nil, allow, at(start.Add(21*day)))
	requireExpired(t, err, roleRoot)

	// A snapshot that had expired before its timestamp did is no good at any time.
	r = newRepo(t)
	r.snapshot.Signed.Expires = start.Add(6 * day)
	r.publish()
	_, err = r.refresh(t.TempDir(), nil, allow, at(start.Add(21*day)))
	requireExpired(t, err, roleSnapshot)
}

func TestStalenessDoesNotWeakenTheFloors(t *testing.T) {
	r := newRepo(t)
	dir := t.TempDir()
	old := FS(mapFS(r.copyFiles()))
	r.publish()
	r.mustRefresh(dir, nil)
	_, err := r.refresh(dir, old, func(c *Config) { c.MaxStaleness = 1000 * day }, at(start.Add(100*day)))
	requireRollback(t, err, roleTimestamp)
}

// Rule 9: a clock that was set back does not bring expired metadata back to life.
func TestTimeHasFloors(t *testing.T) {
	reset := time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	t.Run("build time", func(t *testing.T) {
		r := newRepo(t)
		v := r.mustRefresh(t.TempDir(), nil, at(reset), func(c *Config) { c.BuildTime = start.Add(day) })
		require.Equal(t, start.Add(day), v.Time())
		_, err := r.refresh(t.TempDir(), nil, at(reset), func(c *Config) { c.BuildTime = start.Add(8 * day) })
		requireExpired(t, err, roleTimestamp)
	})
	t.Run("signing time", func(t *testing.T) {
		r := newRepo(t)
		dir := t.TempDir()
		v := r.mustRefresh(dir, nil, at(reset))
		require.Equal(t, start, v.Time())
		r.roles["notes.stable"].Signed.Expires = start.Add(-time.Second)
		r.publish("notes.stable")
		_, err := r.mustRefresh(dir, nil, at(reset)).Role(t.Context(), "notes.stable")
		requireExpired(t, err, "notes.stable")
	})
	t.Run("last seen time", func(t *testing.T) {
		r := newRepo(t)
		dir := t.TempDir()
		r.mustRefresh(dir, nil, at(start.Add(5*day)))
		require.Equal(t, start.Add(5*day), r.mustRefresh(dir, nil, at(reset)).Time())
		v, err := r.client(dir, nil, at(reset)).Load(t.Context())
		require.NoError(t, err)
		require.Equal(t, start.Add(5*day), v.Time())
	})
	t.Run("malformed signing time", func(t *testing.T) {
		for _, signed := range []any{"yesterday", 7, map[string]any{}, "2026-13-01T00:00:00Z"} {
			r := newRepo(t)
			r.timestamp.Signed.UnrecognizedFields = map[string]any{"fairlead": map[string]any{"signed": signed}}
			r.put("metadata/timestamp.json", sign(t, r.timestamp, r.keys[roleTimestamp]...))
			require.Equal(t, reset, r.mustRefresh(t.TempDir(), nil, at(reset)).Time())
		}
	})
	t.Run("signing time beyond the expiry", func(t *testing.T) {
		r := newRepo(t)
		r.now = start.Add(1000 * day)
		r.publishTimestamp()
		v := r.mustRefresh(t.TempDir(), nil, at(start))
		require.Equal(t, start.Add(7*day), v.Time())
	})
}

// A clock that runs wild must not be remembered beyond what the timestamp allowed.
func TestWildClockDoesNotPoisonTheStore(t *testing.T) {
	r := newRepo(t)
	dir := t.TempDir()
	r.mustRefresh(dir, nil)
	before := treeHash(t, dir)
	_, err := r.refresh(dir, nil, at(start.Add(365*20*day)))
	requireExpired(t, err, roleRoot)
	require.Equal(t, before, treeHash(t, dir))

	r.mustRefresh(dir, nil, at(start.Add(7*day)))
	require.Equal(t, start.Add(7*day), storedFloors(t, dir).Seen)
	// Back at the right time, the next timestamp is as good as ever.
	r.now = start.Add(day)
	r.timestamp.Signed.Expires = start.Add(8 * day)
	r.publishTimestamp()
	require.Equal(t, start.Add(7*day), r.mustRefresh(dir, nil).Time())
}

func TestSeenTimeIsNotWorthAWriteWithinTheHour(t *testing.T) {
	r := newRepo(t)
	dir := t.TempDir()
	r.mustRefresh(dir, nil)
	before := treeHash(t, dir)
	r.mustRefresh(dir, nil, at(start.Add(time.Hour-time.Second)))
	require.Equal(t, before, treeHash(t, dir))
	r.mustRefresh(dir, nil, at(start.Add(time.Hour)))
	require.NotEqual(t, before, treeHash(t, dir))
	require.Equal(t, start.Add(time.Hour), storedFloors(t, dir).Seen)
}

// A thief of the timestamp key dates a timestamp decades ahead. New keys undo that too.
func TestNewTimestampKeyFreesTheClock(t *testing.T) {
	r := newRepo(t)
	dir := t.TempDir()
	r.now = start.Add(100 * day)
	r.timestamp.Signed.Expires = start.Add(9000 * day)
	r.publishTimestamp()
	require.Equal(t, start.Add(100*day), r.mustRefresh(dir, nil, at(start)).Time())
	r.now = start
	r.rotate(roleTimestamp)
	r.publishRoot()
	r.timestamp.Signed.Version, r.timestamp.Signed.Expires = 0, start.Add(7*day)
	r.publishTimestamp()
	require.Equal(t, start, r.mustRefresh(dir, nil).Time())
}
