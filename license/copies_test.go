package license_test

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/base64"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/license"
)

// issuers are one for each algorithm, by kid.
func issuers(t testing.TB) map[string]*license.Issuer {
	t.Helper()
	ed, err := license.NewIssuer(seedKey(1), "acme-2026", issuerName)
	require.NoError(t, err)
	ec, err := license.NewIssuer(ecKey(t, 1), "acme-ec", issuerName)
	require.NoError(t, err)
	return map[string]*license.Issuer{"acme-2026": ed, "acme-ec": ec}
}

// altered gives the payload another entitlement, and keeps the signature.
func altered(t testing.TB, token string) string {
	t.Helper()
	parts := strings.Split(token, ".")
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	richer := bytes.Replace(body, []byte(`"seq":3`), []byte(`"seq":4`), 1)
	require.NotEqual(t, body, richer)
	return parts[0] + "." + b64(string(richer)) + "." + parts[2]
}

// otherSpelling is the same ECDSA signature as (r, n-s), which everybody can make and which verifies as well. Of an
// Ed25519 signature it adds the order to S, which lax verifiers take.
func otherSpelling(t testing.TB, token string) string {
	t.Helper()
	dot := strings.LastIndexByte(token, '.')
	sig, err := base64.RawURLEncoding.DecodeString(token[dot+1:])
	require.NoError(t, err)
	if strings.HasPrefix(token, b64(`{"alg":"ES256"`)[:16]) {
		order := ecKey(t, 1).Public().(*ecdsa.PublicKey).Params().N
		new(big.Int).Sub(order, new(big.Int).SetBytes(sig[32:])).FillBytes(sig[32:])
		return token[:dot+1] + b64(string(sig))
	}
	order, ok := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10) // RFC 8032 section 5.1
	require.True(t, ok)
	slices.Reverse(sig[32:])
	new(big.Int).Add(order, new(big.Int).SetBytes(sig[32:])).FillBytes(sig[32:])
	slices.Reverse(sig[32:])
	return token[:dot+1] + b64(string(sig))
}

// Why tokens are named by jti, and never by their bytes: whatever copy of a token is accepted says the same and has
// the same jti, so that who revokes that revokes all copies.
func TestCopiesHaveOneName(t *testing.T) {
	for kid, i := range issuers(t) {
		v := verifier(t)
		token, err := i.Issue(terms())
		require.NoError(t, err)
		want, err := v.Parse(token)
		require.NoError(t, err)
		require.Equal(t, "01J9ZK5E9V", want.ID)
		revoking, warnings := v.With(&license.Lists{Revocations: &license.Revocations{Number: 1, Tokens: []string{want.ID}}})
		require.Empty(t, warnings)
		one := string(token)
		armored := string(license.Armor(token))
		copies := map[string]string{
			"white space": " \r\n" + one + "\n", "byte order mark": "\ufeff" + one, "armour": armored,
			"armour, CRLF":     strings.ReplaceAll(armored, "\n", "\r\n"),
			"armour, one line": "-----BEGIN LICENSE-----" + one + "-----END LICENSE-----",
			"armour, wrapped":  "-----BEGIN LICENSE-----\n" + one[:7] + "\r\n\t" + one[7:90] + "\n" + one[90:] + "\n-----END LICENSE-----",
		}
		if kid == "acme-ec" {
			copies["other spelling"] = otherSpelling(t, one)
			copies["other spelling, armour"] = string(license.Armor([]byte(otherSpelling(t, one))))
		}
		for name, text := range copies {
			require.NotEqual(t, one, text, name)
			got, err := v.Parse([]byte(text))
			require.NoError(t, err, "%s %s", kid, name)
			require.Equal(t, want, got, "%s %s", kid, name)
			require.Equal(t, license.Valid, v.Status([]byte(text), now).State)
			revoked := revoking.Status([]byte(text), now)
			require.Equal(t, license.Revoked, revoked.State, "%s %s", kid, name)
			grantsNothing(t, revoked)
		}

		parts := strings.Split(one, ".")
		body, err := base64.RawURLEncoding.DecodeString(parts[1])
		require.NoError(t, err)
		for name, c := range map[string]struct {
			text string
			code license.Code
		}{
			"padding":          {one + "==", license.ErrMalformed},
			"trailing bits":    {parts[0] + "." + parts[1] + "." + trailing(t, parts[2]), license.ErrMalformed},
			"line break":       {one[:100] + "\r\n" + one[100:], license.ErrMalformed},
			"escaped":          {strings.Replace(one, ".", "%2E", 1), license.ErrMalformed},
			"JSON with space":  {parts[0] + "." + b64(" "+string(body)) + "." + parts[2], license.ErrBadSignature},
			"JSON with escape": {parts[0] + "." + b64(strings.Replace(string(body), "jti", `\u006ati`, 1)) + "." + parts[2], license.ErrBadSignature},
			"other jti":        {parts[0] + "." + b64(strings.Replace(string(body), "01J9ZK5E9V", "01J9ZK5E9W", 1)) + "." + parts[2], license.ErrBadSignature},
			"other header":     {b64(" "+`{"alg":"EdDSA","kid":"acme-2026","typ":"license+jwt"}`) + "." + parts[1] + "." + parts[2], license.ErrBadSignature},
			"upper case":       {parts[0] + "." + parts[1] + "." + strings.ToUpper(parts[2][:40]) + parts[2][40:], license.ErrBadSignature},
		} {
			t.Run(kid+" "+name, func(t *testing.T) { refused(t, v, []byte(c.text), c.code, "license: ") })
		}
		if kid == "acme-2026" {
			refused(t, v, []byte(otherSpelling(t, one)), license.ErrBadSignature, "does not fit")
		}
	}
}

