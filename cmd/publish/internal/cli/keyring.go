package cli

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fairlead-dev/fairlead/internal/disk"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

const keyFilesHelp = `Key files:

The --keys folder holds two files a key: NAME.pem, the private key (PKCS#8, encrypted with the passphrase, or as cosign
writes it), and NAME.pub, the public key. Names are for people: which role a key may sign is said by the repository, by
key id. The command looks for the ids it needs in the .pub files and decrypts only those keys; a key without a .pub file
is decrypted to learn its id.

A key that is not a file has NAME.uri instead of NAME.pem: its URI, on one line. "publish keys add NAME URI" writes it, and
NAME.pub beside it. A URI is

  env://NAME                 a PEM key in the variable NAME
  awskms:///alias/NAME       in a key service: awskms://, azurekms://, gcpkms://, hashivault://, openbao://
  NAME://…                   behind a plug-in: the program sigstore-kms-NAME on the PATH

  root.pem            signs who the other keys are: keep it offline, and a copy somewhere else
  targets.pem         signs which channels there are and who signs them: as precious
  snapshot.pem        signs what is current; in CI
  timestamp.pem       signs that it is current, again and again; in CI
  notes.stable.pem    signs the channel stable of the product notes; in release CI
  license.pem         signs the repository's role for licence keys (init --license)

A private key file that others can read is refused. The passphrase comes from --passphrase-file, else from the
variable PUBLISH_PASSPHRASE, else from the terminal. It is never printed.`

const maxKeyFile = 64 << 10 // bytes

// A keyFile is a private key in the keys folder, or one that a URI names.
type keyFile struct {
	path      string // "": only its URI is known
	uri       string // "": the key itself is in the file
	bad       error  // why the file holds no URI
	encrypted bool
	public    *tufrepo.PublicKey // nil: not known before it is opened
}

func (k *keyFile) id() string {
	if k.public == nil {
		return ""
	}
	return k.public.ID()
}

func publicPath(private string) string { return keyName(private) + ".pub" }

// keyName is a key's file without .pem or .uri.
func keyName(private string) string {
	return strings.TrimSuffix(strings.TrimSuffix(private, ".pem"), uriEnding)
}

// keyFiles lists the private keys in the keys folder, and those named there by a URI. No folder is no keys.
func (a *app) keyFiles() ([]*keyFile, error) {
	names, err := filepath.Glob(filepath.Join(escapeGlob(a.keysDir), "*.pem"))
	if err != nil {
		return nil, err
	}
	var files []*keyFile
	for _, path := range names {
		kind, err := pemKind(path)
		if err != nil || !strings.HasSuffix(kind, "PRIVATE KEY") {
			continue // something else, or not readable: if it is needed, then it is missing
		}
		k := &keyFile{path: path, encrypted: strings.HasPrefix(kind, "ENCRYPTED")}
		if public, err := readPublic(publicPath(path)); err == nil {
			k.public = &public
		}
		files = append(files, k)
	}
	names, err = filepath.Glob(filepath.Join(escapeGlob(a.keysDir), "*"+uriEnding))
	for _, path := range names {
		files = append(files, uriFile(path))
	}
	return files, err
}

func escapeGlob(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

func pemKind(path string) (string, error) {
	data, err := readCapped(path, maxKeyFile)
	if err != nil {
		return "", err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return "", nil
	}
	return block.Type, nil
}

func readPublic(path string) (tufrepo.PublicKey, error) {
	data, err := readCapped(path, maxKeyFile)
	if err != nil {
		return tufrepo.PublicKey{}, err
	}
	return tufrepo.ParsePublicKey(data)
}

// readCapped reads a file of at most limit bytes.
func readCapped(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, usagef("check the path", "%s is not a regular file of at most %s", path, size(limit))
	}
	return os.ReadFile(path)
}

func statMode(path string) (fs.FileMode, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Mode().Perm(), nil
}

// load opens a private key, and holds it against its .pub file: a wrong one would make the command miss keys that
// are there.
func (a *app) load(ctx context.Context, k *keyFile) (*tufrepo.Signer, error) {
	signer, err := a.openKey(ctx, k)
	if err != nil {
		return nil, err
	}
	if id := k.id(); id != "" && id != signer.ID() && k.uri != "" {
		return nil, failf(exitKeys, "key_file", "was the key rotated? name one version of it in the URI, or add the new one with `publish keys add` under another name",
			"%s opens another key than %s has", k.uri, publicPath(k.path))
	} else if id != "" && id != signer.ID() {
		return nil, failf(exitKeys, "key_file", "remove "+publicPath(k.path)+"; it is only a convenience",
			"%s is not the public key of %s", publicPath(k.path), k.path)
	}
	public := signer.Public()
	k.public = &public
	return signer, nil
}

