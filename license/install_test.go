package license_test

import (
	"context"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/license"
)

func TestInstall(t *testing.T) {
	where := filepath.Join(t.TempDir(), "store")
	c := clockAt(now)
	s := open(t, dir(where), c.in)
	refused := func(token []byte, want error, text string) {
		t.Helper()
		was := s.Current()
		before := tree(t, where)
		status, err := s.Install(t.Context(), token)
		require.ErrorIs(t, err, want)
		var typed *license.TokenError
		require.ErrorAs(t, err, &typed)
		require.ErrorContains(t, err, text)
		require.Equal(t, was, status)
		require.Equal(t, before, tree(t, where), "nothing has changed")
	}
	for range 2 { // on nothing, and on a licence
		refused(nil, license.ErrMalformed, "")
		refused([]byte("garbage"), license.ErrMalformed, "0 dots")
		refused(numbered(t, 9, bound), license.ErrWrongMachine, "it has no id that the app knows")
		status, err := s.Install(t.Context(), license.Armor(numbered(t, 2)))
		require.NoError(t, err)
		requireCounts(t, status, license.Valid, "jti-2")
	}
	info, err := os.Stat(filepath.Join(where, "licenses.jwt"))
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	before := tree(t, where)
	_, err = s.Install(t.Context(), numbered(t, 2))
	require.NoError(t, err, "again")
	require.Equal(t, before, tree(t, where))

	refused(numbered(t, 1), license.ErrSuperseded, "number 2 of licence lic_42 is in the store "+where+" already, this is number 1")
	refused(issue(t, lid("Z"), ended), license.ErrNotBetter, "licence lic_42 in the store "+where+" is the one that counts (valid), not this one, Z (expired): remove it first")
	refused(issue(t, lid("Z"), func(l *license.License) { l.IssuedAt = date("2025-06-01"); l.NotBefore = l.IssuedAt }), license.ErrNotBetter, "remove it first")

	// A renewal that starts later waits beside the present one, and takes its place when its time has come.
	status, err := s.Install(t.Context(), numbered(t, 4, pending))
	require.NoError(t, err)
	requireCounts(t, status, license.Valid, "jti-2")
	refused(numbered(t, 3, pending), license.ErrSuperseded, "number 4 of licence lic_42")
	status, err = s.Install(t.Context(), numbered(t, 3))
	require.NoError(t, err, "in between")
	requireCounts(t, status, license.Valid, "jti-3")
	c.set(date("2026-06-01").Add(-5*time.Minute - 1))
	requireCounts(t, s.Current(), license.Valid, "jti-3")
	c.set(date("2026-06-01").Add(-5 * time.Minute))
	requireCounts(t, s.Current(), license.Valid, "jti-4")
	requireCounts(t, open(t, dir(where), c.in).Current(), license.Valid, "jti-4")

	// A vendor may renew with worse terms, and an expired licence can be installed: it says what it includes.
	status, err = s.Install(t.Context(), numbered(t, 5, ended))
	require.NoError(t, err)
	requireCounts(t, status, license.Expired, "jti-5")
	kept := strings.Fields(tree(t, where)[filepath.Join(where, "licenses.jwt")])
	require.Len(t, kept, 1, "numbers that were replaced go")
}

// Of other licences some are kept: they may count again.
func TestInstallKeepsOtherLicences(t *testing.T) {
	where := filepath.Join(t.TempDir(), "store")
	s := open(t, dir(where))
	for i := range 12 {
		_, err := s.Install(t.Context(), issue(t, lid(string(rune('A'+i))), func(l *license.License) { l.IssuedAt = issued.AddDate(0, 0, i) }))
		require.NoError(t, err)
	}
	requireCounts(t, s.Current(), license.Valid, "jti-L")
	data, err := os.ReadFile(filepath.Join(where, "licenses.jwt"))
	require.NoError(t, err)
	require.Len(t, strings.Fields(string(data)), 8)
	_, err = s.Install(t.Context(), issue(t, lid("L"), ended, func(l *license.License) { l.Seq, l.ID = 9, "the end" }))
	require.NoError(t, err)
	requireCounts(t, s.Current(), license.Valid, "jti-K")
	require.Error(t, func() error { _, err := s.Install(t.Context(), issue(t, lid("A"))); return err }())
}

