package license_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
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
}

func TestMinimalIsGenuine(t *testing.T) {
	l, err := verifier(t).Parse(mint(goodHeader, payload(claims())))
	require.NoError(t, err)
	require.Equal(t, "lic_42", l.LicenseID)
	require.Equal(t, l.IssuedAt, l.NotBefore, "no nbf: at once")
}

func TestHostileHeader(t *testing.T) {
	v := verifier(t)
	body := payload(claims())
	for name, c := range map[string]struct {
		header string
		code   license.Code
		words  string
	}{
		"alg none":           {`{"alg":"none","kid":"acme-2026","typ":"license+jwt"}`, license.ErrHeader, `alg is "none"`},
		"alg None":           {`{"alg":"None","kid":"acme-2026","typ":"license+jwt"}`, license.ErrHeader, `alg is "None"`},
		"alg HS256":          {`{"alg":"HS256","kid":"acme-2026","typ":"license+jwt"}`, license.ErrHeader, `alg is "HS256"`},
		"alg RS256":          {`{"alg":"RS256","kid":"acme-2026","typ":"license+jwt"}`, license.ErrHeader, `alg is "RS256"`},
		"alg ES384":          {`{"alg":"ES384","kid":"acme-2026","typ":"license+jwt"}`, license.ErrHeader, `alg is "ES384"`},
		"alg eddsa":          {`{"alg":"eddsa","kid":"acme-2026","typ":"license+jwt"}`, license.ErrHeader, `alg is "eddsa"`},
		"alg absent":         {`{"kid":"acme-2026","typ":"license+jwt"}`, license.ErrHeader, `alg is ""`},
		"alg number":         {`{"alg":1,"kid":"acme-2026","typ":"license+jwt"}`, license.ErrHeader, "alg is not a string"},
		"alg null":           {`{"alg":null,"kid":"acme-2026","typ":"license+jwt"}`, license.ErrHeader, "alg is not a string"},
		"alg list":           {`{"alg":["EdDSA"],"kid":"acme-2026","typ":"license+jwt"}`, license.ErrHeader, "alg is not a string"},
		"alg twice":          {`{"alg":"none","alg":"EdDSA","kid":"acme-2026","typ":"license+jwt"}`, license.ErrMalformed, `"alg" twice`},
		"alg twice, escaped": {`{"\u0061lg":"none","alg":"EdDSA","kid":"acme-2026","typ":"license+jwt"}`, license.ErrMalformed, `"alg" twice`},
		"alg and ALG":        {`{"ALG":"none","alg":"EdDSA","kid":"acme-2026","typ":"license+jwt"}`, license.ErrMalformed, "twice"},
		"Alg alone":          {`{"Alg":"EdDSA","kid":"acme-2026","typ":"license+jwt"}`, license.ErrHeader, `member "Alg"`},
		"alg of other key":   {`{"alg":"ES256","kid":"acme-2026","typ":"license+jwt"}`, license.ErrHeader, `key "acme-2026" is for EdDSA`},
		"EdDSA, EC key":      {`{"alg":"EdDSA","kid":"acme-ec","typ":"license+jwt"}`, license.ErrHeader, `key "acme-ec" is for ES256`},
		"other key's kid":    {`{"alg":"EdDSA","kid":"acme-2025","typ":"license+jwt"}`, license.ErrBadSignature, "does not fit"},
		"kid unknown":        {`{"alg":"EdDSA","kid":"acme-2031","typ":"license+jwt"}`, license.ErrUnknownKey, "update the app"},
		"kid absent":         {`{"alg":"EdDSA","typ":"license+jwt"}`, license.ErrHeader, "names no key"},
		"kid empty":          {`{"alg":"EdDSA","kid":"","typ":"license+jwt"}`, license.ErrHeader, "names no key"},
		"kid path":           {`{"alg":"EdDSA","kid":"../../dev/null","typ":"license+jwt"}`, license.ErrUnknownKey, "../../dev/null"},
		"kid URL":            {`{"alg":"EdDSA","kid":"https://evil.example/k","typ":"license+jwt"}`, license.ErrUnknownKey, "evil.example"},
		"kid SQL":            {`{"alg":"EdDSA","kid":"x' UNION SELECT 'k","typ":"license+jwt"}`, license.ErrUnknownKey, "UNION"},
		"kid long":           {`{"alg":"EdDSA","kid":"` + strings.Repeat("k", 9000) + `","typ":"license+jwt"}`, license.ErrUnknownKey, "kkkk"},
		"kid object":         {`{"alg":"EdDSA","kid":{"a":1},"typ":"license+jwt"}`, license.ErrHeader, "kid is not a string"},
		"kid case":           {`{"alg":"EdDSA","kid":"ACME-2026","typ":"license+jwt"}`, license.ErrUnknownKey, "ACME-2026"},
		"jwk": {`{"alg":"EdDSA","kid":"acme-2026","typ":"license+jwt","jwk":{"kty":"OKP","crv":"Ed25519","x":"AA"}}`,
			license.ErrHeader, `member "jwk"`},
		"jku":           {`{"alg":"EdDSA","kid":"acme-2026","typ":"license+jwt","jku":"https://evil.example"}`, license.ErrHeader, `member "jku"`},
		"x5u":           {`{"alg":"EdDSA","kid":"acme-2026","typ":"license+jwt","x5u":"https://evil.example"}`, license.ErrHeader, `member "x5u"`},
		"x5c":           {`{"alg":"EdDSA","kid":"acme-2026","typ":"license+jwt","x5c":["AA"]}`, license.ErrHeader, `member "x5c"`},
		"crit":          {`{"alg":"EdDSA","kid":"acme-2026","typ":"license+jwt","crit":["exp"]}`, license.ErrHeader, `member "crit"`},
		"b64":           {`{"alg":"EdDSA","kid":"acme-2026","typ":"license+jwt","b64":false}`, license.ErrHeader, `member "b64"`},
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
		"deep":          {strings.Repeat("[", 4000) + strings.Repeat("]", 4000), license.ErrMalformed, "deeper than 8"},
		"10,000 deep":   {strings.Repeat("[", 10000), license.ErrMalformed, "header is not valid JSON"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, v, mint(c.header, body), c.code, c.words) })
	}
}

