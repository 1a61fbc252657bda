package license

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// A Key is an issuer's public key under the id that tokens name it by.
type Key struct {
	// ID is the kid of the tokens it verifies: 1 to 128 visible ASCII characters.
	ID string

	// Public is an ed25519.PublicKey or, on P-256, an *ecdsa.PublicKey. Its type fixes the algorithm: a token
	// that names another one is refused, whatever its signature.
	Public crypto.PublicKey

	// NotBefore and Retired bound the time of issue (iat) of the tokens that the key verifies: from NotBefore on,
	// before Retired. Zero: no bound. Retiring a key stops new tokens and keeps old ones; it is no help against
	// a thief, who writes the iat she likes. A stolen key is removed.
	NotBefore, Retired time.Time
}

// A Keyring is the set of keys that an app believes. Compile it in: a key that the licensee can replace is no
// key. It does not change once made, and may be used concurrently.
type Keyring struct {
	keys []Key
	byID map[string]Key
}

// NewKeyring makes a key ring. It is an error if there is no key, or if one has no id, an id that another has,
// a type other than Ed25519 and ECDSA P-256, or a period that ends before it starts.
func NewKeyring(keys ...Key) (*Keyring, error) {
	if len(keys) == 0 {
		return nil, errors.New("license: a key ring needs at least one key")
	}
	ring := &Keyring{byID: map[string]Key{}}
	for _, k := range keys {
		if err := checkKeyID(k.ID); err != nil {
			return nil, err
		}
		if _, ok := ring.byID[k.ID]; ok {
			return nil, fmt.Errorf("license: two keys have the id %q", k.ID)
		}
		public, err := checkPublic(k.Public)
		if err != nil {
			return nil, fmt.Errorf("license: key %q %w", k.ID, err)
		}
		if !k.Retired.IsZero() && !k.Retired.After(k.NotBefore) {
			return nil, fmt.Errorf("license: key %q is retired before it is valid", k.ID)
		}
		k.Public = public
		ring.byID[k.ID] = k
		ring.keys = append(ring.keys, k)
	}
	return ring, nil
}

// Keys returns the keys in the order in which they were given.
func (r *Keyring) Keys() []Key { return append([]Key(nil), r.keys...) }

func checkKeyID(id string) error {
	if id == "" || len(id) > 128 {
		return fmt.Errorf("license: a key id has 1 to 128 characters, not %d", len(id))
	}
	for i := range len(id) {
		if id[i] <= ' ' || id[i] > '~' {
			return fmt.Errorf("license: key id %q has a character other than visible ASCII", id)
		}
	}
	return nil
}

// checkPublic returns a copy of public, so that nobody can change it afterwards.
func checkPublic(public crypto.PublicKey) (crypto.PublicKey, error) {
	switch k := public.(type) {
	case ed25519.PublicKey:
		if len(k) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("has %d bytes; Ed25519 has %d", len(k), ed25519.PublicKeySize)
		}
		// What an unset variable gives. It is a point of small order: anybody can sign for it.
		if ed25519.PublicKey(make([]byte, ed25519.PublicKeySize)).Equal(k) {
			return nil, errors.New("is all zeros")
		}
		return append(ed25519.PublicKey(nil), k...), nil
	case *ecdsa.PublicKey:
		if k == nil || k.Curve != elliptic.P256() {
			return nil, errors.New("is not on the curve P-256, the only one for ECDSA")
		}
		point, err := k.Bytes() // checks that the point is on the curve
		if err != nil {
			return nil, errors.New("is not a point of P-256")
		}
		return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	default:
		return nil, fmt.Errorf("is a %T; use ed25519.PublicKey or *ecdsa.PublicKey", public)
	}
}

func algorithm(public crypto.PublicKey) string {
	if _, ok := public.(ed25519.PublicKey); ok {
		return algEdDSA
	}
	return algES256
}

// jwk is a key in a JWK set (RFC 7517, RFC 8037). nbf and retired are ours: seconds since 1970, as in a token.
type jwk struct {
	KeyType   string `json:"kty"`
	Curve     string `json:"crv"`
	ID        string `json:"kid"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
	X         string `json:"x"`
	Y         string `json:"y,omitempty"`
	NotBefore int64  `json:"nbf,omitempty"`
	Retired   int64  `json:"retired,omitempty"`
}

// MarshalJSON writes the ring as a JWK set, which ParseKeyring reads.
func (r *Keyring) MarshalJSON() ([]byte, error) {
	set := make([]jwk, len(r.keys))
	for i, k := range r.keys {
		set[i] = jwk{ID: k.ID, Use: "sig", Algorithm: algorithm(k.Public), NotBefore: unix(k.NotBefore), Retired: unix(k.Retired)}
		switch public := k.Public.(type) {
		case ed25519.PublicKey:
			set[i].KeyType, set[i].Curve = "OKP", "Ed25519"
			set[i].X = base64.RawURLEncoding.EncodeToString(public)
		case *ecdsa.PublicKey:
			point, err := public.Bytes()
			if err != nil {
				return nil, fmt.Errorf("license: key %q is not a point of P-256", k.ID)
			}
			set[i].KeyType, set[i].Curve = "EC", "P-256"
			set[i].X = base64.RawURLEncoding.EncodeToString(point[1:33])
			set[i].Y = base64.RawURLEncoding.EncodeToString(point[33:])
		}
	}
	return json.Marshal(map[string][]jwk{"keys": set})
}
