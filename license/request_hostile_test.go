package license_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/license"
)

// wish is the key of a customer's installation, other than those of the issuer.
func wish() ed25519.PrivateKey { return seedKey(77) }

func x(key ed25519.PrivateKey) string { return b64(string(key.Public().(ed25519.PublicKey))) }

var (
	wishHeader = `{"alg":"EdDSA","jwk":{"crv":"Ed25519","kty":"OKP","x":"` + x(wish()) + `"},"typ":"license-request+jwt"}`
	nonce      = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// mintRequest signs any header and payload with the installation's key.
func mintRequest(header, payload string) []byte {
	text := b64(header) + "." + b64(payload)
	return []byte(text + "." + b64(string(ed25519.Sign(wish(), []byte(text)))))
}

// wishes are the claims of a genuine request, with one of them changed; nil: removed.
func wishes(change ...any) string {
	m := map[string]any{"v": 1, "aud": product, "node": license.NodeOf(product, "machine 1"), "jti": nonce,
		"iat": now.Unix(), "exp": now.Add(30 * 24 * time.Hour).Unix(), "lid": "lic_42", "seq": 3}
	for i := 0; i < len(change); i += 2 {
		m[change[i].(string)] = change[i+1]
		maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
	}
	return payload(m)
}

// refusedRequest asserts the whole contract of an error, as refused does.
func refusedRequest(t *testing.T, data []byte, at time.Time, code license.Code, words string) {
	t.Helper()
	r, err := license.ReadRequest(data, at)
	require.Nil(t, r)
	require.ErrorIs(t, err, code)
	var te *license.TokenError
	require.ErrorAs(t, err, &te)
	require.Equal(t, code, te.Code)
	require.Contains(t, err.Error(), words)
	require.True(t, strings.HasPrefix(err.Error(), "license: "), err)
	require.Less(t, len(err.Error()), 600)
}

func TestHostileRequestHeader(t *testing.T) {
	mine := x(wish())
	head := func(alg, jwk, typ string) string { return `{"alg":` + alg + `,"jwk":` + jwk + `,"typ":` + typ + `}` }
	key := func(members string) string {
		return head(`"EdDSA"`, `{"crv":"Ed25519","kty":"OKP",`+members+`}`, `"license-request+jwt"`)
	}
	const typ = `"license-request+jwt"`
	okp := `{"crv":"Ed25519","kty":"OKP","x":"` + mine + `"}`
	require.Equal(t, wishHeader, head(`"EdDSA"`, okp, typ))
	for name, c := range map[string]struct {
		header string
		code   license.Code
		words  string
	}{
		"alg none":          {head(`"none"`, okp, typ), license.ErrHeader, `alg is "none"`},
		"alg None":          {head(`"None"`, okp, typ), license.ErrHeader, `alg is "None"`},
		"alg HS256":         {head(`"HS256"`, okp, typ), license.ErrHeader, `alg is "HS256"`},
		"alg ES256":         {head(`"ES256"`, okp, typ), license.ErrHeader, `alg is "ES256"`},
		"alg Ed25519":       {head(`"Ed25519"`, okp, typ), license.ErrHeader, `alg is "Ed25519"`},
		"alg number":        {head(`1`, okp, typ), license.ErrHeader, "alg is not a string"},
		"alg null":          {head(`null`, okp, typ), license.ErrHeader, "alg is not a string"},
		"alg twice":         {head(`"none","alg":"EdDSA"`, okp, typ), license.ErrMalformed, `"alg" twice`},
		"alg and ALG":       {head(`"EdDSA","ALG":"none"`, okp, typ), license.ErrMalformed, "twice"},
		"alg absent":        {`{"jwk":` + okp + `,"typ":"license-request+jwt"}`, license.ErrHeader, `alg is ""`},
		"a licence's typ":   {head(`"EdDSA"`, okp, `"license+jwt"`), license.ErrHeader, "this is a licence, not a licence request"},
		"typ JWT":           {head(`"EdDSA"`, okp, `"JWT"`), license.ErrHeader, `typ is "JWT"`},
		"typ case":          {head(`"EdDSA"`, okp, `"License-Request+JWT"`), license.ErrHeader, `typ is "License`},
		"typ absent":        {`{"alg":"EdDSA","jwk":` + okp + `}`, license.ErrHeader, `typ is ""`},
		"kid":               {head(`"EdDSA","kid":"acme-2026"`, okp, typ), license.ErrHeader, `member "kid"`},
		"crit":              {head(`"EdDSA","crit":["exp"]`, okp, typ), license.ErrHeader, `member "crit"`},
		"b64":               {head(`"EdDSA","b64":false`, okp, typ), license.ErrHeader, `member "b64"`},
		"jku":               {head(`"EdDSA","jku":"https://evil.example"`, okp, typ), license.ErrHeader, `member "jku"`},
		"x5c":               {head(`"EdDSA","x5c":["AA"]`, okp, typ), license.ErrHeader, `member "x5c"`},
		"second jwk":        {head(`"EdDSA"`, okp+`,"jwk":`+okp, typ), license.ErrMalformed, `"jwk" twice`},
		"second JWK":        {head(`"EdDSA"`, okp+`,"JWK":`+okp, typ), license.ErrMalformed, "twice"},
		"jwk absent":        {`{"alg":"EdDSA","typ":"license-request+jwt"}`, license.ErrHeader, "has no key (jwk)"},
		"jwk null":          {head(`"EdDSA"`, "null", typ), license.ErrHeader, "jwk is not an object"},
		"jwk text":          {head(`"EdDSA"`, `"`+mine+`"`, typ), license.ErrHeader, "jwk is not an object"},
		"jwk list":          {head(`"EdDSA"`, "["+okp+"]", typ), license.ErrHeader, "jwk is not an object"},
		"jwk empty":         {head(`"EdDSA"`, "{}", typ), license.ErrHeader, `type is "/"`},
		"an EC key":         {head(`"EdDSA"`, `{"kty":"EC","crv":"P-256","x":"`+mine+`"}`, typ), license.ErrHeader, `type is "EC/P-256"`},
		"an X25519 key":     {head(`"EdDSA"`, `{"kty":"OKP","crv":"X25519","x":"`+mine+`"}`, typ), license.ErrHeader, `type is "OKP/X25519"`},
		"a secret":          {head(`"EdDSA"`, `{"kty":"oct","k":"AA"}`, typ), license.ErrHeader, `member "k"`},
		"the private key":   {key(`"x":"` + mine + `","d":"AA"`), license.ErrHeader, `member "d"`},
		"a key's kid":       {key(`"x":"` + mine + `","kid":"a"`), license.ErrHeader, `member "kid"`},
		"x absent":          {key(`"y":"` + mine + `"`), license.ErrHeader, `member "y"`},
		"x empty":           {key(`"x":""`), license.ErrHeader, "of 0 bytes"},
		"x short":           {key(`"x":"AAAA"`), license.ErrHeader, "of 3 bytes"},
		"x number":          {key(`"x":1`), license.ErrHeader, "not 32"},
		"x twice":           {key(`"x":"` + mine + `","x":"` + mine + `"`), license.ErrMalformed, `"x" twice`},
		"x padded":          {key(`"x":"` + mine + `="`), license.ErrHeader, "outside the base64url alphabet"},
		"x, trailing bits":  {key(`"x":"` + mine[:42] + string(mine[42]+1) + `"`), license.ErrHeader, "not canonical"},
		"x zeros":           {key(`"x":"` + strings.Repeat("A", 43) + `"`), license.ErrHeader, "small order"},
		"x of another":      {key(`"x":"` + x(seedKey(78)) + `"`), license.ErrBadSignature, "altered on its way"},
		"no point":          {key(`"x":"` + b64("\x02"+strings.Repeat("\x00", 31)) + `"`), license.ErrBadSignature, "does not fit"},
		"no object":         {`["EdDSA"]`, license.ErrMalformed, "not a JSON object"},
		"no JSON":           {`alg=EdDSA`, license.ErrMalformed, "header is not valid JSON"},
		"two values":        {wishHeader + `{}`, license.ErrMalformed, "header is not valid JSON"},
		"deep":              {strings.Repeat("[", 20) + strings.Repeat("]", 20), license.ErrMalformed, "deeper than 8"},
		"long":              {head(`"EdDSA"`, okp, typ) + strings.Repeat(" ", 1024), license.ErrMalformed, "longer than 1024"},
		"no UTF-8":          {"{\"alg\":\"EdDSA\xff\"}", license.ErrMalformed, "not valid UTF-8"},
		"control character": {head(`"EdDSA"`, okp, `"license-request+jwt\u0000"`), license.ErrHeader, "control characters"},
	} {
		t.Run(name, func(t *testing.T) {
			refusedRequest(t, mintRequest(c.header, wishes()), now, c.code, c.words)
		})
	}
	_, err := license.ReadRequest(mintRequest(wishHeader, wishes()), now)
	require.NoError(t, err, "the one that all these are made of")
	text := b64(head(`"HS256"`, okp, typ)) + "." + b64(wishes())
	mac := hmac.New(sha256.New, wish().Public().(ed25519.PublicKey))
	mac.Write([]byte(text))
	refusedRequest(t, []byte(text+"."+b64(string(mac.Sum(nil)))), now, license.ErrHeader, `alg is "HS256"`)
}

func TestHostileRequestPayload(t *testing.T) {
	good := wishes()
	add := func(members string) string { return strings.TrimSuffix(good, "}") + "," + members + "}" }
	cases := map[string]struct {
		payload string
		code    license.Code
		words   string
	}{
		"duplicate":           {add(`"node":"x"`), license.ErrMalformed, `"node" twice`},
		"case variant":        {add(`"NODE":"x"`), license.ErrMalformed, `"NODE" twice`},
		"case variant alone":  {wishes("node", nil, "Node", "x"), license.ErrMalformed, `claim "node" is written "Node"`},
		"deep":                {add(`"y":` + strings.Repeat("[", 8) + strings.Repeat("]", 8)), license.ErrMalformed, "deeper than 8"},
		"null":                {`null`, license.ErrMalformed, "not a JSON object"},
		"two values":          {good + good, license.ErrMalformed, "not valid JSON"},
		"newer version":       {wishes("v", 2), license.ErrUnsupportedVersion, "update it"},
		"newer and otherwise": {`{"v":2,"aud":1,"node":2,"jti":3,"iat":4,"exp":5}`, license.ErrUnsupportedVersion, "update it"},
		"version 0":           {wishes("v", 0), license.ErrClaims, "v is below 1"},
		"version text":        {wishes("v", "1"), license.ErrClaims, "v is not a number"},
		"aud list":            {wishes("aud", []string{product}), license.ErrClaims, "aud is not a string"},
		"aud empty":           {wishes("aud", ""), license.ErrClaims, "aud is empty"},
		"node empty":          {wishes("node", ""), license.ErrClaims, "node is empty"},
		"node list":           {wishes("node", []string{"a", "b"}), license.ErrClaims, "node is not a string"},
		"node long":           {wishes("node", strings.Repeat("a", 257)), license.ErrClaims, "node is longer"},
		"node escape codes":   {wishes("node", "\x1b[2J"), license.ErrClaims, "control characters"},
		"nonce short":         {wishes("jti", nonce[:21]), license.ErrClaims, "jti has 21 characters"},
		"nonce long":          {wishes("jti", strings.Repeat("A", 65)), license.ErrClaims, "jti has 65 characters"},
		"nonce alphabet":      {wishes("jti", nonce+"/../x"), license.ErrClaims, "other characters than base64url"},
		"nonce not ASCII":     {wishes("jti", nonce+"\u0141"), license.ErrClaims, "other characters than base64url"},
		"iat 0":               {wishes("iat", 0), license.ErrClaims, "iat is 0"},
		"iat text":            {wishes("iat", "now"), license.ErrClaims, "iat is not a number"},
		"exp null":            {wishes("exp", json.RawMessage("null")), license.ErrClaims, "exp is not a number"},
		"exp 0":               {wishes("exp", 0), license.ErrClaims, "exp is not after iat"},
		"exp before iat":      {wishes("exp", now.Add(-time.Second).Unix()), license.ErrClaims, "exp is not after iat"},
		"exp too late":        {wishes("exp", now.Add(366*24*time.Hour+time.Second).Unix()), license.ErrClaims, "exp is more than a year after iat"},
		"exp 1e300":           {strings.Replace(good, fmt.Sprint(now.Add(30*24*time.Hour).Unix()), "1e300", 1), license.ErrClaims, "exp is not an integer"},
		"exp in 2200":         {wishes("exp", 7258118400), license.ErrClaims, "between 2000 and 2199"},
		"lid without seq":     {wishes("seq", nil), license.ErrClaims, "lid and seq belong together"},
		"seq without lid":     {wishes("lid", nil), license.ErrClaims, "lid and seq belong together"},
		"seq negative":        {wishes("seq", -1), license.ErrClaims, "seq is negative"},
		"seq float":           {wishes("seq", 1.5), license.ErrClaims, "seq is not an integer"},
	}
	for _, name := range []string{"v", "aud", "node", "jti", "iat", "exp"} {
		c := cases[name]
		c.payload, c.code, c.words = wishes(name, nil), license.ErrClaims, name+" is missing"
		cases[name+" absent"] = c
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			refusedRequest(t, mintRequest(wishHeader, c.payload), now, c.code, c.words)
		})
	}
	for name, odd := range map[string]string{
		"unknown claims": add(`"x_future":{"a":[1.5,null]}`), "no licence": wishes("lid", nil, "seq", nil),
		"a year":      wishes("exp", now.Add(366*24*time.Hour).Unix()),
		"short nonce": wishes("jti", "-_"+nonce[:20]),
	} {
		_, err := license.ReadRequest(mintRequest(wishHeader, odd), now)
		require.NoError(t, err, name)
	}
}

