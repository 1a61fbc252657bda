package archive_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/archive"
)

// seen is a member with its content.
type seen struct {
	archive.Member
	content string
}

func readWith(ctx context.Context, data []byte, format channel.Format, os string, limits archive.Limits) (all []seen, err error) {
	err = archive.Read(ctx, bytes.NewReader(data), int64(len(data)), format, os, limits, func(m archive.Member, content io.Reader) error {
		b, err := io.ReadAll(content)
		all = append(all, seen{m, string(b)})
		return err
	})
	return all, err
}

func read(t testing.TB, data []byte, format channel.Format) ([]seen, error) {
	t.Helper()
	return readWith(t.Context(), data, format, "linux", archive.Limits{})
}

// A block is one entry of a tar stream, written as told.
type block struct {
	name, link string
	typ        byte
	mode       int64
	size       string // the field; "" is what content needs
	magic      string // "" is POSIX
	content    string
}

func (b block) String() string {
	h := make([]byte, 512)
	copy(h, b.name)
	copy(h[100:], fmt.Sprintf("%07o", b.mode))
	if b.size == "" {
		b.size = fmt.Sprintf("%011o", len(b.content))
	}
	copy(h[124:], b.size)
	copy(h[136:], "00000000000")
	h[156] = b.typ
	copy(h[157:], b.link)
	if b.magic == "" {
		b.magic = "ustar\x0000"
	}
	copy(h[257:], b.magic)
	copy(h[148:], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return string(h) + b.content + strings.Repeat("\x00", -len(b.content)&511)
}

func file(name, content string) block {
	return block{name: name, typ: '0', mode: 0o644, content: content}
}

// pax is an extended header of the records key, value, key, value...
func pax(typ byte, records ...string) block {
	var b strings.Builder
	for i := 0; i < len(records); i += 2 {
		rest := " " + records[i] + "=" + records[i+1] + "\n"
		n := len(rest) + 1
		for len(fmt.Sprint(n))+len(rest) != n {
			n++
		}
		fmt.Fprint(&b, n, rest)
	}
	return block{name: "PaxHeader", typ: typ, mode: 0o644, content: b.String()}
}

const gnu = "ustar  \x00"

func long(typ byte, name string) block {
	return block{name: "././@LongLink", typ: typ, magic: gnu, content: name + "\x00"}
}

func stream(blocks ...block) []byte {
	var b bytes.Buffer
	for _, x := range blocks {
		b.WriteString(x.String())
	}
	b.Write(make([]byte, 1024))
	return b.Bytes()
}

func gzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.HuffmanOnly) // quick, for the fuzz tests
	require.NoError(t, err)
	_, err = z.Write(data)
	require.NoError(t, errors.Join(err, z.Close()))
	return b.Bytes()
}

func zstded(t testing.TB, data []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	return z.EncodeAll(data, nil)
}

