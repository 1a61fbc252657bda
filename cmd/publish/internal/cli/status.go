package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

type roleStatus struct {
	Role        string    `json:"role"`
	Version     int64     `json:"version"`
	Signed      time.Time `json:"signed"`
	Expires     time.Time `json:"expires"`
	NextSigning time.Time `json:"next_signing"`
	DaysLeft    int       `json:"days_left"` // whole days; negative: expired
	State       string    `json:"state"`     // ok, due (for its next signing), expired
	Keys        []string  `json:"keys"`
	Threshold   int       `json:"threshold"`
}

func roleStatuses(repo *tufrepo.Repo, now time.Time) []roleStatus {
	var out []roleStatus
	for _, s := range repo.Status() {
		out = append(out, newRoleStatus(s, now))
	}
	return out
}

func newRoleStatus(s tufrepo.RoleStatus, now time.Time) roleStatus {
	r := roleStatus{
		Role: s.Role, Version: s.Version, Signed: s.Signed, Expires: s.Expires, NextSigning: s.NextSigning,
		DaysLeft: int(s.Expires.Sub(now).Hours()) / 24, State: "ok", Keys: s.KeyIDs, Threshold: s.Threshold,
	}
	switch {
	case !now.Before(s.Expires):
		r.State = "expired"
		r.DaysLeft--
	case !now.Before(s.NextSigning):
		r.State = "due"
	}
	return r
}

type status struct {
	Repository string        `json:"repository"`
	At         time.Time     `json:"at"`
	Roles      []roleStatus  `json:"roles"`
	Channels   []channelList `json:"channels"`
}

type channelList struct {
	Product  string            `json:"product"`
	Channel  string            `json:"channel"`
	Releases []channel.Release `json:"releases"`
	at       time.Time
}

func (a *app) statusCommand() *cobra.Command {
	var within, at string
	cmd := &cobra.Command{
		Use: "status", Short: "What expires when, and what the channels offer",
		Long: `What expires when, and what the channels offer. With --fail-if-expiring the exit code is 4 if a role expires within
that time. A role whose whole life is shorter than that, such as the timestamp, counts when less than half of it is left:
then several refreshes have been missed. Without it, the exit code is 0 even if something has expired.`,
		Example: `  publish status
  publish status --fail-if-expiring 30d --json`,
	}
	cmd.Flags().StringVar(&within, "fail-if-expiring", "", "exit with 4 if something expires within this time, such as 30d")
	cmd.Flags().StringVar(&at, "at", "", "judge at this time instead of now")
	return a.run(cmd, func(ctx context.Context, _ []string) (result, error) { return a.status(ctx, within, at) })
}

func (a *app) status(ctx context.Context, within, at string) (result, error) {
	now, err := a.at(at)
	if err != nil {
		return nil, err
	}
	var window time.Duration
	if within != "" {
		if window, err = duration("fail-if-expiring", within); err != nil {
			return nil, err
		}
	}
	repo, err := a.open(ctx, now)
	if err != nil {
		return nil, err
	}
	s := &status{Repository: a.repo, At: now, Roles: roleStatuses(repo, now)}
	if s.Channels, err = lists(repo, where{}, now); err != nil {
		return nil, err
	}
	if within == "" {
		return s, nil
	}
	return s, expiring(repo.Status(), now, window)
}

// at reads --at.
func (a *app) at(flag string) (time.Time, error) {
	if flag == "" {
		return a.now().UTC().Truncate(time.Second), nil
	}
	return instant("at", flag)
}

func lists(repo *tufrepo.Repo, only where, now time.Time) ([]channelList, error) {
	out := []channelList{}
	for _, p := range repo.Products() {
		for _, c := range repo.Channels(p) {
			if only.product != "" && only.product != p || only.channel != "" && only.channel != c {
				continue
			}
			list, err := repo.Releases(p, c)
			if err != nil {
				return nil, err
			}
			out = append(out, channelList{p, c, append([]channel.Release{}, list...), now})
		}
	}
	return out, nil
}

// expiring is what --fail-if-expiring fails with.
func expiring(roles []tufrepo.RoleStatus, now time.Time, window time.Duration) error {
	var words []string
	for _, s := range roles {
		limit := window
		if life := s.Expires.Sub(s.Signed); life <= window {
			limit = life / 2
		}
		switch left := s.Expires.Sub(now); {
		case left <= 0:
			words = append(words, fmt.Sprintf("%s expired on %s", s.Role, moment(s.Expires)))
		case left <= limit:
			words = append(words, fmt.Sprintf("%s expires on %s", s.Role, moment(s.Expires)))
		}
	}
	if len(words) == 0 {
		return nil
	}
	return failf(exitExpiring, "expiring", "run `publish refresh` with the keys of these roles", "%s", strings.Join(words, ", "))
}

type listing struct {
	Channels []channelList `json:"channels"`
}

func (a *app) listCommand() *cobra.Command {
	var w where
	cmd := &cobra.Command{
		Use: "list", Short: "The releases of every channel, or of one",
		Example: "  publish list --product notes --channel stable --json",
	}
	cmd.Flags().StringVar(&w.product, "product", "", "only this product")
	cmd.Flags().StringVar(&w.channel, "channel", "", "only this channel")
	return a.run(cmd, func(ctx context.Context, _ []string) (result, error) {
		repo, err := a.open(ctx, a.now())
		if err != nil {
			return nil, err
		}
		found, err := lists(repo, w, a.now())
		if err == nil && len(found) == 0 {
			return nil, failf(exitUsage, "not_found", "`publish status` shows what there is", "there is no %s", w.words())
		}
		return &listing{found}, err
	})
}

