package trust

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Target is one file that a role lists.
type Target struct {
	Path   string // in the repository's targets folder, slash-separated
	Role   string // that lists it
	Length int64
	SHA256 string          // lower-case hex, empty if only SHA512 is given
	SHA512 string          // likewise; Fairlead's publisher gives SHA256 only
	Custom json.RawMessage // what the publisher signed about it, nil if nothing
}

// state is what one timestamp pins, verified. Views of the same timestamp share it; what depends on the time is
// judged by each of them.
type state struct {
	root      *rootMeta
	timestamp *timestampMeta
	data      []byte // of the timestamp
	snapshot  *snapshotMeta
	targets   *targetsMeta

	mu    sync.Mutex
	roles map[edge]*targetsMeta
}

// edge is one delegation: a role verified for one delegator is not verified for another.
type edge struct {
	role      string
	delegator string
	by        *targetsMeta // the delegator's metadata, nil if that is the root
}

func (s *state) roleName(role string) string {
	var version int64
	if meta := s.snapshot.Signed.Meta[role+".json"]; meta != nil {
		version = meta.Version
	}
	return metadataName(s.root, role, version)
}

// escapeRole makes one element of a path of any role name. Ordinary names stay as they are.
func escapeRole(role string) string {
	if strings.ContainsAny(role, `/\%`) || strings.ContainsFunc(role, unicode.IsControl) {
		return url.PathEscape(role)
	}
	return role
}

// View is the repository as one refresh verified it. It does not change, but reads delegated roles when they are
// first asked for. It may be used from several goroutines at once.
type View struct {
	client  *Client
	state   *state
	clock   clock
	offline bool
}

// newView judges everything in a state that can expire.
func newView(c *Client, st *state, clk clock) (*View, error) {
	if err := clk.judgeRoot(st.root); err != nil {
		return nil, err
	}
	if err := clk.judgeTimestamp(st.timestamp); err != nil {
		return nil, err
	}
	if sn := &st.snapshot.Signed; clk.online(st.timestamp).After(sn.Expires) {
		return nil, &ExpiredError{roleSnapshot, sn.Expires, clk.now}
	}
	if t := &st.targets.Signed; clk.now.After(t.Expires) {
		return nil, &ExpiredError{roleTargets, t.Expires, clk.now}
	}
	return &View{client: c, state: st, clock: clk}, nil
}

// Staleness is how long ago the timestamp expired, 0 if it has not. More than 0 takes [Config.MaxStaleness].
func (v *View) Staleness() time.Duration {
	return max(0, v.clock.now.Sub(v.Expires()))
}

// Time is the time at which everything in this view was judged.
func (v *View) Time() time.Time { return v.clock.now }

// Signed is when the timestamp of this view was signed, by its own word, so it is that late at least. Zero: it does not say.
func (v *View) Signed() time.Time { return signedTime(v.state.timestamp) }

// Expires is when the timestamp of this view expires.
func (v *View) Expires() time.Time { return v.state.timestamp.Signed.Expires }

// RoleExpires is when the metadata of a delegated role expires that was read so far; zero: none was.
func (v *View) RoleExpires(name string) time.Time {
	s := v.state
	s.mu.Lock()
	defer s.mu.Unlock()
	if role := s.roles[edge{name, roleTargets, s.targets}]; role != nil {
		return role.Signed.Expires
	}
	return time.Time{}
}

