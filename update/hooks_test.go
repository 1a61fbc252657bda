package update_test

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/update"
)

func TestBeforeApply(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	var calls []string
	var fails error
	m := newMachine(t, v, "1.0.0", func(c *update.Config) {
		c.Hooks.BeforeApply = func(_ context.Context, from, to string) error {
			calls = append(calls, from+" to "+to)
			return fails
		}
	})
	u := m.start()
	d := check(t, u)
	require.NoError(t, u.Stage(t.Context(), d.Update, nil))
	require.Empty(t, calls)
	before, err := os.ReadFile(update.JournalPath(u))
	require.NoError(t, err)

	fails = errors.New("the data cannot be saved")
	err = u.Apply(t.Context(), d.Update)
	var hook *update.HookError
	require.ErrorAs(t, err, &hook)
	require.Equal(t, "BeforeApply", hook.Hook)
	require.ErrorIs(t, err, fails)
	require.Equal(t, "1.0.0", m.version())
	after, err := os.ReadFile(update.JournalPath(u))
	require.NoError(t, err)
	require.Equal(t, string(before), string(after))

	fails = nil
	require.NoError(t, u.Apply(t.Context(), d.Update), "it is still staged")
	require.Equal(t, []string{"1.0.0 to 1.1.0", "1.0.0 to 1.1.0"}, calls)
}

func TestAfterRollback(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	var calls []string
	var fails error
	m := newMachine(t, v, "1.0.0", func(c *update.Config) {
		c.Hooks.AfterRollback = func(_ context.Context, from, to string) error {
			calls = append(calls, c.Version+": from "+from+" to "+to)
			return fails
		}
	})
	m.updateTo(m.start(), "1.1.0")
	for range 3 {
		die(m, m.start())
	}
	fails = errors.New("the data cannot be restored")
	u := m.process() // of 1.1.0, which goes back
	next, err := u.Start(t.Context())
	require.NoError(t, err)
	require.Equal(t, update.Restart, next)
	require.Empty(t, calls, "the version that was left does not know the old data")
	for range 2 {
		next, err = m.process().Start(t.Context())
		require.Equal(t, update.Continue, next)
		var hook *update.HookError
		require.ErrorAs(t, err, &hook)
		require.Equal(t, "AfterRollback", hook.Hook)
	}
	fails = nil
	m.start()
	m.start()
	told := "1.0.0: from 1.1.0 to 1.0.0"
	require.Equal(t, []string{told, told, told}, calls, "until it succeeds, and no longer")
}

// A version that is not healthy goes back, but an app whose check never passes does not leave every release.
func TestHealthyHasALimitedVeto(t *testing.T) {
	v := newVendor(t)
	asked := 0
	sick := errors.New("the database does not answer")
	m := newMachine(t, v, "1.0.0", func(c *update.Config) {
		c.Trial.Healthy = 5 * time.Millisecond
		c.Hooks.Healthy = func(context.Context) error { asked++; return sick }
	})
	release := func(version string) {
		v.now = v.now.Add(time.Minute)
		v.release(version, program(version))
	}
	for _, version := range []string{"1.1.0", "1.2.0", "1.3.0"} {
		release(version)
		old := m.start()
		m.updateTo(old, version)
		u := m.start()
		asked = 0
		require.ErrorIs(t, u.Run(t.Context(), update.Schedule{}), update.ErrApplied)
		require.Equal(t, 3, asked)
		require.Equal(t, "1.0.0", m.version())
		require.Contains(t, m.events, "update.rolled_back health")
		die(m, u)
	}
	release("1.4.0")
	m.updateTo(m.start(), "1.4.0")
	ctx, cancel := withCause(t)
	enough := errors.New("enough")
	u := m.start()
	require.ErrorIs(t, u.Run(ctx, update.Schedule{Every: time.Millisecond, Approve: func(context.Context, update.Decision) bool {
		cancel(enough)
		return false
	}}), enough)
	require.Equal(t, "1.4.0", m.version(), "something else is broken than the release")
	require.Contains(t, m.events, "update.failed veto_spent")
	require.Contains(t, m.events, "update.confirmed ")
}

func TestHealthyIsAskedAgain(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	var asked atomic.Int32
	m := newMachine(t, v, "1.0.0", func(c *update.Config) {
		c.Trial.Healthy = 20 * time.Millisecond
		c.Hooks.Healthy = func(ctx context.Context) error {
			if asked.Add(1) == 1 {
				<-ctx.Done() // it hangs
			}
			return ctx.Err()
		}
	})
	m.updateTo(m.start(), "1.1.0")
	ctx, cancel := withCause(t)
	enough := errors.New("enough")
	require.ErrorIs(t, m.start().Run(ctx, update.Schedule{Every: time.Millisecond, Approve: func(context.Context, update.Decision) bool {
		cancel(enough)
		return false
	}}), enough)
	require.EqualValues(t, 2, asked.Load())
	require.Equal(t, "1.1.0", m.version())
	require.Contains(t, m.events, "update.confirmed ")
}
