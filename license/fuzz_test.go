package license_test

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/license"
)

// bare undoes what Parse tolerates: white space around, and armour.
func bare(data []byte) string {
	space := func(s string) string {
		return strings.TrimFunc(s, func(r rune) bool { return unicode.IsSpace(r) || r == '\ufeff' })
	}
	text := space(string(data))
	if rest, ok := strings.CutPrefix(text, "-----BEGIN LICENSE-----"); ok && strings.HasSuffix(rest, "-----END LICENSE-----") {
		text = strings.TrimSuffix(rest, "-----END LICENSE-----")
		var joined strings.Builder
		for line := range strings.SplitSeq(text, "\n") {
			joined.WriteString(strings.TrimSpace(line))
		}
		text = joined.String()
	}
	return text
}

// Nobody forges signatures, so the only tokens that parse are those that were issued, byte for byte; and the other
// spelling of an ECDSA signature. (The one with ECDSA is a constant: each process of a fuzzing run makes its own seeds.)
func FuzzParse(f *testing.F) {
	v := verifier(f)
	genuine := [][]byte{issue(f), mint(goodHeader, payload(claims())), []byte(goldenES256), []byte(otherSpelling(f, goldenES256))}
	known := map[string]bool{}
	for _, token := range genuine {
		_, err := v.Parse(token)
		require.NoError(f, err, "a seed that must parse")
		known[string(token)] = true
		f.Add(token)
		armored := append([]byte("\ufeff \n"), license.Armor(token)...)
		_, err = v.Parse(armored)
		require.NoError(f, err, "a seed that must parse")
		f.Add(armored)
	}
	for _, bad := range []string{"", "a.b.c", "...", "-----BEGIN LICENSE-----", string(mint(`{"alg":"none"}`, `{}`)),
		string(mint(goodHeader, `{"v":2}`)), string(mint(goodHeader, with("iss", "x"))), string(genuine[0]) + "=",
		string(mint(`{"alg":"EdDSA","kid":"acme-2026","typ":"license+jwt","crit":[]}`, payload(claims()))),
		otherSpelling(f, goldenToken), "-----BEGIN LICENSE-----" + goldenToken, altered(f, goldenToken), altered(f, goldenES256)} {
		_, err := v.Parse([]byte(bad))
		require.Error(f, err, "a seed that must not parse")
		f.Add([]byte(bad))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		l, err := v.Parse(data)
		require.Equal(t, before, data)
		if (l == nil) != (err != nil) {
			t.Fatalf("license %v, error %v", l, err)
		}
		if err == nil && !known[bare(data)] {
			t.Fatalf("parsed what nobody issued: %q", data)
		}
		s := v.Status(data, now)
		if s.License == nil && s.AllowUpdate("stable", "2.3.0", release()).Allowed {
			t.Fatal("an update without a license")
		}
		_, _ = license.InspectUnverified(data)
	})
}

// The same on purpose: every bit of a genuine token, and every byte put in or taken out.
func TestEveryMutationIsRefused(t *testing.T) {
	v, token := verifier(t), mint(goodHeader, payload(claims()))
	try := func(mutated []byte) {
		l, err := v.Parse(mutated)
		if err == nil && bare(mutated) != string(token) {
			t.Fatalf("parsed %q", mutated)
		}
		require.Equal(t, err == nil, l != nil)
	}
	for i := range token {
		for bit := range 8 {
			m := bytes.Clone(token)
			m[i] ^= 1 << bit
			try(m)
		}
		try(append(bytes.Clone(token[:i]), token[i+1:]...))
		for _, c := range []byte("A.\n\r =\x00-") {
			try(append(append(bytes.Clone(token[:i]), c), token[i:]...))
		}
	}
	r := rand.New(rand.NewPCG(5, 6))
	for range 2000 {
		m := bytes.Clone(token)
		a, b := r.IntN(len(m)), r.IntN(len(m))
		m[a], m[b] = m[b], m[a]
		try(m)
	}
}

// Signed claims of any shape: an error or a license, never a panic, and whatever parses can be judged.
func FuzzClaims(f *testing.F) {
	v := verifier(f)
	for _, good := range []string{payload(claims()), with("ent", map[string]any{"n": 1}), with("aud", product),
		with("nodes", []string{"a"}), goldenPayload} {
		_, err := v.Parse(mint(goodHeader, good))
		require.NoError(f, err, "a seed that must parse")
		f.Add(good)
	}
	for _, bad := range []string{`{}`, `null`, with("exp", nil), with("refresh", map[string]any{}), with("ver", "<>"), with("chan", []any{1}),
		strings.Replace(with("nodes", []string{"a", "b"}), "{", `{"max_nodes":1,`, 1)} {
		_, err := v.Parse(mint(goodHeader, bad))
		require.Error(f, err, "a seed that must not parse")
		f.Add(bad)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l, err := v.Parse(mint(goodHeader, text))
		if (l == nil) != (err != nil) {
			t.Fatalf("license %v, error %v", l, err)
		}
		if err != nil {
			return
		}
		if l.Issuer != issuerName || l.ID == "" || l.Expires.Year() < 2000 || l.Expires.Year() > 2199 || l.Grace > license.MaxGrace ||
			l.MaxNodes > 0 && int64(len(l.Nodes)) > l.MaxNodes {
			t.Fatalf("%+v", l)
		}
		_ = v.Evaluate(l, now).AllowUpdate("stable", "2.3.0", release())
	})
}
