package license_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	mrand "math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/license"
)

var mutants = flag.Int("mutants", 6000, "how many altered tokens must be refused")

// A mutator makes one token of others.
type mutator struct {
	*mrand.Rand
	tokens []string // genuine
	thief  ed25519.PrivateKey
	robber *ecdsa.PrivateKey
}

func (m *mutator) pick() string { return m.tokens[m.IntN(len(m.tokens))] }

// in returns an index into s, of which one in three is in the first segment, the payload or the signature.
func (m *mutator) in(s string) int {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return m.IntN(len(s))
	}
	start := [...]int{0, len(parts[0]) + 1, len(parts[0]) + len(parts[1]) + 2}
	i := m.IntN(3)
	if len(parts[i]) == 0 {
		return m.IntN(len(s))
	}
	return start[i] + m.IntN(len(parts[i]))
}

const base64url = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

type mutation struct {
	name string
	make func(*mutator, string) string
}

// rough ones change any text.
var rough = []mutation{
	{"bits", func(m *mutator, s string) string {
		b := []byte(s)
		for range 1 + m.IntN(3) {
			b[m.in(s)] ^= 1 << m.IntN(8)
		}
		return string(b)
	}},
	{"letters", func(m *mutator, s string) string {
		b := []byte(s)
		for range 1 + m.IntN(3) {
			b[m.in(s)] = base64url[m.IntN(64)]
		}
		return string(b)
	}},
	{"exchange", func(m *mutator, s string) string {
		b := []byte(s)
		i, j := m.in(s), m.in(s)
		b[i], b[j] = b[j], b[i]
		return string(b)
	}},
	{"case", func(m *mutator, s string) string {
		i := m.in(s)
		n := 1 + m.IntN(min(20, len(s)-i))
		change := strings.ToUpper
		if m.IntN(2) == 0 {
			change = strings.ToLower
		}
		return s[:i] + change(s[i:i+n]) + s[i+n:]
	}},
	{"cut", func(m *mutator, s string) string {
		i := m.in(s)
		return s[:i] + s[min(len(s), i+1+m.IntN(8)):]
	}},
	{"put in", func(m *mutator, s string) string {
		i, j := m.in(s), m.in(s)
		return s[:i] + s[j:min(len(s), j+1+m.IntN(8))] + s[i:]
	}},
}

