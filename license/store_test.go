package license_test

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/license"
)

// A clock for stores, which tests set.
type clock struct{ nanos atomic.Int64 }

func clockAt(t time.Time) *clock {
	c := &clock{}
	c.set(t)
	return c
}

func (c *clock) set(t time.Time)           { c.nanos.Store(t.UnixNano()) }
func (c *clock) add(d time.Duration)       { c.nanos.Add(int64(d)) }
func (c *clock) now() time.Time            { return time.Unix(0, c.nanos.Load()).UTC() }
func (c *clock) in(s *license.StoreConfig) { s.Now = c.now }

// open opens a store in a folder of its own whose clock says now, unless change says otherwise.
func open(t testing.TB, change ...func(*license.StoreConfig)) *license.Store {
	t.Helper()
	c := license.StoreConfig{Verifier: verifier(t), Dir: filepath.Join(t.TempDir(), "store"), Now: clockAt(now).now}
	for _, f := range change {
		f(&c)
	}
	s, err := license.OpenStore(c)
	require.NoError(t, err)
	return s
}

func from(sources ...license.Source) func(*license.StoreConfig) {
	return func(c *license.StoreConfig) { c.Sources = sources }
}

func dir(path string) func(*license.StoreConfig) {
	return func(c *license.StoreConfig) { c.Dir = path }
}

// numbered is a token of the genuine licence, named after its number.
func numbered(t testing.TB, seq int64, change ...func(*license.License)) []byte {
	return issue(t, append([]func(*license.License){func(l *license.License) {
		l.Seq, l.ID = seq, "jti-"+string(rune('0'+seq))
	}}, change...)...)
}

func lid(id string) func(*license.License) {
	return func(l *license.License) { l.LicenseID, l.ID = id, "jti-"+id }
}

func ended(l *license.License) {
	l.Expires, l.LicenseExpires, l.Grace = date("2026-02-01"), date("2026-02-01"), 0
}
func bound(l *license.License)   { l.Nodes = []string{"another machine"} }
func pending(l *license.License) { l.NotBefore = date("2026-06-01") }

// tree is all that is in a folder.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		require.NoError(t, err)
		info, err := d.Info()
		require.NoError(t, err)
		out[path] = info.Mode().String()
		if d.Type().IsRegular() {
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			out[path] += string(data)
		}
		return nil
	})
	require.NoError(t, err)
	return out
}

func requireCounts(t testing.TB, s license.Status, state license.State, id string) {
	t.Helper()
	require.Equal(t, state.String(), s.State.String(), "%v %v", s.Err, s.Warnings)
	if id != "" {
		require.NotNil(t, s.License)
		require.Equal(t, id, s.License.ID)
	}
}

func TestOpenStore(t *testing.T) {
	_, err := license.OpenStore(license.StoreConfig{})
	require.ErrorContains(t, err, "Verifier is missing")
	_, err = license.OpenStore(license.StoreConfig{Verifier: &license.Verifier{}})
	require.ErrorContains(t, err, "Verifier is missing")
	_, err = license.OpenStore(license.StoreConfig{Verifier: verifier(t), Sources: []license.Source{license.File("x"), nil}})
	require.ErrorContains(t, err, "nil at 1")

	where := filepath.Join(t.TempDir(), "none", "store")
	s := open(t, dir(where))
	require.NoDirExists(t, where, "opening makes nothing")
	requireCounts(t, s.Status(t.Context(), now), license.Missing, "")
	require.NoDirExists(t, where, "nor does asking about some time")
	requireCounts(t, s.Current(), license.Missing, "")
}

