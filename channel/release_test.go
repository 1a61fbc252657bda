package channel_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
)

// The entry's format: what clients in the field parse. A change here is a change of the format.
const goldenEntry = `{"fairlead":{"v":1,"version":"1.2.0","seq":7,"published":"2026-11-01T00:00:00Z","state":"withdrawn","reason":"loses notes","kind":"security","critical":true,"advisories":["CVE-2026-1234"],"rollout":{"from":500,"to":10000,"start":"2026-11-01T00:00:00Z","duration_s":86400},"from":"\u003e=1.0.0","revert_to":"1.1.0","platforms":["linux/amd64","darwin/arm64@13.0","linux/arm/v7"],"requires":["pro"],"from_the_future":{"a":1}}}`

func TestEntryRoundTrip(t *testing.T) {
	blob := channel.Blob{SHA256: strings.Repeat("ab", 32), Length: 12}
	r := channel.ParseRelease("1.2.0", []byte(goldenEntry), blob)
	require.NoError(t, r.Defect())
	require.Equal(t, blob, r.Manifest)
	require.Equal(t, channel.Platform{OS: "darwin", Arch: "arm64", MinOS: "13.0"}, r.Platforms[1])
	require.Equal(t, time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), r.Published)
	r.Reason = "loses notes"
	custom, err := r.Custom()
	require.NoError(t, err)
	require.Equal(t, goldenEntry, string(custom), "unknown fields survive an edit")
}

func TestReleaseValidate(t *testing.T) {
	good := release("1.2.0")
	require.NoError(t, good.Validate())
	for _, c := range []struct {
		field  string
		change func(*channel.Release)
	}{
		{"version", func(r *channel.Release) { r.Version = "v1.2.0" }},
		{"version", func(r *channel.Release) { r.Version = "1.2" }},
		{"version", func(r *channel.Release) { r.Version = "1.2.0+build" }},
		{"version", func(r *channel.Release) { r.Version = "1.2.0-" + strings.Repeat("a", 64) }},
		{"v", func(r *channel.Release) { r.V = 0 }},
		{"seq", func(r *channel.Release) { r.Seq = 0 }},
		{"published", func(r *channel.Release) { r.Published = time.Time{} }},
		{"published", func(r *channel.Release) { r.Published = t0.Add(time.Millisecond) }},
		{"published", func(r *channel.Release) { r.Published = t0.In(time.FixedZone("x", 3600)) }},
		{"state", func(r *channel.Release) { r.State = "lost" }},
		{"kind", func(r *channel.Release) { r.Kind = "fun" }},
		{"reason", func(r *channel.Release) { r.Reason = strings.Repeat("x", 2000) }},
		{"rollout", func(r *channel.Release) { r.Rollout = &channel.Rollout{From: 10, To: 5, Start: t0} }},
		{"rollout", func(r *channel.Release) { r.Rollout = &channel.Rollout{From: -1, To: 5, Start: t0} }},
		{"rollout", func(r *channel.Release) { r.Rollout = &channel.Rollout{To: 10001, Start: t0} }},
		{"rollout", func(r *channel.Release) { r.Rollout = &channel.Rollout{To: 1, Start: t0, Duration: -1} }},
		{"rollout start", func(r *channel.Release) { r.Rollout = &channel.Rollout{To: 1} }},
		{"from", func(r *channel.Release) { r.From = "newer" }},
		{"revert_to", func(r *channel.Release) { r.RevertTo = "1.1.0" }},
		{"revert_to", withdrawn("1.2.0")},
		{"revert_to", withdrawn("1.2")},
		{"platforms", func(r *channel.Release) { r.Platforms = nil }},
		{"platforms", func(r *channel.Release) { r.Platforms = append(r.Platforms, r.Platforms...) }},
		{"platform", func(r *channel.Release) { r.Platforms = []channel.Platform{{OS: "Linux", Arch: "amd64"}} }},
		{"requires", requires("Pro Edition")},
		{"advisories", func(r *channel.Release) { r.Advisories = []string{"see the mail"} }},
	} {
		r := release("1.2.0", c.change)
		var invalid *channel.InvalidError
		require.ErrorAs(t, r.Validate(), &invalid, c.field)
		require.Equal(t, c.field, invalid.Field)
	}
}

func TestParseReleaseChecksThePath(t *testing.T) {
	r := channel.ParseRelease("1.3.0", []byte(goldenEntry), channel.Blob{})
	require.ErrorContains(t, r.Defect(), `the entry says "1.2.0" but the target's path says "1.3.0"`)
	require.Equal(t, "1.3.0", r.Version)
}

func TestNames(t *testing.T) {
	for _, good := range []string{"a", "notes", "acme-db2"} {
		require.NoError(t, channel.CheckName("product", good))
	}
	for _, bad := range []string{"", "A", "2a", "a.b", "a/b", "..", "a-", "-a", "a b", strings.Repeat("a", 64), "ä"} {
		require.Error(t, channel.CheckName("product", bad), bad)
	}
}