// Tokens that another version of the app can read stay.
func TestInstallKeepsWhatOthersRead(t *testing.T) {
	where := filepath.Join(t.TempDir(), "store")
	i, err := license.NewIssuer(seedKey(7), "acme-2027", issuerName)
	require.NoError(t, err)
	l := terms()
	l.LicenseID = "later"
	foreign, err := i.Issue(l)
	require.NoError(t, err)
	newer := mint(goodHeader, with("v", 2))
	require.NoError(t, os.MkdirAll(where, 0o700))
	file := filepath.Join(where, "licenses.jwt")
	require.NoError(t, os.WriteFile(file, slices.Concat(foreign, []byte("\nrubbish\n"), newer, []byte("\n\x00\xff"), numbered(t, 1)), 0o644))
	s := open(t, dir(where))
	status := s.Current()
	requireCounts(t, status, license.Invalid, "")
	require.ErrorIs(t, status.Err, license.ErrUnknownKey)
	require.Len(t, status.Warnings, 3)
	_, err = s.Install(t.Context(), numbered(t, 1))
	require.NoError(t, err)
	requireCounts(t, s.Current(), license.Valid, "jti-1")
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(slices.Concat(numbered(t, 1), []byte("\n"), foreign, []byte("\n"), newer, []byte("\n"))), string(data))
}

func TestStoreWithoutFolder(t *testing.T) {
	s := open(t, dir(""))
	status, err := s.Install(t.Context(), numbered(t, 1))
	require.NoError(t, err)
	requireCounts(t, status, license.Valid, "jti-1")
	require.Equal(t, "the installed licences", status.Source)
	require.True(t, s.Has("sso"))
	require.NoError(t, s.Remove(t.Context()))
	requireCounts(t, s.Current(), license.Missing, "")
	require.False(t, s.Has("sso"))
}

// What stands in the way of the files of the folder is replaced, and what it led to stays untouched.
func TestStoreFolderHeals(t *testing.T) {
	for _, name := range []string{"licenses.jwt", "clock.json", "lock"} {
		for what, block := range map[string]func(path, outside string) error{
			"rubbish":      func(path, _ string) error { return os.WriteFile(path, []byte("\x00\xffrubbish\n{"), 0o600) },
			"far future":   func(path, _ string) error { return os.WriteFile(path, []byte(`{"seen":99999999999}`), 0o600) },
			"huge":         func(path, _ string) error { return os.WriteFile(path, []byte(strings.Repeat("a\n", 1<<20)), 0o600) },
			"folder":       func(path, _ string) error { return os.MkdirAll(filepath.Join(path, "sub"), 0o700) },
			"link":         func(path, outside string) error { return os.Symlink(outside, path) },
			"hanging link": func(path, outside string) error { return os.Symlink(outside+".none", path) },
			"hard link":    func(path, outside string) error { return os.Link(outside, path) },
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				where, outside := t.TempDir(), filepath.Join(t.TempDir(), "outside")
				require.NoError(t, os.WriteFile(outside, numbered(t, 2), 0o644))
				path := filepath.Join(where, name)
				require.NoError(t, block(path, outside))
				store := func() *license.Store { return open(t, dir(where), from(license.Token("t", numbered(t, 1)))) }
				s := store()
				status := s.Current()
				if name == "licenses.jwt" && what == "hard link" {
					requireCounts(t, status, license.Valid, "jti-2") // a file like others
				} else {
					requireCounts(t, status, license.Valid, "jti-1")
				}
				_, err := s.Install(t.Context(), numbered(t, 3))
				require.NoError(t, err)
				requireCounts(t, s.Current(), license.Valid, "jti-3")
				status = store().Current()
				requireCounts(t, status, license.Valid, "jti-3")
				require.Empty(t, status.Warnings)
				data, err := os.ReadFile(outside)
				require.NoError(t, err)
				require.Equal(t, string(numbered(t, 2)), string(data))
				require.NoFileExists(t, outside+".none")
				if name != "lock" {
					require.NoError(t, s.Remove(t.Context()))
				}
			})
		}
	}
}

