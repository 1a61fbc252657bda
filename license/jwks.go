package license

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"errors"
	"fmt"
)

// MaxKeyring is the most bytes that a JWK set may have.
const MaxKeyring = 256 << 10

// privateMembers are those by which a JWK holds a private or a shared key (RFC 7518 section 6).
var privateMembers = [...]string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"}

// ParseKeyring reads a JWK set (RFC 7517), such as `publish license keys` prints and an app embeds. Keys are
// "kty":"OKP","crv":"Ed25519" or "kty":"EC","crv":"P-256", each with a kid; "nbf" and "retired" are
// [Key.NotBefore] and [Key.Retired] in seconds since 1970. Members it does not know are ignored, but a private
// key is refused: whoever gets the app would get it too.
func ParseKeyring(jwks []byte) (*Keyring, error) {
	if len(jwks) > MaxKeyring {
		return nil, fmt.Errorf("license: a key ring of %d bytes; at most %d are read", len(jwks), MaxKeyring)
	}
	set, err := readObject(jwks)
	if err != nil {
		return nil, fmt.Errorf("license: the key ring %w", err)
	}
	list, ok := set["keys"].([]any)
	if !ok {
		return nil, errors.New(`license: the key ring has no list "keys"`)
	}
	keys := make([]Key, len(list))
	for i, element := range list {
		members, ok := element.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("license: element %d of the key ring is not an object", i)
		}
		if keys[i], err = readJWK(members); err != nil {
			return nil, fmt.Errorf("license: key %.64q, element %d of the key ring, %w", keys[i].ID, i, err)
		}
	}
	return NewKeyring(keys...)
}

func readJWK(members map[string]any) (key Key, err error) {
	r := reader{members: members}
	key.ID = r.text("kid")
	for _, name := range privateMembers {
		if _, ok := members[name]; ok {
			return key, fmt.Errorf("is PRIVATE (it has the member %q): never embed or send it; "+
				"if this file has left your hands, issue with a new key and remove this one", name)
		}
	}
	key.NotBefore, key.Retired = r.date("nbf"), r.date("retired")
	kty, crv, use, alg := r.text("kty"), r.text("crv"), r.text("use"), r.text("alg")
	if r.err != nil {
		return key, r.err
	}
	if use != "" && use != "sig" {
		return key, fmt.Errorf("is for use %.64q, not for signatures (sig)", use)
	}
	if key.Public, err = readPoint(kty+"/"+crv, &r); err != nil {
		return key, err
	}
	if want := algorithm(key.Public); alg != "" && alg != want {
		return key, fmt.Errorf("names the algorithm %.64q, its type says %s", alg, want)
	}
	return key, nil
}

func readPoint(kind string, r *reader) (crypto.PublicKey, error) {
	switch kind {
	case "OKP/Ed25519":
		x, err := r.coordinate("x")
		return ed25519.PublicKey(x), err
	case "EC/P-256":
		x, errX := r.coordinate("x")
		y, errY := r.coordinate("y")
		if err := errors.Join(errX, errY); err != nil {
			return nil, err
		}
		public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
		if err != nil {
			return nil, errors.New("is not a point of P-256")
		}
		return public, nil
	}
	return nil, fmt.Errorf("has the type %.64q; OKP/Ed25519 and EC/P-256 are read", kind)
}

func (r *reader) coordinate(name string) ([]byte, error) {
	data, err := decodeSegment(r.text(name))
	if err != nil {
		return nil, fmt.Errorf("has a member %s that %w", name, err)
	}
	if len(data) != 32 {
		return nil, fmt.Errorf("has a member %s of %d bytes, not 32", name, len(data))
	}
	return data, r.err
}
