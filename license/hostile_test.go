package license_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/license"
)

// refused asserts the whole contract of an error: its code, its words, no license, and no token in the text.
func refused(t *testing.T, v *license.Verifier, token []byte, code license.Code, words string) {
	t.Helper()
	l, err := v.Parse(token)
	require.Nil(t, l, "a token that is refused leaves nothing to use")
	require.ErrorIs(t, err, code)
	var te *license.TokenError
	require.ErrorAs(t, err, &te)
	require.Equal(t, code, te.Code)
	require.Contains(t, err.Error(), words)
	require.True(t, strings.HasPrefix(err.Error(), "license: "), err)
	require.Less(t, len(err.Error()), 600)
	for part := range bytes.SplitSeq(token, []byte(".")) {
		if len(part) > 40 {
			require.NotContains(t, err.Error(), string(part[:40]), "the token is a credential")
		}
	}
	s := v.Status(token, now)
	require.Equal(t, license.Invalid, s.State)
	require.ErrorIs(t, s.Err, code)
	require.Nil(t, s.License)
	grantsNothing(t, s)
	require.False(t, s.AllowUpdate("stable", "2.3.0", release()).Allowed)
	require.False(t, l.Has("sso"), "claims read after an error")
	_, limited := l.Limit("nodes")
	_, worded := l.Value("region")
	require.False(t, limited || worded)
}

// grantsNothing asserts that a status which does not hold is no use to anybody.
func grantsNothing(t *testing.T, s license.Status) {
	t.Helper()
	for _, code := range []string{"sso", "nodes", "region", ""} {
		require.False(t, s.Has(code))
		n, limited := s.Limit(code)
		text, worded := s.Value(code)
		require.False(t, limited || worded || n != 0 || text != "")
	}
}

func TestMinimalIsGenuine(t *testing.T) {
	l, err := verifier(t).Parse(mint(goodHeader, payload(claims())))
	require.NoError(t, err)
	require.Equal(t, "lic_42", l.LicenseID)
	require.Equal(t, l.IssuedAt, l.NotBefore, "no nbf: at once")
	_, err = verifier(t).Parse(mint(goodHeader+strings.Repeat(" ", 1024-len(goodHeader)), payload(claims())))
	require.NoError(t, err, "the longest header")
}

