package tufrepo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/fairlead-dev/fairlead/channel"
)

// auditKeys checks the keys of a role beyond what its signatures show.
func (a *auditor) auditKeys(name, role string, g delegator) {
	if g.threshold < 1 || g.threshold > len(g.keyIDs) {
		a.fail(name, "set the role's keys anew", "role %s has threshold %d and %d keys", role, g.threshold, len(g.keyIDs))
	}
	seen := map[string]string{} // by key material: one person's key must not count twice
	for _, id := range g.keyIDs {
		key := g.keys[id]
		if err := checkKey(id, key); err != nil {
			a.fail(name, "set the role's keys anew", "role %s: %v", role, err)
			continue
		}
		ed := key.Type == metadata.KeyTypeEd25519 && key.Scheme == metadata.KeySchemeEd25519
		ec := key.Type == metadata.KeyTypeECDSA_SHA2_P256 && key.Scheme == metadata.KeySchemeECDSA_SHA2_P256
		if !ed && !ec {
			a.fail(name, "set the role's keys anew", "role %s: key %s has keytype %s with scheme %s, which not every client knows", role, id, key.Type, key.Scheme)
		}
		if other, twice := seen[key.Value.PublicKey]; twice {
			a.fail(name, "set the role's keys anew", "role %s names the same key as %s and as %s", role, other, id)
		}
		seen[key.Value.PublicKey] = id
	}
}

// auditDelegations checks the delegations of targets against each other and against the layout of DESIGN section 3.
func (a *auditor) auditDelegations(name string) {
	d := a.targets.Signed.Delegations
	if d == nil {
		return
	}
	if d.SuccinctRoles != nil {
		a.fail(name, nextFormat, "delegates to hash bins (succinct_roles), where a channel could not be listed")
	}
	seen := map[string]bool{}
	for i, role := range d.Roles {
		if !roleNameRE.MatchString(role.Name) || isTopLevel(role.Name) {
			a.fail(name, nextFormat, "delegates to %q, which is no role name", role.Name)
		}
		if seen[role.Name] {
			a.fail(name, "remove one of the two", "delegates to %s twice", role.Name)
		}
		seen[role.Name] = true
		if !role.Terminating {
			a.fail(name, nextFormat, "delegates to %s without terminating the search", role.Name)
		}
		if len(role.PathHashPrefixes) > 0 {
			a.fail(name, nextFormat, "delegates to %s by path_hash_prefixes, which clients read in two ways", role.Name)
		}
		if want := pathsOf(role.Name); !slices.Equal(role.Paths, want) {
			a.fail(name, nextFormat, "delegates %q to %s, which is to sign %q", role.Paths, role.Name, want)
		}
		for _, other := range d.Roles[:i] {
			if p, q, found := overlap(role.Paths, other.Paths); found && other.Name != role.Name {
				a.fail(name, "delegate disjoint paths", "delegates overlapping paths: %s to %s and %s to %s", q, other.Name, p, role.Name)
			}
		}
		if g, err := targetsDelegates(a.targets, role.Name); err == nil {
			a.auditKeys(name, role.Name, g)
		}
	}
	for meta := range a.snapshot.Signed.Meta {
		if role := strings.TrimSuffix(meta, ".json"); role != metadata.TARGETS && !seen[role] {
			a.warn(metadataName(metadata.SNAPSHOT, a.snapshot.Signed.Version), "nothing, if the role was removed on purpose", "lists %s, which nothing delegates to", meta)
		}
	}
}

// pathsOf is what the role of that name is to sign.
func pathsOf(role string) []string {
	if product, name, ok := strings.Cut(role, "."); ok {
		return []string{product + "/" + name + "/*/*"}
	}
	return []string{role + "/*"}
}

// overlap looks for two patterns that can match the same path, taking any element with a wildcard to match everything.
func overlap(ps, qs []string) (string, string, bool) {
	for _, p := range ps {
		for _, q := range qs {
			x, y := strings.Split(p, "/"), strings.Split(q, "/")
			same := len(x) == len(y)
			for i := 0; same && i < len(x); i++ {
				same = x[i] == y[i] || strings.ContainsAny(x[i], "*?[") || strings.ContainsAny(y[i], "*?[")
			}
			if same {
				return p, q, true
			}
		}
	}
	return "", "", false
}