// Every row has a good entry and a bad one, which differ in one thing; both come after the same good beginning.
func TestTarRefused(t *testing.T) {
	base := []block{
		{name: "./", typ: '5', mode: 0o755}, {name: "./app/", typ: '5', mode: 0o755},
		{name: "./app/notes", typ: '0', mode: 0o755, content: "program"}, {name: "app/current", typ: '2', link: "notes"},
	}
	of := func(blocks ...block) []block { return blocks }
	deep := func(n int) string { return strings.Repeat("d/", n-1) + "f" }
	x := file("x", "content")
	with := func(change func(*block)) []block { b := x; change(&b); return of(b) }
	const link = byte('2')
	for name, tt := range map[string]struct {
		os        string
		good, bad []block
		member    string // the MemberError's name
		why       string
	}{
		"parent":             {"", of(file("a/b", "")), of(file("../b", "")), "../b", "is not relative, clean"},
		"parent inside":      {"", of(file("a/b", "")), of(file("a/../b", "")), "a/../b", "is not relative, clean"},
		"parent at the end":  {"", of(file("a/b", "")), of(file("a/..", "")), "a/..", "is not relative, clean"},
		"absolute":           {"", of(file("x", "")), of(file("/x", "")), "/x", "is not relative, clean"},
		"share":              {"", of(file("x", "")), of(file(`\\host\x`, "")), `\\host\x`, "is not relative, clean"},
		"backslash":          {"", of(file("a/x", "")), of(file(`a\x`, "")), `a\x`, "is not relative, clean"},
		"drive":              {"", of(file("cx", "")), of(file("c:x", "")), "c:x", "is not relative, clean"},
		"stream":             {"", of(file("x", "")), of(file("x:y", "")), "x:y", "is not relative, clean"},
		"dot twice":          {"", of(file("./x", "")), of(file("././x", "")), "././x", "is not relative, clean"},
		"dot inside":         {"", of(file("a/x", "")), of(file("a/./x", "")), "a/./x", "is not relative, clean"},
		"two slashes":        {"", of(file("a/x", "")), of(file("a//x", "")), "a//x", "is not relative, clean"},
		"no name":            {"", of(file("x", "")), of(file("", "")), "", "is not relative, clean"},
		"control character":  {"", of(file("ab", "")), of(file("a\nb", "")), "a\nb", "not printed"},
		"C1 control":         {"", of(file("ab", "")), of(file("a\u0085b", "")), "a\u0085b", "not printed"},
		"replacement":        {"", of(file("ab", "")), of(file("a\ufffdb", "")), "a\ufffdb", "not printed"},
		"not UTF-8":          {"", of(file("a\u00e9", "")), of(file("a\xe9", "")), "a\xe9", "is not UTF-8"},
		"NUL in a long name": {"", of(long('L', "ab"), x), of(long('L', "a\x00b"), x), "a\x00b", "not printed"},
		"too long":           {"", of(long('L', strings.Repeat("ab/", 60)+"x"), x), of(long('L', strings.Repeat(strings.Repeat("a", 99)+"/", 11)+"x"), x), strings.Repeat(strings.Repeat("a", 99)+"/", 11) + "x", "longer than 1024"},
		"long element":       {"", of(long('L', strings.Repeat("a", 255)), x), of(long('L', strings.Repeat("a", 256)), x), strings.Repeat("a", 256), "more than 255"},
		"deep":               {"", of(long('L', deep(64)), x), of(long('L', deep(65)), x), deep(65), "more than 64 elements"},
		"folder outside":     {"", of(block{name: "x/", typ: '5'}), of(block{name: "../x/", typ: '5'}), "../x/", "is not relative, clean"},

		"device name":        {"windows", of(file("lib/NULL.txt", "")), of(file("lib/NUL.txt", "")), "lib/NUL.txt", "Windows does not have"},
		"port":               {"windows", of(file("com", "")), of(file("com1", "")), "com1", "Windows does not have"},
		"superscript port":   {"windows", of(file("lpt⁴", "")), of(file("lpt²", "")), "lpt²", "Windows does not have"},
		"space before a dot": {"windows", of(file("con x.txt", "")), of(file("con .txt", "")), "con .txt", "Windows does not have"},
		"dot at the end":     {"windows", of(file("a.b", "")), of(file("a.", "")), "a.", "Windows does not have"},
		"wildcard":           {"windows", of(file("ab", "")), of(file("a*b", "")), "a*b", "Windows does not have"},

		"twice":            {"", of(x, file("y", "")), of(x, x), "x", "is there twice"},
		"twice, dotted":    {"", of(x, file("./y", "")), of(x, file("./x", "")), "./x", "is there twice"},
		"folder twice":     {"", of(block{name: "b/", typ: '5'}), of(block{name: "app/", typ: '5'}), "app/", "is there twice"},
		"by case":          {"", of(file("app/note", "")), of(file("app/NOTES", "")), "app/NOTES", `differs only by case from "app/notes"`},
		"by case, far":     {"", of(file("k", ""), file("l", "")), of(file("k", ""), file("\u212a", "")), "\u212a", "differs only by case"},
		"folder by case":   {"", of(file("app/x", "")), of(file("App/x", "")), "App/x", `is in the folder "App", which differs only by case from "app"`},
		"below a file":     {"", of(file("app/note/x", "")), of(file("app/notes/x", "")), "app/notes/x", "both a file and a folder"},
		"file for folder":  {"", of(file("app/x/y", ""), file("app/z", "")), of(file("app/x/y", ""), file("app/x", "")), "app/x", "both a file and a folder"},
		"through a link":   {"", of(file("app/currently/x", "")), of(file("app/current/x", "")), "app/current/x", "both a file and a folder"},
		"over a link":      {"", of(file("app/x", "")), of(file("app/current", "")), "app/current", "is there twice"},
		"link over a file": {"", of(block{name: "app/x", typ: link, link: "notes"}), of(block{name: "app/notes", typ: link, link: "notes"}), "app/notes", "is there twice"},

		"link outside":      {"", of(block{name: "a/x", typ: link, link: "../x"}), of(block{name: "a/x", typ: link, link: "../../x"}), "a/x", "outside of it"},
		"link to the root":  {"", of(block{name: "a/b/x", typ: link, link: ".."}), of(block{name: "a/x", typ: link, link: ".."}), "a/x", "the installed folder itself"},
		"absolute link":     {"", of(block{name: "x", typ: link, link: "etc"}), of(block{name: "x", typ: link, link: "/etc"}), "x", `a symbolic link to "/etc", which is not relative`},
		"link back and on":  {"", of(block{name: "x", typ: link, link: "a/b"}), of(block{name: "x", typ: link, link: "a/../b"}), "x", "is not relative, clean"},
		"link without end":  {"", of(block{name: "x", typ: link, link: "y"}), of(block{name: "x", typ: link, link: ""}), "x", "is not relative, clean"},
		"long link outside": {"", of(long('K', "y"), block{name: "x", typ: link}), of(long('K', "../y"), block{name: "x", typ: link}), "x", "outside of it"},
		"PAX link outside":  {"", of(pax('x', "linkpath", "y"), block{name: "x", typ: link}), of(pax('x', "linkpath", "../y"), block{name: "x", typ: link}), "x", "outside of it"},
		"link for Windows":  {"windows", of(x), of(block{name: "x", typ: link, link: "y"}), "x", "none on Windows"},

		"hard link":  {"", of(file("x", "")), of(block{name: "x", typ: '1', link: "app/notes"}), "x", "is a hard link"},
		"character":  {"", of(file("x", "")), of(block{name: "x", typ: '3'}), "x", "is a device"},
		"block":      {"", of(file("x", "")), of(block{name: "x", typ: '4'}), "x", "is a device"},
		"FIFO":       {"", of(file("x", "")), of(block{name: "x", typ: '6'}), "x", "is a FIFO"},
		"contiguous": {"", of(file("x", "")), of(block{name: "x", typ: '7'}), "x", "is of type '7'"},
		"multi-part": {"", of(file("x", "")), of(block{name: "x", typ: 'M', magic: gnu}), "x", "is of type 'M'"},
		"dump":       {"", of(file("x", "")), of(block{name: "x", typ: 'D', magic: gnu}), "x", "is of type 'D'"},

		"setuid":        {"", with(func(b *block) { b.mode = 0o755 }), with(func(b *block) { b.mode = 0o4755 }), "x", "has the mode urwxr-xr-x; such bits"},
		"setgid":        {"", with(func(b *block) { b.mode = 0o755 }), with(func(b *block) { b.mode = 0o2755 }), "x", "such bits"},
		"sticky":        {"", with(func(b *block) { b.mode = 0o755 }), with(func(b *block) { b.mode = 0o1755 }), "x", "such bits"},
		"setgid folder": {"", of(block{name: "x/", typ: '5', mode: 0o755}), of(block{name: "x/", typ: '5', mode: 0o2755}), "x/", "such bits"},

		"old sparse":      {"", with(func(b *block) { b.magic = gnu }), with(func(b *block) { b.magic, b.typ = gnu, 'S' }), "x", "is a sparse file"},
		"sparse 0.0":      {"", of(pax('x', "mtime", "1"), x), of(pax('x', "GNU.sparse.offset", "0"), x), "x", "is a sparse file"},
		"sparse 0.1":      {"", of(pax('x', "mtime", "1"), x), of(pax('x', "GNU.sparse.map", "0,7"), x), "x", "is a sparse file"},
		"sparse 1.0":      {"", of(pax('x', "mtime", "1"), x), of(pax('x', "GNU.sparse.major", "1"), x), "x", "is a sparse file"},
		"sparse of star":  {"", of(pax('x', "SCHILY.dev", "1"), x), of(pax('x', "SCHILY.realsize", "1"), x), "x", "is a sparse file"},
		"sparse, renamed": {"", of(pax('x', "path", "y"), x), of(pax('x', "path", "y", "GNU.sparse.name", "z"), x), "y", "is a sparse file"},

		"two sizes":         {"", of(pax('x', "size", "7"), x), of(pax('x', "size", "512"), x), "x", "has two sizes: 7 bytes in its header, 512 in"},
		"no size and one":   {"", of(pax('x', "size", "0"), file("x", "")), of(pax('x', "size", "512"), file("x", "")), "x", "has two sizes"},
		"hidden by a size":  {"", of(pax('x', "size", "512"), file("x", file("y", "").String())), of(pax('x', "size", "0"), file("x", file("y", "").String())), "x", "has two sizes"},
		"size not a number": {"", of(pax('x', "size", "7"), x), of(pax('x', "size", "+7"), x), "x", `has the size "+7"`},
		"size twice":        {"", of(pax('x', "size", "7"), x), of(pax('x', "size", "7", "size", "7"), x), "7", "is a second size"},
		"empty size":        {"", of(pax('x', "size", "7"), x), of(pax('x', "size", ""), x), "", "is an empty size"},
		"path twice":        {"", of(pax('x', "path", "y"), x), of(pax('x', "path", "y", "path", "z"), x), "z", "is a second path"},
		"two kinds of path": {"", of(pax('x', "path", "y"), x), of(long('L', "z"), pax('x', "path", "y"), x), "y", "is a second path"},
		"two extensions":    {"", of(pax('x', "atime", "1", "mtime", "1"), x), of(pax('x', "atime", "1"), pax('x', "mtime", "1"), x), "PaxHeader", "is a second extended header"},
		"global path":       {"", of(pax('g', "comment", "y"), x), of(pax('g', "path", "y"), x), "PaxHeader", "every member the same path"},
		"global size":       {"", of(pax('g', "comment", "7"), x), of(pax('g', "size", "7"), x), "PaxHeader", "every member the same size"},
		"global sparse":     {"", of(pax('g', "comment", "1"), x), of(pax('g', "GNU.sparse.major", "1"), x), "PaxHeader", "every member the same GNU.sparse.major"},
		"global between":    {"", of(pax('g', "comment", "1"), pax('x', "mtime", "1"), x), of(pax('x', "mtime", "1"), pax('g', "comment", "1"), x), "PaxHeader", "is a global header between"},
		"PAX path outside":  {"", of(pax('x', "path", "y"), x), of(pax('x', "path", "../y"), x), "../y", "is not relative, clean"},

		"file named folder": {"", of(file("x", "")), of(file("x/", "")), "x/", "is a file with the name of a folder"},
		"folder with size":  {"", of(block{name: "x/", typ: '5'}), of(block{name: "x/", typ: '5', size: "00000001000"}), "x/", "is not a file, and has a size of 512"},
		"old folder's size": {"", of(block{name: "x/", magic: "-"}), of(block{name: "x/", magic: "-", content: "a"}), "x/", "is not a file, and has a size"},
		"link with size":    {"", of(block{name: "x", typ: link, link: "y"}), of(block{name: "x", typ: link, link: "y", size: "00000001000"}), "x", "is not a file, and has a size"},
	} {
		t.Run(name, func(t *testing.T) {
			prefix := base
			if tt.os == "windows" { // its good archives have no link
				prefix = base[:3]
			}
			_, err := readWith(t.Context(), gzipped(t, stream(append(bytesOf(prefix), tt.good...)...)), channel.TarGz, tt.os, archive.Limits{})
			require.NoError(t, err)
			requireRefused(t, gzipped(t, stream(append(bytesOf(prefix), tt.bad...)...)), channel.TarGz, tt.os, tt.member, tt.why)
			requireRefused(t, zstded(t, stream(append(bytesOf(prefix), tt.bad...)...)), channel.TarZst, tt.os, tt.member, tt.why)
		})
	}
}

