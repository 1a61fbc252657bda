package tufrepo

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/fairlead-dev/fairlead/channel"
)

const (
	licenseRole    = "license"
	archiveChannel = "archive"
)

// What clients read at most, in bytes, of each kind of metadata: more is neither read nor written.
const (
	maxRoot      = 512_000
	maxTimestamp = 16_384
	maxSnapshot  = 2_000_000
	maxTargets   = 5_000_000
)

func maxLength(role string) int64 {
	switch role {
	case metadata.ROOT:
		return maxRoot
	case metadata.TIMESTAMP:
		return maxTimestamp
	case metadata.SNAPSHOT:
		return maxSnapshot
	}
	return maxTargets
}

// A document is a *metadata.Metadata of one of the four types: go-tuf's types share no methods.
type document any

// head is what the signed parts of all documents have in common, to read and to write.
type head struct {
	version    *int64
	expires    *time.Time
	fields     *map[string]any
	signatures *[]metadata.Signature
	signed     any
}

func headOf(d document) head {
	switch m := d.(type) {
	case *metadata.Metadata[metadata.RootType]:
		return head{&m.Signed.Version, &m.Signed.Expires, &m.Signed.UnrecognizedFields, &m.Signatures, m.Signed}
	case *metadata.Metadata[metadata.TimestampType]:
		return head{&m.Signed.Version, &m.Signed.Expires, &m.Signed.UnrecognizedFields, &m.Signatures, m.Signed}
	case *metadata.Metadata[metadata.SnapshotType]:
		return head{&m.Signed.Version, &m.Signed.Expires, &m.Signed.UnrecognizedFields, &m.Signatures, m.Signed}
	case *metadata.Metadata[metadata.TargetsType]:
		return head{&m.Signed.Version, &m.Signed.Expires, &m.Signed.UnrecognizedFields, &m.Signatures, m.Signed}
	}
	return head{}
}

// encode writes d compactly: clients count bytes. What is too long for clients, or what our own strict reading would
// refuse (an edit put it there), is not published.
func encode(role string, d document) ([]byte, error) {
	data, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("tufrepo: role %s: %w", role, err)
	}
	if limit := maxLength(role); int64(len(data)) > limit {
		return nil, &StateError{"role " + role, fmt.Sprintf("would be %d bytes, and clients read no more than %d; archive old releases", len(data), limit)}
	}
	if err := checkJSON(data, nil); err != nil {
		return nil, fmt.Errorf("tufrepo: role %s: %w", role, err)
	}
	return data, nil
}

// parse reads one document, of which nothing is trusted yet. go-tuf checks that its type is T's.
func parse[T metadata.Roles](data []byte) (*metadata.Metadata[T], error) {
	if err := checkJSON(data, nil); err != nil {
		return nil, err
	}
	m, err := new(metadata.Metadata[T]).FromBytes(data)
	if err != nil {
		return nil, err
	}
	if v := *headOf(m).version; v < 1 {
		return nil, fmt.Errorf("version %d is not positive", v)
	}
	return m, nil
}

// A delegator is who says which keys sign a role: the root, or the targets role.
type delegator struct {
	doc        document
	keys       map[string]*metadata.Key
	keyIDs     []string
	threshold  int
	terminates bool
}

func rootDelegates(root *metadata.Metadata[metadata.RootType], role string) (delegator, error) {
	r := root.Signed.Roles[role]
	if r == nil {
		return delegator{}, fmt.Errorf("the root names no keys for %s", role)
	}
	return delegator{root, root.Signed.Keys, r.KeyIDs, r.Threshold, false}, nil
}

func delegation(targets *metadata.Metadata[metadata.TargetsType], role string) *metadata.DelegatedRole {
	if targets.Signed.Delegations == nil {
		return nil
	}
	list := targets.Signed.Delegations.Roles
	if i := slices.IndexFunc(list, func(d metadata.DelegatedRole) bool { return d.Name == role }); i >= 0 {
		return &list[i]
	}
	return nil
}

func targetsDelegates(targets *metadata.Metadata[metadata.TargetsType], role string) (delegator, error) {
	r := delegation(targets, role)
	if r == nil {
		return delegator{}, fmt.Errorf("targets does not delegate to %s", role)
	}
	return delegator{targets, targets.Signed.Delegations.Keys, r.KeyIDs, r.Threshold, r.Terminating}, nil
}

