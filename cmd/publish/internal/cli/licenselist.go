package cli

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-dev/fairlead/cmd/publish/internal/issuelog"
	"github.com/fairlead-dev/fairlead/license"
)

// A listedItem is a licence that was handed out, as the issue log knows it.
type listedItem struct {
	License        string     `json:"license"` // lid
	Seq            int64      `json:"seq"`
	ID             string     `json:"id"` // jti
	KeyID          string     `json:"key_id"`
	Products       []string   `json:"products"`
	Subject        string     `json:"subject_sha256"`
	Issued         time.Time  `json:"issued"`
	By             string     `json:"by,omitempty"`
	Expires        time.Time  `json:"expires"` // the token
	LicenseExpires *time.Time `json:"license_expires,omitempty"`
	UpdatesUntil   *time.Time `json:"updates_until,omitempty"`
	Installations  int        `json:"installations"` // 0: any
	State          string     `json:"state"`
}

// replaced is the state of a licence of which there is a higher number. The other states are those of package license.
const replaced = "replaced"

type licenseList struct {
	Log       string       `json:"log"`
	Lines     int          `json:"lines"`
	Head      string       `json:"head"`           // SHA-256 of the last line
	Torn      int          `json:"torn,omitempty"` // bytes of a line that a crash cut off
	Licenses  []listedItem `json:"licenses"`
	Unchecked []string     `json:"not_checked"`

	csv, check bool
}

type listOptions struct {
	all, csv, check   bool
	expiring, subject string
	license, head     string
}

func (a *app) listLicensesCommand() *cobra.Command {
	var o listOptions
	cmd := &cobra.Command{
		Use: "list", Short: "The licences that were issued, and what they are worth today",
		Long: `List the licences of the issue log: the newest number of each, and its state today; with --all every number. A customer
stands there as a hash of the licence's and the customer's id: --subject finds the licences of a customer.

--check looks at the log instead: every line names the hash of the one before, so the first line that was changed, taken out
or put in is found. The exit code is 5 then. To notice that lines were cut off at the end, keep the hash that is printed,
and give it with --head the next time.`,
		Example: `  publish license list --expiring 30d
  publish license list --subject customer-17 --all
  publish license list --csv > licenses.csv
  publish license list --check`,
	}
	f := cmd.Flags()
	f.BoolVar(&o.all, "all", false, "every number, not only the newest")
	f.StringVar(&o.expiring, "expiring", "", "only licences that hold, and end or need a fresh token within this time, such as 30d")
	f.StringVar(&o.subject, "subject", "", "only those of this customer")
	f.StringVar(&o.license, "license", "", "only this licence")
	f.BoolVar(&o.csv, "csv", false, "as CSV, with a line of names")
	f.BoolVar(&o.check, "check", false, "check the log itself, and list nothing")
	f.StringVar(&o.head, "head", "", "with --check: a hash that was printed before, of a line that must still be there")
	return a.run(cmd, func(ctx context.Context, _ []string) (result, error) { return a.listLicenses(ctx, o) })
}