// The oldest of all: the public key, which everybody has, taken for an HMAC secret.
func TestPublicKeyAsSecret(t *testing.T) {
	public := seedKey(1).Public()
	der, err := x509.MarshalPKIXPublicKey(public)
	require.NoError(t, err)
	raw := []byte(fmt.Sprintf("%s", public))
	for name, secret := range map[string][]byte{
		"raw": raw, "DER": der, "PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
	} {
		for _, alg := range []string{"HS256", "EdDSA"} {
			text := b64(`{"alg":"`+alg+`","kid":"acme-2026","typ":"license+jwt"}`) + "." + b64(payload(claims()))
			mac := hmac.New(sha256.New, secret)
			mac.Write([]byte(text))
			token := []byte(text + "." + b64(string(mac.Sum(nil))))
			want, words := license.ErrHeader, `alg is "HS256"`
			if alg == "EdDSA" {
				want, words = license.ErrBadSignature, "does not fit"
			}
			t.Run(name+" "+alg, func(t *testing.T) { refused(t, verifier(t), token, want, words) })
		}
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims(claims()))
	token.Header = map[string]any{"alg": "RS256", "kid": "acme-2026", "typ": "license+jwt"}
	signed, err := token.SignedString(key)
	require.NoError(t, err)
	refused(t, verifier(t), []byte(signed), license.ErrHeader, `alg is "RS256"`)
}

