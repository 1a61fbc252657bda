package trust

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"
)

type (
	rootMeta      = metadata.Metadata[metadata.RootType]
	timestampMeta = metadata.Metadata[metadata.TimestampType]
	snapshotMeta  = metadata.Metadata[metadata.SnapshotType]
	targetsMeta   = metadata.Metadata[metadata.TargetsType]
)

const (
	roleRoot      = metadata.ROOT
	roleTimestamp = metadata.TIMESTAMP
	roleSnapshot  = metadata.SNAPSHOT
	roleTargets   = metadata.TARGETS

	snapshotFile = "snapshot.json" // as the timestamp lists it
)

// always is a reference time at which nothing has expired: for verifying what serves as evidence only.
var always = time.Time{}

// guarded calls into go-tuf. Precheck keeps from it the documents that it is known to panic on; should there be more,
// they are refused like any other that does not verify.
func guarded(file string, data []byte, call func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &VerifyError{file, fmt.Errorf("parsing it panicked: %v", p)}
		}
	}()
	if err := precheck(data); err != nil {
		return &VerifyError{file, err}
	}
	if err := call(); err != nil {
		return &VerifyError{file, err}
	}
	return nil
}

func checkHeader(version int64, spec string) error {
	if version < 1 {
		return fmt.Errorf("its version is %d", version)
	}
	if !strings.HasPrefix(spec, "1.") {
		return fmt.Errorf("its specification version is %q, this client knows 1.x: update the application", spec)
	}
	return nil
}

// verifyEmbedded verifies the root that the application trusts as it is.
func verifyEmbedded(data []byte) (*rootMeta, error) {
	if len(data) > maxRoot {
		return nil, fmt.Errorf("trust: Config.Root is longer than %d bytes: embed the repository's root.json", maxRoot)
	}
	var tm *trustedmetadata.TrustedMetadata
	err := guarded("the embedded root", data, func() (err error) {
		if tm, err = trustedmetadata.New(data); err != nil {
			return err
		}
		return checkHeader(tm.Root.Signed.Version, tm.Root.Signed.SpecVersion)
	})
	var wrong *VerifyError
	if errors.As(err, &wrong) { // no mirror is to blame
		return nil, fmt.Errorf("trust: Config.Root is no root metadata that verifies by itself: %w: embed the repository's root.json", wrong.Err)
	}
	if err != nil {
		return nil, err
	}
	return tm.Root, nil
}

// verifyNextRoot verifies the root that follows trusted (TUF 5.3.4, 5.3.5). It may have expired: only the last one of
// the chain must not have.
func verifyNextRoot(trusted *rootMeta, data []byte) (*rootMeta, error) {
	file := rootName(trusted.Signed.Version + 1)
	tm := trustedmetadata.TrustedMetadata{Root: trusted}
	err := guarded(file, data, func() error {
		next, err := tm.UpdateRoot(data)
		if err != nil {
			return err
		}
		return checkHeader(next.Signed.Version, next.Signed.SpecVersion)
	})
	if err != nil {
		return nil, err
	}
	return tm.Root, nil
}

// verifyTimestamp verifies everything about a timestamp but the floors. At the reference time always it may have
// expired.
func verifyTimestamp(root *rootMeta, data []byte, c clock) (*timestampMeta, error) {
	const file = "metadata/timestamp.json"
	// An expiry plus the allowed staleness has passed exactly when the expiry has passed that much earlier.
	tm := trustedmetadata.TrustedMetadata{Root: root, RefTime: c.now}
	if !c.now.IsZero() {
		tm.RefTime = c.now.Add(-c.maxStaleness)
	}
	err := guarded(file, data, func() error {
		_, err := tm.UpdateTimestamp(data)
		var expired *metadata.ErrExpiredMetadata
		if errors.As(err, &expired) && tm.Timestamp != nil {
			err = nil // judged by the caller, who knows by then whether it is a rollback as well
		}
		if err != nil {
			return err
		}
		ts := &tm.Timestamp.Signed
		snapshot := ts.Meta[snapshotFile]
		if snapshot == nil || snapshot.Version < 1 {
			return errors.New("it does not list the snapshot")
		}
		return checkHeader(ts.Version, ts.SpecVersion)
	})
	if err != nil {
		return nil, err
	}
	return tm.Timestamp, nil
}

