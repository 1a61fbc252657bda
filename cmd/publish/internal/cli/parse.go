package cli

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

// duration reads 30d, 48h, 2w, 1h30m: what package time reads, and days and weeks.
func duration(flag, s string) (time.Duration, error) {
	bad := usagef("write a length of time such as 30d, 48h or 2w", "--%s %s is not a length of time", flag, s)
	unit, isDay := time.Hour, false
	switch {
	case strings.HasSuffix(s, "d"):
		unit, isDay = 24*time.Hour, true
	case strings.HasSuffix(s, "w"):
		unit, isDay = 7*24*time.Hour, true
	}
	if isDay {
		n, err := strconv.Atoi(s[:len(s)-1])
		if err != nil || n < 0 || n > 36500 {
			return 0, bad
		}
		return time.Duration(n) * unit, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, bad
	}
	return d, nil
}

// instant reads RFC 3339 or a day. A day means its end, 23:59:59 UTC: who is told "until the 30th" expects the 30th
// to count.
func instant(flag, s string) (time.Time, error) {
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return t.Add(24*time.Hour - time.Second), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, usagef("write it as 2027-03-31 or 2027-03-31T12:00:00Z", "--%s %s is not a day or a time", flag, s)
	}
	return t.UTC().Truncate(time.Second), nil
}

// beginning is instant where a day means its beginning.
func beginning(flag, s string) (time.Time, error) {
	t, err := instant(flag, s)
	if err == nil && len(s) == len(time.DateOnly) {
		t = t.Add(time.Second - 24*time.Hour)
	}
	return t, err
}

// percentage reads 5%, 0.5% or 12.34% as basis points.
func percentage(s string) (int, error) {
	bad := usagef("write a share such as 10% or 2.5%, or a ramp such as 5%..100% with --over 48h", "%q is not a share, from 0%% to 100%%", s)
	number, ok := strings.CutSuffix(s, "%")
	whole, fraction, point := strings.Cut(number, ".")
	if !ok || whole == "" || len(whole) > 3 || len(fraction) > 2 || point && fraction == "" {
		return 0, bad
	}
	for _, c := range whole + fraction {
		if c < '0' || c > '9' {
			return 0, bad
		}
	}
	n, err := strconv.Atoi(whole + (fraction + "00")[:2])
	if err != nil || n > channel.Everybody {
		return 0, bad
	}
	return n, nil
}

// ramp reads --rollout and --over. reached is the share that the release has now: where a ramp without a start
// begins. No rollout, and all at once, is nil: everybody.
func ramp(shares, over string, reached int, now time.Time) (*channel.Rollout, error) {
	from, to, isRange := strings.Cut(shares, "..")
	switch {
	case shares == "" && over != "":
		return nil, usagef("say how far, such as --rollout 5%..100% --over "+over, "--over needs --rollout")
	case shares == "":
		return nil, nil
	case isRange && over == "":
		return nil, usagef("say how long it takes, such as --over 48h", "the ramp %s needs --over", shares)
	case !isRange:
		from, to = shares, shares
	}
	r := &channel.Rollout{Start: now.UTC().Truncate(time.Second)}
	var err error
	if r.From, err = percentage(from); err != nil {
		return nil, err
	}
	if r.To, err = percentage(to); err != nil {
		return nil, err
	}
	if over != "" {
		d, err := duration("over", over)
		if err != nil {
			return nil, err
		}
		if !isRange {
			r.From = reached
		}
		r.Duration = int64(d / time.Second)
	}
	if r.From > r.To {
		return nil, usagef("shares only rise over time; to go back at once, leave out --over", "a ramp from %s down to %s", share(r.From), share(r.To))
	}
	if r.From == channel.Everybody {
		return nil, nil
	}
	return r, r.Validate()
}

