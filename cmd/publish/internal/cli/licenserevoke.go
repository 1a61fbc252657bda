package cli

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-dev/fairlead/cmd/publish/internal/issuelog"
	"github.com/fairlead-dev/fairlead/internal/disk"
	"github.com/fairlead-dev/fairlead/license"
)

// nearlyFull is from what size on a list of revocations is warned of.
const nearlyFull = license.MaxRevocations * 3 / 4

type revokeOptions struct {
	tokens, licenses, keys []string
	below                  int64
	since                  string
	all, unlisted, prune   bool
	reason                 string
}

// revoked is what a revocation changed, and whom that hits.
type revoked struct {
	Number   int64        `json:"num"` // of the list
	Tokens   []string     `json:"tokens"`
	Licenses []string     `json:"licenses"`
	Keys     []string     `json:"keys"`
	Dropped  []string     `json:"dropped"`  // by --prune
	Affected []listedItem `json:"affected"` // that held until now, as the log knows them
	Signed   []signedRole `json:"signed"`

	changed bool
}

func (a *app) revokeCommand() *cobra.Command {
	var o revokeOptions
	cmd := &cobra.Command{
		Use: "revoke", Short: "Take licences back: a token, a licence, or all that a key signed",
		Long: `Take licences back, by adding to the list of revocations, which apps get with the repository:

  --token     one token: a file, or the id that ` + "`publish license list`" + ` shows
  --license   all numbers of a licence, or with --below those under it
  --key       what a key signed, with --issued-since from that time on, with --all ever; for a stolen key, whose thief
              writes the date she likes, only --all helps

An app notices with its next check for updates, or with the next stick; until then nothing changes for it. What was revoked
stays so. What the issue log does not know is refused unless --unlisted is given.

--prune takes tokens out of the list that ended more than 180 days ago, the longest grace, according to the log. That makes
room, and has a price: such a token reads as expired then, and an expired licence still includes the releases that were
published before its end.`,
		Example: `  publish license revoke --token customer-17.license --reason "refunded"
  publish license revoke --license L-1001 --below 3
  publish license revoke --key acme-2026 --all --reason "laptop stolen"`,
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.tokens, "token", nil, "a licence file, or the id of a token (repeatable)")
	f.StringArrayVar(&o.licenses, "license", nil, "the id of a licence (repeatable)")
	f.Int64Var(&o.below, "below", 0, "with --license: only numbers below this one")
	f.StringArrayVar(&o.keys, "key", nil, "the id of an issuer key (repeatable)")
	f.StringVar(&o.since, "issued-since", "", "with --key: what it signed since that time; a day means its beginning")
	f.BoolVar(&o.all, "all", false, "with --key: all that it ever signed")
	f.BoolVar(&o.unlisted, "unlisted", false, "revoke what the issue log does not know as well")
	f.BoolVar(&o.prune, "prune", false, "take out tokens that ended long ago")
	f.StringVar(&o.reason, "reason", "", "why; for the issue log only, apps do not see it")
	return a.run(cmd, func(ctx context.Context, _ []string) (result, error) { return a.revoke(ctx, o) })
}

func (o *revokeOptions) check() error {
	switch {
	case len(o.tokens)+len(o.licenses)+len(o.keys) == 0 && !o.prune:
		return usagef("see `publish license revoke --help`", "publish license revoke needs --token, --license or --key")
	case o.below != 0 && len(o.licenses) == 0:
		return usagef("name the licence with --license", "--below is about a licence")
	case o.below < 0:
		return usagef("leave it out to revoke all of it", "--below %d is no number of a licence", o.below)
	case (o.since != "" || o.all) && len(o.keys) == 0:
		return usagef("name the key with --key", "--issued-since and --all are about a key")
	case len(o.keys) > 0 && (o.since != "") == o.all:
		return usagef("a stolen key is revoked with --all: its thief writes the date he likes", "--key needs either --issued-since or --all")
	case len(o.reason) > 1000:
		return usagef("shorten it", "--reason has %d bytes; at most 1000 are noted", len(o.reason))
	}
	return nil
}