// fine ones take a genuine token apart, and may look at the other ones.
var fine = []mutation{
	{"bits under base64", func(m *mutator, s string) string {
		return m.segment(s, func(b []byte) []byte { b[m.IntN(len(b))] ^= 1 << m.IntN(8); return b })
	}},
	{"splice", func(m *mutator, s string) string {
		other := m.pick()
		return s[:m.in(s)] + other[m.in(other):]
	}},
	{"splice in place", func(m *mutator, s string) string {
		other := m.pick()
		i := m.IntN(min(len(s), len(other)))
		return s[:i] + other[i:]
	}},
	{"segments", func(m *mutator, _ string) string {
		a, b, c := strings.Split(m.pick(), "."), strings.Split(m.pick(), "."), strings.Split(m.pick(), ".")
		return a[0] + "." + b[1] + "." + c[2]
	}},
	{"order of segments", func(m *mutator, s string) string {
		parts := strings.Split(s, ".")
		m.Shuffle(3, func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		return strings.Join(parts, ".")
	}},
	{"base64", (*mutator).base64},
	{"claims", func(m *mutator, s string) string {
		parts := strings.Split(s, ".")
		return parts[0] + "." + m.edit(parts[1]) + "." + parts[2]
	}},
	{"header", func(m *mutator, s string) string {
		parts := strings.Split(s, ".")
		return m.edit(parts[0]) + "." + parts[1] + "." + parts[2]
	}},
	{"other header", func(m *mutator, s string) string {
		parts := strings.Split(s, ".")
		alg := []string{"EdDSA", "ES256", "none", "HS256", "Ed25519"}[m.IntN(5)]
		kid := []string{"acme-2026", "acme-ec", "acme-2025", "thief", ""}[m.IntN(5)]
		return b64(`{"alg":"`+alg+`","kid":"`+kid+`","typ":"license+jwt"}`) + "." + parts[1] + "." + parts[2]
	}},
	{"numbers in signature", func(m *mutator, s string) string {
		return s[:strings.LastIndexByte(s, '.')+1] + b64(string(m.numbers(s)))
	}},
	{"signed by others", func(m *mutator, s string) string {
		parts := strings.Split(s, ".")
		if m.IntN(2) == 0 {
			parts[1] = m.edit(parts[1])
		}
		return m.forge(parts[0] + "." + parts[1])
	}},
	{"around", func(m *mutator, s string) string {
		junk := []string{"\x00", "x", ".", "\u200b", "\"", "Bearer ", "-----BEGIN LICENSE-----", "=", "\n.", "#"}[m.IntN(10)]
		if m.IntN(2) == 0 {
			return junk + s
		}
		return s + junk
	}},
}

// segment changes what stands under the base64 of a segment.
func (m *mutator) segment(s string, change func([]byte) []byte) string {
	parts := strings.Split(s, ".")
	i := m.IntN(3)
	data, err := base64.RawURLEncoding.DecodeString(parts[i])
	if err != nil {
		panic(err) // the tokens are genuine
	}
	parts[i] = b64(string(change(data)))
	return strings.Join(parts, ".")
}

// base64 writes a segment in a way that some decoder reads as the same bytes, or nearly.
func (m *mutator) base64(s string) string {
	parts := strings.Split(s, ".")
	i := m.IntN(3)
	p := parts[i]
	at := m.IntN(len(p) + 1)
	switch m.IntN(7) {
	case 0:
		p += strings.Repeat("=", 1+m.IntN(4))
	case 1:
		p = strings.NewReplacer("-", "+", "_", "/").Replace(p)
	case 2: // trailing bits
		p = p[:len(p)-1] + string(base64url[strings.IndexByte(base64url, p[len(p)-1])^(1<<m.IntN(4))])
	case 3:
		p = p[:at] + []string{"\r", "\n", "\r\n", " ", "\t", "\x00", "\u00a0", "\ufeff"}[m.IntN(8)] + p[at:]
	case 4:
		data, err := base64.RawURLEncoding.DecodeString(p)
		if err != nil {
			panic(err)
		}
		p = []string{base64.StdEncoding.EncodeToString(data), base64.URLEncoding.EncodeToString(data), fmt.Sprintf("%x", data), string(data)}[m.IntN(4)]
	case 5:
		p = p[:at] + "A" + p[at:]
	case 6:
		p = p[:at] + "%" + fmt.Sprintf("%02X", base64url[m.IntN(64)]) + p[at:]
	}
	parts[i] = p
	return strings.Join(parts, ".")
}

// edit changes JSON as somebody would who wants more than she bought, or as another encoder would write the same.
func (m *mutator) edit(segment string) string {
	data, err := base64.RawURLEncoding.DecodeString(segment)
	if err != nil {
		panic(err)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		panic(err)
	}
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range members {
			if !yield(name) {
				return
			}
		}
	})
	name := names[m.IntN(len(names))]
	text := string(data)
	values := []string{`null`, `0`, `1e300`, `-1`, `4102444800`, `true`, `"*"`, `[]`, `{}`, `["acme-db"]`, `"acme-2026"`, `{"sso":true,"nodes":1000}`}
	value := values[m.IntN(len(values))]
	switch m.IntN(7) {
	case 0:
		members[name] = json.RawMessage(value)
	case 1:
		delete(members, name)
	case 2:
		members[strings.ToUpper(name)] = json.RawMessage(value)
	case 3: // twice
		return b64(text[:len(text)-1] + `,"` + name + `":` + value + "}")
	case 4: // the same with white space
		i := strings.IndexAny(text, `,:{`) + 1
		return b64(text[:i] + " " + text[i:])
	case 5: // the same with an escape
		return b64(strings.Replace(text, `"`+name, fmt.Sprintf(`"\u%04x%s`, name[0], name[1:]), 1))
	case 6: // another number somewhere
		b := []byte(text)
		for i := range b {
			if j := (i + m.IntN(len(b))) % len(b); '0' <= b[j] && b[j] <= '9' {
				b[j] = '0' + (b[j]-'0'+1+byte(m.IntN(9)))%10
				break
			}
		}
		return b64(string(b))
	}
	out, err := json.Marshal(members)
	if err != nil {
		panic(err)
	}
	return b64(string(out))
}

