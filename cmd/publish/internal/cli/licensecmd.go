package cli

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fairlead-dev/fairlead/cmd/publish/internal/issuelog"
	"github.com/fairlead-dev/fairlead/cmd/publish/internal/keyuri"
	"github.com/fairlead-dev/fairlead/internal/disk"
	"github.com/fairlead-dev/fairlead/license"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

// The files of the repository's role license.
const (
	licenseRole     = "license"
	keyringFile     = "keyring.json"
	revocationsFile = "revocations.json"
)

const licenseLong = `Issue licences, and keep the keys that sign them.

The key ring and the list of revocations are in the repository, where apps get them, if it has the role license
(publish init --license); else in files of your own, named with --keyring and --revocations. What was issued and revoked
stands in the issue log, licenses.log in the keys folder unless --log says otherwise: ids, dates and hashes, no licence
and no customer's name.`

// licenseFlags are the flags of every verb below license; publish.yaml may have them, too.
type licenseFlags struct {
	keyring, revocations, log, by string
}

func (a *app) licenseCommand() *cobra.Command {
	cmd := group("license", "Issue licences, and keep the keys that sign them", a.licenseKeysCommand(), a.issueCommand(),
		a.renewCommand(), a.inspectCommand(), a.verifyLicenseCommand(), a.revokeCommand(), a.listLicensesCommand())
	cmd.Long = licenseLong
	f := cmd.PersistentFlags()
	f.StringVar(&a.licenses.keyring, "keyring", "", "the key ring file (default: the repository's key ring)")
	f.StringVar(&a.licenses.revocations, "revocations", "", "the file with the list of revocations (default: the repository's list)")
	f.StringVar(&a.licenses.log, "log", "", "the issue log (default licenses.log in the keys folder)")
	f.StringVar(&a.licenses.by, "by", "", "who does it, for the issue log (default PUBLISH_BY, else user@host)")
	return cmd
}

// licenseSettings is the section license of publish.yaml.
type licenseSettings struct {
	Issuer      string `yaml:"issuer"`
	Key         string `yaml:"key"`
	Log         string `yaml:"log"`
	Keyring     string `yaml:"keyring"`
	Revocations string `yaml:"revocations"`
}

// standing is what is known about licences before a verb begins: the settings, and the lists where apps get them.
type standing struct {
	licenseSettings
	repo    *tufrepo.Repo        // nil: there is none, or it cannot be believed
	hasRole bool                 // repo has the role license
	ring    *license.Keyring     // as published; nil: none
	revoked *license.Revocations // as published; nil: none
	trouble error                // why there is no repo although there should be
}

// licenseStanding reads the settings, and the lists from files or the repository. That there is none is no error.
func (a *app) licenseStanding(ctx context.Context) (*standing, error) {
	s, err := a.settings(cmp.Or(a.configFile, settingsFile))
	if err != nil {
		return nil, err
	}
	w := &standing{licenseSettings: s.License}
	w.Log = cmp.Or(a.licenses.log, w.Log, filepath.Join(a.keysDir, "licenses.log"))
	w.Keyring, w.Revocations = cmp.Or(a.licenses.keyring, w.Keyring), cmp.Or(a.licenses.revocations, w.Revocations)
	if there, err := a.published(ctx); err != nil {
		w.trouble = err
	} else if there {
		w.repo, w.trouble = a.open(ctx, a.now())
	}
	if w.repo != nil {
		w.hasRole = slices.ContainsFunc(w.repo.Status(), func(r tufrepo.RoleStatus) bool { return r.Role == licenseRole })
	}
	if err := w.readRing(ctx); err != nil {
		return nil, err
	}
	return w, w.readRevocations(ctx)
}

func (w *standing) readRing(ctx context.Context) (err error) {
	if w.Keyring != "" {
		w.ring, err = readKeyring(w.Keyring)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // to be made
		}
		return err
	}
	data, err := w.published(ctx, keyringFile)
	if data == nil || err != nil {
		return err
	}
	if w.ring, err = license.ParseKeyring(data); err != nil {
		return failf(exitVerify, "keyring", "restore the repository's license/"+keyringFile, "the repository's key ring: %s", plain(err))
	}
	return nil
}

func (w *standing) readRevocations(ctx context.Context) (err error) {
	var data []byte
	if w.Revocations != "" {
		data, err = readCapped(w.Revocations, license.MaxRevocations)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	} else {
		data, err = w.published(ctx, revocationsFile)
	}
	if data == nil || err != nil {
		return err
	}
	if w.revoked, err = license.ParseRevocations(data); err != nil {
		return failf(exitVerify, "revocations", "restore it from a copy; a new list would take back what was revoked",
			"%s: %s", w.revocationsPlace(), plain(err))
	}
	return nil
}

// published reads a file of the role license, nil if there is none.
func (w *standing) published(ctx context.Context, name string) ([]byte, error) {
	if !w.hasRole {
		return nil, nil
	}
	data, err := w.repo.License(ctx, name)
	var absent *tufrepo.NotFoundError
	if errors.As(err, &absent) {
		return nil, nil
	}
	return data, err
}

