package channel

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
)

// A Query is what Resolve needs to know of an installation.
type Query struct {
	Product   string    // as in the target's path; part of the rollout bucket
	Running   string    // the running version; a leading v is accepted; "", "dev" and the like mean not known
	Host      Host      // the system it runs on
	InstallID string    // random and stable for this installation; "": waits for every rollout's end
	Now       time.Time // judges rollouts only

	// Permit says whether the licence allows a release: nil if so. A nil Permit allows every release that requires
	// no entitlement.
	Permit func(Release) *Denial

	Pin        string   // only this version; "": no pin
	Constraint string   // only versions that satisfy it, and whose final release does: "<2" keeps 2.0.0-rc.1 out; "": any
	Skip       []string // versions the user does not want
	// Quarantined holds releases that failed on this machine, by the SHA-256 of their manifest, with the particulars.
	Quarantined map[string]string

	// AcceptDowngrade allows a lower version if the running one is not in the list: after a change of channel.
	AcceptDowngrade bool
}

// An Outcome sums a Plan up.
type Outcome string

// The outcomes.
const (
	UpToDate  Outcome = "up_to_date" // nothing newer is there for this installation
	Available Outcome = "available"  // Steps says what to install
	// Withheld: something newer is there, but not for this installation now; NotAllowed says what and why. Or the
	// running version was withdrawn, and there is nowhere to go.
	Withheld Outcome = "withheld"
	Unknown  Outcome = "unknown" // the running version is not known, so nothing is decided
)

// A Plan is what Resolve answers.
type Plan struct {
	Outcome Outcome
	// Steps are the releases to install one after the other; usually one, more when a release can only be reached
	// through stepping stones.
	Steps []Release
	// Downgrade: the last step is lower than the running version.
	Downgrade bool
	// Critical and Security: at least one release that the plan installs or jumps over is of that kind.
	Critical, Security bool
	// Running is the list's entry for the running version; nil if it is not listed.
	Running *Release
	// Best is the best release allowed: the last step, or Running when there is no step, or nil.
	Best *Release
	// NotAllowed is the highest release above Best and the running version that this installation may not have now, because of its
	// operating system, its licence, the app's own wishes, a missing stepping stone, components, the rollout or the
	// entry's format; nil if none. Releases that nobody may have, or that were not built for this platform, do not count.
	// If the running version was withdrawn and there is nothing newer, it is the version to go back to, if that is
	// not allowed.
	NotAllowed *Skip
	// Skipped holds every release that is neither a step nor the running one, highest version first.
	Skipped []Skip
}

// A Skip is a release passed over, and why.
type Skip struct {
	Release Release
	Denial
}

// Target returns the release the plan leads to, or nil when it has no steps.
func (p Plan) Target() *Release {
	if len(p.Steps) == 0 {
		return nil
	}
	return &p.Steps[len(p.Steps)-1]
}

// Resolve chooses from a channel's list. It is pure: the same arguments give the same plan, in whatever order the
// list is. The error is an [*InvalidError] that names a wrong field of q; whatever is wrong in the list costs only
// that release.
func Resolve(list []Release, q Query) (Plan, error) {
	s, err := newSearch(list, q)
	if err != nil {
		return Plan{}, err
	}
	var target *candidate
	if s.running != nil {
		target = s.choose()
	}
	return s.plan(target), nil
}

// candidate is a release on its way through the questions.
type candidate struct {
	*Release
	denial *Denial
	depth  int        // steps needed from the running version; 0: not looked at, -1: no way
	via    *candidate // the step before
}

type search struct {
	Query
	running    *semver.Version // nil: not known
	constraint *semver.Constraints
	all        []*candidate // ascending; releases without a version first
	budget     int          // checks of a way still allowed
}

// maxWayChecks bounds the search for stepping stones: a list made to cost time gets no more than this. Real lists need a
// check or two for each release.
const maxWayChecks = 50_000

func newSearch(list []Release, q Query) (*search, error) {
	s := &search{Query: q, budget: maxWayChecks}
	s.running, _ = semver.StrictNewVersion(strings.TrimPrefix(q.Running, "v"))
	if q.Constraint != "" {
		var err error
		if s.constraint, err = ParseConstraint(q.Constraint); err != nil {
			return nil, err
		}
	}
	if q.Pin != "" {
		if _, err := ParseVersion(q.Pin); err != nil {
			return nil, &InvalidError{"pin", err.Error()}
		}
	}
	for i := range list {
		r := list[i]
		if r.version == nil && r.defect == nil {
			r.defect = r.Validate() // built by hand, not parsed
		}
		s.all = append(s.all, &candidate{Release: &r})
	}
	slices.SortFunc(s.all, func(a, b *candidate) int {
		switch {
		case a.version == nil || b.version == nil:
			return cmp.Or(boolCompare(a.version != nil, b.version != nil), strings.Compare(a.Version, b.Version))
		default:
			return cmp.Or(a.version.Compare(b.version), cmp.Compare(a.Seq, b.Seq), strings.Compare(a.Manifest.SHA256, b.Manifest.SHA256))
		}
	})
	return s, nil
}

