package license

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// An Issuer signs licences. It belongs where the vendor sells, never into an app. It may be used concurrently if
// its signer may.
type Issuer struct {
	signer crypto.Signer
	keyID  string
	issuer string
	ring   *Keyring
}

// NewIssuer makes an issuer that signs with an Ed25519 or an ECDSA P-256 key, from memory or from a KMS. keyID is
// the id under which apps have its public key, issuer the iss that they compare.
func NewIssuer(signer crypto.Signer, keyID, issuer string) (*Issuer, error) {
	if signer == nil {
		return nil, errors.New("license: an issuer needs a signer")
	}
	if issuer == "" {
		return nil, errors.New("license: an issuer needs a name (iss)")
	}
	ring, err := NewKeyring(Key{ID: keyID, Public: signer.Public()})
	if err != nil {
		return nil, err
	}
	return &Issuer{signer, keyID, issuer, ring}, nil
}

// A SigningError says that the issuer's key gave no usable signature: it could not sign, or it signed something else
// than what was asked, as some keys in an HSM or a KMS do.
type SigningError struct {
	KeyID string // the issuer's name of the key, kid
	Err   error
}

func (e *SigningError) Error() string {
	return fmt.Sprintf("license: signing with key %q: %v", e.KeyID, e.Err)
}

func (e *SigningError) Unwrap() error { return e.Err }

// Issue signs what l says. l.Issuer and l.KeyID may be left empty; if set, they must be this issuer's. The token
// is read back as an app would before it is returned, so that what Parse refuses is not issued: the error is
// then a [*TokenError]. A signature that does not verify is a [*SigningError].
//
// Beyond that, Issue refuses what Parse puts up with: an end before the start, and a Grace above [MaxGrace].
func (i *Issuer) Issue(l License) ([]byte, error) {
	if err := i.prepare(&l); err != nil {
		return nil, err
	}
	payload, err := l.encode()
	if err != nil {
		return nil, fmt.Errorf("license: the claims cannot be encoded: %w", err)
	}
	head, err := json.Marshal(map[string]string{"alg": i.algorithm(), "kid": i.keyID, "typ": headerType})
	if err != nil {
		return nil, fmt.Errorf("license: the header cannot be encoded: %w", err)
	}
	text := encodeSegment(head) + "." + encodeSegment(payload)
	signature, err := i.sign([]byte(text))
	if err != nil {
		return nil, &SigningError{i.keyID, err}
	}
	token := []byte(text + "." + encodeSegment(signature))
	v, err := NewVerifier(Config{Issuer: i.issuer, Product: l.Audience[0], Keys: i.ring})
	if err != nil {
		return nil, err
	}
	if _, err := v.Parse(token); err != nil {
		return nil, err
	}
	return token, nil
}

// prepare fills in what may be left out, and refuses what would not show in the token, or too late.
func (i *Issuer) prepare(l *License) error {
	if i == nil || i.ring == nil {
		return errors.New("license: no signer is known: make the issuer with NewIssuer")
	}
	if l.Issuer == "" {
		l.Issuer = i.issuer
	}
	if l.ID == "" {
		l.ID = rand.Text()
	}
	if l.NotBefore.IsZero() {
		l.NotBefore = l.IssuedAt
	}
	bad := func(format string, args ...any) error { return refuse(ErrClaims, "not issued: "+format, args...) }
	var after time.Time
	if l.Refresh != nil {
		after = l.Refresh.After
	}
	for name, t := range map[string]time.Time{"nbf": l.NotBefore, "lic_exp": l.LicenseExpires, "upd_until": l.UpdatesUntil,
		"sec_until": l.SecurityUntil, "refresh.after": after} {
		if !t.IsZero() && unix(t) == 0 { // which would read as absent: no end
			return bad("%s is 1970-01-01; the zero time.Time says that there is none", name)
		}
	}
	switch {
	case l.Issuer != i.issuer:
		return bad("the licence names the issuer %q, this is %q", l.Issuer, i.issuer)
	case l.KeyID != "" && l.KeyID != i.keyID:
		return bad("the licence names the key %q, this is %q: clear it to renew with another key", l.KeyID, i.keyID)
	case len(l.Audience) == 0 || l.Audience[0] == "":
		return bad("the licence names no product (aud)")
	case l.Grace < 0 || l.Grace > MaxGrace || l.Grace%time.Second != 0:
		return bad("a grace of %v; it has whole seconds, from 0 to %v", l.Grace, MaxGrace)
	case !l.Expires.After(l.NotBefore) || !l.Expires.After(l.IssuedAt):
		return bad("the token would expire before it counts: exp is %s, nbf %s, iat %s",
			day(l.Expires), day(l.NotBefore), day(l.IssuedAt))
	case !l.LicenseExpires.IsZero() && !l.LicenseExpires.After(l.NotBefore):
		return bad("the licence would expire before it counts: lic_exp is %s, nbf %s", day(l.LicenseExpires), day(l.NotBefore))
	}
	for code, value := range l.Entitlements {
		switch value.(type) {
		case bool, int, int64, string:
		default: // a struct or a json.Number might encode to something that reads as one of these
			return bad("entitlement %q is a %T; use bool, int64 or string", code, value)
		}
	}
	return nil
}

func (i *Issuer) algorithm() string { return algorithm(i.ring.keys[0].Public) }

// sign makes a JWS signature (RFC 7518 section 3.4, RFC 8037 section 3.1), and checks it at once: Parse would only say
// that the token is not genuine. golang-jwt would take a crypto.Signer for Ed25519 only, and a KMS offers nothing else.
func (i *Issuer) sign(text []byte) ([]byte, error) {
	switch public := i.ring.keys[0].Public.(type) {
	case *ecdsa.PublicKey:
		digest := sha256.Sum256(text)
		der, err := i.signer.Sign(rand.Reader, digest[:], crypto.SHA256)
		if err != nil {
			return nil, err
		}
		if !ecdsa.VerifyASN1(public, digest[:], der) {
			return nil, errors.New("the signature it made does not verify with its public key; check that the key signs SHA-256 digests and answers in ASN.1")
		}
		return joseSignature(der)
	case ed25519.PublicKey:
		sig, err := i.signer.Sign(rand.Reader, text, crypto.Hash(0))
		if err != nil {
			return nil, err
		}
		if !ed25519.Verify(public, text, sig) {
			return nil, errors.New("the signature it made does not verify with its public key; check that the key signs whole messages, not digests of them")
		}
		return sig, nil
	}
	return nil, errors.New("the key is neither Ed25519 nor ECDSA P-256") // NewKeyring takes no other
}

// joseSignature turns an ECDSA signature that verified into the form that JWS has: two numbers of 32 bytes.
func joseSignature(der []byte) ([]byte, error) {
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &sig); err != nil {
		return nil, err
	}
	out := make([]byte, 64)
	sig.R.FillBytes(out[:32])
	sig.S.FillBytes(out[32:])
	return out, nil
}

func encodeSegment(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }
