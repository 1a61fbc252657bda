package license_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/license"
)

const goldenRevocations = `{"kid":{"acme-2025":1767225600,"stolen":0},"lid":{"lic_42":4},"num":17,"jti":["01J9ZK5E9V","a"],"v":1}`

func TestRevocationsJSON(t *testing.T) {
	list := &license.Revocations{Number: 17, Tokens: []string{"a", "01J9ZK5E9V", "a"}, Licenses: map[string]int64{"lic_42": 4},
		Keys: map[string]time.Time{"stolen": {}, "acme-2025": date("2026-01-01")}}
	data, err := json.Marshal(list)
	require.NoError(t, err)
	require.Equal(t, goldenRevocations, string(data))
	back, err := license.ParseRevocations(data)
	require.NoError(t, err)
	require.Equal(t, []string{"01J9ZK5E9V", "a"}, back.Tokens)
	require.Equal(t, list.Licenses, back.Licenses)
	require.Equal(t, list.Keys, back.Keys)
	require.EqualValues(t, 17, back.Number)
	again, err := json.Marshal(back)
	require.NoError(t, err)
	require.Equal(t, goldenRevocations, string(again))

	least, err := license.ParseRevocations([]byte(`{"v":1,"num":1,"later":{"x":[1]}}`))
	require.NoError(t, err)
	_, revoked := least.Revoked(parse(t))
	require.False(t, revoked)
}

// What an app could not read is not written: it would go on without the list.
func TestRevocationsThatCannotBeRead(t *testing.T) {
	for name, c := range map[string]struct {
		list  license.Revocations
		words string
	}{
		"no number": {license.Revocations{}, "num is below 1"},
		"empty jti": {license.Revocations{Number: 1, Tokens: []string{""}}, "jti has an empty element"},
		"long jti":  {license.Revocations{Number: 1, Tokens: []string{strings.Repeat("x", 257)}}, "longer than 256"},
		"newline":   {license.Revocations{Number: 1, Tokens: []string{"a\nb"}}, "control characters"},
		"empty lid": {license.Revocations{Number: 1, Licenses: map[string]int64{"": 1}}, "lid has an empty id"},
		"capitals":  {license.Revocations{Number: 1, Licenses: map[string]int64{"lic": 1, "LIC": 1}}, "twice (capitals do not count)"},
		"huge seq":  {license.Revocations{Number: 1, Licenses: map[string]int64{"lic": 1 << 60}}, "too large"},
		"bad kid":   {license.Revocations{Number: 1, Keys: map[string]time.Time{"a b": {}}}, "no key id"},
		"1970":      {license.Revocations{Number: 1, Keys: map[string]time.Time{"a": time.Unix(9, 0)}}, "between 2000 and 2199"},
		"too long":  {license.Revocations{Number: 1, Tokens: ids(50_000)}, "at most 1048576 are read"},
	} {
		_, err := json.Marshal(&c.list)
		require.ErrorContains(t, err, c.words, name)
	}
}

// ids are as Issue makes them up.
func ids(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%026d", i)
	}
	return out
}

