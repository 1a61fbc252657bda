package trust

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

func delegated(name string, paths ...string) metadata.DelegatedRole {
	return metadata.DelegatedRole{Name: name, Threshold: 1, Paths: paths}
}

func terminating(name string, paths ...string) metadata.DelegatedRole {
	d := delegated(name, paths...)
	d.Terminating = true
	return d
}

// A stolen beta key can not name a stable path.
func TestRoleSpeaksOnlyForItsPaths(t *testing.T) {
	r := newRepo(t)
	r.release("notes.beta", "beta", "2.0.0")
	r.release("notes.beta", "stable", "6.6.6")
	r.publish("notes.beta")
	v := r.mustRefresh(t.TempDir(), nil)
	list, err := v.Role(t.Context(), "notes.beta")
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, "notes/beta/2.0.0/release.json", list[0].Path)
	_, err = v.Find(t.Context(), "notes/stable/6.6.6/release.json")
	require.ErrorIs(t, err, ErrNotFound)
}

func TestSearchOrder(t *testing.T) {
	r := newRepo(t)
	r.delegate(roleTargets, delegated("a", "x/*"))
	r.delegate(roleTargets, terminating("b", "x/*"))
	r.delegate(roleTargets, delegated("c", "x/*"))
	r.delegate("a", delegated("a1", "x/*"))
	r.delegate("a1", delegated("a", "x/*")) // a circle
	for role, names := range map[string][]string{
		"a": {"x/in-a-b"}, "b": {"x/in-a-b", "x/in-b"}, "c": {"x/in-c"}, "a1": {"x/in-a1-b"}, roleTargets: {"x/in-targets"},
	} {
		for _, n := range names {
			r.add(role, n, []byte(role))
		}
	}
	r.add("b", "x/in-a1-b", []byte("b"))
	r.publish("a1", "a", "b", "c", roleTargets)
	v := r.mustRefresh(t.TempDir(), nil)
	for path, role := range map[string]string{
		"x/in-targets": roleTargets, "x/in-a-b": "a", "x/in-a1-b": "a1", "x/in-b": "b",
	} {
		found, err := v.Find(t.Context(), path)
		require.NoError(t, err, path)
		require.Equal(t, role, found.Role, path)
	}
	_, err := v.Find(t.Context(), "x/in-c")
	require.ErrorIs(t, err, ErrNotFound, "b ends the search")
}

func TestSearchVisitsAtMost32Roles(t *testing.T) {
	for _, roles := range []int{maxDelegations, maxDelegations + 1} {
		r := newRepo(t)
		all := []string{roleTargets}
		for i := range roles {
			name := fmt.Sprintf("r%d", i)
			r.delegate(roleTargets, delegated(name, "x/*"))
			all = append(all, name)
		}
		r.add(all[roles], "x/last", []byte("x"))
		r.publish(all...)
		_, err := r.mustRefresh(t.TempDir(), nil).Find(t.Context(), "x/last")
		if roles == maxDelegations {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, "more than 32 delegated roles")
			require.NotErrorIs(t, err, ErrNotFound)
		}
	}
}

// A role that one delegator's keys signed is nothing to another delegator with other keys (go-tuf's client takes it).
func TestRoleIsVerifiedForEachDelegator(t *testing.T) {
	for _, honest := range []bool{true, false} {
		r := newRepo(t)
		r.delegate(roleTargets, delegated("parent-a", "a/*"))
		r.delegate(roleTargets, delegated("parent-b", "b/*"))
		r.delegate("parent-a", delegated("shared", "a/*"))
		if honest {
			r.delegate("parent-b", delegated("shared", "b/*"))
		} else {
			r.delegateTo("parent-b", delegated("shared", "b/*"), ed25519Signer(t))
		}
		r.add("shared", "a/1", []byte("1"))
		r.add("shared", "b/1", []byte("1"))
		r.publish("shared", "parent-a", "parent-b", roleTargets)
		dir := t.TempDir()
		v := r.mustRefresh(dir, nil)
		_, err := v.Find(t.Context(), "a/1")
		require.NoError(t, err)
		_, err = v.Find(t.Context(), "b/1")
		if honest {
			require.NoError(t, err)
		} else {
			requireVerify(t, err, "metadata/1.shared.json")
		}
	}
}

func TestPathHashPrefixesAreHex(t *testing.T) {
	sum := sha256.Sum256([]byte("x/1"))
	digest := hex.EncodeToString(sum[:])
	for prefix, want := range map[string]bool{digest[:2]: true, digest: true, "": false, digest + "0": false, "zz": false} {
		r := newRepo(t)
		r.delegate(roleTargets, metadata.DelegatedRole{Name: "bin", Threshold: 1, PathHashPrefixes: []string{prefix}})
		r.add("bin", "x/1", []byte("1"))
		r.publish("bin", roleTargets)
		_, err := r.mustRefresh(t.TempDir(), nil).Find(t.Context(), "x/1")
		if want {
			require.NoError(t, err, prefix)
		} else {
			require.ErrorIs(t, err, ErrNotFound, prefix)
		}
	}
}