// Which method "EdDSA" names is a global of golang-jwt. A package that writes to it must not decide.
func TestReplacedSigningMethod(t *testing.T) {
	jwt.RegisterSigningMethod("EdDSA", func() jwt.SigningMethod { return yesMan{} })
	t.Cleanup(func() { jwt.RegisterSigningMethod("EdDSA", func() jwt.SigningMethod { return jwt.SigningMethodEdDSA }) })
	token := mint(goodHeader, payload(claims()))
	refused(t, verifier(t), append(token[:len(token)-4], "AAAA"...), license.ErrBadSignature, "replaced the signing method")
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

func TestHostileShape(t *testing.T) {
	v := verifier(t)
	good := string(issue(t))
	head, rest, _ := strings.Cut(good, ".")
	body, signature, _ := strings.Cut(rest, ".")
	last := func(s string) string { // the same bytes with a trailing bit set
		alphabet := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		i := strings.IndexByte(alphabet, s[len(s)-1])
		return s[:len(s)-1] + string(alphabet[i|1])
	}
	require.NotEqual(t, last(signature), signature)
	loose, err := base64.RawURLEncoding.DecodeString(last(signature))
	require.NoError(t, err)
	require.Equal(t, b64(string(loose)), signature, "a lax decoder takes both for the same")
	for name, c := range map[string]struct {
		token, words string
	}{
		"one part":             {head, "0 dots"},
		"two parts":            {head + "." + body, "1 dots"},
		"four parts":           {good + ".AA", "3 dots"},
		"a million dots":       {strings.Repeat(".", 1_000_000), "1000000 bytes are no licence"},
		"many dots":            {strings.Repeat(".", 16000), "16000 dots"},
		"no header":            {"." + body + "." + signature, "header is empty"},
		"no payload":           {head + ".." + signature, "payload is empty"},
		"no signature":         {head + "." + body + ".", "signature is empty"},
		"trailing bits":        {head + "." + body + "." + last(signature), "signature is not canonical"},
		"padding":              {good + "==", "signature has a character outside"},
		"standard alphabet":    {head + "." + body + "+." + signature, "payload has a character outside"},
		"CR in payload":        {head + "." + body[:9] + "\r" + body[9:] + "." + signature, "payload has a character outside the base64url alphabet at byte 9"},
		"LF in signature":      {head + "." + body + "." + signature[:20] + "\n" + signature[20:], "at byte 20"},
		"LF before a dot":      {head + "\n." + body + "." + signature, "header has a character outside"},
		"CRLF after a dot":     {head + ".\r\n" + body + "." + signature, "payload has a character outside"},
		"space":                {head + ". " + body + "." + signature, "payload has a character outside"},
		"NUL":                  {good + "\x00", "signature has a character outside"},
		"quotes":               {`"` + good + `"`, "header has a character outside"},
		"Bearer":               {"Bearer " + good, "header has a character outside"},
		"long":                 {good + strings.Repeat("A", 16<<10), "longer than 16384 bytes"},
		"64 KiB and one":       {strings.Repeat(" ", 64<<10+1-len(good)) + good, "65537 bytes are no licence"},
		"1 MiB":                {head + "." + strings.Repeat("A", 1<<20) + "." + signature, "are no licence"},
		"50 MiB":               {strings.Repeat("A", 50<<20), "52428800 bytes are no licence"},
		"armour without end":   {"-----BEGIN LICENSE-----\n" + good, `"-----END LICENSE-----" is missing`},
		"armour without start": {good + "\n-----END LICENSE-----", "signature has a character outside"},
		"armour and more":      {"-----BEGIN LICENSE-----\n" + good + "\n-----END LICENSE-----\nregards", `is missing`},
		"armour twice":         {strings.Repeat("-----BEGIN LICENSE-----\n"+good+"\n-----END LICENSE-----\n", 2), "dots"},
		"armoured space":       {"-----BEGIN LICENSE-----\n" + head + " ." + body + "." + signature + "\n-----END LICENSE-----\n", "header has a character outside"},
		"armoured nothing":     {"-----BEGIN LICENSE----------END LICENSE-----", "0 dots"},
		"armour alone":         {"-----BEGIN LICENSE-----", "is missing"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, v, []byte(c.token), license.ErrMalformed, c.words) })
	}
	l, err := v.Parse(nil)
	require.Nil(t, l)
	require.ErrorIs(t, err, license.ErrMalformed)
}

// A large token must cost next to nothing: no copy, no decoding.
func TestHugeTokenIsCheap(t *testing.T) {
	v, huge := verifier(t), bytes.Repeat([]byte("A.B"), 50<<20/3)
	require.Less(t, testing.Benchmark(func(b *testing.B) {
		"nodes above max_nodes": {add(`"nodes":["a","b","c"],"max_nodes":2`), license.ErrClaims, "nodes has 3 installations; max_nodes is 2"},
		"max_nodes text":        {with("max_nodes", "9"), license.ErrClaims, "max_nodes is not a number"},
		"req number":            {with("req", 1), license.ErrClaims, "req is not a string"},
		"req long":              {with("req", strings.Repeat("r", 257)), license.ErrClaims, "req is longer than 256"},
		"req case":              {with("Req", "x"), license.ErrMalformed, `claim "req" is written "Req"`},
		b.ReportAllocs()
		for b.Loop() {
			if _, err := v.Parse(huge); err == nil {
				b.Fatal("accepted")
			}
		}
	}).AllocedBytesPerOp(), int64(1024))
}

