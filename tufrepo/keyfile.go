package tufrepo

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/youmark/pkcs8"

	"github.com/fairlead-dev/fairlead/internal/disk"
)

const (
	pemEncrypted = "ENCRYPTED PRIVATE KEY" // RFC 7468, section 11
	maxKeyFile   = 64 << 10
)

// ErrWrongPassphrase says that a key file does not open with the passphrase given, or is damaged.
var ErrWrongPassphrase = errors.New("the passphrase is wrong, or the file is damaged")

// A KeyFileError names the key file that could not be read or written.
type KeyFileError struct {
	Path string
	Err  error
}

func (e *KeyFileError) Error() string { return "tufrepo: key file " + e.Path + ": " + e.Err.Error() }

func (e *KeyFileError) Unwrap() error { return e.Err }

// GenerateKey makes a new private key. algorithm is "ed25519" (or "") or "ecdsa-p256".
func GenerateKey(algorithm string) (crypto.Signer, error) {
	switch algorithm {
	case "", "ed25519":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case "ecdsa-p256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	return nil, fmt.Errorf("tufrepo: no key algorithm is called %q; use ed25519 or ecdsa-p256", algorithm)
}

// WriteKeyFile writes a private key as an encrypted PKCS#8 PEM file (RFC 5958: PBES2 with scrypt and AES-256-CBC, which
// OpenSSL 3 reads), mode 0600. It never overwrites. The error is a [*KeyFileError], wrapping fs.ErrExist if there is a
// file.
func WriteKeyFile(path string, key crypto.Signer, passphrase []byte) error {
	if len(passphrase) == 0 {
		return &KeyFileError{path, errors.New("the passphrase is empty; a key without one must be asked for by name")}
	}
	if err := checkPrivateKey(key); err != nil {
		return &KeyFileError{path, err}
	}
	der, err := pkcs8.MarshalPrivateKey(key, passphrase, &pkcs8.Opts{
		Cipher: pkcs8.AES256CBC,
		// N = 2^14 is the most that OpenSSL 3 reads without being told to allow more memory.
		KDFOpts: pkcs8.ScryptOpts{SaltSize: 16, CostParameter: 1 << 14, BlockSize: 8, ParallelizationParameter: 1},
	})
	if err != nil {
		return &KeyFileError{path, err}
	}
	return createKeyFile(path, cryptoutils.PEMEncode(pemEncrypted, der))
}

// WriteUnencryptedKeyFile writes a private key that WHOEVER READS THE FILE CAN SIGN WITH: from a backup, a container
// layer, a CI cache. It is for tests, and for folders that only exist in memory. Use [WriteKeyFile].
func WriteUnencryptedKeyFile(path string, key crypto.Signer) error {
	if err := checkPrivateKey(key); err != nil {
		return &KeyFileError{path, err}
	}
	block, err := cryptoutils.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return &KeyFileError{path, err}
	}
	return createKeyFile(path, block)
}

func checkPrivateKey(key crypto.Signer) error {
	switch key.(type) {
	case ed25519.PrivateKey, *ecdsa.PrivateKey:
		return checkKeyType(key.Public())
	}
	return &KeyTypeError{Type: fmt.Sprintf("%T", key)}
}

func createKeyFile(path string, block []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return &KeyFileError{path, err}
	}
	_, err = f.Write(block)
	if err := errors.Join(err, f.Chmod(0o600), f.Sync(), f.Close()); err != nil {
		_ = os.Remove(path) // half a key is none, and would stand in the way of the next try
		return &KeyFileError{path, err}
	}
	if err := disk.OS.SyncDir(filepath.Dir(path)); err != nil {
		return &KeyFileError{path, err}
	}
	return nil
}

// LoadKeyFile reads a private key from a PEM file, as [ParseKey] does. On Unix a file that group or others may read is
// refused. The error is a [*KeyFileError], wrapping what ParseKey says.
func LoadKeyFile(path string, passphrase func() ([]byte, error)) (*Signer, error) {
	data, err := readKeyFile(path)
	if err != nil {
		return nil, &KeyFileError{path, err}
	}
	s, err := ParseKey(data, passphrase)
	if err != nil {
		return nil, &KeyFileError{path, err}
	}
	return s, nil
}

// ParseKey reads a private key in PEM: PKCS#8, encrypted or not, or an encrypted one as cosign writes it (ENCRYPTED
// SIGSTORE PRIVATE KEY, and of old ENCRYPTED COSIGN PRIVATE KEY). passphrase is called only if the key is encrypted; nil
// means that there is none. A passphrase that does not open it is [ErrWrongPassphrase], a key of another kind than
// Ed25519 and ECDSA P-256 a [*KeyTypeError]. No error holds anything of the input.
func ParseKey(data []byte, passphrase func() ([]byte, error)) (*Signer, error) {
	block, _ := pem.Decode(data)
	if block == nil || len(data) > maxKeyFile {
		return nil, errors.New("not a PEM file with a private key")
	}
	key, err := parsePrivateKey(block, passphrase)
	if err != nil {
		return nil, err
	}
	return NewSigner(key)
}

func readKeyFile(path string) ([]byte, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat() // of what was opened, not of what the path names by now
	if err != nil {
		return nil, err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("mode %04o: others can read or change it; run chmod 600, and replace the key if they may have read it", info.Mode().Perm())
	}
	return io.ReadAll(io.LimitReader(f, maxKeyFile+1))
}

func parsePrivateKey(block *pem.Block, passphrase func() ([]byte, error)) (crypto.Signer, error) {
	var secret []byte
	if strings.HasPrefix(block.Type, "ENCRYPTED ") {
		if passphrase == nil {
			return nil, errors.New("is encrypted, and no passphrase is at hand")
		}
		var err error
		if secret, err = passphrase(); err != nil {
			return nil, err
		}
		if len(secret) == 0 { // the parsers take "no passphrase" for "not encrypted"
			return nil, ErrWrongPassphrase
		}
	}
	key, err := cryptoutils.UnmarshalPEMToPrivateKey(pem.EncodeToMemory(block), cryptoutils.StaticPasswordFunc(secret))
	switch {
	case err != nil && secret != nil:
		return nil, ErrWrongPassphrase
	case err != nil:
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, &KeyTypeError{Type: fmt.Sprintf("%T", key)}
	}
	return signer, nil
}
