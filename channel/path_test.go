package channel_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
)

func TestCheckPath(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("d/", n-1) + "f" }
	long := func(n int) string { return strings.Repeat("123456789/", n/10-1) + strings.Repeat("x", 10+n%10) }
	for _, good := range []string{"a", "a/b", ".a", "..a", "a..b", "a b", " a", "Grüße, 世界", "._a", "e\u0301", "👩\u200d💻", deep(64), strings.Repeat("a", 255),
		strings.Repeat(strings.Repeat("a", 204)+"/", 4) + strings.Repeat("a", 204)} {
		require.NoError(t, channel.CheckPath(good, "windows"), good)
	}
	for _, elsewhere := range []string{"a.", "a ", "a/b. /c", "nul", "NUL.txt", "com1.tar.gz", "aux .h", "LPT³", "CONIN$", "a<b", "a?", `a"b`, "a|b"} {
		require.NoError(t, channel.CheckPath(elsewhere, "darwin"))
		err := channel.CheckPath(elsewhere, "windows")
		var invalid *channel.InvalidError
		require.ErrorAs(t, err, &invalid, elsewhere)
		require.Equal(t, "is a name that Windows does not have", invalid.Detail)
	}
	for _, good := range []string{"nulls", "com", "com10", "lpt", "com¹x", "console", "a.nul"} {
		require.NoError(t, channel.CheckPath(good, "windows"), good)
	}
	require.NoError(t, channel.CheckPath(strings.Repeat("a", 255)+"/"+strings.Repeat("b", 255), ""))
	for _, c := range []struct{ path, detail string }{
		{"", "is not relative"}, {".", "is not relative"}, {"..", "is not relative"}, {"../a", "is not relative"}, {"a/..", "is not relative"}, {"a/../b", "is not relative"},
		{"/a", "is not relative"}, {"//host/a", "is not relative"}, {`\\host\a`, "is not relative"}, {`a\b`, "is not relative"}, {"c:a", "is not relative"}, {"a:b", "is not relative"},
		{"a/", "is not relative"}, {"./a", "is not relative"}, {"a//b", "is not relative"}, {"a/./b", "is not relative"},
		{"a\x00", "not printed"}, {"a\n", "not printed"}, {"\x1b[2J", "not printed"}, {"\x7f", "not printed"}, {"\u0085", "not printed"}, {"\ufffd", "not printed"},
		{"\xff", "not UTF-8"}, {"\xed\xa0\x80", "not UTF-8"}, {strings.Repeat("a", 256), "more than 255 bytes"}, {deep(65), "more than 64 elements"}, {long(1030), "longer than 1024"},
	} {
		err := channel.CheckPath(c.path, "linux")
		var invalid *channel.InvalidError
		require.ErrorAs(t, err, &invalid, "%q", c.path)
		require.Contains(t, invalid.Detail, c.detail, "%q", c.path)
		require.Contains(t, invalid.Field, fmt.Sprintf("path %.1024q", c.path)[:min(len(c.path), 100)], "it names the path")
	}
}