func TestHostileHeader(t *testing.T) {
	v := verifier(t)
	body := payload(claims())
	for name, c := range map[string]struct {
		header string
		code   license.Code
		words  string
	}{
		"alg none":             {`{"alg":"none","kid":"acme-2026","typ":"license+jwt"}`, license.ErrHeader, `alg is "none"`},
		"alg None":             {`{"alg":"None","kid":"acme-2026","typ":"license+jwt"}`, license.ErrHeader, `alg is "None"`},
		"alg HS256":            {`{"alg":"HS256","kid":"acme-2026","typ":"license+jwt"}`, license.ErrHeader, `alg is "HS256"`},
		"alg RS256":            {`{"alg":"RS256","kid":"acme-2026","typ":"license+jwt"}`, license.ErrHeader, `alg is "RS256"`},
		"alg ES384":            {`{"alg":"ES384","kid":"acme-2026","typ":"license+jwt"}`, license.ErrHeader, `alg is "ES384"`},
		"alg eddsa":            {`{"alg":"eddsa","kid":"acme-2026","typ":"license+jwt"}`, license.ErrHeader, `alg is "eddsa"`},
		"alg absent":           {`{"kid":"acme-2026","typ":"license+jwt"}`, license.ErrHeader, `alg is ""`},
		"alg number":           {`{"alg":1,"kid":"acme-2026","typ":"license+jwt"}`, license.ErrHeader, "alg is not a string"},
		"alg null":             {`{"alg":null,"kid":"acme-2026","typ":"license+jwt"}`, license.ErrHeader, "alg is not a string"},
		"alg list":             {`{"alg":["EdDSA"],"kid":"acme-2026","typ":"license+jwt"}`, license.ErrHeader, "alg is not a string"},
		"alg twice":            {`{"alg":"none","alg":"EdDSA","kid":"acme-2026","typ":"license+jwt"}`, license.ErrMalformed, `"alg" twice`},
		"alg twice, escaped":   {`{"\u0061lg":"none","alg":"EdDSA","kid":"acme-2026","typ":"license+jwt"}`, license.ErrMalformed, `"alg" twice`},
		"alg and ALG":          {`{"ALG":"none","alg":"EdDSA","kid":"acme-2026","typ":"license+jwt"}`, license.ErrMalformed, "twice"},
		"Alg alone":            {`{"Alg":"EdDSA","kid":"acme-2026","typ":"license+jwt"}`, license.ErrHeader, `member "Alg"`},
		"alg of other key":     {`{"alg":"ES256","kid":"acme-2026","typ":"license+jwt"}`, license.ErrHeader, `key "acme-2026" is for EdDSA`},
		"EdDSA, EC key":        {`{"alg":"EdDSA","kid":"acme-ec","typ":"license+jwt"}`, license.ErrHeader, `key "acme-ec" is for ES256`},
		"other key's kid":      {`{"alg":"EdDSA","kid":"acme-2025","typ":"license+jwt"}`, license.ErrBadSignature, "does not fit"},
		"kid unknown":          {`{"alg":"EdDSA","kid":"acme-2031","typ":"license+jwt"}`, license.ErrUnknownKey, "update the app"},
		"kid absent":           {`{"alg":"EdDSA","typ":"license+jwt"}`, license.ErrHeader, "names no key"},
		"kid empty":            {`{"alg":"EdDSA","kid":"","typ":"license+jwt"}`, license.ErrHeader, "names no key"},
		"kid path":             {`{"alg":"EdDSA","kid":"../../dev/null","typ":"license+jwt"}`, license.ErrUnknownKey, "../../dev/null"},
		"kid URL":              {`{"alg":"EdDSA","kid":"https://evil.example/k","typ":"license+jwt"}`, license.ErrUnknownKey, "evil.example"},
		"kid SQL":              {`{"alg":"EdDSA","kid":"x' UNION SELECT 'k","typ":"license+jwt"}`, license.ErrUnknownKey, "UNION"},
		"kid long":             {`{"alg":"EdDSA","kid":"` + strings.Repeat("k", 900) + `","typ":"license+jwt"}`, license.ErrUnknownKey, "kkkk"},
		"kid of 9 kB":          {`{"alg":"EdDSA","kid":"` + strings.Repeat("k", 9000) + `","typ":"license+jwt"}`, license.ErrMalformed, "header is longer than 1024 bytes"},
		"kid object":           {`{"alg":"EdDSA","kid":{"a":1},"typ":"license+jwt"}`, license.ErrHeader, "kid is not a string"},
		"alg Ed25519":          {`{"alg":"Ed25519","kid":"acme-2026","typ":"license+jwt"}`, license.ErrHeader, `alg is "Ed25519"`},
		"alg with a blank":     {`{"alg":"EdDSA ","kid":"acme-2026","typ":"license+jwt"}`, license.ErrHeader, `alg is "EdDSA "`},
		"kid number":           {`{"alg":"EdDSA","kid":1,"typ":"license+jwt"}`, license.ErrHeader, "kid is not a string"},
		"kid null":             {`{"alg":"EdDSA","kid":null,"typ":"license+jwt"}`, license.ErrHeader, "kid is not a string"},
		"kid list":             {`{"alg":"EdDSA","kid":["acme-2026"],"typ":"license+jwt"}`, license.ErrHeader, "kid is not a string"},
		"kid twice":            {`{"alg":"EdDSA","kid":"x","kid":"acme-2026","typ":"license+jwt"}`, license.ErrMalformed, `"kid" twice`},
		"kid and NUL":          {`{"alg":"EdDSA","kid":"acme-2026\u0000","typ":"license+jwt"}`, license.ErrUnknownKey, `acme-2026\x00`},
		"kid and blank":        {`{"alg":"EdDSA","kid":" acme-2026","typ":"license+jwt"}`, license.ErrUnknownKey, `" acme-2026"`},
		"kid in other letters": {`{"alg":"EdDSA","kid":"\u0430cme-2026","typ":"license+jwt"}`, license.ErrUnknownKey, "update the app"},
		"kid case":             {`{"alg":"EdDSA","kid":"ACME-2026","typ":"license+jwt"}`, license.ErrUnknownKey, "ACME-2026"},
		"jwk": {`{"alg":"EdDSA","kid":"acme-2026","typ":"license+jwt","jwk":{"kty":"OKP","crv":"Ed25519","x":"AA"}}`,
			license.ErrHeader, `member "jwk"`},
		"jku":           {`{"alg":"EdDSA","kid":"acme-2026","typ":"license+jwt","jku":"https://evil.example"}`, license.ErrHeader, `member "jku"`},
		"x5u":           {`{"alg":"EdDSA","kid":"acme-2026","typ":"license+jwt","x5u":"https://evil.example"}`, license.ErrHeader, `member "x5u"`},
		"x5c":           {`{"alg":"EdDSA","kid":"acme-2026","typ":"license+jwt","x5c":["AA"]}`, license.ErrHeader, `member "x5c"`},
		"crit":          {`{"alg":"EdDSA","kid":"acme-2026","typ":"license+jwt","crit":["exp"]}`, license.ErrHeader, `member "crit"`},
		"b64":           {`{"alg":"EdDSA","kid":"acme-2026","typ":"license+jwt","b64":false}`, license.ErrHeader, `member "b64"`},
		"b64, crit":     {`{"alg":"EdDSA","kid":"acme-2026","typ":"license+jwt","b64":false,"crit":["b64"]}`, license.ErrHeader, "the header has the member"},
		"x5t":           {`{"alg":"EdDSA","kid":"acme-2026","typ":"license+jwt","x5t":"AA"}`, license.ErrHeader, `member "x5t"`},
		"crit unknown":  {`{"alg":"EdDSA","kid":"acme-2026","typ":"license+jwt","crit":["x"]}`, license.ErrHeader, `member "crit"`},
		"crit empty":    {`{"alg":"EdDSA","kid":"acme-2026","typ":"license+jwt","crit":[]}`, license.ErrHeader, `member "crit"`},
		"crit null":     {`{"alg":"EdDSA","kid":"acme-2026","typ":"license+jwt","crit":null}`, license.ErrHeader, `member "crit"`},
		"unknown":       {`{"alg":"EdDSA","kid":"acme-2026","typ":"license+jwt","x":1}`, license.ErrHeader, `member "x"`},
		"typ number":    {`{"alg":"EdDSA","kid":"acme-2026","typ":1}`, license.ErrHeader, "typ is not a string"},
		"typ media":     {`{"alg":"EdDSA","kid":"acme-2026","typ":"application/license+jwt"}`, license.ErrHeader, `typ is "application/license+jwt"`},
		"typ twice":     {`{"alg":"EdDSA","kid":"acme-2026","typ":"JWT","typ":"license+jwt"}`, license.ErrMalformed, `"typ" twice`},
		"cty":           {`{"alg":"EdDSA","kid":"acme-2026","typ":"license+jwt","cty":"JWT"}`, license.ErrHeader, `member "cty"`},
		"typ JWT":       {`{"alg":"EdDSA","kid":"acme-2026","typ":"JWT"}`, license.ErrHeader, `typ is "JWT"`},
		"typ case":      {`{"alg":"EdDSA","kid":"acme-2026","typ":"License+JWT"}`, license.ErrHeader, `typ is "License+JWT"`},
		"typ of leases": {`{"alg":"EdDSA","kid":"acme-2026","typ":"lease+jwt"}`, license.ErrHeader, `typ is "lease+jwt"`},
		"typ absent":    {`{"alg":"EdDSA","kid":"acme-2026"}`, license.ErrHeader, `typ is ""`},
		"no object":     {`["EdDSA"]`, license.ErrMalformed, "not a JSON object"},
		"null":          {`null`, license.ErrMalformed, "not a JSON object"},
		"no JSON":       {`alg=EdDSA`, license.ErrMalformed, "header is not valid JSON"},
		"two values":    {goodHeader + `{}`, license.ErrMalformed, "header is not valid JSON"},
		"no UTF-8":      {"{\"alg\":\"EdDSA\xff\"}", license.ErrMalformed, "not valid UTF-8"},
		"deep":          {strings.Repeat("[", 500) + strings.Repeat("]", 500), license.ErrMalformed, "deeper than 8"},
		"deep, open":    {strings.Repeat("[", 1000), license.ErrMalformed, "header is not valid JSON"},
		"deep objects":  {strings.Repeat(`{"a":`, 150) + "1" + strings.Repeat("}", 150), license.ErrMalformed, "deeper than 8"},
		"deep kid":      {`{"alg":"EdDSA","typ":"license+jwt","kid":` + strings.Repeat("[", 400) + strings.Repeat("]", 400) + `}`, license.ErrMalformed, "deeper than 8"},
		"4,000 deep":    {strings.Repeat("[", 4000) + strings.Repeat("]", 4000), license.ErrMalformed, "header is longer than 1024 bytes"},
		"10,000 deep":   {strings.Repeat("[", 10000) + strings.Repeat("]", 10000), license.ErrMalformed, "token is longer than 16384 bytes"},
		"1,025 bytes":   {goodHeader + strings.Repeat(" ", 1025-len(goodHeader)), license.ErrMalformed, "header is longer than 1024 bytes"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, v, mint(c.header, body), c.code, c.words) })
	}
}

