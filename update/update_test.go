package update_test

import (
	"bytes"
	"crypto/ed25519"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/license"
	"github.com/fairlead-dev/fairlead/tufrepo"
	"github.com/fairlead-dev/fairlead/update"
)

func TestUpdateConfirmRollback(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	m := newMachine(t, v, "1.0.0")
	u := m.start()
	require.NoDirExists(t, update.Dir(u), "a program that was never updated leaves no trace")

	m.updateTo(u, "1.1.0")
	require.Equal(t, update.RestartPending, check(t, u).Outcome, "the old process waits for its restart")

	u = m.start()
	require.NoError(t, u.Confirm(t.Context()))
	require.Equal(t, update.UpToDate, check(t, u).Outcome)

	require.NoError(t, u.Rollback(t.Context(), "the user wants it"))
	require.Equal(t, "1.0.0", m.version())
	u = m.start()
	d := check(t, u)
	require.Equal(t, update.Withheld, d.Outcome)
	require.Equal(t, channel.ReasonQuarantined, d.Plan.NotAllowed.Code)
	require.Equal(t, []string{
		"update.checked available", "update.staged ", "update.applied ", "update.checked restart_pending", "update.confirmed ",
		"update.checked up_to_date", "update.rolled_back app", "update.checked withheld", "update.withheld quarantined",
	}, m.events)
}

func TestTrialGoesBackByItself(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	m := newMachine(t, v, "1.0.0")
	m.updateTo(m.start(), "1.1.0")
	for range 3 {
		u := m.start()
		require.Equal(t, "1.1.0", m.version())
		die(m, u)
	}
	u := m.start() // the fourth start is one too many
	require.Equal(t, "1.0.0", m.version())
	require.Equal(t, channel.ReasonQuarantined, check(t, u).Plan.NotAllowed.Code, "it is not tried again")

	v.release("1.1.1", program("1.1.1"))
	m.updateTo(u, "1.1.1")
	u = m.start()
	require.NoError(t, u.Confirm(t.Context()))
	for range 10 {
		die(m, m.start())
	}
	require.Equal(t, "1.1.1", m.version(), "a confirmed version stays")
}

// While one process of the new version lives, further starts of it prove nothing against it.
func TestTrialCountsProcessesNotWindows(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	m := newMachine(t, v, "1.0.0")
	m.updateTo(m.start(), "1.1.0")
	first := m.start()
	for range 10 {
		m.start()
	}
	require.Equal(t, "1.1.0", m.version())
	require.NoError(t, first.Confirm(t.Context()))
}

// A run that went well proves nothing against the new version, however short it was.
func TestSuccessDoesNotCount(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	m := newMachine(t, v, "1.0.0")
	m.updateTo(m.start(), "1.1.0")
	for range 10 {
		u := m.start()
		require.NoError(t, u.Succeeded(t.Context()))
		require.NoError(t, u.Succeeded(t.Context()))
	}
	require.Equal(t, "1.1.0", m.version())
	for range 4 {
		die(m, m.start())
	}
	require.Equal(t, "1.0.0", m.version(), "crashes count")
}

// A release that fails its probe is tried three times, and again after a day.
func TestProbeFailuresBackOff(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", []byte("not a program"))
	m := newMachine(t, v, "1.0.0", func(c *update.Config) { c.Trial.InsecureSkipProbe = false })
	u := m.start()
	d := check(t, u)
	for range 3 {
		var failed *update.ProbeError
		require.ErrorAs(t, u.Stage(t.Context(), d.Update, nil), &failed)
	}
	d = check(t, u)
	require.Equal(t, channel.ReasonQuarantined, d.Plan.NotAllowed.Code)
	require.Equal(t, "it failed 3 times before it was installed (probe), and is tried again after 2026-11-02T13:00:00Z", d.Plan.NotAllowed.Detail)
	m.now = m.now.Add(25 * time.Hour)
	require.Equal(t, update.Available, check(t, u).Outcome)
}

func TestWithdrawnWithNowhereToGo(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	v.edit(func(r *tufrepo.Repo) error {
		_, err := r.Withdraw("notes", "stable", "1.1.0", "loses notes", "")
		return err
	})
	d := check(t, newMachine(t, v, "1.1.0").start())
	require.Equal(t, update.Withheld, d.Outcome)
	require.Equal(t, "nothing to install, though the running version 1.1.0 was withdrawn (loses notes)", d.String())
}

