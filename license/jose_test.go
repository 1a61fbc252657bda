package license_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/license"
)

// Tokens held against jose (npm), which shares nothing with golang-jwt: neither code nor language nor authors.
// FAIRLEAD_JOSE names a folder in which `npm ci` has been run with testdata/jose/package.json and its lock; without
// it, testdata/jose itself is looked at. See docs/testing.md.

type joseQuestion struct {
	Verify   []string        `json:"verify,omitempty"`
	Sign     []joseToken     `json:"sign,omitempty"`
	Ring     json.RawMessage `json:"ring"`
	Issuer   string          `json:"issuer"`
	Audience string          `json:"audience"`
	Now      string          `json:"now"`
}

type joseToken struct {
	JWK    map[string]string `json:"jwk"`
	Header map[string]string `json:"header"`
	Claims map[string]any    `json:"claims"`
}

type joseAnswer struct {
	Verified []joseVerdict
	Signed   []string
}

type joseVerdict struct {
	Claims       json.RawMessage
	Error, Claim string
}

// jose returns a function that asks it. Skipped where it is not installed, unless FAIRLEAD_JOSE promises that it is.
func jose(t *testing.T) func(joseQuestion) joseAnswer {
	t.Helper()
	if testing.Short() {
		t.Skip("two languages, one process each: nothing for -short")
	}
	folder, promised := os.LookupEnv("FAIRLEAD_JOSE")
	if !promised {
		folder = filepath.Join("testdata", "jose")
	}
	script := filepath.Join("testdata", "jose", "jose.mjs")
	_, err := os.Stat(script) // so that the test cache knows of it
	require.NoError(t, err)
	node, err := exec.LookPath("node")
	_, missing := os.Stat(filepath.Join(folder, "node_modules", "jose", "package.json"))
	if err = errors.Join(err, missing); err != nil {
		if promised {
			t.Fatalf("FAIRLEAD_JOSE is set, but node or jose is missing: %v", err)
		}
		t.Skipf("needs node and the npm package jose (run `npm ci` in license/testdata/jose): %v", err)
	}
	return func(q joseQuestion) (a joseAnswer) {
		q.Issuer, q.Audience, q.Now = issuerName, product, now.Format("2006-01-02T15:04:05Z")
		q.Ring, err = json.Marshal(ring(t))
		require.NoError(t, err)
		stdin, err := json.Marshal(q)
		require.NoError(t, err)
		run := exec.CommandContext(t.Context(), node, script, folder)
		var stderr bytes.Buffer
		run.Stdin, run.Stderr = bytes.NewReader(stdin), &stderr
		out, err := run.Output()
		require.NoError(t, err, stderr.String())
		require.NoError(t, json.Unmarshal(out, &a))
		require.Len(t, a.Verified, len(q.Verify))
		require.Len(t, a.Signed, len(q.Sign))
		return a
	}
}

func TestJoseVerifiesOurTokens(t *testing.T) {
	ask := jose(t)
	for kid, issuer := range issuers(t) {
		t.Run(kid, func(t *testing.T) {
			full := terms()
			full.Nodes, full.MaxNodes, full.Request, full.Trial = []string{"aa", "bb"}, 2, "req_1", true
			elsewhere := terms()
			elsewhere.Audience = []string{"acme-mail"}
			ended := terms()
			ended.Expires, ended.LicenseExpires = now.Add(-1e9), now.Add(-1e9)
			var tokens []string
			for _, l := range []license.License{terms(), full, elsewhere, ended} {
				token, err := issuer.Issue(l)
				require.NoError(t, err)
				tokens = append(tokens, string(token))
			}
			tokens = append(tokens, altered(t, tokens[0]))
			a := ask(joseQuestion{Verify: tokens}).Verified
			for i := range 2 {
				require.Empty(t, a[i].Error)
				u, err := license.InspectUnverified([]byte(tokens[i]))
				require.NoError(t, err)
				require.JSONEq(t, string(u.Claims), string(a[i].Claims))
			}
			require.Equal(t, joseVerdict{Error: "ERR_JWT_CLAIM_VALIDATION_FAILED", Claim: "aud"}, a[2])
			refused(t, verifier(t), []byte(tokens[2]), license.ErrWrongProduct, "acme-mail")
			require.Equal(t, joseVerdict{Error: "ERR_JWT_EXPIRED", Claim: "exp"}, a[3])
			require.Equal(t, license.Grace, verifier(t).Status([]byte(tokens[3]), now).State, "ours judges time by itself")
			require.Equal(t, joseVerdict{Error: "ERR_JWS_SIGNATURE_VERIFICATION_FAILED"}, a[4])
			refused(t, verifier(t), []byte(tokens[4]), license.ErrBadSignature, "altered")
		})
	}
}

func TestTokensOfJoseAreRead(t *testing.T) {
	ask := jose(t)
	seed, scalar := seedKey(1).Seed(), ecKey(t, 1)
	point, err := scalar.PublicKey.Bytes()
	require.NoError(t, err)
	d, err := scalar.Bytes()
	require.NoError(t, err)
	private := map[string]map[string]string{
		"acme-2026": {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "d": b64(string(seed)), "x": b64(string(seedKey(1)[32:]))},
		"acme-ec": {"kty": "EC", "crv": "P-256", "alg": "ES256", "d": b64(string(d)),
			"x": b64(string(point[1:33])), "y": b64(string(point[33:]))},
	}
	var full map[string]any
	require.NoError(t, json.Unmarshal([]byte(goldenPayload), &full))
	for kid, jwk := range private {
		t.Run(kid, func(t *testing.T) {
			signed := func(typ string, claims map[string]any) joseToken {
				return joseToken{JWK: jwk, Header: map[string]string{"alg": jwk["alg"], "kid": kid, "typ": typ}, Claims: claims}
			}
			tokens := ask(joseQuestion{Sign: []joseToken{
				signed("license+jwt", full), signed("license+jwt", claims()), signed("JWT", full)}}).Signed
			want := terms()
			want.Issuer, want.KeyID = issuerName, kid
			got, err := verifier(t).Parse([]byte(tokens[0]))
			require.NoError(t, err)
			require.Equal(t, &want, got)
			got, err = verifier(t).Parse([]byte(tokens[1]))
			require.NoError(t, err)
			require.Equal(t, "lic_42", got.LicenseID)
			refused(t, verifier(t), []byte(tokens[2]), license.ErrHeader, `typ is "JWT"`)

			bad := altered(t, tokens[0])
			refused(t, verifier(t), []byte(bad), license.ErrBadSignature, "altered")
			a := ask(joseQuestion{Verify: append(tokens, bad)}).Verified
			require.Empty(t, a[0].Error, "it reads its own")
			require.Empty(t, a[1].Error, "it reads its own")
			require.Equal(t, joseVerdict{Error: "ERR_JWT_CLAIM_VALIDATION_FAILED", Claim: "typ"}, a[2])
			require.Equal(t, joseVerdict{Error: "ERR_JWS_SIGNATURE_VERIFICATION_FAILED"}, a[3])
		})
	}
}