// The oldest of all: the public key, which everybody has, taken for an HMAC secret.
func TestPublicKeyAsSecret(t *testing.T) {
	point, err := ecKey(t, 1).PublicKey.Bytes()
	require.NoError(t, err)
	for kid, key := range map[string]struct {
		alg    string
		public crypto.PublicKey
		raw    []byte
	}{
		"acme-2026": {"EdDSA", seedKey(1).Public(), seedKey(1)[32:]}, "acme-ec": {"ES256", ecKey(t, 1).Public(), point},
	} {
		der, err := x509.MarshalPKIXPublicKey(key.public)
		require.NoError(t, err)
		jwks, err := json.Marshal(ring(t))
		require.NoError(t, err)
		for name, secret := range map[string][]byte{"raw": key.raw, "DER": der, "JWK set": jwks,
			"PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})} {
			for _, alg := range []string{"HS256", key.alg} {
				text := b64(`{"alg":"`+alg+`","kid":"`+kid+`","typ":"license+jwt"}`) + "." + b64(payload(claims()))
				mac := hmac.New(sha256.New, secret)
				mac.Write([]byte(text))
				token := []byte(text + "." + b64(string(mac.Sum(nil))))
				want, words := license.ErrHeader, `alg is "HS256"`
				if alg == key.alg {
					want, words = license.ErrBadSignature, "does not fit"
				}
				t.Run(kid+" "+name+" "+alg, func(t *testing.T) { refused(t, verifier(t), token, want, words) })
			}
		}
	}
}

