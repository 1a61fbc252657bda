package tufrepo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-dev/fairlead/channel"
)

// A NewRelease is what is to be released. Version and Artifacts are required; of the rest the zero value means what it
// means in [channel.Release].
type NewRelease struct {
	Version    string
	Kind       channel.Kind
	Critical   bool
	Advisories []string
	From       string // semver constraint on the versions that may jump here directly
	Requires   []string
	Components []channel.Component
	Rollout    *channel.Rollout
	Hold       string // not empty: listed as held, for this reason

	Artifacts   []NewArtifact
	Notes       *NewAttachment
	Attachments []NewAttachment // SBOM, VEX, provenance
	Published   time.Time       // zero: now, or when the same bytes were published first
}

// A NewArtifact is a file to release for one platform.
type NewArtifact struct {
	Platform channel.Platform
	Path     string         // on this machine
	Format   channel.Format // "": told by the file's name

	// Executable is the path, in the archive, of the program to run; "" if it is the only executable file. For a raw
	// artifact it is the name to install it under; "" is the product's name, with .exe on Windows.
	Executable string
}

// A NewAttachment is a file to release along with the artifacts.
type NewAttachment struct {
	Name      string // "": the base name of Path
	MediaType string // "": told by the name
	Path      string // on this machine
}

// Release lists a release in a channel. The files are read now, and once more when they are committed; nothing is
// written before.
//
// A version stands for the same bytes for ever, in all channels of a product: with other bytes it is refused with a
// [*VersionReusedError]. With the same bytes nothing changes if it is listed in this channel already (so a release job
// can be run again; the line stays as it is, a hold or rollout included) but that blobs which the store lost, or holds
// damaged, are put back; and otherwise it is listed as it was published first.
//
// Patches from the releases before it are made, see [PatchPolicy]; what came of it is in [Repo.PatchReports].
func (r *Repo) Release(ctx context.Context, product, channelName string, n NewRelease) (channel.Release, error) {
	if channelName == archiveChannel {
		return channel.Release{}, &StateError{"channel " + archiveChannel, "is where old releases go; release to another"}
	}
	if _, err := r.channel(product, channelName); err != nil {
		return channel.Release{}, err
	}
	m := &channel.Manifest{V: channel.FormatVersion, Product: product, Version: n.Version, Published: n.Published.UTC().Truncate(time.Second)}
	if n.Published.IsZero() {
		m.Published = r.clock()
	}
	rel := n.entry(m)
	if err := checkBeforeReading(rel, n); err != nil {
		return rel, err
	}
	sources := map[string]pendingBlob{}
	if err := r.fillManifest(ctx, m, n, sources); err != nil {
		return rel, err
	}
	data, err := r.reuseManifest(ctx, m, n)
	if err != nil {
		return rel, err
	}
	rel.Manifest, rel.Published = blobOf(data), m.Published
	if there, err := r.entry(product, channelName, n.Version); err == nil {
		if err := sameTerms(product, channelName, there, rel); err != nil {
			return there, err
		}
		if err := r.restoreBlobs(ctx, fmt.Sprintf("%s %s", product, n.Version), sources); err != nil {
			return there, err
		}
		return there, r.restorePatches(ctx, product, channelName, there, m, sources)
	}
	if rel.Seq, err = r.nextSeq(product, channelName); err != nil {
		return rel, err
	}
	if err := r.addPatches(ctx, product, channelName, &rel, m, sources); err != nil {
		return rel, err
	}
	if err := r.put(product, channelName, rel); err != nil {
		return rel, err
	}
	for sum, b := range sources {
		r.blobs[sum] = b
	}
	r.files[manifestFile(product, channelName, rel)] = pendingFile{blob: rel.Manifest, data: data}
	r.edited("release %s %s to %s, for %s", product, n.Version, channelName, platformList(rel.Platforms))
	return rel, nil
}

func (n NewRelease) entry(m *channel.Manifest) channel.Release {
	rel := channel.Release{
		V: channel.FormatVersion, Version: n.Version, Seq: 1, Published: m.Published, Kind: n.Kind, Critical: n.Critical,
		Advisories: n.Advisories, Rollout: n.Rollout, From: n.From, Requires: n.Requires, Components: n.Components,
	}
	if rel.Kind == channel.Feature {
		rel.Kind = "" // one way to write it
	}
	if n.Hold != "" {
		rel.State, rel.Reason = channel.Held, n.Hold
	}
	for _, a := range n.Artifacts {
		rel.Platforms = append(rel.Platforms, a.Platform)
	}
	return rel
}

// checkBeforeReading finds what is wrong before gigabytes are hashed.
func checkBeforeReading(rel channel.Release, n NewRelease) error {
	if err := rel.Validate(); err != nil {
		return err
	}
	if len(n.Attachments) > 64 {
		return &channel.InvalidError{Field: "attachments", Detail: "has more than 64 elements"}
	}
	return nil
}

func platformList(list []channel.Platform) string {
	var names []string
	for _, p := range list {
		names = append(names, p.String())
	}
	return strings.Join(names, ", ")
}