// verify checks that d is signed by the threshold of the role's keys. The keys are looked at first: go-tuf passes on
// whatever length an Ed25519 key has, and crypto/ed25519 panics.
func (g delegator) verify(role string, d document) error {
	if len(g.keyIDs) == 0 || g.threshold < 1 {
		return fmt.Errorf("role %s has %d keys and threshold %d", role, len(g.keyIDs), g.threshold)
	}
	for _, id := range g.keyIDs {
		if err := checkKey(id, g.keys[id]); err != nil {
			return err
		}
	}
	switch m := g.doc.(type) {
	case *metadata.Metadata[metadata.RootType]:
		return m.VerifyDelegate(role, d)
	case *metadata.Metadata[metadata.TargetsType]:
		return m.VerifyDelegate(role, d)
	}
	return errors.New("only root and targets delegate")
}

func checkKey(id string, key *metadata.Key) error {
	if key == nil {
		return fmt.Errorf("key %s is named but not given", id)
	}
	pub, err := key.ToPublicKey()
	if err != nil {
		return fmt.Errorf("key %s: %w", id, err)
	}
	if err := checkKeyType(pub); err != nil {
		return fmt.Errorf("key %s: %w", id, err)
	}
	return nil
}

// countSigners returns how many distinct keys of the role are among ids.
func (g delegator) countSigners(ids map[string]*Signer) (names []string) {
	for _, id := range g.keyIDs {
		if ids[id] != nil && !slices.Contains(names, id) {
			names = append(names, id)
		}
	}
	return names
}

// signatures signs d's signed part with every one of the signers named.
func signatures(d document, signers []*Signer) ([]metadata.Signature, error) {
	payload, err := cjson.EncodeCanonical(headOf(d).signed)
	if err != nil {
		return nil, fmt.Errorf("tufrepo: canonical JSON: %w", err)
	}
	var list []metadata.Signature
	for _, s := range signers {
		sig, err := s.sign(payload)
		if err != nil {
			return nil, err
		}
		list = append(list, metadata.Signature{KeyID: s.ID(), Signature: sig})
	}
	return list, nil
}

// copyDocument copies what signing changes; the maps below are shared.
func copyDocument(d document) document {
	switch m := d.(type) {
	case *metadata.Metadata[metadata.RootType]:
		c := *m
		return &c
	case *metadata.Metadata[metadata.TimestampType]:
		c := *m
		return &c
	case *metadata.Metadata[metadata.SnapshotType]:
		c := *m
		c.Signed.Meta = maps.Clone(m.Signed.Meta)
		return &c
	case *metadata.Metadata[metadata.TargetsType]:
		c := *m
		return &c
	}
	return nil
}

func blobOf(data []byte) channel.Blob {
	sum := sha256.Sum256(data)
	return channel.Blob{SHA256: hex.EncodeToString(sum[:]), Length: int64(len(data))}
}

func metaFile(version int64, data []byte) *metadata.MetaFiles {
	sum := sha256.Sum256(data)
	return &metadata.MetaFiles{Version: version, Length: int64(len(data)), Hashes: metadata.Hashes{"sha256": sum[:]}}
}

// matches checks data against what pins it. Length and sha256 are required: TUF makes them optional.
func matches(pin *metadata.MetaFiles, version int64, data []byte) error {
	b := blobOf(data)
	switch {
	case pin == nil:
		return errors.New("is not listed")
	case pin.Version != version:
		return fmt.Errorf("has version %d, and version %d is listed", version, pin.Version)
	case pin.Length != b.Length:
		return fmt.Errorf("has %d bytes, and %d are listed", b.Length, pin.Length)
	case pin.Hashes["sha256"].String() != b.SHA256:
		return fmt.Errorf("has sha256 %s, and %s is listed", b.SHA256, pin.Hashes["sha256"])
	}
	return nil
}

// roleNameRE: never a slash (ordinary file servers decode %2F), never all digits (other implementations order those).
var roleNameRE = regexp.MustCompile(`^[a-z][a-z0-9-]*(\.[a-z][a-z0-9-]*)?$`)

func metadataName(role string, version int64) string {
	if role == metadata.TIMESTAMP {
		return "metadata/timestamp.json"
	}
	return fmt.Sprintf("metadata/%d.%s.json", version, role)
}
