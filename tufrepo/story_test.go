package tufrepo

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"github.com/fairlead-dev/fairlead/channel"
)

var epoch = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// A world is one repository in a folder, with real keys and a clock that the test turns.
type world struct {
	t     *testing.T
	dir   string // of the repository
	work  string // of the artifacts
	store Store
	now   time.Time
	keys  map[string]*Signer
	root  []byte
}

func newSigner(t testing.TB, algorithm string) *Signer {
	t.Helper()
	key, err := GenerateKey(algorithm)
	require.NoError(t, err)
	s, err := NewSigner(key)
	require.NoError(t, err)
	return s
}

func only(s *Signer) RoleKeys { return RoleKeys{Keys: []PublicKey{s.Public()}} }

// emptyWorld has keys, and no repository yet.
func emptyWorld(t *testing.T) *world {
	w := &world{t: t, dir: filepath.Join(t.TempDir(), "repo"), work: t.TempDir(), now: epoch, keys: map[string]*Signer{}}
	w.store = Dir(w.dir)
	for _, name := range []string{"root", "targets", "online", "stable", "beta", "license"} {
		algorithm := "ed25519"
		if name == "online" {
			algorithm = "ecdsa-p256"
		}
		w.keys[name] = newSigner(t, algorithm)
	}
	return w
}

// elsewhere is the same world with a copy of the repository.
func (w *world) elsewhere(t *testing.T) *world {
	c := *w
	c.t, c.dir, c.work, c.keys = t, filepath.Join(t.TempDir(), "repo"), t.TempDir(), maps.Clone(w.keys)
	c.store = Dir(c.dir)
	if _, err := os.Stat(w.dir); err == nil {
		require.NoError(t, os.CopyFS(c.dir, os.DirFS(w.dir)))
	}
	return &c
}

func (w *world) config() CreateConfig {
	return CreateConfig{Root: only(w.keys["root"]), Targets: only(w.keys["targets"]), Snapshot: only(w.keys["online"]),
		Timestamp: only(w.keys["online"]), License: only(w.keys["license"]), Now: w.clock}
}

func (w *world) clock() time.Time { return w.now }

func (w *world) all() []*Signer {
	var list []*Signer
	for _, s := range w.keys {
		list = append(list, s)
	}
	return list
}

// newWorld has product notes with channels stable and beta.
func newWorld(t *testing.T) *world {
	w := emptyWorld(t)
	r, err := Create(t.Context(), w.store, w.config(), w.all()...)
	require.NoError(t, err)
	require.NoError(t, r.AddChannel("notes", "stable", only(w.keys["stable"]), Policy{}))
	require.NoError(t, r.AddChannel("notes", "beta", only(w.keys["beta"]), Policy{}))
	_, err = r.Commit(t.Context(), w.all()...)
	require.NoError(t, err)
	w.root, err = os.ReadFile(filepath.Join(w.dir, "metadata", "1.root.json"))
	require.NoError(t, err)
	return w
}

func (w *world) open() *Repo {
	w.t.Helper()
	r, err := Open(w.t.Context(), w.store, OpenConfig{Root: w.root, Now: w.clock})
	require.NoError(w.t, err)
	return r
}

func (w *world) commit(r *Repo) CommitResult {
	w.t.Helper()
	res, err := r.Commit(w.t.Context(), w.all()...)
	require.NoError(w.t, err)
	return res
}

// file writes a file of the publisher's.
func (w *world) file(name string, content []byte) string {
	w.t.Helper()
	path := filepath.Join(w.work, name)
	require.NoError(w.t, os.WriteFile(path, content, 0o644))
	return path
}

var linux = channel.Platform{OS: "linux", Arch: "amd64"}

// release is one raw artifact for linux with the content given.
func (w *world) release(version, content string) NewRelease {
	w.t.Helper()
	return NewRelease{Version: version, Artifacts: []NewArtifact{{Platform: linux, Path: w.file("notes-"+version, []byte(content))}}}
}

// published has the release committed.
func (w *world) published(channelName string, n NewRelease) channel.Release {
	w.t.Helper()
	r := w.open()
	rel, err := r.Release(w.t.Context(), "notes", channelName, n)
	require.NoError(w.t, err)
	w.commit(r)
	return rel
}

// client reads the repository as go-tuf's own updater does, and returns what it finds under a target path.
func (w *world) client(root []byte, target string) ([]byte, error) {
	w.t.Helper()
	server := httptest.NewServer(http.FileServer(http.Dir(w.dir)))
	defer server.Close()
	cfg, err := config.New(server.URL+"/metadata", root)
	require.NoError(w.t, err)
	cfg.LocalMetadataDir, cfg.LocalTargetsDir, cfg.RemoteTargetsURL = w.t.TempDir(), w.t.TempDir(), server.URL+"/targets"
	up, err := updater.New(cfg)
	require.NoError(w.t, err)
	up.UnsafeSetRefTime(w.now)
	if err := up.Refresh(); err != nil {
		return nil, err
	}
	info, err := up.GetTargetInfo(target)
	if err != nil {
		return nil, err
	}
	_, data, err := up.DownloadTarget(info, "", "")
	return data, err
}