// Keys and algorithms of the attacker's own, with signatures that fit.
func TestSignedByOthers(t *testing.T) {
	v := verifier(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims(claims()))
	token.Header = map[string]any{"alg": "RS256", "kid": "acme-2026", "typ": "license+jwt"}
	signed, err := token.SignedString(key)
	require.NoError(t, err)
	refused(t, v, []byte(signed), license.ErrHeader, `alg is "RS256"`)

	thief := seedKey(66)
	for header, want := range map[string]license.Code{
		goodHeader: license.ErrBadSignature,
		`{"alg":"EdDSA","kid":"acme-2025","typ":"license+jwt"}`:                                        license.ErrBadSignature,
		`{"alg":"EdDSA","kid":"thief","typ":"license+jwt"}`:                                            license.ErrUnknownKey,
		`{"alg":"EdDSA","typ":"license+jwt"}`:                                                          license.ErrHeader,
		`{"alg":"EdDSA","kid":"acme-2026","typ":"license+jwt","jwk":` + publicJWK(thief) + `}`:         license.ErrHeader,
		`{"alg":"EdDSA","kid":"acme-2026","typ":"license+jwt","jku":"https://evil.example/jwks.json"}`: license.ErrHeader,
		`{"alg":"EdDSA","kid":"https://evil.example/jwks.json","typ":"license+jwt"}`:                   license.ErrUnknownKey,
		`{"alg":"EdDSA","kid":"acme-ec","typ":"license+jwt"}`:                                          license.ErrHeader,
		`{"alg":"ES256","kid":"acme-ec","typ":"license+jwt"}`:                                          license.ErrBadSignature,
		`{"alg":"none","kid":"acme-2026","typ":"license+jwt"}`:                                         license.ErrHeader,
		`{"alg":"EdDSA","kid":"acme-2026","kid":"thief","typ":"license+jwt"}`:                          license.ErrMalformed,
	} {
		text := b64(header) + "." + b64(payload(claims()))
		refused(t, v, []byte(text+"."+b64(string(ed25519.Sign(thief, []byte(text))))), want, "license: ")
	}
	none := b64(`{"alg":"none","kid":"acme-2026","typ":"license+jwt"}`) + "." + b64(payload(claims())) + "."
	refused(t, v, []byte(none), license.ErrMalformed, "signature is empty")
	refused(t, v, []byte(none+"AA"), license.ErrHeader, `alg is "none"`)
}