func TestAlteredAndForged(t *testing.T) {
	v := verifier(t)
	good := string(issue(t))
	head, rest, _ := strings.Cut(good, ".")
	_, signature, _ := strings.Cut(rest, ".")
	richer := terms()
	richer.Entitlements["nodes"] = int64(1000)
	other := string(issue(t, func(l *license.License) { *l = richer }))
	_, rest, _ = strings.Cut(other, ".")
	otherBody, _, _ := strings.Cut(rest, ".")
	refused(t, v, []byte(head+"."+otherBody+"."+signature), license.ErrBadSignature, "altered")
	refused(t, v, []byte(head+"."+otherBody+"."+signature[:40]), license.ErrBadSignature, "altered")
	refused(t, v, []byte(head+"."+otherBody+"."+b64(strings.Repeat("\x00", 64))), license.ErrBadSignature, "altered")

	thief, err := license.NewIssuer(seedKey(66), "acme-2026", issuerName)
	require.NoError(t, err)
	forged, err := thief.Issue(terms())
	require.NoError(t, err)
	refused(t, v, forged, license.ErrBadSignature, `another key that also calls itself "acme-2026"`)

	ec, err := license.NewIssuer(ecKey(t, 66), "acme-ec", issuerName)
		"far future iat":      with("iat", 7258118399),
		"as many as max":      strings.Replace(payload(claims()), "{", `{"nodes":["a","b"],"max_nodes":2,`, 1),
		"max without nodes":   with("max_nodes", 1),
		"nodes without max":   with("nodes", []string{"a", "b", "c"}),
		"max_nodes 0":         strings.Replace(payload(claims()), "{", `{"nodes":["a","b"],"max_nodes":0,`, 1),
		"request":             with("req", strings.Repeat("r", 256)),
	require.NoError(t, err)
	forged, err = ec.Issue(terms())
	require.NoError(t, err)
	refused(t, v, forged, license.ErrBadSignature, "acme-ec")
}

// Why tokens are named by jti: an ECDSA signature has two spellings, and both are genuine.
func TestECDSAHasTwoSpellings(t *testing.T) {
	i, err := license.NewIssuer(ecKey(t, 1), "acme-ec", issuerName)
	require.NoError(t, err)
	token, err := i.Issue(terms())
	require.NoError(t, err)
	dot := bytes.LastIndexByte(token, '.')
	sig, err := base64.RawURLEncoding.DecodeString(string(token[dot+1:]))
	require.NoError(t, err)
	order := ecKey(t, 1).Public().(*ecdsa.PublicKey).Params().N
	new(big.Int).Sub(order, new(big.Int).SetBytes(sig[32:])).FillBytes(sig[32:])
	l, err := verifier(t).Parse(append(bytes.Clone(token[:dot+1]), b64(string(sig))...))
	require.NoError(t, err)
	require.Equal(t, "01J9ZK5E9V", l.ID)
	sig[40] ^= 1
	refused(t, verifier(t), append(bytes.Clone(token[:dot+1]), b64(string(sig))...), license.ErrBadSignature, "altered")
}

func TestKeyPeriod(t *testing.T) {
	v := verifier(t)
	i, err := license.NewIssuer(seedKey(3), "acme-2025", issuerName)
	require.NoError(t, err)
	for at, ok := range map[string]bool{"2024-12-31": false, "2025-01-01": true, "2025-12-31": true, "2026-01-01": false} {
		l := terms()
		l.IssuedAt, l.NotBefore = date(at), date(at)
		token, err := i.Issue(l)
		require.NoError(t, err)
		if ok {
			got, err := v.Parse(token)
			require.NoError(t, err, at)
			require.Equal(t, "acme-2025", got.KeyID)
			continue
		}
		refused(t, v, token, license.ErrKeyPeriod, "issued on "+at)
	}
}

func TestWhiteSpaceAndArmor(t *testing.T) {
	v, token := verifier(t), issue(t)
	want, err := v.Parse(token)
	require.NoError(t, err)
	armored := license.Armor(token)
	for name, text := range map[string]string{
		"line end":         string(token) + "\n",
		"all around":       " \t\r\n" + string(token) + "\u00a0\v\f\r\n\n",
		"byte order mark":  "\ufeff" + string(token) + "\r\n",
		"armour":           string(armored),
		"armour, CRLF":     "\r\n" + strings.ReplaceAll(string(armored), "\n", "\r\n"),
		"armour, quoted":   strings.ReplaceAll(string(armored), "\n", "  \n\n\t"),
		"armour, one line": "-----BEGIN LICENSE-----" + string(token) + "-----END LICENSE-----",
	} {
		got, err := v.Parse([]byte(text))
		require.NoError(t, err, name)
		require.Equal(t, want, got, name)
	}
	for line := range strings.Lines(string(armored)) {
		require.LessOrEqual(t, len(line), 65)
	}
}