func TestHostileRequestShape(t *testing.T) {
	good := string(mintRequest(wishHeader, wishes()))
	dot := strings.LastIndexByte(good, '.')
	licence := issue(t)
	for name, c := range map[string]struct {
		data  string
		code  license.Code
		words string
	}{
		"nothing":                         {"", license.ErrMalformed, "it is empty"},
		"two parts":                       {good[:dot], license.ErrMalformed, "1 dots"},
		"no signature":                    {good[:dot+1], license.ErrMalformed, "signature is empty"},
		"a short signature":               {good[:dot+9], license.ErrBadSignature, "does not fit"},
		"another signature":               {good[:dot+1] + b64(strings.Repeat("\x00", 64)), license.ErrBadSignature, "does not fit"},
		"padding":                         {good + "=", license.ErrMalformed, "outside the base64url alphabet"},
		"a line break":                    {good[:30] + "\n" + good[30:], license.ErrMalformed, "at byte 30"},
		"4 KiB":                           {good + strings.Repeat("A", 4<<10), license.ErrMalformed, "longer than 4096"},
		"1 MiB":                           {strings.Repeat(".", 1<<20), license.ErrMalformed, "1048576 bytes are no licence request: a token has at most 4096"},
		"no end":                          {"-----BEGIN LICENSE REQUEST-----\n" + good, license.ErrMalformed, `"-----END LICENSE REQUEST-----" is missing`},
		"a licence's end":                 {"-----BEGIN LICENSE REQUEST-----\n" + good + "\n-----END LICENSE-----", license.ErrMalformed, "is missing"},
		"a mail":                          {"Hello,\n\n" + good, license.ErrMalformed, "outside the base64url alphabet"},
		"a licence":                       {string(licence), license.ErrHeader, "this is a licence, not a licence request"},
		"a licence's armour":              {string(license.Armor(licence)), license.ErrHeader, "this is a licence, not a licence request"},
		"a request in a licence's armour": {string(license.Armor([]byte(good))), license.ErrHeader, "this is a licence, not"},
	} {
		t.Run(name, func(t *testing.T) { refusedRequest(t, []byte(c.data), now, c.code, c.words) })
	}
	armored := "-----BEGIN LICENSE REQUEST-----\n" + good + "\n-----END LICENSE REQUEST-----\n"
	for name, data := range map[string]string{"bare": good, "armoured": armored, "in a licence's armour": string(license.Armor([]byte(good)))} {
		t.Run(name, func(t *testing.T) {
			refused(t, verifier(t), []byte(data), license.ErrHeader, "this is a licence request, not a licence")
		})
	}
}

