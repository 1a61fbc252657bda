package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fairlead-dev/fairlead/cmd/publish/internal/keyuri"
	"github.com/fairlead-dev/fairlead/internal/disk"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

// uriEnding is that of a file in the keys folder which holds the URI of a key instead of the key.
const uriEnding = ".uri"

// keyAt is the private key that a path or a URI names. Whether it is there shows when it is opened.
func keyAt(name string) (*keyFile, error) {
	switch {
	case keyuri.Is(name):
		return &keyFile{uri: name}, nil
	case strings.HasSuffix(name, uriEnding):
		k := uriFile(name)
		if k.bad != nil {
			return nil, k.bad
		}
		return k, nil
	}
	return &keyFile{path: name}, nil
}

// uriFile reads a file with a URI, and the public key beside it.
func uriFile(path string) *keyFile {
	k := &keyFile{path: path}
	data, err := readCapped(path, maxKeyFile)
	if err == nil {
		k.uri = strings.TrimSpace(string(data))
		if err = keyuri.Check(k.uri); err != nil {
			err = &keyuri.Error{URI: "in " + path, Err: err}
		}
	}
	if err != nil {
		k.uri, k.bad = "", err
	}
	if public, err := readPublic(publicPath(path)); err == nil {
		k.public = &public
	}
	return k
}

// openKey opens a private key, wherever it is.
func (a *app) openKey(ctx context.Context, k *keyFile) (*tufrepo.Signer, error) {
	switch {
	case k.bad != nil:
		return nil, k.bad
	case k.uri != "":
		return keyuri.Open(ctx, k.uri, keyuri.System{Getenv: a.sys.Getenv, Passphrase: a.passphrase(ctx), Providers: a.sys.Providers})
	}
	return tufrepo.LoadKeyFile(k.path, a.passphrase(ctx))
}

func (a *app) addKeyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "add NAME URI", Short: "Add a key that is not a file: NAME.uri, and its public half NAME.pub",
		Long: `Add a private key that stays where it is, in a key service, behind a plug-in or in a variable: it is asked for its public
key, and NAME.uri and NAME.pub are written to the keys folder. From then on it is found by its key id like any other. The
key must be there already, Ed25519 or ECDSA P-256. "publish key-files" says which URIs there are.`,
		Example: `  publish keys add notes.stable awskms:///alias/notes-stable
  publish keys add timestamp hashivault://notes-timestamp
  publish keys add snapshot env://SNAPSHOT_KEY`,
	}
	return a.run(cmd, func(ctx context.Context, args []string) (result, error) { return a.addKey(ctx, args[0], args[1]) })
}

func (a *app) addKey(ctx context.Context, name, uri string) (result, error) {
	if err := checkKeyName(name); err != nil {
		return nil, err
	}
	if !keyuri.Is(uri) {
		return nil, usagef("write a URI such as awskms:///alias/notes; a key file is added by moving it into the keys folder", "%s is not the URI of a key", uri)
	}
	if err := a.checkNewName(name); err != nil {
		return nil, err
	}
	k := &keyFile{path: filepath.Join(a.keysDir, name+uriEnding), uri: uri}
	signer, err := a.openKey(ctx, k)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(a.keysDir, 0o700); err != nil {
		return nil, err
	}
	if err := disk.Write(disk.OS, k.path, []byte(uri+"\n"), 0o644); err != nil {
		return nil, err
	}
	if err := disk.Write(disk.OS, publicPath(k.path), signer.Public().PEM(), 0o644); err != nil {
		return nil, fmt.Errorf("%s was written, but not its public key: %w", k.path, err)
	}
	return &keyList{[]keyInfo{describeKey(k, signer.Public(), nil)}}, nil
}
