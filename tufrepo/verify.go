package tufrepo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/fairlead-dev/fairlead/channel"
)

// A Severity says whether a finding makes the repository unusable, for somebody, somewhere.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // some client refuses it, or it is not what the keys signed
	Warning Severity = "warning" // works, and deserves a look
)

// A Finding is one thing that [Verify] found.
type Finding struct {
	Severity Severity
	Name     string // the file, or the role
	Problem  string
	Next     string // what to do
}

func (f Finding) String() string {
	return fmt.Sprintf("%s: %s: %s; %s", f.Severity, f.Name, f.Problem, f.Next)
}

// A Report is what [Verify] looked at and found, in the order of looking.
type Report struct {
	Findings  []Finding
	Roles     int   // metadata files verified
	Releases  int   // lines of channels
	Manifests int   // distinct files verified, licence files included
	Blobs     int   // distinct files verified
	Bytes     int64 // of all that was read
	Unlisted  int   // files of past states, which nothing lists any more
}

// Errors counts the findings that are errors.
func (r *Report) Errors() int {
	n := 0
	for _, f := range r.Findings {
		if f.Severity == Error {
			n++
		}
	}
	return n
}

// A VerifyError says that [Verify] found errors; they are in its report.
type VerifyError struct {
	First Finding
	Count int
}

func (e *VerifyError) Error() string {
	if e.Count == 1 {
		return "tufrepo: the repository does not verify: " + e.First.String()
	}
	return fmt.Sprintf("tufrepo: the repository does not verify: %d errors, the first: %s", e.Count, e.First)
}

// Verify walks a whole repository as an auditor would, at the time given, from a root.json that is trusted. It reads
// every byte that is listed, in bounded memory, and goes on after a finding as far as what it found can be trusted:
// nothing below a file that does not verify is looked at.
//
// It checks the chain of roots; thresholds, signatures, versions, lengths, hashes and expiry of all metadata; that
// delegations do not overlap; every line of every channel, the manifest behind it, and every blob behind that; that no
// version stands for different bytes; that licence files are what clients read, and the list of revocations has not gone
// back; and the format rules without which some TUF client fails. The error is a
// [*VerifyError] if there are findings of severity Error, and another one if the store could not be read.
//
// A nil root means the store's own 1.root.json, trust on first use: then a repository that somebody put in the place of
// another passes. If it has none, the error is a [*NotFoundError].
func Verify(ctx context.Context, store Store, root []byte, at time.Time) (*Report, error) {
	if root == nil {
		var err error
		if root, err = storedRoot(ctx, store); err != nil {
			return nil, err
		}
	}
	names, err := store.List(ctx, "")
	if err != nil {
		return nil, err
	}
	a := &auditor{ctx: ctx, store: store, at: at.UTC(), names: map[string]bool{}, report: &Report{},
		current: map[string]int64{}, listed: map[string]bool{}, blobs: map[channel.Blob]string{}, versions: map[string]versionSeen{}}
	for _, name := range names {
		a.names[name] = true
	}
	if err := a.run(root); err != nil {
		return a.report, err
	}
	if n := a.report.Errors(); n > 0 {
		first := slices.IndexFunc(a.report.Findings, func(f Finding) bool { return f.Severity == Error })
		return a.report, &VerifyError{First: a.report.Findings[first], Count: n}
	}
	return a.report, nil
}

type versionSeen struct {
	channel string
	version string
	blob    channel.Blob
}

type auditor struct {
	ctx    context.Context
	store  Store
	at     time.Time
	names  map[string]bool
	report *Report

	root     *metadata.Metadata[metadata.RootType]
	snapshot *metadata.Metadata[metadata.SnapshotType]
	targets  *metadata.Metadata[metadata.TargetsType]

	current  map[string]int64        // version by role
	listed   map[string]bool         // files that something lists
	blobs    map[channel.Blob]string // and who names them
	versions map[string]versionSeen  // by product and version, folded
}

func (a *auditor) fail(name, next, format string, args ...any) {
	a.report.Findings = append(a.report.Findings, Finding{Error, name, fmt.Sprintf(format, args...), next})
}

func (a *auditor) warn(name, next, format string, args ...any) {
	a.report.Findings = append(a.report.Findings, Finding{Warning, name, fmt.Sprintf(format, args...), next})
}

const (
	nextRestore = "restore the file from a copy, or publish anew if it was changed on purpose"
	nextBlob    = "publish the same release again, with the same bytes, or restore the file from a copy"
	nextRenew   = "sign it anew (refresh)"
	nextFormat  = "publish it anew with a tool that writes the portable format"
)

// read gets a whole file. Its absence, or too great a length, is a finding, and nil; an error is about the store.
func (a *auditor) read(name string, limit int64) ([]byte, error) {
	a.listed[name] = true
	data, _, err := read(a.ctx, a.store, name, limit)
	var trust *TrustError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		a.fail(name, nextRestore, "is missing")
		return nil, nil
	case errors.As(err, &trust):
		a.fail(name, nextRestore, "%v", trust.Err)
		return nil, nil
	}
	a.report.Bytes += int64(len(data))
	return data, err
}

