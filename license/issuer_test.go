package license_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/license"
)

// The format of tokens, as it stands in apps that are out there. It must not change.
const (
	goldenPayload = `{"aud":["acme-db"],"chan":["stable","lts"],"ent":{"audit":false,"nodes":25,"region":"eu","sso":true},"env":"production","exp":1798761600,"grace_s":1209600,"iat":1767225600,"iss":"https://licenses.acme.example","jti":"01J9ZK5E9V","lic_exp":1798761600,"lid":"lic_42","nbf":1767225600,"plan":"enterprise","refresh":{"after":1796083200,"url":"https://licenses.acme.example/v1/refresh"},"sec_until":1830297600,"seq":3,"sub":"cus_7Q2","trial":false,"upd_until":1782777600,"v":1,"ver":">=2.0.0 <4.0.0"}`
	goldenToken   = `eyJhbGciOiJFZERTQSIsImtpZCI6ImFjbWUtMjAyNiIsInR5cCI6ImxpY2Vuc2Urand0In0.eyJhdWQiOlsiYWNtZS1kYiJdLCJjaGFuIjpbInN0YWJsZSIsImx0cyJdLCJlbnQiOnsiYXVkaXQiOmZhbHNlLCJub2RlcyI6MjUsInJlZ2lvbiI6ImV1Iiwic3NvIjp0cnVlfSwiZW52IjoicHJvZHVjdGlvbiIsImV4cCI6MTc5ODc2MTYwMCwiZ3JhY2VfcyI6MTIwOTYwMCwiaWF0IjoxNzY3MjI1NjAwLCJpc3MiOiJodHRwczovL2xpY2Vuc2VzLmFjbWUuZXhhbXBsZSIsImp0aSI6IjAxSjlaSzVFOVYiLCJsaWNfZXhwIjoxNzk4NzYxNjAwLCJsaWQiOiJsaWNfNDIiLCJuYmYiOjE3NjcyMjU2MDAsInBsYW4iOiJlbnRlcnByaXNlIiwicmVmcmVzaCI6eyJhZnRlciI6MTc5NjA4MzIwMCwidXJsIjoiaHR0cHM6Ly9saWNlbnNlcy5hY21lLmV4YW1wbGUvdjEvcmVmcmVzaCJ9LCJzZWNfdW50aWwiOjE4MzAyOTc2MDAsInNlcSI6Mywic3ViIjoiY3VzXzdRMiIsInRyaWFsIjpmYWxzZSwidXBkX3VudGlsIjoxNzgyNzc3NjAwLCJ2IjoxLCJ2ZXIiOiI-PTIuMC4wIDw0LjAuMCJ9.ZM00W8_D_4GEpnat6rCthAbMwsu96gGXMTD5mrd00U4rPdGgSpAKu0q1cCUcBLV5C9j66NzcmxIKwP5V2Rx_AA`

	// By ECDSA, which is not deterministic: kept from the first day.
	goldenES256 = `eyJhbGciOiJFUzI1NiIsImtpZCI6ImFjbWUtZWMiLCJ0eXAiOiJsaWNlbnNlK2p3dCJ9.eyJhdWQiOlsiYWNtZS1kYiJdLCJjaGFuIjpbInN0YWJsZSIsImx0cyJdLCJlbnQiOnsiYXVkaXQiOmZhbHNlLCJub2RlcyI6MjUsInJlZ2lvbiI6ImV1Iiwic3NvIjp0cnVlfSwiZW52IjoicHJvZHVjdGlvbiIsImV4cCI6MTc5ODc2MTYwMCwiZ3JhY2VfcyI6MTIwOTYwMCwiaWF0IjoxNzY3MjI1NjAwLCJpc3MiOiJodHRwczovL2xpY2Vuc2VzLmFjbWUuZXhhbXBsZSIsImp0aSI6IjAxSjlaSzVFOVYiLCJsaWNfZXhwIjoxNzk4NzYxNjAwLCJsaWQiOiJsaWNfNDIiLCJuYmYiOjE3NjcyMjU2MDAsInBsYW4iOiJlbnRlcnByaXNlIiwicmVmcmVzaCI6eyJhZnRlciI6MTc5NjA4MzIwMCwidXJsIjoiaHR0cHM6Ly9saWNlbnNlcy5hY21lLmV4YW1wbGUvdjEvcmVmcmVzaCJ9LCJzZWNfdW50aWwiOjE4MzAyOTc2MDAsInNlcSI6Mywic3ViIjoiY3VzXzdRMiIsInRyaWFsIjpmYWxzZSwidXBkX3VudGlsIjoxNzgyNzc3NjAwLCJ2IjoxLCJ2ZXIiOiI-PTIuMC4wIDw0LjAuMCJ9._6HpYstlBcNv6XoZwjvxd7MKXo9W_P2sqMLOsY3ksUGfGJuot_7dPD9L7zkc5PZMhWN07K8iHhkYsRD5DbNKRg`
)