// Which of several tokens counts.
func TestStoreChooses(t *testing.T) {
	v := verifier(t)
	for _, c := range []struct {
		name   string
		tokens [][]byte
		state  license.State
		id     string // of the token; empty: none
	}{
		{"nothing", nil, license.Missing, ""},
		{"white space", [][]byte{[]byte(" \n")}, license.Missing, ""},
		{"rubbish", [][]byte{[]byte("x.y.z")}, license.Invalid, ""},
		{"one", [][]byte{numbered(t, 1)}, license.Valid, "jti-1"},
		{"highest number", [][]byte{numbered(t, 2), numbered(t, 3), numbered(t, 1)}, license.Valid, "jti-3"},
		{"highest number, though its terms are worse", [][]byte{numbered(t, 1), numbered(t, 2, ended)}, license.Expired, "jti-2"},
		{"a renewal that has not started", [][]byte{numbered(t, 1), numbered(t, 2, pending)}, license.Valid, "jti-1"},
		{"a renewal for another machine", [][]byte{numbered(t, 1), numbered(t, 2, bound)}, license.Valid, "jti-1"},
		{"rubbish beside a good one", [][]byte{[]byte("x"), numbered(t, 1)}, license.Valid, "jti-1"},
		{"one number twice: issued later", [][]byte{numbered(t, 1), issue(t, func(l *license.License) {
			l.Seq, l.ID, l.IssuedAt = 1, "A", date("2026-01-02")
		})}, license.Valid, "A"},
		{"one number twice, at once: jti", [][]byte{numbered(t, 1), issue(t, func(l *license.License) { l.Seq, l.ID = 1, "z" })}, license.Valid, "z"},
		{"two licences: the one that holds", [][]byte{issue(t, lid("A")), issue(t, lid("B"), ended, func(l *license.License) { l.Seq = 9 })},
			license.Valid, "jti-A"},
		{"two licences that hold: issued later", [][]byte{issue(t, lid("A"), func(l *license.License) { l.IssuedAt = date("2026-01-02") }), issue(t, lid("B"))},
			license.Valid, "jti-A"},
		{"two licences alike: jti", [][]byte{issue(t, lid("A")), issue(t, lid("B"))}, license.Valid, "jti-B"},
		{"expired before wrong machine", [][]byte{issue(t, lid("A"), ended), issue(t, lid("B"), bound)}, license.Expired, "jti-A"},
		{"wrong machine before not yet", [][]byte{issue(t, lid("A"), bound), issue(t, lid("B"), pending)}, license.WrongMachine, "jti-A"},
		{"not yet before rubbish", [][]byte{[]byte("x"), issue(t, lid("B"), pending)}, license.NotYetValid, "jti-B"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sources := make([]license.Source, len(c.tokens))
			for i, token := range c.tokens {
				sources[i] = license.Token(string(rune('a'+i)), token)
			}
			for range 2 { // in either order
				s := open(t, from(sources...), dir(""), func(k *license.StoreConfig) { k.Verifier = v })
				requireCounts(t, s.Current(), c.state, c.id)
				slices.Reverse(sources)
			}
		})
	}
}