func (a *auditor) run(root []byte) error {
	steps := []func() (bool, error){
		func() (bool, error) { return a.auditRoot(root) },
		a.auditSnapshot,
		a.auditTargets,
	}
	for _, step := range steps {
		if ok, err := step(); err != nil || !ok {
			return err
		}
	}
	for _, role := range delegatedRoles(a.targets) {
		if err := a.auditRole(role); err != nil {
			return err
		}
	}
	if err := a.auditBlobs(); err != nil {
		return err
	}
	a.auditNames()
	return nil
}

// auditRoot follows the chain in the store from its first root, and checks that it leads through the trusted one.
func (a *auditor) auditRoot(trusted []byte) (bool, error) {
	first, err := firstRoot(trusted)
	if err != nil {
		a.fail("the trusted root", "give a root.json of this repository", "is not a usable root: %v", err)
		return false, nil
	}
	for v := int64(1); ; v++ {
		name := metadataName(metadata.ROOT, v)
		if !a.names[name] && v > first.Signed.Version {
			break
		}
		if !a.names[name] {
			a.fail(name, "restore it: installations that have an older root cannot get past the gap", "is missing")
			if a.root = nil; v == first.Signed.Version {
				a.root = first
			}
			continue
		}
		data, err := a.read(name, maxRoot)
		if err != nil || data == nil {
			return false, err
		}
		if v == first.Signed.Version && !bytes.Equal(data, trusted) {
			a.fail(name, "find out which of the two is genuine before anything is signed", "is not the trusted root")
			return false, nil
		}
		root, err := firstRoot(data)
		if a.root != nil {
			root, err = nextRoot(a.root, data)
		}
		if err != nil {
			a.fail(name, nextRestore, "does not follow from the root before it: %v", err)
			return false, nil
		}
		a.root = root
		a.lint(name, data)
		a.report.Roles++
	}
	name := metadataName(metadata.ROOT, a.root.Signed.Version)
	if !a.root.Signed.ConsistentSnapshot {
		a.fail(name, nextFormat, "consistent_snapshot is off")
	}
	for role := range a.root.Signed.Roles {
		if g, err := rootDelegates(a.root, role); err == nil {
			a.auditKeys(name, role, g)
		}
	}
	a.current[metadata.ROOT] = a.root.Signed.Version
	a.auditTimes(metadata.ROOT, name, a.root, time.Time{})
	return true, nil
}

func (a *auditor) auditSnapshot() (bool, error) {
	name := metadataName(metadata.TIMESTAMP, 0)
	data, err := a.read(name, maxTimestamp)
	if err != nil || data == nil {
		return false, err
	}
	ts, err := parse[metadata.TimestampType](data)
	if err == nil {
		err = verifyTop(a.root, metadata.TIMESTAMP, ts)
	}
	pin := (*metadata.MetaFiles)(nil)
	if err == nil {
		if pin = ts.Signed.Meta["snapshot.json"]; pin == nil {
			err = errors.New("lists no snapshot.json")
		}
	}
	if err != nil {
		a.fail(name, nextRestore, "%v", err)
		return false, nil
	}
	a.passed(metadata.TIMESTAMP, name, data, ts, a.root.Signed.Expires)

	name = metadataName(metadata.SNAPSHOT, pin.Version)
	if data, err = a.read(name, maxSnapshot); err != nil || data == nil {
		return false, err
	}
	if a.snapshot, err = parse[metadata.SnapshotType](data); err == nil {
		if err = matches(pin, a.snapshot.Signed.Version, data); err == nil {
			err = verifyTop(a.root, metadata.SNAPSHOT, a.snapshot)
		}
	}
	if err != nil {
		a.fail(name, nextRestore, "%v", err)
		return false, nil
	}
	a.passed(metadata.SNAPSHOT, name, data, a.snapshot, a.root.Signed.Expires)
	return true, nil
}

// passed goes on with a document whose signatures hold.
func (a *auditor) passed(role, name string, data []byte, d document, parentExpires time.Time) {
	a.report.Roles++
	a.current[role] = *headOf(d).version
	a.lint(name, data)
	a.auditTimes(role, name, d, parentExpires)
}

func (a *auditor) auditTimes(role, name string, d document, parentExpires time.Time) {
	h := headOf(d)
	next := readStamp(role, *h.fields, *h.expires).nextSigning(*h.expires)
	switch {
	case !a.at.Before(*h.expires): // some clients take the very second as expired
		a.fail(name, nextRenew, "expired on %s", h.expires.Format(time.RFC3339))
	case !a.at.Before(next):
		a.warn(name, nextRenew, "was to be renewed on %s and expires on %s", next.Format(time.RFC3339), h.expires.Format(time.RFC3339))
	case !parentExpires.IsZero() && next.After(parentExpires):
		a.warn(name, "sign the role above it anew first", "is next signed on %s, after the role above it expires on %s", next.Format(time.RFC3339), parentExpires.Format(time.RFC3339))
	}
}

