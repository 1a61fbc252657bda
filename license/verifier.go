package license

import (
	"crypto"
	"crypto/ed25519"
	_ "crypto/sha256" // ES256
	"errors"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Config says whose licences, and for what, a Verifier takes.
type Config struct {
	// Issuer is the iss that licences carry, compared byte by byte. Required.
	Issuer string

	// Product is what their aud must name. Required.
	Product string

	// Keys are the issuer's. Required.
	Keys *Keyring

	// Node is this installation's fingerprint. Empty: none is known, and licences bound to nodes do not hold here.
	Node string

	// Open says that releases which require no entitlement are for everybody, with a licence, without one, or
	// with one that does not hold. By default updates need a licence.
	Open bool
}

// A Verifier reads tokens and judges what it read. It has no state and may be used concurrently.
type Verifier struct {
	config      Config
	revocations *Revocations // see With
}

// NewVerifier makes a Verifier. Issuer, product and keys are required: what is not compared is not verified
// (RFC 8725 sections 3.8 and 3.9).
func NewVerifier(c Config) (*Verifier, error) {
	switch {
	case c.Issuer == "":
		return nil, errors.New("license: Config.Issuer is empty: say whose licences this app takes")
	case c.Product == "":
		return nil, errors.New("license: Config.Product is empty: say which product this is")
	case c.Keys == nil || len(c.Keys.keys) == 0:
		return nil, errors.New("license: Config.Keys is empty: say which keys the issuer has")
	}
	return &Verifier{config: c}, nil
}

// Parse reads a token: who signed it, and whether it is for this product. It does not ask what time it is; that
// does [Verifier.Evaluate]. The token may stand in armour and in white space.
//
// The error is a [*TokenError]; the license is nil then. Nothing of what an unverified token says is believed,
// except which of the known keys to try.
func (v *Verifier) Parse(token []byte) (*License, error) {
	s, err := open(token)
	if err != nil {
		return nil, err
	}
	key, err := v.key(s.header)
	if err != nil {
		return nil, err
	}
	if err := verify(s, key.Public); err != nil {
		return nil, err
	}
	l, err := readClaims(s.payload)
	if err != nil {
		return nil, err
	}
	if err := v.checkScope(l); err != nil {
		return nil, err
	}
	if l.IssuedAt.Before(key.NotBefore) || !key.Retired.IsZero() && !l.IssuedAt.Before(key.Retired) {
		return nil, refuse(ErrKeyPeriod, "the licence was issued on %s, when key %q was not in use: ask for a new one",
			day(l.IssuedAt), key.ID)
	}
	l.KeyID = key.ID
	return l, nil
}

func (v *Verifier) key(h header) (Key, error) {
	if v == nil || v.config.Keys == nil {
		return Key{}, refuse(ErrUnknownKey, "no keys are known: make the verifier with NewVerifier")
	}
	key, ok := v.config.Keys.byID[h.kid]
	if !ok {
		return Key{}, refuse(ErrUnknownKey,
			"the licence was issued with the key %.64q, which this app does not know: update the app, or let it check for updates", h.kid)
	}
	if want := algorithm(key.Public); h.alg != want {
		return Key{}, refuse(ErrHeader, "the header's alg is %s, but key %q is for %s", h.alg, key.ID, want)
	}
	return key, nil
}

// verify has golang-jwt verify the signature. Its parser is left out: that would read header and payload once
// more, by other rules than the gate's, and would look up by the token's word which method is to verify, in a
// process-wide table that any package may write to. Here the type of the key decides, and the methods are our own
// values, not the package's variables.
func verify(s *sealed, public crypto.PublicKey) error {
	var method jwt.SigningMethod = &jwt.SigningMethodECDSA{Name: algES256, Hash: crypto.SHA256, KeySize: 32, CurveBits: 256}
	if _, ok := public.(ed25519.PublicKey); ok {
		method = &jwt.SigningMethodEd25519{}
	}
	if method.Verify(s.signed, s.signature, public) != nil {
		return refuse(ErrBadSignature, "the signature does not fit: the licence was altered, "+
			"or it was signed with another key that also calls itself %q", s.header.kid)
	}
	return nil
}

func (v *Verifier) checkScope(l *License) error {
	if l.Issuer != v.config.Issuer {
		return refuse(ErrWrongIssuer, "the licence is from %q; this app takes those from %q", l.Issuer, v.config.Issuer)
	}
	if !slices.Contains(l.Audience, v.config.Product) {
		return refuse(ErrWrongProduct, "the licence is for %q; this is %q", l.Audience, v.config.Product)
	}
	return nil
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
