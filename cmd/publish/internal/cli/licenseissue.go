package cli

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-dev/fairlead/cmd/publish/internal/issuelog"
	"github.com/fairlead-dev/fairlead/cmd/publish/internal/keyuri"
	"github.com/fairlead-dev/fairlead/license"
)

// issued is a licence that was made. With a file the token is there, and not here: output ends up in logs.
type issued struct {
	Token          string     `json:"token,omitempty"`
	File           string     `json:"file,omitempty"`
	License        string     `json:"license"` // lid
	Seq            int64      `json:"seq"`
	ID             string     `json:"id"` // jti
	KeyID          string     `json:"key_id"`
	Expires        time.Time  `json:"expires"`                   // the token
	LicenseExpires *time.Time `json:"license_expires,omitempty"` // none: never
	Installations  []string   `json:"installations"`             // fingerprints
	Log            string     `json:"log"`
	Line           string     `json:"line"` // SHA-256 of its line there
}

func (a *app) issueCommand() *cobra.Command {
	t := new(terms)
	var template, from string
	cmd := &cobra.Command{
		Use: "issue", Short: "Issue a licence",
		Long: `Issue a licence, a signed token, and print it or write it to a file. A day means its end, 23:59:59 UTC.

A licence has three dates: --until is its end; --updates-until says which releases are included, by when they were
published; --token-until, if earlier than --until, is when the app must have fetched a fresh token. A licence that there is
already is renewed with ` + "`publish license renew`." + `

--template reads terms from a YAML file, under the names of the flags; flags count more. --for binds the licence to the
installation whose activation request that file is, with --from OLD in addition to those that a licence issued before is
for. Every licence gets a line in the issue log before it is handed out.`,
		Example: `  publish license issue --key keys/acme-2026.pem --issuer https://acme.example --product notes \
    --subject customer-17 --id L-1001 --until 2027-12-31 --channels stable,beta --entitlement pro --entitlement seats=25
  publish license issue --template pro.yaml --subject customer-18 --id L-1002 --for laptop.request --out laptop.license`,
	}
	t.add(cmd)
	f := cmd.Flags()
	f.StringVar(&t.subject, "subject", "", "the customer: an id, no e-mail address")
	f.StringVar(&t.lid, "id", "", "the licence's id, the same over renewals")
	f.Int64Var(&t.seq, "seq", 1, "1, and higher with each renewal")
	f.StringVar(&template, "template", "", "a YAML file with terms")
	f.StringVar(&from, "from", "", "with --for: the licence as it was issued last, to add the installation to")
	f.StringSliceVar(&t.dropNodes, "drop-node", nil, "with --from: an installation to take out (repeatable)")
	return a.run(cmd, func(ctx context.Context, _ []string) (result, error) {
		if template != "" {
			if err := t.template(ctx, template); err != nil {
				return nil, err
			}
		}
		if from != "" {
			return a.activate(ctx, t, from)
		}
		return a.issue(ctx, t)
	})
}

// issue makes the first licence of an id.
func (a *app) issue(ctx context.Context, t *terms) (result, error) {
	w, err := a.wholeStanding(ctx)
	if err != nil {
		return nil, err
	}
	t.key, t.issuer = cmp.Or(t.key, w.Key), cmp.Or(t.issuer, w.Issuer)
	var missing []string
	for _, m := range []struct {
		flag  string
		there bool
	}{{"key", t.key != ""}, {"issuer", t.issuer != ""}, {"product", len(t.products) > 0}, {"subject", t.subject != ""},
		{"id", t.lid != ""}, {"until", t.until != ""}} {
		if !m.there {
			missing = append(missing, "--"+m.flag)
		}
	}
	if len(missing) > 0 {
		return nil, usagef("give them as flags or in the template; --key and --issuer may stand in "+settingsFile+" as well", "publish license issue needs %s", strings.Join(missing, " and "))
	}
	if len(t.dropNodes) > 0 {
		return nil, usagef("name the licence with --from", "--drop-node takes an installation out of a licence that there is")
	}
	now := a.now().UTC().Truncate(time.Second)
	l := license.License{Seq: t.seq}
	if err := t.apply(&l, now); err != nil {
		return nil, err
	}
	return a.hand(ctx, w, t, l, issuelog.Issue)
}

// hand checks a licence, signs it, notes it in the log and hands it out.
func (a *app) hand(ctx context.Context, w *standing, t *terms, l license.License, action string) (result, error) {
	now := a.now().UTC().Truncate(time.Second)
	request, err := a.answer(t, &l, action, now)
	if err != nil {
		return nil, err
	}
	if err := t.check(&l, now); err != nil {
		return nil, err
	}
	if err := checkNew(t.out); err != nil {
		return nil, err
	}
	if l.MaxNodes > 0 && len(l.Nodes) == 0 {
		a.out.warn("the licence names no installation, so it counts on any number of them, whatever --max-nodes says; --for or --node binds it")
	}
	a.warnTerms(w, &l)
	issuer, err := a.issuer(ctx, w, t, &l)
	if err != nil {
		return nil, err
	}
	if why, revoked := w.revoked.Revoked(&l); revoked {
		return nil, failf(exitFailed, "revoked", "issue under another --id, or with another key: a revocation is never taken back",
			"apps would refuse this licence: %s", why)
	}
	var token []byte
	log, err := a.record(ctx, w.Log, func(log *issuelog.Log) ([]issuelog.Entry, error) {
		if err := checkNumber(log, &l, action); err != nil {
			return nil, err
		}
		if old := log.Answered(l.Request); request != nil && old != nil {
			return nil, failf(exitFailed, "answered", "send the licence that was issued, or ask for a new request",
				"this request was answered on %s already, with number %d of licence %s", moment(old.Time), old.Seq, old.LicenseID)
		}
		token, err = issuer.Issue(l)
		if err != nil {
			return nil, err
		}
		return []issuelog.Entry{entryOf(&l, action, token)}, nil
	})
	if err != nil {
		return nil, err
	}
	return a.handOut(w, t, &l, token, log)
}