func TestPlatforms(t *testing.T) {
	for _, good := range []string{"linux/amd64", "linux/arm/v7", "darwin/any@13", "windows/amd64/v3@10.0.17763.1"} {
		p, err := channel.ParsePlatform(good)
		require.NoError(t, err)
		require.Equal(t, good, p.String())
	}
	for _, bad := range []string{"", "linux", "linux/", "/amd64", "linux/amd64/", "linux/amd64/7", "linux/amd64@", "linux/amd64@x", "linux/amd64/v1/x", "linux/amd64@1.2.3.4.5", "linux/amd64@99999999999"} {
		_, err := channel.ParsePlatform(bad)
		var invalid *channel.InvalidError
		require.ErrorAs(t, err, &invalid, bad)
	}
	arm := func(v string) channel.Platform { return channel.Platform{OS: "linux", Arch: "arm", Variant: v} }
	host := channel.Host{OS: "linux", Arch: "arm", Variant: "v6"}
	require.True(t, arm("").Runs(host))
	require.True(t, arm("v6").Runs(host))
	require.False(t, arm("v7").Runs(host))
	require.False(t, arm("v6").Runs(channel.Host{OS: "linux", Arch: "arm"}), "the level is not known")
	p := channel.Platform{OS: "linux", Arch: "amd64", MinOS: "6.10"}
	require.False(t, p.NewEnough(channel.Host{OSVersion: "6.9.3"}), "numbers, not text")
	require.True(t, p.NewEnough(channel.Host{OSVersion: "6.10.0-21-amd64"}))
	require.False(t, p.NewEnough(channel.Host{}))
}

func TestRolloutRamp(t *testing.T) {
	r := &channel.Rollout{From: 1000, To: 9000, Start: t0, Duration: 8000}
	for after, want := range map[time.Duration]int{
		-time.Second: 0, 0: 1000, time.Second: 1001, 4000 * time.Second: 5000, 7999 * time.Second: 8999, 8000 * time.Second: 9000, 1000 * time.Hour: 9000,
	} {
		require.Equal(t, want, r.Share(t0.Add(after)), "%s", after)
	}
	require.Equal(t, channel.Everybody, (*channel.Rollout)(nil).Share(t0))
}

// Over 10,000 ids the share that gets a release is within one point of the ramp's, for every share; who is in stays in.
func TestRolloutShare(t *testing.T) {
	list := func(share int) []channel.Release {
		return []channel.Release{release("1.1.0", rollout(share, share))}
	}
	before := map[string]bool{}
	for _, share := range []int{100, 1000, 2500, 5000, 9000, 9900} {
		in := 0
		for i := range 10_000 {
			id := fmt.Sprintf("installation-%d", i)
			plan, err := channel.Resolve(list(share), query("1.0.0", func(q *channel.Query) { q.InstallID = id }))
			require.NoError(t, err)
			if len(plan.Steps) == 1 {
				in++
				before[id] = true
			} else {
				require.False(t, before[id], "an installation that is in stays in as the share rises")
			}
		}
		require.InDelta(t, share, in, 100, "basis points")
	}
}

func manifest() *channel.Manifest {
	blob := channel.Blob{SHA256: strings.Repeat("0a", 32), Length: 10}
	return &channel.Manifest{V: 1, Product: "notes", Version: "1.2.0", Published: t0,
		Artifacts: []channel.Artifact{
			{Platform: channel.Platform{OS: "linux", Arch: "amd64"}, Blob: blob, Format: channel.Raw, Executable: "notes", Files: []channel.File{{Path: "notes", Blob: blob, Mode: 0o755}}},
			{Platform: channel.Platform{OS: "linux", Arch: "amd64", Variant: "v3"}, Blob: blob, Format: channel.TarGz, Executable: "bin/notes", Files: []channel.File{{Path: "bin/notes", Blob: blob, Mode: 0o755}}},
			{Platform: channel.Platform{OS: "linux", Arch: "any"}, Blob: blob, Format: channel.Raw, Executable: "notes", Files: []channel.File{{Path: "notes", Blob: blob, Mode: 0o755}}},
		},
		Notes: &channel.Attachment{Name: "notes.md", MediaType: "text/markdown", Blob: blob},
	}
}

