package tufrepo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/fairlead-dev/fairlead/channel"
)

// The files of the licence role that clients know, and how many bytes of them they read. What they say is package
// license's; what is checked here is what would make them useless, or dangerous, whatever they say.
const (
	keyringFile     = "keyring.json"
	revocationsFile = "revocations.json"

	maxKeyring     = 256 << 10
	maxRevocations = 1 << 20
)

func licenseLimit(name string) int {
	switch name {
	case keyringFile:
		return maxKeyring
	case revocationsFile:
		return maxRevocations
	}
	return channel.MaxManifest
}

// PutLicense sets a file of the licence role: keyring.json, the issuer's public keys (at most 256 KiB), or
// revocations.json, what was taken back (at most 1 MiB). Both are JSON objects; package license says of what.
//
// The number (num) of a list of revocations only rises: an older list, which would put back into force what was taken
// back since, is refused with a [*StateError].
func (r *Repo) PutLicense(name string, content []byte) error {
	list, err := r.license(name)
	if err != nil {
		return err
	}
	what := "licence file " + name
	number, err := checkLicense(name, content)
	if err != nil {
		return &StateError{what, err.Error()}
	}
	blob := blobOf(content)
	if old := list[licenseRole+"/"+name]; old != nil && old.Hashes["sha256"].String() == blob.SHA256 {
		return nil
	}
	if name == revocationsFile {
		s := r.stamp(licenseRole)
		if number <= s.seq {
			return &StateError{what, fmt.Sprintf("has number %d, and number %d was signed before with other content: "+
				"begin with the list as it is published, and count up", number, s.seq)}
		}
		s.seq = number
		h := headOf(r.roles[licenseRole])
		*h.fields = s.write(*h.fields)
	}
	sums := metaFile(1, content).Hashes
	list[licenseRole+"/"+name] = &metadata.TargetFiles{Length: blob.Length, Hashes: sums, Path: licenseRole + "/" + name}
	r.files[targetFile(licenseRole, blob.SHA256, name)] = pendingFile{blob: blob, data: slices.Clone(content)}
	r.changed[licenseRole] = true
	r.edited("set the licence file %s", name)
	return nil
}

// checkLicense returns the number of a list of revocations, or what is wrong with a licence file.
func checkLicense(name string, content []byte) (number int64, err error) {
	if limit := licenseLimit(name); len(content) > limit {
		return 0, fmt.Errorf("is %d bytes, and clients read no more than %d", len(content), limit)
	}
	if name != keyringFile && name != revocationsFile {
		return 0, nil // some later format's business
	}
	if err := checkJSON(content, nil); err != nil {
		return 0, fmt.Errorf("is not JSON as clients read it: %w", err)
	}
	if trimmed := bytes.TrimLeft(content, " \t\r\n"); trimmed[0] != '{' {
		return 0, errors.New("is not a JSON object")
	}
	if name != revocationsFile {
		return 0, nil
	}
	var members map[string]json.RawMessage // by their exact names
	var version int64
	if err := json.Unmarshal(content, &members); err != nil {
		return 0, err
	}
	if err := errors.Join(json.Unmarshal(members["v"], &version), json.Unmarshal(members["num"], &number)); err != nil {
		return 0, errors.New("has no integers v and num")
	}
	if version < 1 || number < 1 || number >= 1<<53 {
		return 0, fmt.Errorf("has v %d and num %d, which are integers from 1 on", version, number)
	}
	return number, nil
}

// auditLicense checks what a file of the licence role holds. highest is the number that a list of revocations has had.
func (a *auditor) auditLicense(file, name string, content []byte, highest int64) {
	number, err := checkLicense(name, content)
	switch {
	case err != nil:
		a.fail(file, "publish the file anew", "%v", err)
	case name == revocationsFile && number < highest:
		a.fail(file, "publish a list that has all of it and a higher number", "has number %d, and number %d was signed before", number, highest)
	}
}

// License reads a file of the licence role, as edited, and checks it against the role's list.
func (r *Repo) License(ctx context.Context, name string) ([]byte, error) {
	list, err := r.license(name)
	if err != nil {
		return nil, err
	}
	t := list[licenseRole+"/"+name]
	if t == nil {
		return nil, &NotFoundError{What: "licence file " + name}
	}
	blob := channel.Blob{SHA256: t.Hashes["sha256"].String(), Length: t.Length}
	return r.target(ctx, targetFile(licenseRole, blob.SHA256, name), blob)
}

func (r *Repo) license(name string) (map[string]*metadata.TargetFiles, error) {
	role := r.roles[licenseRole]
	if role == nil {
		return nil, &NotFoundError{What: "role " + licenseRole, Next: "it is made with its keys when the repository is created"}
	}
	if checkFileName(name) != nil || strings.Contains(name, "/") || !strings.HasSuffix(name, ".json") {
		return nil, &NotFoundError{What: fmt.Sprintf("licence file %q", name), Next: "its name is like keyring.json"}
	}
	return role.Signed.Targets, nil
}
