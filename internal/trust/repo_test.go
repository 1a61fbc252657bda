package trust

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/stretchr/testify/require"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

const day = 24 * time.Hour

// start is when every test repository was signed first.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// repo is a publisher: it signs with go-tuf and keeps the files of the repository in memory.
type repo struct {
	tb        testing.TB
	now       time.Time
	root      *rootMeta
	timestamp *timestampMeta
	snapshot  *snapshotMeta
	roles     map[string]*targetsMeta // targets and all delegated ones
	keys      map[string][]signature.Signer

	mu    sync.Mutex
	files map[string][]byte
}

// newRepo publishes an empty repository with the delegations notes.stable (terminating) and notes.beta.
func newRepo(tb testing.TB) *repo {
	r := &repo{
		tb: tb, now: start,
		root:      metadata.Root(start.Add(400 * day)),
		timestamp: metadata.Timestamp(start.Add(7 * day)),
		snapshot:  metadata.Snapshot(start.Add(365 * day)),
		roles:     map[string]*targetsMeta{roleTargets: metadata.Targets(start.Add(400 * day))},
		keys:      map[string][]signature.Signer{},
		files:     map[string][]byte{},
	}
	for _, role := range metadata.TOP_LEVEL_ROLE_NAMES {
		r.addKey(role, ecdsaSigner(tb))
	}
	r.delegate(roleTargets, metadata.DelegatedRole{Name: "notes.stable", Threshold: 1, Terminating: true, Paths: []string{"notes/stable/*/*"}})
	r.delegate(roleTargets, metadata.DelegatedRole{Name: "notes.beta", Threshold: 1, Paths: []string{"notes/beta/*/*"}})
	for _, md := range r.roles {
		md.Signed.Version = 0
	}
	r.root.Signed.Version, r.snapshot.Signed.Version, r.timestamp.Signed.Version = 0, 0, 0
	r.publishRoot()
	r.publish("notes.stable", "notes.beta", roleTargets)
	return r
}

func ed25519Signer(tb testing.TB) signature.Signer {
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(tb, err)
	s, err := signature.LoadSigner(priv, crypto.Hash(0))
	require.NoError(tb, err)
	return s
}

func ecdsaSigner(tb testing.TB) signature.Signer {
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(tb, err)
	s, err := signature.LoadSigner(priv, crypto.SHA256)
	require.NoError(tb, err)
	return s
}

func tufKey(tb testing.TB, s signature.Signer) *metadata.Key {
	public, err := s.PublicKey()
	require.NoError(tb, err)
	k, err := metadata.KeyFromPublicKey(public)
	require.NoError(tb, err)
	return k
}

func (r *repo) addKey(role string, s signature.Signer) {
	require.NoError(r.tb, r.root.Signed.AddKey(tufKey(r.tb, s), role))
	r.keys[role] = append(r.keys[role], s)
}

// rotate gives a top-level role one new key, and returns the old ones.
func (r *repo) rotate(role string) []signature.Signer {
	old := r.keys[role]
	for _, s := range old {
		id, err := tufKey(r.tb, s).ID()
		require.NoError(r.tb, err)
		require.NoError(r.tb, r.root.Signed.RevokeKey(id, role))
	}
	r.keys[role] = nil
	r.addKey(role, ecdsaSigner(r.tb))
	return old
}

// delegate makes a role known to its delegator and creates it, with an Ed25519 key, if it does not exist.
func (r *repo) delegate(by string, d metadata.DelegatedRole) {
	if r.roles[d.Name] == nil {
		md := metadata.Targets(r.now.Add(120 * day))
		md.Signed.Version = 0
		r.roles[d.Name] = md
		r.keys[d.Name] = []signature.Signer{ed25519Signer(r.tb)}
	}
	r.delegateTo(by, d, r.keys[d.Name]...)
}

func (r *repo) delegateTo(by string, d metadata.DelegatedRole, keys ...signature.Signer) {
	signed := &r.roles[by].Signed
	if signed.Delegations == nil {
		signed.Delegations = &metadata.Delegations{Keys: map[string]*metadata.Key{}, Roles: []metadata.DelegatedRole{}}
	}
	d.KeyIDs = []string{}
	signed.Delegations.Roles = append(signed.Delegations.Roles, d)
	for _, s := range keys {
		require.NoError(r.tb, signed.AddKey(tufKey(r.tb, s), d.Name))
	}
}

// add lists a target and its file in a role, without publishing.
func (r *repo) add(role, target string, content []byte) {
	sum := sha256.Sum256(content)
	custom := json.RawMessage(fmt.Sprintf(`{"fairlead":{"v":1,"version":%q,"seq":7,"published":"2026-03-01T12:00:00Z","state":"offered",`+
		`"kind":"feature","platforms":["linux/amd64","linux/arm64","darwin/arm64","windows/amd64"],"rollout":{"from":0,"to":10000,"start":"2026-03-01T12:00:00Z","duration_s":86400},`+
		`"from":">=1.0.0","requires":["pro"]}}`, path.Base(path.Dir(target))))
	r.roles[role].Signed.Targets[target] = &metadata.TargetFiles{
		Path: target, Length: int64(len(content)), Custom: &custom,
		Hashes: metadata.Hashes{"sha256": sum[:]},
	}
	dir, base := path.Split(target)
	r.put("targets/"+dir+hex.EncodeToString(sum[:])+"."+base, content)
}

func (r *repo) release(role, channel, version string) {
	r.add(role, "notes/"+channel+"/"+version+"/release.json", []byte(`{"manifest of":"`+channel+" "+version+`"}`))
}

func (r *repo) put(name string, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if data == nil {
		delete(r.files, name)
		return
	}
	r.files[name] = data
}

