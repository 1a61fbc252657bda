package trust

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Small targets can be kept in the store, for what has to stay known when there is no network for years: each together
// with the metadata of the role that lists it, and with the snapshot that pins that, so that it can be verified without
// the repository, from the embedded root on, when the role has moved on, and when everything has expired.

const (
	keptPrefix = "kept."

	maxKept     = 2 << 20 // bytes of a target that is kept
	maxKeptMeta = 1 << 20 // of each metadata beside it
	maxKeptFile = 6 << 20 // of the three in base64
)

// Kept is the content of a target, verified.
type Kept struct {
	Target  Target
	Data    []byte
	Expires time.Time // of the metadata of the role that lists it
}

// Known is what the store proves about some targets of one role. All of it was signed by keys that are trusted still.
// Nothing in it was judged by the time.
type Known struct {
	// Signed is when the newest timestamp in the store was signed: it is that late at least. Zero: it does not say.
	Signed time.Time
	// Delegated says whether the top-level targets role delegates to the role at all.
	Delegated bool
	// Listed is what the newest metadata of the role lists, by path; nil if that is not in the store.
	Listed map[string]Target
	// Kept is what [View.Keep] has kept, by path. It may be from before Listed.
	Kept map[string]Kept
}

// Known returns what was verified about the targets of a role once, without any use of the source, although it has
// expired: for what must stay in force when nothing newer can be had, such as revocations, and for nothing else, as it
// says nothing about what the repository holds now.
//
// If there has never been a refresh that succeeded, the error is [ErrNotStored]; if what it left is damaged,
// [ErrDamaged]. Others are *[RollbackError], *[StoreError] and that of ctx.
func (c *Client) Known(ctx context.Context, role string, paths ...string) (*Known, error) {
	if _, err := os.Stat(c.cfg.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotStored
	} else if err != nil {
		return nil, &StoreError{c.cfg.Dir, err}
	}
	release, err := c.store.lock(ctx, false)
	if err != nil {
		return nil, err
	}
	defer release()
	r := c.look()
	known, err := r.known(role, paths)
	if errors.Is(err, ErrNotStored) && r.stored.floors.Whole > 0 {
		return nil, ErrDamaged
	}
	return known, err
}

// known is Known. The lock is held.
func (r *run) known(role string, paths []string) (*Known, error) {
	if r.root.Signed.Version < r.floors.Root {
		return nil, &RollbackError{roleRoot, r.floors.Root, r.root.Signed.Version}
	}
	ts, err := r.storedTimestamp()
	if err != nil {
		return nil, err
	}
	st, err := r.storedState(ts, clock{now: always})
	if err != nil {
		return nil, err
	}
	k := &Known{Signed: signedTime(ts), Kept: map[string]Kept{}}
	if r.stored.pending != nil {
		if newer, err := verifyTimestamp(r.root, r.stored.pending, clock{now: always}); err == nil {
			k.Signed = later(k.Signed, signedTime(newer))
		}
	}
	var covered func(string) bool
	if covered, k.Delegated = delegatedTo(st.targets.Signed.Delegations, role); !k.Delegated {
		return k, nil
	}
	current, err := r.cachedRole(st, edge{role, roleTargets, st.targets}, clock{now: always})
	if err == nil {
		k.Listed = map[string]Target{}
	}
	for _, path := range paths {
		if !covered(path) {
			continue
		}
		if current != nil && current.Signed.Targets[path] != nil {
			k.Listed[path] = newTarget(role, path, current.Signed.Targets[path])
		}
		if kept := r.kept(st, current, role, path); kept != nil {
			k.Kept[path] = *kept
		}
	}
	return k, nil
}

// kept returns a kept target: the newest metadata of its role, current, lists it, or what is kept with it proves it.
func (r *run) kept(st *state, current *targetsMeta, role, path string) *Kept {
	name := keptCache(role, path)
	raw := r.store.read(name, maxKeptFile)
	if raw == nil {
		return nil
	}
	var file keptFile
	err := json.Unmarshal(raw, &file)
	if err == nil {
		var kept *Kept
		if kept, err = listedBy(current, role, path, file.Data); err == nil {
			return kept
		}
		if kept, err = st.prove(role, path, file); err == nil {
			return kept
		}
	}
	r.store.dropped(name, err)
	return nil
}

