package channel_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
)

var (
	t0    = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	linux = channel.Host{OS: "linux", Arch: "amd64", OSVersion: "6.1.0"}
)

// release builds an entry; change what differs.
func release(version string, change ...func(*channel.Release)) channel.Release {
	r := channel.Release{
		V: 1, Version: version, Seq: 1, Published: t0,
		Platforms: []channel.Platform{{OS: "linux", Arch: "amd64"}},
		Manifest:  channel.Blob{SHA256: "sha-" + version, Length: 1},
	}
	for _, c := range change {
		c(&r)
	}
	return r
}

func from(c string) func(*channel.Release) { return func(r *channel.Release) { r.From = c } }
func state(s channel.State, reason string) func(*channel.Release) {
	return func(r *channel.Release) { r.State, r.Reason = s, reason }
}
func withdrawn(revert string) func(*channel.Release) {
	return func(r *channel.Release) { r.State, r.Reason, r.RevertTo = channel.Withdrawn, "broken", revert }
}
func on(p string) func(*channel.Release) {
	return func(r *channel.Release) {
		q, err := channel.ParsePlatform(p)
		if err != nil {
			panic(err)
		}
		r.Platforms = []channel.Platform{q}
	}
}
func rollout(fromShare, to int) func(*channel.Release) {
	return func(r *channel.Release) { r.Rollout = &channel.Rollout{From: fromShare, To: to, Start: t0} }
}
func requires(codes ...string) func(*channel.Release) {
	return func(r *channel.Release) { r.Requires = codes }
}

func query(running string, change ...func(*channel.Query)) channel.Query {
	q := channel.Query{Product: "notes", Running: running, Host: linux, InstallID: "i-1", Now: t0.Add(time.Hour)}
	for _, c := range change {
		c(&q)
	}
	return q
}

func versions(list []channel.Release) string {
	var s []string
	for _, r := range list {
		s = append(s, r.Version)
	}
	return strings.Join(s, " ")
}