func TestParseRevocationsRefuses(t *testing.T) {
	swap := func(old, new string) string {
		require.Contains(t, goldenRevocations, old)
		return strings.Replace(goldenRevocations, old, new, 1)
	}
	for name, c := range map[string]struct{ data, words string }{
		"nothing":         {"", "not valid JSON"},
		"null":            {"null", "not a JSON object"},
		"list":            {"[]", "not a JSON object"},
		"number absent":   {swap(`"num":17,`, ``), "num is missing"},
		"number zero":     {swap(`:17,`, `:0,`), "num is below 1"},
		"number null":     {swap(`:17,`, `:null,`), "num is not a number"},
		"number 1e3":      {swap(`:17,`, `:1e3,`), "num is not an integer"},
		"number huge":     {swap(`:17,`, `:9007199254740992,`), "num is too large"},
		"number twice":    {swap(`"num"`, `"NUM":1,"num"`), "twice"},
		"version absent":  {swap(`,"v":1`, ``), "v is missing"},
		"version 0":       {swap(`"v":1`, `"v":0`), "v is below 1"},
		"version -1":      {swap(`"v":1`, `"v":-1`), "v is below 1"},
		"version text":    {swap(`"v":1`, `"v":"1"`), "v is not a number"},
		"jti text":        {swap(`["01J9ZK5E9V","a"]`, `"a"`), "jti is not a list"},
		"jti null":        {swap(`"a"]`, `null]`), "jti is not a string"},
		"jti number":      {swap(`"a"]`, `5]`), "jti is not a string"},
		"lid list":        {swap(`{"lic_42":4}`, `[]`), "lid is not an object"},
		"lid null":        {swap(`{"lic_42":4}`, `null`), "lid is not an object"},
		"lid text":        {swap(`:4`, `:"4"`), "lid is not a number"},
		"lid float":       {swap(`:4`, `:4.5`), "lid is not an integer"},
		"lid twice":       {swap(`"lic_42":4`, `"lic_42":4,"lic_42":1`), "twice"},
		"kid text":        {swap(`:1767225600`, `:"2026"`), "acme-2025 is not a number"},
		"kid null":        {swap(`:1767225600`, `:null`), "acme-2025 is not a number"},
		"kid 1e300":       {swap(`:1767225600`, `:1e300`), "acme-2025 is not an integer"},
		"kid negative":    {swap(`:1767225600`, `:-1`), "acme-2025 is not a time"},
		"kid far":         {swap(`:1767225600`, `:99999999999`), "acme-2025 is not a time"},
		"kid empty":       {swap(`"stolen"`, `""`), "no key id"},
		"kid long":        {swap(`stolen`, strings.Repeat("x", 129)), "no key id"},
		"deep":            {swap(`"v":1`, `"v":1,"x":`+strings.Repeat("[", 9)+strings.Repeat("]", 9)), "deeper than 8"},
		"10,000 deep":     {swap(`"v":1`, `"v":1,"x":`+strings.Repeat("[", 20_000)+strings.Repeat("]", 20_000)), "not valid JSON"},
		"two lists":       {goldenRevocations + goldenRevocations, "not valid JSON"},
		"bytes after":     {goldenRevocations + "\x00", "not valid JSON"},
		"not UTF-8":       {swap("lic_42", "lic\xff"), "not valid UTF-8"},
		"lone surrogate":  {swap("lic_42", `\ud800`), "invalid ones"},
		"a byte too long": {goldenRevocations + strings.Repeat(" ", license.MaxRevocations+1-len(goldenRevocations)), "at most 1048576"},
	} {
		t.Run(name, func(t *testing.T) {
			list, err := license.ParseRevocations([]byte(c.data))
			require.Nil(t, list)
			require.ErrorContains(t, err, c.words)
			require.True(t, strings.HasPrefix(err.Error(), "license: "), err)
			require.Equal(t, 1, strings.Count(err.Error(), "license: "), err)
		})
	}
	_, err := license.ParseRevocations([]byte(`{"v":2,"num":"later"}`))
	require.ErrorIs(t, err, license.ErrUnsupportedVersion)
	whole := goldenRevocations + strings.Repeat(" ", license.MaxRevocations-len(goldenRevocations))
	_, err = license.ParseRevocations([]byte(whole))
	require.NoError(t, err)
}

// The worst that 1 MiB may be for the reader.
func BenchmarkHostileRevocations(b *testing.B) {
	fill := func(head, unit, tail string) string {
		return head + strings.Repeat(unit, (license.MaxRevocations-len(head)-len(tail))/len(unit)) + tail
	}
	for name, data := range map[string]string{
		"rubbish":  strings.Repeat("x", license.MaxRevocations),
		"brackets": strings.Repeat("[", license.MaxRevocations),
		"empties":  fill(`{"v":1,"num":1,"jti":[`, `"",`, `""]}`),
		"numbers":  fill(`{"v":1,"num":1,"x":[`, `0,`, `0]}`),
		"escapes":  fill(`{"v":1,"num":1,"jti":["`, `\u0041`, `"]}`),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := license.ParseRevocations([]byte(data)); err == nil && name != "numbers" {
					b.Fatal("read")
				}
			}
		})
	}
}