func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// choose judges what could be a target and returns the best, or nil.
func (s *search) choose() *candidate {
	up := s.above()
	for _, c := range up {
		c.denial = s.judge(c)
	}
	for _, c := range slices.Backward(up) {
		if c.denial != nil && c.denial.Code != ReasonComponents && c.denial.Code != ReasonRollout {
			continue
		}
		// The way comes before components and rollout, so reach may put its own denial in their place.
		if s.reach(c, up) > 0 && c.denial == nil {
			return c
		}
	}
	return s.chooseLower()
}

// above lists the candidates with a version higher than the running one, one per version.
func (s *search) above() []*candidate {
	i, _ := slices.BinarySearchFunc(s.all, s.running, func(c *candidate, v *semver.Version) int {
		if c.version == nil || !c.version.GreaterThan(v) {
			return -1
		}
		return 1
	})
	var up []*candidate
	var kept *candidate // the last one that can be used: a line that cannot be hides nothing
	for _, c := range slices.Backward(s.all[i:]) {
		if c.defect == nil && kept != nil && kept.version.Equal(c.version) {
			c.denial = &Denial{ReasonSuperseded, "listed again with a higher sequence number"}
			continue
		}
		if c.defect == nil {
			kept = c
		}
		up = append(up, c)
	}
	slices.Reverse(up)
	return up
}

// chooseLower finds the way down: from a withdrawn release to the one it names, or after a change of channel.
func (s *search) chooseLower() *candidate {
	running := s.listed(s.running)
	if running != nil && running.State == Withdrawn && running.RevertTo != "" {
		if c := s.listed(semver.MustParse(running.RevertTo)); c != nil {
			if c.denial = s.judgeRevert(c); c.denial == nil {
				return c
			}
		}
		return nil
	}
	if !s.AcceptDowngrade || (running != nil && running.State != Withdrawn) {
		return nil
	}
	for _, c := range slices.Backward(s.all) {
		if c.version == nil || !c.version.LessThan(s.running) {
			continue
		}
		if c.denial = s.judge(c); c.denial == nil && c.from != nil && !c.from.Check(s.running) {
			c.denial = s.noWay(c)
		}
		if c.denial == nil {
			return c
		}
	}
	return nil
}

// listed returns the usable candidate of that version, or nil.
func (s *search) listed(version *semver.Version) *candidate {
	for _, c := range slices.Backward(s.all) {
		if c.version != nil && c.version.Equal(version) && c.defect == nil {
			return c
		}
	}
	return nil
}

// judge asks every question but the way from the running version.
func (s *search) judge(c *candidate) *Denial {
	if d := s.judgeBase(c); d != nil {
		return d
	}
	if d := s.judgeApp(c); d != nil {
		return d
	}
	if len(c.Components) > 0 {
		return &Denial{ReasonComponents, "depends on other products, which this version of the library does not resolve: update the app first"}
	}
	return c.admits(&s.Query)
}

// judgeRevert asks what a release must answer to be gone back to: the publisher said that it must be possible, so
// pin, constraint, way and rollout do not count; being offered, the platform, the licence and a bad experience do.
func (s *search) judgeRevert(c *candidate) *Denial {
	if d := s.judgeBase(c); d != nil {
		return d
	}
	return s.quarantined(c)
}

func (s *search) judgeBase(c *candidate) *Denial {
	if c.defect != nil {
		if newer, ok := c.defect.(*NewerFormatError); ok {
			return &Denial{ReasonFormat, newer.Error()}
		}
		return &Denial{ReasonMalformed, c.defect.Error()}
	}
	switch c.State {
	case Held:
		return &Denial{ReasonHeld, c.Reason}
	case Withdrawn:
		return &Denial{ReasonWithdrawn, c.Reason}
	}
	if _, d := match(c.Platforms, s.Host); d != nil {
		return d
	}
	if s.Permit != nil {
		return s.Permit(*c.Release)
	}
	if len(c.Requires) > 0 {
		return &Denial{ReasonEntitlementMissing, "needs a licence with " + strings.Join(c.Requires, ", ")}
	}
	return nil
}

func (s *search) judgeApp(c *candidate) *Denial {
	switch {
	case s.Pin != "" && c.Version != s.Pin:
		return &Denial{ReasonPinned, "the app is pinned to " + s.Pin}
	case slices.Contains(s.Skip, c.Version):
		return &Denial{ReasonSkipped, "skipped by the user"}
	case s.constraint != nil && (!s.constraint.Check(c.version) || !s.constraint.Check(Core(c.version))):
		return &Denial{ReasonConstraint, "the app accepts " + s.Constraint}
	}
	return s.quarantined(c)
}