func TestPathSet(t *testing.T) {
	add := func(paths ...string) (err error) {
		var s channel.PathSet
		for _, p := range paths {
			folder := strings.HasSuffix(p, "/")
			if err := s.Add(strings.TrimSuffix(p, "/"), folder); err != nil {
				return err
			}
		}
		return nil
	}
	for _, good := range [][]string{{"a", "b"}, {"a/", "a/b"}, {"a/b", "a/"}, {"a/b", "a/c"}, {"ab", "a/b"}, {"stra\u00dfe", "strasse"}} {
		require.NoError(t, add(good...), good)
	}
	for detail, paths := range map[string][]string{
		`path "a": is there twice`:                  {"a", "a"},
		`path "d": is there twice`:                  {"d/", "d/"},
		`differs only by case from "a"`:             {"a", "A"},
		`differs only by case from "K"`:             {"K", "\u212a"},
		`differs only by case from "s"`:             {"s", "\u017f"},
		`differs only by case from "ß"`:             {"ß", "ẞ"},
		`differs only by case from "ς"`:             {"ς", "Σ"},
		`differs only by case from "ǆ"`:             {"ǆ", "ǅ"},
		`differs only by case from "I"`:             {"I", "ı"},
		`in the folder "A", which differs only`:     {"a/b", "A/c"},
		`path "a": is both a file and a folder`:     {"a/b", "a"},
		`path "A": differs only by case from "a"`:   {"a/b", "A"},
		`in the folder "a", which is both a file`:   {"a", "a/b"},
		`in the folder "a/b", which is both a file`: {"a/b", "a/b/c/d"},
		`path "a/b": is both a file and a folder`:   {"a/b", "a/b/"},
	} {
		require.ErrorContains(t, add(paths...), detail)
	}
	var s channel.PathSet
	for i := range channel.MaxFiles {
		require.NoError(t, s.Add(fmt.Sprintf("%d/f", i), false))
	}
	require.NoError(t, s.Add("0/g", false))
	require.ErrorContains(t, s.Add("x/f", false), "one more than 10000 folders")
}

// What apps in the field parse. A change here is a change of the format.
const goldenManifest = `{"v":1,"product":"notes","version":"1.2.0","published":"2026-11-01T00:00:00Z","artifacts":[{"platform":"darwin/arm64","sha256":"0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a","length":10,"format":"tar.zst","executable":"A/notes","files":[{"path":"A/notes","sha256":"0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a","length":10,"mode":493},{"path":"Current","sha256":"","length":0,"mode":0,"link":"A"}]}]}`

func TestManifestRoundTrip(t *testing.T) {
	m, err := channel.ParseManifest([]byte(goldenManifest))
	require.NoError(t, err)
	require.Equal(t, channel.File{Path: "Current", Link: "A"}, m.Artifacts[0].Files[1])
	data, err := m.Encode()
	require.NoError(t, err)
	require.Equal(t, goldenManifest, string(data))
}

func bundle(links ...string) *channel.Manifest {
	m := manifest()
	a := &m.Artifacts[1]
	a.Platform = channel.Platform{OS: "darwin", Arch: "arm64"}
	a.Files = append(a.Files, channel.File{Path: "F/Versions/A/F", Blob: a.Blob, Mode: 0o644})
	for i := 0; i < len(links); i += 2 {
		a.Files = append(a.Files, channel.File{Path: links[i], Link: links[i+1]})
	}
	return m
}

func chain(n int) []string {
	links := []string{"l0", "bin/notes"}
	for i := range n - 1 {
		links = append(links, fmt.Sprintf("l%d", i+1), fmt.Sprintf("l%d", i))
	}
	return links
}