func (r *Repo) fillManifest(ctx context.Context, m *channel.Manifest, n NewRelease, sources map[string]pendingBlob) error {
	for _, a := range n.Artifacts {
		scanned, err := scanArtifact(ctx, m.Product, a, r.progress)
		if err != nil {
			return &ArtifactError{a.Path, err}
		}
		m.Artifacts = append(m.Artifacts, scanned)
		sources[scanned.SHA256] = pendingBlob{path: a.Path, length: scanned.Length}
	}
	if n.Notes != nil {
		notes, err := r.attach(ctx, *n.Notes, sources)
		if err != nil {
			return err
		}
		m.Notes = &notes
	}
	names := map[string]bool{}
	for _, a := range n.Attachments {
		attached, err := r.attach(ctx, a, sources)
		if err != nil {
			return err
		}
		if names[attached.Name] {
			return &ArtifactError{a.Path, fmt.Errorf("a second attachment is named %s", attached.Name)}
		}
		names[attached.Name] = true
		m.Attachments = append(m.Attachments, attached)
	}
	return nil
}

// attachmentNameRE: a name that cannot be anything but a file's on any system.
var attachmentNameRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

func (r *Repo) attach(ctx context.Context, a NewAttachment, sources map[string]pendingBlob) (channel.Attachment, error) {
	if a.Name == "" {
		a.Name = filepath.Base(a.Path)
	}
	if !attachmentNameRE.MatchString(a.Name) {
		return channel.Attachment{}, &ArtifactError{a.Path, fmt.Errorf("%q is not a name for an attachment: use letters, digits, dots, dashes and underscores", a.Name)}
	}
	if a.MediaType == "" {
		a.MediaType = mediaType(a.Name)
	}
	f, err := os.Open(a.Path)
	if err != nil {
		return channel.Attachment{}, &ArtifactError{a.Path, err}
	}
	defer func() { _ = f.Close() }()
	blob, err := hashFile(ctx, f, r.progress)
	if err != nil {
		return channel.Attachment{}, &ArtifactError{a.Path, err}
	}
	sources[blob.SHA256] = pendingBlob{path: a.Path, length: blob.Length}
	return channel.Attachment{Name: a.Name, MediaType: a.MediaType, Blob: blob}, nil
}

// mediaType does not ask the system's tables, which differ: the same release must give the same bytes everywhere.
func mediaType(name string) string {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".md":
		return "text/markdown"
	case ".txt":
		return "text/plain"
	case ".html":
		return "text/html"
	case ".json":
		return "application/json"
	case ".xml":
		return "application/xml"
	case ".jsonl":
		return "application/jsonl"
	}
	return "application/octet-stream"
}

// reuseManifest encodes m, or, if the version was published before with the same content, returns what was published:
// only the time of publication may differ, and then the first one stands. It sets m.Published accordingly.
func (r *Repo) reuseManifest(ctx context.Context, m *channel.Manifest, n NewRelease) (data []byte, err error) {
	err = r.find(m.Product, m.Version, func(name string, rel channel.Release) error {
		there, err := r.target(ctx, manifestFile(m.Product, name, rel), rel.Manifest)
		if err != nil {
			return err
		}
		first, err := channel.ParseManifest(there)
		if err != nil {
			return err
		}
		if n.Published.IsZero() {
			m.Published = first.Published
		}
		if err := sameManifest(first, m); err != nil {
			return &VersionReusedError{m.Product, m.Version, name, err.Error()}
		}
		data = there
		return nil
	})
	if err != nil || data != nil {
		return data, err
	}
	return m.Encode()
}

// sameManifest says what differs. It looks at what both mean, not at bytes, so that a later version of this package,
// which may write more, still recognises an old release.
func sameManifest(first, m *channel.Manifest) error {
	a, err := first.Encode()
	if err != nil {
		return err
	}
	b, err := m.Encode()
	if err != nil || bytes.Equal(a, b) {
		return err
	}
	if !first.Published.Equal(m.Published) {
		return fmt.Errorf("was published on %s, not %s", first.Published.Format(time.RFC3339), m.Published.Format(time.RFC3339))
	}
	for _, old := range first.Artifacts {
		for _, a := range m.Artifacts {
			if old.Platform == a.Platform && old.Blob != a.Blob {
				return fmt.Errorf("with other bytes for %s (sha256 %s, not %s)", a.Platform, old.SHA256, a.SHA256)
			}
		}
	}
	return errors.New("with other artifacts, notes or attachments")
}

// sameTerms refuses to change, by releasing it again, what a listed release is; what may change has verbs of its own.
func sameTerms(product, channelName string, there, rel channel.Release) error {
	if there.Kind == channel.Feature {
		there.Kind = ""
	}
	if there.Kind == rel.Kind && there.Critical == rel.Critical && there.From == rel.From && slices.Equal(there.Advisories, rel.Advisories) &&
		slices.Equal(there.Requires, rel.Requires) && slices.Equal(there.Components, rel.Components) && slices.Equal(there.Platforms, rel.Platforms) {
		return nil
	}
	return &VersionReusedError{product, rel.Version, channelName, "on other terms (kind, critical, advisories, from, requires, components or platforms)"}
}