func TestResolve(t *testing.T) {
	type q = channel.Query
	basic := []channel.Release{release("1.0.0"), release("1.1.0"), release("1.2.0")}
	for _, c := range []struct {
		name    string
		list    []channel.Release
		q       channel.Query
		outcome channel.Outcome
		steps   string
		skips   map[string]channel.Reason // version → code; only those that matter to the case
		not     string                    // NotAllowed
	}{
		{name: "newest", list: basic, q: query("1.0.0"), outcome: channel.Available, steps: "1.2.0",
			skips: map[string]channel.Reason{"1.1.0": channel.ReasonSuperseded}},
		{name: "leading v", list: basic, q: query("v1.0.0"), outcome: channel.Available, steps: "1.2.0"},
		{name: "up to date", list: basic, q: query("1.2.0"), outcome: channel.UpToDate,
			skips: map[string]channel.Reason{"1.1.0": channel.ReasonNotNewer, "1.0.0": channel.ReasonNotNewer}},
		{name: "ahead of the list", list: basic, q: query("3.0.0"), outcome: channel.UpToDate},
		{name: "empty list", q: query("1.0.0"), outcome: channel.UpToDate},
		{name: "dev", list: basic, q: query("dev"), outcome: channel.Unknown},
		{name: "empty version", list: basic, q: query(""), outcome: channel.Unknown},
		{name: "malformed version", list: basic, q: query("1.2"), outcome: channel.Unknown},
		{name: "git describe is a pre-release", list: basic, q: query("1.2.0-3-gabc"), outcome: channel.Available, steps: "1.2.0"},

		{name: "held", list: append(basic[:2:2], release("1.2.0", state(channel.Held, "wait"))), q: query("1.1.0"), outcome: channel.UpToDate,
			skips: map[string]channel.Reason{"1.2.0": channel.ReasonHeld}},
		{name: "held one is running", list: []channel.Release{release("1.2.0", state(channel.Held, "wait"))}, q: query("1.2.0"), outcome: channel.UpToDate},
		{name: "withdrawn is not offered", list: append(basic[:2:2], release("1.2.0", withdrawn("1.1.0"))), q: query("1.1.0"), outcome: channel.UpToDate,
			skips: map[string]channel.Reason{"1.2.0": channel.ReasonWithdrawn}},
		{name: "withdrawn goes back", list: append(basic[:2:2], release("1.2.0", withdrawn("1.1.0"))), q: query("1.2.0"), outcome: channel.Available, steps: "1.1.0"},
		{name: "withdrawn goes on when it can", list: append(basic[:2:2], release("1.2.0", withdrawn("1.1.0")), release("1.2.1")), q: query("1.2.0"), outcome: channel.Available, steps: "1.2.1"},
		{name: "withdrawn goes back when the next is not allowed", list: append(basic[:2:2], release("1.2.0", withdrawn("1.1.0")), release("1.2.1", rollout(0, 0))), q: query("1.2.0"),
			outcome: channel.Available, steps: "1.1.0", not: "1.2.1"},
		{name: "withdrawn without a way back stays", list: append(basic[:2:2], release("1.2.0", withdrawn(""))), q: query("1.2.0"), outcome: channel.Withheld},
		{name: "never back to a withdrawn one", list: []channel.Release{release("1.1.0", withdrawn("")), release("1.2.0", withdrawn("1.1.0"))}, q: query("1.2.0"), outcome: channel.Withheld, not: "1.1.0"},
		{name: "never back to one that failed", list: append(basic[:2:2], release("1.2.0", withdrawn("1.1.0"))),
			q: query("1.2.0", func(q *q) { q.Quarantined = map[string]string{"sha-1.1.0": "it failed"} }), outcome: channel.Withheld, not: "1.1.0"},
		{name: "going back ignores the pin", list: append(basic[:2:2], release("1.2.0", withdrawn("1.1.0"))),
			q: query("1.2.0", func(q *q) { q.Pin = "1.2.0" }), outcome: channel.Available, steps: "1.1.0"},

		{name: "other platform", list: append(basic[:2:2], release("1.2.0", on("windows/amd64"))), q: query("1.1.0"), outcome: channel.UpToDate,
			skips: map[string]channel.Reason{"1.2.0": channel.ReasonPlatform}},
		{name: "other architecture", list: append(basic[:2:2], release("1.2.0", on("linux/arm64"))), q: query("1.1.0"), outcome: channel.UpToDate,
			skips: map[string]channel.Reason{"1.2.0": channel.ReasonPlatform}},
		{name: "any architecture", list: append(basic[:2:2], release("1.2.0", on("linux/any"))), q: query("1.1.0"), outcome: channel.Available, steps: "1.2.0"},
		{name: "system too old", list: append(basic[:2:2], release("1.2.0", on("linux/amd64@6.6"))), q: query("1.1.0"), outcome: channel.Withheld,
			skips: map[string]channel.Reason{"1.2.0": channel.ReasonOSVersion}, not: "1.2.0"},
		{name: "system new enough", list: append(basic[:2:2], release("1.2.0", on("linux/amd64@6.1"))), q: query("1.1.0"), outcome: channel.Available, steps: "1.2.0"},
		{name: "CPU level too low", list: append(basic[:2:2], release("1.2.0", on("linux/amd64/v3"))), q: query("1.1.0", func(q *q) { q.Host.Variant = "v2" }), outcome: channel.UpToDate,
			skips: map[string]channel.Reason{"1.2.0": channel.ReasonPlatform}},

		{name: "requires a licence", list: append(basic[:2:2], release("1.2.0", requires("pro"))), q: query("1.0.0"), outcome: channel.Available, steps: "1.1.0",
			skips: map[string]channel.Reason{"1.2.0": channel.ReasonEntitlementMissing}, not: "1.2.0"},
		{name: "licence says no", list: basic, q: query("1.0.0", func(q *q) {
			q.Permit = func(r channel.Release) *channel.Denial { return &channel.Denial{Code: channel.ReasonLicenseExpired} }
		}), outcome: channel.Withheld, not: "1.2.0", skips: map[string]channel.Reason{"1.1.0": channel.ReasonLicenseExpired}},
		{name: "licence says no to going back", list: append(basic[:2:2], release("1.2.0", withdrawn("1.1.0"))), q: query("1.2.0", func(q *q) {
			q.Permit = func(r channel.Release) *channel.Denial { return &channel.Denial{Code: channel.ReasonLicenseRevoked} }
		}), outcome: channel.Withheld, not: "1.1.0", skips: map[string]channel.Reason{"1.1.0": channel.ReasonLicenseRevoked}},

		{name: "pin", list: basic, q: query("1.0.0", func(q *q) { q.Pin = "1.1.0" }), outcome: channel.Available, steps: "1.1.0",
			skips: map[string]channel.Reason{"1.2.0": channel.ReasonPinned}, not: "1.2.0"},
		{name: "pin never goes down", list: basic, q: query("1.2.0", func(q *q) { q.Pin = "1.1.0" }), outcome: channel.UpToDate},
		{name: "skip", list: basic, q: query("1.0.0", func(q *q) { q.Skip = []string{"1.2.0"} }), outcome: channel.Available, steps: "1.1.0",
			skips: map[string]channel.Reason{"1.2.0": channel.ReasonSkipped}, not: "1.2.0"},
		{name: "constraint", list: append(basic[:3:3], release("2.0.0-rc.1"), release("2.0.0")), q: query("1.0.0", func(q *q) { q.Constraint = "<2" }),
			outcome: channel.Available, steps: "1.2.0", skips: map[string]channel.Reason{"2.0.0": channel.ReasonConstraint, "2.0.0-rc.1": channel.ReasonConstraint}, not: "2.0.0"},
		{name: "quarantined by hash", list: basic, q: query("1.1.0", func(q *q) { q.Quarantined = map[string]string{"sha-1.2.0": "it failed"} }), outcome: channel.Withheld,
			skips: map[string]channel.Reason{"1.2.0": channel.ReasonQuarantined}, not: "1.2.0"},

		{name: "stepping stone", list: []channel.Release{release("1.5.0"), release("2.0.0", from(">=1.5.0")), release("3.0.0", from(">=2.0.0"))}, q: query("1.0.0"),
			outcome: channel.Available, steps: "1.5.0 2.0.0 3.0.0"},
		{name: "fewest steps", list: []channel.Release{release("1.4.0"), release("1.5.0"), release("1.6.0", from(">=1.4.0")), release("2.0.0", from(">=1.5.0"))}, q: query("1.0.0"),
			outcome: channel.Available, steps: "1.5.0 2.0.0"},
		{name: "stepping stone gone", list: []channel.Release{release("1.4.0"), release("1.5.0", state(channel.Held, "")), release("2.0.0", from(">=1.5.0"))}, q: query("1.0.0"),
			outcome: channel.Available, steps: "1.4.0", skips: map[string]channel.Reason{"2.0.0": channel.ReasonFrom}, not: "2.0.0"},
		{name: "the way comes before the rollout", list: []channel.Release{release("2.0.0", from(">=1.5.0"), rollout(0, 0))}, q: query("1.0.0"),
			outcome: channel.Withheld, skips: map[string]channel.Reason{"2.0.0": channel.ReasonFrom}, not: "2.0.0"},
		{name: "a pre-release is below its release for from", list: []channel.Release{release("2.0.0", from(">=1.5.0"))}, q: query("1.5.0-rc.1"),
			outcome: channel.Withheld, skips: map[string]channel.Reason{"2.0.0": channel.ReasonFrom}, not: "2.0.0"},

		{name: "pre-releases in order", list: []channel.Release{release("2.0.0-rc.2"), release("2.0.0-rc.10"), release("2.0.0-alpha")}, q: query("1.0.0"), outcome: channel.Available, steps: "2.0.0-rc.10"},
		{name: "release above its pre-releases", list: []channel.Release{release("2.0.0"), release("2.0.0-rc.10")}, q: query("2.0.0-rc.10"), outcome: channel.Available, steps: "2.0.0"},

		{name: "rollout not begun", list: append(basic[:2:2], release("1.2.0", func(r *channel.Release) {
			r.Rollout = &channel.Rollout{From: 10000, To: 10000, Start: t0.Add(2 * time.Hour)}
		})), q: query("1.1.0"), outcome: channel.Withheld, skips: map[string]channel.Reason{"1.2.0": channel.ReasonRollout}, not: "1.2.0"},
		{name: "critical passes the rollout", list: append(basic[:2:2], release("1.2.0", rollout(0, 0), func(r *channel.Release) { r.Critical = true })), q: query("1.1.0"), outcome: channel.Available, steps: "1.2.0"},
		{name: "no id waits", list: append(basic[:2:2], release("1.2.0", rollout(9999, 9999))), q: query("1.1.0", func(q *q) { q.InstallID = "" }), outcome: channel.Withheld, not: "1.2.0"},
		{name: "no id, whole rollout", list: append(basic[:2:2], release("1.2.0", rollout(10000, 10000))), q: query("1.1.0", func(q *q) { q.InstallID = "" }), outcome: channel.Available, steps: "1.2.0"},

		{name: "components are for later", list: append(basic[:2:2], release("1.2.0", func(r *channel.Release) {
			r.Components = []channel.Component{{Product: "db", Constraint: ">=2"}}
		})), q: query("1.1.0"), outcome: channel.Withheld, skips: map[string]channel.Reason{"1.2.0": channel.ReasonComponents}, not: "1.2.0"},

		{name: "channel switch without leave", list: basic, q: query("1.3.0-beta.1"), outcome: channel.UpToDate},
		{name: "channel switch down", list: basic, q: query("1.3.0-beta.1", func(q *q) { q.AcceptDowngrade = true }), outcome: channel.Available, steps: "1.2.0"},
		{name: "no switch from a listed release", list: basic, q: query("1.2.0", func(q *q) { q.AcceptDowngrade = true }), outcome: channel.UpToDate},
		{name: "switch down respects from", list: append(basic[:2:2], release("1.2.0", from("<1.2.0"))), q: query("1.3.0-beta.1", func(q *q) { q.AcceptDowngrade = true }), outcome: channel.Available, steps: "1.1.0",
			skips: map[string]channel.Reason{"1.2.0": channel.ReasonFrom}},
		{name: "switch goes up when it can", list: append(basic[:3:3], release("1.3.0")), q: query("1.3.0-beta.1", func(q *q) { q.AcceptDowngrade = true }), outcome: channel.Available, steps: "1.3.0"},

		{name: "listed twice", list: []channel.Release{release("1.2.0", state(channel.Withdrawn, "")), release("1.2.0", func(r *channel.Release) { r.Seq = 2 })}, q: query("1.1.0"), outcome: channel.Available, steps: "1.2.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			plan, err := channel.Resolve(c.list, c.q)
			require.NoError(t, err)
			require.Equal(t, c.outcome, plan.Outcome)
			require.Equal(t, c.steps, versions(plan.Steps))
			got := map[string]channel.Reason{}
			for _, s := range plan.Skipped {
				got[s.Release.Version] = s.Code
			}
			for v, code := range c.skips {
				require.Equal(t, code, got[v], "reason for %s", v)
			}
			if c.not == "" {
				require.Nil(t, plan.NotAllowed)
			} else {
				require.NotNil(t, plan.NotAllowed)
				require.Equal(t, c.not, plan.NotAllowed.Release.Version)
			}
		})
	}
}

