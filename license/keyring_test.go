package license_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/license"
)

func TestNewKeyring(t *testing.T) {
	good := license.Key{ID: "k1", Public: seedKey(1).Public()}
	_, err := license.NewKeyring(good)
	require.NoError(t, err)
	_, err = license.NewKeyring()
	require.ErrorContains(t, err, "at least one key")
	_, err = license.NewKeyring(good, license.Key{ID: "k1", Public: seedKey(2).Public()})
	require.ErrorContains(t, err, `two keys have the id "k1"`)

	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	public := seedKey(1).Public().(ed25519.PublicKey)
	for name, c := range map[string]struct {
		change func(*license.Key)
		words  string
	}{
		"no id":          {func(k *license.Key) { k.ID = "" }, "1 to 128 characters"},
		"long id":        {func(k *license.Key) { k.ID = strings.Repeat("k", 129) }, "1 to 128 characters"},
		"id with space":  {func(k *license.Key) { k.ID = "k 1" }, "visible ASCII"},
		"id with umlaut": {func(k *license.Key) { k.ID = "schlüssel" }, "visible ASCII"},
		"no key":         {func(k *license.Key) { k.Public = nil }, "<nil>"},
		"private key":    {func(k *license.Key) { k.Public = seedKey(1) }, "ed25519.PrivateKey"},
		"bytes":          {func(k *license.Key) { k.Public = []byte(public) }, "[]uint8"},
		"pointer":        {func(k *license.Key) { k.Public = &public }, "*ed25519.PublicKey"},
		"RSA":            {func(k *license.Key) { k.Public = rsaKey.Public() }, "*rsa.PublicKey"},
		"P-384":          {func(k *license.Key) { k.Public = p384.Public() }, "not on the curve P-256"},
		"nil EC":         {func(k *license.Key) { k.Public = (*ecdsa.PublicKey)(nil) }, "not on the curve P-256"},
		"EC, no curve":   {func(k *license.Key) { k.Public = &ecdsa.PublicKey{} }, "not on the curve P-256"},
		"EC, off curve": {func(k *license.Key) {
			//lint:ignore SA1019 a point off the curve can be made in no other way
			k.Public = &ecdsa.PublicKey{Curve: elliptic.P256(), X: big.NewInt(1), Y: big.NewInt(1)}
		}, "not a point"},
		"short":       {func(k *license.Key) { k.Public = public[:31] }, "has 31 bytes"},
		"zeros":       {func(k *license.Key) { k.Public = make(ed25519.PublicKey, 32) }, "all zeros"},
		"upside down": {func(k *license.Key) { k.NotBefore, k.Retired = now, now }, "retired before it is valid"},
	} {
		t.Run(name, func(t *testing.T) {
			k := good
			c.change(&k)
			_, err := license.NewKeyring(k)
			require.ErrorContains(t, err, c.words)
		})
	}
}

// A ring must not change under those who verify with it.
func TestKeyringIsACopy(t *testing.T) {
	public := append(ed25519.PublicKey(nil), seedKey(1).Public().(ed25519.PublicKey)...)
	r, err := license.NewKeyring(license.Key{ID: "acme-2026", Public: public})
	require.NoError(t, err)
	v, err := license.NewVerifier(license.Config{Issuer: issuerName, Product: product, Keys: r})
	require.NoError(t, err)
	public[0] ^= 1
	r.Keys()[0] = license.Key{}
	_, err = v.Parse(issue(t))
	require.NoError(t, err)
}

// What apps embed and `publish license keys` prints: a change here is a change of the format.
const goldenKeyring = `{"keys":[` +
	`{"kty":"OKP","crv":"Ed25519","kid":"acme-2026","use":"sig","alg":"EdDSA","x":"mJuSBQTe0VABBlZxo3GCC6VMm1rtDS5Nh4c_X13d7Bg"},` +
	`{"kty":"EC","crv":"P-256","kid":"acme-ec","use":"sig","alg":"ES256","x":"0u6pSGUfOIvBMtQ-orh_IjltU7B9XUUstGYO24vtnhI","y":"EN2ikM7pftmKL_wgZ0h2oqF8WUDMAUjbiXZ96S0IQyM"},` +
	`{"kty":"OKP","crv":"Ed25519","kid":"acme-2025","use":"sig","alg":"EdDSA","x":"sMF80C0buWmxQnf6gvO84JMllxVbssNQ5yRwtRtXN9k","nbf":1735689600,"retired":1767225600}]}`