func publicJWK(key ed25519.PrivateKey) string {
	return `{"kty":"OKP","crv":"Ed25519","x":"` + b64(string(key[32:])) + `"}`
}

// What "EdDSA" and "ES256" mean are variables of golang-jwt. A package that writes to them decides nothing.
func TestReplacedSigningMethod(t *testing.T) {
	ed, ec := jwt.SigningMethodEdDSA, *jwt.SigningMethodES256
	jwt.SigningMethodEdDSA, jwt.SigningMethodES256.KeySize = nil, 1
	for _, alg := range []string{"EdDSA", "ES256"} {
		jwt.RegisterSigningMethod(alg, func() jwt.SigningMethod { return yesMan{} })
	}
	t.Cleanup(func() {
		jwt.SigningMethodEdDSA, *jwt.SigningMethodES256 = ed, ec
		jwt.RegisterSigningMethod("EdDSA", func() jwt.SigningMethod { return jwt.SigningMethodEdDSA })
		jwt.RegisterSigningMethod("ES256", func() jwt.SigningMethod { return jwt.SigningMethodES256 })
	})
	for _, i := range issuers(t) {
		token, err := i.Issue(terms())
		require.NoError(t, err, "issued and read back")
		refused(t, verifier(t), append(token[:len(token)-4], "AAAA"...), license.ErrBadSignature, "does not fit")
	}
}

type yesMan struct{}

func (yesMan) Verify(string, []byte, any) error { return nil }
func (yesMan) Sign(string, any) ([]byte, error) { return nil, nil }
func (yesMan) Alg() string                      { return "EdDSA" }