// numbers makes a signature of numbers that have fooled verifiers, and of the genuine one's halves.
func (m *mutator) numbers(token string) []byte {
	sig, err := base64.RawURLEncoding.DecodeString(token[strings.LastIndexByte(token, '.')+1:])
	if err != nil {
		panic(err)
	}
	half := func() []byte {
		order := m.robber.Params().N.Bytes()
		return [][]byte{make([]byte, 32), bytes.Repeat([]byte{255}, 32), append(make([]byte, 31), 1), order, sig[:32], sig[32:],
			slices.Concat(sig[1:32], sig[:1]), {}}[m.IntN(8)]
	}
	return slices.Concat(half(), half())
}

// forge signs with keys that the app does not have, and with those that everybody has.
func (m *mutator) forge(text string) string {
	var sig []byte
	switch m.IntN(3) {
	case 0:
		sig = ed25519.Sign(m.thief, []byte(text))
	case 1:
		digest := sha256.Sum256([]byte(text))
		r, s, err := ecdsa.Sign(rand.Reader, m.robber, digest[:])
		if err != nil {
			panic(err)
		}
		sig = slices.Concat(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32)))
	case 2:
		mac := hmac.New(sha256.New, seedKey(1)[32:])
		mac.Write([]byte(text))
		sig = mac.Sum(nil)
	}
	return text + "." + b64(string(sig))
}

// Tokens of both algorithms, altered in eighteen ways and in several at once: what parses is a genuine token byte for
// byte, but for what may stand around it, or the other spelling of an ECDSA signature. -mutants 1000000 takes minutes.
func TestMutantsAreRefused(t *testing.T) {
	if testing.Short() {
		*mutants = min(*mutants, 1000)
	}
	v := verifier(t)
	genuine := map[string]*license.License{} // by its bytes
	m := &mutator{Rand: mrand.New(mrand.NewPCG(20261124, 5)), thief: seedKey(66), robber: ecKey(t, 66)}
	for _, i := range issuers(t) {
		for n := range 3 {
			l := terms()
			l.ID, l.Seq = fmt.Sprintf("token-%d", n), int64(n+1)
			l.Plan = strings.Repeat("~?", n) // of other lengths, with - and _ in base64
			token, err := i.Issue(l)
			require.NoError(t, err)
			m.tokens = append(m.tokens, string(token))
		}
	}
	slices.SortStableFunc(m.tokens, func(a, b string) int { return strings.Compare(a[:40], b[:40]) })
	for _, token := range m.tokens {
		l, err := v.Parse([]byte(token))
		require.NoError(t, err)
		genuine[token] = l
		if l.KeyID == "acme-ec" {
			genuine[otherSpelling(t, token)] = l
		}
	}
	all := slices.Concat(rough, fine)
	refusals, codes := map[string]int{}, map[license.Code]int{}
	for tried := 0; tried < *mutants; {
		token := m.pick()
		way := all[m.IntN(len(all))]
		how := way.name
		token = way.make(m, token)
		if m.IntN(4) == 0 {
			second := rough[m.IntN(len(rough))]
			how, token = how+", "+second.name, second.make(m, token)
		}
		l, err := v.Parse([]byte(token))
		want, known := genuine[bare([]byte(token))]
		if known {
			if err != nil || l.ID != want.ID {
				t.Fatalf("%s: the genuine %q: %v", how, token, err)
			}
			continue // the mutation changed nothing, or back
		}
		tried++
		var refusal *license.TokenError
		if l != nil || !errors.As(err, &refusal) {
			t.Fatalf("%s: parsed %q", how, token)
		}
		refusals[way.name]++
		codes[refusal.Code]++
	}
	for _, way := range all {
		require.Positive(t, refusals[way.name], way.name)
	}
	// Most have to get as far as the signature: the gate would hide that nobody looks at it.
	require.Greater(t, codes[license.ErrBadSignature], *mutants/4)
	t.Logf("%d refused: %v", *mutants, codes)
}