// Keep stores the content of a target that this view lists, for [Client.Known], in the place of what was kept under its
// path before. Role must be one that the top-level targets role delegates to.
func (v *View) Keep(ctx context.Context, t Target, data []byte) error {
	st, c := v.state, v.client
	meta := st.snapshot.Signed.Meta[t.Role+".json"]
	if meta == nil || len(data) > maxKept {
		return fmt.Errorf("trust: keep %q: no role %q lists it, or it has more than %d bytes", t.Path, t.Role, maxKept)
	}
	release, err := c.store.lock(ctx, true)
	if err != nil {
		return err
	}
	defer release()
	if !bytes.Equal(c.store.read(timestampName, maxTimestamp), st.data) {
		return nil // another process has gone further
	}
	file := keptFile{
		Snapshot: c.store.read(snapshotCache(st.snapshot.Signed.Version), maxKeptMeta),
		Role:     c.store.read(roleCache(t.Role, meta.Version), maxKeptMeta),
		Data:     data,
	}
	if file.Snapshot == nil || file.Role == nil {
		return fmt.Errorf("trust: keep %q: the metadata that lists it is too long, or not in the store", t.Path)
	}
	if _, err := st.prove(t.Role, t.Path, file); err != nil { // verify, then cache
		return err
	}
	raw, err := json.Marshal(file)
	if err != nil {
		return err
	}
	name := keptCache(t.Role, t.Path)
	if bytes.Equal(c.store.read(name, maxKeptFile), raw) {
		return nil
	}
	return c.store.write(name, raw)
}

// keptFile is a kept target in the store.
type keptFile struct {
	Snapshot []byte `json:"snapshot"` // that pins
	Role     []byte `json:"role"`     // which lists
	Data     []byte `json:"data"`
}

// listedBy compares data with what metadata of a role says about a path.
func listedBy(by *targetsMeta, role, path string, data []byte) (*Kept, error) {
	if by == nil || by.Signed.Targets[path] == nil {
		return nil, fmt.Errorf("role %s does not list %q", role, path)
	}
	t := newTarget(role, path, by.Signed.Targets[path])
	if t.SHA256 == "" && t.SHA512 == "" {
		return nil, errors.New("it has neither a sha256 nor a sha512")
	}
	if err := t.Verify(data); err != nil {
		return nil, err
	}
	return &Kept{t, data, by.Signed.Expires}, nil
}

// prove verifies a kept target with what is kept beside it, by the keys that snapshot and role have now: what was signed
// only by keys that were taken from them counts no more. It takes both roles' keys to make one up. Who can write to the
// store can put back one that was signed at an earlier time, as he can remove it.
func (s *state) prove(role, path string, file keptFile) (*Kept, error) {
	sn, md := metadata.Snapshot(), metadata.Targets()
	err := guarded("the kept snapshot", file.Snapshot, func() error {
		if _, err := sn.FromBytes(file.Snapshot); err != nil {
			return err
		}
		if have := s.snapshot.Signed.Version; sn.Signed.Version > have {
			return fmt.Errorf("it has version %d, the newest is %d", sn.Signed.Version, have)
		}
		return s.root.VerifyDelegate(roleSnapshot, sn)
	})
	if err != nil {
		return nil, err
	}
	err = guarded("the kept role "+escapeRole(role), file.Role, func() error {
		pin, newest := sn.Signed.Meta[role+".json"], s.snapshot.Signed.Meta[role+".json"]
		if pin == nil || newest == nil || pin.Version > newest.Version {
			return errors.New("no snapshot pins it")
		}
		if err := pin.VerifyLengthHashes(file.Role); err != nil {
			return err
		}
		if _, err := md.FromBytes(file.Role); err != nil {
			return err
		}
		if md.Signed.Version != pin.Version {
			return fmt.Errorf("it has version %d, the snapshot pins %d", md.Signed.Version, pin.Version)
		}
		if err := checkHeader(md.Signed.Version, md.Signed.SpecVersion); err != nil {
			return err
		}
		return s.targets.VerifyDelegate(role, md)
	})
	if err != nil {
		return nil, err
	}
	return listedBy(md, role, path, file.Data)
}

// keptCache names the file of a kept target, as no path of the repository becomes one here.
func keptCache(role, path string) string {
	return keptPrefix + roleHash(role) + "." + roleHash(path) + ".json"
}
