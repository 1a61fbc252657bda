package update_test

import (
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/tufrepo"
	"github.com/fairlead-dev/fairlead/update"
)

// vendor publishes real, signed releases into a folder.
type vendor struct {
	t      testing.TB
	dir    string // the repository
	now    time.Time
	signer *tufrepo.Signer
	more   []*tufrepo.Signer // of other roles
	key    crypto.Signer

	patches tufrepo.PatchPolicy // none, unless a test says otherwise
}

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func newVendor(t *testing.T) *vendor { return newVendorTB(t) }

func newVendorTB(t testing.TB, change ...func(*vendor, *tufrepo.CreateConfig)) *vendor {
	t.Helper()
	key, err := tufrepo.GenerateKey("ed25519")
	require.NoError(t, err)
	signer, err := tufrepo.NewSigner(key)
	require.NoError(t, err)
	v := &vendor{t: t, dir: t.TempDir(), now: start, signer: signer, key: key, patches: tufrepo.PatchPolicy{From: -1}}
	keys := v.keys()
	cfg := tufrepo.CreateConfig{Root: keys, Targets: keys, Snapshot: keys, Timestamp: keys, Now: v.clock}
	for _, c := range change {
		c(v, &cfg)
	}
	repo, err := tufrepo.Create(t.Context(), tufrepo.Dir(v.dir), cfg, v.signers()...)
	require.NoError(t, err)
	require.NoError(t, repo.AddChannel("notes", "stable", keys, tufrepo.DefaultPolicy("notes.stable")))
	_, err = repo.Commit(t.Context(), signer)
	require.NoError(t, err)
	return v
}

func (v *vendor) keys() tufrepo.RoleKeys {
	return tufrepo.RoleKeys{Keys: []tufrepo.PublicKey{v.signer.Public()}, Threshold: 1}
}

func (v *vendor) signers() []*tufrepo.Signer { return append([]*tufrepo.Signer{v.signer}, v.more...) }

func (v *vendor) clock() time.Time { return v.now }

func (v *vendor) root() []byte {
	v.t.Helper()
	root, err := os.ReadFile(filepath.Join(v.dir, "metadata", "1.root.json"))
	require.NoError(v.t, err)
	return root
}

// edit opens the repository, changes it and commits.
func (v *vendor) edit(change func(*tufrepo.Repo) error) {
	v.t.Helper()
	repo, err := tufrepo.Open(v.t.Context(), tufrepo.Dir(v.dir), tufrepo.OpenConfig{Now: v.clock, Patches: v.patches})
	require.NoError(v.t, err)
	require.NoError(v.t, change(repo))
	_, err = repo.Commit(v.t.Context(), v.signers()...)
	require.NoError(v.t, err)
}

// release publishes content as the program of that version, for this platform.
func (v *vendor) release(version string, content []byte, change ...func(*tufrepo.NewRelease)) {
	v.t.Helper()
	path := filepath.Join(v.t.TempDir(), "notes")
	require.NoError(v.t, os.WriteFile(path, content, 0o755))
	v.releaseFile(version, path, change...)
}

func (v *vendor) releaseFile(version, path string, change ...func(*tufrepo.NewRelease)) {
	v.t.Helper()
	n := tufrepo.NewRelease{Version: version, Artifacts: []tufrepo.NewArtifact{{Platform: thisPlatform(v.t), Path: path}}}
	for _, c := range change {
		c(&n)
	}
	v.edit(func(r *tufrepo.Repo) error {
		_, err := r.Release(v.t.Context(), "notes", "stable", n)
		return err
	})
}

