package license_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/license"
)

// listSource is a ListSource.
type listSource struct{ lists *license.Lists }

func (p *listSource) Lists(context.Context) *license.Lists { return p.lists }

func keyring(t testing.TB, keys ...license.Key) *license.Keyring {
	t.Helper()
	r, err := license.NewKeyring(keys...)
	require.NoError(t, err)
	return r
}

func testKey(n byte, retired time.Time) license.Key {
	return license.Key{ID: fmt.Sprintf("k%d", n), Public: seedKey(n).Public(), Retired: retired}
}

func TestMerge(t *testing.T) {
	var never time.Time
	day1, day2 := date("2026-01-01"), date("2026-02-01")
	imposter := license.Key{ID: "k1", Public: seedKey(9).Public()}
	for name, c := range map[string]struct {
		built, signed []license.Key
		want          map[string]time.Time // retired
		warning       string
	}{
		"nothing new":              {[]license.Key{testKey(1, never)}, []license.Key{testKey(1, never)}, map[string]time.Time{"k1": never}, ""},
		"added":                    {[]license.Key{testKey(1, never)}, []license.Key{testKey(2, never)}, map[string]time.Time{"k1": never, "k2": never}, ""},
		"added, retired":           {[]license.Key{testKey(1, never)}, []license.Key{testKey(2, day1)}, map[string]time.Time{"k1": never, "k2": day1}, ""},
		"rotated":                  {[]license.Key{testKey(1, never)}, []license.Key{testKey(1, day1), testKey(2, never)}, map[string]time.Time{"k1": day1, "k2": never}, ""},
		"retired earlier":          {[]license.Key{testKey(1, day2), testKey(2, never)}, []license.Key{testKey(1, day1)}, map[string]time.Time{"k1": day1, "k2": never}, ""},
		"retired later":            {[]license.Key{testKey(1, day1), testKey(2, never)}, []license.Key{testKey(1, day2)}, map[string]time.Time{"k1": day1, "k2": never}, ""},
		"not retired any more":     {[]license.Key{testKey(1, day1), testKey(2, never)}, []license.Key{testKey(1, never)}, map[string]time.Time{"k1": day1, "k2": never}, ""},
		"the last retired":         {[]license.Key{testKey(1, never)}, []license.Key{testKey(1, day1)}, map[string]time.Time{"k1": never}, "retires every key"},
		"all retired":              {[]license.Key{testKey(1, never), testKey(2, never)}, []license.Key{testKey(1, day1), testKey(2, day1), testKey(3, day2)}, map[string]time.Time{"k1": never, "k2": never, "k3": day2}, "retires every key"},
		"built with retired ones":  {[]license.Key{testKey(1, day2)}, []license.Key{testKey(1, day1)}, map[string]time.Time{"k1": day1}, ""},
		"another key under its id": {[]license.Key{testKey(1, never)}, []license.Key{imposter}, map[string]time.Time{"k1": never}, `another key under the id "k1"`},
	} {
		t.Run(name, func(t *testing.T) {
			built := keyring(t, c.built...)
			before := built.Keys()
			merged, warnings := built.Merge(keyring(t, c.signed...))
			got := map[string]time.Time{}
			for _, k := range merged.Keys() {
				got[k.ID] = k.Retired
			}
			require.Equal(t, c.want, got)
			require.Equal(t, before, built.Keys(), "the ring that is compiled in does not change")
			if c.warning == "" {
				require.Empty(t, warnings)
			} else {
				require.Len(t, warnings, 1)
				require.Contains(t, warnings[0], c.warning)
			}
			if name == "another key under its id" {
				require.Equal(t, seedKey(1).Public(), merged.Keys()[0].Public)
			}
		})
	}
	built := keyring(t, testKey(1, never))
	same, warnings := built.Merge(nil)
	require.Same(t, built, same)
	require.Empty(t, warnings)
	var none *license.Keyring
	same, _ = none.Merge(built)
	require.Nil(t, same)
}

// Whatever is published: every key that was compiled in is there, as itself, and somebody can issue licences.
func TestMergeProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 16))
	random := func() []license.Key {
		var keys []license.Key
		for n := byte(1); n <= 4; n++ {
			k := testKey(n, time.Time{})
			if r.IntN(2) == 0 {
				k.Retired = issued.AddDate(0, 0, r.IntN(100))
			}
			if r.IntN(8) == 0 {
				k.Public = seedKey(n + 10).Public()
			}
			if r.IntN(3) > 0 {
				keys = append(keys, k)
			}
		}
		return append(keys, testKey(9, time.Time{}))[:max(1, len(keys))]
	}
	warned := 0
	for range 300 {
		built := keyring(t, random()...)
		signed := keyring(t, random()...)
		merged, warnings := built.Merge(signed)
		warned += len(warnings)
		byID, had, active := map[string]license.Key{}, false, false
		for _, k := range merged.Keys() {
			require.NotContains(t, byID, k.ID)
			byID[k.ID] = k
			active = active || k.Retired.IsZero()
		}
		for _, k := range built.Keys() {
			m := byID[k.ID]
			require.Equal(t, k.Public, m.Public)
			require.False(t, !k.Retired.IsZero() && (m.Retired.IsZero() || m.Retired.After(k.Retired)), "a retirement is not taken back")
			had = had || k.Retired.IsZero()
		}
		require.True(t, active || !had, "nobody is left to issue licences")
		for _, k := range signed.Keys() {
			require.Contains(t, byID, k.ID)
		}
		again, _ := merged.Merge(signed)
		require.Equal(t, merged.Keys(), again.Keys(), "once is enough")
	}
	require.Greater(t, warned, 30)
}

