package update

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/fairlead-dev/fairlead/internal/filelock"
)

// Next is what main has to do after Start.
type Next int

// What main has to do.
const (
	Continue Next = iota // go on: this is the version to run
	Exit                 // return at once: this start was only the probe of a staged build
	Restart              // call Updater.Restart: the previous version has been put back in place of this one
)

// Start is the first thing that main calls, before any work and any output. It finishes or undoes what an
// interruption has left, counts the starts of a version on trial, and goes back to the version before when there have
// been too many without a Confirm. It does no network and takes milliseconds.
//
// What fails before Start is not caught: parse flags and read configuration afterwards, or judge their errors afterwards.
// The probe calls the program without arguments.
//
// The error never means that the app cannot run: with Continue it may log it and go on. If the app runs as a user who
// may not change the installation, Start does nothing and returns Continue.
func (u *Updater) Start(ctx context.Context) (Next, error) {
	if nonce, ok := os.LookupEnv(probeVariable); ok {
		return Exit, u.answerProbe(nonce)
	}
	patience, cancel := context.WithTimeout(ctx, startPatience) // a program must not hang because another one does
	defer cancel()
	j, release, err := u.openJournal(patience)
	if err != nil || j == nil { // never updated: leave no trace
		return Continue, notOurs(err)
	}
	defer release()
	next, err := u.settle(j)
	if next != Continue {
		return next, err
	}
	u.hold()
	u.tidy(j)
	return Continue, errors.Join(err, u.tellUndone(ctx, j))
}

// hold marks the version that runs as in use, as far as this user may.
func (u *Updater) hold() {
	h, ok := u.installer.(holder)
	if !ok {
		return
	}
	if release, err := h.Hold(); err == nil {
		u.mu.Lock()
		u.held = append(u.held, holdOpen(release))
		u.mu.Unlock()
	}
}

// tellUndone runs the hook for a rollback, once it has succeeded never again.
func (u *Updater) tellUndone(ctx context.Context, j *journal) error {
	if j.Undone == nil || (j.Current != nil && !u.isRunning(j.Current)) {
		return nil
	}
	if hook := u.cfg.Hooks.AfterRollback; hook != nil {
		if err := hook(ctx, j.Undone.From, j.Undone.To); err != nil {
			return &HookError{"AfterRollback", err}
		}
	}
	j.Undone = nil
	return u.writeJournal(j)
}

const startPatience = 5 * time.Second

// notOurs passes over that this user may not change the installation.
func notOurs(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}

// settle brings the installation from whatever phase it was left in to the one it belongs in.
func (u *Updater) settle(j *journal) (Next, error) {
	if j.Phase == applying {
		if applied, err := u.settleApplying(j); err != nil || !applied {
			return Continue, err
		}
	}
	switch j.Phase {
	case trial:
		return u.settleTrial(j)
	case reverting:
		err := u.finishRevert(j)
		return u.afterRevert(j), err
	}
	return Continue, nil
}

func (u *Updater) afterRevert(j *journal) Next {
	if j.Phase == idle && j.Current != nil && !u.isRunning(j.Current) {
		return Restart
	}
	return Continue
}

// settleTrial counts this start, durably, before the app's own code runs.
func (u *Updater) settleTrial(j *journal) (Next, error) {
	// What is in place now is what this process was started from.
	digest, err := u.inPlace(j.From, previousName)
	if err != nil {
		return Continue, err
	}
	u.mu.Lock()
	u.running = digest
	u.mu.Unlock()
	if digest != j.To.Digest {
		u.adopt(j)
		return Continue, u.writeJournal(j)
	}
	// While one process of the version on trial lives, further ones (windows, short commands) prove nothing.
	held, err := filelock.TryLock(u.path("trial.lock"))
	if errors.Is(err, filelock.ErrHeld) {
		return Continue, nil
	}
	if err != nil {
		return Continue, &StateError{u.path("trial.lock"), err}
	}
	if j.Starts >= u.cfg.Trial.Starts {
		held()
		u.log.Warn("the new version was started too often without being confirmed", "version", j.To.Version, "starts", j.Starts)
		err := u.revert(j, reasonTrial)
		return u.afterRevert(j), err
	}
	j.Starts++
	if err := u.writeJournal(j); err != nil {
		held()
		return Continue, err
	}
	u.holdTrial(held)
	u.log.Info("on trial", "version", j.To.Version, "start", j.Starts, "of", u.cfg.Trial.Starts)
	return Continue, nil
}

// Succeeded says that this run of the program has ended well, before its trial was decided: the start then does not
// count against the version on trial. Call it at the successful end of main, never in a defer that an error passes
// through: a program that fails on its data fails in order, too. Without a trial it does nothing.
func (u *Updater) Succeeded(ctx context.Context) error {
	u.mu.Lock()
	onTrial := u.heldTrial != nil
	u.mu.Unlock()
	if !onTrial {
		return nil
	}
	defer u.endTrial()
	return u.change(ctx, func(j *journal) error {
		if j.Phase == trial && u.isRunning(j.To) && j.Starts > 0 {
			j.Starts--
		}
		return nil
	})
}

// holdTrial holds the lock of the trial until Confirm or the end of the process.
func (u *Updater) holdTrial(release func()) {
	u.mu.Lock()
	u.heldTrial = holdOpen(release)
	u.mu.Unlock()
}

// holdOpen keeps a lock even if the app drops the Updater: an open file that nobody refers to would be closed.
func holdOpen(release func()) (end func()) {
	ending, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		<-ending
		release()
	}()
	return func() { close(ending); <-ended }
}

func (u *Updater) endTrial() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.heldTrial != nil {
		u.heldTrial()
		u.heldTrial = nil
	}
}
