package update

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/trust"
	"github.com/fairlead-dev/fairlead/license"
)

// An Outcome says what a check has found.
type Outcome string

// The outcomes of a check.
const (
	UpToDate       Outcome = "up_to_date"
	Available      Outcome = "available"       // Decision.Update is set
	Withheld       Outcome = "withheld"        // something newer is there, but not for this installation now; see Plan.NotAllowed
	Unknown        Outcome = "unknown"         // the running version is no semantic version, so nothing is decided
	Stale          Outcome = "stale"           // the repository's metadata has expired; nothing is known about newer versions
	Managed        Outcome = "managed"         // something newer is there, but it is not for us to install here; see Decision.Obstacle
	RestartPending Outcome = "restart_pending" // another version is in place already and waits for a restart
	Failed         Outcome = "failed"          // the check could not be made; the error says why
)

// A Decision is what Check returns. It explains itself, see [Decision.String].
type Decision struct {
	Outcome Outcome
	// Plan holds the steps, the best release allowed, the best one not allowed, and for every release passed over the
	// reason. Zero when the repository was not read.
	Plan channel.Plan
	// Update is what to stage: the first step of the plan. nil unless Outcome is Available or Managed.
	Update *Update
	// Staleness is how long the repository's timestamp had expired at the check; 0 when it had not.
	Staleness time.Duration
	// License is the licence as judged; the zero Status when Config.License is nil.
	License license.Status
	// NotCovered is why the licence does not cover the running version, see license.Status.CoversRunning; empty: it does, or
	// there is no saying, as the channel does not list it. Whatever it says, the app runs on.
	NotCovered []channel.Denial
	// LastCovered is the highest release that the licence includes, when it withholds Plan.NotAllowed; nil: none, or it
	// withholds nothing.
	LastCovered *channel.Release
	// Obstacle is why the update cannot be installed here: for good with outcome Managed, for now with Available (no
	// space, say). nil: nothing is known to stand in its way.
	Obstacle *PreflightError
	// Checked is the time of the check, as judged: never before the build or the last verified signature.
	Checked time.Time
	// Err is what Check returned as error.
	Err error
}

// An Update is one release on offer to this installation. Get it from [Updater.Check].
type Update struct {
	Release  channel.Release
	Manifest *channel.Manifest
	Artifact *channel.Artifact // for this platform
	Size     int64             // bytes of the whole artifact
	// Download is how many bytes Stage is likely to download: patches to the version in place, if there are any that are
	// worth it, or the whole. What has been downloaded before counts; 0: it is staged.
	Download int64

	patches *channel.Patches  // to this release, if they are known
	steps   []channel.Patch   // that are likely to be taken; nil: the whole artifact
	checked time.Time         // as judged
	running *channel.Artifact // of the version in place, if its file list is needed and known
}

// Check reads the repository and decides. It downloads signed metadata and, when there is something to install, the
// release's manifest and its list of patches, if it has one; it changes nothing but the trust store.
//
// The error is nil when a decision was made, whatever it is. With outcome Stale it is an [*ExpiredError]; with
// outcome Failed, a [*VerifyError], [*RollbackError], [*SourceError], [*StoreError], [*StateError] or
// [*NoChannelError], or one of package channel about the manifest. None of them means "no update", and none concerns the
// version that is installed.
func (u *Updater) Check(ctx context.Context) (Decision, error) {
	d := u.check(ctx)
	u.reportCheck(d)
	return d, d.Err
}

func (u *Updater) check(ctx context.Context) Decision {
	j, err := u.readJournal()
	if err != nil {
		return Decision{Outcome: Failed, Err: err, Checked: u.cfg.Now()}
	}
	if j.Phase == applying || (j.Phase == trial && !u.isRunning(j.To)) || u.isReplaced() {
		return Decision{Outcome: RestartPending, Checked: u.cfg.Now()}
	}
	view, err := u.trust.Refresh(ctx)
	if err != nil {
		return u.checkFailed(err)
	}
	u.updateLists(ctx, view)
	d := Decision{Staleness: view.Staleness(), Checked: view.Time()}
	if u.cfg.License != nil {
		d.License = u.cfg.License.Status(ctx, view.Time())
	}
	list, err := u.releases(ctx, view)
	if err == nil {
		d.Plan, err = u.resolve(list, j, d)
	}
	if err == nil && u.cfg.License != nil {
		u.coverage(list, &d)
	}
	if err == nil && len(d.Plan.Steps) > 0 {
		d.Update, err = u.prepare(ctx, view, d.Plan.Steps[0])
	}
	if err != nil {
		failed := u.checkFailed(err)
		failed.License, failed.Staleness = d.License, d.Staleness
		return failed
	}
	d.Outcome = Outcome(d.Plan.Outcome)
	if d.Update != nil {
		u.foresee(ctx, view, j, &d)
	}
	return d
}

