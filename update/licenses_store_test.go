package update_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/fairlead-dev/fairlead/license"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

// Rule 1: the store is hostile. A user who plants a key ring of his own has no licence by it, nor does one who damages
// what is there get rid of more than he could by removing all of it.
func TestPlantedKeyring(t *testing.T) {
	l := newLicensor(t)
	l.newKey("2027")
	l.publishKeys(license.Key{ID: "2026"}, license.Key{ID: "2027"})
	l.revoke(license.Revocations{Number: 1})
	thief := newLicensor(t) // has a repository of the same shape, and keys of his own
	thief.issuer["2027"] = thief.issuer["2026"]
	thief.publishKeys(license.Key{ID: "2026"}, license.Key{ID: "2027"})
	thief.revoke(license.Revocations{Number: 1})
	his := thief.customer(thief.token("2027"))
	check(t, his.process())

	c := l.customer(l.token("2027"))
	check(t, c.process())
	whole := treeAsItIs(t, c.trustDir(c.offline()))
	ring, err := json.Marshal(thief.ring(license.Key{ID: "2026"}, license.Key{ID: "2027"}))
	require.NoError(t, err)
	for name, plant := range map[string]func(t *testing.T, file string){
		"his ring in the kept file": func(t *testing.T, file string) {
			var kept map[string][]byte
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(data, &kept))
			kept["data"] = ring
			data, err = json.Marshal(kept)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(file, data, 0o600))
		},
		"the kept file of his repository": func(t *testing.T, file string) {
			data, err := os.ReadFile(filepath.Join(his.trustDir(his.offline()), filepath.Base(file)))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(file, data, 0o600))
		},
		"the whole store of his repository": func(t *testing.T, file string) {
			require.NoError(t, os.RemoveAll(filepath.Dir(file)))
			require.NoError(t, os.CopyFS(filepath.Dir(file), os.DirFS(his.trustDir(his.offline()))))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := c.trustDir(c.offline())
			require.NoError(t, os.RemoveAll(dir))
			require.NoError(t, os.CopyFS(dir, os.DirFS(whole)))
			for _, file := range c.kept(c.offline()) {
				plant(t, file)
				if strings.HasPrefix(name, "the whole") {
					break
				}
			}
			require.NoError(t, os.WriteFile(c.file, thief.token("2027"), 0o600))
			c.offline()
			require.Equal(t, license.Invalid, c.state())
			u := c.process()
			d, err := u.Check(t.Context())
			require.NoError(t, err)
			require.Equal(t, license.Invalid, d.License.State)
			require.NoError(t, os.WriteFile(c.file, l.token("2027"), 0o600))
			c.offline()
			require.Equal(t, license.Valid, c.state(), "healed")
		})
	}
}

// Damage of the store costs what it hits, says so, and heals with the next check.
func TestDamagedListsHeal(t *testing.T) {
	l := newLicensor(t)
	l.publishKeys(license.Key{ID: "2026"})
	l.revoke(license.Revocations{Number: 1, Tokens: []string{"token-1"}})
	c := l.customer(l.token("2026"))
	check(t, c.process())
	dir := c.trustDir(c.offline())
	whole := treeAsItIs(t, dir)
	entries, err := os.ReadDir(whole)
	require.NoError(t, err)
	for _, e := range entries {
		if e.Name() == "lock" {
			continue
		}
		t.Run(e.Name()[:4], func(t *testing.T) {
			require.NoError(t, os.RemoveAll(dir))
			require.NoError(t, os.CopyFS(dir, os.DirFS(whole)))
			data, err := os.ReadFile(filepath.Join(dir, e.Name()))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, e.Name()), data[:len(data)/2], 0o600))
			u := c.offline()
			lists := u.Lists(t.Context())
			if lists == nil || lists.Revocations == nil {
				require.NotNil(t, lists)
				require.NotEmpty(t, lists.Warnings, "it does not go unseen")
				require.Equal(t, license.Valid, c.state())
			} else {
				require.Equal(t, license.Revoked, c.state())
			}
			u = c.process()
			require.Equal(t, license.Revoked, check(t, u).License.State)
			require.Empty(t, u.Lists(t.Context()).Warnings)
			c.offline()
			require.Equal(t, license.Revoked, c.state())
		})
	}
}

// Somebody kills the app anywhere in a check that brings a newer list: after it there is the old one or the new one.
func TestKilledWhileListsChange(t *testing.T) {
	l := newLicensor(t)
	l.publishKeys(license.Key{ID: "2026"})
	l.revoke(license.Revocations{Number: 1, Tokens: []string{"token-1"}})
	c := l.customer(l.token("2026"))
	u := c.process()
	check(t, u)
	dir := c.trustDir(u)
	l.revoke(license.Revocations{Number: 2, Tokens: []string{"token-1"}})
	l.release("1.2.0", program("1.2.0"))
	var states []string
	var mu sync.Mutex
	l.site.answer(func(http.ResponseWriter, string) bool {
		mu.Lock()
		defer mu.Unlock()
		states = append(states, treeAsItIs(t, dir)) // what a kill at this moment leaves
		return false
	})
	check(t, u)
	l.site.answer(nil)
	require.GreaterOrEqual(t, len(states), 6)
	states = append(states, treeAsItIs(t, dir))
	seen := map[int64]int{}
	for _, state := range states {
		require.NoError(t, os.RemoveAll(dir))
		require.NoError(t, os.CopyFS(dir, os.DirFS(state)))
		u := c.offline()
		require.Equal(t, license.Revoked, c.state())
		seen[u.Lists(t.Context()).Revocations.Number]++
		u = c.process()
		check(t, u)
		require.EqualValues(t, 2, u.Lists(t.Context()).Revocations.Number)
	}
	require.Positive(t, seen[1])
	require.Positive(t, seen[2])
}

