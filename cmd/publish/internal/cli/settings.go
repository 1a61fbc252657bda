package cli

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/fairlead-dev/fairlead/tufrepo"
)

// settingsFile is read from the working directory if it is there, and --config does not name another.
const settingsFile = "publish.yaml"

const maxSettings = 64 << 10 // bytes

// settings is what stands in publish.yaml. A field that it does not know is an error: a misspelled limit is none.
type settings struct {
	Patches patchSettings   `yaml:"patches"`
	License licenseSettings `yaml:"license"`
}

type patchSettings struct {
	FromLast   *int   `yaml:"from_last"`
	MaxPercent *int   `yaml:"max_percent"`
	MaxSeconds *int   `yaml:"max_seconds"`
	MaxMemory  string `yaml:"max_memory"` // to make a patch
	MaxApply   string `yaml:"max_apply"`  // to apply it
}

// settings reads the file, if there is one.
func (a *app) settings(name string) (*settings, error) {
	data, err := readCapped(name, maxSettings)
	if errors.Is(err, fs.ErrNotExist) && a.configFile == "" {
		return &settings{}, nil
	}
	if err != nil {
		return nil, err
	}
	s := new(settings)
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(s); err != nil && !errors.Is(err, io.EOF) {
		return nil, failf(exitUsage, "settings", "docs/publish.md lists what may stand in "+settingsFile, "%s: %s", name, yamlText(err))
	}
	return s, nil
}

var yamlType = regexp.MustCompile(` in type cli\.[A-Za-z]+`)

// yamlText is an error of package yaml on one line, without the names of our types.
func yamlText(err error) string {
	var several *yaml.TypeError
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if errors.As(err, &several) {
		text = strings.Join(several.Errors, "; ")
	}
	return yamlType.ReplaceAllString(text, "")
}

// patchFlags are the flags of verbs that make patches.
type patchFlags struct {
	none     bool
	fromLast int
}

func (f *patchFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.none, "no-patches", false, "make no patches")
	cmd.Flags().IntVar(&f.fromLast, "patches-from", 0, "make patches from so many releases before (default 5, or as publish.yaml says)")
}

// policy is what publish.yaml says, and the flags say otherwise.
func (a *app) policy(f patchFlags) (tufrepo.PatchPolicy, error) {
	name := cmp.Or(a.configFile, settingsFile)
	s, err := a.settings(name)
	if err != nil {
		return tufrepo.PatchPolicy{}, err
	}
	p, err := s.Patches.policy(name)
	switch {
	case err != nil:
		return p, err
	case f.fromLast < 0:
		return p, usagef("--no-patches makes none", "--patches-from %d is not a number of releases", f.fromLast)
	case f.none:
		p.From = -1
	case f.fromLast > 0:
		p.From = f.fromLast
	}
	return p, nil
}

func (s patchSettings) policy(file string) (p tufrepo.PatchPolicy, err error) {
	whole := func(name string, value *int, least, most int) int {
		if value != nil && (*value < least || *value > most) {
			err = failf(exitUsage, "settings", fmt.Sprintf("write a number from %d to %d", least, most), "%s: patches.%s is %d", file, name, *value)
		}
		if value == nil {
			return 0
		}
		return *value
	}
	bytes := func(name, value string) int64 {
		n, ok := byteCount(value)
		if !ok {
			err = failf(exitUsage, "settings", "write it as 512MB or 4GB", "%s: patches.%s is %q, which is no number of bytes", file, name, value)
		}
		return n
	}
	if p.From = whole("from_last", s.FromLast, 0, 32); s.FromLast != nil && p.From == 0 {
		p.From = -1
	}
	p.MaxPercent = whole("max_percent", s.MaxPercent, 1, 50) // installations take no more than half
	p.Time = time.Duration(whole("max_seconds", s.MaxSeconds, 1, 86400)) * time.Second
	p.Memory, p.Apply = bytes("max_memory", s.MaxMemory), bytes("max_apply", s.MaxApply)
	return p, err
}

var byteCountRE = regexp.MustCompile(`^([1-9][0-9]{0,5}) ?(MB|GB)$`)

// byteCount reads 512MB or 4GB; "" is 0.
func byteCount(s string) (int64, bool) {
	m := byteCountRE.FindStringSubmatch(s)
	if m == nil {
		return 0, s == ""
	}
	var n int64
	_, _ = fmt.Sscan(m[1], &n)
	if m[2] == "GB" {
		n *= 1000
	}
	return n * 1_000_000, true
}
