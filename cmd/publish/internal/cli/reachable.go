package cli

import (
	"regexp"

	"github.com/Masterminds/semver/v3"

	"github.com/fairlead-dev/fairlead/channel"
)

var boundRE = regexp.MustCompile(`[0-9]+(\.[0-9]+){0,2}(-[0-9A-Za-z.-]+)?`)

// reachable reports whether any version below r, listed or not, may be updated to r directly. What a constraint allows
// starts at nothing, at a bound that it names, or just above one.
func reachable(r channel.Release, list []channel.Release) bool {
	from, err := channel.ParseConstraint(r.From)
	if err != nil || r.Semver() == nil {
		return true // not asked here
	}
	zero := semver.New(0, 0, 0, "", "")
	candidates := []*semver.Version{zero, semver.New(0, 0, 0, "0", "")}
	for _, bound := range boundRE.FindAllString(r.From, -1) {
		if v, err := semver.NewVersion(bound); err == nil {
			patch, minor, major := v.IncPatch(), v.IncMinor(), v.IncMajor()
			candidates = append(candidates, v, &patch, &minor, &major)
		}
	}
	for _, old := range list {
		if old.Semver() != nil {
			candidates = append(candidates, old.Semver())
		}
	}
	for _, v := range candidates {
		if v.LessThan(r.Semver()) && from.Check(v) {
			return true
		}
	}
	return false
}
