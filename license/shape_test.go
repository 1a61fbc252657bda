package license_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/license"
)

// trailing sets a bit after the last byte of a segment: a lax decoder takes both for the same.
func trailing(t testing.TB, segment string) string {
	t.Helper()
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	i := strings.IndexByte(alphabet, segment[len(segment)-1])
	other := segment[:len(segment)-1] + string(alphabet[i|1])
	data, err := base64.RawURLEncoding.DecodeString(other)
	require.NoError(t, err)
	require.NotEqual(t, segment, other)
	require.Equal(t, b64(string(data)), segment)
	return other
}

// signSegments signs segments as they stand, so that nothing is wrong but how they are written.
func signSegments(head, body string) []byte {
	text := head + "." + body
	return []byte(text + "." + b64(string(ed25519.Sign(seedKey(1), []byte(text)))))
}

func TestHostileSpelling(t *testing.T) {
	v := verifier(t)
	header, claimed := goodHeader, payload(claims())
	for len(header)%3 == 0 { // so that both have trailing bits
		header += " "
	}
	for len(claimed)%3 == 0 {
		claimed += " "
	}
	head, body := b64(header), b64(claimed)
	_, err := v.Parse(signSegments(head, body))
	require.NoError(t, err)
	for name, c := range map[string]struct{ head, body, words string }{
		"header, trailing bits":   {trailing(t, head), body, "header is not canonical"},
		"payload, trailing bits":  {head, trailing(t, body), "payload is not canonical"},
		"header, padding":         {head + "==", body, "header has a character outside"},
		"payload, padding":        {head, body + "=", "payload has a character outside"},
		"header, CR":              {head[:8] + "\r" + head[8:], body, "header has a character outside the base64url alphabet at byte 8"},
		"header, LF":              {head[:8] + "\n" + head[8:], body, "header has a character outside the base64url alphabet at byte 8"},
		"payload, CR":             {head, body[:8] + "\r" + body[8:], "payload has a character outside the base64url alphabet at byte 8"},
		"payload, CRLF":           {head, body[:8] + "\r\n" + body[8:], "payload has a character outside the base64url alphabet at byte 8"},
		"payload, LF at its end":  {head, body + "\n", "payload has a character outside"},
		"payload, plus":           {head, body[:8] + "+" + body[9:], "payload has a character outside"},
		"payload, slash":          {head, body[:8] + "/" + body[9:], "payload has a character outside"},
		"payload, a letter short": {head, strings.Repeat("A", 5), "payload is not canonical"},
		"payload, no ASCII":       {head, body[:8] + "\u212a" + body[8:], "payload has a character outside"},
		// As {"b64":false} would have it, RFC 7797.
		"payload, not encoded": {head, strings.ReplaceAll(claimed, ".", ""), "payload has a character outside"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, v, signSegments(c.head, c.body), license.ErrMalformed, c.words) })
	}
}

func TestHostileShape(t *testing.T) {
	v := verifier(t)
	good := string(issue(t))
	head, rest, _ := strings.Cut(good, ".")
	body, signature, _ := strings.Cut(rest, ".")
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
		"trailing bits":        {head + "." + body + "." + trailing(t, signature), "signature is not canonical"},
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
		"armour and more":      {"-----BEGIN LICENSE-----\n" + good + "\n-----END LICENSE-----\nregards", "something else behind the line"},
		"armour in a mail":     {"Dear customer,\n-----BEGIN LICENSE-----\n" + good + "\n-----END LICENSE-----", "something else before the line"},
		"armour twice":         {strings.Repeat("-----BEGIN LICENSE-----\n"+good+"\n-----END LICENSE-----\n", 2), "dots"},
		"armoured space":       {"-----BEGIN LICENSE-----\n" + head + " ." + body + "." + signature + "\n-----END LICENSE-----\n", "header has a character outside"},
		"armoured nothing":     {"-----BEGIN LICENSE----------END LICENSE-----", "it is empty"},
		"armour alone":         {"-----BEGIN LICENSE-----", "is missing"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, v, []byte(c.token), license.ErrMalformed, c.words) })
	}
	l, err := v.Parse(nil)
	require.Nil(t, l)
	require.ErrorIs(t, err, license.ErrMalformed)
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
	require.NoError(t, err)
	forged, err = ec.Issue(terms())
	require.NoError(t, err)
	refused(t, v, forged, license.ErrBadSignature, "acme-ec")
}

// Signatures that verifiers have taken without a key: CVE-2022-21449 is about r = s = 0.
func TestNumbersAsSignatures(t *testing.T) {
	order := ecKey(t, 1).Params().N.Bytes()
	zero, one, full := make([]byte, 32), append(make([]byte, 31), 1), bytes.Repeat([]byte{0xff}, 32)
	for kid, i := range issuers(t) {
		token, err := i.Issue(terms())
		require.NoError(t, err)
		text := token[:bytes.LastIndexByte(token, '.')+1]
		for _, r := range [][]byte{zero, one, order, full} {
			for _, s := range [][]byte{zero, one, order, full} {
				refused(t, verifier(t), append(bytes.Clone(text), b64(string(r)+string(s))...), license.ErrBadSignature, kid)
			}
		}
		for _, n := range []int{1, 32, 63, 65, 96, 128, 4096} {
			refused(t, verifier(t), append(bytes.Clone(text), b64(strings.Repeat("\x01", n))...), license.ErrBadSignature, kid)
		}
	}
	// A genuine one in ASN.1, as every tool but JWT writes it.
	text := b64(`{"alg":"ES256","kid":"acme-ec","typ":"license+jwt"}`) + "." + b64(payload(claims()))
	digest := sha256.Sum256([]byte(text))
	der, err := ecKey(t, 1).Sign(rand.Reader, digest[:], crypto.SHA256)
	require.NoError(t, err)
	refused(t, verifier(t), []byte(text+"."+b64(string(der))), license.ErrBadSignature, "does not fit")
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