func TestWithdrawnGoesBack(t *testing.T) {
	v := newVendor(t)
	v.release("1.0.0", program("1.0.0"))
	v.release("1.1.0", program("1.1.0"))
	m := newMachine(t, v, "1.1.0")
	v.edit(func(r *tufrepo.Repo) error {
		_, err := r.Withdraw("notes", "stable", "1.1.0", "loses notes", "1.0.0")
		return err
	})
	u := m.start()
	d := check(t, u)
	require.True(t, d.Plan.Downgrade)
	m.updateTo(u, "1.0.0")
}

func TestSteppingStones(t *testing.T) {
	v := newVendor(t)
	v.release("1.5.0", program("1.5.0"))
	v.release("2.0.0", program("2.0.0"), func(n *tufrepo.NewRelease) { n.From = ">=1.5.0" })
	m := newMachine(t, v, "1.0.0")
	u := m.start()
	d := check(t, u)
	require.Len(t, d.Plan.Steps, 2)
	require.Contains(t, d.String(), "in 2 steps")
	m.updateTo(u, "1.5.0")
	u = m.start()
	require.NoError(t, u.Confirm(t.Context()))
	m.updateTo(u, "2.0.0")
}

func TestKeepsTheAdministratorsMode(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("which has no such modes")
	}
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	m := newMachine(t, v, "1.0.0")
	require.NoError(t, os.Chmod(m.program, 0o750))
	m.updateTo(m.start(), "1.1.0")
	info, err := os.Stat(m.program)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o750), info.Mode())
}

// Somebody changes the staged files between Stage and Apply.
func TestStagedFilesAreVerifiedAgain(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	m := newMachine(t, v, "1.0.0")
	u := m.start()
	d := check(t, u)
	require.NoError(t, u.Stage(t.Context(), d.Update, nil))
	files, err := filepath.Glob(filepath.Join(update.Dir(u), "staging", "new-*", "notes"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	require.NoError(t, os.WriteFile(files[0], []byte("evil"), 0o755))
	var wrong *update.VerifyError
	require.ErrorAs(t, u.Apply(t.Context(), d.Update), &wrong)
	require.Equal(t, "1.0.0", m.version())
	m.updateTo(u, "1.1.0")
}

func TestRollbackNeedsThePreviousVersion(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	for name, spoil := range map[string]func(path string) error{
		"missing": os.Remove,
		"changed": func(path string) error { return os.WriteFile(path, []byte("other"), 0o755) },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, v, "1.0.0")
			m.updateTo(m.start(), "1.1.0")
			u := m.start()
			require.NoError(t, spoil(filepath.Join(update.Dir(u), "previous")))
			var none *update.NoPreviousError
			require.ErrorAs(t, u.Rollback(t.Context(), "broken"), &none)
			require.Equal(t, "1.1.0", m.version(), "the new version is better than none")
			for range 5 {
				die(m, m.start())
			}
			require.Equal(t, "1.1.0", m.version())
		})
	}
	m := newMachine(t, v, "1.0.0")
	var none *update.NoPreviousError
	require.ErrorAs(t, m.start().Rollback(t.Context(), "x"), &none)
}

func TestApplyOutOfOrder(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	m := newMachine(t, v, "1.0.0")
	u := m.start()
	d := check(t, u)
	require.ErrorIs(t, u.Apply(t.Context(), d.Update), update.ErrNotStaged)
	require.ErrorIs(t, u.Apply(t.Context(), nil), update.ErrNotStaged)
	require.Error(t, u.Stage(t.Context(), nil, nil))
	require.NoError(t, u.Confirm(t.Context()), "without a trial it does nothing")
	m.updateTo(u, "1.1.0")
	v.release("1.2.0", program("1.2.0"))
	u = m.start()
	d = check(t, u)
	var busy *update.BusyError
	require.ErrorAs(t, u.Stage(t.Context(), d.Update, nil), &busy)
	require.ErrorAs(t, u.Apply(t.Context(), d.Update), &busy)
	require.NoError(t, u.Confirm(t.Context()))
	require.NoError(t, u.Stage(t.Context(), d.Update, nil))
}

// A damaged journal costs what it knew, never the program.
func TestDamagedJournal(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	for name, damage := range map[string]func(data []byte) []byte{
		"empty":     func([]byte) []byte { return nil },
		"truncated": func(d []byte) []byte { return d[:len(d)/2] },
		"zeroed":    func(d []byte) []byte { return make([]byte, len(d)) },
		"one bit":   func(d []byte) []byte { d[len(d)-5] ^= 1; return d },
		"one digit": func(d []byte) []byte {
			return bytes.Replace(d, []byte(`"version": "1.1.0"`), []byte(`"version": "1.1.1"`), 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, v, "1.0.0")
			u := m.start()
			m.updateTo(u, "1.1.0")
			data, err := os.ReadFile(update.JournalPath(u))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(update.JournalPath(u), damage(data), 0o600))
			u = m.start()
			require.Equal(t, "1.1.0", m.version())
			require.Equal(t, update.UpToDate, check(t, u).Outcome, "nothing of the journal is believed: there is no trial")
			require.NoError(t, u.Confirm(t.Context()))
			var none *update.NoPreviousError
			require.ErrorAs(t, u.Rollback(t.Context(), "test"), &none)
			v2 := newVendor(t)
			v2.release("1.2.0", program("1.2.0"))
			m.vendor = v2
			require.NoError(t, os.RemoveAll(filepath.Join(update.Dir(u), "trust")))
			m.updateTo(m.start(), "1.2.0")
		})
	}
}