func TestGoldenToken(t *testing.T) {
	token := issue(t)
	require.Equal(t, goldenToken, string(token))
	u, err := license.InspectUnverified(token)
	require.NoError(t, err)
	require.Equal(t, goldenPayload, string(u.Claims))
	require.Equal(t, "EdDSA", u.Algorithm)
	require.Equal(t, "acme-2026", u.KeyID)

	want := terms()
	want.Issuer, want.KeyID = issuerName, "acme-2026"
	got, err := verifier(t).Parse([]byte(goldenToken))
	require.NoError(t, err)
	require.Equal(t, &want, got)

	want.KeyID = "acme-ec"
	got, err = verifier(t).Parse([]byte(goldenES256))
	require.NoError(t, err)
	require.Equal(t, &want, got)
}

func TestRoundTripOfEveryClaim(t *testing.T) {
	for name, change := range map[string]func(*license.License){
		"all":                   func(l *license.License) { l.Trial, l.Nodes, l.MaxNodes, l.Request = true, []string{"aa"}, 3, "req_9" },
		"as many nodes as sold": func(l *license.License) { l.Nodes, l.MaxNodes = []string{"aa", "bb"}, 2 },
		"perpetual":             func(l *license.License) { l.LicenseExpires = time.Time{} },
		"sparse": func(l *license.License) {
			*l = license.License{Subject: l.Subject, ID: l.ID, LicenseID: l.LicenseID, Seq: 1, Audience: []string{product},
				IssuedAt: issued, NotBefore: issued, Expires: l.Expires}
		},
		"refresh at once": func(l *license.License) { l.Refresh.After = time.Time{} },
	} {
		l := terms()
		change(&l)
		l.Issuer, l.KeyID = issuerName, "acme-2026"
		require.Equal(t, &l, parse(t, change), name)
	}
}

func TestIssueFillsIn(t *testing.T) {
	change := func(l *license.License) {
		l.ID, l.NotBefore = "", time.Time{}
		l.IssuedAt = issued.Add(700 * time.Millisecond).In(time.FixedZone("x", 3600))
		l.Entitlements = map[string]any{"seats": 7}
	}
	a, b := parse(t, change), parse(t, change)
	require.NotEmpty(t, a.ID)
	require.NotEqual(t, a.ID, b.ID, "every token has an id of its own")
	require.Equal(t, issued, a.IssuedAt, "whole seconds, UTC")
	require.Equal(t, issued, a.NotBefore)
	n, ok := a.Limit("seats")
	require.True(t, ok)
	require.EqualValues(t, 7, n)
}

func TestRenewal(t *testing.T) {
	old := parse(t)
	renewed := *old
	renewed.ID, renewed.KeyID = "", ""
	renewed.Seq++
	renewed.IssuedAt, renewed.Expires, renewed.LicenseExpires = now, date("2028-01-01"), date("2028-01-01")
	i, err := license.NewIssuer(ecKey(t, 1), "acme-ec", issuerName)
	require.NoError(t, err)
	token, err := i.Issue(renewed)
	require.NoError(t, err)
	l, err := verifier(t).Parse(token)
	require.NoError(t, err)
	require.Equal(t, old.LicenseID, l.LicenseID)
	require.Equal(t, old.Seq+1, l.Seq)
	require.NotEqual(t, old.ID, l.ID)
}

