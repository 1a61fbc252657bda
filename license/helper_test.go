package license_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/license"
)

const (
	issuerName = "https://licenses.acme.example"
	product    = "acme-db"
)

// Fixed keys, so that tokens can be written down. seedKey(1) is "acme-2026", the one that most tests sign with.
func seedKey(n byte) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte{'f', 'a', 'i', 'r', n})
	return ed25519.NewKeyFromSeed(seed[:])
}

func ecKey(t testing.TB, n byte) *ecdsa.PrivateKey {
	t.Helper()
	seed := sha256.Sum256([]byte{'e', 'c', n})
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), seed[:])
	require.NoError(t, err)
	return key
}

func date(s string) time.Time {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		panic(err)
	}
	return t
}

var (
	issued = date("2026-01-01")
	now    = date("2026-03-01")
)

func ring(t testing.TB) *license.Keyring {
	t.Helper()
	r, err := license.NewKeyring(
		license.Key{ID: "acme-2026", Public: seedKey(1).Public()},
		license.Key{ID: "acme-ec", Public: ecKey(t, 1).Public()},
		license.Key{ID: "acme-2025", Public: seedKey(3).Public(), NotBefore: date("2025-01-01"), Retired: date("2026-01-01")})
	require.NoError(t, err)
	return r
}

func verifier(t testing.TB, change ...func(*license.Config)) *license.Verifier {
	t.Helper()
	c := license.Config{Issuer: issuerName, Product: product, Keys: ring(t)}
	for _, f := range change {
		f(&c)
	}
	v, err := license.NewVerifier(c)
	require.NoError(t, err)
	return v
}

// terms are those of the genuine licence of most tests.
func terms() license.License {
	return license.License{
		Subject: "cus_7Q2", ID: "01J9ZK5E9V", LicenseID: "lic_42", Seq: 3, Audience: []string{product},
		IssuedAt: issued, NotBefore: issued, Expires: date("2027-01-01"), LicenseExpires: date("2027-01-01"),
		Grace: 14 * 24 * time.Hour, UpdatesUntil: date("2026-06-30"), SecurityUntil: date("2028-01-01"),
		Versions: ">=2.0.0 <4.0.0", Channels: []string{"stable", "lts"},
		Entitlements: map[string]any{"sso": true, "audit": false, "nodes": int64(25), "region": "eu"},
		Plan:         "enterprise", Env: "production",
		Refresh: &license.Refresh{URL: issuerName + "/v1/refresh", After: date("2026-12-01")},
	}
}

func issue(t testing.TB, change ...func(*license.License)) []byte {
	t.Helper()
	l := terms()
	for _, f := range change {
		f(&l)
	}
	i, err := license.NewIssuer(seedKey(1), "acme-2026", issuerName)
	require.NoError(t, err)
	token, err := i.Issue(l)
	require.NoError(t, err)
	return token
}

func parse(t testing.TB, change ...func(*license.License)) *license.License {
	t.Helper()
	l, err := verifier(t).Parse(issue(t, change...))
	require.NoError(t, err)
	return l
}

func b64(data string) string { return base64.RawURLEncoding.EncodeToString([]byte(data)) }

// mint signs any header and payload with the genuine key: what an issuer gone wrong could do.
func mint(header, payload string) []byte {
	text := b64(header) + "." + b64(payload)
	return []byte(text + "." + b64(string(ed25519.Sign(seedKey(1), []byte(text)))))
}

const goodHeader = `{"alg":"EdDSA","kid":"acme-2026","typ":"license+jwt"}`

// claims are a minimal genuine payload; with and without change one thing in it.
func claims() map[string]any {
	return map[string]any{"v": 1, "iss": issuerName, "aud": []string{product}, "sub": "cus_7Q2", "jti": "01J9ZK5E9V",
		"iat": issued.Unix(), "exp": date("2027-01-01").Unix(), "lid": "lic_42", "seq": 3}
}

func payload(m map[string]any) string {
	data, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(data)
}

func with(name string, value any) string {
	m := claims()
	m[name] = value
	return payload(m)
}

func without(name string) string {
	m := claims()
	maps.DeleteFunc(m, func(k string, _ any) bool { return k == name })
	return payload(m)
}

// release is one that the genuine licence includes.
func release(change ...func(*channel.Release)) channel.Release {
	r := channel.Release{V: 1, Version: "2.4.0", Seq: 9, Published: date("2026-03-01"),
		Platforms: []channel.Platform{{OS: "linux", Arch: "amd64"}}, Requires: []string{"sso"}}
	for _, f := range change {
		f(&r)
	}
	return r
}