func TestManifest(t *testing.T) {
	data, err := manifest().Encode()
	require.NoError(t, err)
	m, err := channel.ParseManifest(data)
	require.NoError(t, err)
	require.Equal(t, manifest(), m)
	require.Len(t, m.Blobs(), 4)

	for host, want := range map[channel.Host]string{
		{OS: "linux", Arch: "amd64"}:                "linux/amd64",
		{OS: "linux", Arch: "amd64", Variant: "v2"}: "linux/amd64",
		{OS: "linux", Arch: "amd64", Variant: "v4"}: "linux/amd64/v3",
		{OS: "linux", Arch: "riscv64"}:              "linux/any",
	} {
		a, denial := m.For(host)
		require.Nil(t, denial)
		require.Equal(t, want, a.Platform.String())
	}
	_, denial := m.For(channel.Host{OS: "plan9", Arch: "amd64"})
	require.Equal(t, channel.ReasonPlatform, denial.Code)
}

func TestManifestRefusals(t *testing.T) {
	for _, c := range []struct {
		detail string
		change func(*channel.Manifest)
	}{
		{"0 elements", func(m *channel.Manifest) { m.Artifacts = nil }},
		{"is not in its file list", func(m *channel.Manifest) { m.Artifacts[1].Executable = "bin/other" }},
		{"none of raw", func(m *channel.Manifest) { m.Artifacts[0].Format = "rar" }},
		{"hex digits", func(m *channel.Manifest) { m.Artifacts[1].SHA256 = strings.Repeat("0A", 32) }},
		{"hex digits", func(m *channel.Manifest) { m.Notes.SHA256 = "../../etc/passwd" }},
		{"is not possible", func(m *channel.Manifest) { m.Artifacts[1].Length = -1 }},
		{"exactly one file", func(m *channel.Manifest) { m.Artifacts[0].Length = 11 }},
		{"twice", func(m *channel.Manifest) {
			m.Artifacts[1].Files = append(m.Artifacts[1].Files, m.Artifacts[1].Files...)
		}},
		{"is not relative", func(m *channel.Manifest) { m.Artifacts[1].Files[0].Path = "../notes" }},
		{"is not relative", func(m *channel.Manifest) { m.Artifacts[1].Files[0].Path = "/notes" }},
		{"is not relative", func(m *channel.Manifest) { m.Artifacts[1].Files[0].Path = `a\b` }},
		{"is not relative", func(m *channel.Manifest) { m.Artifacts[1].Files[0].Path = "c:notes" }},
		{"is not relative", func(m *channel.Manifest) { m.Artifacts[1].Files[0].Path = "a//b" }},
		{"permission bits", func(m *channel.Manifest) { m.Artifacts[1].Files[0].Mode = 0o4755 }},
		{"product", func(m *channel.Manifest) { m.Product = "No/tes" }},
		{"version", func(m *channel.Manifest) { m.Version = "1" }},
		{"published", func(m *channel.Manifest) { m.Published = time.Time{} }},
		{"v: 0", func(m *channel.Manifest) { m.V = 0 }},
	} {
		m := manifest()
		c.change(m)
		_, err := m.Encode()
		var invalid *channel.InvalidError
		require.ErrorAs(t, err, &invalid, c.detail)
		require.ErrorContains(t, err, c.detail)
		data, err := json.Marshal(m)
		require.NoError(t, err)
		_, err = channel.ParseManifest(data)
		require.Error(t, err, c.detail)
	}
	_, err := channel.ParseManifest([]byte(`{"v":2}`))
	var newer *channel.NewerFormatError
	require.ErrorAs(t, err, &newer)
	require.Equal(t, 2, newer.Version)
}

// Signed data may come from a careless publisher; nothing in it may panic, and what parses resolves.
func FuzzParseRelease(f *testing.F) {
	require.NoError(f, channel.ParseRelease("1.2.0", []byte(goldenEntry), channel.Blob{}).Defect())
	f.Add("1.2.0", []byte(goldenEntry))
	f.Add("dev", []byte(`{"fairlead":null}`))
	f.Add("1.0.0", []byte(`{"fairlead":{"v":1,"version":"1.0.0","seq":1,"published":"2026-11-01T00:00:00Z","platforms":["linux/amd64"],"rollout":null}}`))
	f.Fuzz(func(t *testing.T, version string, custom []byte) {
		r := channel.ParseRelease(version, custom, channel.Blob{})
		require.Equal(t, version, r.Version)
		plan, err := channel.Resolve([]channel.Release{r, release("1.0.0")}, query("0.9.0"))
		require.NoError(t, err)
		require.NotEmpty(t, plan.Steps)
		if r.Defect() != nil {
			return
		}
		again, err := r.Custom()
		require.NoError(t, err)
		require.NoError(t, channel.ParseRelease(version, again, channel.Blob{}).Defect(), "what is valid stays valid")
	})
}

func FuzzParseManifest(f *testing.F) {
	data, err := manifest().Encode()
	require.NoError(f, err)
	f.Add(data)
	f.Add([]byte(`{"v":1,"artifacts":[{"files":null}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := channel.ParseManifest(data)
		if err != nil {
			return
		}
		for i := range m.Artifacts {
			require.NotEmpty(t, m.Artifacts[i].Program().Path)
		}
	})
}