func bytesOf(b []block) []block { return append([]block(nil), b...) }

func requireRefused(t testing.TB, data []byte, format channel.Format, os, member, why string) {
	t.Helper()
	_, err := readWith(t.Context(), data, format, os, archive.Limits{})
	var refused *archive.MemberError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, member, refused.Name)
	require.Contains(t, refused.Why, why)
	require.Contains(t, err.Error(), "holds ")
}

// What a reader has to take: each of these means the same to every tool.
func TestTarAccepted(t *testing.T) {
	base256 := append([]byte{0x80}, make([]byte, 10)...)
	for name, tt := range map[string]struct {
		blocks []block
		want   []seen
	}{
		"records ignored": {
			[]block{pax('x', "mtime", "1.5", "atime", "1", "ctime", "-1.5", "uid", "1", "SCHILY.xattr.user.a", "\x00=\n", "LIBARCHIVE.creationtime", "1", "RHT.security.selinux", "x"), file("x", "c")},
			[]seen{{archive.Member{Path: "x", Mode: 0o644, Size: 1}, "c"}},
		},
		"GNU names": {
			[]block{long('L', strings.Repeat("n", 200)), long('K', strings.Repeat("m", 200)), {name: "n", typ: '2', link: "m", magic: gnu}},
			[]seen{{archive.Member{Path: strings.Repeat("n", 200), Kind: archive.Link, Link: strings.Repeat("m", 200)}, ""}},
		},
		"base 256": {
			[]block{{name: "x", typ: '0', size: string(append(base256, 3)), content: "abc"}},
			[]seen{{archive.Member{Path: "x", Size: 3}, "abc"}},
		},
		"before ustar": {
			[]block{{name: "d/", magic: "-"}, {name: "d/x", magic: "-", mode: 0o600, content: "a"}},
			[]seen{{archive.Member{Path: "d", Kind: archive.Folder}, ""}, {archive.Member{Path: "d/x", Mode: 0o600, Size: 1}, "a"}},
		},
		"AppleDouble":       {[]block{file("._x", "a")}, []seen{{archive.Member{Path: "._x", Mode: 0o644, Size: 1}, "a"}}},
		"Windows elsewhere": {[]block{file("aux.c.", "a")}, []seen{{archive.Member{Path: "aux.c.", Mode: 0o644, Size: 1}, "a"}}},
		"nothing":           {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := read(t, gzipped(t, stream(tt.blocks...)), channel.TarGz)
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}
}

// A size that a ustar header cannot express stands in the PAX record alone; these archives are cut off, so what comes
// after the header is not asked.
func TestTarLarge(t *testing.T) {
	cut := func(size, paxSize string) error {
		b := block{name: "x", typ: '0', size: size}
		data := gzipped(t, []byte(pax('x', "size", paxSize).String()+b.String()))
		_, err := readWith(t.Context(), data, channel.TarGz, "", archive.Limits{})
		return err
	}
	for _, size := range []string{"00000000000", "77777777777", "\x80\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00"} {
		var damaged *archive.FormatError
		require.ErrorAs(t, cut(size, "8589934592"), &damaged, "%q", size)
		require.ErrorIs(t, damaged, io.ErrUnexpectedEOF)
	}
	for size, paxSize := range map[string]string{"00000000001": "8589934592", "00000000000": "8589934591", "77777777777": "1",
		"\x80\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00": "8589934593"} {
		var refused *archive.MemberError
		require.ErrorAs(t, cut(size, paxSize), &refused)
		require.Contains(t, refused.Why, "has two sizes")
	}
}

func TestTarDamaged(t *testing.T) {
	whole := stream(file("a", "content"), file("b", strings.Repeat("b", 3000)))
	_, err := read(t, gzipped(t, whole), channel.TarGz)
	require.NoError(t, err)
	_, err = read(t, gzipped(t, append(bytes.Clone(whole), make([]byte, 9000)...)), channel.TarGz)
	require.NoError(t, err, "tools pad the last record")
	flipped := bytes.Clone(whole)
	flipped[0] ^= 1
	lone := append(append(bytes.Clone(whole[:len(whole)-512]), file("c", "").String()...), make([]byte, 1024)...)
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"nothing":                     {nil, "unexpected EOF"},
		"cut between members":         {whole[:1024], "unexpected EOF"},
		"cut in content":              {whole[:2000], "unexpected EOF"},
		"cut in a header":             {whole[:100], "unexpected EOF"},
		"one zero block":              {whole[:len(whole)-512], "unexpected EOF"},
		"goes on after a zero block":  {lone, "something follows"},
		"second archive":              {append(bytes.Clone(whole), whole...), "something follows"},
		"a byte after the end":        {append(bytes.Clone(whole), 'x'), "something follows"},
		"checksum":                    {flipped, "checksum"},
		"not a number":                {stream(block{name: "x", typ: '0', size: "0000000000x"}), "no octal number"},
		"negative":                    {stream(block{name: "x", typ: '0', size: strings.Repeat("\xff", 12)}), "negative"},
		"PAX without a newline":       {stream(block{typ: 'x', content: "8 mtime=1"}, file("x", "")), "malformed"},
		"PAX record too long":         {stream(block{typ: 'x', content: "99 mtime=1\n"}, file("x", "")), "malformed"},
		"PAX without a key":           {stream(block{typ: 'x', content: "5 =1\n"}, file("x", "")), "malformed"},
		"ends after an extension":     {stream(pax('x', "mtime", "1")), "ends after an extended header"},
		"long extended header":        {stream(long('L', strings.Repeat("x", 2<<20)), file("x", "")), "is 2097153 bytes long"},
		"GNU times that are a prefix": {stream(block{name: "x", typ: '0', magic: gnu + strings.Repeat("\x00", 80) + "a/b"}), "no octal number"},
	} {
		for format, pack := range map[channel.Format]func(testing.TB, []byte) []byte{channel.TarGz: gzipped, channel.TarZst: zstded} {
			_, err := read(t, pack(t, c.data), format)
			var damaged *archive.FormatError
			require.ErrorAs(t, err, &damaged, name)
			require.Equal(t, format, damaged.Format)
			require.ErrorContains(t, err, c.want, name)
		}
	}
	for format, packed := range map[channel.Format][]byte{channel.TarGz: gzipped(t, whole), channel.TarZst: zstded(t, whole)} {
		for _, n := range []int{0, 3, len(packed) / 2, len(packed) - 1} {
			_, err := read(t, packed[:n], format)
			var damaged *archive.FormatError
			require.ErrorAs(t, err, &damaged, "%s cut to %d", format, n)
		}
		_, err := read(t, append(bytes.Clone(packed), "rubbish"...), format)
		var damaged *archive.FormatError
		require.ErrorAs(t, err, &damaged, format)
	}
	// gzip streams one after another are one stream, and bounded as one.
	two := append(gzipped(t, whole[:1024]), gzipped(t, whole[1024:])...)
	all, err := read(t, two, channel.TarGz)
	require.NoError(t, err)
	require.Len(t, all, 2)
	_, err = read(t, gzipped(t, whole), channel.Raw)
	require.ErrorContains(t, err, `format "raw" is none of`)
}