func TestResolveSumsUp(t *testing.T) {
	list := []channel.Release{
		release("1.0.0"), release("1.1.0", func(r *channel.Release) { r.Kind = channel.Security }),
		release("1.2.0", func(r *channel.Release) { r.Critical = true }), release("1.3.0"),
		release("1.4.0", rollout(0, 0), func(r *channel.Release) { r.Kind = channel.Security }),
	}
	plan, err := channel.Resolve(list, query("1.0.0"))
	require.NoError(t, err)
	require.True(t, plan.Critical, "1.2.0 is jumped over")
	require.True(t, plan.Security, "1.1.0 is jumped over")
	require.Equal(t, "1.0.0", plan.Running.Version)
	require.Equal(t, "1.3.0", plan.Best.Version)

	plan, err = channel.Resolve(list, query("1.2.0"))
	require.NoError(t, err)
	require.False(t, plan.Critical, "1.2.0 is running already")
	require.False(t, plan.Security, "1.4.0 is not installed")
}

func TestResolveBadQuery(t *testing.T) {
	for field, change := range map[string]func(*channel.Query){
		"constraint": func(q *channel.Query) { q.Constraint = "not a constraint" },
		"pin":        func(q *channel.Query) { q.Pin = "v1.0.0" },
	} {
		_, err := channel.Resolve(nil, query("1.0.0", change))
		var invalid *channel.InvalidError
		require.ErrorAs(t, err, &invalid)
		require.Equal(t, field, invalid.Field)
	}
}

