package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

type releaseOptions struct {
	where
	release     tufrepo.NewRelease
	kind        string
	artifacts   []string
	executables []string
	notes       string
	attach      []string
	rollout     string
	over        string
	patches     patchFlags
	dryRun      bool
}

func (a *app) releaseCommand() *cobra.Command {
	var o releaseOptions
	cmd := &cobra.Command{
		Use: "release", Short: "Publish a new version",
		Long: `Publish a new version in a channel. An artifact is the executable itself, or a .tar.gz, .tar.zst or .zip with it inside:
name it with --executable if it is not the only candidate. A version stands for the same bytes for ever.`,
		Example: `  publish release --version 1.4.0 --artifact linux/amd64=dist/notes --artifact windows/amd64=dist/notes.zip --notes CHANGES.md
  publish release --version 1.4.1 --artifact linux/amd64=dist/notes --kind security --critical --advisory CVE-2026-1234
  publish release --version 1.5.0 --artifact linux/amd64=dist/notes --rollout 5%..100% --over 48h --dry-run`,
	}
	o.flags(cmd)
	f, n := cmd.Flags(), &o.release
	f.StringVar(&n.Version, "version", "", "the version, such as 1.4.0")
	f.StringArrayVar(&o.artifacts, "artifact", nil, "PLATFORM=PATH, such as linux/amd64=dist/notes (repeatable)")
	f.StringArrayVar(&o.executables, "executable", nil, "the program's path inside archives, or PLATFORM=PATH (repeatable)")
	f.StringVar(&o.notes, "notes", "", "a file with the release notes")
	f.StringArrayVar(&o.attach, "attach", nil, "a file that belongs to the release, such as an SBOM (repeatable)")
	f.StringVar(&o.kind, "kind", "feature", "feature or security")
	f.BoolVar(&n.Critical, "critical", false, "everybody gets it at once, whatever the rollout")
	f.StringArrayVar(&n.Advisories, "advisory", nil, "an advisory that it fixes, such as CVE-2026-1234 (repeatable)")
	f.StringArrayVar(&n.Requires, "requires", nil, "an entitlement that the licence must grant (repeatable)")
	f.StringVar(&n.From, "from", "", "versions that may be updated directly, such as \">=1.0.0\"")
	f.StringVar(&o.rollout, "rollout", "", "the share of installations that gets it: 10%, or 5%..100% with --over")
	f.StringVar(&o.over, "over", "", "how long the rollout takes, such as 48h")
	f.StringVar(&n.Hold, "hold", "", "publish it on hold, for this reason")
	o.patches.add(cmd)
	f.BoolVar(&o.dryRun, "dry-run", false, "say what would be signed and written, and do nothing")
	need(cmd, "version", "artifact")
	return a.run(cmd, func(ctx context.Context, _ []string) (result, error) { return a.release(ctx, o) })
}

func (a *app) release(ctx context.Context, o releaseOptions) (result, error) {
	err := a.readRelease(&o)
	if err != nil {
		return nil, err
	}
	if a.patches, err = a.policy(o.patches); err != nil {
		return nil, err
	}
	repo, err := a.open(ctx, a.now())
	if err != nil {
		return nil, err
	}
	if err := o.find(repo); err != nil {
		return nil, err
	}
	old, listed, err := o.listed(repo, o.release.Version)
	if err != nil {
		return nil, err
	}
	r, err := repo.Release(ctx, o.product, o.channel, o.release)
	if err != nil {
		return nil, err
	}
	if listed {
		if err := o.checkStanding(old); err != nil {
			return nil, err
		}
	} else {
		a.warnFrom(repo, o, r)
	}
	e := &edited{Product: o.product, Channel: o.channel, Releases: []channel.Release{r}}
	if o.dryRun {
		return e, a.rehearse(repo, e)
	}
	return a.publish(ctx, repo, e)
}

// readRelease makes a release of the flags, before anything is opened: most mistakes are here.
func (a *app) readRelease(o *releaseOptions) (err error) {
	n := &o.release
	if _, err := channel.ParseVersion(n.Version); err != nil {
		return err
	}
	if o.kind != string(channel.Feature) && o.kind != string(channel.Security) {
		return usagef("--kind is feature or security", "--kind %s is not a kind of release", o.kind)
	}
	if o.kind == string(channel.Security) {
		n.Kind = channel.Security
	}
	if n.From != "" {
		if _, err := channel.ParseConstraint(n.From); err != nil {
			return err
		}
	}
	for _, s := range o.artifacts {
		na, err := artifact(s)
		if err != nil {
			return err
		}
		n.Artifacts = append(n.Artifacts, na)
	}
	if err := o.nameExecutables(); err != nil {
		return err
	}
	if o.notes != "" {
		n.Notes = &tufrepo.NewAttachment{Path: o.notes}
	}
	for _, path := range o.attach {
		n.Attachments = append(n.Attachments, tufrepo.NewAttachment{Path: path})
	}
	n.Rollout, err = ramp(o.rollout, o.over, 0, a.now())
	return err
}