func tarGz(t testing.TB, members ...*tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	w := tar.NewWriter(z)
	for _, h := range members {
		content := []byte("content of " + h.Name)
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(content))
		}
		require.NoError(t, w.WriteHeader(h))
		if h.Typeflag == tar.TypeReg {
			_, err := w.Write(content)
			require.NoError(t, err)
		}
	}
	require.NoError(t, w.Close())
	require.NoError(t, z.Close())
	return buf.Bytes()
}

func zipped(t testing.TB, names ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for _, name := range names {
		f, err := z.Create(name)
		require.NoError(t, err)
		_, err = f.Write([]byte("content of " + name))
		require.NoError(t, err)
	}
	require.NoError(t, z.Close())
	return buf.Bytes()
}

func TestStory(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	archive := w.file("notes.tar.gz", tarGz(t,
		&tar.Header{Name: "./bin/", Typeflag: tar.TypeDir, Mode: 0o755},
		&tar.Header{Name: "./bin/notes", Typeflag: tar.TypeReg, Mode: 0o755},
		&tar.Header{Name: "./README", Typeflag: tar.TypeReg, Mode: 0o664}))
	first := NewRelease{
		Version: "1.0.0", Notes: &NewAttachment{Path: w.file("notes.md", []byte("# 1.0.0"))},
		Attachments: []NewAttachment{{Path: w.file("notes.spdx.json", []byte("{}"))}},
		Artifacts: []NewArtifact{
			{Platform: linux, Path: archive},
			{Platform: channel.Platform{OS: "windows", Arch: "amd64"}, Path: w.file("notes.zip", zipped(t, "notes.exe", "LICENSE.txt"))},
		},
	}

	r := w.open()
	rel, err := r.Release(ctx, "notes", "beta", first)
	require.NoError(t, err)
	require.Equal(t, int64(1), rel.Seq)
	require.Len(t, r.Changes(), 1)
	plan, err := r.Plan(w.all()...)
	require.NoError(t, err)
	require.Empty(t, plan.Missing)
	res := w.commit(r)
	require.Equal(t, plan.Roles, res.Roles)
	require.Equal(t, len(plan.Files), res.Files)
	require.Equal(t, plan.Upload, res.Uploaded)
	require.Empty(t, r.Changes())

	// What a client finds is what was released.
	data, err := w.client(w.root, "notes/beta/1.0.0/release.json")
	require.NoError(t, err)
	m, err := channel.ParseManifest(data)
	require.NoError(t, err)
	require.Equal(t, epoch, m.Published)
	require.Equal(t, "bin/notes", m.Artifacts[0].Executable)
	require.Equal(t, []channel.File{
		{Path: "README", Blob: blobOf([]byte("content of ./README")), Mode: 0o644},
		{Path: "bin/notes", Blob: blobOf([]byte("content of ./bin/notes")), Mode: 0o755}}, m.Artifacts[0].Files)
	require.Equal(t, "notes.exe", m.Artifacts[1].Executable)
	for _, b := range m.Blobs() {
		content, err := os.ReadFile(filepath.Join(w.dir, channel.BlobPath(b.SHA256)))
		require.NoError(t, err)
		require.Equal(t, b, blobOf(content))
	}

	// Promotion: the same manifest, nothing uploaded.
	w.now = w.now.Add(24 * time.Hour)
	ramp := &channel.Rollout{From: 1000, To: channel.Everybody, Start: w.now, Duration: 86400}
	promoted, err := r.Promote(t.Context(), "notes", "1.0.0", "beta", "stable", ramp)
	require.NoError(t, err)
	require.Equal(t, rel.Manifest, promoted.Manifest)
	require.Equal(t, rel.Published, promoted.Published)
	require.Zero(t, w.commit(r).Uploaded)
	there, err := w.client(w.root, "notes/stable/1.0.0/release.json")
	require.NoError(t, err)
	require.Equal(t, data, there)

	// The next release goes bad: held, offered, withdrawn.
	w.published("stable", w.release("1.1.0", "bad"))
	r = w.open()
	_, err = r.Hold("notes", "stable", "1.1.0", "crash reports")
	require.NoError(t, err)
	_, err = r.Offer("notes", "stable", "1.1.0")
	require.NoError(t, err)
	withdrawn, err := r.Withdraw("notes", "stable", "1.1.0", "loses data", "1.0.0")
	require.NoError(t, err)
	require.Equal(t, int64(2), withdrawn.Seq)
	w.commit(r)
	list, err := w.open().Releases("notes", "stable")
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.Equal(t, channel.Withdrawn, list[1].State)
	require.Equal(t, "1.0.0", list[1].RevertTo)
	require.Equal(t, ramp, list[0].Rollout)
	require.Equal(t, []string{"notes"}, r.Products())
	require.Equal(t, []string{"beta", "stable"}, r.Channels("notes"))

	// Licence files are targets, too.
	require.NoError(t, r.PutLicense("keyring.json", []byte(`{"v":1}`)))
	w.commit(r)
	keyring, err := w.client(w.root, "license/keyring.json")
	require.NoError(t, err)
	require.JSONEq(t, `{"v":1}`, string(keyring))
	again, err := w.open().License(ctx, "keyring.json")
	require.NoError(t, err)
	require.Equal(t, keyring, again)

	report, err := Verify(ctx, w.store, w.root, w.now)
	require.NoError(t, err)
	require.Empty(t, report.Findings)
	require.Equal(t, 3, report.Releases)
	require.Equal(t, 4, report.Manifests)
	require.Equal(t, 5, report.Blobs)
	require.Equal(t, 7, report.Roles)
}
