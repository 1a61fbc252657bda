package update_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/update"
)

// dying is an installer whose process dies just before or just after the exchange: it panics, and the test goes on as
// the next process.
type dying struct {
	update.Executable
	after bool
	err   error // fail instead of dying
}

var errDied = errors.New("died")

func (d dying) Exchange(next, digest, prev string) error {
	if d.err != nil {
		return d.err
	}
	if d.after {
		if err := d.Executable.Exchange(next, digest, prev); err != nil {
			return err
		}
	}
	panic(errDied)
}

// mustDie calls f, which must die in an exchange.
func mustDie(t *testing.T, f func()) {
	t.Helper()
	defer func() { require.Equal(t, errDied, recover()) }()
	f()
}

func (m *machine) dyingProcess(d dying) *update.Updater {
	d.Executable = update.Executable{Path: m.program}
	return m.process(func(c *update.Config) {
		c.Installer, c.Dir = d, filepath.Join(filepath.Dir(m.program), ".notes.fairlead")
	})
}

func TestDiesWhileApplying(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	for _, after := range []bool{false, true} {
		m := newMachine(t, v, "1.0.0")
		u := m.dyingProcess(dying{after: after})
		d := check(t, u)
		require.NoError(t, u.Stage(t.Context(), d.Update, nil))
		mustDie(t, func() { _ = u.Apply(t.Context(), d.Update) })
		u = m.start()
		if after {
			require.Equal(t, "1.1.0", m.version())
		} else {
			require.Equal(t, "1.0.0", m.version())
			d = check(t, u)
			require.NoError(t, u.Apply(t.Context(), d.Update), "it is still staged")
			u = m.start()
		}
		require.NoError(t, u.Confirm(t.Context()))
		require.NoError(t, u.Rollback(t.Context(), "test"))
		require.Equal(t, "1.0.0", m.version())
	}
}

func TestDiesWhileReverting(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	for _, after := range []bool{false, true} {
		m := newMachine(t, v, "1.0.0")
		m.updateTo(m.start(), "1.1.0")
		die(m, m.start())
		u := m.dyingProcess(dying{after: after})
		mustDie(t, func() { _ = u.Rollback(t.Context(), "test") })
		// A process that starts now is of whatever version is in place; it finishes the revert.
		u = m.start()
		require.Equal(t, "1.0.0", m.version())
		require.Equal(t, update.Withheld, check(t, u).Outcome, "the bad version is quarantined")
		left, err := filepath.Glob(filepath.Join(update.Dir(u), "failed*"))
		require.NoError(t, err)
		require.Empty(t, left)
	}
}

func TestExchangeFails(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	m := newMachine(t, v, "1.0.0")
	full := errors.New("no space left")
	u := m.dyingProcess(dying{err: full})
	d := check(t, u)
	require.NoError(t, u.Stage(t.Context(), d.Update, nil))
	err := u.Apply(t.Context(), d.Update)
	require.ErrorIs(t, err, full)
	var state *update.StateError
	require.ErrorAs(t, err, &state)
	require.Equal(t, "1.0.0", m.version())
	require.NoError(t, m.start().Apply(t.Context(), d.Update), "it is still staged")

	u = m.dyingProcess(dying{err: full})
	require.ErrorIs(t, u.Rollback(t.Context(), "test"), full)
	require.Equal(t, "1.1.0", m.version())
	m.start()
	require.Equal(t, "1.0.0", m.version(), "the next start tries again")
}

// What a crash leaves in the updater's folder does not pile up.
func TestLeftoversAreSwept(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	m := newMachine(t, v, "1.0.0")
	u := m.start()
	m.updateTo(u, "1.1.0")
	junk := []string{".tmp-1", "failed", "previous.new", "staging/new-old/notes", "staging/" + digest([]byte("x")) + ".part"}
	for _, name := range junk {
		path := filepath.Join(update.Dir(u), filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte("junk"), 0o600))
	}
	u = m.start()
	require.NoError(t, u.Confirm(t.Context()))
	v.release("1.2.0", program("1.2.0"))
	m.updateTo(u, "1.2.0")
	for _, name := range junk {
		require.NoFileExists(t, filepath.Join(update.Dir(u), filepath.FromSlash(name)))
	}
	entries, err := os.ReadDir(filepath.Join(update.Dir(u), "staging"))
	require.NoError(t, err)
	require.Empty(t, entries)
}