// Bombs stop where the limit is passed, whatever the headers say.
func TestLimits(t *testing.T) {
	refused := func(data []byte, format channel.Format, limits archive.Limits, member, why string) {
		t.Helper()
		_, err := readWith(t.Context(), data, format, "", limits)
		var e *archive.MemberError
		require.ErrorAs(t, err, &e)
		require.Equal(t, member, e.Name)
		require.Contains(t, e.Why, why)
	}
	for format, data := range map[channel.Format][]byte{
		channel.TarGz:  gzipped(t, stream(file("a", "12345"), file("b/c", "12345"))),
		channel.TarZst: zstded(t, stream(file("a", "12345"), file("b/c", "12345"))),
		channel.Zip:    zipOf(t, zipFile("a", "12345"), zipFile("b/c", "12345")),
	} {
		all, err := readWith(t.Context(), data, format, "", archive.Limits{Files: 2, Bytes: 10})
		require.NoError(t, err)
		require.Len(t, all, 2)
		refused(data, format, archive.Limits{Files: 2, Bytes: 9}, "b/c", "unpacks to more than the 9 bytes")
		refused(data, format, archive.Limits{Files: 1, Bytes: 10}, "b/c", "is one more than 1 files")
	}
	var folders []block
	for i := range channel.MaxFiles + 1 {
		folders = append(folders, block{name: fmt.Sprintf("%d/", i), typ: '5'})
	}
	_, err := read(t, gzipped(t, stream(folders[1:]...)), channel.TarGz)
	require.NoError(t, err)
	refused(gzipped(t, stream(folders...)), channel.TarGz, archive.Limits{}, "10000/", "is one more than 10000 folders")
	// Metadata and padding without end, in few bytes.
	var damaged *archive.FormatError
	limits := archive.Limits{Files: 1, Bytes: 1}
	_, err = readWith(t.Context(), gzipped(t, append(stream(), make([]byte, 8<<20)...)), channel.TarGz, "", limits)
	require.ErrorAs(t, err, &damaged)
	require.ErrorContains(t, err, "padded without end")
	var globals []block
	for range 2000 {
		globals = append(globals, pax('g', "comment", strings.Repeat("x", 1000)))
	}
	_, err = readWith(t.Context(), gzipped(t, stream(globals...)), channel.TarGz, "", limits)
	require.ErrorAs(t, err, &damaged)
	require.ErrorContains(t, err, "headers are longer")
}