// artifact reads PLATFORM=PATH.
func artifact(s string) (tufrepo.NewArtifact, error) {
	platform, path, ok := strings.Cut(s, "=")
	if !ok || platform == "" || path == "" {
		return tufrepo.NewArtifact{}, usagef("write it as --artifact linux/amd64=dist/notes", "--artifact %s is not PLATFORM=PATH", s)
	}
	p, err := channel.ParsePlatform(platform)
	var invalid *channel.InvalidError
	if errors.As(err, &invalid) {
		return tufrepo.NewArtifact{}, usagef("platforms are os/arch as Go names them, such as linux/amd64, darwin/arm64@13.0 or windows/amd64", "--artifact: platform %s", invalid.Detail)
	}
	if !slices.Contains(systems, p.OS) || !slices.Contains(architectures, p.Arch) {
		return tufrepo.NewArtifact{}, usagef("platforms are os/arch as `go tool dist list` prints them, or os/any",
			"--artifact: no machine is a %s/%s, so nobody would ever get it", p.OS, p.Arch)
	}
	return tufrepo.NewArtifact{Platform: p, Path: path}, nil
}

// What a release can be for. A typing error in a platform would be signed and then match nobody.
var (
	systems = strings.Fields("aix android darwin dragonfly freebsd illumos ios js linux netbsd openbsd plan9 solaris wasip1 windows")

	architectures = strings.Fields("386 amd64 any arm arm64 loong64 mips mips64 mips64le mipsle ppc64 ppc64le riscv64 s390x wasm")
)

// keyCount is --threshold ROLE=N or ROLE=N/M: N signatures needed, of M keys.
type keyCount struct{ need, of int }

func keyCounts(flags []string) (map[string]keyCount, error) {
	counts := map[string]keyCount{}
	for _, s := range flags {
		role, numbers, ok := strings.Cut(s, "=")
		n, m, hasM := strings.Cut(numbers, "/")
		need, err := strconv.Atoi(n)
		of := need
		var err2 error
		if hasM {
			of, err2 = strconv.Atoi(m)
		}
		if err == nil && err2 == nil && of > 0 && need > of {
			return nil, usagef("the first number is how many must sign, the second how many keys there are, such as root=2/3",
				"--threshold %s asks for %d signatures of %d keys", s, need, of)
		}
		if !ok || role == "" || err != nil || err2 != nil || need < 1 || of < need || of > 32 {
			return nil, usagef("write it as --threshold root=2 (two of two keys) or --threshold root=2/3 (two of three)", "--threshold %s is not ROLE=NUMBER", s)
		}
		counts[role] = keyCount{need, of}
	}
	return counts, nil
}

// entitlements reads CODE (true), CODE=true, CODE=25 and CODE=text.
func entitlements(flags []string) (map[string]any, error) {
	if len(flags) == 0 {
		return nil, nil
	}
	out := map[string]any{}
	for _, s := range flags {
		code, value, ok := strings.Cut(s, "=")
		if code == "" {
			return nil, usagef("write it as --entitlement pro, seats=25 or edition=gold", "--entitlement %q has no code", s)
		}
		if err := channel.CheckEntitlement(code); err != nil {
			return nil, failf(exitUsage, "invalid", "write it as --entitlement pro, seats=25 or edition=gold",
				"--entitlement %s: the code is of lower-case letters, digits, dots, dashes and underscores", s)
		}
		if _, twice := out[code]; twice {
			return nil, usagef("give each code once", "--entitlement %s is given twice", code)
		}
		number, err := strconv.ParseInt(value, 10, 64)
		switch {
		case !ok || value == "true":
			out[code] = true
		case value == "false":
			out[code] = false
		case err == nil:
			out[code] = number
		case value == "":
			return nil, usagef("write it as --entitlement pro, seats=25 or edition=gold", "--entitlement %s has no value", s)
		case errors.Is(err, strconv.ErrRange):
			return nil, usagef("write a number of at most 18 digits", "--entitlement %s: the number is too large", s)
		default:
			out[code] = value
		}
	}
	return out, nil
}