// Versions gives the version of root, timestamp, snapshot, targets and of every delegated role read so far.
func (v *View) Versions() map[string]int64 {
	s := v.state
	out := map[string]int64{
		roleRoot:      s.root.Signed.Version,
		roleTimestamp: s.timestamp.Signed.Version,
		roleSnapshot:  s.snapshot.Signed.Version,
		roleTargets:   s.targets.Signed.Version,
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for e, role := range s.roles {
		out[e.role] = role.Signed.Version
	}
	return out
}

// Role returns what a role lists that the top-level targets role delegates to, sorted by path. A path that the
// delegation does not cover is left out: the role may not speak about it. Without such a delegation, the error is
// [ErrNotFound].
func (v *View) Role(ctx context.Context, name string) ([]Target, error) {
	covered, ok := delegatedTo(v.state.targets.Signed.Delegations, name)
	if !ok {
		return nil, fmt.Errorf("%w: no role %q", ErrNotFound, name)
	}
	role, err := v.role(ctx, edge{name, roleTargets, v.state.targets})
	if err != nil {
		return nil, err
	}
	out := make([]Target, 0, len(role.Signed.Targets))
	for p, file := range role.Signed.Targets {
		if covered(p) {
			out = append(out, newTarget(name, p, file))
		}
	}
	slices.SortFunc(out, func(a, b Target) int { return cmp.Compare(a.Path, b.Path) })
	return out, nil
}

// Find returns the target at a path from the first role that is trusted for it and lists it: the delegations are
// searched depth first in their order (TUF 5.6.7), at most 32 of them. If all that are trusted for the path were
// searched in vain, the error is [ErrNotFound].
func (v *View) Find(ctx context.Context, path string) (Target, error) {
	s := search{view: v, path: path, visited: map[string]bool{roleTargets: true}}
	found, err := s.in(ctx, roleTargets, v.state.targets)
	if err != nil {
		return Target{}, err
	}
	if found == nil {
		return Target{}, fmt.Errorf("%w: no target %q", ErrNotFound, path)
	}
	return *found, nil
}

// search is one walk over the delegations.
type search struct {
	view    *View
	path    string
	visited map[string]bool
	ended   bool // by a terminating delegation
}

func (s *search) in(ctx context.Context, name string, role *targetsMeta) (*Target, error) {
	if file, ok := role.Signed.Targets[s.path]; ok {
		t := newTarget(name, s.path, file)
		return &t, nil
	}
	for _, d := range delegationsFor(role.Signed.Delegations, s.path) {
		if !s.visited[d.role] {
			s.visited[d.role] = true
			if len(s.visited) > maxDelegations+1 {
				return nil, fmt.Errorf("trust: find %q: it takes more than %d delegated roles", s.path, maxDelegations)
			}
			next, err := s.view.role(ctx, edge{d.role, name, role})
			if err != nil {
				return nil, err
			}
			if found, err := s.in(ctx, d.role, next); found != nil || err != nil {
				return found, err
			}
		}
		if d.terminating {
			s.ended = true
		}
		if s.ended {
			return nil, nil
		}
	}
	return nil, nil
}

// role returns a delegated role from memory, the store or the source, judged at the time of this view.
func (v *View) role(ctx context.Context, e edge) (*targetsMeta, error) {
	st := v.state
	st.mu.Lock()
	role := st.roles[e]
	st.mu.Unlock()
	if role != nil {
		if v.clock.now.After(role.Signed.Expires) {
			return nil, &ExpiredError{e.role, role.Signed.Expires, v.clock.now}
		}
		return role, nil
	}
	var data []byte
	var err error
	if v.offline {
		if role, err = v.client.cachedRole(st, e, v.clock); err != nil {
			return nil, storedError(err)
		}
	} else if role, data, err = v.client.updateRole(ctx, st, e, v.clock); err != nil {
		return nil, err
	}
	if data != nil {
		if err := v.client.keepRole(ctx, st, e.role, data); err != nil {
			v.client.log.InfoContext(ctx, "a role was not kept", "role", e.role, "error", err)
		}
	}
	st.mu.Lock()
	st.roles[e] = role
	st.mu.Unlock()
	return role, nil
}

// keepRole stores a verified role, unless the store has moved on to another timestamp.
func (c *Client) keepRole(ctx context.Context, st *state, role string, data []byte) error {
	release, err := c.store.lock(ctx, true)
	if err != nil {
		return err
	}
	defer release()
	if !bytes.Equal(c.store.read(timestampName, maxTimestamp), st.data) {
		return nil
	}
	return c.store.write(roleCache(role, st.snapshot.Signed.Meta[role+".json"].Version), data)
}

func newTarget(role, path string, file *metadata.TargetFiles) Target {
	t := Target{
		Path: path, Role: role, Length: file.Length,
		SHA256: hex.EncodeToString(file.Hashes["sha256"]),
		SHA512: hex.EncodeToString(file.Hashes["sha512"]),
	}
	if file.Custom != nil {
		t.Custom = slices.Clone(*file.Custom)
	}
	return t
}

// Fetch reads the file of a target into memory and verifies its length and hash. It is meant for small ones, of at
// most max bytes.
func (v *View) Fetch(ctx context.Context, t Target, max int64) ([]byte, error) {
	name, err := v.targetName(t)
	switch {
	case err != nil:
		return nil, err
	case v.offline:
		return nil, fmt.Errorf("%w: target %q", ErrNotStored, t.Path)
	case t.Length > max:
		return nil, fmt.Errorf("trust: fetch %q: it has %d bytes, at most %d are wanted", t.Path, t.Length, max)
	}
	return v.client.fetcher.fetch(ctx, request{name: name, max: t.Length, verify: func(data []byte) error {
		if err := t.Verify(data); err != nil {
			return &VerifyError{name, err}
		}
		return nil
	}})
}

// targetName is where the file of a target is in the repository.
func (v *View) targetName(t Target) (string, error) {
	if !fs.ValidPath(t.Path) || t.Path == "." || t.Length < 0 {
		return "", &VerifyError{t.Path, errors.New("its path or its length is not valid")}
	}
	hash := cmp.Or(t.SHA256, t.SHA512)
	if hash == "" {
		return "", &VerifyError{t.Path, errors.New("it has neither a sha256 nor a sha512")}
	}
	if !v.state.root.Signed.ConsistentSnapshot {
		return "targets/" + t.Path, nil
	}
	dir, base := path.Split(t.Path)
	return "targets/" + dir + hash + "." + base, nil
}

// Verify reports whether data is the content of the target: nil, or what is wrong with it.
func (t Target) Verify(data []byte) error {
	if int64(len(data)) != t.Length {
		return fmt.Errorf("it has %d bytes instead of %d", len(data), t.Length)
	}
	if sum := sha256.Sum256(data); t.SHA256 != "" && hex.EncodeToString(sum[:]) != t.SHA256 {
		return errors.New("its sha256 is another one")
	}
	if sum := sha512.Sum512(data); t.SHA512 != "" && hex.EncodeToString(sum[:]) != t.SHA512 {
		return errors.New("its sha512 is another one")
	}
	return nil
}
