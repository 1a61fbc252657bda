package tufrepo

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// A PublicKey is what a role names as one of its keys: Ed25519 or ECDSA P-256. Make one with [NewPublicKey],
// [ParsePublicKey] or [Signer.Public]; the zero value is no key.
type PublicKey struct {
	key *metadata.Key
	id  string
	pub crypto.PublicKey
}

// NewPublicKey checks the kind of key; other kinds are a [*KeyTypeError].
func NewPublicKey(key crypto.PublicKey) (PublicKey, error) {
	if err := checkKeyType(key); err != nil {
		return PublicKey{}, err
	}
	k, err := metadata.KeyFromPublicKey(key)
	if err != nil {
		return PublicKey{}, fmt.Errorf("tufrepo: public key: %w", err)
	}
	id, err := k.ID()
	if err != nil {
		return PublicKey{}, fmt.Errorf("tufrepo: public key: %w", err)
	}
	return PublicKey{key: k, id: id, pub: key}, nil
}

// ParsePublicKey reads the PEM block "PUBLIC KEY".
func ParsePublicKey(pem []byte) (PublicKey, error) {
	key, err := cryptoutils.UnmarshalPEMToPublicKey(pem)
	if err != nil {
		return PublicKey{}, fmt.Errorf("tufrepo: public key: %w; expected a PEM block PUBLIC KEY", err)
	}
	return NewPublicKey(key)
}

// ID is the TUF key id: the hex sha256 of the key's canonical form.
func (k PublicKey) ID() string { return k.id }

// Key returns the key itself, an ed25519.PublicKey or an *ecdsa.PublicKey; nil for the zero value.
func (k PublicKey) Key() crypto.PublicKey { return k.pub }

// PEM returns the PEM block "PUBLIC KEY", nil for the zero value.
func (k PublicKey) PEM() []byte {
	if k.pub == nil {
		return nil
	}
	block, _ := cryptoutils.MarshalPublicKeyToPEM(k.pub) // NewPublicKey encoded it before
	return block
}

func checkKeyType(key crypto.PublicKey) error {
	switch k := key.(type) {
	case ed25519.PublicKey:
		if len(k) == ed25519.PublicKeySize {
			return nil
		}
		return &KeyTypeError{Type: fmt.Sprintf("ed25519 of %d bytes", len(k))}
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return nil
		}
		return &KeyTypeError{Type: "ecdsa on " + k.Curve.Params().Name}
	}
	return &KeyTypeError{Type: fmt.Sprintf("%T", key)}
}

// A KeyTypeError says that a key is of a kind that not every TUF client verifies.
type KeyTypeError struct{ Type string }

func (e *KeyTypeError) Error() string {
	return "tufrepo: keys of type " + e.Type + " are not supported; use Ed25519 or ECDSA P-256"
}

// A Signer signs roles with one private key, which may live in a file, an agent or a KMS. Its methods may be called
// at once if those of the key may.
type Signer struct {
	key    crypto.Signer
	public PublicKey
}

// NewSigner wraps a private key: Ed25519, which signs the message itself (crypto.Hash(0)), or ECDSA P-256, which signs
// its SHA-256. Other kinds are a [*KeyTypeError].
func NewSigner(key crypto.Signer) (*Signer, error) {
	if key == nil {
		return nil, &KeyTypeError{Type: "nil"}
	}
	public, err := NewPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	return &Signer{key, public}, nil
}

// ID is the TUF key id of the signer's public key.
func (s *Signer) ID() string { return s.public.id }

// Public returns the key that verifies what s signs.
func (s *Signer) Public() PublicKey { return s.public }

// Key returns the private key itself, as given to [NewSigner] or loaded, for signing something that is no role, such as
// a licence. Do not use the key of a role for that: what else is signed with it may be mistaken for a role.
func (s *Signer) Key() crypto.Signer { return s.key }

// A SigningError says that a key gave no usable signature.
type SigningError struct {
	KeyID string
	Err   error
}

func (e *SigningError) Error() string {
	return "tufrepo: signing with key " + e.KeyID + ": " + e.Err.Error()
}

func (e *SigningError) Unwrap() error { return e.Err }

// sign signs and checks the signature at once: some KMS keys sign a digest where the message is meant, or with
// another scheme, and clients would be the first to notice.
func (s *Signer) sign(payload []byte) ([]byte, error) {
	var sig []byte
	var err error
	hash := crypto.Hash(0)
	if _, ok := s.public.pub.(*ecdsa.PublicKey); ok {
		hash = crypto.SHA256
		digest := sha256.Sum256(payload)
		sig, err = s.key.Sign(rand.Reader, digest[:], hash)
	} else {
		sig, err = s.key.Sign(rand.Reader, payload, hash)
	}
	if err != nil {
		return nil, &SigningError{s.ID(), err}
	}
	verifier, err := signature.LoadVerifier(s.public.pub, hash)
	if err == nil {
		err = verifier.VerifySignature(bytes.NewReader(sig), bytes.NewReader(payload))
	}
	if err != nil {
		return nil, &SigningError{s.ID(), fmt.Errorf("the signature it made does not verify with its public key (%w); check that the key signs whole messages for Ed25519, SHA-256 digests for ECDSA", err)}
	}
	return sig, nil
}