// coverage says what the licence makes of the running version, and of what it withholds.
func (u *Updater) coverage(list []channel.Release, d *Decision) {
	if running := d.Plan.Running; running != nil {
		d.NotCovered = d.License.CoversRunning(u.cfg.Channel, *running).Denials
	}
	if n := d.Plan.NotAllowed; n == nil || d.License.AllowUpdate(u.cfg.Channel, u.cfg.Version, n.Release).Allowed {
		return
	}
	if last, ok := d.License.LastCovered(u.cfg.Channel, u.cfg.Version, list); ok {
		d.LastCovered = &last
	}
}

// foresee asks whether the update could be installed, and what it needs to know about the version in place.
func (u *Updater) foresee(ctx context.Context, view *trust.View, j *journal, d *Decision) {
	if errors.As(u.preflight(ctx, d.Update), &d.Obstacle) && d.Obstacle.Obstacle.lasts() {
		d.Outcome = Managed
		return
	}
	if _, ok := u.installer.(treeInstaller); ok && d.Plan.Running != nil && j.Current == nil {
		if running, err := u.prepare(ctx, view, *d.Plan.Running); err == nil {
			d.Update.running = running.Artifact
		}
	}
	if u.seemsStaged(j, d.Update) { // nothing is left to download, and what it takes is there
		d.Update.Download = 0
		if d.Obstacle != nil && d.Obstacle.Obstacle == NoSpace {
			d.Obstacle = nil
		}
		return
	}
	u.foreseePatches(ctx, j, d.Update)
	if d.Obstacle != nil && d.Obstacle.Obstacle == NoSpace && d.Update.steps != nil { // patches may need less
		d.Obstacle = nil
		_ = errors.As(u.preflight(ctx, d.Update), &d.Obstacle)
	}
}

// seemsStaged reports whether up is staged, without reading it.
func (u *Updater) seemsStaged(j *journal, up *Update) bool {
	if !u.names(j, up) {
		return false
	}
	_, err := u.disk.Lstat(u.stagedPath(j, j.Staged.Path))
	return err == nil
}

func (u *Updater) checkFailed(err error) Decision {
	d := Decision{Outcome: Failed, Err: err, Checked: u.cfg.Now()}
	var expired *ExpiredError
	if errors.As(err, &expired) {
		d.Outcome, d.Staleness = Stale, expired.Now.Sub(expired.Expired)
	}
	return d
}

// releases reads the channel's list. Whatever the channel's key signs, only paths of this product and channel count:
// the delegation already confines it, see trust.View.Role.
func (u *Updater) releases(ctx context.Context, view *trust.View) ([]channel.Release, error) {
	role := channel.RoleName(u.cfg.Product, u.cfg.Channel)
	targets, err := view.Role(ctx, role)
	if errors.Is(err, trust.ErrNotFound) {
		return nil, &NoChannelError{Product: u.cfg.Product, Channel: u.cfg.Channel}
	}
	if err != nil {
		return nil, err
	}
	list := make([]channel.Release, 0, len(targets))
	for _, t := range targets {
		version := path.Base(path.Dir(t.Path))
		if t.Path != channel.TargetPath(u.cfg.Product, u.cfg.Channel, version) {
			continue // not a release: some later format's business
		}
		list = append(list, channel.ParseRelease(version, t.Custom, channel.Blob{SHA256: t.SHA256, Length: t.Length}))
	}
	return list, nil
}

// A NoChannelError says that the repository has no such channel: a misspelt Config, or a channel that was closed.
type NoChannelError struct{ Product, Channel string }

func (e *NoChannelError) Error() string {
	return fmt.Sprintf("update: the repository has no channel %q of product %q: check Config.Product and Config.Channel", e.Channel, e.Product)
}

func (u *Updater) resolve(list []channel.Release, j *journal, d Decision) (channel.Plan, error) {
	id, err := u.installID()
	if err != nil {
		return channel.Plan{}, err
	}
	w := u.cfg.Wishes
	q := channel.Query{
		Product: u.cfg.Product, Running: u.cfg.Version, Host: host(), InstallID: id, Now: d.Checked,
		Pin: w.Pin, Constraint: w.Constraint, Skip: w.Skip, AcceptDowngrade: w.AcceptDowngrade,
		Quarantined: j.quarantined(d.Checked),
	}
	if u.cfg.License != nil {
		q.Permit = func(r channel.Release) *channel.Denial {
			verdict := d.License.AllowUpdate(u.cfg.Channel, u.cfg.Version, r)
			if verdict.Allowed {
				return nil
			}
			return &verdict.Denials[0]
		}
	}
	return channel.Resolve(list, q)
}