func TestKeyringJSON(t *testing.T) {
	data, err := json.Marshal(ring(t))
	require.NoError(t, err)
	require.Equal(t, goldenKeyring, string(data))
	back, err := license.ParseKeyring(data)
	require.NoError(t, err)
	again, err := json.Marshal(back)
	require.NoError(t, err)
	require.Equal(t, goldenKeyring, string(again))
	require.Equal(t, ring(t).Keys(), back.Keys())

	v := verifier(t, func(c *license.Config) { c.Keys = back })
	_, err = v.Parse(issue(t))
	require.NoError(t, err)
	i, err := license.NewIssuer(ecKey(t, 1), "acme-ec", issuerName)
	require.NoError(t, err)
	token, err := i.Issue(terms())
	require.NoError(t, err)
	_, err = v.Parse(token)
	require.NoError(t, err)
}

// RFC 8037 appendix A.2, written by others; with members that are not ours to judge.
func TestParseKeyringFromRFC8037(t *testing.T) {
	r, err := license.ParseKeyring([]byte(`{"issuer":"x","keys":[{"kty":"OKP","crv":"Ed25519","kid":"rfc","key_ops":["verify"],
		"x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`))
	require.NoError(t, err)
	require.Equal(t, "rfc", r.Keys()[0].ID)
	require.True(t, r.Keys()[0].Retired.IsZero())
	require.Equal(t, byte(0xd7), r.Keys()[0].Public.(ed25519.PublicKey)[0])
}

