package update_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/stretchr/testify/require"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/fairlead-dev/fairlead/license"
	"github.com/fairlead-dev/fairlead/tufrepo"
	"github.com/fairlead-dev/fairlead/update"
)

// licensor is a vendor who sells licences, and publishes who may issue them and which do not count any more.
type licensor struct {
	*vendor
	site   *site
	issuer map[string]ed25519.PrivateKey
}

func newLicensor(t *testing.T, change ...func(*vendor, *tufrepo.CreateConfig)) *licensor {
	t.Helper()
	withRole := func(v *vendor, c *tufrepo.CreateConfig) {
		signer := newRoleSigner(t)
		v.more = []*tufrepo.Signer{signer}
		c.License = tufrepo.RoleKeys{Keys: []tufrepo.PublicKey{signer.Public()}}
	}
	v := newVendorTB(t, append([]func(*vendor, *tufrepo.CreateConfig){withRole}, change...)...)
	l := &licensor{vendor: v, site: newSite(t, v.dir), issuer: map[string]ed25519.PrivateKey{}}
	l.newKey("2026")
	l.release("1.0.0", program("1.0.0"))
	l.release("1.1.0", program("1.1.0"))
	return l
}

// elsewhere returns a copy of the vendor, to do something else with.
func (l *licensor) elsewhere(t *testing.T) *licensor {
	t.Helper()
	v := *l.vendor
	v.t, v.dir, v.more = t, treeAsItIs(t, l.dir), slices.Clone(l.more)
	return &licensor{vendor: &v, site: newSite(t, v.dir), issuer: maps.Clone(l.issuer)}
}

func newRoleSigner(t testing.TB) *tufrepo.Signer {
	t.Helper()
	key, err := tufrepo.GenerateKey("ed25519")
	require.NoError(t, err)
	signer, err := tufrepo.NewSigner(key)
	require.NoError(t, err)
	return signer
}

func (l *licensor) newKey(id string) {
	_, private, err := ed25519.GenerateKey(nil)
	require.NoError(l.t, err)
	l.issuer[id] = private
}

func (l *licensor) ring(keys ...license.Key) *license.Keyring {
	l.t.Helper()
	for i := range keys {
		keys[i].Public = l.issuer[keys[i].ID].Public()
	}
	ring, err := license.NewKeyring(keys...)
	require.NoError(l.t, err)
	return ring
}

// put publishes a file of the role license.
func (l *licensor) put(name string, content any) {
	l.t.Helper()
	data, raw := content.([]byte)
	if !raw {
		var err error
		data, err = json.Marshal(content)
		require.NoError(l.t, err)
	}
	l.edit(func(r *tufrepo.Repo) error { return r.PutLicense(name, data) })
}

func (l *licensor) publishKeys(keys ...license.Key) {
	l.t.Helper()
	l.put("keyring.json", l.ring(keys...))
}

func (l *licensor) revoke(r license.Revocations) { l.t.Helper(); l.put("revocations.json", &r) }

// token issues a licence; change makes it another one.
func (l *licensor) token(key string, change ...func(*license.License)) []byte {
	l.t.Helper()
	terms := license.License{Audience: []string{"notes"}, Subject: "c", ID: "token-1", LicenseID: "L1", Seq: 1, IssuedAt: start, Expires: start.AddDate(100, 0, 0)}
	for _, c := range change {
		c(&terms)
	}
	issuer, err := license.NewIssuer(l.issuer[key], key, "acme")
	require.NoError(l.t, err)
	token, err := issuer.Issue(terms)
	require.NoError(l.t, err)
	return token
}

// customer is a machine with a licence, and with a program into which the key 2026 was compiled.
type customer struct {
	*machine
	file  string
	store *license.Store // of the last process
	log   bytes.Buffer
}

func (l *licensor) customer(token []byte, change ...func(*update.Config)) *customer {
	l.t.Helper()
	c := &customer{file: filepath.Join(l.t.TempDir(), "license")}
	require.NoError(l.t, os.WriteFile(c.file, token, 0o600))
	verifier, err := license.NewVerifier(license.Config{Issuer: "acme", Product: "notes", Keys: l.ring(license.Key{ID: "2026"})})
	require.NoError(l.t, err)
	t, ok := l.t.(*testing.T)
	require.True(l.t, ok)
	c.machine = newMachine(t, l.vendor, "1.0.0", append([]func(*update.Config){func(cfg *update.Config) {
		cfg.Source = l.site.source(l.t)
		cfg.Logger = slog.New(slog.NewTextHandler(&c.log, nil))
		c.store, err = license.OpenStore(license.StoreConfig{Verifier: verifier, Sources: []license.Source{license.File(c.file)}, Now: cfg.Now})
		require.NoError(l.t, err)
		cfg.License = c.store
	}}, change...)...)
	return c
}

// offline makes a process that has no network.
func (c *customer) offline() *update.Updater {
	return c.process(func(cfg *update.Config) { cfg.Source = noSource{c.t} })
}

type noSource struct{ t *testing.T }

func (s noSource) Open(_ context.Context, name string, _ int64) (io.ReadCloser, error) {
	return nil, fmt.Errorf("open %s: no network", name)
}

// state is what the licence is worth to the last process, at this time.
func (c *customer) state() license.State { return c.store.Status(c.t.Context(), c.now).State }