func (r *repo) get(name string) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.files[name]
}

// sign returns the signed bytes of a document, with a valid signature of each key.
func sign[T metadata.Roles](tb testing.TB, md *metadata.Metadata[T], keys ...signature.Signer) []byte {
	md.ClearSignatures()
	for _, k := range keys {
		_, err := md.Sign(k)
		require.NoError(tb, err)
	}
	data, err := md.ToBytes(false)
	require.NoError(tb, err)
	return data
}

func (r *repo) dated() map[string]any {
	return map[string]any{"fairlead": map[string]any{
		"v": 1, "signed": r.now.Format(time.RFC3339), "period_s": 86400, "margin_s": 3600,
	}}
}

// publishRoot signs the next root with the keys it names and those given.
func (r *repo) publishRoot(also ...signature.Signer) {
	r.root.Signed.Version++
	r.root.Signed.UnrecognizedFields = r.dated()
	r.put(rootName(r.root.Signed.Version), sign(r.tb, r.root, append(slices.Clone(r.keys[roleRoot]), also...)...))
}

func (r *repo) publishRole(name string) {
	md := r.roles[name]
	md.Signed.Version++
	md.Signed.UnrecognizedFields = r.dated()
	data := sign(r.tb, md, r.keys[name]...)
	r.put(metadataName(r.root, name, md.Signed.Version), data)
	r.snapshot.Signed.Meta[name+".json"] = pinned(md.Signed.Version, data)
}

func (r *repo) publishSnapshot() {
	r.snapshot.Signed.Version++
	r.snapshot.Signed.UnrecognizedFields = r.dated()
	data := sign(r.tb, r.snapshot, r.keys[roleSnapshot]...)
	r.put(metadataName(r.root, roleSnapshot, r.snapshot.Signed.Version), data)
	r.timestamp.Signed.Meta[snapshotFile] = pinned(r.snapshot.Signed.Version, data)
}

func (r *repo) publishTimestamp() {
	r.timestamp.Signed.Version++
	r.timestamp.Signed.UnrecognizedFields = r.dated()
	r.put("metadata/timestamp.json", sign(r.tb, r.timestamp, r.keys[roleTimestamp]...))
}

// publish signs the next version of roles, snapshot and timestamp.
func (r *repo) publish(roles ...string) {
	for _, name := range roles {
		r.publishRole(name)
	}
	r.publishSnapshot()
	r.publishTimestamp()
}

func pinned(version int64, data []byte) *metadata.MetaFiles {
	sum := sha256.Sum256(data)
	return &metadata.MetaFiles{Version: version, Length: int64(len(data)), Hashes: metadata.Hashes{"sha256": sum[:]}}
}

// copyFiles is the repository as a mirror has it now.
func (r *repo) copyFiles() map[string][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.files)
}

func mapFS(files map[string][]byte) fs.FS {
	out := fstest.MapFS{}
	for name, data := range files {
		out[name] = &fstest.MapFile{Data: data}
	}
	return out
}

// server serves a repository over HTTP and counts.
type server struct {
	*httptest.Server
	url string

	mu       sync.Mutex
	requests []string
	bytes    int64
	instead  func(w http.ResponseWriter, req *http.Request) bool // answers by itself, or returns false
}

func (r *repo) serve() *server {
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		name := strings.TrimPrefix(req.URL.Path, "/repo/")
		s.mu.Lock()
		s.requests = append(s.requests, name)
		instead := s.instead
		s.mu.Unlock()
		if instead != nil && instead(w, req) {
			return
		}
		data := r.get(name)
		if data == nil {
			http.Error(w, "no", http.StatusNotFound)
			return
		}
		s.mu.Lock()
		s.bytes += int64(len(data))
		s.mu.Unlock()
		http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(data))
	}))
	s.url = s.URL + "/repo"
	r.tb.Cleanup(s.Close)
	return s
}

func (s *server) intercept(f func(w http.ResponseWriter, req *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instead = f
}

// asked returns what was asked for since the last call, sorted.
func (s *server) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.requests
	s.requests = nil
	slices.Sort(out)
	return out
}

func (s *server) source(tb testing.TB) Source {
	src, err := HTTP(s.url, nil)
	require.NoError(tb, err)
	return src
}

// config is a valid configuration for a repository, judged at the repository's own time.
func (r *repo) config(dir string, src Source) Config {
	if src == nil {
		src = liveSource{r}
	}
	return Config{Root: r.get(rootName(1)), Dir: dir, Source: src, Now: func() time.Time { return r.now }, StallTimeout: 5 * time.Second}
}

func (r *repo) client(dir string, src Source, change ...func(*Config)) *Client {
	cfg := r.config(dir, src)
	for _, f := range change {
		f(&cfg)
	}
	c, err := New(cfg)
	require.NoError(r.tb, err)
	return c
}

// refresh refreshes with a client that has just been started.
func (r *repo) refresh(dir string, src Source, change ...func(*Config)) (*View, error) {
	return r.client(dir, src, change...).Refresh(r.tb.Context())
}

func (r *repo) mustRefresh(dir string, src Source, change ...func(*Config)) *View {
	r.tb.Helper()
	v, err := r.refresh(dir, src, change...)
	require.NoError(r.tb, err)
	return v
}

// treeHash is the state of a folder: every name, type, mode and content.
func treeHash(tb testing.TB, dir string) string {
	tb.Helper()
	h := sha256.New()
	require.NoError(tb, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintln(h, p, info.Mode(), info.Size())
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			_, _ = h.Write(data)
		}
		return nil
	}))
	return hex.EncodeToString(h.Sum(nil))
}
