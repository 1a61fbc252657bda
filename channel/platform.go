package channel

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// A Platform is what a release or an artifact was built for. Written as text it is
//
//	os/arch[/variant][@minimum OS version]
//
// for instance linux/amd64, linux/arm/v7, darwin/arm64@13.0, windows/amd64@10.0.17763. OS and Arch are GOOS and
// GOARCH; Arch may be "any" (a script, a macOS universal binary). Variant is the least CPU level needed, as in
// GOARM or GOAMD64: v7, v3. The minimum OS version is compared number by number, see [Host].
type Platform struct {
	OS, Arch, Variant string
	MinOS             string
}

// A Host is where an installation runs.
//
// Variant is the CPU level it offers ("" if not known: then it gets only what needs none). OSVersion is dotted
// numbers: the product version on macOS, major.minor.build on Windows, the kernel's on Linux ("" if not known:
// then it gets only what has no minimum).
type Host struct {
	OS, Arch, Variant string
	OSVersion         string
}

const anyArch = "any"

var (
	osArchRE    = regexp.MustCompile(`^[a-z0-9]{1,16}$`)
	variantRE   = regexp.MustCompile(`^v[0-9]{1,2}(\.[0-9]{1,2})?$`)
	osVersionRE = regexp.MustCompile(`^[0-9]{1,9}(\.[0-9]{1,9}){0,3}`)
)

// ParsePlatform reads the text form. The error is an [*InvalidError].
func ParsePlatform(s string) (Platform, error) {
	text, minOS, found := strings.Cut(s, "@")
	parts := strings.Split(text, "/")
	if len(parts) < 2 || len(parts) > 3 || (found && minOS == "") || (len(parts) == 3 && parts[2] == "") {
		return Platform{}, &InvalidError{"platform", fmt.Sprintf("%q is not os/arch[/variant][@min-os], such as linux/amd64", s)}
	}
	p := Platform{OS: parts[0], Arch: parts[1], MinOS: minOS}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p, p.Validate()
}

// Validate checks the parts of p. The error is an [*InvalidError].
func (p Platform) Validate() error {
	switch {
	case !osArchRE.MatchString(p.OS) || !osArchRE.MatchString(p.Arch):
		return &InvalidError{"platform", fmt.Sprintf("%q is not os/arch[/variant][@min-os], such as linux/amd64", p)}
	case p.Variant != "" && !variantRE.MatchString(p.Variant):
		return &InvalidError{"platform", fmt.Sprintf("%q: the variant is not a level such as v7", p)}
	case p.MinOS != "" && osVersionRE.FindString(p.MinOS) != p.MinOS:
		return &InvalidError{"platform", fmt.Sprintf("%q: the minimum OS version is not dotted numbers such as 13.0", p)}
	}
	return nil
}

func (p Platform) String() string {
	s := p.OS + "/" + p.Arch
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	if p.MinOS != "" {
		s += "@" + p.MinOS
	}
	return s
}

// MarshalText writes the text form.
func (p Platform) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the text form.
func (p *Platform) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePlatform(string(text))
	return err
}

// Runs reports whether what was built for p runs on h, leaving the OS version aside.
func (p Platform) Runs(h Host) bool {
	return p.OS == h.OS && (p.Arch == h.Arch || p.Arch == anyArch) &&
		(p.Variant == "" || (h.Variant != "" && compareDotted(p.Variant[1:], strings.TrimPrefix(h.Variant, "v")) <= 0))
}

// NewEnough reports whether h's OS version is at least p's minimum.
func (p Platform) NewEnough(h Host) bool {
	if p.MinOS == "" {
		return true
	}
	have := osVersionRE.FindString(h.OSVersion)
	return have != "" && compareDotted(have, p.MinOS) >= 0
}

func (h Host) String() string {
	return Platform{OS: h.OS, Arch: h.Arch, Variant: h.Variant, MinOS: h.OSVersion}.String()
}

// compareDotted compares dotted numbers; what is missing counts as 0. Its arguments passed a regular expression
// that bounds every number to nine digits.
func compareDotted(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(as), len(bs)) {
		var x, y int
		if i < len(as) {
			x, _ = strconv.Atoi(as[i])
		}
		if i < len(bs) {
			y, _ = strconv.Atoi(bs[i])
		}
		if x != y {
			return x - y
		}
	}
	return 0
}

// match returns the best of platforms for h: one that names the host's architecture before "any", then the
// highest variant. If none suits, the denial says why.
func match(platforms []Platform, h Host) (best int, denial *Denial) {
	best = -1
	tooOld := -1
	for i, p := range platforms {
		switch {
		case !p.Runs(h):
		case !p.NewEnough(h):
			tooOld = i
		case best < 0 || better(p, platforms[best]):
			best = i
		}
	}
	switch {
	case best >= 0:
		return best, nil
	case tooOld >= 0:
		have := h.OSVersion
		if have == "" {
			have = "not known"
		}
		return -1, &Denial{ReasonOSVersion, fmt.Sprintf("needs %s %s or later, this is %s", h.OS, platforms[tooOld].MinOS, have)}
	}
	return -1, &Denial{ReasonPlatform, "not built for " + Host{OS: h.OS, Arch: h.Arch, Variant: h.Variant}.String()}
}

func better(a, b Platform) bool {
	if (a.Arch == anyArch) != (b.Arch == anyArch) {
		return b.Arch == anyArch
	}
	if a.Variant == "" || b.Variant == "" {
		return b.Variant == "" && a.Variant != ""
	}
	return compareDotted(a.Variant[1:], b.Variant[1:]) > 0
}
