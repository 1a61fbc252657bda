package update_test

import (
	"bytes"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/delta"
	"github.com/fairlead-dev/fairlead/tufrepo"
	"github.com/fairlead-dev/fairlead/update"
)

// bundled is a version that comes with two bundles that share code which no older one has: so the second is made of the first.
func bundled(version string) []member {
	code := string(noise("code of "+version, 50<<10))
	return append(largeMembers(version),
		member{name: "share/bundle.js", content: code + string(noise("one of "+version, 100)), mode: 0o644},
		member{name: "share/module.js", content: string(noise("two of "+version, 100)) + code, mode: 0o644})
}

// The patches that package tufrepo makes are taken, of every kind of installation.
func TestPatchAsPublished(t *testing.T) {
	eachKind(t, func(t *testing.T, l layout, raw bool) {
		v := newVendor(t)
		v.patches = tufrepo.PatchPolicy{}
		for _, version := range []string{"1.0.0", "1.1.0"} {
			if raw || version == "1.0.0" {
				l.publishLarge(t, v, version, raw)
				continue
			}
			v.release(version, tarOf(t, bundled(version)...), func(n *tufrepo.NewRelease) {
				n.Artifacts[0].Format, n.Artifacts[0].Executable = channel.TarGz, programPath
			})
		}
		source := watching(v.dir)
		c := &patchCase{layout: l, raw: raw, source: source}
		c.machine = l.installLarge(t, v, func(cfg *update.Config) { cfg.Source = c.source })
		u := c.start()
		up, _ := c.stage(u)
		require.Empty(t, c.failures())
		require.Zero(t, source.read[c.whole.SHA256], "the artifact itself was not touched")
		require.Less(t, up.Download*2, up.Size)
		require.NoError(t, u.Apply(t.Context(), up))
		require.Equal(t, "1.1.0", c.version())
		if !raw {
			require.True(t, madeOfEachOther(t, v, "1.1.0"), "no file was made of one before it: nothing is shown of that")
		}
	})
}

// madeOfEachOther reports whether the tree that leads to a version has a part whose base is another part's file.
func madeOfEachOther(t *testing.T, v *vendor, version string) bool {
	t.Helper()
	entry := v.entry(version)
	list, err := channel.ParsePatches(v.blob(*entry.Patches))
	require.NoError(t, err)
	require.Len(t, list.Patches, 1)
	body := v.blob(list.Patches[0].Blob)
	tree, err := delta.OpenTree(io.NewSectionReader(bytes.NewReader(body), 0, int64(len(body))))
	require.NoError(t, err)
	made := map[string]bool{}
	for _, f := range tree.Files {
		for _, base := range f.Bases {
			if made[base] {
				return true
			}
		}
		made[f.SHA256] = true
	}
	return false
}

// What is made of another new file is made after it, whatever their paths, and whether or not that is installed.
func TestPatchOfMadeFiles(t *testing.T) {
	code := noise("code", 50<<10)
	fresh := largeFiles("1.1.0")
	for _, m := range madeMembers(code) {
		fresh[m.name] = []byte(m.content)
	}
	between := append([]byte("of no version "), code...)
	for _, l := range layouts {
		if l.place == nil {
			continue
		}
		t.Run(l.name, func(t *testing.T) {
			v := newVendor(t)
			l.publishLarge(t, v, "1.0.0", false)
			v.release("1.1.0", tarOf(t, append(largeMembers("1.1.0"), madeMembers(code)...)...), func(n *tufrepo.NewRelease) {
				n.Artifacts[0].Format, n.Artifacts[0].Executable = channel.TarGz, programPath
			})
			parts := []made{{content: between}, {fresh["share/z"], between}, {fresh["share/b"], fresh["share/z"]}, {fresh["share/a"], fresh["share/b"]}}
			v.publishPatches("1.1.0", orderedTree(t, largeFiles("1.0.0"), fresh, parts))
			c := &patchCase{layout: l, source: watching(v.dir)}
			c.machine = l.installLarge(t, v, func(cfg *update.Config) { cfg.Source = c.source })
			u := c.start()
			up, _ := c.stage(u)
			require.Empty(t, c.failures())
			require.NoError(t, u.Apply(t.Context(), up))
			require.Equal(t, "1.1.0", c.version())
			c.noParts(u)
		})
	}
}

func madeMembers(code []byte) []member {
	return []member{
		{name: "share/z", content: "z" + string(code), mode: 0o644}, {name: "share/a", content: "a" + string(code), mode: 0o644},
		{name: "share/b", content: "b" + string(code), mode: 0o644},
	}
}

// made is a file, and the one that it is made of.
type made struct{ content, base []byte }

// orderedTree is a tree that begins with the files given, in that order.
func orderedTree(t *testing.T, old, fresh map[string][]byte, first []made) madePatch {
	t.Helper()
	var list []indexed
	var parts []byte
	skip := map[string]bool{}
	add := func(content, base []byte) {
		part := withPrefix(t, base, content)
		i := indexed{SHA256: digest(content), Length: int64(len(content)), Format: "zstd", Size: int64(len(part))}
		if base != nil {
			i.Format, i.Base = "zstd-prefix", []string{digest(base)}
		}
		skip[i.SHA256] = true
		list, parts = append(list, i), append(parts, part...)
	}
	for _, content := range old {
		skip[digest(content)] = true
	}
	for _, m := range first {
		add(m.content, m.base)
	}
	for _, path := range slices.Sorted(maps.Keys(fresh)) {
		if !skip[digest(fresh[path])] {
			add(fresh[path], old[path])
		}
	}
	return treeOf(t, old, fresh, list, parts)
}

// A base that comes after its file, or is the file itself, is no base.
func TestPatchOfLaterFiles(t *testing.T) {
	turned := func(raw bool) []madePatch {
		if raw {
			return []madePatch{patchLarge(t, "1.0.0", "1.1.0", true)}
		}
		p := treePatch(t, largeFiles("1.0.0"), largeFiles("1.1.0"), func(list []indexed) {
			list[0].Format, list[0].Base = "zstd-prefix", []string{list[1].SHA256}
			list[1].Format, list[1].Base = "zstd-prefix", []string{list[1].SHA256}
		})
		return []madePatch{p}
	}
	eachLayout(t, []string{"1.0.0", "1.1.0"}, turned, func(t *testing.T, c *patchCase) {
		if c.raw {
			t.Skip("of a tree only")
		}
		u := c.start()
		up, _ := c.stage(u)
		require.Len(t, c.failures(), 1)
		require.NoError(t, u.Apply(t.Context(), up))
		c.holds(u, "1.1.0")
	})
}

// blob reads a blob of the repository.
func (v *vendor) blob(b channel.Blob) []byte {
	v.t.Helper()
	data, err := os.ReadFile(filepath.Join(v.dir, filepath.FromSlash(channel.BlobPath(b.SHA256))))
	require.NoError(v.t, err)
	return data
}
