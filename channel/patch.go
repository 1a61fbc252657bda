package channel

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
)

// MaxPatches is the size, in bytes, above which a list of patches is neither written nor read.
const MaxPatches = 1 << 20

// MaxListed is how many elements such a list may have.
const MaxListed = 1024

// A PatchFormat says how a patch is read. docs/formats.md specifies each of them. Readers leave out patches of
// formats that they do not know.
type PatchFormat string

// The formats of patches.
const (
	ZstdPrefix PatchFormat = "zstd-prefix" // a Zstandard frame (RFC 8878) with the old file as raw prefix
	Reloc      PatchFormat = "reloc/1"     // copies of which references are projected to their new addresses
	Tree       PatchFormat = "tree/1"      // of several files, each in a format of its own
)

// Patches is the list of patches that lead to a release in a channel: a blob that the release's entry names. It is
// apart from the manifest because that is the same in every channel, and the releases that come before are not.
type Patches struct {
	V       int     `json:"v"` // format, see FormatVersion
	Product string  `json:"product"`
	Version string  `json:"version"` // of the release
	Patches []Patch `json:"patches"`
}

// A Patch leads from the content of one artifact to that of another: not necessarily the release's own, as a way to it
// may have several steps.
type Patch struct {
	From string `json:"from"` // see ContentDigest
	To   string `json:"to"`
	// Program is the SHA-256 of the program in From, where From is not that itself: for installations that keep nothing
	// else of an artifact.
	Program string      `json:"program,omitempty"`
	Format  PatchFormat `json:"format"`
	Blob
	// ToLength is the length of To, if that is one file and Format is not Tree, which has it inside. Without it the patch
	// is used only where To is the release itself.
	ToLength int64 `json:"to_length,omitempty"`
	Memory   int64 `json:"memory"` // bytes that applying it takes at most, besides the program's own
}

// ContentDigest identifies what files hold, whatever they are called and wherever they are: the SHA-256 of a single file
// is it itself; of several it is the SHA-256 of their distinct SHA-256s, in lower-case hex, sorted, each ended by
// a newline. Links do not count. Of no file at all it is "".
func ContentDigest(files []File) string {
	var sums []string
	for _, f := range files {
		if f.Link == "" {
			sums = append(sums, f.SHA256)
		}
	}
	slices.Sort(sums)
	sums = slices.Compact(sums)
	switch len(sums) {
	case 0:
		return ""
	case 1:
		return sums[0]
	}
	h := sha256.New()
	for _, s := range sums {
		h.Write([]byte(s + "\n"))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// ParsePatches reads and validates a list of patches. The error is an [*InvalidError] or a [*NewerFormatError].
func ParsePatches(data []byte) (*Patches, error) {
	p := new(Patches)
	if err := decode(data, "patches", "list of patches", p); err != nil {
		return nil, err
	}
	return p, p.Validate()
}

// Encode validates p and writes it.
func (p *Patches) Encode() ([]byte, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	data, err := json.Marshal(p)
	if err == nil && len(data) > MaxPatches {
		err = &InvalidError{"patches", fmt.Sprintf("is %d bytes, more than %d", len(data), MaxPatches)}
	}
	return data, err
}

// Validate checks every field by itself. The error is an [*InvalidError].
func (p *Patches) Validate() error {
	if p.V != FormatVersion {
		return &InvalidError{"v", fmt.Sprintf("%d is no format version; this is version %d", p.V, FormatVersion)}
	}
	if err := CheckName("product", p.Product); err != nil {
		return err
	}
	if _, err := ParseVersion(p.Version); err != nil {
		return err
	}
	if len(p.Patches) > MaxListed {
		return &InvalidError{"patches", fmt.Sprintf("has %d elements, more than %d", len(p.Patches), MaxListed)}
	}
	for i, patch := range p.Patches {
		if err := patch.validate(fmt.Sprintf("patch %d", i)); err != nil {
			return err
		}
	}
	return nil
}

func (p *Patch) validate(what string) error {
	if err := p.Blob.validate(what); err != nil {
		return err
	}
	for name, sum := range map[string]string{"from": p.From, "to": p.To, "program": p.Program} {
		if name == "program" && sum == "" {
			continue
		}
		if !IsSHA256(sum) {
			return &InvalidError{what, fmt.Sprintf("%s %q is not 64 lower-case hex digits", name, sum)}
		}
	}
	if p.Format == "" || p.From == p.To {
		return &InvalidError{what, "has no format, or leads nowhere"}
	}
	if p.Memory < 0 || p.Memory >= 1<<53 || p.ToLength < 0 || p.ToLength >= 1<<53 {
		return &InvalidError{what, "needs an impossible amount of memory, or makes an impossible length"}
	}
	return nil
}
