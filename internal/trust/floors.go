package trust

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// floors is the memory of what was verified once. It is kept apart from the cached metadata, so that losing a
// cached file does not lose the protection against older ones.
//
// A floor counts as long as those who vouched for it are still trusted. Otherwise whoever once stole a key could
// raise versions beyond reach, and rotating that key would not help (TUF 5.3.11, fast-forward recovery).
type floors struct {
	Root      int64           `json:"root"`
	Timestamp *timestampFloor `json:"timestamp,omitempty"`
	Snapshot  *snapshotFloor  `json:"snapshot,omitempty"`

	// Whole is the newest timestamp with everything below it that is in the store: what an offline view may not be
	// older than. Timestamp runs ahead of it when a mirror has the timestamp but not yet, or no longer, the rest.
	Whole int64 `json:"whole,omitempty"`

	Signed time.Time `json:"signed,omitzero"` // of the newest verified timestamp
	Seen   time.Time `json:"seen,omitzero"`   // of the last refresh that succeeded
}

type timestampFloor struct {
	Version  int64    `json:"version"`
	Snapshot int64    `json:"snapshot"` // the version that it lists
	Keys     []string `json:"keys"`
}

type snapshotFloor struct {
	Version int64            `json:"version"`
	Roles   map[string]int64 `json:"roles"`
	Keys    []string         `json:"keys"`
}

func (f floors) clone() floors {
	if f.Timestamp != nil {
		t := *f.Timestamp
		f.Timestamp = &t
	}
	if f.Snapshot != nil {
		s := *f.Snapshot
		f.Snapshot = &s
	}
	return f
}

// rebase drops the floors whose signers root no longer trusts, and raises the root's.
func (f *floors) rebase(root *rootMeta) {
	f.Root = max(f.Root, root.Signed.Version)
	if f.Timestamp != nil && rotated(root, roleTimestamp, f.Timestamp.Keys) {
		// The times go too: a stolen key may have dated a timestamp decades ahead.
		f.Timestamp, f.Whole, f.Signed, f.Seen = nil, 0, time.Time{}, time.Time{}
	}
	if f.Snapshot != nil && rotated(root, roleSnapshot, f.Snapshot.Keys) {
		f.Snapshot = nil
	}
}

// rotated reports whether fewer of keys than the role's threshold still belong to it: then what they signed would
// not verify any longer either.
func rotated(root *rootMeta, role string, keys []string) bool {
	r := root.Signed.Roles[role]
	if r == nil {
		return true
	}
	still := map[string]bool{}
	for _, id := range r.KeyIDs {
		if k := root.Signed.Keys[id]; k != nil && slices.Contains(keys, keyHash(k)) {
			still[keyHash(k)] = true
		}
	}
	return len(still) < max(r.Threshold, 1)
}

func keyHash(k *metadata.Key) string {
	sum := sha256.Sum256([]byte(k.Value.PublicKey))
	return hex.EncodeToString(sum[:])
}

// signers lists the keys of a role whose signature on md is valid. md has been verified for the role, so when there
// are no more keys than the threshold, all of them signed.
func signers(root *rootMeta, role string, md any) []string {
	r := root.Signed.Roles[role]
	all := len(r.KeyIDs) == r.Threshold
	var out []string
	for _, id := range r.KeyIDs {
		if all || signedBy(root, id, md) {
			out = append(out, keyHash(root.Signed.Keys[id]))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func signedBy(root *rootMeta, keyID string, md any) bool {
	const alone = "alone"
	only := rootMeta{Signed: metadata.RootType{
		Keys:  root.Signed.Keys,
		Roles: map[string]*metadata.Role{alone: {KeyIDs: []string{keyID}, Threshold: 1}},
	}}
	return only.VerifyDelegate(alone, md) == nil
}

// checkTimestamp is TUF 5.4.3.
func (f *floors) checkTimestamp(ts *timestampMeta) error {
	snapshot := ts.Signed.Meta[snapshotFile].Version
	if f.Timestamp != nil {
		if ts.Signed.Version < f.Timestamp.Version {
			return &RollbackError{roleTimestamp, f.Timestamp.Version, ts.Signed.Version}
		}
		if snapshot < f.Timestamp.Snapshot {
			return &RollbackError{roleSnapshot, f.Timestamp.Snapshot, snapshot}
		}
	}
	if f.Snapshot != nil && snapshot < f.Snapshot.Version {
		return &RollbackError{roleSnapshot, f.Snapshot.Version, snapshot}
	}
	return nil
}

// checkSnapshot is TUF 5.5.5: no role goes back, and none disappears.
func (f *floors) checkSnapshot(sn *snapshotMeta) error {
	if f.Snapshot == nil {
		return nil
	}
	for _, role := range slices.Sorted(maps.Keys(f.Snapshot.Roles)) {
		have := f.Snapshot.Roles[role]
		var got int64
		if meta := sn.Signed.Meta[role+".json"]; meta != nil {
			got = meta.Version
		}
		if got < have {
			return &RollbackError{role, have, got}
		}
	}
	return nil
}

func (f *floors) raiseTimestamp(root *rootMeta, ts *timestampMeta) {
	if f.Timestamp != nil && f.Timestamp.Version >= ts.Signed.Version {
		return
	}
	f.Timestamp = &timestampFloor{
		Version:  ts.Signed.Version,
		Snapshot: ts.Signed.Meta[snapshotFile].Version,
		Keys:     signers(root, roleTimestamp, ts),
	}
	f.Signed = later(f.Signed, signedTime(ts))
}

func (f *floors) raiseSnapshot(root *rootMeta, sn *snapshotMeta) {
	if f.Snapshot != nil && f.Snapshot.Version >= sn.Signed.Version {
		return
	}
	roles := make(map[string]int64, len(sn.Signed.Meta))
	for name, meta := range sn.Signed.Meta {
		if role, ok := roleOf(name); ok {
			roles[role] = meta.Version
		}
	}
	f.Snapshot = &snapshotFloor{Version: sn.Signed.Version, Roles: roles, Keys: signers(root, roleSnapshot, sn)}
}

// merge keeps the higher of two memories. Snapshot floors are compared by version: of two snapshots that both
// verified, the newer one lists every role of the older one at no lower a version.
func (f *floors) merge(other floors) {
	f.Root = max(f.Root, other.Root)
	if o := other.Timestamp; o != nil && (f.Timestamp == nil || o.Version > f.Timestamp.Version) {
		f.Timestamp = o
	}
	if o := other.Snapshot; o != nil && (f.Snapshot == nil || o.Version > f.Snapshot.Version) {
		f.Snapshot = o
	}
	f.Whole = max(f.Whole, other.Whole)
	f.Signed = later(f.Signed, other.Signed)
	f.Seen = later(f.Seen, other.Seen)
}

// floorsFile is how floors are stored. The sum is against accidents: a flipped bit in a version could otherwise lock
// an installation out for good.
type floorsFile struct {
	Sum    string          `json:"sha256"`
	Floors json.RawMessage `json:"floors"`
}

func (f floors) marshal() ([]byte, error) {
	body, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	return json.Marshal(floorsFile{hex.EncodeToString(sum[:]), body})
}

func parseFloors(data []byte) (floors, error) {
	var file floorsFile
	var f floors
	if err := json.Unmarshal(data, &file); err != nil {
		return f, err
	}
	if sum := sha256.Sum256(file.Floors); hex.EncodeToString(sum[:]) != file.Sum {
		return f, errors.New("its checksum does not match")
	}
	err := json.Unmarshal(file.Floors, &f)
	return f, err
}
