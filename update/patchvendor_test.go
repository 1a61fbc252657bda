package update_test

import (
	"cmp"
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/stretchr/testify/require"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/tufrepo"
	"github.com/fairlead-dev/fairlead/update"
)

// The vendor's side of patches, as small as possible.

// madePatch is a patch with its bytes.
type madePatch struct {
	channel.Patch
	body []byte
}

// contentOf is what files hold, as a manifest lists it.
func contentOf(files map[string][]byte) string {
	var list []channel.File
	for path, content := range files {
		list = append(list, channel.File{Path: path, Blob: blobOf(content)})
	}
	return channel.ContentDigest(list)
}

// withPrefix compresses content, with old as prefix.
func withPrefix(t testing.TB, old, content []byte) []byte {
	t.Helper()
	key := digest(old) + digest(content)
	if packed, ok := alreadyPacked.Load(key); ok {
		return packed.([]byte)
	}
	window := 1 << 10
	for window < len(old)+len(content) {
		window <<= 1
	}
	options := []zstd.EOption{zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(1), zstd.WithZeroFrames(true), zstd.WithEncoderLevel(zstd.SpeedBestCompression)}
	if len(old) > 0 {
		options = append(options, zstd.WithEncoderDictRaw(0, old))
	}
	e, err := zstd.NewWriter(nil, options...)
	require.NoError(t, err)
	packed := e.EncodeAll(content, nil)
	alreadyPacked.Store(key, packed)
	return packed
}

// alreadyPacked are the results of withPrefix: many tests want the same, and it takes most of their time.
var alreadyPacked sync.Map

// filePatch makes a patch of one file.
func filePatch(t testing.TB, old, fresh []byte) madePatch {
	t.Helper()
	body := withPrefix(t, old, fresh)
	return madePatch{channel.Patch{
		From: digest(old), To: digest(fresh), Format: channel.ZstdPrefix, Blob: blobOf(body), ToLength: int64(len(fresh)), Memory: 8 << 20,
	}, body}
}

// indexed is an element of a tree's index.
type indexed struct {
	SHA256 string   `json:"sha256"`
	Length int64    `json:"length"`
	Format string   `json:"format"`
	Base   []string `json:"base,omitempty"`
	Size   int64    `json:"size"`
}

// treePatch makes a patch of several files: each that is new, out of the one that had its name. change, if not nil,
// spoils the index.
func treePatch(t testing.TB, old, fresh map[string][]byte, change func([]indexed)) madePatch {
	t.Helper()
	had := map[string]bool{}
	for _, content := range old {
		had[digest(content)] = true
	}
	list, parts := []indexed{}, []byte(nil)
	for _, path := range slices.Sorted(maps.Keys(fresh)) {
		content := fresh[path]
		i := indexed{SHA256: digest(content), Length: int64(len(content)), Format: "zstd"}
		if had[i.SHA256] {
			continue
		}
		had[i.SHA256] = true
		before, found := old[path]
		if found {
			i.Format, i.Base = "zstd-prefix", []string{digest(before)}
		}
		part := withPrefix(t, before, content)
		i.Size = int64(len(part))
		list, parts = append(list, i), append(parts, part...)
	}
	if change != nil {
		change(list)
	}
	return treeOf(t, old, fresh, list, parts)
}

func treeOf(t testing.TB, old, fresh map[string][]byte, list []indexed, parts []byte) madePatch {
	t.Helper()
	index, err := json.Marshal(map[string]any{"files": list})
	require.NoError(t, err)
	index = withPrefix(t, nil, index)
	body := append(binary.LittleEndian.AppendUint32([]byte("FLtree1\n"), uint32(len(index))), append(index, parts...)...)
	return madePatch{channel.Patch{
		From: contentOf(old), To: contentOf(fresh), Program: digest(old[programPath]), Format: channel.Tree, Blob: blobOf(body), Memory: 8 << 20,
	}, body}
}

// publishPatches puts patches beside a release: their blobs, their list, and its name in the signed entry.
func (v *vendor) publishPatches(version string, patches ...madePatch) {
	v.t.Helper()
	list := channel.Patches{V: 1, Product: "notes", Version: version, Patches: []channel.Patch{}}
	for _, p := range patches {
		v.putBlob(p.body)
		list.Patches = append(list.Patches, p.Patch)
	}
	data, err := list.Encode()
	require.NoError(v.t, err)
	blob := v.putBlob(data)
	v.resignEntry(version, func(r *channel.Release) { r.Patches = &blob })
}

// resignEntry changes the entry of a release.
func (v *vendor) resignEntry(version string, change func(*channel.Release)) {
	v.t.Helper()
	v.resign(func(role *metadata.TargetsType) {
		target := role.Targets[channel.TargetPath("notes", "stable", version)]
		require.NotNil(v.t, target)
		entry := channel.ParseRelease(version, *target.Custom, channel.Blob{})
		require.NoError(v.t, entry.Defect())
		change(&entry)
		custom, err := entry.Custom()
		require.NoError(v.t, err)
		target.Custom = (*json.RawMessage)(&custom)
	})
}