// checkStanding refuses a release again, of what is listed, with a flag that says otherwise than what stands.
func (o *releaseOptions) checkStanding(there channel.Release) error {
	what := fmt.Sprintf("%s %s is published in %s already", o.product, there.Version, o.channel)
	if o.release.Hold != "" && (there.State != channel.Held || there.Reason != o.release.Hold) {
		return failf(exitFailed, "state", fmt.Sprintf("run `publish hold %s --reason %q`", there.Version, o.release.Hold),
			"%s, and is not on hold for the reason %q", what, o.release.Hold)
	}
	if o.rollout != "" {
		return checkRollout(what, there, o.release.Rollout)
	}
	return nil
}

// checkRollout compares all of two rollouts but their starts.
func checkRollout(what string, there channel.Release, asked *channel.Rollout) error {
	terms := func(r *channel.Rollout) channel.Rollout {
		if r == nil {
			return channel.Rollout{From: channel.Everybody, To: channel.Everybody}
		}
		return channel.Rollout{From: r.From, To: r.To, Duration: r.Duration}
	}
	if terms(there.Rollout) == terms(asked) {
		return nil
	}
	return failf(exitFailed, "state", fmt.Sprintf("run `publish rollout %s SHARE`", there.Version), "%s, with another rollout than --rollout says", what)
}

// warnFrom says if no version can be updated to a new release directly: nobody would ever get it.
func (a *app) warnFrom(repo *tufrepo.Repo, o releaseOptions, r channel.Release) {
	list, err := repo.Releases(o.product, o.channel)
	if r.From != "" && err == nil && !reachable(r, list) {
		a.out.warn("--from %q holds for no version below %s: nobody can be updated to it", r.From, r.Version)
	}
}

// nameExecutables reads --executable: a path for the archive of one platform, or for all archives.
func (o *releaseOptions) nameExecutables() error {
	for _, s := range o.executables {
		platform, name, one := strings.Cut(s, "=")
		if !one {
			name = s
		}
		used := false
		for i := range o.release.Artifacts {
			switch a := &o.release.Artifacts[i]; {
			case one && a.Platform.String() != platform || !isArchive(a.Path):
			case one || a.Executable == "":
				a.Executable, used = name, true
			default:
				used = true // it has one of its own
			}
		}
		if !used {
			return usagef("leave it out if the artifact is the program itself", "--executable %s names the program in an archive, and there is no archive for it", s)
		}
	}
	return nil
}

// isArchive tells an archive by its name, as package tufrepo does.
func isArchive(path string) bool {
	lower := strings.ToLower(path)
	return slices.ContainsFunc([]string{".tar.gz", ".tgz", ".tar.zst", ".tzst", ".zip"}, func(end string) bool { return strings.HasSuffix(lower, end) })
}

func (a *app) promoteCommand() *cobra.Command {
	var w where
	var from, to, rollout, over string
	var patches patchFlags
	cmd := &cobra.Command{
		Use: "promote VERSION", Short: "Publish a release of one channel in another",
		Long: `Publish a release of one channel in another: the same bytes, nothing rebuilt or copied. Only patches are made, from the
releases that the other channel has.`,
		Example: "  publish promote 1.4.0 --from beta --to stable --rollout 5%..100% --over 48h",
	}
	w.productFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "the channel that has it")
	f.StringVar(&to, "to", "", "the channel that gets it")
	f.StringVar(&rollout, "rollout", "", "the share of installations that gets it: 10%, or 5%..100% with --over")
	f.StringVar(&over, "over", "", "how long the rollout takes, such as 48h")
	patches.add(cmd)
	need(cmd, "from", "to")
	return a.run(cmd, func(ctx context.Context, args []string) (result, error) {
		if from == to {
			return nil, usagef("name two channels", "--from and --to are both %q", from)
		}
		r, err := ramp(rollout, over, 0, a.now())
		if err != nil {
			return nil, err
		}
		if a.patches, err = a.policy(patches); err != nil {
			return nil, err
		}
		w.channel = to
		return a.edit(ctx, w, func(ctx context.Context, repo *tufrepo.Repo, w where) ([]channel.Release, error) {
			source := where{product: w.product, channel: from}
			if err := source.find(repo); err != nil {
				return nil, err
			}
			found, err := source.release(repo, args[0])
			if err != nil {
				return nil, err
			}
			old, listed, err := w.listed(repo, args[0])
			if err != nil {
				return nil, err
			}
			promoted, err := repo.Promote(ctx, w.product, args[0], from, to, r)
			switch {
			case err != nil:
				return nil, err
			case listed && rollout != "":
				if err := checkRollout(fmt.Sprintf("%s %s is published in %s already", w.product, args[0], to), old, r); err != nil {
					return nil, err
				}
			case !listed && to == "stable" && found.Semver() != nil && found.Semver().Prerelease() != "":
				a.out.warn("%s is a pre-release, and goes to stable", args[0])
			}
			return one(promoted, nil)
		})
	})
}

