package tufrepo

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/stretchr/testify/require"
)

func passphrase(s string) func() ([]byte, error) {
	return func() ([]byte, error) { return []byte(s), nil }
}

func TestKeyFile(t *testing.T) {
	for _, algorithm := range []string{"ed25519", "ecdsa-p256"} {
		t.Run(algorithm, func(t *testing.T) {
			key, err := GenerateKey(algorithm)
			require.NoError(t, err)
			path := filepath.Join(t.TempDir(), "key.pem")
			require.NoError(t, WriteKeyFile(path, key, []byte("correct horse")))
			s, err := LoadKeyFile(path, passphrase("correct horse"))
			require.NoError(t, err)
			want, err := NewSigner(key)
			require.NoError(t, err)
			require.Equal(t, want.ID(), s.ID())

			parsed, err := ParsePublicKey(s.Public().PEM())
			require.NoError(t, err)
			require.Equal(t, s.ID(), parsed.ID())

			info, err := os.Stat(path)
			require.NoError(t, err)
			if runtime.GOOS != "windows" {
				require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
			}
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			block, rest := pem.Decode(data)
			require.Equal(t, "ENCRYPTED PRIVATE KEY", block.Type)
			require.Empty(t, rest)
			require.Equal(t, 1<<14, scryptCost(t, block.Bytes), "OpenSSL 3 refuses more")

			if openssl, err := exec.LookPath("openssl"); err == nil {
				public, err := exec.Command(openssl, "pkey", "-in", path, "-passin", "pass:correct horse", "-pubout").Output()
				require.NoError(t, err)
				require.Equal(t, string(s.Public().PEM()), string(public))
			}
		})
	}
}

func TestKeyFileRefused(t *testing.T) {
	dir := t.TempDir()
	key, err := GenerateKey("")
	require.NoError(t, err)
	good := filepath.Join(dir, "good.pem")
	require.NoError(t, WriteKeyFile(good, key, []byte("secret")))
	plain := filepath.Join(dir, "plain.pem")
	require.NoError(t, WriteUnencryptedKeyFile(plain, key))

	refused := func(err error, path string) error {
		t.Helper()
		var file *KeyFileError
		require.ErrorAs(t, err, &file)
		require.Equal(t, path, file.Path)
		return file.Err
	}
	_, err = LoadKeyFile(good, passphrase("secret"))
	require.NoError(t, err)
	_, err = LoadKeyFile(good, passphrase("Secret"))
	require.ErrorIs(t, refused(err, good), ErrWrongPassphrase)
	_, err = LoadKeyFile(good, passphrase(""))
	require.ErrorIs(t, refused(err, good), ErrWrongPassphrase)
	_, err = LoadKeyFile(good, nil)
	require.ErrorContains(t, refused(err, good), "no passphrase is at hand")
	cancelled := errors.New("cancelled")
	_, err = LoadKeyFile(good, func() ([]byte, error) { return nil, cancelled })
	require.ErrorIs(t, refused(err, good), cancelled)
	_, err = LoadKeyFile(plain, func() ([]byte, error) { t.Error("asked without need"); return nil, nil })
	require.NoError(t, err)
	_, err = LoadKeyFile(filepath.Join(dir, "gone.pem"), nil)
	require.ErrorIs(t, refused(err, filepath.Join(dir, "gone.pem")), fs.ErrNotExist)
	_, err = LoadKeyFile(dir, nil)
	require.ErrorContains(t, refused(err, dir), "not a regular file")

	require.ErrorIs(t, refused(WriteKeyFile(good, key, []byte("secret")), good), fs.ErrExist)
	_, err = LoadKeyFile(good, passphrase("secret"))
	require.NoError(t, err, "it was not overwritten")
	empty := filepath.Join(dir, "empty.pem")
	require.ErrorContains(t, refused(WriteKeyFile(empty, key, nil), empty), "the passphrase is empty")
	require.NoFileExists(t, empty)

	if runtime.GOOS == "windows" {
		return
	}
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o620, 0o602} {
		require.NoError(t, os.Chmod(good, mode))
		_, err = LoadKeyFile(good, func() ([]byte, error) { t.Error("asked for a key that is refused"); return nil, nil })
		require.ErrorContains(t, refused(err, good), "others can read or change it", "%o", mode)
	}
	require.NoError(t, os.Chmod(good, 0o400))
	_, err = LoadKeyFile(good, passphrase("secret"))
	require.NoError(t, err)
}

// scryptCost reads N out of an encrypted PKCS#8 key (RFC 5958 section 3, RFC 8018 appendix A.4, RFC 7914 section 7).
func scryptCost(t *testing.T, der []byte) int {
	t.Helper()
	type algorithm struct {
		ID         asn1.ObjectIdentifier
		Parameters asn1.RawValue
	}
	var key struct {
		Encryption algorithm
		Data       []byte
	}
	var scheme struct{ KDF, Cipher algorithm }
	var scrypt struct {
		Salt    []byte
		N, R, P int
	}
	for _, step := range []struct {
		der  func() []byte
		into any
	}{
		{func() []byte { return der }, &key},
		{func() []byte { return key.Encryption.Parameters.FullBytes }, &scheme},
		{func() []byte { return scheme.KDF.Parameters.FullBytes }, &scrypt},
	} {
		_, err := asn1.Unmarshal(step.der(), step.into)
		require.NoError(t, err)
	}
	require.Equal(t, "1.3.6.1.4.1.11591.4.11", scheme.KDF.ID.String(), "scrypt")
	require.Equal(t, "2.16.840.1.101.3.4.1.42", scheme.Cipher.ID.String(), "AES-256-CBC")
	return scrypt.N
}