// By token, by number and by key, at every boundary.
func TestRevoked(t *testing.T) {
	l := parse(t) // lic_42, number 3, issued 2026-01-01 with acme-2026
	key := func(at time.Time) map[string]time.Time { return map[string]time.Time{"acme-2026": at} }
	for name, c := range map[string]struct {
		list   license.Revocations
		reason string // empty: not revoked
	}{
		"nothing":                 {license.Revocations{}, ""},
		"token":                   {license.Revocations{Tokens: []string{"x", "01J9ZK5E9V"}}, "token 01J9ZK5E9V was revoked"},
		"another token":           {license.Revocations{Tokens: []string{"01J9ZK5E9", "01J9ZK5E9VV", "01j9zk5e9v"}}, ""},
		"number below":            {license.Revocations{Licenses: map[string]int64{"lic_42": 2}}, ""},
		"its number":              {license.Revocations{Licenses: map[string]int64{"lic_42": 3}}, ""},
		"the next":                {license.Revocations{Licenses: map[string]int64{"lic_42": 4}}, "licence lic_42 was replaced or revoked: number 3 of it does not count, the next is 4"},
		"for good":                {license.Revocations{Licenses: map[string]int64{"lic_42": 1<<53 - 1}}, "lic_42 was revoked"},
		"nonsense":                {license.Revocations{Licenses: map[string]int64{"lic_42": -1}}, ""},
		"another licence":         {license.Revocations{Licenses: map[string]int64{"lic_4": 9, "LIC_42": 9}}, ""},
		"key, after":              {license.Revocations{Keys: key(issued.Add(time.Second))}, ""},
		"key, at that moment":     {license.Revocations{Keys: key(issued)}, `the key "acme-2026" that issued it was revoked`},
		"key, before":             {license.Revocations{Keys: key(issued.Add(-time.Second))}, "was revoked"},
		"key, all of it":          {license.Revocations{Keys: key(time.Time{})}, "was revoked"},
		"another key":             {license.Revocations{Keys: map[string]time.Time{"acme-2025": {}}}, ""},
		"named as something else": {license.Revocations{Tokens: []string{"lic_42", "acme-2026"}, Keys: map[string]time.Time{"01J9ZK5E9V": {}}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			reason, revoked := c.list.Revoked(l)
			require.Equal(t, c.reason != "", revoked)
			require.Contains(t, reason, c.reason)

			v, warnings := verifier(t).With(&license.Lists{Revocations: &c.list})
			require.Empty(t, warnings)
			s := v.Evaluate(l, now)
			require.Equal(t, revoked, s.State == license.Revoked)
			require.Equal(t, reason, s.Reason)
			if revoked { // nothing of it is worth anything, whatever its dates
				require.False(t, s.Has("sso"))
				for _, r := range []func() license.Decision{
					func() license.Decision { return s.AllowUpdate("stable", "2.3.0", release(security)) },
					func() license.Decision { return s.CoversRunning("stable", release(security)) },
				} {
					require.Equal(t, "the licence was revoked by its issuer: "+reason, r().Denials[0].Detail)
				}
				require.Equal(t, license.Revoked, v.Evaluate(l, date("1990-01-01")).State)
			}
		})
	}
	var none *license.Revocations
	_, revoked := none.Revoked(l)
	require.False(t, revoked)
	_, revoked = (&license.Revocations{Tokens: []string{""}}).Revoked(nil)
	require.False(t, revoked)
}