func TestParseKeyringRefuses(t *testing.T) {
	swap := func(old, new string) string {
		require.Contains(t, goldenKeyring, old)
		return strings.Replace(goldenKeyring, old, new, 1)
	}
	for name, c := range map[string]struct{ jwks, words string }{
		"nothing":          {"", "not valid JSON"},
		"no object":        {`[]`, "not a JSON object"},
		"no keys":          {`{"keys":[]}`, "at least one key"},
		"keys absent":      {`{}`, `no list "keys"`},
		"keys null":        {`{"keys":null}`, `no list "keys"`},
		"key null":         {`{"keys":[null]}`, "element 0 of the key ring is not an object"},
		"private":          {swap(`"x":"mJuSBQTe0VABBlZxo3GCC6VMm1rtDS5Nh4c_X13d7Bg"`, `"d":"AA","x":"mJuSBQTe0VABBlZxo3GCC6VMm1rtDS5Nh4c_X13d7Bg"`), `key "acme-2026", element 0 of the key ring, is PRIVATE (it has the member "d")`},
		"private EC":       {swap(`"y":`, `"d":"AA","y":`), "is PRIVATE"},
		"shared":           {`{"keys":[{"kty":"oct","kid":"h","k":"AAAA"}]}`, "is PRIVATE"},
		"RSA private":      {`{"keys":[{"kty":"RSA","kid":"r","n":"AA","e":"AQAB","dp":"AA"}]}`, "is PRIVATE"},
		"RSA":              {`{"keys":[{"kty":"RSA","kid":"r","n":"AA","e":"AQAB"}]}`, `has the type "RSA/"`},
		"P-384":            {swap("P-256", "P-384"), `has the type "EC/P-384"`},
		"X25519":           {swap("Ed25519", "X25519"), `has the type "OKP/X25519"`},
		"wrong kty":        {swap("OKP", "EC"), `has the type "EC/Ed25519"`},
		"wrong alg":        {swap("EdDSA", "ES256"), `names the algorithm "ES256"`},
		"for encryption":   {swap(`"sig"`, `"enc"`), `for use "enc"`},
		"kid absent":       {swap(`"kid":"acme-2026",`, ``), "1 to 128 characters"},
		"kid number":       {swap(`"kid":"acme-2026"`, `"kid":7`), "kid is not a string"},
		"kid twice":        {swap(`"kid":"acme-2026"`, `"kid":"a","KID":"b"`), `has the member "KID" twice`},
		"same kid":         {swap("acme-ec", "acme-2026"), `two keys have the id "acme-2026"`},
		"x absent":         {swap(`"x":"mJuSBQTe0VABBlZxo3GCC6VMm1rtDS5Nh4c_X13d7Bg"`, `"z":1`), "member x of 0 bytes"},
		"x number":         {swap(`"x":"mJuSBQTe0VABBlZxo3GCC6VMm1rtDS5Nh4c_X13d7Bg"`, `"x":1`), "member x of 0 bytes"},
		"x padded":         {swap(`mJuSBQTe0VABBlZxo3GCC6VMm1rtDS5Nh4c_X13d7Bg`, `mJuSBQTe0VABBlZxo3GCC6VMm1rtDS5Nh4c_X13d7Bg=`), "outside the base64url alphabet"},
		"x zeros":          {swap(`mJuSBQTe0VABBlZxo3GCC6VMm1rtDS5Nh4c_X13d7Bg`, strings.Repeat("A", 43)), "all zeros"},
		"x short":          {swap(`mJuSBQTe0VABBlZxo3GCC6VMm1rtDS5Nh4c_X13d7Bg`, strings.Repeat("A", 42)), "not 32"},
		"y absent":         {swap(`,"y":"EN2ikM7pftmKL_wgZ0h2oqF8WUDMAUjbiXZ96S0IQyM"`, ``), "member y of 0 bytes"},
		"off the curve":    {swap(`"y":"EN2ikM7pftmKL_wgZ0h2oqF8WUDMAUjbiXZ96S0IQyM"`, `"y":"`+strings.Repeat("A", 43)+`"`), "not a point"},
		"retired text":     {swap("1767225600", `"2026"`), "retired is not a number"},
		"retired too soon": {swap("1767225600", "1735689600"), "retired before it is valid"},
		"huge":             {strings.Repeat(" ", 256<<10) + goldenKeyring, "at most 262144"},
		"deep":             {`{"keys":` + strings.Repeat("[", 9) + strings.Repeat("]", 9) + `}`, "deeper than 8"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := license.ParseKeyring([]byte(c.jwks))
			require.Nil(t, r)
			require.ErrorContains(t, err, c.words)
			require.True(t, strings.HasPrefix(err.Error(), "license: "), err)
			require.Equal(t, 1, strings.Count(err.Error(), "license: "), err)
		})
	}
}

// Rotation: a new key issues, the old one keeps what it issued.
func TestRotationStory(t *testing.T) {
	oldToken := issue(t, func(l *license.License) { l.IssuedAt = date("2025-06-01"); l.NotBefore = l.IssuedAt })
	next, err := license.NewIssuer(seedKey(5), "acme-2027", issuerName)
	require.NoError(t, err)
	newToken, err := next.Issue(terms())
	require.NoError(t, err)
	thief := issue(t) // made with the old key after it was retired

	_, err = verifier(t).Parse(newToken)
	require.ErrorIs(t, err, license.ErrUnknownKey, "an app from before the rotation says: update the app")

	rotated, err := license.NewKeyring(
		license.Key{ID: "acme-2026", Public: seedKey(1).Public(), Retired: date("2025-12-01")},
		license.Key{ID: "acme-2027", Public: seedKey(5).Public(), NotBefore: date("2025-11-01")})
	require.NoError(t, err)
	v := verifier(t, func(c *license.Config) { c.Keys = rotated })
	for _, token := range [][]byte{oldToken, newToken} {
		_, err = v.Parse(token)
		require.NoError(t, err)
	}
	_, err = v.Parse(thief)
	require.ErrorIs(t, err, license.ErrKeyPeriod)
}