func TestHostilePayload(t *testing.T) {
	v := verifier(t)
	good := payload(claims())
	add := func(members string) string { return strings.TrimSuffix(good, "}") + "," + members + "}" }
	manyCodes := map[string]bool{}
	for i := range 257 {
		manyCodes[fmt.Sprintf("c%d", i)] = true
	}
	type hostile struct {
		payload string
		code    license.Code
		words   string
	}
	cases := map[string]hostile{
		"duplicate":             {add(`"exp":1900000000`), license.ErrMalformed, `"exp" twice`},
		"duplicate, escaped":    {add(`"\u0065xp":1900000000`), license.ErrMalformed, `"exp" twice`},
		"case variant":          {add(`"EXP":1900000000`), license.ErrMalformed, `"EXP" twice`},
		"long s":                {add(`"i\u017fs":"x"`), license.ErrMalformed, "twice"},
		"case variant alone":    {add(`"Grace_s":1`), license.ErrMalformed, `claim "grace_s" is written "Grace_s"`},
		"nested duplicate":      {add(`"ent":{"sso":false,"sso":true}`), license.ErrMalformed, `"sso" twice`},
		"nested case variant":   {add(`"ent":{"sso":false,"SSO":true}`), license.ErrMalformed, `"SSO" twice`},
		"duplicate in unknown":  {add(`"x":[{"a":1,"A":2}]`), license.ErrMalformed, `"A" twice`},
		"deep":                  {add(`"x":` + strings.Repeat("[", 8) + strings.Repeat("]", 8)), license.ErrMalformed, "deeper than 8"},
		"very deep":             {strings.Repeat("[", 4000) + strings.Repeat("]", 4000), license.ErrMalformed, "deeper than 8"},
		"10,000 deep":           {strings.Repeat("[", 10000), license.ErrMalformed, "payload is not valid JSON"},
		"10,000 deep, closed":   {add(`"x":` + strings.Repeat("[", 10000) + strings.Repeat("]", 10000)), license.ErrMalformed, "longer than 16384 bytes"},
		"null":                  {`null`, license.ErrMalformed, "not a JSON object"},
		"list":                  {`[]`, license.ErrMalformed, "not a JSON object"},
		"empty object":          {`{}`, license.ErrClaims, "v is missing"},
		"no JSON":               {`{"v":1`, license.ErrMalformed, "payload is not valid JSON"},
		"two values":            {good + good, license.ErrMalformed, "payload is not valid JSON"},
		"no UTF-8":              {add("\"x\":\"\xff\""), license.ErrMalformed, "not valid UTF-8"},
		"newer version":         {with("v", 2), license.ErrUnsupportedVersion, "update the app"},
		"newer and otherwise":   {`{"v":2,"iss":1,"aud":2,"sub":3,"jti":4,"iat":5,"exp":6,"lid":7,"seq":8}`, license.ErrUnsupportedVersion, "update the app"},
		"version 0":             {with("v", 0), license.ErrClaims, "v is below 1"},
		"version text":          {with("v", "1"), license.ErrClaims, "v is not a number"},
		"version float":         {with("v", 1.5), license.ErrClaims, "v is not an integer"},
		"other issuer":          {with("iss", "https://evil.example"), license.ErrWrongIssuer, "evil.example"},
		"issuer with slash":     {with("iss", issuerName+"/"), license.ErrWrongIssuer, "takes those from"},
		"issuer list":           {with("iss", []string{issuerName}), license.ErrClaims, "iss is not a string"},
		"issuer empty":          {with("iss", ""), license.ErrClaims, "iss is empty"},
		"other product":         {with("aud", "acme-mail"), license.ErrWrongProduct, "acme-mail"},
		"other products":        {with("aud", []string{"acme-mail", "acme-db2"}), license.ErrWrongProduct, `this is "acme-db"`},
		"no product":            {with("aud", []string{}), license.ErrClaims, "aud names no product"},
		"product null":          {with("aud", nil), license.ErrClaims, "aud is not a list"},
		"product nested":        {with("aud", []any{[]string{product}}), license.ErrClaims, "aud is not a string"},
		"product object":        {with("aud", map[string]any{product: true}), license.ErrClaims, "aud is not a list"},
		"empty product":         {with("aud", []string{product, ""}), license.ErrClaims, "aud has an empty element"},
		"sub empty":             {with("sub", ""), license.ErrClaims, "sub is empty"},
		"jti empty":             {with("jti", ""), license.ErrClaims, "jti is empty"},
		"jti number":            {with("jti", 5), license.ErrClaims, "jti is not a string"},
		"jti long":              {with("jti", strings.Repeat("j", 257)), license.ErrClaims, "jti is longer than 256"},
		"lid with escape codes": {with("lid", "\x1b[2Jlic"), license.ErrClaims, "control characters"},
		"lid no character":      {strings.Replace(good, "lic_42", `\ud800`, 1), license.ErrClaims, "control characters or invalid"},
		"exp 0":                 {with("exp", 0), license.ErrClaims, "exp is 0"},
		"exp null":              {with("exp", nil), license.ErrClaims, "exp is not a number"},
		"exp text":              {with("exp", "1900000000"), license.ErrClaims, "exp is not a number"},
		"exp true":              {with("exp", true), license.ErrClaims, "exp is not a number"},
		"exp negative":          {with("exp", -1900000000), license.ErrClaims, "exp is not a time between 2000 and 2199"},
		"exp 1e300":             {strings.Replace(good, "1798761600", "1e300", 1), license.ErrClaims, "exp is not an integer"},
		"exp 1e9":               {strings.Replace(good, "1798761600", "1e9", 1), license.ErrClaims, "exp is not an integer"},
		"exp float":             {strings.Replace(good, "1798761600", "1798761600.0", 1), license.ErrClaims, "exp is not an integer"},
		"exp minus zero":        {strings.Replace(good, "1798761600", "-0", 1), license.ErrClaims, "exp is not an integer"},
		"exp beyond int64":      {strings.Replace(good, "1798761600", "18446744073709551617", 1), license.ErrClaims, "exp is not an integer"},
		"exp beyond 2^53":       {with("exp", int64(1)<<53), license.ErrClaims, "exp is too large"},
		"exp in milliseconds":   {with("exp", 1798761600000), license.ErrClaims, "between 2000 and 2199"},
		"exp 2200":              {with("exp", 7258118400), license.ErrClaims, "between 2000 and 2199"},
		"exp 1999":              {with("exp", 946684799), license.ErrClaims, "between 2000 and 2199"},
		"iat 0":                 {with("iat", 0), license.ErrClaims, "iat is 0"},
		"exp list":              {with("exp", []int64{1798761600}), license.ErrClaims, "exp is not a number"},
		"iat null":              {with("iat", nil), license.ErrClaims, "iat is not a number"},
		"iat negative":          {with("iat", -1), license.ErrClaims, "iat is not a time between"},
		"iat 2200":              {with("iat", 7258118400), license.ErrClaims, "iat is not a time between"},
		"nbf null":              {with("nbf", nil), license.ErrClaims, "nbf is not a number"},
		"nbf 1e300":             {with("nbf", json.RawMessage("1e300")), license.ErrClaims, "nbf is not an integer"},
		"nbf 2200":              {with("nbf", 7258118400), license.ErrClaims, "nbf is not a time between"},
		"nbf text":              {with("nbf", "now"), license.ErrClaims, "nbf is not a number"},
		"lic_exp negative":      {with("lic_exp", -1), license.ErrClaims, "lic_exp is not a time"},
		"upd_until null":        {with("upd_until", nil), license.ErrClaims, "upd_until is not a number"},
		"sec_until text":        {with("sec_until", ""), license.ErrClaims, "sec_until is not a number"},
		"seq 0":                 {with("seq", 0), license.ErrClaims, "seq is below 1"},
		"grace negative":        {with("grace_s", -1), license.ErrClaims, "grace_s is negative"},
		"ver nonsense":          {with("ver", "the new ones"), license.ErrClaims, "ver is not a version constraint"},
		"ver long":              {with("ver", strings.Repeat(">=1.0.0 ", 33)), license.ErrClaims, "ver is longer"},
		"chan text":             {with("chan", "stable"), license.ErrClaims, "chan is not a list"},
		"chan path":             {with("chan", []string{"../stable"}), license.ErrClaims, "not the name of a channel"},
		"ent list":              {with("ent", []string{"sso"}), license.ErrClaims, "ent is not an object"},
		"ent null value":        {with("ent", map[string]any{"sso": nil}), license.ErrClaims, "ent.sso is neither"},
		"ent object value":      {with("ent", map[string]any{"sso": map[string]any{}}), license.ErrClaims, "ent.sso is neither"},
		"ent float":             {with("ent", map[string]any{"n": 1.5}), license.ErrClaims, "ent.n is not an integer"},
		"ent large":             {with("ent", map[string]any{"n": int64(1) << 53}), license.ErrClaims, "ent.n is too large"},
		"ent small":             {with("ent", map[string]any{"n": -int64(1) << 53}), license.ErrClaims, "ent.n is too large"},
		"ent long":              {with("ent", map[string]any{"s": strings.Repeat("x", 257)}), license.ErrClaims, "ent.s is longer"},
		"ent code":              {with("ent", map[string]any{"S S O": true}), license.ErrClaims, "not an entitlement code"},
		"ent many":              {with("ent", manyCodes), license.ErrClaims, "more than 256 codes"},
		"nodes empty element":   {with("nodes", []string{""}), license.ErrClaims, "nodes has an empty element"},
		"nodes text":            {with("nodes", "*"), license.ErrClaims, "nodes is not a list"},
		"max_nodes negative":    {with("max_nodes", -1), license.ErrClaims, "max_nodes is negative"},
		"nodes above max_nodes": {add(`"nodes":["a","b","c"],"max_nodes":2`), license.ErrClaims, "nodes has 3 installations; max_nodes is 2"},
		"max_nodes text":        {with("max_nodes", "9"), license.ErrClaims, "max_nodes is not a number"},
		"req number":            {with("req", 1), license.ErrClaims, "req is not a string"},
		"req long":              {with("req", strings.Repeat("r", 257)), license.ErrClaims, "req is longer than 256"},
		"req case":              {with("Req", "x"), license.ErrMalformed, `claim "req" is written "Req"`},
		"trial text":            {with("trial", "false"), license.ErrClaims, "trial is not true or false"},
		"plan number":           {with("plan", 1), license.ErrClaims, "plan is not a string"},
		"refresh text":          {with("refresh", "https://x"), license.ErrClaims, "refresh is not an object"},
		"refresh without url":   {with("refresh", map[string]any{"after": 1900000000}), license.ErrClaims, "refresh.url is missing"},
		"refresh http":          {with("refresh", map[string]any{"url": "http://x.example"}), license.ErrClaims, "refresh.url is not an https URL"},
		"refresh file":          {with("refresh", map[string]any{"url": "file:///etc/passwd"}), license.ErrClaims, "refresh.url is not an https URL"},
		"refresh long":          {with("refresh", map[string]any{"url": "https://x/" + strings.Repeat("x", 2048)}), license.ErrClaims, "refresh.url is longer"},
	}
	for _, name := range []string{"v", "iss", "aud", "sub", "jti", "iat", "exp", "lid", "seq"} {
		cases[name+" absent"] = hostile{without(name), license.ErrClaims, name + " is missing"}
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { refused(t, v, mint(goodHeader, c.payload), c.code, c.words) })
	}
}

