package update

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Apply puts the staged update in place of the installed version, which it keeps. The staged files are hashed once more
// first. The running process is not disturbed: the new version runs from the next start on, see [Updater.Restart],
// and is on trial until it is confirmed.
//
// Errors: [ErrNotStaged]; [*BusyError]; [*ManagedError]; a [*VerifyError] if somebody changed the staged files; a
// [*StateError]. After any error the old version is in place.
func (u *Updater) Apply(ctx context.Context, up *Update) error {
	release, err := u.lock(ctx)
	if err != nil {
		return err
	}
	defer release()
	j, err := u.readJournal()
	if err != nil {
		return err
	}
	if err := u.mayApply(j, up); err != nil {
		return err
	}
	err = u.apply(j)
	if err != nil {
		u.log.Warn("apply failed", "to", up.Release.Version, "cause", err)
		u.event(EventFailed, map[string]string{"stage": "apply", "code": errorClass(err), "to": up.Release.Version})
		return err
	}
	u.log.Info("applied", "from", u.cfg.Version, "to", up.Release.Version)
	u.event(EventApplied, map[string]string{"from": u.cfg.Version, "to": up.Release.Version})
	return nil
}

func (u *Updater) mayApply(j *journal, up *Update) error {
	switch j.Phase {
	case applying, trial, reverting:
		return &BusyError{Phase: string(j.Phase), Version: j.To.Version}
	}
	if up == nil || j.Phase != staged || j.To.Manifest != up.Release.Manifest.SHA256 {
		return ErrNotStaged
	}
	if by := u.managedBy(); by != "" {
		return &ManagedError{By: by}
	}
	return nil
}

// ErrNotStaged says that Apply was called for an update that Stage has not prepared.
var ErrNotStaged = errors.New("update: apply: this update is not staged: call Stage first")

// A ManagedError says that somebody else looks after this installation: a package manager, or another user.
type ManagedError struct{ By string }

func (e *ManagedError) Error() string {
	return "update: this installation is looked after by " + e.By + ": update it there"
}

func (u *Updater) apply(j *journal) error {
	digest, err := u.installer.Digest(j.Staged.Path)
	if err == nil && digest != j.Staged.Digest {
		err = fmt.Errorf("has digest %s, %s was staged", digest, j.Staged.Digest)
	}
	if err != nil {
		bad := &VerifyError{File: j.Staged.Path, Err: err}
		_ = os.RemoveAll(filepath.Dir(j.Staged.Path))
		j.Phase, j.To, j.Staged = idle, nil, nil
		return errors.Join(bad, u.writeJournal(j))
	}
	from := version{Version: u.cfg.Version}
	if from.Digest, err = u.installer.Digest(""); err != nil {
		return &StateError{u.program, err}
	}
	if j.Current != nil && j.Current.Digest == from.Digest {
		from = *j.Current
	}
	j.Phase, j.From, j.Previous = applying, &from, nil
	if err := u.writeJournal(j); err != nil {
		return err
	}
	if err := u.installer.Exchange(j.Staged.Path, u.path(previousName)); err != nil {
		_, again := u.settleApplying(j)
		return errors.Join(&StateError{u.program, err}, again)
	}
	return u.beginTrial(j)
}

func (u *Updater) beginTrial(j *journal) error {
	folder := filepath.Dir(j.Staged.Path)
	j.Phase, j.Staged, j.Starts = trial, nil, 0
	if err := u.writeJournal(j); err != nil {
		return err
	}
	_ = os.RemoveAll(folder)
	return nil
}

// settleApplying decides what an interrupted exchange has come to, by looking at what is in place.
func (u *Updater) settleApplying(j *journal) (applied bool, err error) {
	digest, err := u.installer.Digest("")
	if err != nil {
		return false, &StateError{u.program, err}
	}
	switch digest {
	case j.To.Digest:
		return true, u.beginTrial(j)
	case j.From.Digest:
		j.Phase, j.From = staged, nil
	default: // somebody else has put a version of his own in place
		j.Phase, j.From, j.To, j.Staged, j.Current = idle, nil, nil, nil, nil
	}
	return false, u.writeJournal(j)
}

