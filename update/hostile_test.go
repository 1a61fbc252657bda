package update_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/tufrepo"
	"github.com/fairlead-dev/fairlead/update"
)

// writeJournal puts a journal in place as somebody could who can write to the folder: its checksum is right.
func writeJournal(t *testing.T, u *update.Updater, format string, journal any) {
	t.Helper()
	body, err := json.Marshal(journal)
	require.NoError(t, err)
	sum := sha256.Sum256(body)
	head := "fairlead journal " + format + " " + hex.EncodeToString(sum[:]) + "\n"
	require.NoError(t, os.MkdirAll(update.Dir(u), 0o700))
	require.NoError(t, os.WriteFile(update.JournalPath(u), append([]byte(head), body...), 0o600))
}

// A journal that says that something else is staged does not get it installed: the digest comes from the signature.
func TestForgedStaged(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	m := newMachine(t, v, "1.0.0")
	u := m.start()
	d := check(t, u)
	evil := program("6.6.6")
	staged := filepath.Join(update.Dir(u), "staging", "new-evil")
	require.NoError(t, os.MkdirAll(staged, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(staged, "notes"), evil, 0o755))
	forge := func(folder, path string) {
		writeJournal(t, u, "1", map[string]any{
			"phase": "staged", "folder": folder, "staged": map[string]string{"path": path, "program": path, "digest": digest(evil)},
			"to": map[string]string{"version": "1.1.0", "manifest": d.Update.Release.Manifest.SHA256, "digest": digest(evil)},
		})
	}
	forge("new-evil", "notes")
	require.ErrorIs(t, u.Apply(t.Context(), d.Update), update.ErrNotStaged)
	require.NoError(t, u.Stage(t.Context(), d.Update, nil))
	require.NoError(t, u.Apply(t.Context(), d.Update))
	require.Equal(t, "1.1.0", m.version())

	m = newMachine(t, v, "1.0.0")
	u = m.start()
	forge("..", "../../evil")
	require.Equal(t, "1.0.0", m.version())
	m.updateTo(m.start(), "1.1.0")
}

// A process that has been overtaken by another, or by hand, installs nothing.
func TestOldProcess(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	t.Run("by another process", func(t *testing.T) {
		m := newMachine(t, v, "1.0.0")
		old := m.start()
		d := check(t, old)
		require.NoError(t, old.Stage(t.Context(), d.Update, nil))
		m.updateTo(m.start(), "1.1.0")
		u := m.start()
		require.NoError(t, u.Confirm(t.Context()))
		require.Equal(t, update.RestartPending, check(t, old).Outcome)
		require.ErrorIs(t, old.Stage(t.Context(), d.Update, nil), update.ErrReplaced)
		require.ErrorIs(t, old.Apply(t.Context(), d.Update), update.ErrReplaced)
		require.NoError(t, u.Rollback(t.Context(), "the way back is still there"))
	})
	t.Run("by hand", func(t *testing.T) {
		m := newMachine(t, v, "1.0.0")
		old := m.start()
		d := check(t, old)
		require.NoError(t, os.WriteFile(m.program, program("1.5.0"), 0o755))
		require.ErrorIs(t, old.Stage(t.Context(), d.Update, nil), update.ErrReplaced)
		require.Equal(t, "1.5.0", m.version())
	})
}

// What failed since the check is not installed.
func TestQuarantinedSinceTheCheck(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	m := newMachine(t, v, "1.0.0")
	u := m.start()
	d := check(t, u)
	m.updateTo(u, "1.1.0")
	u = m.start()
	require.NoError(t, u.Rollback(t.Context(), "test"))
	u = m.start()
	var bad *update.QuarantinedError
	require.ErrorAs(t, u.Stage(t.Context(), d.Update, nil), &bad)
	require.ErrorAs(t, u.Apply(t.Context(), d.Update), &bad)
}

// A release that is withdrawn while the user makes up his mind is not installed.
func TestRunAsksAgain(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	m := newMachine(t, v, "1.0.0")
	ctx, cancel := withCause(t)
	asked := 0
	err := m.start().Run(ctx, update.Schedule{Every: time.Millisecond, Approve: func(context.Context, update.Decision) bool {
		if asked++; asked == 1 {
			v.now = v.now.Add(time.Minute)
			v.edit(func(r *tufrepo.Repo) error {
				_, err := r.Withdraw("notes", "stable", "1.1.0", "broken", "")
				return err
			})
			return true
		}
		cancel(errors.New("enough"))
		return true
	}})
	require.ErrorContains(t, err, "enough")
	require.Equal(t, "1.0.0", m.version())
}