func TestRequestTimes(t *testing.T) {
	token := mintRequest(wishHeader, wishes())
	day, end := 24*time.Hour, now.Add(30*24*time.Hour)
	for _, at := range []time.Time{now.Add(-day), now, end, end.Add(day - time.Second)} {
		_, err := license.ReadRequest(token, at)
		require.NoError(t, err, at)
	}
	refusedRequest(t, token, now.Add(-day-time.Second), license.ErrRequestEarly, "is the customer's clock right?")
	refusedRequest(t, token, end.Add(day), license.ErrRequestExpired, "make another one")
	refusedRequest(t, token, now.AddDate(100, 0, 0), license.ErrRequestExpired, "2026-03-31")
}

// Points for which anybody can sign whatever they like: this test does.
func TestSmallOrderKeys(t *testing.T) {
	forge := func(key []byte) (token []byte) {
		header := `{"alg":"EdDSA","jwk":{"crv":"Ed25519","kty":"OKP","x":"` + b64(string(key)) + `"},"typ":"license-request+jwt"}`
		signature := make([]byte, 64) // the neutral element, and zero
		signature[0] = 1
		for i := range 500 {
			text := b64(header) + "." + b64(wishes("seq", i+1))
			if ed25519.Verify(key, []byte(text), signature) {
				return []byte(text + "." + b64(string(signature)))
			}
		}
		return nil
	}
	forged := 0
	for _, y := range []string{
		strings.Repeat("00", 32), "01" + strings.Repeat("00", 31),
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"ec" + strings.Repeat("ff", 30) + "7f", "ed" + strings.Repeat("ff", 30) + "7f", "ee" + strings.Repeat("ff", 30) + "7f",
	} {
		for _, sign := range []byte{0, 0x80} {
			var key []byte
			_, err := fmt.Sscanf(y, "%x", &key)
			require.NoError(t, err)
			key[31] |= sign
			if token := forge(key); token != nil {
				forged++
				refusedRequest(t, token, now, license.ErrHeader, "small order")
			}
		}
	}
	require.Equal(t, 14, forged)
}