// The counterparts: what looks odd, but is right, and what a later version may add.
func TestOddButGenuine(t *testing.T) {
	v := verifier(t)
	for name, c := range map[string]string{
		"product as text":     with("aud", product),
		"several products":    with("aud", []string{"acme-mail", product}),
		"unknown claims":      with("x_future", map[string]any{"a": []any{1.5, nil, map[string]any{"b": 1e300}}}),
		"zero dates":          with("lic_exp", 0),
		"depth 8":             with("x", json.RawMessage(strings.Repeat("[", 7)+strings.Repeat("]", 7))),
		"white space in JSON": " \n" + payload(claims()) + "\n",
		"ent at its bounds":   with("ent", map[string]any{"n": int64(1)<<53 - 1, "m": -(int64(1)<<53 - 1), "s": strings.Repeat("x", 256)}),
		"exp at its bound":    with("exp", 7258118399),
		"exp long past":       with("exp", 946684800),
		"far future nbf":      with("nbf", 7258118399),
		"far future iat":      with("iat", 7258118399),
		"as many as max":      strings.Replace(payload(claims()), "{", `{"nodes":["a","b"],"max_nodes":2,`, 1),
		"max without nodes":   with("max_nodes", 1),
		"nodes without max":   with("nodes", []string{"a", "b", "c"}),
		"max_nodes 0":         strings.Replace(payload(claims()), "{", `{"nodes":["a","b"],"max_nodes":0,`, 1),
		"request":             with("req", strings.Repeat("r", 256)),
		"absurd grace":        with("grace_s", int64(1)<<53-1),
	} {
		t.Run(name, func(t *testing.T) {
			l, err := v.Parse(mint(goodHeader, c))
			require.NoError(t, err)
			require.NotNil(t, l)
			require.LessOrEqual(t, l.Grace, license.MaxGrace)
		})
	}
}
