package update

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
)

// Apply puts the staged update in place of the installed version, which it keeps. The staged files are hashed once more
// first. The running process is not disturbed: the new version runs from the next start on, see [Updater.Restart],
// and is on trial until it is confirmed.
//
// Apply does not ask the repository again: if time has passed since Check, check once more and compare.
//
// Errors: [ErrNotStaged], [ErrReplaced], [*BusyError], [*PreflightError], [*QuarantinedError], [*HookError]; a
// [*VerifyError] if somebody changed the staged files; a [*StateError]. After an error the old version is in place, unless it came from writing
// down that the new one is: then Start finishes the work.
func (u *Updater) Apply(ctx context.Context, up *Update) error {
	j, release, err := u.lockJournal(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := u.mayApply(ctx, j, up); err != nil {
		return err
	}
	if hook := u.cfg.Hooks.BeforeApply; hook != nil {
		if err := hook(ctx, u.cfg.Version, up.Release.Version); err != nil {
			return &HookError{"BeforeApply", err}
		}
	}
	err = u.apply(j, up)
	if err != nil {
		u.log.Warn("apply failed", "to", up.Release.Version, "cause", err)
		u.event(EventFailed, map[string]string{"stage": "apply", "code": errorClass(err), "to": up.Release.Version})
		return err
	}
	u.log.Info("applied", "from", u.cfg.Version, "to", up.Release.Version)
	u.event(EventApplied, map[string]string{"from": u.cfg.Version, "to": up.Release.Version})
	return nil
}

func (u *Updater) mayApply(ctx context.Context, j *journal, up *Update) error {
	if up == nil {
		return ErrNotStaged
	}
	if err := u.mayInstall(j, up); err != nil {
		return err
	}
	if !u.names(j, up) {
		return ErrNotStaged
	}
	return u.preflight(context.WithoutCancel(ctx), nil)
}

// ErrNotStaged says that Apply was called for an update that Stage has not prepared.
var ErrNotStaged = errors.New("update: apply: this update is not staged: call Stage first")

func (u *Updater) apply(j *journal, up *Update) error {
	next := u.stagedPath(j, j.Staged.Path)
	from := version{Version: u.cfg.Version}
	var err error
	if from.Digest, err = u.installer.Digest(""); err != nil {
		return &StateError{u.program(), err}
	}
	if from.Digest == j.To.Digest {
		return ErrReplaced // it is in place already
	}
	if j.Current != nil && j.Current.Digest == from.Digest {
		from = *j.Current
	}
	if err := u.noteLeftRecord(up, from.Digest); err != nil {
		return err
	}
	j.Phase, j.From = applying, &from
	if err := u.writeJournal(j); err != nil {
		return err
	}
	if j.Previous != nil {
		if err := u.setAside(previousName, j.Previous.Digest); err != nil {
			return err
		}
	}
	exchangeErr := u.installer.Exchange(next, j.To.Digest, u.path(previousName))
	if exchangeErr == nil {
		return u.beginTrial(j)
	}
	applied, err := u.settleApplying(j)
	if applied && err == nil {
		u.log.Warn("the new version is in place, though not everything about it went well", "cause", exchangeErr)
		return nil
	}
	var wrong *VerifyError
	if errors.As(exchangeErr, &wrong) {
		return errors.Join(exchangeErr, err, u.unstage(j))
	}
	return errors.Join(&StateError{u.program(), exchangeErr}, err)
}

// unstage forgets what is staged.
func (u *Updater) unstage(j *journal) error {
	folder := j.Folder
	j.Phase, j.To, j.Staged, j.Folder = idle, nil, nil, ""
	return errors.Join(u.writeJournal(j), u.disk.RemoveAll(u.path(stagingName, folder)))
}

// setAside renames what is needed no more, so that its name is free. tidy removes it.
func (u *Updater) setAside(name, digest string) error {
	err := u.disk.RemoveAll(u.path(gonePrefix + digest))
	if err == nil {
		err = u.disk.Rename(u.path(name), u.path(gonePrefix+digest))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err = errors.Join(err, u.disk.SyncDir(u.dir)); err != nil {
		return &StateError{u.path(name), err}
	}
	return nil
}

func (u *Updater) beginTrial(j *journal) error {
	folder := j.Folder
	j.Phase, j.Staged, j.Folder, j.Previous, j.Starts = trial, nil, "", nil, 0
	if err := u.writeJournal(j); err != nil {
		return err
	}
	_ = u.disk.RemoveAll(u.path(stagingName, folder))
	return nil
}

// settleApplying decides what an interrupted exchange has come to, by looking at what is in place.
func (u *Updater) settleApplying(j *journal) (applied bool, err error) {
	digest, err := u.inPlace(j.From, previousName)
	if err != nil {
		return false, err
	}
	switch digest {
	case j.To.Digest:
		if s, ok := u.installer.(settler); ok {
			if err := s.Settle(u.stagedPath(j, j.Staged.Path), u.path(previousName)); err != nil {
				return true, &StateError{u.program(), err}
			}
		}
		return true, u.beginTrial(j)
	case j.From.Digest:
		u.takeBack(j)
		j.Phase, j.From = staged, nil
	default:
		u.adopt(j)
	}
	return false, u.writeJournal(j)
}

// takeBack gives the version before its name again, which was set aside for an exchange that did not happen.
func (u *Updater) takeBack(j *journal) {
	if j.Previous == nil {
		return
	}
	aside, previous := u.path(gonePrefix+j.Previous.Digest), u.path(previousName)
	if _, err := u.disk.Lstat(aside); err == nil {
		err = errors.Join(u.disk.RemoveAll(previous), u.disk.Rename(aside, previous), u.disk.SyncDir(u.dir))
		if err != nil {
			u.log.Warn("the version before was not kept", "version", j.Previous.Version, "cause", err)
			j.Previous = nil
		}
	}
}

// inPlace returns the digest of what is in place. If nothing is, somebody deleted it, or a crash came between two renames:
// then v comes back, if it is at kept.
func (u *Updater) inPlace(v *version, kept string) (digest string, err error) {
	digest, err = u.installer.Digest("")
	if errors.Is(err, fs.ErrNotExist) {
		u.log.Warn("nothing is in place; putting back what was kept", "version", v.Version)
		if err = u.installer.Exchange(u.path(kept), v.Digest, u.path(failedName)); err == nil {
			digest, err = u.installer.Digest("")
		}
	}
	if err != nil {
		return "", &StateError{u.program(), err}
	}
	return digest, nil
}

// adopt follows somebody who has put a version of his own in place: what was under way has ended.
func (u *Updater) adopt(j *journal) {
	u.log.Info("another version was put in place by hand; the update under way has ended")
	*j = journal{Phase: idle, Failures: j.Failures, Vetoes: j.Vetoes}
}

// Confirm ends the trial of the running version: it works. Without a trial it does nothing. The version before stays
// for [Updater.Rollback] until the next update.
func (u *Updater) Confirm(ctx context.Context) error {
	j, release, err := u.openJournal(ctx)
	if err != nil || j == nil {
		return notOurs(err)
	}
	defer release()
	if j.Phase != trial || !u.isRunning(j.To) {
		u.endTrial() // another process may have decided it
		return nil
	}
	from, to := j.From, j.To
	j.Phase, j.Current, j.Previous, j.From, j.To, j.Starts, j.Vetoes, j.Patches = idle, to, from, nil, nil, 0, 0, nil
	if err := u.writeJournal(j); err != nil {
		return err
	}
	u.endTrial()
	u.tidy(j)
	u.log.Info("confirmed", "from", from.Version, "to", to.Version)
	u.event(EventConfirmed, map[string]string{"from": from.Version, "to": to.Version})
	return nil
}

// Rollback puts the version before the running one back in place, and never installs the running one's release
// again. It needs no network. reason is for the log. Call [Updater.Restart] afterwards.
//
// The error is a [*NoPreviousError] if there is no version to go back to, or it is no longer what it was.
func (u *Updater) Rollback(ctx context.Context, reason string) error {
	return u.rollback(ctx, reason, reasonApp)
}

// rollback is Rollback with the code that is reported.
func (u *Updater) rollback(ctx context.Context, reason, code string) error {
	j, release, err := u.openJournal(ctx)
	if err != nil {
		return err
	}
	none := &NoPreviousError{Reason: "no update was installed before the running version"}
	if j == nil {
		return none
	}
	defer release()
	switch {
	case j.Phase == trial && u.isRunning(j.To):
	case (j.Phase == idle || j.Phase == staged) && j.Previous != nil && j.Current != nil && u.isRunning(j.Current):
		j.From, j.To, j.Staged = j.Previous, j.Current, nil
	default:
		return none
	}
	u.log.Warn("rolling back", "from", j.To.Version, "to", j.From.Version, "reason", reason)
	return u.revert(j, code)
}

// openJournal is lockJournal, but nil if there is no journal, and then it makes nothing.
func (u *Updater) openJournal(ctx context.Context) (j *journal, release func(), err error) {
	if _, err := u.disk.Lstat(u.path(journalName)); errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	return u.lockJournal(ctx)
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
	err := u.exchangeBack(from, to)
	if errors.Is(err, errByHand) {
		u.adopt(j)
		u.endTrial()
		return u.writeJournal(j)
	}
	var none *NoPreviousError
	if err != nil && !errors.As(err, &none) {
		return err // try again at the next start
	}
	j.Phase, j.From, j.To, j.Starts, j.Reason, j.Previous = idle, nil, nil, 0, "", nil
	if none != nil { // there is nothing but the new version: keep it and stop asking
		j.Current = to
		u.event(EventFailed, map[string]string{"stage": "rollback", "code": "no_previous", "to": to.Version})
	} else {
		j.Current, j.Undone = from, &undone{From: to.Version, To: from.Version}
		j.noteFailure(*to, reason, true, u.cfg.Now())
		if reason == reasonHealth {
			j.Vetoes++
		}
		u.event(EventRolledBack, map[string]string{"from": to.Version, "to": from.Version, "code": reason})
		u.log.Warn("rolled back", "from", to.Version, "to", from.Version, "reason", reason)
	}
	u.endTrial()
	if werr := u.writeJournal(j); werr != nil {
		return errors.Join(err, werr)
	}
	if none == nil {
		err = u.setAside(failedName, to.Digest)
	}
	u.tidy(j)
	return err
}

// Reasons for going back, as EventRolledBack tells them.
const (
	reasonTrial  = "trial"  // too many starts that were not confirmed
	reasonApp    = "app"    // Rollback was called
	reasonHealth = "health" // Hooks.Healthy said so
)

var errByHand = errors.New("what is in place is neither version")

func (u *Updater) exchangeBack(from, to *version) error {
	digest, err := u.inPlace(from, previousName)
	switch {
	case err != nil:
		return err
	case digest == from.Digest:
		if s, ok := u.installer.(settler); ok {
			err = s.Settle(u.path(previousName), u.path(failedName))
		}
	case digest != to.Digest:
		return errByHand
	default:
		err = u.installer.Exchange(u.path(previousName), from.Digest, u.path(failedName))
		var wrong *VerifyError
		if errors.As(err, &wrong) {
			return &NoPreviousError{Reason: fmt.Sprintf("what was kept of version %s cannot be used: %v", from.Version, wrong.Err)}
		}
	}
	if err != nil {
		return &StateError{u.program(), err}
	}
	return nil
}

// isRunning reports whether this process is v: by the version compiled in, never the one wished for, or by what was in
// place when the process began.
func (u *Updater) isRunning(v *version) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.cfg.Version == v.Version || (u.running != "" && u.running == v.Digest)
}