// Nobody forges Ed25519, so the only requests that are read are those that were made, byte for byte.
func FuzzReadRequest(f *testing.F) {
	genuine := mintRequest(wishHeader, wishes())
	armored := append(append([]byte("\ufeff-----BEGIN LICENSE REQUEST-----\n"), genuine...), "\n-----END LICENSE REQUEST-----\n"...)
	for _, good := range [][]byte{genuine, armored} {
		_, err := license.ReadRequest(good, now)
		require.NoError(f, err, "a seed that must be read")
		f.Add(good)
	}
	for _, bad := range [][]byte{{}, []byte("a.b.c"), issue(f), license.Armor(genuine), []byte("-----BEGIN LICENSE REQUEST-----"),
		mintRequest(`{"alg":"none"}`, `{}`), mintRequest(wishHeader, `{"v":2}`), mintRequest(wishHeader, wishes("exp", nil))} {
		_, err := license.ReadRequest(bad, now)
		require.Error(f, err, "a seed that must not be read")
		f.Add(bad)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		r, err := license.ReadRequest(data, now)
		require.Equal(t, before, data)
		if (r == nil) != (err != nil) {
			t.Fatalf("request %v, error %v", r, err)
		}
		text := strings.NewReplacer("-----BEGIN LICENSE REQUEST-----", "", "-----END LICENSE REQUEST-----", "").Replace(bare(data))
		if err == nil && strings.Join(strings.Fields(text), "") != string(genuine) {
			t.Fatalf("read what nobody made: %q", data)
		}
		if _, err := verifier(t).Parse(data); err == nil && !bytes.Contains(data, issue(t)) {
			t.Fatal("a licence")
		}
	})
}

// Signed claims of any shape: an error or a request, never a panic.
func FuzzRequestClaims(f *testing.F) {
	for _, good := range []string{wishes(), wishes("lid", nil, "seq", nil)} {
		_, err := license.ReadRequest(mintRequest(wishHeader, good), now)
		require.NoError(f, err, "a seed that must be read")
		f.Add(good)
	}
	for _, bad := range []string{`{}`, `null`, wishes("jti", 1), wishes("exp", nil), wishes("seq", -1)} {
		_, err := license.ReadRequest(mintRequest(wishHeader, bad), now)
		require.Error(f, err, "a seed that must not be read")
		f.Add(bad)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := license.ReadRequest(mintRequest(wishHeader, text), now)
		if (r == nil) != (err != nil) {
			t.Fatalf("request %v, error %v", r, err)
		}
		if err == nil && (r.Product == "" || r.Node == "" || len(r.Nonce) < 22 || r.Seq < 0 || (r.License == "") != (r.Seq == 0) ||
			!r.Expires.After(r.Created) || r.Created.After(now.Add(24*time.Hour)) || !now.Before(r.Expires.Add(24*time.Hour))) {
			t.Fatalf("%+v", r)
		}
	})
}