func TestHashBins(t *testing.T) {
	r := newRepo(t)
	key := ed25519Signer(t)
	bins := &metadata.SuccinctRoles{KeyIDs: []string{}, Threshold: 1, BitLength: 2, NamePrefix: "bin"}
	r.roles[roleTargets].Signed.Delegations = &metadata.Delegations{Keys: map[string]*metadata.Key{}, SuccinctRoles: bins}
	require.NoError(t, r.roles[roleTargets].Signed.AddKey(tufKey(t, key), ""))
	for _, name := range bins.GetRoles() {
		md := metadata.Targets(start.Add(day))
		md.Signed.Version = 0
		r.roles[name], r.keys[name] = md, append(r.keys[name], key)
	}
	const path = "any/file"
	bin := bins.GetRolesForTarget(path)[0].Name
	for _, name := range bins.GetRoles() { // every bin claims it
		r.add(name, path, []byte(name))
	}
	r.publish(append(bins.GetRoles(), roleTargets)...)
	v := r.mustRefresh(t.TempDir(), nil)
	found, err := v.Find(t.Context(), path)
	require.NoError(t, err)
	require.Equal(t, bin, found.Role)
	for _, name := range bins.GetRoles() {
		list, err := v.Role(t.Context(), name)
		require.NoError(t, err)
		if name == bin {
			require.Len(t, list, 1)
		} else {
			require.Empty(t, list)
		}
	}
	_, err = v.Role(t.Context(), "bin-4")
	require.ErrorIs(t, err, ErrNotFound)
}

func TestDelegationsThatNameARoleTwice(t *testing.T) {
	for _, name := range []string{"notes.stable", roleTimestamp, roleTargets, roleRoot, ""} {
		r := newRepo(t)
		d := &r.roles[roleTargets].Signed.Delegations.Roles
		*d = append(*d, metadata.DelegatedRole{Name: name, Threshold: 1, Paths: []string{"*"}, KeyIDs: (*d)[0].KeyIDs})
		r.publish(roleTargets)
		_, err := r.refresh(t.TempDir(), nil)
		requireVerify(t, err, "metadata/2.targets.json")
		require.ErrorContains(t, err, "which is taken")
	}
}

func TestRoleThatTheSnapshotDoesNotListIsNotAskedFor(t *testing.T) {
	r := newRepo(t)
	delete(r.snapshot.Signed.Meta, "notes.beta.json")
	r.publish()
	srv := r.serve()
	v := r.mustRefresh(t.TempDir(), srv.source(t))
	srv.asked()
	_, err := v.Role(t.Context(), "notes.beta")
	require.ErrorContains(t, err, "does not list")
	require.Empty(t, srv.asked())
}

func TestMatchPath(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          bool
	}{
		{"a/*", "a/b", true}, {"a/*", "a/b/c", false}, {"*", "a", true}, {"*", "a/b", false},
		{"a/?.z", "a/b.z", true}, {"a/?.z", "a/bb.z", false}, {"A", "a", false}, {"a/b", "a/b", true},
		{"a/[", "a/[", false}, {"a[^b]c", "a/c", false}, {"", "", true}, {"a/*", "a/", true}, {`a\*`, "a*", true},
	} {
		require.Equal(t, c.want, matchPath(c.pattern, c.path), "%s %s", c.pattern, c.path)
	}
}

func TestFetchTakesOnlyWhatWasSigned(t *testing.T) {
	r := newRepo(t)
	r.release("notes.stable", "stable", "1.0.0")
	r.publish("notes.stable")
	v := r.mustRefresh(t.TempDir(), nil)
	list, err := v.Role(t.Context(), "notes.stable")
	require.NoError(t, err)
	good := list[0]
	name := "targets/notes/stable/1.0.0/" + good.SHA256 + ".release.json"
	data := r.get(name)
	_, err = v.Fetch(t.Context(), good, good.Length)
	require.NoError(t, err)

	for what, forged := range map[string][]byte{
		"shorter": data[1:], "longer": append([]byte(" "), data...), "same length": append([]byte(" "), data[1:]...), "empty": {},
	} {
		r.put(name, forged)
		_, err = v.Fetch(t.Context(), good, good.Length)
		requireVerify(t, err, name)
		require.ErrorContains(t, err, "somebody changed the file", what)
	}
	r.put(name, data)

	_, err = v.Fetch(t.Context(), good, good.Length-1)
	require.ErrorContains(t, err, "at most")
	for what, change := range map[string]func(*Target){
		"path":    func(t *Target) { t.Path = "../" + t.Path },
		"no hash": func(t *Target) { t.SHA256 = "" },
		"length":  func(t *Target) { t.Length = -1 },
	} {
		bad := good
		change(&bad)
		_, err = v.Fetch(t.Context(), bad, 1000)
		requireVerify(t, err, bad.Path)
		require.Error(t, err, what)
	}
}

func TestOtherHashesAndNoConsistentSnapshot(t *testing.T) {
	r := newRepo(t)
	r.root.Signed.ConsistentSnapshot = false
	r.publishRoot()
	content := []byte("content")
	file, err := metadata.TargetFile().FromBytes("notes/beta/1/x", content, "sha512")
	require.NoError(t, err)
	r.roles["notes.beta"].Signed.Targets["notes/beta/1/x"] = file
	r.publish("notes.beta", "notes.stable", roleTargets)
	require.NotNil(t, r.get("metadata/snapshot.json"))
	r.put("targets/notes/beta/1/x", content)
	v := r.mustRefresh(t.TempDir(), r.serve().source(t))
	found, err := v.Find(t.Context(), "notes/beta/1/x")
	require.NoError(t, err)
	require.Empty(t, found.SHA256)
	got, err := v.Fetch(t.Context(), found, 100)
	require.NoError(t, err)
	require.Equal(t, content, got)
	r.put("targets/notes/beta/1/x", []byte("CONTENT"))
	_, err = v.Fetch(t.Context(), found, 100)
	requireVerify(t, err, "targets/notes/beta/1/x")
}
