package cli

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-dev/fairlead/cmd/publish/internal/keyuri"
	"github.com/fairlead-dev/fairlead/internal/disk"
	"github.com/fairlead-dev/fairlead/license"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

func (a *app) licenseCommand() *cobra.Command {
	return group("license", "Issue licences, and keep the keys that sign them", a.licenseKeysCommand(), a.issueCommand(), a.inspectCommand())
}

// A keyring result is the JWK set itself, so that stdout can be embedded as it is.
type keyringResult struct{ *license.Keyring }

func (a *app) licenseKeysCommand() *cobra.Command {
	var algorithm, file string
	var insecure bool
	create := &cobra.Command{
		Use: "new ID", Short: "Make an issuer key, and print the key ring to embed into the app",
		Long: `Make an issuer key: ID.pem and ID.pub in the keys folder. ID is what licences name the key by, such as acme-2026. The
key ring, a JWK set of public keys, is printed; with --keyring the key is added to that file as well.`,
		Example: "  publish license keys new acme-2026 --keyring keyring.json",
	}
	create.Flags().StringVar(&algorithm, "algorithm", defaultAlgorithm, "ed25519 or ecdsa-p256")
	create.Flags().StringVar(&file, "keyring", "", "a key ring file to add the key to")
	create.Flags().BoolVar(&insecure, "insecure-no-passphrase", false, "write the key unencrypted: for throw-away keys only")
	show := &cobra.Command{
		Use: "show ID...", Short: "Print the key ring with these keys of the keys folder",
		Example: "  publish license keys show acme-2025 acme-2026 > keyring.json",
	}
	return group("keys", "Issuer keys",
		a.run(create, func(ctx context.Context, args []string) (result, error) {
			return a.newIssuerKey(ctx, issuerKey{args[0], algorithm, file, insecure})
		}),
		a.run(show, func(ctx context.Context, args []string) (result, error) { return a.showKeyring(ctx, args) }))
}

type issuerKey struct {
	id, algorithm string
	keyring       string // file to add it to; "": none
	insecure      bool
}