// prepare fetches the manifest behind a release and finds this platform's artifact.
func (u *Updater) prepare(ctx context.Context, view *trust.View, r channel.Release) (*Update, error) {
	target := trust.Target{
		Path: channel.TargetPath(u.cfg.Product, u.cfg.Channel, r.Version), Role: channel.RoleName(u.cfg.Product, u.cfg.Channel),
		Length: r.Manifest.Length, SHA256: r.Manifest.SHA256,
	}
	data, err := view.Fetch(ctx, target, channel.MaxManifest)
	if err != nil {
		return nil, err
	}
	m, err := channel.ParseManifest(data)
	if err != nil {
		return nil, fmt.Errorf("update: manifest of %s: %w", r.Version, err)
	}
	if m.Product != u.cfg.Product || m.Version != r.Version {
		return nil, &VerifyError{File: target.Path, Err: fmt.Errorf("the manifest is of %s %s", m.Product, m.Version)}
	}
	a, denial := m.For(host())
	if denial != nil {
		return nil, &VerifyError{File: target.Path, Err: fmt.Errorf("the channel lists this platform, the manifest does not: %s", denial.Detail)}
	}
	return &Update{Release: r, Manifest: m, Artifact: a, Size: a.Length, Download: a.Length, checked: view.Time()}, nil
}

// Notes fetches the release notes: at most 1 MiB of verified bytes, and their media type. Without notes it returns "".
func (u *Updater) Notes(ctx context.Context, up *Update) (text, mediaType string, err error) {
	n := up.Manifest.Notes
	if n == nil {
		return "", "", nil
	}
	var b strings.Builder
	if n.Length > 1<<20 {
		return "", "", &VerifyError{File: channel.BlobPath(n.SHA256), Err: errors.New("release notes of more than 1 MiB")}
	}
	if err := u.fetchNow(ctx, n.Blob, &b); err != nil {
		return "", "", err
	}
	return b.String(), n.MediaType, nil
}

// String explains the decision in a sentence or two, for logs, terminals and support.
func (d Decision) String() string {
	var b strings.Builder
	switch d.Outcome {
	case UpToDate:
		b.WriteString("up to date")
	case Available:
		fmt.Fprintf(&b, "version %s is available (%d bytes)", d.Plan.Target().Version, d.Update.Download)
		if len(d.Plan.Steps) > 1 {
			fmt.Fprintf(&b, ", in %d steps, the first to %s", len(d.Plan.Steps), d.Plan.Steps[0].Version)
		}
		if d.Plan.Downgrade {
			b.WriteString(", a step back: the running version was withdrawn or its channel left")
		}
		if d.Obstacle != nil {
			fmt.Fprintf(&b, ", but cannot be installed now: %s", d.Obstacle.reason())
		}
	case Managed:
		fmt.Fprintf(&b, "version %s is available, but cannot be installed from here: %s", d.Plan.Target().Version, d.Obstacle.reason())
	case Withheld:
		b.WriteString("nothing to install")
		if r := d.Plan.Running; r != nil && r.State == channel.Withdrawn {
			fmt.Fprintf(&b, ", though the running version %s was withdrawn (%s)", r.Version, r.Reason)
		}
	case Unknown:
		b.WriteString("the running version is not known, so nothing is installed")
	case Stale:
		fmt.Fprintf(&b, "the repository expired %s ago, so nothing is known about newer versions", d.Staleness.Round(time.Minute))
	case RestartPending:
		b.WriteString("another version is in place and waits for a restart")
	default:
		b.WriteString("the check failed: ")
		b.WriteString(fmt.Sprint(d.Err))
	}
	if n := d.Plan.NotAllowed; n != nil {
		fmt.Fprintf(&b, "; %s is withheld (%s): %s", n.Release.Version, n.Code, n.Detail)
	}
	if d.LastCovered != nil {
		fmt.Fprintf(&b, "; the highest version that the licence includes is %s", d.LastCovered.Version)
	}
	if len(d.NotCovered) > 0 {
		fmt.Fprintf(&b, "; the licence does not cover the running version (%s), which runs on", d.NotCovered[0].Code)
	}
	if d.Outcome != Stale && d.Staleness > 0 {
		fmt.Fprintf(&b, "; the repository is %s stale", d.Staleness.Round(time.Minute))
	}
	return b.String()
}
