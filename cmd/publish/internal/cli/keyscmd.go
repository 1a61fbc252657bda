package cli

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fairlead-dev/fairlead/cmd/publish/internal/keyuri"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

type keyList struct {
	Keys []keyInfo `json:"keys"`
}

type keyInfo struct {
	ID        string   `json:"id"`
	Algorithm string   `json:"algorithm"`
	Private   string   `json:"private,omitempty"` // file; "": only the public key is here
	URI       string   `json:"uri,omitempty"`     // of a key that is not in the file
	Encrypted bool     `json:"encrypted"`
	Roles     []string `json:"roles"` // of the repository, that name it
	PEM       string   `json:"public_pem"`
}

func (a *app) keysCommand() *cobra.Command {
	var algorithm string
	var insecure bool
	create := &cobra.Command{
		Use: "new NAME", Short: "Make a key: NAME.pem, and its public half NAME.pub",
		Example: "  publish keys new root-alice",
	}
	create.Flags().StringVar(&algorithm, "algorithm", defaultAlgorithm, "ed25519 or ecdsa-p256")
	create.Flags().BoolVar(&insecure, "insecure-no-passphrase", false, "write the key unencrypted: for throw-away repositories only")
	show := &cobra.Command{
		Use: "show [FILE...]", Short: "Key ids, algorithms, public keys, and which roles name them",
		Long:    "Show the keys in the keys folder, or those in files, private or public ones, or of URIs. Nothing private is printed.",
		Example: "  publish keys show\n  publish keys show alice.pub\n  publish keys show hashivault://notes-stable",
	}
	return group("keys", "Make, add and show keys",
		a.addKeyCommand(),
		a.run(create, func(ctx context.Context, args []string) (result, error) {
			return a.newKey(ctx, args[0], algorithm, insecure)
		}),
		a.run(show, func(ctx context.Context, args []string) (result, error) { return a.showKeys(ctx, args) }))
}

var keyNameRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

func checkKeyName(name string) error {
	if !keyNameRE.MatchString(name) || strings.HasSuffix(name, ".pem") || strings.HasSuffix(name, uriEnding) {
		return usagef("a name such as root-alice: letters, digits, dots, dashes and underscores, without .pem", "%q is not a name for a key file", name)
	}
	return nil
}

func (a *app) newKey(ctx context.Context, name, algorithm string, insecure bool) (result, error) {
	if err := checkKeyName(name); err != nil {
		return nil, err
	}
	signer, err := a.makeKey(ctx, name, algorithm, insecure)
	if err != nil {
		return nil, err
	}
	if insecure {
		a.out.warn("the key is not encrypted: whoever reads it can sign")
	}
	path := filepath.Join(a.keysDir, name+".pem")
	return &keyList{[]keyInfo{describeKey(&keyFile{path: path, encrypted: !insecure}, signer.Public(), nil)}}, nil
}

func (a *app) showKeys(ctx context.Context, files []string) (result, error) {
	keys, err := a.keysToShow(files)
	if err != nil {
		return nil, err
	}
	var roles []tufrepo.RoleStatus
	if there, err := a.published(ctx); err != nil {
		return nil, err
	} else if there {
		repo, err := a.open(ctx, a.now())
		if err != nil {
			return nil, err
		}
		roles = repo.Status()
	}
	out := &keyList{Keys: []keyInfo{}}
	for _, k := range keys {
		if k.public == nil { // no public half beside it
			if _, err := a.load(ctx, k); err != nil {
				return nil, err
			}
		}
		out.Keys = append(out.Keys, describeKey(k, *k.public, roles))
	}
	return out, nil
}

func (a *app) keysToShow(files []string) ([]*keyFile, error) {
	if len(files) == 0 {
		keys, err := a.keyFiles()
		if err == nil && len(keys) == 0 {
			err = failf(exitKeys, "missing_keys", "name the folder with --keys, or make a key with `publish keys new NAME`", "there are no private keys in %s", a.keysDir)
		}
		return keys, err
	}
	var keys []*keyFile
	for _, path := range files {
		if keyuri.Is(path) || strings.HasSuffix(path, uriEnding) {
			k, err := keyAt(path)
			if err != nil {
				return nil, err
			}
			keys = append(keys, k)
			continue
		}
		kind, err := pemKind(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, err
		case err != nil:
			return nil, failf(exitKeys, "key_file", "check the path", "%s", plain(err))
		case kind == "PUBLIC KEY":
			public, err := readPublic(path)
			if err != nil {
				return nil, failf(exitKeys, "key_file", "use an Ed25519 or an ECDSA P-256 key", "%s: %s", path, plain(err))
			}
			keys = append(keys, &keyFile{public: &public})
		case strings.HasSuffix(kind, "PRIVATE KEY"):
			k := &keyFile{path: path, encrypted: strings.HasPrefix(kind, "ENCRYPTED")}
			if public, err := readPublic(publicPath(path)); err == nil {
				k.public = &public
			}
			keys = append(keys, k)
		default:
			return nil, failf(exitKeys, "key_file", "show files that `publish keys new` wrote", "%s is not a PEM file with a key", path)
		}
	}
	return keys, nil
}

func describeKey(k *keyFile, public tufrepo.PublicKey, roles []tufrepo.RoleStatus) keyInfo {
	info := keyInfo{ID: public.ID(), Algorithm: defaultAlgorithm, Private: filepath.ToSlash(k.path), URI: k.uri, Encrypted: k.encrypted,
		Roles: []string{}, PEM: string(public.PEM())}
	if _, ok := public.Key().(*ecdsa.PublicKey); ok {
		info.Algorithm = "ecdsa-p256"
	}
	for _, r := range roles {
		if slices.Contains(r.KeyIDs, info.ID) {
			info.Roles = append(info.Roles, r.Role)
		}
	}
	return info
}