// entry reads the entry of a release.
func (v *vendor) entry(version string) (entry channel.Release) {
	v.t.Helper()
	repo, err := tufrepo.Open(v.t.Context(), tufrepo.Dir(v.dir), tufrepo.OpenConfig{Now: v.clock})
	require.NoError(v.t, err)
	list, err := repo.Releases("notes", "stable")
	require.NoError(v.t, err)
	for _, r := range list {
		if r.Version == version {
			return r
		}
	}
	v.t.Fatalf("there is no %s", version)
	return entry
}

func (v *vendor) putBlob(data []byte) channel.Blob {
	v.t.Helper()
	blob := blobOf(data)
	path := filepath.Join(v.dir, filepath.FromSlash(channel.BlobPath(blob.SHA256)))
	require.NoError(v.t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(v.t, os.WriteFile(path, data, 0o644))
	return blob
}

// resign changes the channel's list, and signs it and what pins it anew.
func (v *vendor) resign(change func(*metadata.TargetsType)) {
	v.t.Helper()
	var timestamp metadata.Metadata[metadata.TimestampType]
	v.read("timestamp.json", &timestamp)
	var snapshot metadata.Metadata[metadata.SnapshotType]
	v.read(fmt.Sprintf("%d.snapshot.json", timestamp.Signed.Meta["snapshot.json"].Version), &snapshot)
	var role metadata.Metadata[metadata.TargetsType]
	v.read(fmt.Sprintf("%d.notes.stable.json", snapshot.Signed.Meta["notes.stable.json"].Version), &role)

	change(&role.Signed)
	role.Signed.Version++
	data := signed(v, &role)
	v.write(fmt.Sprintf("%d.notes.stable.json", role.Signed.Version), data)
	snapshot.Signed.Meta["notes.stable.json"] = pin(role.Signed.Version, data)
	snapshot.Signed.Version++
	data = signed(v, &snapshot)
	v.write(fmt.Sprintf("%d.snapshot.json", snapshot.Signed.Version), data)
	timestamp.Signed.Meta["snapshot.json"] = pin(snapshot.Signed.Version, data)
	timestamp.Signed.Version++
	v.write("timestamp.json", signed(v, &timestamp))
}

func (v *vendor) read(name string, md any) {
	v.t.Helper()
	data, err := os.ReadFile(filepath.Join(v.dir, "metadata", name))
	require.NoError(v.t, err)
	require.NoError(v.t, json.Unmarshal(data, md))
}

func (v *vendor) write(name string, data []byte) {
	v.t.Helper()
	require.NoError(v.t, os.WriteFile(filepath.Join(v.dir, "metadata", name), data, 0o644))
}

func signed[T metadata.Roles](v *vendor, md *metadata.Metadata[T]) []byte {
	v.t.Helper()
	signer, err := signature.LoadSigner(v.key, crypto.Hash(0))
	require.NoError(v.t, err)
	md.Signatures = nil
	_, err = md.Sign(signer)
	require.NoError(v.t, err)
	data, err := json.Marshal(md)
	require.NoError(v.t, err)
	return data
}

func pin(version int64, data []byte) *metadata.MetaFiles {
	sum := sha256.Sum256(data)
	return &metadata.MetaFiles{Version: version, Length: int64(len(data)), Hashes: metadata.Hashes{"sha256": sum[:]}}
}

// noise is content that does not compress, always the same for a seed.
func noise(seed string, n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte(seed))).Read(data)
	return data
}

// largeProgram is a pretended program of which little changes from version to version.
func largeProgram(version string) []byte {
	p := noise("program", 400<<10)
	copy(p[len(p)/2:], noise(version, 300))
	return append(p, program(version)...)
}

// largeMembers are the files of a version with everything that patches have to do with.
func largeMembers(version string) []member {
	mode := int64(0o644)
	if version != "1.0.0" {
		mode = 0o755
	}
	members := []member{
		{name: programPath, content: string(largeProgram(version)), mode: 0o755},
		{name: "share/changed.txt", content: string(noise("text", 40<<10)) + "help of " + version, mode: 0o640},
		{name: "share/same.bin", content: string(noise("same", 60<<10)), mode: 0o644},
		{name: "share/empty.txt", mode: 0o644},
		{name: "share/moved-to-" + version, content: string(noise("moved", 30<<10)), mode: 0o644},
		{name: "share/only-mode.sh", content: "#!/bin/sh\n", mode: mode},
		{name: "share/new-in-" + version, content: "new in " + version, mode: 0o644},
		{name: "share/twin-a", content: string(noise("twin "+version, 3000)), mode: 0o644},
		{name: "share/twin-b", content: string(noise("twin "+version, 3000)), mode: 0o600},
	}
	if runtime.GOOS != "windows" {
		members = append(members, member{name: "share/latest", link: "changed.txt"})
	}
	return members
}