// What a killed writer leaves goes with the next one.
func TestStoreSweeps(t *testing.T) {
	where := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(where, ".tmp-xyz"), nil, 0o600))
	_, err := open(t, dir(where)).Install(t.Context(), numbered(t, 1))
	require.NoError(t, err)
	require.ElementsMatch(t, []string{where, filepath.Join(where, "lock"), filepath.Join(where, "licenses.jwt"), filepath.Join(where, "clock.json")},
		slices.Collect(maps.Keys(tree(t, where))))
}

type refresher func(ctx context.Context, url string, token []byte) ([]byte, error)

func (r refresher) Refresh(ctx context.Context, url string, token []byte) ([]byte, error) {
	return r(ctx, url, token)
}

func TestRefresh(t *testing.T) {
	c := clockAt(date("2026-12-01").Add(-1))
	where := filepath.Join(t.TempDir(), "store")
	s := open(t, c.in, dir(where), from(license.Token("t", license.Armor(numbered(t, 1)))))
	asked, answer, failure := 0, []byte(nil), error(nil)
	ask := refresher(func(_ context.Context, url string, token []byte) ([]byte, error) {
		asked++
		require.Equal(t, issuerName+"/v1/refresh", url)
		require.NotContains(t, string(token), "BEGIN")
		return answer, failure
	})
	expect := func(times int, id string, want error) {
		t.Helper()
		status, err := s.Refresh(t.Context(), ask)
		require.ErrorIs(t, err, want)
		requireCounts(t, status, license.Valid, id)
		require.Equal(t, times, asked)
	}
	expect(0, "jti-1", nil)
	c.add(1)
	longer := func(l *license.License) { l.Expires, l.LicenseExpires = date("2028-01-01"), date("2028-01-01") }
	expiring := func(times int, want error) {
		t.Helper()
		status, err := s.Refresh(t.Context(), ask)
		require.ErrorIs(t, err, want)
		requireCounts(t, status, license.Valid, "jti-1")
		require.Equal(t, times, asked)
	}
	expiring(1, nil)
	answer = numbered(t, 1)
	expiring(2, nil)
	answer, failure = nil, context.DeadlineExceeded
	expiring(3, context.DeadlineExceeded)
	answer, failure = []byte("<html>"), nil
	expiring(4, license.ErrMalformed)
	answer = issue(t, lid("foreign"), longer)
	expiring(5, license.ErrOtherLicense)
	answer = numbered(t, 2, longer)
	expect(6, "jti-2", nil)
	require.Contains(t, s.Current().Source, where)
	answer = numbered(t, 1)
	expect(7, "jti-2", nil)

	// Nobody is asked when there is no hint, and somebody at any time for a revoked licence.
	s = open(t, from(license.Token("t", numbered(t, 1, func(l *license.License) { l.Refresh = nil }))))
	_, err := s.Refresh(t.Context(), ask)
	require.NoError(t, err)
	require.Equal(t, 7, asked)
	_, err = open(t).Refresh(t.Context(), ask)
	require.NoError(t, err)
	s = open(t, from(license.Token("t", numbered(t, 1))))
	s.UseLists(&listSource{&license.Lists{Revocations: &license.Revocations{Number: 1, Tokens: []string{"jti-1"}}}})
	requireCounts(t, s.Current(), license.Revoked, "jti-1")
	_, err = s.Install(t.Context(), license.Armor(numbered(t, 1)))
	require.ErrorIs(t, err, license.ErrRevoked)
	require.ErrorContains(t, err, "revoked by its issuer: token jti-1 was revoked")
	answer = numbered(t, 2)
	status, err := s.Refresh(t.Context(), ask)
	require.NoError(t, err)
	requireCounts(t, status, license.Valid, "jti-2")
}

// While the folder cannot be read, what it had counts on, all of it, and installing again what was there heals it.
func TestUnreadableStore(t *testing.T) {
	where := filepath.Join(t.TempDir(), "store")
	s := open(t, dir(where))
	for _, token := range [][]byte{numbered(t, 1), numbered(t, 2, pending)} {
		_, err := s.Install(t.Context(), token)
		require.NoError(t, err)
	}
	file := filepath.Join(where, "licenses.jwt")
	require.NoError(t, os.Remove(file))
	require.NoError(t, os.Mkdir(file, 0o700))
	status := s.Current()
	requireCounts(t, status, license.Valid, "jti-1")
	require.Len(t, status.Warnings, 1)
	requireCounts(t, s.Status(t.Context(), date("2026-06-02")), license.Valid, "jti-2")

	_, err := s.Install(t.Context(), numbered(t, 1))
	require.NoError(t, err)
	for _, s := range []*license.Store{s, open(t, dir(where))} {
		status = s.Current()
		requireCounts(t, status, license.Valid, "jti-1")
		require.Empty(t, status.Warnings)
		requireCounts(t, s.Status(t.Context(), date("2026-06-02")), license.Valid, "jti-2")
	}
}