func TestIssueRefuses(t *testing.T) {
	i, err := license.NewIssuer(seedKey(1), "acme-2026", issuerName)
	require.NoError(t, err)
	_, err = i.Issue(terms())
	require.NoError(t, err)
	for name, c := range map[string]struct {
		change func(*license.License)
		words  string
	}{
		"other issuer":      {func(l *license.License) { l.Issuer = "https://evil.example" }, "names the issuer"},
		"other key":         {func(l *license.License) { l.KeyID = "acme-2025" }, "clear it to renew"},
		"no product":        {func(l *license.License) { l.Audience = nil }, "names no product"},
		"empty product":     {func(l *license.License) { l.Audience = []string{product, ""} }, "aud has an empty element"},
		"no customer":       {func(l *license.License) { l.Subject = "" }, "sub is empty"},
		"no licence id":     {func(l *license.License) { l.LicenseID = "" }, "lid is empty"},
		"no sequence":       {func(l *license.License) { l.Seq = 0 }, "seq is below 1"},
		"no time of issue":  {func(l *license.License) { l.IssuedAt = time.Time{} }, "iat is 0"},
		"no end":            {func(l *license.License) { l.Expires = time.Time{} }, "would expire before it counts"},
		"end before start":  {func(l *license.License) { l.Expires = l.NotBefore }, "would expire before it counts"},
		"end before issue":  {func(l *license.License) { l.NotBefore = date("2024-01-01"); l.Expires = l.IssuedAt }, "would expire before it counts"},
		"licence ends":      {func(l *license.License) { l.LicenseExpires = l.NotBefore }, "licence would expire before it counts"},
		"year 2200":         {func(l *license.License) { l.Expires = date("2200-01-01") }, "exp is not a time between"},
		"year 1970":         {func(l *license.License) { l.UpdatesUntil = time.Unix(1, 0) }, "upd_until is not a time between"},
		"long grace":        {func(l *license.License) { l.Grace = license.MaxGrace + time.Second }, "a grace of"},
		"negative grace":    {func(l *license.License) { l.Grace = -time.Second }, "a grace of"},
		"broken grace":      {func(l *license.License) { l.Grace = time.Millisecond }, "a grace of"},
		"constraint":        {func(l *license.License) { l.Versions = "new" }, "ver is not a version constraint"},
		"channel":           {func(l *license.License) { l.Channels = []string{"Stable"} }, "not the name of a channel"},
		"code":              {func(l *license.License) { l.Entitlements = map[string]any{"S": true} }, "not an entitlement code"},
		"float":             {func(l *license.License) { l.Entitlements = map[string]any{"n": 2.0} }, `entitlement "n" is a float64`},
		"null":              {func(l *license.License) { l.Entitlements = map[string]any{"n": nil} }, `entitlement "n" is a <nil>`},
		"large":             {func(l *license.License) { l.Entitlements = map[string]any{"n": int64(1) << 53} }, "ent.n is too large"},
		"control character": {func(l *license.License) { l.Plan = "a\nb" }, "plan has control characters"},
		"no UTF-8":          {func(l *license.License) { l.Plan = "a\xff" }, "plan has control characters or invalid"},
		"refresh":           {func(l *license.License) { l.Refresh = &license.Refresh{URL: "ftp://x"} }, "not an https URL"},
		"nodes":             {func(l *license.License) { l.MaxNodes = -1 }, "max_nodes is negative"},
		"nodes not sold":    {func(l *license.License) { l.Nodes, l.MaxNodes = []string{"aa", "bb", "cc"}, 2 }, "nodes has 3 installations; max_nodes is 2"},
		"request":           {func(l *license.License) { l.Request = "a\nb" }, "req has control characters"},
		"too large": {func(l *license.License) {
			for range 60 {
				l.Nodes = append(l.Nodes, strings.Repeat("n", 256))
			}
		}, "longer than 16384 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			l := terms()
			c.change(&l)
			token, err := i.Issue(l)
			require.Nil(t, token)
			require.ErrorContains(t, err, c.words)
			var te *license.TokenError
			require.ErrorAs(t, err, &te)
		})
	}
}

func TestIssueLeavesItsArgumentAlone(t *testing.T) {
	l := terms()
	l.NotBefore, l.ID = time.Time{}, ""
	want := l
	i, err := license.NewIssuer(seedKey(1), "acme-2026", issuerName)
	require.NoError(t, err)
	_, err = i.Issue(l)
	require.NoError(t, err)
	require.Equal(t, want, l)
}

// A signer that is not what it says, such as a KMS key that was rotated under its name.
type oddSigner struct {
	crypto.Signer
	sign func([]byte, crypto.SignerOpts) ([]byte, error)
}

func (s oddSigner) Sign(_ io.Reader, data []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.sign(data, opts)
}