// A newer format and a malformed line cost only themselves.
func TestResolveUnknownLines(t *testing.T) {
	newer := channel.ParseRelease("9.0.0", []byte(`{"fairlead":{"v":2,"version":{"shape":"changed"}}}`), channel.Blob{})
	bad := channel.ParseRelease("8.0.0", []byte(`{"fairlead":{"v":1,"version":"8.0.0","seq":0}}`), channel.Blob{})
	none := channel.ParseRelease("7.0.0", []byte(`{}`), channel.Blob{})
	odd := channel.ParseRelease("not-a-version", nil, channel.Blob{})
	plan, err := channel.Resolve([]channel.Release{newer, bad, release("1.1.0"), none, odd}, query("1.0.0"))
	require.NoError(t, err)
	require.Equal(t, "1.1.0", versions(plan.Steps))
	got := map[string]channel.Reason{}
	for _, s := range plan.Skipped {
		got[s.Release.Version] = s.Code
	}
	require.Equal(t, map[string]channel.Reason{"9.0.0": channel.ReasonFormat, "8.0.0": channel.ReasonMalformed, "7.0.0": channel.ReasonMalformed, "not-a-version": channel.ReasonMalformed}, got)
	require.Equal(t, "9.0.0", plan.NotAllowed.Release.Version)
	require.Contains(t, plan.NotAllowed.Detail, "update the app first")
}