func TestLinks(t *testing.T) {
	for _, good := range [][]string{
		{"F/Versions/Current", "A"},
		{"F/Versions/Current", "A", "F/F", "Versions/Current/F", "G", "F/F"},
		{"x", "F"}, {"F/x", "../bin/notes"}, {"F/Versions/A/x", "../../../bin"}, {"bin/x", "notes"}, {"a/b/x", ".."}, {"F/x", "Versions/A/F"},
		{"F/Versions/Current", "A", "F/Versions/Latest", "Current", "deep/er/x", "../../F/Versions/Latest/F"},
		chain(32),
	} {
		require.NoError(t, bundle(good...).Validate(), good)
	}
	for _, c := range []struct {
		detail string
		links  []string
	}{
		{`symbolic link to "/bin/notes", which is not relative`, []string{"x", "/bin/notes"}},
		{`symbolic link to "../x", which is the installed folder itself, or outside`, []string{"x", "../x"}},
		{`outside of it`, []string{"F/x", "../../y"}},
		{`the installed folder itself`, []string{"F/x", ".."}},
		{`which is not relative, clean`, []string{"F/x", "."}},
		{`which is not relative, clean`, []string{"F/x", "../"}},
		{`which is not relative, clean`, []string{"x", "bin/"}},
		{`which is not relative, clean`, []string{"x", "./bin"}},
		{`which is not relative, clean`, []string{"x", "F/../bin"}},
		{`which is not relative, clean`, []string{"x", "F/Versions/../../bin"}},
		{`which is not relative, clean`, []string{"x", `..\bin`}},
		{`which is not relative, clean`, []string{"x", `c:bin`}},
		{`not printed`, []string{"x", "bin\x00"}},
		{`"gone" is no listed file and no folder`, []string{"x", "gone"}},
		{`"Bin" is no listed file`, []string{"x", "Bin/notes"}},
		{`"bin/notes/x" is no listed file`, []string{"x", "bin/notes/x"}},
		{`"F/Versions/B" is no listed file`, []string{"F/Versions/Current", "B", "F/F", "Versions/Current/F"}},
		{`leads in a circle`, []string{"x", "x"}},
		{`leads in a circle`, []string{"x", "y", "y", "x"}},
		{`leads in a circle`, []string{"F/x", "../y/x", "y", "F"}},
		{`leads in a circle`, []string{"x", "x/y"}},
		{`more than 32 links`, chain(33)},
		{`is in the folder "x", which is both a file and a folder`, []string{"x", "F", "x/y", "../bin"}},
		{`is there twice`, []string{"bin/notes", "x", "x", "F"}},
		{`differs only by case`, []string{"X", "bin", "x", "bin"}},
	} {
		var invalid *channel.InvalidError
		err := bundle(c.links...).Validate()
		require.ErrorAs(t, err, &invalid, c.links)
		require.ErrorContains(t, err, c.detail)
	}
	for detail, change := range map[string]func(a *channel.Artifact){
		"has content or a mode":                  func(a *channel.Artifact) { a.Files[2].Mode = 0o777 },
		"and has content or a mode":              func(a *channel.Artifact) { a.Files[2].Blob = a.Blob },
		"there are none on Windows":              func(a *channel.Artifact) { a.Platform.OS = "windows" },
		`"x" is a symbolic link, not a file`:     func(a *channel.Artifact) { a.Executable = "x" },
		`sha256 "" is not 64`:                    func(a *channel.Artifact) { a.Files[2].Link = "" }, // what a reader that knows no links sees
		"a raw artifact is exactly one":          func(a *channel.Artifact) { a.Format = channel.Raw },
		"has 10001 files, more than 10000":       func(a *channel.Artifact) { a.Files = make([]channel.File, channel.MaxFiles+1) },
		"its files are more than 17179869184":    func(a *channel.Artifact) { a.Files[1].Length = channel.MaxUnpacked - 9 },
		`file path "nul" is a name that Windows`: func(a *channel.Artifact) { a.Platform.OS, a.Files[0].Path = "windows", "nul" },
	} {
		m := bundle("x", "bin/notes")
		require.NoError(t, m.Validate())
		change(&m.Artifacts[1])
		require.ErrorContains(t, m.Validate(), detail)
	}
}

// The worst list that fits a manifest is refused, or accepted, quickly.
func TestLinksCost(t *testing.T) {
	target := strings.TrimSuffix(strings.Repeat("d/", 60), "/")
	m := manifest()
	a := &m.Artifacts[1]
	a.Files = append(a.Files, channel.File{Path: target + "/f", Blob: a.Blob})
	for i := range channel.MaxFiles - len(a.Files) {
		a.Files = append(a.Files, channel.File{Path: fmt.Sprintf("%s/%d", target, i), Link: fmt.Sprint(min(i+1, i/32*32+31))})
	}
	data, err := json.Marshal(m)
	require.NoError(t, err)
	require.Less(t, len(data), channel.MaxManifest)
	_, err = channel.ParseManifest(data)
	require.ErrorContains(t, err, "leads in a circle")
}