// wholeStanding is licenseStanding for verbs that would do wrong without the repository that is there.
func (a *app) wholeStanding(ctx context.Context) (*standing, error) {
	w, err := a.licenseStanding(ctx)
	if err == nil {
		err = w.trouble
	}
	return w, err
}

// publishingStanding is licenseStanding for verbs that publish a list.
func (a *app) publishingStanding(ctx context.Context, list string) (*standing, error) {
	w, err := a.licenseStanding(ctx)
	if err == nil {
		err = w.mustPublish(list)
	}
	return w, err
}

func (w *standing) keyringPlace() string {
	return cmp.Or(w.Keyring, "the repository's license/"+keyringFile)
}

func (w *standing) revocationsPlace() string {
	return cmp.Or(w.Revocations, "the repository's license/"+revocationsFile)
}

// key returns a key of the published ring.
func (w *standing) key(id string) (license.Key, bool) {
	if w.ring != nil {
		for _, k := range w.ring.Keys() {
			if k.ID == id {
				return k, true
			}
		}
	}
	return license.Key{}, false
}

// readLog reads the issue log.
func readLog(path string) (*issuelog.Log, error) {
	log, err := issuelog.Read(path)
	if err != nil {
		return nil, explainLog(path, err)
	}
	return log, nil
}

// record adds to the issue log what decide returns, given the log as it stands; see issuelog.Append.
func (a *app) record(ctx context.Context, path string, decide func(*issuelog.Log) ([]issuelog.Entry, error)) (*issuelog.Log, error) {
	var refused error
	repaired := 0
	log, err := issuelog.Append(ctx, path, a.now(), func(l *issuelog.Log) ([]issuelog.Entry, error) {
		if n := len(l.Entries); n > 0 && l.Entries[n-1].Action == issuelog.Repair {
			repaired = l.Entries[n-1].Bytes
		}
		entries, err := decide(l)
		for i := range entries {
			entries[i].By = a.by()
		}
		refused = err
		return entries, err
	})
	if repaired > 0 {
		a.out.talk("%s ended in %s of a line, which a crash left: nothing had been handed out for it, and it was taken out", path, count(repaired, "byte"))
	}
	if err != nil && refused == nil {
		err = explainLog(path, err)
	}
	return log, err
}

func (a *app) by() string {
	name := cmp.Or(a.licenses.by, a.sys.By, "unknown")
	return name[:min(len(name), 256)]
}

func explainLog(path string, err error) error {
	var broken *issuelog.BrokenError
	var f *failure
	switch {
	case errors.As(err, &broken):
		f = failf(exitVerify, "log_broken", "find out who changed it, restore it from a copy, and look at it with `publish license list --check`",
			"the issue log is not what was written: %s", err)
	case errors.Is(err, issuelog.ErrBusy):
		f = failf(exitFailed, "busy", "run the same command again when the other one has ended", "%s: %s", path, err)
	case errors.Is(err, context.Canceled):
		return err
	default:
		f = failf(exitFailed, "log", "name another file with --log, or make "+path+" writable; without a line in the log nothing is handed out",
			"the issue log: %s", plain(err))
	}
	f.err = err
	return f
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

// indented is what a list looks like in a file and in the repository.
func indented(list any) ([]byte, error) {
	data, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	err = json.Indent(&text, data, "", "  ")
	text.WriteByte('\n')
	return text.Bytes(), err
}

// checkIssuerKey refuses a key that a role of the repository names, if the repository is here: who issues licences
// could sign releases with it, and whoever steals the one has the other.
func (w *standing) checkIssuerKey(name string, public crypto.PublicKey) error {
	if w.repo == nil {
		return nil
	}
	key, err := tufrepo.NewPublicKey(public)
	if err != nil {
		return err
	}
	for _, s := range w.repo.Status() {
		if slices.Contains(s.KeyIDs, key.ID()) {
			return failf(exitKeys, "key_file", "make a key for licences alone, with `publish license keys new ID`",
				"%s is a key of the repository: its role %s names it", name, s.Role)
		}
	}
	return nil
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

// issuerKeyID is the id of the key that --key names, unless --key-id says otherwise; "": a URI does not say.
func issuerKeyID(key string) string {
	if keyuri.Is(key) {
		return ""
	}
	return filepath.Base(keyName(key))
}

// writeNew writes a file that must not be there yet.
func writeNew(path string, data []byte) error {
	if err := checkNew(path); err != nil {
		return err
	}
	return disk.Write(disk.OS, path, data, 0o600)
}

func checkNew(path string) error {
	if path == "" {
		return nil
	}
	if _, err := os.Lstat(path); err == nil {
		return failf(exitFailed, "exists", "name another file with --out; a licence is not overwritten", "%s exists", path)
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
		return failf(exitUsage, "no_file", "make the folder, or name another file with --out", "there is no folder %s", filepath.Dir(path))
	}
	return nil
}