func (c *customer) trustDir(u *update.Updater) string { return filepath.Join(update.Dir(u), "trust") }

// kept finds what the trust store keeps.
func (c *customer) kept(u *update.Updater) []string {
	c.t.Helper()
	files, err := filepath.Glob(filepath.Join(c.trustDir(u), "kept.*"))
	require.NoError(c.t, err)
	return files
}

// site is a web server with a repository, as whoever controls it wants it to be.
type site struct {
	*httptest.Server

	mu      sync.Mutex
	dir     string
	asked   []string
	instead func(w http.ResponseWriter, name string) bool // answers by itself, or returns false
}

func newSite(t *testing.T, dir string) *site {
	s := &site{dir: dir}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		name := strings.TrimPrefix(req.URL.Path, "/")
		s.mu.Lock()
		s.asked = append(s.asked, name)
		dir, instead := s.dir, s.instead
		s.mu.Unlock()
		if instead == nil || !instead(w, name) {
			http.ServeFileFS(w, req, os.DirFS(dir), name)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *site) source(t testing.TB) update.Source {
	t.Helper()
	src, err := update.HTTPWith(s.URL, update.HTTPConfig{Proxy: update.Direct})
	require.NoError(t, err)
	return src
}

// answer has the site do something else; nil: serve what is there.
func (s *site) answer(instead func(w http.ResponseWriter, name string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instead = instead
}

func (s *site) show(dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dir = dir
}

// requests returns what was asked for since the last call, sorted, by kind.
func (s *site) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, name := range s.asked {
		out = append(out, name[strings.LastIndex(name, "/")+1:])
	}
	s.asked = nil
	slices.Sort(out)
	return out
}

// missing answers 404 for what has this in its name.
func missing(part string) func(http.ResponseWriter, string) bool {
	return func(w http.ResponseWriter, name string) bool {
		if !strings.Contains(name, part) {
			return false
		}
		http.Error(w, "gone", http.StatusNotFound)
		return true
	}
}

// forge publishes with the vendor's own keys what tufrepo would not: the role license as change leaves it, and a file.
func (l *licensor) forge(change func(*metadata.TargetsType)) {
	l.t.Helper()
	role := forged(l, "license", l.more[0], change)
	snapshot := forged(l, "snapshot", l.signer, func(s *metadata.SnapshotType) { listMeta(l, s.Meta, "license", role) })
	forged(l, "timestamp", l.signer, func(s *metadata.TimestampType) { listMeta(l, s.Meta, "snapshot", snapshot) })
}

func listMeta(l *licensor, in map[string]*metadata.MetaFiles, role string, data []byte) {
	var head struct {
		Signed struct{ Version int64 }
	}
	require.NoError(l.t, json.Unmarshal(data, &head))
	in[role+".json"] = &metadata.MetaFiles{Version: head.Signed.Version, Length: int64(len(data)), Hashes: hashes(data)}
}

func hashes(data []byte) metadata.Hashes {
	sum := sha256.Sum256(data)
	return metadata.Hashes{"sha256": sum[:]}
}

// forged writes and returns the next version of a role.
func forged[T metadata.Roles](l *licensor, role string, signer *tufrepo.Signer, change func(*T)) []byte {
	l.t.Helper()
	files, err := filepath.Glob(filepath.Join(l.dir, "metadata", "*"+role+".json"))
	require.NoError(l.t, err)
	version := func(path string) (n int64) { _, _ = fmt.Sscan(filepath.Base(path), &n); return n }
	newest := slices.MaxFunc(files, func(a, b string) int { return int(version(a) - version(b)) })
	md, err := new(metadata.Metadata[T]).FromFile(newest)
	require.NoError(l.t, err)
	change(&md.Signed)
	next := newest
	switch s := any(&md.Signed).(type) {
	case *metadata.TargetsType:
		s.Version++
	case *metadata.SnapshotType:
		s.Version++
	case *metadata.TimestampType:
		s.Version++
	}
	if role != "timestamp" {
		next = filepath.Join(l.dir, "metadata", fmt.Sprintf("%d.%s.json", version(newest)+1, role))
	}
	md.ClearSignatures()
	key, err := signature.LoadSigner(signer.Key(), crypto.Hash(0))
	require.NoError(l.t, err)
	_, err = md.Sign(key)
	require.NoError(l.t, err)
	data, err := md.ToBytes(false)
	require.NoError(l.t, err)
	require.NoError(l.t, os.WriteFile(next, data, 0o644))
	return data
}

// listed writes a file of the role license, and returns how the role lists it.
func (l *licensor) listed(name string, content []byte) *metadata.TargetFiles {
	l.t.Helper()
	dir := filepath.Join(l.dir, "targets", "license")
	require.NoError(l.t, os.MkdirAll(dir, 0o755))
	require.NoError(l.t, os.WriteFile(filepath.Join(dir, digest(content)+"."+name), content, 0o644))
	return &metadata.TargetFiles{Path: "license/" + name, Length: int64(len(content)), Hashes: hashes(content)}
}

// treeAsItIs returns a copy of a folder as it is now.
func treeAsItIs(t testing.TB, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	require.NoError(t, os.CopyFS(to, os.DirFS(dir)))
	return to
}