// verifySnapshot verifies everything about a snapshot but the floors.
func verifySnapshot(root *rootMeta, ts *timestampMeta, data []byte, c clock) (*snapshotMeta, error) {
	file := snapshotName(root, ts)
	tm := trustedmetadata.TrustedMetadata{Root: root, Timestamp: ts, RefTime: c.online(ts)}
	err := guarded(file, data, func() error {
		if _, err := tm.UpdateSnapshot(data, false); err != nil {
			return err
		}
		sn := &tm.Snapshot.Signed
		for name, meta := range sn.Meta {
			if meta == nil || meta.Version < 1 || meta.Length < 0 {
				return fmt.Errorf("it lists %s without a version", name)
			}
		}
		return checkHeader(sn.Version, sn.SpecVersion)
	})
	var expired *metadata.ErrExpiredMetadata
	if errors.As(err, &expired) && tm.Snapshot != nil {
		return nil, &ExpiredError{roleSnapshot, tm.Snapshot.Signed.Expires, c.now}
	}
	if err != nil {
		return nil, err
	}
	return tm.Snapshot, nil
}

// verifyRole verifies a targets role for one delegator. What was verified for another delegator does not count, as
// each names its own keys.
func (s *state) verifyRole(e edge, data []byte, c clock) (*targetsMeta, error) {
	file := s.roleName(e.role)
	tm := trustedmetadata.TrustedMetadata{
		Root: s.root, Timestamp: s.timestamp, Snapshot: s.snapshot, RefTime: c.online(s.timestamp),
		Targets: map[string]*targetsMeta{},
	}
	if e.delegator != roleRoot {
		tm.Targets[e.delegator] = e.by
	}
	var role *targetsMeta
	err := guarded(file, data, func() (err error) {
		if role, err = tm.UpdateDelegatedTargets(data, e.role, e.delegator); err != nil {
			return err
		}
		if err := checkDelegations(role.Signed.Delegations); err != nil {
			return err
		}
		return checkHeader(role.Signed.Version, role.Signed.SpecVersion)
	})
	var expired *metadata.ErrExpiredMetadata
	if errors.As(err, &expired) {
		// go-tuf does not hand out what has expired; when it did is worth parsing once more.
		late := metadata.Targets()
		if _, parseErr := late.FromBytes(data); parseErr == nil {
			return nil, &ExpiredError{e.role, late.Signed.Expires, c.now}
		}
	}
	if err != nil {
		return nil, err
	}
	if c.now.After(role.Signed.Expires) {
		return nil, &ExpiredError{e.role, role.Signed.Expires, c.now}
	}
	return role, nil
}

// checkDelegations refuses what lets one name mean two things.
func checkDelegations(d *metadata.Delegations) error {
	if d == nil {
		return nil
	}
	if d.Roles != nil && d.SuccinctRoles != nil {
		return errors.New("it delegates both to named roles and to hash bins")
	}
	seen := make(map[string]bool, len(d.Roles))
	for _, r := range d.Roles {
		if r.Name == "" || seen[r.Name] || slices.Contains(metadata.TOP_LEVEL_ROLE_NAMES[:], r.Name) {
			return fmt.Errorf("it delegates to a role named %q, which is taken", r.Name)
		}
		seen[r.Name] = true
	}
	return nil
}

// clock is the time of one operation.
type clock struct {
	now          time.Time // all of it that is known by now, floored
	maxStaleness time.Duration
}

// online is the time at which timestamp and snapshot are judged, once the timestamp is known not to be too stale.
func (c clock) online(ts *timestampMeta) time.Time {
	if c.maxStaleness > 0 && c.now.After(ts.Signed.Expires) {
		return ts.Signed.Expires
	}
	return c.now
}

// judgeTimestamp returns an error if ts has expired longer ago than allowed.
func (c clock) judgeTimestamp(ts *timestampMeta) error {
	if c.now.After(ts.Signed.Expires.Add(c.maxStaleness)) {
		return &ExpiredError{roleTimestamp, ts.Signed.Expires, c.now}
	}
	return nil
}

func (c clock) judgeRoot(root *rootMeta) error {
	if c.now.After(root.Signed.Expires) {
		return &ExpiredError{roleRoot, root.Signed.Expires, c.now}
	}
	return nil
}

// signedTime is when a timestamp says that it was signed, zero if it does not say. It can not be later than the
// timestamp's expiry: a slip of the publisher must not move clocks beyond what it signed otherwise.
func signedTime(ts *timestampMeta) time.Time {
	own, _ := ts.Signed.UnrecognizedFields["fairlead"].(map[string]any)
	text, _ := own["signed"].(string)
	signed, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}
	}
	return earlier(signed, ts.Signed.Expires).UTC()
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