func TestOddSigners(t *testing.T) {
	down := errors.New("kms is down")
	answers := func(sig []byte, err error) func([]byte, crypto.SignerOpts) ([]byte, error) {
		return func([]byte, crypto.SignerOpts) ([]byte, error) { return sig, err }
	}
	for name, c := range map[string]struct {
		signer crypto.Signer
		words  string
	}{
		"other Ed25519 key": {oddSigner{seedKey(1), func(d []byte, o crypto.SignerOpts) ([]byte, error) { return seedKey(2).Sign(nil, d, o) }},
			"does not verify with its public key"},
		"other EC key": {oddSigner{ecKey(t, 1), func(d []byte, o crypto.SignerOpts) ([]byte, error) { return ecKey(t, 2).Sign(rand.Reader, d, o) }},
			"does not verify with its public key"},
		"digest of it": {oddSigner{seedKey(1), func(d []byte, o crypto.SignerOpts) ([]byte, error) {
			digest := sha256.Sum256(d)
			return seedKey(1).Sign(nil, digest[:], o)
		}}, "signs whole messages, not digests of them"},
		"JOSE's form": {oddSigner{ecKey(t, 1), func(d []byte, o crypto.SignerOpts) ([]byte, error) {
			der, err := ecKey(t, 1).Sign(rand.Reader, d, o)
			return der[4:], err
		}}, "answers in ASN.1"},
		"failing":    {oddSigner{seedKey(1), answers(nil, down)}, "kms is down"},
		"failing EC": {oddSigner{ecKey(t, 1), answers(nil, down)}, "kms is down"},
		"nothing":    {oddSigner{seedKey(1), answers(nil, nil)}, "does not verify"},
		"no ASN.1":   {oddSigner{ecKey(t, 1), answers(make([]byte, 64), nil)}, "does not verify"},
		"zero":       {oddSigner{ecKey(t, 1), answers([]byte{0x30, 6, 2, 1, 0, 2, 1, 0}, nil)}, "does not verify"},
		"huge": {oddSigner{ecKey(t, 1), answers(append(append([]byte{0x30, 46, 2, 41}, bytes.Repeat([]byte{1}, 41)...), 2, 1, 1), nil)},
			"does not verify"},
	} {
		t.Run(name, func(t *testing.T) {
			i, err := license.NewIssuer(c.signer, "acme-x", issuerName)
			require.NoError(t, err)
			token, err := i.Issue(terms())
			require.Nil(t, token)
			require.ErrorContains(t, err, c.words)
			var signing *license.SigningError
			require.ErrorAs(t, err, &signing)
			require.Equal(t, "acme-x", signing.KeyID)
			require.Equal(t, c.words == "kms is down", errors.Is(err, down))
		})
	}
}

func TestNewIssuer(t *testing.T) {
	_, err := license.NewIssuer(nil, "k", issuerName)
	require.ErrorContains(t, err, "needs a signer")
	_, err = license.NewIssuer(seedKey(1), "", issuerName)
	require.ErrorContains(t, err, "key id")
	_, err = license.NewIssuer(seedKey(1), "k", "")
	require.ErrorContains(t, err, "needs a name")
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	_, err = license.NewIssuer(rsaKey, "k", issuerName)
	require.ErrorContains(t, err, "*rsa.PublicKey")
}

func TestInspectUnverified(t *testing.T) {
	token := issue(t)
	dot := bytes.LastIndexByte(token, '.')
	forged := append(bytes.Clone(token[:dot+1]), base64.RawURLEncoding.EncodeToString(make([]byte, 64))...)
	u, err := license.InspectUnverified(license.Armor(forged))
	require.NoError(t, err, "it judges nothing")
	require.Equal(t, goldenPayload, string(u.Claims))
	for code, bad := range map[license.Code][]byte{
		license.ErrMalformed: mint(goodHeader, `{"a":1,"A":2}`),
		license.ErrHeader:    mint(`{"alg":"none","kid":"k","typ":"license+jwt"}`, `{}`),
	} {
		u, err = license.InspectUnverified(bad)
		require.Nil(t, u)
		require.ErrorIs(t, err, code)
	}
}

// 1970 would read as absent, and so as endless.
func TestIssueRefuses1970(t *testing.T) {
	i, err := license.NewIssuer(seedKey(1), "acme-2026", issuerName)
	require.NoError(t, err)
	epoch := time.Unix(0, 0)
	for name, change := range map[string]func(*license.License){
		"upd_until": func(l *license.License) { l.UpdatesUntil = epoch }, "sec_until": func(l *license.License) { l.SecurityUntil = epoch },
		"lic_exp": func(l *license.License) { l.LicenseExpires = epoch }, "nbf": func(l *license.License) { l.NotBefore = epoch },
		"refresh.after": func(l *license.License) {
			l.Refresh = &license.Refresh{URL: l.Refresh.URL, After: epoch.Add(time.Millisecond)}
		},
	} {
		l := terms()
		change(&l)
		token, err := i.Issue(l)
		require.ErrorIs(t, err, license.ErrClaims, name)
		require.ErrorContains(t, err, "not issued: "+name+" is 1970-01-01")
		require.Nil(t, token)
	}
}

// As many installations as the documentation of License.Nodes promises.
func TestRoomForNodes(t *testing.T) {
	parse(t, func(l *license.License) {
		for n := range 170 {
			l.Nodes = append(l.Nodes, license.NodeOf(product, fmt.Sprint(n)))
		}
	})
}