func one(r channel.Release, err error) ([]channel.Release, error) { return []channel.Release{r}, err }

func (a *app) rolloutCommand() *cobra.Command {
	var w where
	var over string
	cmd := &cobra.Command{
		Use: "rollout VERSION SHARE", Short: "Change which share of installations gets a release",
		Long: `Change which share of installations gets a release: 25%, or a ramp such as 5%..100% --over 48h. A single share with
--over is a ramp from the share reached now. Going back to a smaller share takes the update from nobody who has it.`,
		Example: `  publish rollout 1.5.0 25%
  publish rollout 1.5.0 100% --over 48h`,
	}
	w.flags(cmd)
	cmd.Flags().StringVar(&over, "over", "", "how long the ramp takes, such as 48h")
	return a.run(cmd, func(ctx context.Context, args []string) (result, error) {
		if _, err := ramp(args[1], over, 0, a.now()); err != nil {
			return nil, err
		}
		return a.edit(ctx, w, func(_ context.Context, repo *tufrepo.Repo, w where) ([]channel.Release, error) {
			old, err := w.release(repo, args[0])
			if err != nil {
				return nil, err
			}
			r, err := ramp(args[1], over, old.Rollout.Share(a.now()), a.now())
			if err != nil {
				return nil, err
			}
			return one(repo.SetRollout(w.product, w.channel, args[0], r))
		})
	})
}

func (a *app) holdCommand() *cobra.Command {
	var w where
	var reason string
	cmd := &cobra.Command{
		Use: "hold VERSION", Short: "Stop offering a release; who runs it may stay",
		Example: "  publish hold 1.5.0 --reason \"crashes on start with an empty folder\"",
	}
	w.flags(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why, for people")
	need(cmd, "reason")
	return a.run(cmd, func(ctx context.Context, args []string) (result, error) {
		return a.edit(ctx, w, func(_ context.Context, repo *tufrepo.Repo, w where) ([]channel.Release, error) {
			if _, err := w.release(repo, args[0]); err != nil {
				return nil, err
			}
			return one(repo.Hold(w.product, w.channel, args[0], reason))
		})
	})
}

func (a *app) offerCommand() *cobra.Command {
	var w where
	cmd := &cobra.Command{
		Use: "offer VERSION", Short: "Offer a release again that was on hold",
		Example: "  publish offer 1.5.0",
	}
	w.flags(cmd)
	return a.run(cmd, func(ctx context.Context, args []string) (result, error) {
		return a.edit(ctx, w, func(_ context.Context, repo *tufrepo.Repo, w where) ([]channel.Release, error) {
			if _, err := w.release(repo, args[0]); err != nil {
				return nil, err
			}
			return one(repo.Offer(w.product, w.channel, args[0]))
		})
	})
}

func (a *app) withdrawCommand() *cobra.Command {
	var w where
	var reason, revertTo string
	cmd := &cobra.Command{
		Use: "withdraw VERSION", Short: "Take a release back: whoever runs it should leave it",
		Long: `Take a release back: nobody gets it, and whoever runs it should leave it, for a newer one, or with --revert-to for
that version even though it is lower.`,
		Example: "  publish withdraw 1.5.0 --reason \"loses notes\" --revert-to 1.4.1",
	}
	w.flags(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why, for people")
	cmd.Flags().StringVar(&revertTo, "revert-to", "", "the version to go back to")
	need(cmd, "reason")
	return a.run(cmd, func(ctx context.Context, args []string) (result, error) {
		return a.edit(ctx, w, func(_ context.Context, repo *tufrepo.Repo, w where) ([]channel.Release, error) {
			if _, err := w.release(repo, args[0]); err != nil {
				return nil, err
			}
			if revertTo != "" {
				if _, err := w.release(repo, revertTo); err != nil {
					return nil, err
				}
			}
			return one(repo.Withdraw(w.product, w.channel, args[0], reason, revertTo))
		})
	})
}

func (a *app) archiveCommand() *cobra.Command {
	var w where
	var keep int
	cmd := &cobra.Command{
		Use: "archive", Short: "Move old releases out of a channel's list",
		Long: `Move old releases out of a channel's list, so that it stays short: clients read all of it. What an installation may
still need stays: withdrawn releases, what those go back to, and stepping stones. Nothing is deleted. The first time, it
needs the targets key.`,
		Example: "  publish archive --keep 50",
	}
	w.flags(cmd)
	cmd.Flags().IntVar(&keep, "keep", 0, "how many releases to keep in the list")
	need(cmd, "keep")
	return a.run(cmd, func(ctx context.Context, _ []string) (result, error) {
		if keep < 1 {
			return nil, usagef("keep at least 1", "--keep %d is not a number of releases", keep)
		}
		w.archiving = true
		return a.edit(ctx, w, func(_ context.Context, repo *tufrepo.Repo, w where) ([]channel.Release, error) {
			return repo.Archive(w.product, w.channel, keep)
		})
	})
}