// The choice over random tokens, against the rules written down in another way: no token that would have to win loses.
func TestStoreChoiceProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	issuer, err := license.NewIssuer(seedKey(1), "acme-2026", issuerName)
	require.NoError(t, err)
	v := verifier(t)
	days := func(from, to int) time.Time { return now.AddDate(0, 0, from+r.IntN(to-from)) }
	seen := map[license.State]int{}
	for range 100 {
		var sources []license.Source
		var all []*license.License
		for i := range 1 + r.IntN(6) {
			l := terms()
			l.ID, l.LicenseID, l.Seq = string(rune('a'+i)), string(rune('A'+r.IntN(3))), 1+r.Int64N(3)
			l.IssuedAt = days(-100, 0)
			l.NotBefore, l.Expires = days(-100, 20), now.AddDate(0, 0, 30+r.IntN(60))
			l.LicenseExpires, l.Grace = days(21, 120), 0
			if r.IntN(3) == 0 {
				l.NotBefore, l.Expires, l.LicenseExpires = l.IssuedAt, days(1, 30), time.Time{}
			}
			if r.IntN(4) == 0 {
				bound(&l)
			}
			token, err := issuer.Issue(l)
			require.NoError(t, err)
			got, err := v.Parse(token)
			require.NoError(t, err)
			sources, all = append(sources, license.Token(l.ID, token)), append(all, got)
		}
		s := open(t, dir(""), from(sources...))
		at := now.AddDate(0, 0, r.IntN([]int{20, 130}[r.IntN(2)]))
		got := s.Status(t.Context(), at)
		seen[got.State]++
		var started []*license.License
		for _, l := range all {
			if state := v.Evaluate(l, at).State; state == license.Valid || state == license.ExpiringSoon || state == license.Grace || state == license.Expired {
				started = append(started, l)
			}
		}
		if len(started) == 0 {
			require.Contains(t, []license.State{license.WrongMachine, license.NotYetValid}, got.State)
			continue
		}
		require.Contains(t, started, got.License)
		holds := func(l *license.License) bool { return v.Evaluate(l, at).State != license.Expired }
		last := func(l *license.License) bool {
			return !slices.ContainsFunc(started, func(o *license.License) bool { return o.LicenseID == l.LicenseID && o.Seq > l.Seq })
		}
		require.True(t, last(got.License), "a later number of the same licence had started")
		for _, l := range started {
			if l.LicenseID == got.License.LicenseID || !last(l) {
				continue
			}
			top := !slices.ContainsFunc(started, func(o *license.License) bool {
				return o != l && o.LicenseID == l.LicenseID && o.Seq == l.Seq && (o.IssuedAt.After(l.IssuedAt) || o.IssuedAt.Equal(l.IssuedAt) && o.ID > l.ID)
			})
			require.False(t, top && holds(l) && !holds(got.License), "one that holds lost against one that does not")
			require.False(t, top && holds(l) == holds(got.License) && l.IssuedAt.After(got.License.IssuedAt), "one issued later lost")
		}
		slices.Reverse(sources)
		require.Equal(t, got.License.ID, open(t, dir(""), from(sources...)).Status(t.Context(), at).License.ID, "the order decides nothing")
	}
	for _, state := range []license.State{license.Valid, license.Expired, license.WrongMachine, license.NotYetValid, license.ExpiringSoon} {
		require.Positive(t, seen[state], state.String())
	}
}

func TestStoreSaysWhere(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "b.license")
	require.NoError(t, os.WriteFile(path, numbered(t, 4), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "A.JWT"), license.Armor(numbered(t, 3)), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "c.txt"), numbered(t, 9), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(folder, ".d.license"), numbered(t, 9), 0o600))
	t.Setenv("ACME_LICENSE", string(numbered(t, 5)))
	for _, c := range []struct {
		source license.Source
		id     string
		where  string
	}{
		{license.Folder(folder), "jti-4", "the file " + path},
		{license.File(path), "jti-4", "the file " + path},
		{license.Env("ACME_LICENSE"), "jti-5", "the environment variable ACME_LICENSE"},
		{license.Token("the evaluation licence", numbered(t, 6)), "jti-6", "the evaluation licence"},
	} {
		s := open(t, from(c.source))
		requireCounts(t, s.Current(), license.Valid, c.id)
		require.Equal(t, c.where, s.Current().Source)
	}
	all := []license.Source{license.Folder(folder), license.Env("ACME_LICENSE"), license.Env("ACME_NONE"), license.File(filepath.Join(folder, "none")),
		license.Folder(filepath.Join(folder, "none"))}
	where := filepath.Join(t.TempDir(), "store")
	s := open(t, from(all...), dir(where))
	requireCounts(t, s.Current(), license.Valid, "jti-5")
	require.Empty(t, s.Current().Warnings)
	status, err := s.Install(t.Context(), numbered(t, 7))
	require.NoError(t, err)
	requireCounts(t, status, license.Valid, "jti-7")
	require.Equal(t, "the store "+where, status.Source)
	requireCounts(t, open(t, from(all...), dir(where)).Current(), license.Valid, "jti-7") // another process
	require.NoError(t, s.Remove(t.Context()))
	requireCounts(t, s.Current(), license.Valid, "jti-5")
	require.NoError(t, s.Remove(t.Context()), "there is nothing left")

	bad := open(t, from(license.Token("the mail", []byte("garbage")))).Current()
	require.Equal(t, "the mail", bad.Source)
	require.ErrorIs(t, bad.Err, license.ErrMalformed)
	require.Empty(t, bad.Warnings, "it is said once")
}

