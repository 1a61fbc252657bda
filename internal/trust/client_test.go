package trust

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRefreshReadsAllOfARepository(t *testing.T) {
	for _, kind := range []string{"http", "fs"} {
		t.Run(kind, func(t *testing.T) {
			r := newRepo(t)
			r.release("notes.stable", "stable", "1.0.0")
			r.release("notes.stable", "stable", "1.1.0")
			r.publish("notes.stable")
			src := FS(mapFS(r.copyFiles()))
			if kind == "http" {
				src = r.serve().source(t)
			}
			c := r.client(t.TempDir(), src)

			v, err := c.Refresh(t.Context())
			require.NoError(t, err)
			list, err := v.Role(t.Context(), "notes.stable")
			require.NoError(t, err)
			require.Len(t, list, 2)
			require.Equal(t, "notes/stable/1.0.0/release.json", list[0].Path)
			require.Equal(t, "notes.stable", list[0].Role)
			require.Contains(t, string(list[0].Custom), `"version":"1.0.0"`)

			found, err := v.Find(t.Context(), "notes/stable/1.1.0/release.json")
			require.NoError(t, err)
			require.Equal(t, list[1], found)
			data, err := v.Fetch(t.Context(), found, 1<<20)
			require.NoError(t, err)
			require.JSONEq(t, `{"manifest of":"stable 1.1.0"}`, string(data))

			require.Equal(t, map[string]int64{"root": 1, "timestamp": 2, "snapshot": 2, "targets": 1, "notes.stable": 2}, v.Versions())
			require.Zero(t, v.Staleness())
			require.Equal(t, start, v.Time())
			require.Equal(t, start.Add(7*day), v.Expires())

			_, err = v.Role(t.Context(), "notes.none")
			require.ErrorIs(t, err, ErrNotFound)
			_, err = v.Find(t.Context(), "notes/stable/9.9.9/release.json")
			require.ErrorIs(t, err, ErrNotFound)
		})
	}
}

func TestUnchangedCheckIsTwoRequests(t *testing.T) {
	r := newRepo(t)
	r.release("notes.stable", "stable", "1.0.0")
	r.publish("notes.stable")
	srv, dir := r.serve(), t.TempDir()
	c := r.client(dir, srv.source(t))
	v, err := c.Refresh(t.Context())
	require.NoError(t, err)
	_, err = v.Role(t.Context(), "notes.stable")
	require.NoError(t, err)
	require.Len(t, srv.asked(), 5, "root probe, timestamp, snapshot, targets, notes.stable")
	before := treeHash(t, dir)

	for name, c := range map[string]*Client{"warm": c, "cold": r.client(dir, srv.source(t))} {
		srv.bytes = 0
		v, err := c.Refresh(t.Context())
		require.NoError(t, err, name)
		list, err := v.Role(t.Context(), "notes.stable")
		require.NoError(t, err, name)
		require.Len(t, list, 1, name)
		require.Equal(t, []string{"metadata/2.root.json", "metadata/timestamp.json"}, srv.asked(), name)
		require.Less(t, srv.bytes, int64(1000), name)
		require.Equal(t, before, treeHash(t, dir), "%s: nothing is written", name)
	}
}

func TestUnchangedCheckAsksForBothAtOnce(t *testing.T) {
	r := newRepo(t)
	srv, dir := r.serve(), t.TempDir()
	r.mustRefresh(dir, srv.source(t))
	var here sync.WaitGroup
	here.Add(2)
	srv.intercept(func(http.ResponseWriter, *http.Request) bool {
		here.Done()
		here.Wait() // for ever, if the other one is only asked after this one's answer
		return false
	})
	r.mustRefresh(dir, srv.source(t))
}

func TestLoadNeedsNoSource(t *testing.T) {
	r := newRepo(t)
	r.release("notes.stable", "stable", "1.0.0")
	r.publish("notes.stable")
	dir := t.TempDir()
	v := r.mustRefresh(dir, nil)
	want, err := v.Role(t.Context(), "notes.stable")
	require.NoError(t, err)

	silent := sourceFunc(nil) // panics if it is ever asked
	before := treeHash(t, dir)
	v, err = r.client(dir, silent).Load(t.Context())
	require.NoError(t, err)
	got, err := v.Role(t.Context(), "notes.stable")
	require.NoError(t, err)
	require.Equal(t, want, got)
	_, err = v.Role(t.Context(), "notes.beta")
	require.ErrorIs(t, err, ErrNotStored, "nobody has read it yet")
	_, err = v.Fetch(t.Context(), got[0], 1000)
	require.ErrorIs(t, err, ErrNotStored)
	require.Equal(t, before, treeHash(t, dir))

	_, err = r.client(t.TempDir(), silent).Load(t.Context())
	require.ErrorIs(t, err, ErrNotStored)
	_, err = r.client(dir+"/none", silent).Load(t.Context())
	require.ErrorIs(t, err, ErrNotStored)
	require.NoDirExists(t, dir+"/none")

	_, err = r.client(dir, silent, at(start.Add(8*day))).Load(t.Context())
	requireExpired(t, err, roleTimestamp)
}

// at sets the client's clock.
func at(now time.Time) func(*Config) {
	return func(c *Config) { c.Now = func() time.Time { return now } }
}

func requireExpired(t *testing.T, err error, role string) {
	t.Helper()
	var expired *ExpiredError
	require.ErrorAs(t, err, &expired)
	require.Equal(t, role, expired.Role)
}

func requireRollback(t *testing.T, err error, role string) {
	t.Helper()
	var rollback *RollbackError
	require.ErrorAs(t, err, &rollback)
	require.Equal(t, role, rollback.Role)
}

func requireVerify(t *testing.T, err error, file string) {
	t.Helper()
	var bad *VerifyError
	require.ErrorAs(t, err, &bad)
	require.Equal(t, file, bad.File)
}
