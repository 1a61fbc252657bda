package channel

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"time"
)

// MaxManifest is the size, in bytes, above which a manifest is neither written nor read.
const MaxManifest = 4 << 20

// Format says how an artifact is packed.
type Format string

// The artifact formats.
const (
	Raw    Format = "raw"     // the executable itself
	TarGz  Format = "tar.gz"  // a gzip-compressed tar archive
	TarZst Format = "tar.zst" // a tar archive compressed with Zstandard, window at most 128 MiB
	Zip    Format = "zip"
)

// A Manifest is everything needed to install one release. It is the same file in every channel that lists the
// release. Fields that this version does not know are ignored when read.
type Manifest struct {
	V           int          `json:"v"` // format, see FormatVersion
	Product     string       `json:"product"`
	Version     string       `json:"version"`
	Published   time.Time    `json:"published"` // UTC, whole seconds
	Artifacts   []Artifact   `json:"artifacts"`
	Notes       *Attachment  `json:"notes,omitempty"`
	Attachments []Attachment `json:"attachments,omitempty"` // SBOM, VEX, provenance
}

// An Artifact is the release for one platform.
type Artifact struct {
	Platform Platform `json:"platform"`
	Blob
	Format     Format `json:"format"`
	Executable string `json:"executable"` // the path in Files of the program to run
	Files      []File `json:"files"`      // the whole content: what is unpacked equals it exactly
}

// A File is one file of an artifact as installed, or one symbolic link. Path is slash-separated and relative, see
// [CheckPath]. Folders are not listed: they exist where files are.
//
// A link has a Link, its target, and the zero Blob and Mode. A reader that does not know links finds no SHA-256 and
// refuses the manifest: it cannot install half of it. The target is relative, slash-separated and clean, ".."
// stands only at its beginning, and it leads to a listed file, or to a folder with a file or a link below it, perhaps
// through other listed links (a macOS framework has Foo → Versions/Current/Foo and Versions/Current → A). No path in the
// list passes through a link.
//
// That is enough to reason about links by text alone. The folder that a link is in is a real one, so the ".." at the
// beginning of its target take away real folders, and no other ".." follows that the system would apply to wherever a
// link had led. Whatever remains is walked from the left: each element is a real folder or a listed link, to which
// the same applies. So a link leads where [Manifest.Validate] saw it lead, inside of what is installed, whoever
// follows it.
type File struct {
	Path string `json:"path"`
	Blob
	Mode uint32 `json:"mode"`           // permission bits only
	Link string `json:"link,omitempty"` // the target of a symbolic link
}

// An Attachment is a named file that belongs to a release.
type Attachment struct {
	Name      string `json:"name"`
	MediaType string `json:"media_type"`
	Blob
}

// ParseManifest reads and validates a manifest. The error is an [*InvalidError] or a [*NewerFormatError].
func ParseManifest(data []byte) (*Manifest, error) {
	m := new(Manifest)
	if err := decode(data, "manifest", "manifest", m); err != nil {
		return nil, err
	}
	return m, m.Validate()
}

