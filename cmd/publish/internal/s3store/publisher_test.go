//go:build !nos3

package s3store

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/cmd/publish/internal/s3store/s3test"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

// long asks for the long version of tests, see docs/testing.md.
func long() bool { return os.Getenv("FAIRLEAD_LONG") != "" }

// A publisher publishes to a bucket with one key for everything.
type publisher struct {
	testing.TB
	dir string
	key *tufrepo.Signer
}

func newPublisher(t testing.TB, s tufrepo.Store) *publisher {
	t.Helper()
	private, err := tufrepo.GenerateKey("ed25519")
	require.NoError(t, err)
	p := &publisher{TB: t, dir: t.TempDir()}
	p.key, err = tufrepo.NewSigner(private)
	require.NoError(t, err)
	keys := tufrepo.RoleKeys{Keys: []tufrepo.PublicKey{p.key.Public()}}
	r, err := tufrepo.Create(t.Context(), s, tufrepo.CreateConfig{Root: keys, Targets: keys, Snapshot: keys, Timestamp: keys}, p.key)
	require.NoError(t, err)
	require.NoError(t, r.AddChannel("notes", "stable", keys, tufrepo.Policy{}))
	_, err = r.Commit(t.Context(), p.key)
	require.NoError(t, err)
	return p
}

// file writes an artifact that nothing else is like.
func (p *publisher) file(name string, length int) string {
	p.Helper()
	path := filepath.Join(p.dir, name)
	if _, err := os.Stat(path); err != nil {
		require.NoError(p, os.WriteFile(path, []byte("#!"+name+noise(uint64(len(name)), length)), 0o644))
	}
	return path
}

// release publishes one version, once.
func (p *publisher) release(s tufrepo.Store, version string, length int) error {
	r, err := tufrepo.Open(p.Context(), s, tufrepo.OpenConfig{Patches: tufrepo.PatchPolicy{From: -1}})
	if err != nil {
		return err
	}
	n := tufrepo.NewRelease{Version: version}
	for _, arch := range []string{"amd64", "arm64"} {
		path := p.file(version+"-"+arch, length)
		n.Artifacts = append(n.Artifacts, tufrepo.NewArtifact{Platform: channel.Platform{OS: "linux", Arch: arch}, Path: path})
		length = 10
	}
	if _, err = r.Release(p.Context(), "notes", "stable", n); err != nil {
		return err
	}
	_, err = r.Commit(p.Context(), p.key)
	return err
}

// listed is the versions in the channel, of a repository that verifies.
func (p *publisher) listed(s tufrepo.Store) []string {
	p.Helper()
	_, err := tufrepo.Verify(p.Context(), s, nil, time.Now())
	require.NoError(p, err)
	r, err := tufrepo.Open(p.Context(), s, tufrepo.OpenConfig{})
	require.NoError(p, err)
	list, err := r.Releases("notes", "stable")
	require.NoError(p, err)
	var versions []string
	for _, rel := range list {
		versions = append(versions, rel.Version)
	}
	return versions
}

// TestRacingPublishers: two publishers start from the same state, time and again. Each either gets through or is told of
// a conflict and does it again, and in the end everything that anybody was told was published is there.
func TestRacingPublishers(t *testing.T) {
	server := s3test.Start(t)
	rounds := 8
	if long() {
		rounds = 100
	}
	base := open(t, server.URL, "race")
	p := newPublisher(t, base)
	stores := []*Store{open(t, server.URL, "race"), open(t, server.URL, "race")}
	conflicts, both := 0, 0
	var want []string
	for round := range rounds {
		var wg sync.WaitGroup
		results := make([]error, len(stores))
		versions := []string{fmt.Sprintf("1.%d.0", round), fmt.Sprintf("2.%d.0", round)}
		for i, s := range stores {
			p.file(versions[i]+"-amd64", 10)
			p.file(versions[i]+"-arm64", 10)
			wg.Go(func() { results[i] = p.release(s, versions[i], 10) })
		}
		wg.Wait()
		won := 0
		for i, err := range results {
			switch {
			case err == nil:
				won++
			case errors.Is(err, tufrepo.ErrConflict):
				conflicts++
				require.NoError(t, p.release(stores[i], versions[i], 10), "nobody else is at it now")
			default:
				t.Fatalf("round %d: %v", round, err)
			}
		}
		require.Positive(t, won, "round %d: nobody got through", round)
		both += won - 1
		want = append(want, versions...)
	}
	require.ElementsMatch(t, want, p.listed(base), "nothing is lost")
	t.Logf("%d rounds: in %d one of the two was told of a conflict, in %d they came one after the other", rounds, conflicts, both)
	require.Equal(t, rounds, conflicts+both)
}

// TestFailingRequests has one request after another of a release fail for good, in every way, and then runs the release
// again. (Retries would hide most of it, so there are none; TestStore has them.)
func TestFailingRequests(t *testing.T) {
	server := s3test.Start(t)
	proxy := s3test.NewProxy(t, server, nil)
	at, err := ParseLocation(s3test.Address(proxy.URL, "failing"))
	require.NoError(t, err)
	fragile, err := newStore(t.Context(), at, tuning{stall: 300 * time.Millisecond, attempts: 1, perPart: testPart, inOne: testPart})
	require.NoError(t, err)
	direct := open(t, server.URL, "failing")
	p := newPublisher(t, direct)
	require.NoError(t, p.release(fragile, "1.0.0", testPart+1))
	total := len(proxy.Requests())
	t.Logf("a release of two artifacts, one in two parts, is %d requests", total)
	require.Greater(t, total, 15)

	faults := map[s3test.Fault]string{s3test.Error500: "500", s3test.Error503: "503", s3test.Error409: "409", s3test.Reset: "reset",
		s3test.Stall: "time-out", s3test.LostAnswer: "lost answer", s3test.LostStall: "lost answer, time-out"}
	step := 1
	if !long() {
		step = 9 // each way at a few requests, and not at the same ones
	}
	minor, failed, published := 0, 0, 0
	for fault, what := range faults {
		for k := 1 + int(fault)%step; k <= total; k += step {
			minor++
			version := fmt.Sprintf("1.%d.0", minor)
			proxy.Decide(func(n int, _ *http.Request) s3test.Fault {
				if n == k {
					return fault
				}
				return s3test.None
			})
			err := p.release(fragile, version, testPart+1)
			proxy.Decide(nil)
			if err != nil {
				failed++
				var h interface{ Hint() string }
				require.True(t, errors.As(err, &h) || errors.Is(err, tufrepo.ErrConflict), "%s at request %d: %v", what, k, err)
			}
			if there := p.has(direct, version); there != (err == nil) {
				require.True(t, there, "%s at request %d: it was said to be published", what, k)
				published++ // the answer to the last request was lost
			}
			require.NoError(t, p.release(fragile, version, testPart+1), "again, after %s at request %d", what, k)
			require.True(t, p.has(direct, version))
		}
	}
	require.Len(t, p.listed(direct), minor+1)
	t.Logf("%d runs, %d of them failed, %d of those with the release published; all completed when run again", minor, failed, published)
	require.Greater(t, failed, minor*2/3)
}

// has reports whether clients see the version.
func (p *publisher) has(s tufrepo.Store, version string) bool {
	p.Helper()
	r, err := tufrepo.Open(p.Context(), s, tufrepo.OpenConfig{})
	require.NoError(p, err)
	list, err := r.Releases("notes", "stable")
	require.NoError(p, err)
	for _, rel := range list {
		if rel.Version == version {
			return true
		}
	}
	return false
}