func TestReplacedByHandDuringTrial(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	m := newMachine(t, v, "1.0.0")
	m.updateTo(m.start(), "1.1.0")
	require.NoError(t, os.WriteFile(m.program, program("1.0.5"), 0o755))
	for range 5 {
		die(m, m.start())
	}
	require.Equal(t, "1.0.5", m.version())
	m.updateTo(m.start(), "1.1.0")
}

func TestDecisionsThatInstallNothing(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	t.Run("dev", func(t *testing.T) {
		u := newMachine(t, v, "1.0.0", func(c *update.Config) { c.Version = "dev" }).start()
		d := check(t, u)
		require.Equal(t, update.Unknown, d.Outcome)
		require.Nil(t, d.Update)
	})
	t.Run("stale", func(t *testing.T) {
		m := newMachine(t, v, "1.0.0")
		m.now = start.Add(8 * 24 * time.Hour)
		d, err := m.start().Check(t.Context())
		require.Equal(t, update.Stale, d.Outcome)
		require.Equal(t, 24*time.Hour, d.Staleness)
		var expired *update.ExpiredError
		require.ErrorAs(t, err, &expired)
		require.Equal(t, "timestamp", expired.Role)
		d = check(t, m.process(func(c *update.Config) { c.Trust.MaxStaleness = 48 * time.Hour }))
		require.Equal(t, update.Available, d.Outcome)
		require.Equal(t, 24*time.Hour, d.Staleness)
		require.Contains(t, d.String(), "24h0m0s stale")
	})
	t.Run("unreachable", func(t *testing.T) {
		m := newMachine(t, v, "1.0.0", func(c *update.Config) { c.Source = update.FS(os.DirFS(t.TempDir())) })
		d, err := m.start().Check(t.Context())
		require.Equal(t, update.Failed, d.Outcome)
		var failed *update.SourceError
		require.ErrorAs(t, err, &failed)
	})
	t.Run("no such channel", func(t *testing.T) {
		m := newMachine(t, v, "1.0.0", func(c *update.Config) { c.Channel = "beta" })
		_, err := m.start().Check(t.Context())
		var none *update.NoChannelError
		require.ErrorAs(t, err, &none)
	})
	t.Run("managed", func(t *testing.T) {
		m := newMachine(t, v, "1.0.0")
		u := m.start()
		staged := check(t, u).Update
		require.NoError(t, u.Stage(t.Context(), staged, nil))
		require.NoError(t, os.WriteFile(m.program+".managed", []byte("acme-deb\n"), 0o644))
		d := check(t, u)
		require.Equal(t, update.Managed, d.Outcome)
		require.Equal(t, update.ManagedElsewhere, d.Obstacle.Obstacle)
		require.Equal(t, "acme-deb", d.Obstacle.By)
		require.Contains(t, d.String(), "this installation is looked after by acme-deb")
		for name, err := range map[string]error{"apply": u.Apply(t.Context(), staged), "preflight": u.Preflight(t.Context(), staged)} {
			var managed *update.PreflightError
			require.ErrorAs(t, err, &managed, name)
			require.Equal(t, update.ManagedElsewhere, managed.Obstacle)
		}
	})
}

// Tampered metadata changes nothing on disk but is told from a network failure.
func TestTamperedMetadata(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	m := newMachine(t, v, "1.0.0")
	u := m.start()
	require.Equal(t, update.Available, check(t, u).Outcome)
	v.now = v.now.Add(time.Hour)
	v.release("1.2.0", program("1.2.0"))
	path := filepath.Join(v.dir, "metadata", "timestamp.json")
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, bytes.Replace(data, []byte(`"version":`), []byte(`"version":9`), 1), 0o644))
	d, err := u.Check(t.Context())
	require.Equal(t, update.Failed, d.Outcome)
	var wrong *update.VerifyError
	require.ErrorAs(t, err, &wrong)
	require.NoError(t, os.WriteFile(path, data, 0o644))
	require.Equal(t, "1.2.0", check(t, u).Plan.Target().Version)
}

