package cli

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-dev/fairlead/cmd/publish/internal/issuelog"
	"github.com/fairlead-dev/fairlead/license"
)

// A keyringResult is the JWK set, so that stdout can be embedded as it is, and what was signed when it was published.
type keyringResult struct {
	Keys   json.RawMessage `json:"keys"`
	Signed []signedRole    `json:"signed,omitempty"`
}

func newKeyringResult(ring *license.Keyring, signed []signedRole) (result, error) {
	data, err := json.Marshal(ring)
	if err != nil {
		return nil, err
	}
	r := &keyringResult{Signed: signed}
	return r, json.Unmarshal(data, r)
}

const retireLong = `A retired key verifies what was issued before that date, and nothing later; it stays in the key ring for as long as such
licences count. That is for keys that are getting old. It is no help against a thief, who writes the date she likes: for a
stolen key there is ` + "`publish license revoke --key ID`."

func (a *app) licenseKeysCommand() *cobra.Command {
	var k issuerKey
	create := &cobra.Command{
		Use: "new ID", Short: "Make an issuer key, and print the key ring to embed into the app",
		Long: `Make an issuer key: ID.pem and ID.pub in the keys folder. ID is what licences name the key by, such as acme-2026. The
key ring, a JWK set of public keys, is printed; with --keyring the key is added to that file as well, with --publish to
the repository's key ring, from which apps learn it.`,
		Example: `  publish license keys new acme-2026 --keyring keyring.json
  publish license keys new acme-2026 --publish`,
	}
	k.flags(create)
	create.Flags().BoolVar(&k.publish, "publish", false, "add it to the repository's key ring")
	add := &cobra.Command{
		Use: "publish ID...", Short: "Add keys of the keys folder to the key ring that apps get",
		Long: `Add the public keys ID.pub of the keys folder to the repository's key ring, or to the file after --keyring. A key is never
taken out or exchanged.`,
		Example: "  publish license keys publish acme-2026",
	}
	var retireAt, old string
	rotate := &cobra.Command{
		Use: "rotate NEW-ID", Short: "Make a new issuer key, publish it, and retire the old one",
		Long: `Make a new issuer key, add it to the repository's key ring (or to the file after --keyring), and retire the old one, now or
from --retire-at on.

An app takes what the new key signs as soon as it has that key ring: with its next check for updates, or, without a network,
with the next stick. Until then it refuses such licences. So rotate with --retire-at some time ahead, and go on issuing with
the old key until your customers have been reached.

` + retireLong,
		Example: "  publish license keys rotate acme-2027 --retire-at 2027-03-31",
	}
	k.flags(rotate)
	rotate.Flags().StringVar(&retireAt, "retire-at", "", "when the old key retires: a time, or a day, which means its end (default: now)")
	rotate.Flags().StringVar(&old, "old", "", "the key to retire (may be left out if only one is in use)")
	var at string
	retire := &cobra.Command{
		Use: "retire ID", Short: "Retire an issuer key: it verifies older licences only",
		Long:    retireLong + " The last key that is in use cannot be retired: make another one first.",
		Example: "  publish license keys retire acme-2025 --at 2027-03-31",
	}
	retire.Flags().StringVar(&at, "at", "", "when: a time, or a day, which means its end (default: now)")
	show := &cobra.Command{
		Use: "show [ID...]", Short: "Print the key ring that apps get, or the one with these keys of the keys folder",
		Example: "  publish license keys show\n  publish license keys show acme-2025 acme-2026 > keyring.json",
	}
	return group("keys", "Issuer keys",
		a.run(create, func(ctx context.Context, args []string) (result, error) { return a.newIssuerKey(ctx, args[0], k) }),
		a.run(add, func(ctx context.Context, args []string) (result, error) { return a.publishIssuerKeys(ctx, args) }),
		a.run(rotate, func(ctx context.Context, args []string) (result, error) {
			return a.rotateIssuerKey(ctx, args[0], old, retireAt, k)
		}),
		a.run(retire, func(ctx context.Context, args []string) (result, error) { return a.retireIssuerKey(ctx, args[0], at) }),
		a.run(show, func(ctx context.Context, args []string) (result, error) { return a.showKeyring(ctx, args) }))
}