// manyReleases publishes 1.0.0, 1.1.0 and so on, all in one commit.
func (v *vendor) manyReleases(n int) {
	v.t.Helper()
	path := filepath.Join(v.t.TempDir(), "notes")
	require.NoError(v.t, os.WriteFile(path, program("many"), 0o755))
	v.edit(func(r *tufrepo.Repo) error {
		for i := range n {
			_, err := r.Release(v.t.Context(), "notes", "stable", tufrepo.NewRelease{
				Version: fmt.Sprintf("1.%d.0", i), Artifacts: []tufrepo.NewArtifact{{Platform: thisPlatform(v.t), Path: path}},
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// machine is one installation: a program in a folder, updated by this process in the program's name.
type machine struct {
	t       *testing.T
	vendor  *vendor
	dir     string // with everything
	program string
	now     time.Time
	change  []func(*update.Config)
	events  []string

	reporting sync.Mutex                // of events
	updates   map[string]*update.Update // found before

	unmanaged bool // see update.Unmanaged
}

// program returns the content of a pretended program, which says its version to whoever asks.
func program(version string) []byte { return []byte("#!/bin/false\nversion=" + version + "\n") }

func newMachine(t *testing.T, v *vendor, version string, change ...func(*update.Config)) *machine {
	t.Helper()
	dir := t.TempDir()
	m := &machine{t: t, vendor: v, dir: dir, program: filepath.Join(dir, "notes"), now: v.now.Add(time.Hour), change: change}
	require.NoError(t, os.WriteFile(m.program, program(version), 0o755))
	return m
}

// version is the version of the program in place.
func (m *machine) version() string {
	m.t.Helper()
	data, err := os.ReadFile(m.inPlace())
	require.NoError(m.t, err, "there is no program")
	_, v, found := strings.Cut(string(data), "version=")
	require.True(m.t, found, "the program is not whole")
	v, found = strings.CutSuffix(v, "\n")
	require.True(m.t, found, "the program is not whole")
	return v
}

// process makes an updater as a fresh process of the program in place would.
func (m *machine) process(change ...func(*update.Config)) *update.Updater {
	m.t.Helper()
	cfg := m.config(m.version(), change...)
	u, err := update.New(cfg)
	require.NoError(m.t, err)
	if m.unmanaged {
		update.Unmanaged(u)
	}
	m.t.Cleanup(func() { die(m, u) })
	return u
}

func (m *machine) config(version string, change ...func(*update.Config)) update.Config {
	cfg := update.Config{
		Product: "notes", Channel: "stable", Version: version, Root: m.vendor.root(), Source: update.FS(os.DirFS(m.vendor.dir)),
		Installer: update.Executable{Path: m.program}, Now: func() time.Time { return m.now }, Reporter: m,
		Trial: update.Trial{InsecureSkipProbe: true},
	}
	for _, c := range append(m.change, change...) {
		c(&cfg)
	}
	return cfg
}

func (m *machine) Event(name string, fields map[string]string) {
	m.reporting.Lock() // some tests check from several goroutines
	defer m.reporting.Unlock()
	m.events = append(m.events, name+" "+fields["code"]+fields["outcome"])
}

// start runs a fresh process up to and including Start; if it must restart, the next one as well.
func (m *machine) start() *update.Updater {
	m.t.Helper()
	for range 3 {
		u := m.process()
		next, err := u.Start(m.t.Context())
		require.NoError(m.t, err)
		if next == update.Continue {
			return u
		}
		require.Equal(m.t, update.Restart, next)
	}
	m.t.Fatal("restarts for ever")
	return nil
}

// die ends a pretended process: what the system would release is released.
func die(m *machine, u *update.Updater) { update.ReleaseTrial(u) }

// updateTo checks, stages and applies, and expects that version to be in place afterwards.
func (m *machine) updateTo(u *update.Updater, version string) {
	m.t.Helper()
	d, err := u.Check(m.t.Context())
	require.NoError(m.t, err)
	require.Equal(m.t, update.Available, d.Outcome, d.String())
	require.Equal(m.t, version, d.Update.Release.Version)
	require.NoError(m.t, u.Stage(m.t.Context(), d.Update, nil))
	require.NoError(m.t, u.Apply(m.t.Context(), d.Update))
	require.Equal(m.t, version, m.version())
}

func check(t *testing.T, u *update.Updater) update.Decision {
	t.Helper()
	d, err := u.Check(t.Context())
	require.NoError(t, err)
	return d
}

func thisPlatform(t testing.TB) channel.Platform {
	t.Helper()
	h := update.Host()
	p, err := channel.ParsePlatform(h.OS + "/" + h.Arch)
	require.NoError(t, err)
	return p
}
