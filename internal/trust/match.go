package trust

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// covers reports whether a delegation trusts its role with a target path (TUF section 4.5). The matching is ours, as
// go-tuf's compares path_hash_prefixes with base64 and globs by the rules of the running system.
func covers(role *metadata.DelegatedRole, target string) bool {
	for _, pattern := range role.Paths {
		if matchPath(pattern, target) {
			return true
		}
	}
	if len(role.PathHashPrefixes) == 0 {
		return false
	}
	sum := sha256.Sum256([]byte(target))
	digest := hex.EncodeToString(sum[:])
	for _, prefix := range role.PathHashPrefixes {
		if prefix != "" && strings.HasPrefix(digest, prefix) {
			return true
		}
	}
	return false
}

// matchPath matches element by element: a wildcard never reaches across a slash.
func matchPath(pattern, target string) bool {
	for {
		p, restPattern, morePattern := strings.Cut(pattern, "/")
		t, restTarget, moreTarget := strings.Cut(target, "/")
		if ok, err := path.Match(p, t); err != nil || !ok || morePattern != moreTarget {
			return false
		}
		if !morePattern {
			return true
		}
		pattern, target = restPattern, restTarget
	}
}

// delegation is one way from a role to another one.
type delegation struct {
	role        string
	terminating bool
}

// delegationsFor lists the roles that d trusts with a target path, in order of priority.
func delegationsFor(d *metadata.Delegations, target string) []delegation {
	if d == nil {
		return nil
	}
	if d.Roles == nil && d.SuccinctRoles != nil {
		bin := d.SuccinctRoles.GetRolesForTarget(target)[0]
		return []delegation{{bin.Name, bin.Terminating}}
	}
	var out []delegation
	for i := range d.Roles {
		if r := &d.Roles[i]; covers(r, target) {
			out = append(out, delegation{r.Name, r.Terminating})
		}
	}
	return out
}

// delegatedTo returns how to tell which target paths d trusts a role with; false if d does not know the role.
func delegatedTo(d *metadata.Delegations, role string) (func(target string) bool, bool) {
	if d == nil {
		return nil, false
	}
	if d.Roles == nil && d.SuccinctRoles != nil {
		bins := d.SuccinctRoles
		return func(target string) bool { return bins.GetRolesForTarget(target)[0].Name == role }, bins.IsDelegatedRole(role)
	}
	for i := range d.Roles {
		if r := &d.Roles[i]; r.Name == role {
			return func(target string) bool { return covers(r, target) }, true
		}
	}
	return nil, false
}