type refreshed struct {
	edited
	Due []roleStatus `json:"due"` // for signing, but the keys are not here
}

func (a *app) refreshCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "refresh", Short: "Sign again what is due; run it every day",
		Long: `Sign the timestamp again, and every other role that is due, as far as the keys folder holds the keys. What is due and
cannot be signed here is reported; if it has expired, the exit code is 4.`,
		Example: "  publish refresh --keys online-keys",
	}
	return a.run(cmd, func(ctx context.Context, _ []string) (result, error) { return a.refresh(ctx) })
}

func (a *app) refresh(ctx context.Context) (result, error) {
	now := a.now()
	repo, err := a.open(ctx, now)
	if err != nil {
		return nil, err
	}
	// The timestamp always, what is due, and the snapshot that lists it.
	var wanted []*tufrepo.MissingKeysError
	for _, s := range repo.Status() {
		if s.Role == "timestamp" || s.Role == "snapshot" && len(wanted) > 0 || !now.Before(s.NextSigning) {
			wanted = append(wanted, &tufrepo.MissingKeysError{Role: s.Role, Need: s.Threshold, KeyIDs: s.KeyIDs})
		}
	}
	signers, err := a.signers(ctx, wanted)
	if err != nil {
		return nil, err
	}
	r := &refreshed{Due: []roleStatus{}}
	var expired []string
	for _, s := range repo.Refresh(signers...) {
		st := newRoleStatus(s, now)
		r.Due = append(r.Due, st)
		if st.State == "expired" {
			expired = append(expired, s.Role)
		}
		when := "is due for signing until"
		if st.State == "expired" {
			when = "was due for signing, expired on"
		}
		a.out.warn("%s %s %s, and cannot be signed here: it takes %d of the keys %s, and a parent that lasts",
			s.Role, when, moment(s.Expires), s.Threshold, strings.Join(short(s.KeyIDs), ", "))
	}
	r.now, r.Changes = now, repo.Changes()
	if err := a.commitWith(ctx, repo, &r.edited, signers); err != nil {
		return nil, err
	}
	if len(expired) > 0 {
		return r, failf(exitExpiring, "expired", "run `publish refresh` where the keys of these roles are",
			"the rest was refreshed, but %s expired: clients refuse the repository", strings.Join(expired, ", "))
	}
	return r, nil
}

// short abbreviates key ids for people.
func short(ids []string) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = id[:min(len(id), 12)]
	}
	return out
}

type verified struct {
	Repository string    `json:"repository"`
	At         time.Time `json:"at"`
	Findings   []finding `json:"findings"`
	Roles      int       `json:"roles"`
	Releases   int       `json:"releases"`
	Manifests  int       `json:"manifests"`
	Blobs      int       `json:"blobs"`
	Bytes      int64     `json:"bytes"`
	Unlisted   int       `json:"unlisted"` // files of past states
}

type finding struct {
	Severity string `json:"severity"` // error, warning
	Name     string `json:"name"`     // the file or role
	Problem  string `json:"problem"`
	Next     string `json:"next"` // what to do
}

func (a *app) verifyCommand() *cobra.Command {
	var at string
	cmd := &cobra.Command{
		Use: "verify", Short: "Check the whole repository, as an auditor would",
		Long: `Check every signature, hash and file of the repository. Without --root it is checked from its own first root on, which
finds damage; with --root, a copy kept elsewhere (the one in the app), it finds fraud as well. The exit code is 5 if there
is an error.`,
		Example: `  publish verify
  publish verify --root app/root.json --at 2027-01-31`,
	}
	cmd.Flags().StringVar(&at, "at", "", "judge at this time instead of now")
	return a.run(cmd, func(ctx context.Context, _ []string) (result, error) { return a.verify(ctx, at) })
}

func (a *app) verify(ctx context.Context, at string) (result, error) {
	now, err := a.at(at)
	if err != nil {
		return nil, err
	}
	store, err := a.store(ctx)
	if err != nil {
		return nil, err
	}
	if names, err := store.List(ctx, "metadata/"); err != nil || len(names) == 0 {
		return nil, cmp.Or(err, a.noRepository())
	}
	root, err := a.trustedRoot()
	if err != nil {
		return nil, err
	}
	if root == nil {
		root, err = a.storedRoot(ctx)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, failf(exitVerify, "incomplete", "restore it from a copy, or give one with --root", "%s", plain(err))
		}
		if err != nil {
			return nil, err
		}
		a.out.talk("trusting the repository's own first root; give --root FILE, a copy kept elsewhere, to find a forged one")
	}
	report, err := tufrepo.Verify(ctx, store, root, now)
	var found *tufrepo.VerifyError
	if err != nil && !errors.As(err, &found) {
		return nil, err
	}
	v := &verified{a.repo, now, []finding{}, report.Roles, report.Releases, report.Manifests, report.Blobs, report.Bytes, report.Unlisted}
	for _, f := range report.Findings {
		v.Findings = append(v.Findings, finding{string(f.Severity), f.Name, f.Problem, f.Next})
	}
	if found != nil {
		return v, failf(exitVerify, "verification", "what to do stands below each finding; do not publish on top of it before",
			"the repository does not verify: %d errors, the first: %s: %s", found.Count, found.First.Name, found.First.Problem)
	}
	return v, nil
}