// auditRole checks one role below targets and what it lists.
func (a *auditor) auditRole(role string) error {
	g, err := targetsDelegates(a.targets, role)
	if err != nil {
		return err
	}
	m, name, data, err := a.pinned(role, g)
	if err != nil || m == nil {
		return err
	}
	a.passed(role, name, data, m, a.targets.Signed.Expires)
	if m.Signed.Delegations != nil {
		a.fail(name, "delegate from targets only", "delegates further, which could delegate a role twice")
	}
	product, channelName, isChannel := strings.Cut(role, ".")
	seqs := map[int64]string{}
	for _, target := range slices.Sorted(maps.Keys(m.Signed.Targets)) {
		t := m.Signed.Targets[target]
		if len(t.Hashes) != 1 || len(t.Hashes["sha256"]) != 32 {
			a.fail(name, nextFormat, "target %s does not have sha256 as its only hash", target)
			continue
		}
		if !isChannel {
			data, err := a.auditTarget(name, role, target, t)
			if err != nil {
				return err
			}
			if data != nil && role == licenseRole {
				base := strings.TrimPrefix(target, licenseRole+"/")
				highest := readStamp(role, m.Signed.UnrecognizedFields, m.Signed.Expires).seq
				a.auditLicense(targetFile(licenseRole, t.Hashes["sha256"].String(), base), base, data, highest)
			}
			continue
		}
		rel, err := a.auditRelease(name, product, channelName, target, t)
		if err != nil {
			return err
		}
		if rel.Defect() != nil {
			continue
		}
		if other, taken := seqs[rel.Seq]; taken {
			a.fail(name, "give one of them a new number", "%s and %s have the same sequence number %d", other, rel.Version, rel.Seq)
		}
		seqs[rel.Seq] = rel.Version
	}
	if isChannel {
		a.auditReverts(name, product, channelName, m)
	}
	return nil
}

// auditTarget reads a target file and checks length and hash; nil after a finding.
func (a *auditor) auditTarget(role, prefix, target string, t *metadata.TargetFiles) ([]byte, error) {
	base := target[strings.LastIndexByte(target, '/')+1:]
	dir := strings.TrimSuffix(target, "/"+base)
	name := targetFile(dir, t.Hashes["sha256"].String(), base)
	if dir != prefix || checkFileName(name) != nil {
		a.fail(role, nextFormat, "lists %q, which is not a path that it may sign", target)
		return nil, nil
	}
	data, err := a.read(name, channel.MaxManifest)
	if err != nil || data == nil {
		return nil, err
	}
	if b := blobOf(data); b.Length != t.Length || b.SHA256 != t.Hashes["sha256"].String() {
		a.fail(name, nextRestore, "has %d bytes and sha256 %s, and %s lists %d bytes", b.Length, b.SHA256, role, t.Length)
		return nil, nil
	}
	a.report.Manifests++
	return data, nil
}

func (a *auditor) auditRelease(role, product, channelName, target string, t *metadata.TargetFiles) (channel.Release, error) {
	a.report.Releases++
	version, _ := strings.CutSuffix(strings.TrimPrefix(target, product+"/"+channelName+"/"), "/release.json")
	rel := readEntry(version, t)
	if target != channel.TargetPath(product, channelName, version) || checkFileName(target) != nil || rel.Defect() != nil {
		problem := rel.Defect()
		if target != channel.TargetPath(product, channelName, version) || checkFileName(target) != nil {
			problem = errors.New("it is not named <product>/<channel>/<version>/release.json")
		}
		a.fail(role, "list the release anew", "the line %s is unusable: %v", target, problem)
		return rel, nil
	}
	key := product + " " + strings.ToLower(version)
	if seen, ok := a.versions[key]; ok && (seen.blob != rel.Manifest || seen.version != version) {
		a.fail(role, "withdraw both and release a new version", "version %s of %s stands for other bytes in %s", version, product, seen.channel)
	} else {
		a.versions[key] = versionSeen{channelName, version, rel.Manifest}
	}
	data, err := a.auditTarget(role, product+"/"+channelName+"/"+version, target, t)
	if err != nil || data == nil {
		return rel, err
	}
	name := manifestFile(product, channelName, rel)
	m, err := channel.ParseManifest(data)
	if err != nil {
		a.fail(name, nextRestore, "is no usable manifest: %v", err)
		return rel, nil
	}
	switch {
	case m.Product != product || m.Version != version:
		a.fail(name, "withdraw it", "is the manifest of %s %s", m.Product, m.Version)
	case !m.Published.Equal(rel.Published):
		a.fail(name, "list the release anew", "says that it was published on %s, and the list says %s", m.Published, rel.Published)
	case !slices.Equal(m.Platforms(), rel.Platforms):
		a.fail(name, "list the release anew", "is for %s, and the list says %s", platformList(m.Platforms()), platformList(rel.Platforms))
	}
	for _, b := range m.Blobs() {
		a.blobs[b] = name
	}
	return rel, a.auditPatches(role, rel, m)
}