// What cannot be read is a warning, and hides nothing.
func TestUnreadableSources(t *testing.T) {
	path := filepath.Join(t.TempDir(), "acme.license")
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(path, numbered(t, 1), 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(folder, "sub.license"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "x.license"), []byte("rubbish"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "y.license"), numbered(t, 2), 0o600))

	s := open(t, from(license.Folder(path), license.File(path), license.Folder(folder), license.File(folder)))
	status := s.Current()
	requireCounts(t, status, license.Valid, "jti-2")
	require.Len(t, status.Warnings, 4)
	require.Contains(t, status.Warnings[0], "x.license has no licence that could be used: a token has three parts")
	require.Contains(t, status.Warnings[1], "the folder of licences cannot be read")
	require.Contains(t, status.Warnings[2], "sub.license is not a regular file")
	require.Contains(t, status.Warnings[3], "is not a regular file")

	// Alone it is Invalid: there may be a licence.
	status = open(t, from(license.File(folder))).Current()
	requireCounts(t, status, license.Invalid, "")
	require.ErrorContains(t, status.Err, "is not a regular file")

	// What was read once counts on while it cannot be read, and no longer than it is there.
	s = open(t, from(license.File(path)))
	requireCounts(t, s.Current(), license.Valid, "jti-1")
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Mkdir(path, 0o700))
	requireCounts(t, s.Current(), license.Valid, "jti-1")
	require.Len(t, s.Current().Warnings, 1)
	require.NoError(t, os.Remove(path))
	requireCounts(t, s.Current(), license.Missing, "")

	// In a folder, what cannot be read says nothing about the others: who removes one has removed it.
	require.NoError(t, os.Remove(filepath.Join(folder, "x.license")))
	moved := filepath.Join(folder, "z.license")
	require.NoError(t, os.WriteFile(moved, numbered(t, 3), 0o600))
	s = open(t, from(license.Folder(folder)))
	requireCounts(t, s.Current(), license.Valid, "jti-3")
	require.NoError(t, os.Remove(moved))
	requireCounts(t, s.Current(), license.Valid, "jti-2")
	require.NoError(t, os.Remove(filepath.Join(folder, "y.license")))
	requireCounts(t, s.Current(), license.Invalid, "")
	require.NoError(t, os.WriteFile(moved, numbered(t, 3), 0o600))
	requireCounts(t, s.Current(), license.Valid, "jti-3")
	require.NoError(t, os.Remove(moved))
	require.NoError(t, os.Mkdir(moved, 0o700))
	requireCounts(t, s.Current(), license.Valid, "jti-3")

	// A folder that is full.
	full := t.TempDir()
	for i := range 70 {
		require.NoError(t, os.WriteFile(filepath.Join(full, string(rune('A'+i/10))+string(rune('0'+i%10))+".jwt"), []byte("x"), 0o600))
	}
	status = open(t, from(license.Folder(full), license.Token("t", numbered(t, 1)))).Current()
	requireCounts(t, status, license.Valid, "jti-1")
	require.Len(t, status.Warnings, 16)
	require.Equal(t, "there are more warnings than these", status.Warnings[15])
}

func TestEndedContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := open(t, from(license.Token("t", numbered(t, 1))))
	status := s.Status(ctx, now)
	requireCounts(t, status, license.Invalid, "")
	require.ErrorIs(t, status.Err, context.Canceled)
	requireCounts(t, s.Current(), license.Valid, "jti-1")
	requireCounts(t, s.Status(ctx, now), license.Valid, "jti-1")
	requireCounts(t, s.Status(ctx, date("2030-01-01")), license.Expired, "jti-1")
	_, err := s.Install(ctx, numbered(t, 2))
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, s.Remove(ctx), context.Canceled)

	// A source that hangs keeps nobody waiting whose time is up.
	hang, enter := make(chan struct{}), make(chan struct{})
	s = open(t, from(loads(func() ([]license.Found, error) {
		enter <- struct{}{}
		<-hang
		return nil, nil
	})))
	var wg sync.WaitGroup
	wg.Go(func() { s.Current() })
	<-enter
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Status(ctx, now).Err, context.DeadlineExceeded)
	close(hang)
	wg.Wait()
}