// entryOf is a licence's line in the log.
func entryOf(l *license.License, action string, token []byte) issuelog.Entry {
	e := issuelog.Entry{Action: action, KeyID: l.KeyID, ID: l.ID, LicenseID: l.LicenseID, Seq: l.Seq, Issuer: l.Issuer,
		Products: l.Audience, Subject: issuelog.Subject(l.LicenseID, l.Subject), IssuedAt: l.IssuedAt, NotBefore: l.NotBefore,
		Expires: l.Expires, LicenseExpires: l.LicenseExpires, UpdatesUntil: l.UpdatesUntil, Grace: int64(l.Grace / time.Second),
		Nodes: len(l.Nodes), MaxNodes: l.MaxNodes, Request: l.Request}
	if said, err := license.InspectUnverified(token); err == nil {
		e.Claims = issuelog.Hash(said.Claims)
	}
	return e
}

// checkNumber refuses a number that this licence has had: apps take the highest, so the new one would not count.
func checkNumber(log *issuelog.Log, l *license.License, action string) error {
	newest := log.Newest(l.LicenseID)
	if newest == nil || newest.Seq < l.Seq {
		return nil
	}
	hint := fmt.Sprintf("renew it with `publish license renew`, or give --seq %d", newest.Seq+1)
	if action == issuelog.Renew {
		hint = "renew the newest one: apps take the highest number"
	}
	return failf(exitFailed, "superseded", hint, "licence %s has number %d, issued on %s: number %d would not count",
		l.LicenseID, newest.Seq, moment(newest.Time), l.Seq)
}

// issuer loads the key, and refuses one that apps would not take. It fills in l what Issue otherwise does.
func (a *app) issuer(ctx context.Context, w *standing, t *terms, l *license.License) (*license.Issuer, error) {
	if t.id() == "" {
		return nil, usagef("give the id under which apps know the key", "--key %s needs --key-id", keyuri.Display(t.key))
	}
	key, err := a.loadIssuerKey(ctx, t.key)
	if err != nil {
		return nil, err
	}
	id := t.id()
	if err := w.checkIssuerKey(t.key, key.Public()); err != nil {
		return nil, err
	}
	if err := a.checkInUse(w, id, key.Public()); err != nil {
		return nil, err
	}
	issuer, err := license.NewIssuer(key, id, t.issuer)
	if err != nil {
		return nil, usagef("see `publish license issue --help`", "%s", plain(err))
	}
	l.KeyID, l.Issuer, l.ID = id, t.issuer, rand.Text()
	if l.NotBefore.IsZero() {
		l.NotBefore = l.IssuedAt
	}
	return issuer, nil
}

// checkInUse holds a key against the key ring that apps get. A key that is not in it may be compiled into them.
func (a *app) checkInUse(w *standing, id string, public crypto.PublicKey) error {
	now := a.now()
	k, ok := w.key(id)
	switch {
	case !ok && w.ring != nil:
		a.out.warn("%s has no key %s: apps take this licence only if the key is compiled into them; `publish license keys publish %s` adds it", w.keyringPlace(), id, id)
	case !ok:
	case !sameKey(k.Public, public):
		return failf(exitKeys, "key_file", "give the id of this key with --key-id; `publish license keys show` prints the key ring",
			"%s has another key under the id %s: apps would refuse this licence", w.keyringPlace(), id)
	case !k.Retired.IsZero() && !now.Before(k.Retired):
		return failf(exitKeys, "key_retired", "issue with a key that is in use; `publish license keys show` prints the key ring",
			"the key %s was retired on %s: apps would refuse this licence", id, moment(k.Retired))
	case now.Before(k.NotBefore):
		return failf(exitKeys, "key_retired", "issue with another key until then", "the key %s is not in use before %s", id, moment(k.NotBefore))
	}
	return nil
}

func (a *app) handOut(w *standing, t *terms, l *license.License, token []byte, log *issuelog.Log) (result, error) {
	if t.armor {
		token = []byte(strings.TrimSuffix(string(license.Armor(token)), "\n"))
	}
	r := &issued{License: l.LicenseID, Seq: l.Seq, ID: l.ID, KeyID: l.KeyID, Expires: l.Expires,
		Installations: append([]string{}, l.Nodes...), Log: w.Log, Line: log.Head}
	if !l.LicenseExpires.IsZero() {
		r.LicenseExpires = &l.LicenseExpires
	}
	if t.out == "" {
		r.Token = string(token)
		return r, nil
	}
	r.File = t.out
	if err := writeNew(t.out, append(slices.Clone(token), '\n')); err != nil {
		return nil, fmt.Errorf("number %d of licence %s is in the issue log, and was not handed out: renew it, or issue it again with --seq %d: %w",
			l.Seq, l.LicenseID, l.Seq+1, err)
	}
	return r, nil
}