// The key of the role itself changes, and nothing that it signed is lost.
func TestLicenseRoleKeyRotates(t *testing.T) {
	l := newLicensor(t)
	l.publishKeys(license.Key{ID: "2026"})
	l.revoke(license.Revocations{Number: 1, Tokens: []string{"token-1"}})
	c := l.customer(l.token("2026"))
	u := c.process()
	check(t, u)
	next := newRoleSigner(t)
	l.more = append(l.more, next)
	l.edit(func(r *tufrepo.Repo) error {
		return r.SetKeys("license", tufrepo.RoleKeys{Keys: []tufrepo.PublicKey{next.Public()}})
	})
	check(t, u)
	l.more = []*tufrepo.Signer{next}
	c.offline()
	require.Equal(t, license.Revoked, c.state())
	// What was kept is proved by the new key already.
	l.forge(func(s *metadata.TargetsType) { clear(s.Targets) })
	check(t, u)
	u = c.offline()
	require.Equal(t, license.Revoked, c.state())
	require.Len(t, u.Lists(t.Context()).Warnings, 2)
}

// Lists that nobody renews stay in force, and say since when they are old: at that moment, without a check.
func TestOldListsSaySo(t *testing.T) {
	l := newLicensor(t)
	l.publishKeys(license.Key{ID: "2026"})
	l.revoke(license.Revocations{Number: 1})
	c := l.customer(l.token("2026"))
	check(t, c.process())
	u := c.offline()
	first := u.Lists(t.Context())
	require.Empty(t, first.Warnings)
	c.now = start.Add(120 * 24 * time.Hour)
	require.Same(t, first, u.Lists(t.Context()))
	c.now = c.now.Add(time.Second)
	late := u.Lists(t.Context())
	require.Equal(t, []string{
		"license/keyring.json was to be signed anew by 2027-03-01T12:00:00Z: the last one that is known stays in force",
		"license/revocations.json was to be signed anew by 2027-03-01T12:00:00Z: the last one that is known stays in force",
	}, late.Warnings)
	require.NotNil(t, late.Revocations)
	require.Same(t, late, u.Lists(t.Context()))
	require.Same(t, late.Keys, first.Keys)
	require.Equal(t, late.Warnings, c.offline().Lists(t.Context()).Warnings)
}

// A process that has never checked sees what another one has fetched; not at once, as it does not look all the time.
func TestListsOfAnotherProcess(t *testing.T) {
	l := newLicensor(t)
	l.publishKeys(license.Key{ID: "2026"})
	l.revoke(license.Revocations{Number: 1})
	c := l.customer(l.token("2026"))
	other := c.offline()
	require.Nil(t, other.Lists(t.Context()))
	check(t, c.process())
	require.Nil(t, other.Lists(t.Context()))
	c.now = c.now.Add(time.Minute)
	require.NotNil(t, other.Lists(t.Context()).Revocations)
}

// What tufrepo takes, an app reads: the caps are the same.
func TestListCapsAgree(t *testing.T) {
	l := newLicensor(t)
	padded := func(v any, n int) []byte {
		data, err := json.Marshal(v)
		require.NoError(t, err)
		return append(data, bytes.Repeat([]byte("\n"), n-len(data))...)
	}
	l.put("keyring.json", padded(l.ring(license.Key{ID: "2026"}), 256<<10))
	l.put("revocations.json", padded(&license.Revocations{Number: 1}, license.MaxRevocations))
	c := l.customer(l.token("2026"))
	u := c.process()
	check(t, u)
	require.Empty(t, u.Lists(t.Context()).Warnings)
	require.Empty(t, c.offline().Lists(t.Context()).Warnings)
	repo, err := tufrepo.Open(t.Context(), tufrepo.Dir(l.dir), tufrepo.OpenConfig{Now: l.clock})
	require.NoError(t, err)
	require.Error(t, repo.PutLicense("keyring.json", padded(l.ring(license.Key{ID: "2026"}), 256<<10+1)))
	require.Error(t, repo.PutLicense("revocations.json", padded(&license.Revocations{Number: 2}, license.MaxRevocations+1)))
}

// Checks and judgements at once, while the vendor publishes.
func TestListsAtOnce(t *testing.T) {
	l := newLicensor(t)
	l.revoke(license.Revocations{Number: 1})
	c := l.customer(l.token("2026"))
	u := c.process()
	check(t, u)
	var done sync.WaitGroup
	stop := make(chan struct{})
	problems := make(chan string, 10)
	for i := range 6 {
		done.Go(func() {
			var seen int64
			for {
				select {
				case <-stop:
					return
				default:
				}
				if i%2 == 0 {
					_, _ = u.Check(t.Context()) // it may read while the repository is being written
				}
				now := u.Lists(t.Context()).Revocations.Number
				if now < seen {
					problems <- fmt.Sprint("went back from ", seen, " to ", now)
					return
				}
				seen = now
			}
		})
	}
	for n := int64(2); n < 8; n++ {
		l.revoke(license.Revocations{Number: n})
	}
	close(stop)
	done.Wait()
	require.Empty(t, problems)
	check(t, u)
	require.EqualValues(t, 7, u.Lists(t.Context()).Revocations.Number)
}