// A store takes over keys and revocations without a restart, and never goes back.
func TestStoreWithLists(t *testing.T) {
	next, err := license.NewIssuer(seedKey(5), "acme-2027", issuerName)
	require.NoError(t, err)
	renewed := terms()
	renewed.Seq, renewed.ID = 4, "by the new key"
	byNew, err := next.Issue(renewed)
	require.NoError(t, err)
	lists := &listSource{}
	s := open(t, from(license.Token("old", numbered(t, 3)), license.Token("new", byNew)))
	is := func(state license.State, id string, warnings ...string) {
		t.Helper()
		status := s.Current()
		requireCounts(t, status, state, id)
		require.Len(t, status.Warnings, len(warnings), "%q", status.Warnings)
		for i, w := range warnings {
			require.Contains(t, status.Warnings[i], w)
		}
		require.Equal(t, state == license.Valid, s.Has("sso"))
	}
	unknown := `new has no licence that could be used: the licence was issued with the key "acme-2027", which this app does not know`
	is(license.Valid, "jti-3", unknown)
	s.UseLists(lists)
	is(license.Valid, "jti-3", unknown, "which licences the issuer took back is not known yet")

	revoked := func(num int64, ids ...string) *license.Revocations {
		return &license.Revocations{Number: num, Tokens: ids}
	}
	added := keyring(t, license.Key{ID: "acme-2027", Public: seedKey(5).Public()})
	view := func(day string, keys *license.Keyring, r *license.Revocations, warnings ...string) {
		lists.lists = &license.Lists{Keys: keys, Revocations: r, Time: date(day), Warnings: warnings}
	}
	view("2026-02-01", added, nil, "no list of revocations is published")
	is(license.Valid, "by the new key", "no list of revocations is published")
	view("2026-02-02", added, revoked(3, "by the new key"))
	is(license.Valid, "jti-3")
	view("2026-02-03", added, revoked(4, "by the new key", "jti-3"), "the list is from last week")
	is(license.Revoked, "jti-3", "from last week")
	view("2026-02-04", added, revoked(2))
	is(license.Revoked, "jti-3", "went back from number 4 to 2")
	view("2026-02-05", nil, nil)
	is(license.Revoked, "jti-3", "key ring is not to be had any more", "number 4 of it, which is known, counts")
	view("2026-02-01", added, revoked(9))
	is(license.Revoked, "jti-3", "of 2026-02-01, older than those of 2026-02-05")
	lists.lists = nil
	is(license.Revoked, "jti-3", "not to be had any more", "not to be had any more")
	s.UseLists(nil)
	is(license.Revoked, "jti-3", "not to be had any more", "not to be had any more")
	s.UseLists(lists)
	is(license.Revoked, "jti-3", "not to be had any more", "not to be had any more")
	view("2026-02-06", added, revoked(5))
	is(license.Valid, "by the new key")
}

// Over random views: the number of the list that counts, and the time that is proven, only rise.
func TestListsAreMonotonic(t *testing.T) {
	r := rand.New(rand.NewPCG(17, 18))
	for range 10 {
		lists := &listSource{}
		// Far ahead of the clock, so that At shows the time that the lists prove; and a list of number n revokes up to n.
		s := open(t, dir(""), func(c *license.StoreConfig) { c.Now = func() time.Time { return issued } }, from(license.Token("t", numbered(t, 1))))
		s.UseLists(lists)
		best, newest := int64(0), issued
		for range 40 {
			switch r.IntN(5) {
			case 0:
				lists.lists = nil
			case 1:
				lists.lists = &license.Lists{Time: issued.AddDate(0, 0, r.IntN(100))}
			default:
				num := 1 + r.Int64N(50)
				lists.lists = &license.Lists{Time: issued.AddDate(0, 0, r.IntN(100)), Revocations: &license.Revocations{Number: num,
					Licenses: map[string]int64{"lic_42": 1 + num}}}
			}
			if l := lists.lists; l != nil && !l.Time.Before(newest) {
				newest = l.Time
				if l.Revocations != nil {
					best = max(best, l.Revocations.Number)
				}
			}
			status := s.Current()
			require.Equal(t, newest, status.At)
			if best == 0 {
				require.Equal(t, license.Valid, status.State)
				continue
			}
			require.Equal(t, license.Revoked, status.State)
			require.Contains(t, status.Reason, fmt.Sprintf("the next is %d", 1+best))
		}
	}
}

// A verifier that knows some lists learns of others: a list that is not there takes nothing back.
func TestWithKeepsWhatItKnows(t *testing.T) {
	token := numbered(t, 1)
	v, _ := verifier(t).With(&license.Lists{Revocations: &license.Revocations{Number: 1, Tokens: []string{"jti-1"}}})
	require.Equal(t, license.Revoked, v.Status(token, now).State)
	v, _ = v.With(&license.Lists{Keys: keyring(t, testKey(5, time.Time{}))})
	require.Equal(t, license.Revoked, v.Status(token, now).State)
	v, _ = v.With(&license.Lists{Revocations: &license.Revocations{Number: 2}})
	require.Equal(t, license.Valid, v.Status(token, now).State)
}