type issuerKey struct {
	algorithm         string
	insecure, publish bool
}

func (k *issuerKey) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&k.algorithm, "algorithm", defaultAlgorithm, "ed25519 or ecdsa-p256")
	cmd.Flags().BoolVar(&k.insecure, "insecure-no-passphrase", false, "write the key unencrypted: for throw-away keys only")
}

func (a *app) newIssuerKey(ctx context.Context, id string, k issuerKey) (result, error) {
	if err := checkKeyName(id); err != nil {
		return nil, err
	}
	w, err := a.licenseStanding(ctx)
	if err != nil {
		return nil, err
	}
	inRing := k.publish || w.Keyring != ""
	if inRing {
		if err := w.mustPublish(keyringFile); err != nil {
			return nil, err
		}
		if _, ok := w.key(id); ok {
			return nil, failf(exitFailed, "exists", "choose another id: licences name their key by it", "%s has a key %s already", w.keyringPlace(), id)
		}
	}
	if _, err := readLog(w.Log); err != nil {
		return nil, err
	}
	key, err := a.makeIssuerKey(ctx, w, id, k)
	if err != nil {
		return nil, err
	}
	if inRing {
		r, err := a.editRing(ctx, w, addKeys(key))
		if err != nil {
			a.out.warn("the key was made, and is not in the key ring: `publish license keys publish %s` adds it", id)
			return nil, err
		}
		return r, nil
	}
	ring, err := license.NewKeyring(key)
	if err != nil {
		return nil, err
	}
	if w.hasRole {
		a.out.talk("apps get it with `publish license keys publish %s`, or embed what is printed", id)
	}
	return newKeyringResult(ring, nil)
}

func (a *app) makeIssuerKey(ctx context.Context, w *standing, id string, k issuerKey) (license.Key, error) {
	signer, err := a.makeKey(ctx, id, k.algorithm, k.insecure)
	if err != nil {
		return license.Key{}, err
	}
	a.out.talk("made %s; keep it where licences are issued, and never in an app", filepath.Join(a.keysDir, id+".pem"))
	_, err = a.record(ctx, w.Log, func(*issuelog.Log) ([]issuelog.Entry, error) {
		return []issuelog.Entry{{Action: issuelog.NewKey, KeyID: id}}, nil
	})
	return license.Key{ID: id, Public: signer.Public().Key()}, err
}

// oneOrMakeIssuerKey returns the key of that name in the keys folder, or makes it: a rotation that was refused by a conflict
// goes on with the key that it made.
func (a *app) oneOrMakeIssuerKey(ctx context.Context, w *standing, id string, k issuerKey) (license.Key, error) {
	ring, err := a.folderKey(id)
	if err != nil {
		return license.Key{}, err
	}
	if ring == nil {
		return a.makeIssuerKey(ctx, w, id, k)
	}
	key := ring.Keys()[0]
	return key, w.checkIssuerKey(id, key.Public)
}

func (a *app) publishIssuerKeys(ctx context.Context, ids []string) (result, error) {
	w, err := a.publishingStanding(ctx, keyringFile)
	if err != nil {
		return nil, err
	}
	ring, err := a.folderKeyring(ids)
	if err != nil {
		return nil, err
	}
	for _, k := range ring.Keys() {
		if err := w.checkIssuerKey(k.ID, k.Public); err != nil {
			return nil, err
		}
	}
	return a.editRing(ctx, w, addKeys(ring.Keys()...))
}

