package tufrepo

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/fairlead-dev/fairlead/channel"
)

// Products lists the products, sorted.
func (r *Repo) Products() []string {
	seen := map[string]bool{}
	for _, role := range delegatedRoles(r.roles[metadata.TARGETS]) {
		if product, _, ok := strings.Cut(role, "."); ok {
			seen[product] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// Channels lists the channels of a product, sorted, its archive included.
func (r *Repo) Channels(product string) []string {
	var list []string
	for _, role := range delegatedRoles(r.roles[metadata.TARGETS]) {
		if p, name, ok := strings.Cut(role, "."); ok && p == product {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// Releases lists what a channel offers, holds and withdrew, as edited, by rising sequence number. Lines that cannot be
// used are among them, see [channel.Release.Defect].
func (r *Repo) Releases(product, channelName string) ([]channel.Release, error) {
	role, err := r.channel(product, channelName)
	if err != nil {
		return nil, err
	}
	prefix := product + "/" + channelName + "/"
	var list []channel.Release
	for name, t := range role.Signed.Targets {
		version, ok := strings.CutSuffix(strings.TrimPrefix(name, prefix), "/release.json")
		if ok && strings.HasPrefix(name, prefix) {
			list = append(list, readEntry(version, t))
		}
	}
	slices.SortFunc(list, func(a, b channel.Release) int {
		return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Version, b.Version))
	})
	return list, nil
}

func readEntry(version string, t *metadata.TargetFiles) channel.Release {
	var custom []byte
	if t.Custom != nil {
		custom = *t.Custom
	}
	return channel.ParseRelease(version, custom, channel.Blob{SHA256: hex.EncodeToString(t.Hashes["sha256"]), Length: t.Length})
}

// channel returns the role that signs a channel.
func (r *Repo) channel(product, channelName string) (*metadata.Metadata[metadata.TargetsType], error) {
	if err := errors.Join(channel.CheckName("product", product), channel.CheckName("channel", channelName)); err != nil {
		return nil, err
	}
	role := r.roles[channel.RoleName(product, channelName)]
	if role == nil {
		return nil, &NotFoundError{What: "channel " + channelName + " of product " + product, Next: "add it first"}
	}
	return role, nil
}

// entry returns one line of a channel, which must be usable.
func (r *Repo) entry(product, channelName, version string) (channel.Release, error) {
	role, err := r.channel(product, channelName)
	if err != nil {
		return channel.Release{}, err
	}
	t := role.Signed.Targets[channel.TargetPath(product, channelName, version)]
	if t == nil {
		return channel.Release{}, &NotFoundError{What: fmt.Sprintf("version %s in channel %s of product %s", version, channelName, product)}
	}
	rel := readEntry(version, t)
	return rel, rel.Defect()
}

// put writes one line of a channel. What else stands in the target's custom metadata is kept.
func (r *Repo) put(product, channelName string, rel channel.Release) error {
	if err := rel.Validate(); err != nil {
		return err
	}
	custom, err := rel.Custom()
	if err != nil {
		return err
	}
	sum, err := hex.DecodeString(rel.Manifest.SHA256)
	if err != nil {
		return err
	}
	role, name := channel.RoleName(product, channelName), channel.TargetPath(product, channelName, rel.Version)
	list := r.roles[role].Signed.Targets
	next := &metadata.TargetFiles{Path: name}
	if old := list[name]; old != nil {
		next.UnrecognizedFields = old.UnrecognizedFields
		if custom, err = mergeCustom(old.Custom, custom); err != nil {
			return err
		}
	}
	next.Length, next.Hashes = rel.Manifest.Length, metadata.Hashes{"sha256": sum}
	raw := json.RawMessage(custom)
	next.Custom = &raw
	list[name] = next
	s := r.stamp(role)
	if s.seq < rel.Seq {
		s.seq = rel.Seq
		h := headOf(r.roles[role])
		*h.fields = s.write(*h.fields)
	}
	r.changed[role] = true
	return nil
}

func mergeCustom(old *json.RawMessage, custom []byte) ([]byte, error) {
	if old == nil {
		return custom, nil
	}
	var all, ours map[string]json.RawMessage
	if err := json.Unmarshal(*old, &all); err != nil {
		return custom, nil // was no object: nothing to keep
	}
	if err := json.Unmarshal(custom, &ours); err != nil {
		return nil, err
	}
	maps.Copy(all, ours)
	return json.Marshal(all)
}

// nextSeq is above every number that the channel ever gave: the stamp remembers those of lines that left.
func (r *Repo) nextSeq(product, channelName string) (int64, error) {
	list, err := r.Releases(product, channelName)
	if err != nil {
		return 0, err
	}
	highest := r.stamp(channel.RoleName(product, channelName)).seq
	for _, rel := range list {
		highest = max(highest, rel.Seq)
	}
	return highest + 1, nil
}

func targetFile(dir, sum, base string) string { return "targets/" + dir + "/" + sum + "." + base }

func manifestFile(product, channelName string, rel channel.Release) string {
	return targetFile(product+"/"+channelName+"/"+rel.Version, rel.Manifest.SHA256, "release.json")
}

// Manifest reads the manifest of a listed release and checks it against the list.
func (r *Repo) Manifest(ctx context.Context, product, channelName, version string) (*channel.Manifest, error) {
	rel, err := r.entry(product, channelName, version)
	if err != nil {
		return nil, err
	}
	data, err := r.target(ctx, manifestFile(product, channelName, rel), rel.Manifest)
	if err != nil {
		return nil, err
	}
	return channel.ParseManifest(data)
}

// target reads a target file as edited, and checks it against what is listed.
func (r *Repo) target(ctx context.Context, name string, want channel.Blob) ([]byte, error) {
	source := name
	if f, ok := r.files[name]; ok {
		if f.data != nil {
			return f.data, nil
		}
		source = f.from
	}
	data, _, err := read(ctx, r.store, source, channel.MaxManifest)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &TrustError{source, errors.New("is listed but not there")}
	case err != nil:
		return nil, err
	case blobOf(data) != want:
		return nil, &TrustError{source, errors.New("its length or sha256 is not the one listed")}
	}
	return data, nil
}

// edited notes an edit in words.
func (r *Repo) edited(format string, args ...any) {
	r.edits = append(r.edits, fmt.Sprintf(format, args...))
}