func TestCosignKeyFile(t *testing.T) {
	for label, algorithm := range map[string]string{"ENCRYPTED SIGSTORE PRIVATE KEY": "ecdsa-p256", "ENCRYPTED COSIGN PRIVATE KEY": "ed25519"} {
		key, err := GenerateKey(algorithm)
		require.NoError(t, err)
		der, err := cryptoutils.MarshalPrivateKeyToEncryptedDER(key, cryptoutils.StaticPasswordFunc([]byte("secret")))
		require.NoError(t, err)
		path := filepath.Join(t.TempDir(), "cosign.key")
		require.NoError(t, os.WriteFile(path, cryptoutils.PEMEncode(cryptoutils.PEMType(label), der), 0o600))
		s, err := LoadKeyFile(path, passphrase("secret"))
		require.NoError(t, err)
		want, err := NewSigner(key)
		require.NoError(t, err)
		require.Equal(t, want.ID(), s.ID())
		if algorithm == "ed25519" { // a second, each time, is how slow it is meant to be
			_, err = LoadKeyFile(path, passphrase("wrong"))
			require.ErrorIs(t, err, ErrWrongPassphrase)
		}
	}
}

func TestParseKey(t *testing.T) {
	key, err := GenerateKey("")
	require.NoError(t, err)
	want, err := NewSigner(key)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "key.pem")
	require.NoError(t, WriteKeyFile(path, key, []byte("secret")))
	block, err := os.ReadFile(path)
	require.NoError(t, err)
	s, err := ParseKey(block, passphrase("secret"))
	require.NoError(t, err)
	require.Equal(t, want.ID(), s.ID())
	_, err = ParseKey(block, passphrase("hunter2"))
	require.ErrorIs(t, err, ErrWrongPassphrase)
	_, err = ParseKey(block, nil)
	require.ErrorContains(t, err, "no passphrase is at hand")

	for _, bad := range [][]byte{nil, []byte("hunter2"), []byte("-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n"),
		cryptoutils.PEMEncode("PRIVATE KEY", []byte("hunter2")), cryptoutils.PEMEncode("EC PRIVATE KEY", []byte("hunter2")),
		cryptoutils.PEMEncode("PUBLIC KEY", []byte("hunter2")), append(block, make([]byte, maxKeyFile)...)} {
		_, err := ParseKey(bad, passphrase("secret"))
		require.Error(t, err)
		require.NotContains(t, err.Error(), "hunter2")
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(rsaKey)
	require.NoError(t, err)
	_, err = ParseKey(cryptoutils.PEMEncode("PRIVATE KEY", der), nil)
	var wrong *KeyTypeError
	require.ErrorAs(t, err, &wrong)
	require.Equal(t, "*rsa.PublicKey", wrong.Type)
}

func TestKeyTypes(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	for want, key := range map[string]crypto.Signer{"ecdsa on P-384": p384, "*rsa.PublicKey": rsaKey} {
		var wrong *KeyTypeError
		_, err := NewSigner(key)
		require.ErrorAs(t, err, &wrong)
		require.Equal(t, want, wrong.Type)
		require.ErrorAs(t, WriteKeyFile(filepath.Join(t.TempDir(), "k"), key, []byte("x")), &wrong)

		der, err := x509.MarshalPKIXPublicKey(key.Public())
		require.NoError(t, err)
		_, err = ParsePublicKey(cryptoutils.PEMEncode(cryptoutils.PublicKeyPEMType, der))
		require.ErrorAs(t, err, &wrong)
	}
	_, err = NewPublicKey(ed25519.PublicKey("short"))
	require.ErrorContains(t, err, "ed25519 of 5 bytes")
	_, err = NewSigner(nil)
	require.ErrorContains(t, err, "type nil")
	_, err = GenerateKey("rsa")
	require.ErrorContains(t, err, "use ed25519 or ecdsa-p256")
	require.Nil(t, PublicKey{}.PEM())
}

// A digestSigner is a KMS key that signs a digest where Ed25519 signs the message: it was seen to.
type digestSigner struct{ ed25519.PrivateKey }

func (d digestSigner) Sign(r io.Reader, message []byte, _ crypto.SignerOpts) ([]byte, error) {
	sum := sha512.Sum512(message)
	return d.PrivateKey.Sign(r, sum[:], crypto.Hash(0))
}

type deadSigner struct{ ed25519.PrivateKey }

func (deadSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("403: token expired")
}

func TestBadSigner(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	for want, bad := range map[string]crypto.Signer{"does not verify with its public key": digestSigner{key}, "403: token expired": deadSigner{key}} {
		w := emptyWorld(t)
		good, err := NewSigner(key)
		require.NoError(t, err)
		w.keys["online"], err = NewSigner(bad)
		require.NoError(t, err)
		_, err = Create(t.Context(), w.store, w.config(), w.all()...)
		var signing *SigningError
		require.ErrorAs(t, err, &signing)
		require.ErrorContains(t, err, want)
		require.Equal(t, good.ID(), signing.KeyID)
		require.NoDirExists(t, w.dir, "nothing is written before all is signed")
		w.keys["online"] = good
		_, err = Create(t.Context(), w.store, w.config(), w.all()...)
		require.NoError(t, err)
	}
}

func TestSignerKey(t *testing.T) {
	key, err := GenerateKey("ed25519")
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "key.pem")
	require.NoError(t, WriteUnencryptedKeyFile(path, key))
	s, err := LoadKeyFile(path, nil)
	require.NoError(t, err)
	require.Equal(t, key, s.Key())
}