// The index says what the list says, and does not see what becomes of the list.
func TestRevokedProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	l, v := *parse(t), verifier(t)
	hits := 0
	for range 2000 {
		list := license.Revocations{Number: 1, Licenses: map[string]int64{}, Keys: map[string]time.Time{}}
		for range r.IntN(5) {
			list.Tokens = append(list.Tokens, fmt.Sprint(r.IntN(20)))
			list.Licenses[fmt.Sprint(r.IntN(20))] = r.Int64N(5)
			list.Keys[fmt.Sprint(r.IntN(20))] = issued.AddDate(0, 0, r.IntN(7)-3)
		}
		l.ID, l.LicenseID, l.KeyID = fmt.Sprint(r.IntN(20)), fmt.Sprint(r.IntN(20)), fmt.Sprint(r.IntN(20))
		l.Seq, l.IssuedAt = 1+r.Int64N(4), issued.AddDate(0, 0, r.IntN(7)-3)
		least, byNumber := list.Licenses[l.LicenseID]
		cutoff, byKey := list.Keys[l.KeyID]
		want := slices.Contains(list.Tokens, l.ID) || byNumber && l.Seq < least || byKey && !l.IssuedAt.Before(cutoff)
		_, revoked := list.Revoked(&l)
		require.Equal(t, want, revoked)
		with, _ := v.With(&license.Lists{Revocations: &list})
		clear(list.Tokens)
		clear(list.Licenses)
		clear(list.Keys)
		require.Equal(t, want, with.Evaluate(&l, now.AddDate(1, 0, 0)).State == license.Revoked)
		if want {
			hits++
		}
	}
	require.Greater(t, hits, 200)
}

func FuzzParseRevocations(f *testing.F) {
	for _, good := range []string{goldenRevocations, `{"v":1,"num":1}`, `{"num":1,"v":1,"jti":[],"lid":{},"kid":{},"x":null}`} {
		_, err := license.ParseRevocations([]byte(good))
		require.NoError(f, err, "a seed that must parse")
		f.Add([]byte(good))
	}
	for _, bad := range []string{"", "null", `{"v":2,"num":1}`, `{"v":1,"num":1,"lid":{"a":1,"A":1}}`, `{"v":1,"num":1,"kid":{"a":-1}}`, `{"v":1,"num":1,"jti":[""]}`} {
		_, err := license.ParseRevocations([]byte(bad))
		require.Error(f, err, "a seed that must not parse")
		f.Add([]byte(bad))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		list, err := license.ParseRevocations(data)
		require.Equal(t, before, data)
		if (list == nil) != (err != nil) {
			t.Fatalf("list %v, error %v", list, err)
		}
		if err != nil {
			return
		}
		out, err := json.Marshal(list)
		if err != nil {
			t.Fatalf("read, and cannot be written: %v", err)
		}
		back, err := license.ParseRevocations(out)
		if err != nil || back.Number != list.Number || !slices.Equal(back.Tokens, slices.Compact(slices.Clone(list.Tokens))) ||
			!maps.Equal(back.Licenses, list.Licenses) || !maps.EqualFunc(back.Keys, list.Keys, time.Time.Equal) {
			t.Fatalf("%v: %+v became %+v", err, list, back)
		}
	})
}

// A full list: what a look costs, which Has does once a minute.
func BenchmarkRevoked(b *testing.B) {
	list := &license.Revocations{Number: 1, Tokens: ids(30_000)}
	data, err := json.Marshal(list)
	require.NoError(b, err)
	v, _ := verifier(b).With(&license.Lists{Revocations: list})
	l := parse(b)
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := license.ParseRevocations(data); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("evaluate", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if v.Evaluate(l, now).State != license.Valid {
				b.Fatal("not valid")
			}
		}
	})
	b.Run("scan", func(b *testing.B) {
		for b.Loop() {
			if _, revoked := list.Revoked(l); revoked {
				b.Fatal(errors.New("revoked"))
			}
		}
	})
}