func (a *app) revoke(ctx context.Context, o revokeOptions) (result, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	w, err := a.publishingStanding(ctx, revocationsFile)
	if err != nil {
		return nil, err
	}
	if err := a.readTokens(w, &o); err != nil {
		return nil, err
	}
	r := &revoked{Tokens: []string{}, Licenses: []string{}, Keys: []string{}, Dropped: []string{}, Affected: []listedItem{}, Signed: []signedRole{}}
	if w.Revocations != "" {
		_, err := a.record(ctx, w.Log, func(log *issuelog.Log) ([]issuelog.Entry, error) {
			if err := w.readRevocations(ctx); err != nil {
				return nil, err
			}
			next, entries, err := a.nextRevocations(w, o, log, r)
			if err != nil || len(entries) == 0 {
				return nil, err
			}
			text, err := fitting(next)
			if err != nil {
				return nil, err
			}
			return entries, disk.Write(disk.OS, w.Revocations, text, 0o644)
		})
		return r.done(a, w.Revocations, err)
	}
	log, err := readLog(w.Log)
	if err != nil {
		return nil, err
	}
	next, entries, err := a.nextRevocations(w, o, log, r)
	if err != nil {
		return nil, err
	}
	if _, err := fitting(next); err != nil {
		return nil, err
	}
	signed, err := a.publishList(ctx, w, revocationsFile, next, entries)
	r.Signed = append(r.Signed, signed...)
	return r.done(a, w.Revocations, err)
}

// done says how apps learn of it: from the repository, or from a file of the vendor's own.
func (r *revoked) done(a *app, file string, err error) (result, error) {
	if err != nil {
		return nil, err
	}
	switch {
	case r.changed && file != "":
		a.out.talk("wrote %s; apps notice once you have brought it to them", file)
	case r.changed:
		a.out.talk("apps notice with their next check for updates")
	}
	return r, nil
}

// readTokens replaces files by the ids of the tokens in them. What is not genuine is refused: it may name the id of
// another customer's.
func (a *app) readTokens(w *standing, o *revokeOptions) error {
	for i, token := range o.tokens {
		if info, err := os.Stat(token); err != nil || !info.Mode().IsRegular() {
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			continue // an id
		}
		l, err := a.genuine(w, token)
		if err != nil {
			return err
		}
		o.tokens[i] = l.ID
	}
	return nil
}

// fitting encodes a list, and refuses one that apps would not read.
func fitting(list *license.Revocations) ([]byte, error) {
	text, err := indented(list)
	if err == nil && len(text) > license.MaxRevocations {
		err = failf(exitFailed, "too_many", "take out what ended long ago with --prune, or revoke a key with --key and renew what remains",
			"the list of revocations would have %s; apps read at most %s", size(int64(len(text))), size(license.MaxRevocations))
	}
	return text, err
}

// nextRevocations is the list with what is revoked now. It only grows, but for --prune.
func (a *app) nextRevocations(w *standing, o revokeOptions, log *issuelog.Log, r *revoked) (*license.Revocations, []issuelog.Entry, error) {
	next := &license.Revocations{Licenses: map[string]int64{}, Keys: map[string]time.Time{}}
	if w.revoked != nil {
		next.Number, next.Tokens = w.revoked.Number, slices.Clone(w.revoked.Tokens)
		maps.Copy(next.Licenses, w.revoked.Licenses)
		maps.Copy(next.Keys, w.revoked.Keys)
	}
	var entries []issuelog.Entry
	for _, add := range []func() ([]issuelog.Entry, error){
		func() ([]issuelog.Entry, error) { return o.addTokens(next, log, r) },
		func() ([]issuelog.Entry, error) { return o.addLicenses(next, log, r) },
		func() ([]issuelog.Entry, error) { return o.addKeys(next, w, log, r) },
		func() ([]issuelog.Entry, error) { return o.pruned(next, log, a.now(), r), nil },
	} {
		more, err := add()
		if err != nil {
			return nil, nil, err
		}
		entries = append(entries, more...)
	}
	r.Number = next.Number
	if len(entries) == 0 {
		return next, nil, nil
	}
	next.Number++
	r.Number, r.changed = next.Number, true
	for i := range entries {
		entries[i].List, entries[i].Reason = next.Number, o.reason
	}
	before, err := newBookkeeper(log, w.revoked, a.now())
	if err != nil {
		return nil, nil, err
	}
	for i := range log.Entries {
		e := &log.Entries[i]
		_, was := w.revoked.Revoked(asLicense(e))
		if _, is := next.Revoked(asLicense(e)); e.IsToken() && is && !was {
			r.Affected = append(r.Affected, newListedItem(e, before.state(e)))
		}
	}
	if text, err := indented(next); err == nil && len(text) > nearlyFull {
		a.out.warn("the list of revocations has %s; apps read at most %s: take out what ended long ago with --prune", size(int64(len(text))), size(license.MaxRevocations))
	}
	return next, entries, nil
}