func TestVersionIsNormalised(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	m := newMachine(t, v, "v1.0.0+build5")
	m.updateTo(m.start(), "1.1.0")
	u := m.start()
	require.NoError(t, u.Rollback(t.Context(), "test"))
	next, err := m.process().Start(t.Context())
	require.NoError(t, err)
	require.Equal(t, update.Continue, next)
}

// What a newer version of the library has written is left alone.
func TestNewerJournal(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	m := newMachine(t, v, "1.0.0")
	u := m.start()
	writeJournal(t, u, "2", map[string]any{"phase": "something new"})
	before, err := os.ReadFile(update.JournalPath(u))
	require.NoError(t, err)
	next, err := u.Start(t.Context())
	require.Equal(t, update.Continue, next)
	var newer *channel.NewerFormatError
	require.ErrorAs(t, err, &newer)
	_, err = u.Check(t.Context())
	require.ErrorAs(t, err, &newer)
	after, err := os.ReadFile(update.JournalPath(u))
	require.NoError(t, err)
	require.Equal(t, before, after)
}

func TestNoMirrors(t *testing.T) {
	v := newVendor(t)
	m := newMachine(t, v, "1.0.0")
	_, err := update.New(update.Config{Product: "notes", Channel: "stable", Version: "1.0.0", Root: v.root(), Source: update.Mirrors(), Installer: update.Executable{Path: m.program}})
	var bad *update.ConfigError
	require.ErrorAs(t, err, &bad)
	require.Equal(t, "Source", bad.Field)
}

// Another name planted for the partial file is not written through, nor becomes a way to change the program afterwards.
func TestPlantedLink(t *testing.T) {
	v := newVendor(t)
	content := program("1.1.0")
	v.release("1.1.0", content)
	for name, plant := range map[string]func(oldname, newname string) error{"symbolic": os.Symlink, "hard": os.Link} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, v, "1.0.0")
			u := m.start()
			d := check(t, u)
			victim := filepath.Join(filepath.Dir(m.program), "victim")
			require.NoError(t, os.WriteFile(victim, []byte("precious"), 0o600))
			staging := filepath.Join(update.Dir(u), "staging")
			require.NoError(t, os.MkdirAll(staging, 0o700))
			require.NoError(t, plant(victim, filepath.Join(staging, digest(content)+".part")))
			require.NoError(t, u.Stage(t.Context(), d.Update, nil))
			got, err := os.ReadFile(victim)
			require.NoError(t, err)
			require.Equal(t, "precious", string(got))
		})
	}
}

// A mirror that trickles is left for the next one.
func TestTrickle(t *testing.T) {
	v := newVendor(t)
	content := bytes.Repeat(program("1.1.0"), 100)
	v.release("1.1.0", content)
	honest := update.FS(os.DirFS(v.dir))
	trickle := wrapBlobs(honest, func(r io.Reader) io.Reader { return trickleReader{r} })
	m := newMachine(t, v, "1.0.0", func(c *update.Config) {
		c.Source, c.Trust.StallTimeout = update.Mirrors(trickle, honest), 200*time.Millisecond
	})
	u := m.start()
	d := check(t, u)
	began := time.Now()
	require.NoError(t, u.Stage(t.Context(), d.Update, nil))
	require.Less(t, time.Since(began), 10*time.Second, "at that rate it would take 13 s")
}

// trickleReader delivers a byte every 5 ms: never a silence, never a file.
type trickleReader struct{ r io.Reader }

func (s trickleReader) Read(p []byte) (int, error) {
	time.Sleep(5 * time.Millisecond)
	return s.r.Read(p[:1])
}

// Somebody installs a version by hand while going back was still to be finished.
func TestReplacedByHandDuringRevert(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	m := newMachine(t, v, "1.0.0")
	m.updateTo(m.start(), "1.1.0")
	m.start()
	u := m.dyingProcess(dying{err: errors.New("no space left")})
	require.Error(t, u.Rollback(t.Context(), "test"))
	require.NoError(t, os.WriteFile(m.program, program("1.3.0"), 0o755))
	m.start()
	require.Equal(t, "1.3.0", m.version())
}

func TestConfirmLeavesNoTrace(t *testing.T) {
	v := newVendor(t)
	m := newMachine(t, v, "1.0.0")
	u := m.start()
	require.NoError(t, u.Confirm(t.Context()))
	var none *update.NoPreviousError
	require.ErrorAs(t, u.Rollback(t.Context(), "test"), &none)
	require.NoError(t, u.Succeeded(t.Context()))
	require.NoDirExists(t, update.Dir(u))
}
