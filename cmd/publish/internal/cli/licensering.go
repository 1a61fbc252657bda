package cli

import (
	"context"
	"crypto"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-dev/fairlead/cmd/publish/internal/issuelog"
	"github.com/fairlead-dev/fairlead/internal/disk"
	"github.com/fairlead-dev/fairlead/license"
)

// A ringEdit changes the keys of a ring, given the log; it returns lines for the log as well.
type ringEdit func(keys []license.Key, log *issuelog.Log) ([]license.Key, []issuelog.Entry, error)

// editRing changes the key ring where apps get it, and records it. A file is read, changed and written while nobody else
// writes to the log; of two who change the repository one gets a conflict.
func (a *app) editRing(ctx context.Context, w *standing, edit ringEdit) (result, error) {
	var ring *license.Keyring
	change := func(log *issuelog.Log) ([]issuelog.Entry, error) {
		var old []license.Key
		if w.ring != nil {
			old = w.ring.Keys()
		}
		keys, entries, err := edit(slices.Clone(old), log)
		if err != nil {
			return nil, err
		}
		ring, err = license.NewKeyring(keys...)
		return entries, err
	}
	if w.Keyring != "" {
		_, err := a.record(ctx, w.Log, func(log *issuelog.Log) ([]issuelog.Entry, error) {
			if err := w.readRing(ctx); err != nil {
				return nil, err
			}
			entries, err := change(log)
			if err != nil || len(entries) == 0 {
				return nil, err
			}
			text, err := indented(ring)
			if err != nil {
				return nil, err
			}
			return entries, disk.Write(disk.OS, w.Keyring, text, 0o644)
		})
		if err != nil {
			return nil, err
		}
		return newKeyringResult(ring, nil)
	}
	log, err := readLog(w.Log)
	if err != nil {
		return nil, err
	}
	entries, err := change(log)
	if err != nil {
		return nil, err
	}
	signed, err := a.publishList(ctx, w, keyringFile, ring, entries)
	if err != nil {
		return nil, err
	}
	return newKeyringResult(ring, signed)
}

// publishList puts a list into the repository, and then into the log what was done: a line about what did not happen
// would mislead.
func (a *app) publishList(ctx context.Context, w *standing, name string, list any, entries []issuelog.Entry) ([]signedRole, error) {
	if len(entries) == 0 {
		a.out.talk("it is published as it should be: nothing was changed")
		return nil, nil
	}
	text, err := indented(list)
	if err != nil {
		return nil, err
	}
	if err := w.repo.PutLicense(name, text); err != nil {
		return nil, err
	}
	e := new(edited)
	if err := a.commit(ctx, w.repo, e); err != nil {
		return nil, err
	}
	_, err = a.record(ctx, w.Log, func(*issuelog.Log) ([]issuelog.Entry, error) { return entries, nil })
	if f := (*failure)(nil); errors.As(err, &f) {
		f.Message = "license/" + name + " was published, but this is not in the issue log: " + f.Message
	}
	return e.Signed, err
}

// mustPublish refuses what has no place to be published.
func (w *standing) mustPublish(what string) error {
	switch {
	case w.trouble != nil:
		return w.trouble
	case what == keyringFile && w.Keyring != "", what == revocationsFile && w.Revocations != "", w.hasRole:
		return nil
	}
	flag := "--" + strings.TrimSuffix(what, ".json")
	if w.repo == nil {
		return failf(exitFailed, "no_repository", "name the repository with --repo, or a file with "+flag, "there is no repository to publish it in")
	}
	return failf(exitFailed, "no_license_role", "make the repository with `publish init --license`, or name a file with "+flag,
		"the repository has no role license, in which it would be published")
}

// addKeys adds keys to a ring. One that is there already stays as it is.
func addKeys(add ...license.Key) ringEdit {
	return func(keys []license.Key, _ *issuelog.Log) ([]license.Key, []issuelog.Entry, error) {
		var entries []issuelog.Entry
		for _, k := range add {
			i := slices.IndexFunc(keys, func(old license.Key) bool { return old.ID == k.ID })
			switch {
			case i < 0:
				keys = append(keys, k)
				entries = append(entries, issuelog.Entry{Action: issuelog.AddKey, KeyID: k.ID})
			case !sameKey(keys[i].Public, k.Public):
				return nil, nil, failf(exitKeys, "key_file", "make a key with another id: licences name their key by it",
					"the key ring has another key under the id %s", k.ID)
			}
		}
		return keys, entries, nil
	}
}

func sameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// retireKey sets a date of retirement. It refuses to leave nobody who may issue, to give a retired key more time, and to
// void licences: what the key signed after the date would not verify any more.
func (a *app) retireKey(keys []license.Key, log *issuelog.Log, id string, at time.Time) ([]license.Key, []issuelog.Entry, error) {
	i := slices.IndexFunc(keys, func(k license.Key) bool { return k.ID == id })
	others := slices.ContainsFunc(keys, func(k license.Key) bool { return k.ID != id && k.Retired.IsZero() })
	switch {
	case i < 0:
		return nil, nil, failf(exitUsage, "not_found", "`publish license keys show` prints the key ring", "the key ring has no key %q", id)
	case keys[i].Retired.Equal(at):
		return keys, nil, nil
	case !keys[i].Retired.IsZero() && at.After(keys[i].Retired):
		return nil, nil, failf(exitFailed, "state", "make a new key with `publish license keys rotate NEW-ID`",
			"%s retires on %s: that is not put off, apps keep the earlier date", id, moment(keys[i].Retired))
	case !others:
		return nil, nil, failf(exitFailed, "last_key", "make a new key and retire this one with `publish license keys rotate NEW-ID`",
			"%s is the last key in use: nobody could issue licences", id)
	case !keys[i].NotBefore.IsZero() && !at.After(keys[i].NotBefore):
		return nil, nil, usagef("name a later time", "%s is not in use before %s", id, moment(keys[i].NotBefore))
	}
	var void []string
	for _, e := range log.Entries {
		if e.IsToken() && e.KeyID == id && !e.IssuedAt.Before(at) {
			void = append(void, e.LicenseID)
		}
	}
	if len(void) > 0 {
		return nil, nil, failf(exitFailed, "state", "name a later time; to take back what was issued since then, there is `publish license revoke --key "+id+" --issued-since DATE`",
			"%s has issued %s since %s, the last for %s: retiring it then would make them invalid", id, count(len(void), "licence"), moment(at), void[len(void)-1])
	}
	keys[i].Retired = at
	return keys, []issuelog.Entry{{Action: issuelog.RetireKey, KeyID: id, Since: at}}, nil
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
		keys = append(keys, license.Key{ID: id, Public: public.Key()})
	}
	return license.NewKeyring(keys...)
}

// folderKey is one of them, if it is there.
func (a *app) folderKey(id string) (*license.Keyring, error) {
	if checkKeyName(id) != nil {
		return nil, nil // an id that somebody wrote
	}
	ring, err := a.folderKeyring([]string{id})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return ring, err
}