func unknown(flag, what, id string) error {
	return failf(exitUsage, "not_found", "`publish license list --all` shows what was issued; --unlisted revokes it all the same",
		"the issue log has no %s %s: --%s may be misspelled", what, id, flag)
}

func (o *revokeOptions) addTokens(next *license.Revocations, log *issuelog.Log, r *revoked) (entries []issuelog.Entry, err error) {
	for _, id := range o.tokens {
		e := log.Token(id)
		if e == nil && !o.unlisted {
			return nil, unknown("token", "token", id)
		}
		if slices.Contains(next.Tokens, id) {
			continue
		}
		next.Tokens = append(next.Tokens, id)
		r.Tokens = append(r.Tokens, id)
		line := issuelog.Entry{Action: issuelog.Revoke, ID: id}
		if e != nil {
			line.LicenseID, line.Seq = e.LicenseID, e.Seq
		}
		entries = append(entries, line)
	}
	return entries, nil
}

func (o *revokeOptions) addLicenses(next *license.Revocations, log *issuelog.Log, r *revoked) (entries []issuelog.Entry, err error) {
	for _, id := range o.licenses {
		newest := log.Newest(id)
		below := cmp.Or(o.below, license.EveryNumber)
		switch {
		case newest == nil && !o.unlisted:
			return nil, unknown("license", "licence", id)
		case newest != nil && o.below > newest.Seq+1:
			return nil, usagef("leave out --below to revoke all of it", "licence %s has no number above %d: --below %d would revoke those to come", id, newest.Seq, o.below)
		case next.Licenses[id] >= below:
			continue
		}
		next.Licenses[id] = below
		r.Licenses = append(r.Licenses, id)
		entries = append(entries, issuelog.Entry{Action: issuelog.Revoke, LicenseID: id, Below: below})
	}
	return entries, nil
}

func (o *revokeOptions) addKeys(next *license.Revocations, w *standing, log *issuelog.Log, r *revoked) (entries []issuelog.Entry, err error) {
	var since time.Time
	if o.since != "" {
		if since, err = beginning("issued-since", o.since); err != nil {
			return nil, err
		}
	}
	for _, id := range o.keys {
		_, published := w.key(id)
		used := slices.ContainsFunc(log.Entries, func(e issuelog.Entry) bool { return e.KeyID == id })
		if !published && !used && !o.unlisted {
			return nil, unknown("key", "key", id)
		}
		if old, ok := next.Keys[id]; ok && !since.Before(old) {
			continue // revoked from then on already, or from the beginning
		}
		next.Keys[id] = since
		r.Keys = append(r.Keys, id)
		entries = append(entries, issuelog.Entry{Action: issuelog.Revoke, KeyID: id, Since: since})
	}
	return entries, nil
}

// pruned takes out tokens that ended before the longest grace, as the log knows them.
func (o *revokeOptions) pruned(next *license.Revocations, log *issuelog.Log, now time.Time, r *revoked) []issuelog.Entry {
	if !o.prune {
		return nil
	}
	next.Tokens = slices.DeleteFunc(next.Tokens, func(id string) bool {
		e := log.Token(id)
		over := e != nil && now.After(e.Expires.Add(license.MaxGrace)) && !slices.Contains(o.tokens, id)
		if over {
			r.Dropped = append(r.Dropped, id)
		}
		return over
	})
	var entries []issuelog.Entry
	for part := range slices.Chunk(r.Dropped, 500) { // a line of the log has a limit
		entries = append(entries, issuelog.Entry{Action: issuelog.Prune, Dropped: part})
	}
	return entries
}