// auditPatches reads the list of the patches that lead to a release. The list and the patches are blobs, which are hashed
// with the others.
func (a *auditor) auditPatches(role string, rel channel.Release, m *channel.Manifest) error {
	if rel.Patches == nil {
		return nil
	}
	by := fmt.Sprintf("%s, for %s,", role, rel.Version)
	name := blobName(rel.Patches.SHA256)
	a.blobs[*rel.Patches] = by
	if rel.Patches.Length > channel.MaxPatches {
		a.fail(role, nextFormat, "lists %d bytes of patches for %s, and clients read no more than %d", rel.Patches.Length, rel.Version, channel.MaxPatches)
		return nil
	}
	data, _, err := read(a.ctx, a.store, name, channel.MaxPatches)
	var trust *TrustError
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.As(err, &trust) || err == nil && blobOf(data) != *rel.Patches:
		return nil // auditBlobs says so
	case err != nil:
		return err
	}
	list, err := channel.ParsePatches(data)
	if err != nil {
		a.fail(name, nextFormat, "is no usable list of patches: %v", err)
		return nil
	}
	if list.Product != m.Product || list.Version != rel.Version {
		a.fail(name, "list the release anew", "is the list of patches of %s %s, and %s names it for %s", list.Product, list.Version, role, rel.Version)
	}
	leads := map[string]bool{}
	for i := range m.Artifacts {
		leads[channel.ContentDigest(m.Artifacts[i].Files)] = true
	}
	for _, p := range list.Patches {
		leads[p.From] = true
	}
	for _, p := range list.Patches {
		if !leads[p.To] {
			a.warn(name, "nothing: installations pass it over", "has a patch to sha256 %s, which is neither in %s nor the beginning of another patch", p.To, rel.Version)
		}
		a.blobs[p.Blob] = name
	}
	return nil
}

func (a *auditor) auditReverts(role, product, channelName string, m *metadata.Metadata[metadata.TargetsType]) {
	for target, t := range m.Signed.Targets {
		version, _ := strings.CutSuffix(strings.TrimPrefix(target, product+"/"+channelName+"/"), "/release.json")
		rel := readEntry(version, t)
		if rel.RevertTo == "" {
			continue
		}
		to := m.Signed.Targets[channel.TargetPath(product, channelName, rel.RevertTo)]
		if to == nil || readEntry(rel.RevertTo, to).State == channel.Withdrawn {
			a.fail(role, "withdraw it again with another version to go back to", "%s goes back to %s, which is not listed, or withdrawn itself", version, rel.RevertTo)
		}
	}
}

var (
	expiresRE   = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$`)
	integerRE   = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)
	customKeyRE = regexp.MustCompile(`^[a-z0-9_]+$`)
)

// lint checks the rules without which some TUF client reads a signed file in another way, or not at all.
func (a *auditor) lint(name string, data []byte) {
	var file struct {
		Signed struct {
			Expires string `json:"expires"`
		} `json:"signed"`
	}
	if err := json.Unmarshal(data, &file); err == nil && !expiresRE.MatchString(file.Signed.Expires) {
		a.fail(name, nextFormat, "expires is %q; other implementations want UTC and whole seconds", file.Signed.Expires)
	}
	err := checkJSON(data, func(path []string, n json.Number) error {
		if n == "" {
			key := path[len(path)-1]
			if slices.Contains(path[:len(path)-1], "custom") && !customKeyRE.MatchString(key) {
				return fmt.Errorf("the key %q in custom metadata is not of the letters a-z, digits and underscores", key)
			}
			return nil
		}
		v, err := strconv.ParseInt(string(n), 10, 64)
		if !integerRE.MatchString(string(n)) || err != nil || v >= 1<<53 || v <= -(1<<53) {
			return fmt.Errorf("%s is the number %s: only integers below 2^53 are the same everywhere", strings.Join(path, "."), n)
		}
		return nil
	})
	if err != nil {
		a.fail(name, nextFormat, "%v", err)
	}
}