// decode reads a file of a format that has a version. field names it in an [*InvalidError], what in a [*NewerFormatError].
func decode(data []byte, field, what string, into any) error {
	var head struct {
		V int `json:"v"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return &InvalidError{field, err.Error()}
	}
	if head.V > FormatVersion {
		return &NewerFormatError{What: what, Version: head.V}
	}
	if err := json.Unmarshal(data, into); err != nil {
		return &InvalidError{field, err.Error()}
	}
	return nil
}

// Encode validates m and writes it.
func (m *Manifest) Encode() ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	data, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	if len(data) > MaxManifest {
		return nil, &InvalidError{"manifest", fmt.Sprintf("is %d bytes, more than %d: the release has too many files", len(data), MaxManifest)}
	}
	return data, nil
}

// Validate checks every field by itself. The error is an [*InvalidError].
func (m *Manifest) Validate() error {
	if m.V != FormatVersion {
		return &InvalidError{"v", fmt.Sprintf("%d is no format version; this is version %d", m.V, FormatVersion)}
	}
	if err := CheckName("product", m.Product); err != nil {
		return err
	}
	if _, err := ParseVersion(m.Version); err != nil {
		return err
	}
	if err := checkTime("published", m.Published); err != nil {
		return err
	}
	if len(m.Artifacts) == 0 || len(m.Artifacts) > maxList {
		return &InvalidError{"artifacts", fmt.Sprintf("has %d elements, not 1 to %d", len(m.Artifacts), maxList)}
	}
	for i := range m.Artifacts {
		if err := m.Artifacts[i].Validate(); err != nil {
			return err
		}
	}
	for _, a := range m.attachments() {
		if err := a.Blob.validate("attachment " + a.Name); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manifest) attachments() []Attachment {
	if m.Notes == nil {
		return m.Attachments
	}
	return append([]Attachment{*m.Notes}, m.Attachments...)
}

// Blobs lists every blob that m names: what a repository must hold for the release to be installable.
func (m *Manifest) Blobs() []Blob {
	var blobs []Blob
	for _, a := range m.Artifacts {
		blobs = append(blobs, a.Blob)
	}
	for _, a := range m.attachments() {
		blobs = append(blobs, a.Blob)
	}
	return blobs
}

// Platforms lists what the artifacts were built for, as a release's entry carries it.
func (m *Manifest) Platforms() []Platform {
	list := make([]Platform, len(m.Artifacts))
	for i, a := range m.Artifacts {
		list[i] = a.Platform
	}
	return list
}

// For returns the artifact that suits h best, or why there is none.
func (m *Manifest) For(h Host) (*Artifact, *Denial) {
	i, denial := match(m.Platforms(), h)
	if denial != nil {
		return nil, denial
	}
	return &m.Artifacts[i], nil
}

// Validate checks every field by itself, and that the files can stand beside each other. The error is an
// [*InvalidError].
func (a *Artifact) Validate() error {
	if err := a.Platform.Validate(); err != nil {
		return err
	}
	what := "artifact " + a.Platform.String()
	if err := a.Blob.validate(what); err != nil {
		return err
	}
	switch a.Format {
	case Raw, TarGz, TarZst, Zip:
	default:
		return &InvalidError{what, fmt.Sprintf("format %q is none of raw, tar.gz, tar.zst, zip", a.Format)}
	}
	if err := a.validateFiles(what); err != nil {
		return err
	}
	if p := a.Program(); p.Path == "" {
		return &InvalidError{what, fmt.Sprintf("its executable %q is not in its file list", a.Executable)}
	} else if p.Link != "" {
		return &InvalidError{what, fmt.Sprintf("its executable %q is a symbolic link, not a file", a.Executable)}
	}
	if a.Format == Raw && (len(a.Files) != 1 || a.Files[0].Blob != a.Blob) {
		return &InvalidError{what, "a raw artifact is exactly one file, the artifact itself"}
	}
	return nil
}

// Program returns the file that is the program to run.
func (a *Artifact) Program() File {
	for _, f := range a.Files {
		if f.Path == a.Executable {
			return f
		}
	}
	return File{} // a validated artifact has it
}

func (a *Artifact) validateFiles(what string) error {
	if len(a.Files) > MaxFiles {
		return &InvalidError{what, fmt.Sprintf("has %d files, more than %d", len(a.Files), MaxFiles)}
	}
	var paths PathSet
	var total int64
	for _, f := range a.Files {
		if err := f.validate(what, a.Platform.OS); err != nil {
			return err
		}
		if why := paths.add(f.Path, false); why != "" {
			return &InvalidError{what, fmt.Sprintf("file path %q %s", f.Path, why)}
		}
		if total += f.Length; total > MaxUnpacked { // no overflow: a length is below 1<<53
			return &InvalidError{what, fmt.Sprintf("its files are more than %d bytes", MaxUnpacked)}
		}
	}
	return a.validateLinks(what)
}

func (f *File) validate(what, os string) error {
	if why := badPath(f.Path, os); why != "" {
		return &InvalidError{what, fmt.Sprintf("file path %.1024q %s", f.Path, why)}
	}
	if f.Link != "" {
		if f.Blob != (Blob{}) || f.Mode != 0 {
			return &InvalidError{what, fmt.Sprintf("file %q is a symbolic link, and has content or a mode", f.Path)}
		}
		if why := badLink(f.Path, f.Link, os); why != "" {
			return &InvalidError{what, fmt.Sprintf("file %q %s", f.Path, why)}
		}
		return nil
	}
	if f.Mode&^0o777 != 0 {
		return &InvalidError{what, fmt.Sprintf("file %q has mode %o: only permission bits are allowed", f.Path, f.Mode)}
	}
	return f.Blob.validate(what + ", file " + f.Path)
}

// validateLinks follows every link to its end. The files passed validate, and no path passes through a link.
func (a *Artifact) validateLinks(what string) error {
	links, there := map[string]string{}, map[string]bool{}
	for _, f := range a.Files {
		p := f.Path
		if f.Link != "" {
			links[p] = f.Link
			p = path.Dir(p)
		}
		for ; p != "." && !there[p]; p = path.Dir(p) {
			there[p] = true
		}
	}
	for _, f := range a.Files {
		if f.Link == "" {
			continue
		}
		if end, ok := follow(links, there, f.Path); !ok {
			return &InvalidError{what, fmt.Sprintf("file %q is a symbolic link to %q, which leads in a circle or through more than %d links", f.Path, f.Link, maxHops)}
		} else if !there[end] {
			return &InvalidError{what, fmt.Sprintf("file %q is a symbolic link to %q, but %q is no listed file and no folder of one", f.Path, f.Link, end)}
		}
	}
	return nil
}

// follow walks from a link to a path that has no link in it, as a system does: from the left, see [File]. It ends early
// at what is not there, so what a crafted list costs stays
// small: no longer a walk than a listed path is deep, for each of the hops.
func follow(links map[string]string, there map[string]bool, p string) (end string, ok bool) {
next:
	for range maxHops + 1 {
		for i := 0; i <= len(p); i++ {
			if i < len(p) && p[i] != '/' {
				continue
			}
			if target, found := links[p[:i]]; found {
				p = path.Join(path.Dir(p[:i]), target, p[i:])
				continue next
			}
			if !there[p[:i]] {
				return p[:i], true
			}
		}
		return p, true
	}
	return "", false
}

func (b Blob) validate(what string) error {
	if !IsSHA256(b.SHA256) {
		return &InvalidError{what, fmt.Sprintf("sha256 %q is not 64 lower-case hex digits", b.SHA256)}
	}
	if b.Length < 0 || b.Length >= 1<<53 {
		return &InvalidError{what, fmt.Sprintf("a length of %d bytes is not possible", b.Length)}
	}
	return nil
}

// IsSHA256 reports whether s is a SHA-256 in 64 lower-case hex digits.
func IsSHA256(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == sha256.Size && s == strings.ToLower(s)
}