func (a *app) rotateIssuerKey(ctx context.Context, id, old, at string, k issuerKey) (result, error) {
	if err := checkKeyName(id); err != nil {
		return nil, err
	}
	when, err := a.atOrNow("retire-at", at)
	if err != nil {
		return nil, err
	}
	w, err := a.publishingStanding(ctx, keyringFile)
	if err != nil {
		return nil, err
	}
	var missing []license.Key // the old key, where only the app has it
	if _, ok := w.key(old); old != "" && !ok {
		ring, err := a.folderKeyring([]string{old})
		if err != nil {
			return nil, err
		}
		missing = ring.Keys()
	}
	// All that can be refused is, before there is a key.
	retire := func(keys []license.Key, log *issuelog.Log) ([]license.Key, []issuelog.Entry, error) {
		retired, err := w.oldKey(keys, old, id)
		if err != nil {
			return nil, nil, err
		}
		return a.retireKey(keys, log, retired, when)
	}
	log, err := readLog(w.Log)
	if err != nil {
		return nil, err
	}
	var before []license.Key
	if w.ring != nil {
		before = w.ring.Keys()
	}
	if _, ok := w.key(id); ok {
		return nil, failf(exitFailed, "exists", "choose another id: licences name their key by it", "%s has a key %s already", w.keyringPlace(), id)
	}
	rehearsed := append(append(before, missing...), license.Key{ID: id})
	if _, _, err := retire(rehearsed, log); err != nil {
		return nil, err
	}
	key, err := a.oneOrMakeIssuerKey(ctx, w, id, k)
	if err != nil {
		return nil, err
	}
	r, err := a.editRing(ctx, w, func(keys []license.Key, log *issuelog.Log) ([]license.Key, []issuelog.Entry, error) {
		keys, added, err := addKeys(append(missing, key)...)(keys, log)
		if err != nil {
			return nil, nil, err
		}
		keys, retired, err := retire(keys, log)
		return keys, append(added, retired...), err
	})
	if err != nil {
		return nil, err
	}
	a.out.talk("apps take licences signed with %s once they have this key ring: issue with it from then on", id)
	return r, nil
}

// oldKey finds the key that rotate retires.
func (w *standing) oldKey(keys []license.Key, old, fresh string) (string, error) {
	if old != "" {
		return old, nil
	}
	var active []string
	for _, k := range keys {
		if k.Retired.IsZero() && k.ID != fresh {
			active = append(active, k.ID)
		}
	}
	switch len(active) {
	case 0:
		return "", usagef("name it with --old; a key that only the app has is added to the ring then", "there is no key to retire in %s", w.keyringPlace())
	case 1:
		return active[0], nil
	}
	return "", usagef("name the one to retire with --old", "several keys are in use: %s", strings.Join(active, ", "))
}

func (a *app) retireIssuerKey(ctx context.Context, id, at string) (result, error) {
	when, err := a.atOrNow("at", at)
	if err != nil {
		return nil, err
	}
	w, err := a.publishingStanding(ctx, keyringFile)
	if err != nil {
		return nil, err
	}
	if _, ok := w.key(id); !ok {
		return nil, failf(exitUsage, "not_found", "`publish license keys show` prints it; a key that only apps have is added with `publish license keys publish ID` first",
			"%s has no key %q", w.keyringPlace(), id)
	}
	return a.editRing(ctx, w, func(keys []license.Key, log *issuelog.Log) ([]license.Key, []issuelog.Entry, error) {
		return a.retireKey(keys, log, id, when)
	})
}

// atOrNow reads a flag with a time.
func (a *app) atOrNow(flag, value string) (time.Time, error) {
	if value == "" {
		return a.now().UTC().Truncate(time.Second), nil
	}
	return instant(flag, value)
}

func (a *app) showKeyring(ctx context.Context, ids []string) (result, error) {
	w, err := a.wholeStanding(ctx)
	if err != nil {
		return nil, err
	}
	ring := w.ring
	if len(ids) > 0 {
		if ring, err = a.folderKeyring(ids); err != nil {
			return nil, err
		}
	}
	if ring == nil {
		return nil, failf(exitKeys, "missing_keys", "name keys of the keys folder, as in `publish license keys show acme-2026`; `publish license keys publish` fills the key ring",
			"there is no key ring in the repository, and none after --keyring")
	}
	for _, k := range ring.Keys() {
		if err := w.checkIssuerKey(k.ID, k.Public); err != nil {
			return nil, err
		}
		switch {
		case k.Retired.IsZero():
			a.out.talk("%s: in use", k.ID)
		case k.Retired.After(a.now()):
			a.out.talk("%s: in use until %s", k.ID, moment(k.Retired))
		default:
			a.out.talk("%s: retired since %s", k.ID, moment(k.Retired))
		}
	}
	return newKeyringResult(ring, nil)
}