// randomList makes lists that exercise every question, from few versions so that they meet.
func randomList(rng *rand.Rand) []channel.Release {
	version := func() string {
		v := fmt.Sprintf("%d.%d.%d", rng.IntN(3), rng.IntN(3), rng.IntN(2))
		if rng.IntN(5) == 0 {
			v += fmt.Sprintf("-rc.%d", rng.IntN(3))
		}
		return v
	}
	var list []channel.Release
	for i := range rng.IntN(14) {
		r := release(version(), func(r *channel.Release) { r.Seq = int64(i + 1) })
		switch rng.IntN(8) {
		case 0:
			r.State = channel.Held
		case 1:
			r.State = channel.Withdrawn
			if to := version(); to != r.Version {
				r.RevertTo = to
			}
		case 2:
			on("windows/amd64")(&r)
		case 3:
			r.Requires = []string{"pro"}
		case 4:
			r.From = ">=" + version()
		case 5:
			r.Rollout = &channel.Rollout{From: rng.IntN(5000), To: 5000 + rng.IntN(5001), Start: t0, Duration: int64(rng.IntN(7200))}
		case 6:
			r.V = 1 + rng.IntN(2)
		}
		list = append(list, r)
	}
	return list
}

// A list made to cost time gets no more than its share: beyond that no way is looked for.
func TestResolveIsBounded(t *testing.T) {
	list := []channel.Release{release("1.0.5"), release("1.1.0", from(">=1.0.5"))}
	plan, err := channel.Resolve(list, query("1.0.0"))
	require.NoError(t, err)
	require.Equal(t, "1.0.5 1.1.0", versions(plan.Steps))
	for i := range 1000 {
		list = append(list, release(fmt.Sprintf("2.%d.0", i), from("<0.1.0 || >9.0.0 || >8.0.0")))
	}
	plan, err = channel.Resolve(list, query("1.0.0"))
	require.NoError(t, err)
	require.Equal(t, "1.0.5", versions(plan.Steps))
	require.Equal(t, channel.ReasonFrom, plan.NotAllowed.Code)
}

// A line that cannot be used does not hide a good one of the same precedence.
func TestResolveMalformedTwin(t *testing.T) {
	twin := channel.ParseRelease("1.2.0+x", []byte(`{"fairlead":{"v":1,"version":"1.2.0+x","seq":9}}`), channel.Blob{})
	plan, err := channel.Resolve([]channel.Release{release("1.2.0"), twin}, query("1.1.0"))
	require.NoError(t, err)
	require.Equal(t, "1.2.0", versions(plan.Steps))
	plan, err = channel.Resolve([]channel.Release{release("1.0.0"), release("1.1.0", withdrawn("1.0.0"))}, query("1.1.0+ci5"))
	require.NoError(t, err)
	require.Equal(t, "1.0.0", versions(plan.Steps), "build metadata does not hide that the running version was withdrawn")
}

// What must hold of any plan for any list: the promises of the package comment.
func TestResolveProperties(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var available, downgrades, stones int
	for range 20_000 {
		list := randomList(rng)
		q := query(fmt.Sprintf("%d.%d.%d", rng.IntN(3), rng.IntN(3), rng.IntN(2)))
		q.AcceptDowngrade = rng.IntN(4) == 0
		if rng.IntN(2) == 0 {
			q.Permit = func(r channel.Release) *channel.Denial {
				if len(r.Requires) > 0 || r.Semver().Minor() == 2 {
					return &channel.Denial{Code: channel.ReasonEntitlementMissing}
				}
				return nil
			}
		}
		plan, err := channel.Resolve(list, q)
		require.NoError(t, err)

		shuffled := append([]channel.Release(nil), list...)
		rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		again, err := channel.Resolve(shuffled, q)
		require.NoError(t, err)
		require.Equal(t, plan, again, "same input, same answer")

		checkPlan(t, list, q, plan)
		if plan.Outcome == channel.Available {
			available++
		}
		if plan.Downgrade {
			downgrades++
		}
		if len(plan.Steps) > 1 {
			stones++
		}
	}
	require.Greater(t, available, 1000, "the generator makes plans")
	require.Greater(t, downgrades, 100, "the generator makes downgrades")
	require.Greater(t, stones, 100, "the generator makes stepping stones")
}