// A decoder's memory is the window that the frame asks for: 128 MiB are given, 256 are not.
func TestZstdWindow(t *testing.T) {
	tarball := stream(file("a", "12345"))
	frame := func(log byte) []byte {
		head := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3}
		n := len(tarball)<<3 | 1 // one raw block, the last
		return append(append(head, byte(n), byte(n>>8), byte(n>>16)), tarball...)
	}
	all, err := read(t, frame(27), channel.TarZst)
	require.NoError(t, err)
	require.Len(t, all, 1)
	_, err = read(t, frame(28), channel.TarZst)
	require.ErrorIs(t, err, zstd.ErrWindowSizeExceeded)
	var damaged *archive.FormatError
	require.ErrorAs(t, err, &damaged)
}

type failingReaderAt struct{ err error }

func (f failingReaderAt) ReadAt([]byte, int64) (int, error) { return 0, f.err }

// Whose fault it is, is told apart: the archive's, the disk's, the visitor's, the context's.
func TestErrors(t *testing.T) {
	mine := fmt.Errorf("mine: %w", io.ErrUnexpectedEOF)
	for format, data := range map[channel.Format][]byte{
		channel.TarGz:  gzipped(t, stream(file("a", "12345"), file("b", strings.Repeat("b", 1<<20)))),
		channel.TarZst: zstded(t, stream(file("a", "12345"), file("b", strings.Repeat("b", 1<<20)))),
		channel.Zip:    zipOf(t, zipFile("a", "12345"), zipFile("b", strings.Repeat("b", 1<<20))),
	} {
		reader := bytes.NewReader(data)
		err := archive.Read(t.Context(), reader, reader.Size(), format, "", archive.Limits{}, func(archive.Member, io.Reader) error { return mine })
		require.Same(t, mine, err, "as it was")
		broken := errors.New("broken disk")
		err = archive.Read(t.Context(), failingReaderAt{broken}, 100, format, "", archive.Limits{}, nil)
		require.Same(t, broken, err)

		stop := errors.New("stop")
		ctx, cancel := context.WithCancelCause(t.Context())
		count := 0
		err = archive.Read(ctx, reader, reader.Size(), format, "", archive.Limits{}, func(m archive.Member, content io.Reader) error {
			count++
			cancel(stop)
			_, err := io.Copy(io.Discard, content)
			require.Same(t, stop, err)
			return nil // even if the visitor does not mind
		})
		require.Same(t, stop, err)
		require.Equal(t, 1, count)

		// What a visitor leaves is read; all of the archive is checked.
		var names []string
		err = archive.Read(t.Context(), reader, reader.Size(), format, "", archive.Limits{}, func(m archive.Member, content io.Reader) error {
			names = append(names, m.Path)
			_, err := content.Read(make([]byte, 1))
			return err
		})
		require.NoError(t, err)
		require.Equal(t, []string{"a", "b"}, names)
	}
	long := &archive.MemberError{Name: strings.Repeat("x", 1<<20), Why: "is long"}
	require.Less(t, len(long.Error()), 400)
}

