package cli

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/license"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

// included says whether a licence includes a release.
type included struct {
	File        string    `json:"file"`
	License     string    `json:"license"`
	Seq         int64     `json:"seq"`
	State       string    `json:"state"`
	Product     string    `json:"product"`
	Channel     string    `json:"channel"`
	Release     string    `json:"release"`
	Published   time.Time `json:"published"`
	Running     string    `json:"running,omitempty"`
	At          time.Time `json:"at"`
	Allowed     bool      `json:"allowed"`
	Denials     []denied  `json:"denials"`
	LastCovered string    `json:"last_covered,omitempty"` // the newest release of the channel that it includes
	Warnings    []string  `json:"warnings"`
	Unchecked   []string  `json:"not_checked"`
}

type denied struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

type verifyOptions struct {
	where
	release, running, at string
}

func (a *app) verifyLicenseCommand() *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use: "verify FILE", Short: "Whether a licence includes a release",
		Long: `Say whether an installation with this licence would get a release of the repository, or every reason why not, and the
newest version that it would get. It is what the app decides, from the same signed dates; no network is used. The exit code
is 0 if it would, 4 if the licence is genuine and it would not, 5 if the licence is not authentic.

--running is the version that is installed: security releases of its major version are not withheld.`,
		Example: `  publish license verify customer-17.license --release 2.1.0
  publish license verify customer-17.license --release 2.0.7 --running 2.0.3 --at 2028-06-01`,
	}
	o.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&o.release, "release", "", "the version")
	f.StringVar(&o.running, "running", "", "the version that is installed")
	f.StringVar(&o.at, "at", "", "judge at this time instead of now")
	need(cmd, "release")
	return a.run(cmd, func(ctx context.Context, args []string) (result, error) { return a.verifyLicense(ctx, args[0], o) })
}

func (a *app) verifyLicense(ctx context.Context, path string, o verifyOptions) (result, error) {
	now, err := a.at(o.at)
	if err != nil {
		return nil, err
	}
	for _, version := range []string{o.release, o.running} {
		if version == "" {
			continue
		}
		if _, err := channel.ParseVersion(version); err != nil {
			return nil, err
		}
	}
	w, err := a.wholeStanding(ctx)
	if err != nil {
		return nil, err
	}
	if w.repo == nil {
		return nil, a.noRepository()
	}
	token, said, err := a.readToken(path)
	if err != nil {
		return nil, err
	}
	if o.product == "" {
		o.product = onlyCommon(said.products, w.repo.Products())
	}
	if err := o.find(w.repo); err != nil {
		return nil, err
	}
	list, r, err := o.lookUp(w.repo)
	if err != nil {
		return nil, err
	}
	said.product = o.product // what the app compares
	v, _, err := a.judgeOf(w, path, said)
	if err != nil {
		return nil, err
	}
	s := v.Status(token, now)
	if s.License == nil {
		return nil, notAuthentic(s.Err)
	}
	out := &included{File: path, License: s.License.LicenseID, Seq: s.License.Seq, State: s.State.String(), Product: o.product, Channel: o.channel,
		Release: r.Version, Published: r.Published, Running: o.running, At: now, Denials: []denied{}, Warnings: append([]string{}, s.Warnings...),
		Unchecked: w.unchecked(said)}
	return out, out.decide(s, r, list)
}

// onlyCommon is the one product that a licence and the repository both name, "" if there are several.
func onlyCommon(a, b []string) string {
	common := intersection(a, b)
	if len(common) != 1 {
		return ""
	}
	return common[0]
}

// lookUp finds the release in the channel, or among those that left it.
func (o *verifyOptions) lookUp(repo *tufrepo.Repo) ([]channel.Release, channel.Release, error) {
	list, err := repo.Releases(o.product, o.channel)
	if err != nil {
		return nil, channel.Release{}, err
	}
	if slices.Contains(repo.Channels(o.product), archive) {
		old, err := repo.Releases(o.product, archive)
		if err != nil {
			return nil, channel.Release{}, err
		}
		list = append(list, old...)
	}
	i := slices.IndexFunc(list, func(r channel.Release) bool { return r.Version == o.release })
	if i < 0 {
		return nil, channel.Release{}, failf(exitUsage, "not_found", "`publish list` shows the releases there are", "%s has no release %s in %s", o.product, o.release, o.channel)
	}
	return list, list[i], list[i].Defect()
}

func (out *included) decide(s license.Status, r channel.Release, list []channel.Release) error {
	switch r.State {
	case channel.Held:
		out.Warnings = append(out.Warnings, "the release is on hold: nobody new gets it")
	case channel.Withdrawn:
		out.Warnings = append(out.Warnings, "the release was withdrawn: nobody gets it")
	}
	d := s.AllowUpdate(out.Channel, out.Running, r)
	out.Allowed = d.Allowed
	for _, why := range d.Denials {
		out.Denials = append(out.Denials, denied{string(why.Code), why.Detail})
	}
	if d.Allowed {
		return nil
	}
	hint := "no release of this channel is included"
	if last, found := s.LastCovered(out.Channel, out.Running, list); found {
		out.LastCovered = last.Version
		hint = "the newest release that is included is " + last.Version
	}
	switch s.State {
	case license.Revoked:
		hint = "if that is a mistake, issue another one under another --id: a revocation is never taken back"
	case license.NotYetValid:
		hint = "--at judges at another time"
	default:
		hint += "; `publish license renew` issues one with other terms"
	}
	return failf(exitExpiring, "withheld", hint, "the licence is genuine and does not include %s %s: %s", out.Product, out.Release, d.Denials[0].Detail)
}