// The dates of a genuine token are judged, not refused; what has passed or has not come grants nothing.
func TestDatesOfGenuineTokens(t *testing.T) {
	v := verifier(t)
	long := int64(7258118399) // the last second that is read, 2199-12-31
	for name, c := range map[string]struct {
		payload string
		state   license.State
	}{
		"good":                   {payload(claims()), license.Valid},
		"exp long past":          {with("exp", 946684800), license.Expired},
		"exp a second ago":       {with("exp", now.Unix()-1), license.Expired},
		"exp now":                {with("exp", now.Unix()), license.Expired},
		"exp in a second":        {with("exp", now.Unix()+1), license.Valid},
		"lic_exp past":           {with("lic_exp", now.Unix()-1), license.Expired},
		"nbf in ten minutes":     {with("nbf", now.Unix()+600), license.NotYetValid},
		"nbf in five minutes":    {with("nbf", now.Unix()+300), license.Valid},
		"nbf in 2199":            {with("nbf", long), license.NotYetValid},
		"iat in ten minutes":     {with("iat", now.Unix()+600), license.NotYetValid},
		"iat in five minutes":    {with("iat", now.Unix()+300), license.Valid},
		"iat in 2199":            {with("iat", long), license.NotYetValid},
		"iat later than its nbf": {strings.Replace(with("iat", long), "{", `{"nbf":946684800,`, 1), license.NotYetValid},
	} {
		t.Run(name, func(t *testing.T) {
			c.payload = strings.Replace(c.payload, "{", `{"ent":{"sso":true,"nodes":25,"region":"eu"},`, 1)
			s := v.Status(mint(goodHeader, c.payload), now)
			require.Equal(t, c.state, s.State)
			require.NoError(t, s.Err)
			require.NotNil(t, s.License)
			if c.state == license.Valid {
				require.True(t, s.Has("sso"))
				return
			}
			grantsNothing(t, s)
		})
	}
}

// What Windows PowerShell makes of a licence: UTF-16 with a byte order mark.
func TestUTF16(t *testing.T) {
	wide := func(text string, big bool) []byte {
		var out []byte
		for _, c := range "\ufeff" + text {
			pair := []byte{byte(c), byte(c >> 8)}
			if big {
				slices.Reverse(pair)
			}
			out = append(out, pair...)
		}
		return out
	}
	v, token := verifier(t), string(issue(t))
	for _, big := range []bool{false, true} {
		for _, text := range []string{token, token + "\r\n", string(license.Armor([]byte(token)))} {
			require.Equal(t, license.Valid, v.Status(wide(text, big), now).State)
		}
		require.Equal(t, license.Missing, v.Status(wide("\r\n", big), now).State)
		require.Equal(t, license.Missing, v.Status(wide("", big), now).State)
		refused(t, v, wide(token+"\u0141", big), license.ErrMalformed, "alphabet")
		refused(t, v, wide(token, big)[:len(token)], license.ErrMalformed, "")
		refused(t, v, append(wide(token, big), 0), license.ErrMalformed, "alphabet")
	}
}