// Confirm ends the trial of the running version: it works. Without a trial it does nothing. The version before stays
// for [Updater.Rollback] until the next update.
func (u *Updater) Confirm(ctx context.Context) error {
	release, err := u.lock(ctx)
	if err != nil {
		return err
	}
	defer release()
	j, err := u.readJournal()
	if err != nil || j.Phase != trial || !u.isRunning(j.To) {
		return err
	}
	from, to := j.From, j.To
	j.Phase, j.Current, j.Previous, j.From, j.To, j.Starts = idle, to, from, nil, nil, 0
	if err := u.writeJournal(j); err != nil {
		return err
	}
	u.endTrial()
	u.log.Info("confirmed", "from", from.Version, "to", to.Version)
	u.event(EventConfirmed, map[string]string{"from": from.Version, "to": to.Version})
	return nil
}

// Rollback puts the version before the running one back in place, and never installs the running one's release
// again. It needs no network. reason is for the log. Call [Updater.Restart] afterwards.
//
// The error is a [*NoPreviousError] if there is no version to go back to, or it is no longer what it was.
func (u *Updater) Rollback(ctx context.Context, reason string) error {
	release, err := u.lock(ctx)
	if err != nil {
		return err
	}
	defer release()
	j, err := u.readJournal()
	if err != nil {
		return err
	}
	switch {
	case j.Phase == trial && u.isRunning(j.To):
	case (j.Phase == idle || j.Phase == staged) && j.Previous != nil && j.Current != nil && u.isRunning(j.Current):
		j.From, j.To, j.Staged = j.Previous, j.Current, nil
	default:
		return &NoPreviousError{Reason: "no update was installed before the running version"}
	}
	u.log.Warn("rolling back", "from", j.To.Version, "to", j.From.Version, "reason", reason)
	return u.revert(j, "app")
}

// A NoPreviousError says why there is no going back.
type NoPreviousError struct{ Reason string }

func (e *NoPreviousError) Error() string { return "update: cannot roll back: " + e.Reason }

// revert goes back from j.To to j.From, durably deciding first.
func (u *Updater) revert(j *journal, reason string) error {
	j.Phase, j.Reason = reverting, reason
	if err := u.writeJournal(j); err != nil {
		return err
	}
	return u.finishRevert(j)
}

// finishRevert does what an interruption may have left undone of a revert. It may be repeated.
func (u *Updater) finishRevert(j *journal) error {
	from, to, reason := j.From, j.To, j.Reason
	err := u.exchangeBack(from)
	var none *NoPreviousError
	if err != nil && !errors.As(err, &none) {
		return err // try again at the next start
	}
	j.Phase, j.From, j.To, j.Starts, j.Reason, j.Previous = idle, nil, nil, 0, "", nil
	if none != nil { // there is nothing but the new version: keep it and stop asking
		j.Current = to
		u.event(EventFailed, map[string]string{"stage": "rollback", "code": "no_previous", "to": to.Version})
	} else {
		j.Current = from
		j.noteFailure(*to, reason, true, u.cfg.Now())
		u.event(EventRolledBack, map[string]string{"from": to.Version, "to": from.Version, "code": reason})
		u.log.Warn("rolled back", "from", to.Version, "to", from.Version, "reason", reason)
	}
	u.endTrial()
	return errors.Join(err, u.writeJournal(j), os.RemoveAll(u.path(failedName)))
}

func (u *Updater) exchangeBack(from *version) error {
	digest, err := u.installer.Digest("")
	if err == nil && digest == from.Digest {
		return nil
	}
	previous := u.path(previousName)
	digest, err = u.installer.Digest(previous)
	switch {
	case err != nil:
		return &NoPreviousError{Reason: fmt.Sprintf("version %s was not kept: %v", from.Version, err)}
	case digest != from.Digest:
		return &NoPreviousError{Reason: fmt.Sprintf("what was kept of version %s has digest %s, not %s", from.Version, digest, from.Digest)}
	}
	if err := u.installer.Exchange(previous, u.path(failedName)); err != nil {
		return &StateError{u.program, err}
	}
	return nil
}

// isRunning reports whether this process is v. The version is the one compiled in, never the one wished for.
func (u *Updater) isRunning(v *version) bool {
	return strings.TrimPrefix(u.cfg.Version, "v") == v.Version
}