func (a *app) listLicenses(ctx context.Context, o listOptions) (result, error) {
	var window time.Duration
	if o.expiring != "" {
		var err error
		if window, err = duration("expiring", o.expiring); err != nil {
			return nil, err
		}
	}
	w, err := a.licenseStanding(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(w.Log); errors.Is(err, fs.ErrNotExist) {
		if o.check {
			return nil, failf(exitUsage, "no_file", "name it with --log; if it was there before, restore it from a copy", "there is no issue log %s", w.Log)
		}
		a.out.warn("there is no issue log %s: nothing was issued with it, or it is elsewhere (--log, --keys)", w.Log)
	}
	log, err := readLog(w.Log)
	if err != nil {
		return nil, err
	}
	out := &licenseList{Log: w.Log, Lines: len(log.Entries), Head: log.Head, Torn: log.Torn, Licenses: []listedItem{}, Unchecked: []string{}, csv: o.csv, check: o.check}
	if log.Torn > 0 {
		a.out.warn("%s ends in %s of a line, which a crash left: nothing was handed out for it, and the next licence takes it out", w.Log, count(log.Torn, "byte"))
	}
	if o.check {
		if o.head != "" && !log.Has(o.head) {
			return out, failf(exitVerify, "log_broken", "restore the log from a copy that has that line", "%s has no line with the hash %s: it was cut off, or written anew", w.Log, o.head)
		}
		return out, nil
	}
	if err := w.trouble; err != nil {
		return nil, err
	}
	if w.revoked == nil {
		out.Unchecked = append(out.Unchecked, "revocations: there is no list in the repository, and none after --revocations")
	}
	books, err := newBookkeeper(log, w.revoked, a.now())
	if err != nil {
		return nil, err
	}
	for i := range log.Entries {
		if e := &log.Entries[i]; e.IsToken() && o.wants(e) {
			item := newListedItem(e, books.state(e))
			if !o.all && log.Newest(e.LicenseID).Seq > e.Seq || o.expiring != "" && !item.endsWithin(window, books.now) {
				continue
			}
			out.Licenses = append(out.Licenses, item)
		}
	}
	return out, nil
}

func (o *listOptions) wants(e *issuelog.Entry) bool {
	return (o.license == "" || e.LicenseID == o.license) && (o.subject == "" || e.Subject == issuelog.Subject(e.LicenseID, o.subject))
}

func newListedItem(e *issuelog.Entry, state string) listedItem {
	item := listedItem{License: e.LicenseID, Seq: e.Seq, ID: e.ID, KeyID: e.KeyID, Products: append([]string{}, e.Products...), Subject: e.Subject,
		Issued: e.IssuedAt, By: e.By, Expires: e.Expires, Installations: e.Nodes, State: state}
	if !e.LicenseExpires.IsZero() {
		item.LicenseExpires = &e.LicenseExpires
	}
	if !e.UpdatesUntil.IsZero() {
		item.UpdatesUntil = &e.UpdatesUntil
	}
	return item
}

// end is when somebody has to do something: the end of the licence or of its token, whichever is first.
func (i *listedItem) end() time.Time {
	if i.LicenseExpires != nil && i.LicenseExpires.Before(i.Expires) {
		return *i.LicenseExpires
	}
	return i.Expires
}

func (i *listedItem) endsWithin(window time.Duration, now time.Time) bool {
	holds := slices.Contains([]string{license.Valid.String(), license.ExpiringSoon.String(), license.Grace.String()}, i.State)
	return holds && !i.end().After(now.Add(window))
}

// asLicense is as much of a licence as the log has: all that its state depends on but the machine.
func asLicense(e *issuelog.Entry) *license.License {
	return &license.License{Issuer: e.Issuer, ID: e.ID, LicenseID: e.LicenseID, Seq: e.Seq, KeyID: e.KeyID, Audience: e.Products,
		IssuedAt: e.IssuedAt, NotBefore: e.NotBefore, Expires: e.Expires, LicenseExpires: e.LicenseExpires, UpdatesUntil: e.UpdatesUntil,
		Grace: time.Duration(e.Grace) * time.Second}
}

// A bookkeeper judges licences as an app would that has them.
type bookkeeper struct {
	log         *issuelog.Log
	revocations *license.Revocations
	ring        *license.Keyring
	now         time.Time
}

func newBookkeeper(log *issuelog.Log, revocations *license.Revocations, now time.Time) (*bookkeeper, error) {
	public, _, err := ed25519.GenerateKey(rand.Reader) // no signature is asked for, but a verifier needs a key
	if err != nil {
		return nil, err
	}
	ring, err := license.NewKeyring(license.Key{ID: "none", Public: public})
	return &bookkeeper{log, revocations, ring, now}, err
}

func (b *bookkeeper) state(e *issuelog.Entry) string {
	l := asLicense(e)
	if _, is := b.revocations.Revoked(l); is {
		return license.Revoked.String()
	}
	if newest := b.log.Newest(e.LicenseID); newest != nil && newest.Seq > e.Seq {
		return replaced
	}
	product := ""
	if len(l.Audience) > 0 {
		product = l.Audience[0]
	}
	v, err := license.NewVerifier(license.Config{Issuer: l.Issuer, Product: product, Keys: b.ring})
	if err != nil {
		return license.Invalid.String()
	}
	return v.Evaluate(l, b.now).State.String()
}
