package cli

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fairlead-dev/fairlead/cmd/publish/internal/issuelog"
	"github.com/fairlead-dev/fairlead/license"
)

// firstDefault is where the help of a flag says what a first licence has without it.
var firstDefault = regexp.MustCompile(` \(default: [^)]*\)|; default: [^)]*`)

func (a *app) renewCommand() *cobra.Command {
	t := new(terms)
	cmd := &cobra.Command{
		Use: "renew OLD.license", Short: "Issue the next number of a licence",
		Long: `Issue a licence again: the same id and the next number, which apps prefer to the old one. What no flag says stays as it
was; --until or --extend moves the end. OLD.license (- is standard input) must be genuine, not revoked, and the newest that
the issue log has of it.

After a key was revoked, the licences that it signed can be renewed with another one if they stand in the issue log just as
they are: the log knows which are yours and not the thief's.`,
		Example: `  publish license renew customer-17.license --key keys/acme-2026.pem --until 2028-12-31 --out customer-17-2.license
  publish license renew customer-17.license --key keys/acme-2026.pem --extend 365d --updates-until 2028-12-31 > new.license`,
	}
	t.add(cmd)
	cmd.Flags().VisitAll(func(f *pflag.Flag) { // what is not given stays as it was
		if f.Name != "key-id" {
			f.Usage = firstDefault.ReplaceAllString(f.Usage, "")
		}
	})
	cmd.Flags().Lookup("grace").DefValue = ""
	cmd.Flags().StringVar(&t.extend, "extend", "", "the end of the licence, so much later than it was, or than now if it has passed")
	cmd.Flags().StringSliceVar(&t.dropNodes, "drop-node", nil, "an installation to take out (repeatable)")
	return a.run(cmd, func(ctx context.Context, args []string) (result, error) { return a.activate(ctx, t, args[0]) })
}

// activate issues the next number of a licence: for a renewal, for another installation, or both.
func (a *app) activate(ctx context.Context, t *terms, path string) (result, error) {
	w, err := a.wholeStanding(ctx)
	if err != nil {
		return nil, err
	}
	for _, flag := range []string{"subject", "id", "seq"} {
		if t.flags.Changed(flag) {
			return nil, usagef("leave it out; another customer gets a licence of its own", "--%s is what it was in a renewal", flag)
		}
	}
	old, err := a.genuine(w, path)
	if err != nil {
		return nil, err
	}
	t.key, t.issuer = cmp.Or(t.key, w.Key), cmp.Or(t.issuer, old.Issuer)
	if t.key == "" {
		return nil, usagef("give it with --key, or in "+settingsFile, "a renewal needs the issuer's private key")
	}
	if !t.changes(old.KeyID) {
		return nil, usagef("say until when with --until or --extend, or what else changes", "there is nothing that is to be new")
	}
	if err := a.mayRenew(w, old, path); err != nil {
		return nil, err
	}
	now := a.now().UTC().Truncate(time.Second)
	l := *old.License
	l.Nodes, l.Channels, l.Audience = slices.Clone(old.Nodes), slices.Clone(old.Channels), slices.Clone(old.Audience)
	l.Seq, l.Request = old.Seq+1, ""
	if err := t.apply(&l, now); err != nil {
		return nil, err
	}
	if err := t.drop(&l); err != nil {
		return nil, err
	}
	end := l.LicenseExpires
	if end.IsZero() {
		end = l.Expires
	}
	if !l.UpdatesUntil.IsZero() && !t.flags.Changed("updates-until") && l.UpdatesUntil.Before(end) && !l.LicenseExpires.Equal(old.LicenseExpires) {
		a.out.warn("updates stay included until %s only; --updates-until moves that", day(l.UpdatesUntil))
	}
	if !l.LicenseExpires.IsZero() && (old.LicenseExpires.IsZero() || l.LicenseExpires.Before(old.LicenseExpires)) {
		was := "had no end"
		if !old.LicenseExpires.IsZero() {
			was = "ended on " + day(old.LicenseExpires)
		}
		a.out.warn("the licence ends on %s now, and %s before: apps take the highest number, also when it grants less", day(l.LicenseExpires), was)
	}
	l.KeyID, l.ID = "", ""
	return a.hand(ctx, w, t, l, issuelog.Renew)
}

// changes reports whether anything is to be new: a term, or the key.
func (t *terms) changes(old string) bool {
	names := append(strings.Fields(templateTerms), "extend", "for", "drop-node")
	return t.id() != old || slices.ContainsFunc(names, func(flag string) bool {
		return !slices.Contains([]string{"key", "key-id", "issuer"}, flag) && t.flags.Changed(flag)
	})
}

func (t *terms) drop(l *license.License) error {
	for _, node := range t.dropNodes {
		i := slices.Index(l.Nodes, node)
		if i < 0 {
			return failf(exitUsage, "not_found", "`publish license inspect` shows them", "the licence is not for the installation %s", node)
		}
		l.Nodes = slices.Delete(l.Nodes, i, i+1)
	}
	if len(t.dropNodes) > 0 && len(l.Nodes) == 0 && t.request == "" {
		return usagef("add another with --node or --for, or revoke it with `publish license revoke`",
			"without an installation the licence would be for any")
	}
	return nil
}

// mayRenew refuses to renew what was revoked, and what is not the newest.
func (a *app) mayRenew(w *standing, old *genuine, path string) error {
	log, err := readLog(w.Log)
	if err != nil {
		return err
	}
	line := log.Token(old.ID)
	if why, revoked := w.revoked.Revoked(old.License); revoked {
		byKey := license.Revocations{Keys: w.revoked.Keys}
		rest := license.Revocations{Tokens: w.revoked.Tokens, Licenses: w.revoked.Licenses}
		_, otherwise := rest.Revoked(old.License)
		if _, key := byKey.Revoked(old.License); !key || otherwise || line == nil || line.Claims != old.claims {
			return failf(exitFailed, "revoked", "a revocation is never taken back: issue a new licence under another --id", "%s is not renewed: %s", path, why)
		}
	}
	newest := log.Newest(old.LicenseID)
	switch {
	case newest == nil:
		a.out.warn("the issue log %s does not have licence %s: whether number %d is the newest is not known", w.Log, old.LicenseID, old.Seq)
	case newest.Seq > old.Seq:
		return failf(exitFailed, "superseded", fmt.Sprintf("renew that one: apps take the highest number; if it is lost, `publish license issue --id %s --seq %d` makes the next", old.LicenseID, newest.Seq+1),
			"%s is number %d of licence %s; number %d was issued on %s", path, old.Seq, old.LicenseID, newest.Seq, moment(newest.Time))
	}
	return nil
}