// What archive/tar and archive/zip write and read, this package reads.
func TestGoWriters(t *testing.T) {
	name := strings.Repeat("long/", 40) + "é"
	for _, format := range []tar.Format{tar.FormatUnknown, tar.FormatPAX, tar.FormatGNU} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		require.NoError(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "long/", Mode: 0o755, Format: format}))
		require.NoError(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: 4, Format: format}))
		_, err := w.Write([]byte("text"))
		require.NoError(t, err)
		require.NoError(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "link", Linkname: name, Format: format}))
		require.NoError(t, w.Close())
		got, err := read(t, gzipped(t, b.Bytes()), channel.TarGz)
		require.NoError(t, err)
		require.Equal(t, []seen{
			{archive.Member{Path: "long", Kind: archive.Folder, Mode: 0o755}, ""},
			{archive.Member{Path: name, Mode: 0o755, Size: 4}, "text"},
			{archive.Member{Path: "link", Kind: archive.Link, Link: name}, ""},
		}, got)
	}
	got, err := read(t, zipOf(t, zipMember("long/", fs.ModeDir|0o755, ""), zipMember(name, 0o755, "text"), zipMember("link", fs.ModeSymlink|0o777, name)), channel.Zip)
	require.NoError(t, err)
	require.Equal(t, []seen{
		{archive.Member{Path: "long", Kind: archive.Folder, Mode: 0o755}, ""},
		{archive.Member{Path: name, Mode: 0o755, Size: 4}, "text"},
		{archive.Member{Path: "link", Kind: archive.Link, Link: name}, ""},
	}, got)
}

type zipItem struct {
	zip.FileHeader
	content string
}

func zipMember(name string, mode fs.FileMode, content string) zipItem {
	i := zipItem{zip.FileHeader{Name: name, Method: zip.Deflate}, content}
	if strings.HasSuffix(name, "/") {
		i.Method = zip.Store
	}
	i.SetMode(mode)
	return i
}

func zipFile(name, content string) zipItem { return zipMember(name, 0o644, content) }

func zipOf(t testing.TB, items ...zipItem) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, i := range items {
		h := i.FileHeader
		w, err := z.CreateHeader(&h)
		require.NoError(t, err)
		_, err = io.WriteString(w, i.content)
		require.NoError(t, err)
	}
	require.NoError(t, z.Close())
	return b.Bytes()
}