// largeFiles are their contents.
func largeFiles(version string) map[string][]byte {
	files := map[string][]byte{}
	for _, m := range largeMembers(version) {
		if m.link == "" {
			files[m.name] = []byte(m.content)
		}
	}
	return files
}

// publishLarge publishes such a version: with the program alone (raw), or all of it.
func (l layout) publishLarge(t *testing.T, v *vendor, version string, raw bool) {
	t.Helper()
	if raw {
		v.release(version, largeProgram(version))
		return
	}
	v.release(version, tarOf(t, largeMembers(version)...), func(n *tufrepo.NewRelease) {
		n.Artifacts[0].Format, n.Artifacts[0].Executable = channel.TarGz, programPath
	})
}

// patchLarge makes the patch between two such versions.
func patchLarge(t *testing.T, from, to string, raw bool) madePatch {
	t.Helper()
	if raw {
		return filePatch(t, largeProgram(from), largeProgram(to))
	}
	return treePatch(t, largeFiles(from), largeFiles(to), nil)
}

// installLarge puts 1.0.0 on a machine.
func (l layout) installLarge(t *testing.T, v *vendor, change ...func(*update.Config)) *machine {
	t.Helper()
	m := l.install(t, v, "1.0.0", change...)
	if l.place == nil {
		require.NoError(t, os.WriteFile(m.program, largeProgram("1.0.0"), 0o755))
		return m
	}
	place := l.place(m.dir, "1.0.0")
	require.NoError(t, os.RemoveAll(place))
	for _, f := range largeMembers("1.0.0") {
		path := filepath.Join(place, filepath.FromSlash(f.name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		if f.link != "" {
			require.NoError(t, os.Symlink(f.link, path))
			continue
		}
		require.NoError(t, os.WriteFile(path, []byte(f.content), 0o600))
		require.NoError(t, os.Chmod(path, os.FileMode(cmp.Or(f.mode, 0o644))))
	}
	return m
}

// refresh does what a scheduled job of the vendor does.
func (v *vendor) refresh() {
	v.t.Helper()
	v.edit(func(r *tufrepo.Repo) error {
		require.Empty(v.t, r.Refresh(v.signer))
		return nil
	})
}

// bigFile makes the whole artifact so large that patches are worth it.
var bigFile = noise("big", 150<<10)

// patchedLayouts are the layouts, with updates that come as patches.
func patchedLayouts() []layout {
	var list []layout
	for _, l := range layouts {
		l.patched = true
		list = append(list, l)
	}
	return list
}

// publishPatched publishes a version as an archive, and all patches from each version to the next.
func (l layout) publishPatched(v *vendor, version string) {
	v.t.Helper()
	files := func(version string) map[string][]byte {
		if l.place == nil {
			return map[string][]byte{"notes": program(version), "share/big.bin": bigFile}
		}
		return l.files(version)
	}
	executable := map[bool]string{true: "notes", false: programPath}[l.place == nil]
	v.release(version, tarGz(v.t.(*testing.T), files(version)), func(n *tufrepo.NewRelease) {
		n.Artifacts[0].Format, n.Artifacts[0].Executable = channel.TarGz, executable
	})
	var patches []madePatch
	for _, pair := range [][2]string{{"1.0.0", "1.1.0"}, {"1.1.0", "1.2.0"}} {
		if version < pair[1] {
			break
		}
		p := treePatch(v.t, files(pair[0]), files(pair[1]), nil)
		p.Program = digest(program(pair[0]))
		patches = append(patches, p)
	}
	v.publishPatches(version, patches...)
}

// hideArtifacts takes the artifacts of releases away, so that there are only patches.
func (v *vendor) hideArtifacts(versions ...string) {
	v.t.Helper()
	for _, version := range versions {
		e := v.entry(version)
		data, err := os.ReadFile(filepath.Join(v.dir, "targets", "notes", "stable", version, e.Manifest.SHA256+".release.json"))
		require.NoError(v.t, err)
		m, err := channel.ParseManifest(data)
		require.NoError(v.t, err)
		for _, a := range m.Artifacts {
			require.NoError(v.t, os.Remove(filepath.Join(v.dir, filepath.FromSlash(channel.BlobPath(a.SHA256)))))
		}
	}
}

// republish changes the patches of a release in their list.
func (v *vendor) republish(version string, change func(*channel.Patch)) {
	v.t.Helper()
	path := filepath.Join(v.dir, filepath.FromSlash(channel.BlobPath(v.entry(version).Patches.SHA256)))
	data, err := os.ReadFile(path)
	require.NoError(v.t, err)
	list, err := channel.ParsePatches(data)
	require.NoError(v.t, err)
	var patches []madePatch
	for _, p := range list.Patches {
		change(&p)
		body, err := os.ReadFile(filepath.Join(v.dir, filepath.FromSlash(channel.BlobPath(p.SHA256))))
		require.NoError(v.t, err)
		patches = append(patches, madePatch{p, body})
	}
	v.publishPatches(version, patches...)
}