func checkPlan(t *testing.T, list []channel.Release, q channel.Query, plan channel.Plan) {
	t.Helper()
	at := semver.MustParse(q.Running)
	revert := ""
	for _, r := range list {
		if r.Version == q.Running && r.State == channel.Withdrawn && r.RevertTo != "" {
			revert = r.RevertTo
		}
	}
	for _, step := range plan.Steps {
		v := semver.MustParse(step.Version)
		require.NotEqual(t, channel.Held, step.State)
		require.NotEqual(t, channel.Withdrawn, step.State)
		require.Equal(t, "linux", step.Platforms[0].OS)
		if q.Permit != nil {
			require.Nil(t, q.Permit(step), "never an un-entitled release")
		} else {
			require.Empty(t, step.Requires, "never an un-entitled release")
		}
		if v.LessThan(at) {
			require.True(t, plan.Downgrade)
			require.Len(t, plan.Steps, 1)
			require.True(t, step.Version == revert || q.AcceptDowngrade, "never a downgrade unless asked")
		} else {
			require.True(t, v.GreaterThan(at), "steps ascend")
		}
		if step.From != "" && step.Version != revert {
			c, err := channel.ParseConstraint(step.From)
			require.NoError(t, err)
			require.True(t, c.Check(at), "%s from %s", step.Version, at)
		}
		if step.Version != revert {
			require.Less(t, channel.Bucket(q.InstallID, q.Product, step.Version), step.Rollout.Share(q.Now), "rollout")
		}
		at = v
	}
	if plan.Outcome == channel.Available {
		require.NotEmpty(t, plan.Steps)
	} else {
		require.Empty(t, plan.Steps)
	}
	running := 0
	if plan.Running != nil {
		running = 1
	}
	require.Equal(t, len(list), len(plan.Steps)+len(plan.Skipped)+running, "every release is accounted for")
	for _, s := range plan.Skipped {
		require.NotEmpty(t, s.Code)
	}
}

// The optimum against a brute-force search: no allowed way leads higher than the plan.
func TestResolveFindsTheHighest(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 5_000 {
		list := randomList(rng)
		q := query(fmt.Sprintf("%d.%d.0", rng.IntN(2), rng.IntN(2)))
		plan, err := channel.Resolve(list, q)
		require.NoError(t, err)
		if plan.Downgrade {
			continue
		}
		best := semver.MustParse(q.Running)
		if target := plan.Target(); target != nil {
			best = target.Semver()
		}
		newest := map[string]channel.Release{} // the highest seq of a version counts
		for _, r := range list {
			if r.V == 1 && r.Seq > newest[r.Version].Seq { // a line of a newer format hides nothing
				newest[r.Version] = r
			}
		}
		reached := []*semver.Version{semver.MustParse(q.Running)}
		for i := 0; i < len(reached); i++ {
			for _, r := range newest {
				v := semver.MustParse(r.Version)
				one, err := channel.Resolve([]channel.Release{r}, query(reached[i].String()))
				require.NoError(t, err)
				if len(one.Steps) == 1 && !one.Downgrade && !contains(reached, v) {
					reached = append(reached, v)
					require.False(t, v.GreaterThan(best), "%s is reachable from %s over %s, the plan stops at %s", v, q.Running, reached[i], best)
				}
			}
		}
		require.True(t, contains(reached, best))
	}
}

func contains(list []*semver.Version, v *semver.Version) bool {
	for _, x := range list {
		if x.Equal(v) {
			return true
		}
	}
	return false
}

func BenchmarkResolve(b *testing.B) {
	for _, n := range []int{100, 1000} {
		var list []channel.Release
		for i := range n {
			r := release(fmt.Sprintf("1.%d.0", i), func(r *channel.Release) { r.Seq = int64(i + 1) })
			custom, err := r.Custom()
			require.NoError(b, err)
			list = append(list, channel.ParseRelease(r.Version, custom, channel.Blob{SHA256: fmt.Sprint(i)}))
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := channel.Resolve(list, query("1.5.0")); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
