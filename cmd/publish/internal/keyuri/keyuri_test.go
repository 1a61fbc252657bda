package keyuri

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/tufrepo"
)

func TestIs(t *testing.T) {
	for uri, is := range map[string]bool{
		"env://KEY": true, "awskms:///alias/x": true, "yubi-hsm://1": true, "HSM://x": true,
		"keys/a.pem": false, `C:\keys\a.pem`: false, "C://keys": false, "../x://y": false, "a/b://c": false, "": false, "://x": false, "x y://z": false,
	} {
		require.Equal(t, is, Is(uri), uri)
	}
}

func TestCheck(t *testing.T) {
	for _, good := range []string{
		"env://NAME", "awskms:///alias/notes", "awskms://localhost:4566/alias/notes", "hashivault://notes-stable",
		"gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1", "azurekms://v.vault.azure.net/notes",
		"pkcs11://slot;token=notes?module-path=/usr/lib/x.so&pin-source=file:/run/pin", "hsm://user@host/key",
	} {
		require.NoError(t, Check(good), good)
	}
	for bad, words := range map[string]string{
		"keys/a.pem": "no scheme", "env://": "names no key", "env://A B": "spaces", "env://1A": "not the name of a variable", "env://A/B": "not the name",
		"hsm://user:hunter2@host/key": "password or a PIN", "hsm://slot?PIN-VALUE=hunter2": "password or a PIN", "hsm://slot;pin=hunter2": "password or a PIN",
		"hsm://a\nb": "spaces", "hsm://ä": "beyond ASCII", "hsm://" + strings.Repeat("a", maxURI): "more than",
	} {
		_, err := Open(t.Context(), bad, System{Getenv: func(string) string { t.Error("looked at the environment"); return "" }})
		require.ErrorIs(t, err, ErrURI, bad)
		require.ErrorContains(t, err, words)
		require.NotContains(t, err.Error(), "hunter2")
		var e *Error
		require.ErrorAs(t, err, &e)
	}
}

// A service has one key, and notes what it is asked.
type service struct {
	key    crypto.Signer
	hash   crypto.Hash
	hashes *[]crypto.Hash
	err    error
	block  chan struct{}
	crash  bool
}

func (s service) provider(_ context.Context, _ string, hash crypto.Hash) (signature.Signer, error) {
	if s.hashes != nil {
		*s.hashes = append(*s.hashes, hash)
	}
	s.hash = hash
	return s, nil
}

func (s service) PublicKey(...signature.PublicKeyOption) (crypto.PublicKey, error) {
	return s.key.Public(), nil
}

func (s service) SignMessage(message io.Reader, opts ...signature.SignOption) ([]byte, error) {
	if s.block != nil {
		<-s.block
	}
	if s.crash {
		var answer *struct{ sig []byte }
		return answer.sig, nil
	}
	if s.err != nil {
		return nil, s.err
	}
	var digest []byte
	var as crypto.SignerOpts
	for _, o := range opts {
		o.ApplyDigest(&digest)
		o.ApplyCryptoSignerOpts(&as)
	}
	data, err := io.ReadAll(message)
	if err != nil {
		return nil, err
	}
	if digest != nil {
		data = append(data, digest...)
	}
	if as.HashFunc() != s.hash {
		return nil, errors.New("asked with another hash than it was opened with")
	}
	return s.key.Sign(rand.Reader, data, s.hash)
}

func TestHashes(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	digest := sha256.Sum256([]byte("message"))

	var hashes []crypto.Hash
	sys := System{Providers: map[string]Provider{"ed": service{key: ed, hashes: &hashes}.provider, "ec": service{key: ec, hashes: &hashes}.provider}}
	s, err := Open(t.Context(), "ed://key", sys)
	require.NoError(t, err)
	require.Equal(t, []crypto.Hash{crypto.SHA256, 0}, hashes, "an Ed25519 key is asked for messages")
	sig, err := s.Key().Sign(rand.Reader, []byte("message"), crypto.Hash(0))
	require.NoError(t, err)
	require.True(t, ed25519.Verify(ed.Public().(ed25519.PublicKey), []byte("message"), sig))

	hashes = nil
	s, err = Open(t.Context(), "ec://key", sys)
	require.NoError(t, err)
	require.Equal(t, []crypto.Hash{crypto.SHA256}, hashes)
	sig, err = s.Key().Sign(rand.Reader, digest[:], crypto.SHA256)
	require.NoError(t, err)
	require.True(t, ecdsa.VerifyASN1(&ec.PublicKey, digest[:], sig))
}

func TestRefused(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	down := errors.New("403\n\n* permission denied at https://me:hunter2@vault?secret=hunter2&x=1")
	sys := System{Providers: map[string]Provider{
		"rsa": service{key: rsaKey}.provider, "down": service{key: ed, err: down}.provider, "crash": service{key: ed, crash: true}.provider,
	}}
	_, err = Open(t.Context(), "rsa://key", sys)
	var kind *tufrepo.KeyTypeError
	require.ErrorAs(t, err, &kind)
	require.Equal(t, "*rsa.PublicKey", kind.Type)
	_, err = Open(t.Context(), "env://KEY", System{})
	var unset *UnsetError
	require.ErrorAs(t, err, &unset)
	_, err = Open(t.Context(), "nosuch://KEY", sys)
	var none *NoPluginError
	require.ErrorAs(t, err, &none)
	require.Equal(t, "sigstore-kms-nosuch", none.Program)

	s, err := Open(t.Context(), "down://key", sys)
	require.NoError(t, err)
	_, err = s.Key().Sign(rand.Reader, []byte("message"), crypto.Hash(0))
	require.ErrorIs(t, err, down)
	require.EqualError(t, err, "key down://key: 403 * permission denied at https://***@vault?secret=***&x=1")
	s, err = Open(t.Context(), "crash://key", sys)
	require.NoError(t, err)
	_, err = s.Key().Sign(rand.Reader, []byte("message"), crypto.Hash(0))
	require.ErrorContains(t, err, "the answer was not what it should be")
}

// A service that does not answer does not keep the command from ending.
func TestCancelled(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	block := make(chan struct{})
	defer close(block)
	ctx, cancel := context.WithCancel(t.Context())
	s, err := Open(ctx, "slow://key", System{Providers: map[string]Provider{"slow": service{key: ed, block: block}.provider}})
	require.NoError(t, err)
	cancel()
	_, err = s.Key().Sign(rand.Reader, []byte("message"), crypto.Hash(0))
	require.ErrorIs(t, err, context.Canceled)
}