type loads func() ([]license.Found, error)

func (l loads) Load(context.Context) ([]license.Found, error) { return l() }

// Has, Limit and Value follow time to the nanosecond, installation at once, and files within a minute.
func TestHasIsLive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "acme.license")
	require.NoError(t, os.WriteFile(path, numbered(t, 1, func(l *license.License) { l.Grace = time.Hour }), 0o600))
	c := clockAt(now)
	s := open(t, from(license.File(path)), c.in)
	grants := func(want bool) {
		t.Helper()
		require.Equal(t, want, s.Has("sso"))
		require.False(t, s.Has("audit"))
		n, ok := s.Limit("nodes")
		require.Equal(t, want, ok)
		require.Equal(t, want, n == 25)
		region, ok := s.Value("region")
		require.Equal(t, want, ok)
		require.Equal(t, want, region == "eu")
	}
	grants(true)
	require.NoError(t, os.Remove(path))
	c.add(time.Minute - 1)
	grants(true)
	c.add(1)
	grants(false)
	_, err := s.Install(t.Context(), numbered(t, 1, func(l *license.License) { l.Grace = time.Hour }))
	require.NoError(t, err)
	grants(true)
	end := date("2027-01-01").Add(time.Hour)
	c.set(end.Add(-1))
	grants(true)
	c.set(end)
	grants(false)
	c.set(end.Add(-1))
	grants(true) // a clock that goes back a little
	require.NoError(t, s.Remove(t.Context()))
	grants(false)
	_, err = s.Install(t.Context(), numbered(t, 2, func(l *license.License) {
		l.NotBefore, l.Expires, l.LicenseExpires = date("2027-02-01"), date("2028-01-01"), time.Time{}
	}))
	require.NoError(t, err)
	grants(false)
	c.set(date("2027-02-01").Add(-5*time.Minute - 1))
	grants(false)
	c.add(1)
	grants(true)
}

func TestNoStore(t *testing.T) {
	var none *license.Store
	for _, s := range []*license.Store{none, {}} {
		require.False(t, s.Has("sso"))
		n, ok := s.Limit("nodes")
		require.False(t, ok || n != 0)
		text, ok := s.Value("region")
		require.False(t, ok || text != "")
		s.UseLists(nil)
		require.NoError(t, s.Remove(t.Context()))
		_, err := s.Install(t.Context(), numbered(t, 1))
		require.ErrorContains(t, err, "there is no store")
		_, err = s.Refresh(t.Context(), nil)
		require.ErrorContains(t, err, "there is no store")
		for _, status := range []license.Status{s.Current(), s.Status(t.Context(), now)} {
			require.Equal(t, license.Invalid, status.State)
			require.False(t, status.AllowUpdate("stable", "2.3.0", release()).Allowed)
		}
		ctx, cancel := context.WithCancel(t.Context())
		got := s.Watch(ctx)
		require.Equal(t, license.Invalid, (<-got).State)
		cancel()
		_, open := <-got
		require.False(t, open)
	}
	var zero license.Status
	require.False(t, zero.Has("sso"))
	require.Zero(t, zero.EndsWithin())
	_, found := zero.LastCovered("stable", "1.0.0", nil)
	require.False(t, found)
	require.False(t, zero.CoversRunning("stable", release()).Allowed)
}

func TestStoreConcurrently(t *testing.T) {
	c := clockAt(now)
	s := open(t, c.in, from(license.Token("t", numbered(t, 1))))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				if !s.Has("sso") || !s.Current().Has("sso") || !s.Status(ctx, now).Has("sso") {
					t.Error("not granted")
				}
				c.add(10 * time.Second)
			}
		})
	}
	wg.Go(func() {
		for i := range 8 {
			if _, err := s.Install(ctx, numbered(t, int64(i+2))); err != nil {
				t.Error(err)
			}
			s.UseLists(&listSource{})
		}
	})
	watch := s.Watch(ctx)
	wg.Wait()
	cancel()
	last := license.Status{}
	for status := range watch {
		last = status
	}
	require.True(t, last.Has("sso"))
	requireCounts(t, s.Current(), license.Valid, "jti-9")
}