// signers loads what the roles in missing need, and nothing else: decrypting a key costs time, on purpose. What is
// not there is left for the repository to report.
func (a *app) signers(ctx context.Context, missing []*tufrepo.MissingKeysError) ([]*tufrepo.Signer, error) {
	files, err := a.keyFiles()
	if err != nil {
		return nil, err
	}
	loaded := map[string]*tufrepo.Signer{}
	short := func() []string { // ids of which at least one is still wanted
		var ids []string
		for _, m := range missing {
			have := m.Have
			for _, id := range m.KeyIDs {
				if loaded[id] != nil {
					have++
				}
			}
			if have < m.Need {
				ids = append(ids, m.KeyIDs...)
			}
		}
		return ids
	}
	var unreadable error
	for _, unknown := range []bool{false, true} { // first those whose id is known
		for _, k := range files {
			if (k.public == nil) != unknown || !unknown && (loaded[k.id()] != nil || !slices.Contains(short(), k.id())) || len(short()) == 0 {
				continue
			}
			signer, err := a.load(ctx, k)
			switch {
			case err == nil:
				loaded[signer.ID()] = signer
			case unknown:
				unreadable = errors.Join(unreadable, err) // perhaps it is of no interest
			default:
				return nil, err
			}
		}
	}
	if len(short()) > 0 && unreadable != nil {
		return nil, unreadable
	}
	out := make([]*tufrepo.Signer, 0, len(loaded))
	for _, k := range files {
		if s := loaded[k.id()]; s != nil && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out, nil
}

// makeKey makes a key and writes its two files. insecure leaves out the passphrase.
func (a *app) makeKey(ctx context.Context, name, algorithm string, insecure bool) (*tufrepo.Signer, error) {
	path := filepath.Join(a.keysDir, name+".pem")
	if err := a.checkNewName(name); err != nil {
		return nil, err
	}
	var secret []byte
	if !insecure {
		var err error
		if secret, err = a.newPassphrase(ctx); err != nil {
			return nil, err
		}
	}
	key, err := tufrepo.GenerateKey(algorithm)
	if err != nil {
		return nil, usagef("use ed25519 or ecdsa-p256", "%s", plain(err))
	}
	signer, err := tufrepo.NewSigner(key)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(a.keysDir, 0o700); err != nil {
		return nil, err
	}
	if insecure {
		err = tufrepo.WriteUnencryptedKeyFile(path, key)
	} else {
		err = tufrepo.WriteKeyFile(path, key, secret)
	}
	if err != nil {
		return nil, err
	}
	if err := disk.Write(disk.OS, publicPath(path), signer.Public().PEM(), 0o644); err != nil {
		return nil, fmt.Errorf("%s was written, but not its public key: %w", path, err)
	}
	return signer, nil
}

// checkNewName refuses a name that any file of a key has.
func (a *app) checkNewName(name string) error {
	for _, ending := range []string{".pem", uriEnding, ".pub"} {
		path := filepath.Join(a.keysDir, name+ending)
		if _, err := os.Lstat(path); err == nil {
			return failf(exitFailed, "exists", "choose another name, or move the old key away if nothing uses it", "%s exists", path)
		}
	}
	return nil
}

// oneOrMakeKey returns the public key of an existing key file, or makes it.
func (a *app) oneOrMakeKey(ctx context.Context, name string, insecure bool) (tufrepo.PublicKey, error) {
	path := filepath.Join(a.keysDir, name+".pem")
	if _, err := os.Lstat(filepath.Join(a.keysDir, name+uriEnding)); err == nil {
		path = filepath.Join(a.keysDir, name+uriEnding)
	}
	if _, err := os.Lstat(path); err != nil {
		signer, err := a.makeKey(ctx, name, defaultAlgorithm, insecure)
		if err != nil {
			return tufrepo.PublicKey{}, err
		}
		a.out.talk("made %s", path)
		return signer.Public(), nil
	}
	if public, err := readPublic(publicPath(path)); err == nil {
		return public, nil
	}
	k, err := keyAt(path)
	if err != nil {
		return tufrepo.PublicKey{}, err
	}
	signer, err := a.openKey(ctx, k)
	if err != nil {
		return tufrepo.PublicKey{}, err
	}
	return signer.Public(), nil
}

const defaultAlgorithm = "ed25519"
