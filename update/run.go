package update

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// A Schedule says how Run works. Its zero value checks every six hours and installs what it finds.
type Schedule struct {
	Every time.Duration // between checks, ± 20 %; 0: six hours
	// Paused is asked before every check and every download; while it returns true nothing is done. nil: never.
	Paused func() bool
	// Approve is called with the decision of every scheduled check, failed ones too; an available update is installed
	// if it returns true. It may take its time, such as a user's: the repository is asked again afterwards. nil: yes.
	Approve func(context.Context, Decision) bool
	// Progress is passed to Stage.
	Progress func(Progress)
}

// ErrApplied is what Run returns when another version is in place, a newer one or, after Hooks.Healthy has failed, the
// one before: finish the work at hand and call [Updater.Restart].
var ErrApplied = errors.New("update: another version is in place: restart into it")

const (
	defaultEvery = 6 * time.Hour
	longestEvery = 366 * 24 * time.Hour
	firstWithin  = time.Minute     // the first check comes within this, so that a fleet does not wake as one
	retryFirst   = 1 * time.Minute // after a failure; doubles up to Every
)

// Run looks after updates in the background until ctx ends or another version is in place. First, if the running version
// is on trial, it confirms it once it has run for Trial.Healthy and Hooks.Healthy agrees. Then it checks, stages and applies by schedule;
// failures are retried with growing delays.
//
// It returns ErrApplied, or ctx's error. Calling it again after ErrApplied without a restart is of no use.
func (u *Updater) Run(ctx context.Context, s Schedule) error {
	if s.Every <= 0 {
		s.Every = defaultEvery
	}
	s.Every = min(s.Every, longestEvery)
	if err := u.endTrialHealthy(ctx); err != nil {
		return err
	}
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval, retry.Multiplier = min(retryFirst, s.Every), s.Every, 2
	wait := time.Duration(rand.Int64N(int64(min(firstWithin, s.Every)) + 1))
	for {
		u.confirm(ctx)
		if err := sleep(ctx, wait); err != nil {
			return err
		}
		err := u.turn(ctx, s)
		switch {
		case errors.Is(err, ErrApplied):
			return err
		case err != nil:
			u.log.Info("no luck this time", "cause", err)
			wait = retry.NextBackOff()
		default:
			retry.Reset()
			wait = s.Every/5*4 + time.Duration(rand.Int64N(int64(s.Every/5*2)+1))
		}
	}
}

// turn does one check and what follows from it.
func (u *Updater) turn(ctx context.Context, s Schedule) error {
	paused := func() bool { return s.Paused != nil && s.Paused() }
	if paused() {
		return nil
	}
	d, err := u.Check(ctx)
	if d.Outcome == RestartPending {
		return ErrApplied
	}
	approved := s.Approve == nil || s.Approve(ctx, d)
	if err != nil {
		return err
	}
	if d.Outcome != Available || !approved || paused() {
		return nil
	}
	if err := u.Stage(ctx, d.Update, s.Progress); err != nil {
		return err
	}
	// Approving and downloading may have taken hours: it may have been withdrawn, or the licence have ended.
	again, err := u.Check(ctx)
	if err != nil {
		return err
	}
	if again.Outcome != Available || again.Update.Release.Manifest != d.Update.Release.Manifest {
		return nil
	}
	if err := u.Apply(ctx, again.Update); err != nil {
		return err
	}
	return ErrApplied
}

func (u *Updater) onTrial() bool {
	j, err := u.readJournal()
	return err == nil && j.Phase == trial && u.isRunning(j.To)
}

// endTrialHealthy waits until a version on trial has run for long enough and is healthy, and confirms it. If it is not
// healthy, and stays so, it goes back.
func (u *Updater) endTrialHealthy(ctx context.Context) error {
	if u.cfg.Trial.Healthy < 0 || !u.onTrial() {
		return nil
	}
	for asked := 1; ; asked++ {
		if err := sleep(ctx, u.cfg.Trial.Healthy); err != nil {
			return err
		}
		err := u.askHealthy(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			u.confirm(ctx)
			return nil
		case asked >= u.cfg.Trial.Starts:
			return u.veto(ctx, err)
		}
		u.log.Warn("the new version is not healthy", "asked", asked, "of", u.cfg.Trial.Starts, "cause", err)
	}
}

// askHealthy asks the app's hook, which has as long for an answer as the version had to run. One that hangs is an error.
func (u *Updater) askHealthy(ctx context.Context) error {
	hook := u.cfg.Hooks.Healthy
	if hook == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, u.cfg.Trial.Healthy)
	defer cancel()
	answer := make(chan error, 1)
	go func() { answer <- hook(ctx) }()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

const maxVetoes = 3

// veto goes back from a version that is not healthy. After three in a row it does not: whatever is wrong, other releases
// do not mend it, and a machine that leaves every update would stay without any.
func (u *Updater) veto(ctx context.Context, cause error) error {
	j, err := u.readJournal()
	if err != nil {
		return err
	}
	if j.Vetoes >= maxVetoes {
		u.log.Warn("not healthy either, but confirmed: the last releases that were not healthy have been left, and it did not help", "cause", cause)
		u.event(EventFailed, map[string]string{"stage": "health", "code": "veto_spent", "to": u.cfg.Version})
		u.confirm(ctx)
		return nil
	}
	err = u.rollback(ctx, fmt.Sprintf("Hooks.Healthy: %v", cause), reasonHealth)
	var none *NoPreviousError
	if errors.As(err, &none) { // somebody else has decided, or there is nothing to go back to
		u.log.Warn("not healthy", "cause", cause, "but", err)
		return nil
	}
	if err != nil {
		return err
	}
	return ErrApplied
}

// confirm confirms a version on trial. If that fails, the next turn tries again.
func (u *Updater) confirm(ctx context.Context) {
	if u.cfg.Trial.Healthy < 0 || !u.onTrial() {
		return
	}
	if err := u.Confirm(ctx); err != nil {
		u.log.Warn("confirming failed, and is tried again", "cause", err)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
