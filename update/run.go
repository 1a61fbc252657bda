package update

import (
	"context"
	"errors"
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

// ErrApplied is what Run returns when a new version is in place: finish the work at hand and call [Updater.Restart].
var ErrApplied = errors.New("update: a new version is in place: restart into it")

const (
	defaultEvery = 6 * time.Hour
	longestEvery = 366 * 24 * time.Hour
	firstWithin  = time.Minute     // the first check comes within this, so that a fleet does not wake as one
	retryFirst   = 1 * time.Minute // after a failure; doubles up to Every
)

// Run looks after updates in the background until ctx ends or a new version is in place. First, if the running version
// is on trial, it confirms it once it has run for Trial.Healthy. Then it checks, stages and applies by schedule;
// failures are retried with growing delays.
//
// It returns ErrApplied, or ctx's error. Calling it again after ErrApplied without a restart is of no use.
func (u *Updater) Run(ctx context.Context, s Schedule) error {
	if s.Every <= 0 {
		s.Every = defaultEvery
	}
	s.Every = min(s.Every, longestEvery)
	healthy := time.Now().Add(u.cfg.Trial.Healthy)
	if u.onTrial() && u.cfg.Trial.Healthy > 0 {
		if err := sleep(ctx, u.cfg.Trial.Healthy); err != nil {
			return err
		}
	}
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval, retry.Multiplier = min(retryFirst, s.Every), s.Every, 2
	wait := time.Duration(rand.Int64N(int64(min(firstWithin, s.Every)) + 1))
	for {
		u.confirmHealthy(ctx, healthy)
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

// confirmHealthy confirms a version on trial that has run for long enough. If that fails, the next turn tries again.
func (u *Updater) confirmHealthy(ctx context.Context, when time.Time) {
	if u.cfg.Trial.Healthy < 0 || !u.onTrial() || time.Now().Before(when) {
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