func (s *search) quarantined(c *candidate) *Denial {
	if detail, ok := s.Quarantined[c.Manifest.SHA256]; ok && c.Manifest.SHA256 != "" {
		return &Denial{ReasonQuarantined, detail}
	}
	return nil
}

// Core returns v without its pre-release part: what 2.0.0-rc.1 is on the way to.
func Core(v *semver.Version) *semver.Version {
	return semver.New(v.Major(), v.Minor(), v.Patch(), "", "")
}

// reach returns the least number of steps from the running version to c over up, -1 if there is no way. Steps only
// ascend, so there are no cycles.
func (s *search) reach(c *candidate, up []*candidate) int {
	if c.depth != 0 {
		return c.depth
	}
	if c.from == nil || c.from.Check(s.running) {
		c.depth = 1
		return 1
	}
	c.depth = -1
	for _, stone := range slices.Backward(up) {
		if stone.denial != nil || !stone.version.LessThan(c.version) || s.budget == 0 {
			continue
		}
		s.budget--
		if !c.from.Check(stone.version) {
			continue
		}
		if d := s.reach(stone, up); d > 0 && (c.depth < 0 || d+1 < c.depth) {
			c.depth, c.via = d+1, stone
		}
	}
	if c.depth < 0 {
		c.denial = s.noWay(c)
	}
	return c.depth
}

func (s *search) noWay(c *candidate) *Denial {
	return &Denial{ReasonFrom, fmt.Sprintf("can be installed from %s, this is %s, and no allowed release leads there", c.From, s.running.Original())}
}

// plan writes the answer down.
func (s *search) plan(target *candidate) Plan {
	p := Plan{Outcome: Unknown}
	steps := map[*candidate]bool{}
	for c := target; c != nil; c = c.via {
		p.Steps = append(p.Steps, *c.Release)
		steps[c] = true
	}
	slices.Reverse(p.Steps)
	best := s.running
	if target != nil {
		best = target.version
		p.Downgrade = target.version.LessThan(s.running)
	}
	for _, c := range slices.Backward(s.all) {
		if s.running != nil && c.version != nil && c.version.Equal(s.running) && c.defect == nil && p.Running == nil && !steps[c] {
			p.Running = c.Release
			continue
		}
		if steps[c] {
			continue
		}
		skip := Skip{*c.Release, s.whyNot(c, best)}
		p.Skipped = append(p.Skipped, skip)
		if p.NotAllowed == nil && s.running != nil && notAllowed(skip.Code) && !below(c.version, best, s.running) {
			p.NotAllowed = &skip
		}
	}
	s.sumUp(&p, target)
	return p
}

// below reports whether v is no higher than best or than running. A release without a version (its format is newer)
// is never below: it may be the one that matters.
func below(v, best, running *semver.Version) bool {
	return v != nil && (!v.GreaterThan(best) || !v.GreaterThan(running))
}

func (s *search) whyNot(c *candidate, best *semver.Version) Denial {
	switch {
	case c.denial != nil:
		return *c.denial
	case s.running == nil || c.version == nil:
		if d := s.judge(c); d != nil {
			return *d
		}
		return Denial{Code: ReasonSuperseded, Detail: "the running version is not known, so nothing is installed"}
	case !c.version.GreaterThan(s.running):
		return Denial{Code: ReasonNotNewer}
	}
	return Denial{Code: ReasonSuperseded, Detail: best.Original() + " is higher"}
}

// skipped returns how a version was passed over, or nil.
func (p *Plan) skipped(version string) *Skip {
	for i := range p.Skipped {
		if p.Skipped[i].Release.Version == version && p.Skipped[i].Code != ReasonNotNewer {
			return &p.Skipped[i]
		}
	}
	return nil
}

func notAllowed(code Reason) bool {
	switch code {
	case ReasonMalformed, ReasonHeld, ReasonWithdrawn, ReasonPlatform, ReasonNotNewer, ReasonSuperseded:
		return false
	}
	return true
}

func (s *search) sumUp(p *Plan, target *candidate) {
	switch {
	case s.running == nil:
		return
	case target != nil:
		p.Outcome, p.Best = Available, p.Target()
	case p.Running != nil && p.Running.State == Withdrawn:
		p.Outcome = Withheld
		if p.NotAllowed == nil {
			p.NotAllowed = p.skipped(p.Running.RevertTo)
		}
	case p.NotAllowed != nil:
		p.Outcome, p.Best = Withheld, p.Running
	default:
		p.Outcome, p.Best = UpToDate, p.Running
	}
	if target == nil {
		return
	}
	for _, c := range s.all {
		if c.version == nil || c.defect != nil || c.version.GreaterThan(target.version) || (!c.version.GreaterThan(s.running) && c != target) {
			continue
		}
		if _, d := match(c.Platforms, s.Host); d == nil && (c.State == "" || c.State == Offered) {
			p.Critical = p.Critical || c.Critical
			p.Security = p.Security || c.IsSecurity()
		}
	}
}