func (a *app) newIssuerKey(ctx context.Context, k issuerKey) (result, error) {
	id, file := k.id, k.keyring
	if err := checkKeyName(id); err != nil {
		return nil, err
	}
	var keys []license.Key
	if file != "" {
		old, err := readKeyring(file)
		if err == nil {
			keys = old.Keys()
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	for _, old := range keys {
		if old.ID == id {
			return nil, failf(exitFailed, "exists", "choose another id: licences name their key by it", "%s has a key %s already", file, id)
		}
	}
	signer, err := a.makeKey(ctx, id, k.algorithm, k.insecure)
	if err != nil {
		return nil, err
	}
	a.out.talk("made %s; keep it where licences are issued, and never in an app", filepath.Join(a.keysDir, id+".pem"))
	public, err := cryptoKey(signer.Public())
	if err != nil {
		return nil, err
	}
	ring, err := license.NewKeyring(append(keys, license.Key{ID: id, Public: public})...)
	if err != nil {
		return nil, err
	}
	if file == "" {
		return keyringResult{ring}, nil
	}
	var text bytes.Buffer
	if data, err := json.Marshal(ring); err != nil {
		return nil, err
	} else if err := json.Indent(&text, data, "", "  "); err != nil {
		return nil, err
	}
	text.WriteByte('\n')
	return keyringResult{ring}, disk.Write(disk.OS, file, text.Bytes(), 0o644)
}

func cryptoKey(k tufrepo.PublicKey) (crypto.PublicKey, error) {
	block, _ := pem.Decode(k.PEM())
	return x509.ParsePKIXPublicKey(block.Bytes)
}

func readKeyring(path string) (*license.Keyring, error) {
	data, err := readCapped(path, maxRootFile)
	if err != nil {
		return nil, err
	}
	ring, err := license.ParseKeyring(data)
	if err != nil {
		return nil, failf(exitUsage, "keyring", "make one with `publish license keys show ID`", "%s: %s", path, plain(err))
	}
	return ring, nil
}

func (a *app) showKeyring(ctx context.Context, ids []string) (result, error) {
	ring, err := a.folderKeyring(ids)
	if err != nil {
		return nil, err
	}
	for _, k := range ring.Keys() {
		if err := a.checkIssuerKey(ctx, k.ID, k.Public); err != nil {
			return nil, err
		}
	}
	return keyringResult{ring}, nil
}

// checkIssuerKey refuses a key that a role of the repository names, if the repository is here: who issues licences
// could sign releases with it, and whoever steals the one has the other.
func (a *app) checkIssuerKey(ctx context.Context, name string, public crypto.PublicKey) error {
	if _, err := os.Stat(filepath.Join(a.repoDir, rootFile)); err != nil {
		return nil
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return err
	}
	key, err := tufrepo.ParsePublicKey(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	if err != nil {
		return err
	}
	repo, err := a.open(ctx, a.now())
	if err != nil {
		return err
	}
	for _, s := range repo.Status() {
		if slices.Contains(s.KeyIDs, key.ID()) {
			return failf(exitKeys, "key_file", "make a key for licences alone, with `publish license keys new ID`",
				"%s is a key of the repository: its role %s names it", name, s.Role)
		}
	}
	return nil
}

// folderKeyring makes a key ring of public keys in the keys folder.
func (a *app) folderKeyring(ids []string) (*license.Keyring, error) {
	var keys []license.Key
	for _, id := range ids {
		if err := checkKeyName(id); err != nil {
			return nil, err
		}
		path := filepath.Join(a.keysDir, id+".pub")
		public, err := readPublic(path)
		if err != nil {
			f := failf(exitKeys, "missing_keys", "name the folder with --keys, or make the key with `publish license keys new "+id+"`", "%s", plain(err))
			f.err = err
			return nil, f
		}
		key, err := cryptoKey(public)
		if err != nil {
			return nil, err
		}
		keys = append(keys, license.Key{ID: id, Public: key})
	}
	return license.NewKeyring(keys...)
}

type issueOptions struct {
	key, keyID, issuer, out     string
	until, tokenUntil, grace    string
	updatesUntil, securityUntil string
	entitlements                []string
	license                     license.License
}

type issued struct {
	Token string `json:"token"`
	File  string `json:"file,omitempty"`
}

func (a *app) issueCommand() *cobra.Command {
	var o issueOptions
	cmd := &cobra.Command{
		Use: "issue", Short: "Issue a licence",
		Long: `Issue a licence, a signed token, and print it or write it to a file. A day means its end, 23:59:59 UTC.

A licence has three dates: --until is its end; --updates-until says which releases are included, by when they were
published; --token-until, if earlier than --until, is when the app must have fetched a fresh token. Renew a licence by
issuing it again with the same --id and a higher --seq.`,
		Example: `  publish license issue --key keys/acme-2026.pem --issuer https://acme.example --product notes \
    --subject customer-17 --id L-1001 --until 2027-12-31 --channels stable,beta --entitlement pro --entitlement seats=25`,
	}
	f, l := cmd.Flags(), &o.license
	f.StringVar(&o.key, "key", "", "the issuer's private key: a file, or a URI such as awskms:///alias/acme-2026")
	f.StringVar(&o.keyID, "key-id", "", "the id under which apps know the key (default: the file's name without its ending)")
	f.StringVar(&o.issuer, "issuer", "", "the issuer's name, as apps compare it")
	f.StringSliceVar(&l.Audience, "product", nil, "a product that it is for (repeatable)")
	f.StringVar(&l.Subject, "subject", "", "the customer: an id, no e-mail address")
	f.StringVar(&l.LicenseID, "id", "", "the licence's id, the same over renewals")
	f.Int64Var(&l.Seq, "seq", 1, "1, and higher with each renewal")
	f.StringVar(&o.until, "until", "", "the end of the licence, or never")
	f.StringVar(&o.tokenUntil, "token-until", "", "when a fresh token is due (default: the end of the licence)")
	f.StringVar(&o.grace, "grace", "14d", "how long it counts after its end")
	f.StringVar(&o.updatesUntil, "updates-until", "", "releases published until then are included (default: all)")
	f.StringVar(&o.securityUntil, "security-until", "", "security releases published until then are owed (default: all)")
	f.StringSliceVar(&l.Channels, "channels", nil, "channels granted, such as stable,beta (default: stable)")
	f.StringVar(&l.Versions, "versions", "", "versions included, such as \">=1.0.0 <2.0.0\" (default: all)")
	f.StringArrayVar(&o.entitlements, "entitlement", nil, "CODE, CODE=25 or CODE=text (repeatable)")
	f.StringVar(&l.Plan, "plan", "", "the plan's name, for people")
	f.BoolVar(&l.Trial, "trial", false, "it is a trial")
	f.StringSliceVar(&l.Nodes, "node", nil, "the fingerprint of an installation that it is for (repeatable; default: any)")
	f.StringVar(&o.out, "out", "", "write the licence to this file instead of standard output")
	need(cmd, "key", "issuer", "product", "subject", "id", "until")
	return a.run(cmd, func(ctx context.Context, _ []string) (result, error) { return a.issue(ctx, o) })
}

func (a *app) issue(ctx context.Context, o issueOptions) (result, error) {
	l := o.license
	l.IssuedAt = a.now().UTC().Truncate(time.Second)
	if err := o.dates(&l); err != nil {
		return nil, err
	}
	var err error
	if l.Entitlements, err = entitlements(o.entitlements); err != nil {
		return nil, err
	}
	if o.out != "" {
		if _, err := os.Lstat(o.out); err == nil {
			return nil, failf(exitFailed, "exists", "name another file with --out; a licence is not overwritten", "%s exists", o.out)
		}
	}
	if o.keyID == "" {
		if o.keyID, err = issuerKeyID(o.key); err != nil {
			return nil, err
		}
	}
	key, err := a.loadIssuerKey(ctx, o.key)
	if err != nil {
		return nil, err
	}
	if err := a.checkIssuerKey(ctx, o.key, key.Public()); err != nil {
		return nil, err
	}
	issuer, err := license.NewIssuer(key, o.keyID, o.issuer)
	if err != nil {
		return nil, usagef("see `publish license issue --help`", "%s", plain(err))
	}
	token, err := issuer.Issue(l)
	if err != nil {
		return nil, err
	}
	if o.out == "" {
		return &issued{Token: string(token)}, nil
	}
	return &issued{string(token), o.out}, disk.Write(disk.OS, o.out, append(token, '\n'), 0o600)
}

// endOfTime is when a token expires whose licence never does and who has to fetch no fresh one: the last day that
// package license takes.
var endOfTime = time.Date(2199, 12, 31, 23, 59, 59, 0, time.UTC)

func (o *issueOptions) dates(l *license.License) (err error) {
	if l.Grace, err = duration("grace", o.grace); err != nil {
		return err
	}
	if l.Grace > license.MaxGrace {
		return usagef("write at most --grace "+span(license.MaxGrace), "--grace %s is longer than %s", o.grace, span(license.MaxGrace))
	}
	l.Expires = endOfTime
	if o.until != "never" {
		if l.LicenseExpires, err = instant("until", o.until); err != nil {
			return err
		}
		l.Expires = l.LicenseExpires
	}
	for _, d := range []struct {
		flag, value string
		to          *time.Time
	}{{"token-until", o.tokenUntil, &l.Expires}, {"updates-until", o.updatesUntil, &l.UpdatesUntil}, {"security-until", o.securityUntil, &l.SecurityUntil}} {
		if d.value == "" {
			continue
		}
		if *d.to, err = instant(d.flag, d.value); err != nil {
			return err
		}
	}
	return nil
}

// issuerKeyID is the id of the key that --key names, unless --key-id says otherwise.
func issuerKeyID(key string) (string, error) {
	if keyuri.Is(key) {
		return "", usagef("give the id under which apps know the key", "--key %s needs --key-id", keyuri.Display(key))
	}
	return filepath.Base(keyName(key)), nil
}

// loadIssuerKey loads a private key from a file, with package tufrepo's checks of it, or from where a URI says.
func (a *app) loadIssuerKey(ctx context.Context, path string) (crypto.Signer, error) {
	k, err := keyAt(path)
	if err != nil {
		return nil, err
	}
	if k.uri == "" {
		if kind, err := pemKind(path); err == nil && !strings.HasSuffix(kind, "PRIVATE KEY") {
			return nil, failf(exitKeys, "key_file", "issue with the .pem file that `publish license keys new` wrote", "%s is no private key", path)
		}
	}
	signer, err := a.load(ctx, k)
	if err != nil {
		return nil, err
	}
	return signer.Key(), nil
}