// pinned reads a targets role and checks it against snapshot and delegator; nil after a finding.
func (a *auditor) pinned(role string, g delegator) (*metadata.Metadata[metadata.TargetsType], string, []byte, error) {
	pin := a.snapshot.Signed.Meta[role+".json"]
	if pin == nil {
		a.fail(metadataName(metadata.SNAPSHOT, a.snapshot.Signed.Version), nextRestore, "does not list %s.json", role)
		return nil, "", nil, nil
	}
	name := metadataName(role, pin.Version)
	data, err := a.read(name, maxTargets)
	if err != nil || data == nil {
		return nil, name, nil, err
	}
	m, err := parse[metadata.TargetsType](data)
	if err == nil {
		if err = matches(pin, m.Signed.Version, data); err == nil {
			err = g.verify(role, m)
		}
	}
	if err != nil {
		a.fail(name, nextRestore, "%v", err)
		return nil, name, nil, nil
	}
	return m, name, data, nil
}

func (a *auditor) auditTargets() (bool, error) {
	g, err := rootDelegates(a.root, metadata.TARGETS)
	if err != nil {
		a.fail(metadataName(metadata.ROOT, a.root.Signed.Version), nextRestore, "%v", err)
		return false, nil
	}
	m, name, data, err := a.pinned(metadata.TARGETS, g)
	if err != nil || m == nil {
		return false, err
	}
	a.targets = m
	a.passed(metadata.TARGETS, name, data, m, a.root.Signed.Expires)
	if len(m.Signed.Targets) > 0 {
		a.fail(name, "list them in a channel instead", "lists %d targets of its own", len(m.Signed.Targets))
	}
	a.auditDelegations(name)
	return true, nil
}

// auditBlobs reads every blob that a manifest names, once.
func (a *auditor) auditBlobs() error {
	byName := func(x, y channel.Blob) int { return strings.Compare(x.SHA256, y.SHA256) }
	for _, b := range slices.SortedFunc(maps.Keys(a.blobs), byName) {
		name, by := blobName(b.SHA256), a.blobs[b]
		a.listed[name] = true
		f, _, err := a.store.Get(a.ctx, name)
		if errors.Is(err, fs.ErrNotExist) {
			a.fail(name, nextBlob, "is missing; %s needs it", by)
			continue
		}
		if err != nil {
			return err
		}
		hash := sha256.New()
		n, err := io.Copy(hash, io.LimitReader(&contextReader{a.ctx, f}, b.Length+1))
		_ = f.Close()
		a.report.Bytes += n
		switch sum := hex.EncodeToString(hash.Sum(nil)); {
		case err != nil:
			return fmt.Errorf("tufrepo: read %s: %w", name, err)
		case n > b.Length:
			a.fail(name, nextBlob, "is longer than the %d bytes that %s lists", b.Length, by)
		case n < b.Length:
			a.fail(name, nextBlob, "has %d bytes, and %s lists %d", n, by, b.Length)
		case sum != b.SHA256:
			a.fail(name, nextBlob, "has sha256 %s", sum)
		default:
			a.report.Blobs++
		}
	}
	return nil
}

var (
	versionedRE = regexp.MustCompile(`^metadata/([1-9][0-9]{0,15})\.([a-z][a-z0-9.-]*)\.json$`)
	blobFileRE  = regexp.MustCompile(`^blobs/sha256/([0-9a-f]{2})/([0-9a-f]{64})$`)
	targetRE    = regexp.MustCompile(`^targets/([a-z][a-z0-9-]*/[a-z][a-z0-9-]*/[^/]+/[0-9a-f]{64}\.release|license/[0-9a-f]{64}\.[A-Za-z0-9._-]+)\.json$`)
)

// auditNames looks at what is there and not listed: past states are as they should be, the rest deserves a look.
func (a *auditor) auditNames() {
	delegated := delegatedRoles(a.targets)
	listedDirs := map[string]bool{}
	for name := range a.listed {
		listedDirs[name[:strings.LastIndexByte(name, '/')+1]] = true
	}
	for _, name := range slices.Sorted(maps.Keys(a.names)) {
		if a.listed[name] {
			continue
		}
		if m := versionedRE.FindStringSubmatch(name); m != nil {
			v, err := strconv.ParseInt(m[1], 10, 64)
			current, known := a.current[m[2]]
			if err == nil && known && v < current {
				a.report.Unlisted++
				continue
			}
			// What a role that does not verify wrote before may be as genuine as anything.
			if !known && slices.Contains(delegated, m[2]) {
				a.report.Unlisted++
				continue
			}
			if known {
				a.warn(name, "nothing, if a publication was interrupted; the next one steps over it", "is newer than the version that is listed")
				continue
			}
		}
		if m := blobFileRE.FindStringSubmatch(name); m != nil && strings.HasPrefix(m[2], m[1]) {
			a.report.Unlisted++
			continue
		}
		if targetRE.MatchString(name) {
			if dir := name[:strings.LastIndexByte(name, '/')+1]; strings.HasSuffix(name, ".release.json") && listedDirs[dir] {
				a.warn(name, "nothing, if a publication was interrupted; otherwise compare the two", "is another manifest of a version that is listed")
			}
			a.report.Unlisted++
			continue
		}
		a.warn(name, "remove it, if nobody knows what it is", "belongs to no repository")
	}
}