// A renewal whose issuer forgot to give it an id of its own is no reason to lose it.
func TestInstallRenewalOfTheSameID(t *testing.T) {
	where := filepath.Join(t.TempDir(), "store")
	for seq := range int64(3) {
		_, err := open(t, dir(where)).Install(t.Context(), numbered(t, seq+1, func(l *license.License) { l.ID = "the same" }))
		require.NoError(t, err)
		require.Equal(t, seq+1, open(t, dir(where)).Current().License.Seq)
	}
}

// Renewals are bought early, month after month, and then two at once: none of those to come is lost, and what they replace goes.
func TestRenewalsBoughtEarly(t *testing.T) {
	where := filepath.Join(t.TempDir(), "store")
	c := clockAt(date("2026-01-15"))
	month := func(n int) []byte {
		return numbered(t, int64(n), func(l *license.License) {
			l.NotBefore = issued.AddDate(0, n-1, 0)
			l.Expires, l.LicenseExpires, l.Grace = issued.AddDate(0, n, 0), issued.AddDate(0, n, 0), 0
		})
	}
	install := func(n int) {
		t.Helper()
		_, err := open(t, dir(where), c.in).Install(t.Context(), month(n))
		require.NoError(t, err)
	}
	counts := func(n int) {
		t.Helper()
		requireCounts(t, open(t, dir(where), c.in).Current(), license.ExpiringSoon, "jti-"+string(rune('0'+n)))
	}
	install(1)
	for n := 2; n <= 9; n++ {
		install(n)
		counts(n - 1)
		c.set(issued.AddDate(0, n-1, 14))
		counts(n)
		data, err := os.ReadFile(filepath.Join(where, "licenses.jwt"))
		require.NoError(t, err)
		require.Len(t, strings.Fields(string(data)), 2)
	}
	install(10)
	install(11)
	counts(9)
	c.set(issued.AddDate(0, 9, 14))
	counts(10)
	c.set(issued.AddDate(0, 10, 14))
	counts(11)

	// Nor where the folder is full of what has ended.
	where = filepath.Join(t.TempDir(), "store")
	c.set(date("2026-01-15"))
	for i := range 8 {
		_, err := open(t, dir(where), c.in).Install(t.Context(), issue(t, lid(string(rune('A'+i))), ended, func(l *license.License) { l.IssuedAt = issued.AddDate(0, 0, i) }))
		require.NoError(t, err)
	}
	c.set(date("2026-02-15"))
	for n := 2; n <= 5; n++ {
		install(n)
	}
	c.set(date("2026-03-15"))
	counts(3)
}

// Who has bought a licence has it, whatever evaluation licence comes with the app.
func TestTrialTakesNothing(t *testing.T) {
	trial := issue(t, lid("trial"), func(l *license.License) {
		l.Trial, l.IssuedAt, l.NotBefore = true, date("2026-02-20"), date("2026-02-20")
		l.Expires, l.LicenseExpires = date("2026-12-01"), date("2026-12-01")
	})
	where := filepath.Join(t.TempDir(), "store")
	built := from(license.Token("the evaluation licence", trial))
	s := open(t, built, dir(where))
	requireCounts(t, s.Current(), license.Valid, "jti-trial")
	status, err := s.Install(t.Context(), numbered(t, 1))
	require.NoError(t, err)
	requireCounts(t, status, license.Valid, "jti-1")
	requireCounts(t, open(t, built, dir(where)).Current(), license.Valid, "jti-1")
	_, err = open(t, dir(where)).Install(t.Context(), trial)
	require.ErrorIs(t, err, license.ErrNotBetter)

	// A trial that holds still comes before a licence that has ended.
	requireCounts(t, open(t, built, dir(""), from(license.Token("t", numbered(t, 1, ended)), license.Token("trial", trial))).Current(), license.Valid, "jti-trial")
}