func TestNotes(t *testing.T) {
	v := newVendor(t)
	notes := filepath.Join(t.TempDir(), "notes.md")
	require.NoError(t, os.WriteFile(notes, []byte("# 1.1.0\nFaster.\n"), 0o644))
	v.release("1.1.0", program("1.1.0"), func(n *tufrepo.NewRelease) { n.Notes = &tufrepo.NewAttachment{Path: notes} })
	v.release("1.0.1", program("1.0.1"))
	m := newMachine(t, v, "1.0.0")
	u := m.start()
	text, mediaType, err := u.Notes(t.Context(), check(t, u).Update)
	require.NoError(t, err)
	require.Equal(t, "# 1.1.0\nFaster.\n", text)
	require.Equal(t, "text/markdown", mediaType)
	u = m.process(func(c *update.Config) { c.Wishes.Pin = "1.0.1" })
	text, _, err = u.Notes(t.Context(), check(t, u).Update)
	require.NoError(t, err)
	require.Empty(t, text)
}

func TestConfigRefusals(t *testing.T) {
	v := newVendor(t)
	m := newMachine(t, v, "1.0.0")
	for field, change := range map[string]func(*update.Config){
		"Product or Channel": func(c *update.Config) { c.Product = "No/tes" },
		"Root":               func(c *update.Config) { c.Root = []byte("{}") },
		"Source":             func(c *update.Config) { c.Source = nil },
		"Wishes":             func(c *update.Config) { c.Wishes.Constraint = "newest" },
		"Dir":                func(c *update.Config) { c.Installer = struct{ update.Installer }{c.Installer} },
		"Installer":          func(c *update.Config) { c.Installer = update.Executable{Path: "notes"} },
	} {
		cfg := update.Config{Product: "notes", Channel: "stable", Version: "1.0.0", Root: v.root(), Source: update.FS(os.DirFS(v.dir)), Installer: update.Executable{Path: m.program}}
		_, err := update.New(cfg)
		require.NoError(t, err)
		change(&cfg)
		_, err = update.New(cfg)
		var bad *update.ConfigError
		require.ErrorAs(t, err, &bad, field)
		require.Equal(t, field, bad.Field)
	}
}

// The licence decides, and is asked at every check anew.
func TestLicense(t *testing.T) {
	v := newVendor(t)
	v.release("1.1.0", program("1.1.0"))
	v.release("1.2.0", program("1.2.0"), func(n *tufrepo.NewRelease) { n.Requires = []string{"pro"} })
	v.release("2.0.0", program("2.0.0"))
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	keys, err := license.NewKeyring(license.Key{ID: "k", Public: public})
	require.NoError(t, err)
	verifier, err := license.NewVerifier(license.Config{Issuer: "acme", Product: "notes", Keys: keys})
	require.NoError(t, err)
	issuer, err := license.NewIssuer(private, "k", "acme")
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "license.jwt")
	issue := func(seq int64, entitlements map[string]any) {
		token, err := issuer.Issue(license.License{
			Audience: []string{"notes"}, Subject: "c", LicenseID: "L", Seq: seq, IssuedAt: start, Expires: start.AddDate(1, 0, 0),
			Versions: "<2.0.0", Entitlements: entitlements,
		})
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, token, 0o600))
	}
	m := newMachine(t, v, "1.0.0", func(c *update.Config) { c.License = license.FromFile(verifier, file) })
	u := m.start()
	d := check(t, u)
	require.Equal(t, update.Withheld, d.Outcome)
	require.Equal(t, license.Missing, d.License.State)
	require.Equal(t, channel.ReasonLicenseMissing, d.Plan.NotAllowed.Code)

	issue(1, nil)
	d = check(t, u)
	require.Equal(t, "1.1.0", d.Plan.Target().Version)
	require.Equal(t, "2.0.0", d.Plan.NotAllowed.Release.Version)
	require.Equal(t, channel.ReasonVersionOutOfRange, d.Plan.NotAllowed.Code)
	require.Equal(t, channel.ReasonEntitlementMissing, d.Plan.Skipped[1].Code)

	issue(2, map[string]any{"pro": true})
	require.Equal(t, "1.2.0", check(t, u).Plan.Target().Version)
	m.now = start.AddDate(0, 0, 1)
	require.NoError(t, os.WriteFile(file, []byte("garbage"), 0o600))
	d = check(t, u)
	require.Equal(t, channel.ReasonLicenseInvalid, d.Plan.NotAllowed.Code)
	require.Nil(t, d.Update)
}
