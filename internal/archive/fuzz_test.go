package archive_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/archive"
)

var fuzzLimits = archive.Limits{Files: 20, Bytes: 64 << 10}

// check asks what Read promises of whatever it read, also where it failed in the end.
func check(t *testing.T, all []seen) {
	t.Helper()
	folded, content, files := map[string]bool{}, int64(0), 0
	for _, m := range all {
		require.NoError(t, channel.CheckPath(m.Path, "linux"))
		lower := strings.ToLower(m.Path)
		require.False(t, folded[lower], "%q", m.Path)
		folded[lower] = true
		require.Zero(t, m.Mode&^fs.ModePerm)
		content += int64(len(m.content))
		switch m.Kind {
		case archive.Folder:
			require.Empty(t, m.content)
		case archive.Link:
			require.NoError(t, channel.CheckLink(m.Path, m.Link, "linux"))
			require.Empty(t, m.content)
			files++
		case archive.File:
			require.Empty(t, m.Link)
			files++
		}
	}
	require.LessOrEqual(t, content, fuzzLimits.Bytes)
	require.LessOrEqual(t, files, fuzzLimits.Files)
}

func FuzzTar(f *testing.F) {
	seeds := [][]byte{
		stream(block{name: "./", typ: '5', mode: 0o755}, file("./a/b", "content"), block{name: "c", typ: '2', link: "a/b"}),
		stream(pax('g', "comment", "abc"), pax('x', "path", "long", "mtime", "1.5", "size", "3"), file("x", "abc")),
		stream(long('L', strings.Repeat("n", 200)), long('K', "target"), block{name: "x", typ: '2', magic: gnu}),
		stream(block{name: "old/"}, block{name: "old/x", content: "abc", magic: "-"}),
	}
	for _, s := range seeds {
		_, err := readWith(f.Context(), gzipped(f, s), channel.TarGz, "linux", fuzzLimits)
		require.NoError(f, err)
		f.Add(s)
	}
	for _, s := range [][]byte{stream(file("../a", "")), stream(pax('x', "size", "512"), file("x", "")), stream(block{name: "x", typ: 'S', magic: gnu})} {
		_, err := readWith(f.Context(), gzipped(f, s), channel.TarGz, "linux", fuzzLimits)
		require.Error(f, err)
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		sum := stream(file("", "")) // a fuzzer does not find checksums
		for i := 0; i+512 <= len(data); i += 512 {
			if b := data[i : i+512]; string(b[257:262]) == string(sum[257:262]) {
				b = fixChecksum(b)
				copy(data[i:], b)
			}
		}
		all, err := readWith(t.Context(), gzipped(t, data), channel.TarGz, "linux", fuzzLimits)
		check(t, all)
		if err == nil {
			require.Equal(t, all, std(t, data), "archive/tar reads it in the same way")
		}
	})
}

func fixChecksum(b []byte) []byte {
	b = bytes.Clone(b)
	copy(b[148:], "        ")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	for i := 153; i >= 148; i-- {
		b[i] = byte('0' + sum&7)
		sum >>= 3
	}
	b[154], b[155] = 0, ' '
	return b
}

// std reads a tar stream that was accepted with archive/tar. It may stop early: it refuses more, such as a time that is
// no number, but what it reads is the same.
func std(t *testing.T, data []byte) (all []seen) {
	r := tar.NewReader(bytes.NewReader(data))
	mine, err := readWith(t.Context(), gzipped(t, data), channel.TarGz, "linux", fuzzLimits)
	require.NoError(t, err)
	for {
		h, err := r.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			require.ErrorIs(t, err, tar.ErrHeader)
			return append(all, mine[len(all):]...)
		}
		m := seen{Member: archive.Member{Path: strings.TrimPrefix(h.Name, "./"), Mode: fs.FileMode(h.Mode & 0o777), Size: h.Size}}
		switch h.Typeflag {
		case tar.TypeXGlobalHeader:
			continue
		case tar.TypeDir:
			if h.Name == "." || h.Name == "./" {
				continue
			}
			m.Kind, m.Path = archive.Folder, strings.TrimSuffix(m.Path, "/")
		case tar.TypeSymlink:
			m.Kind, m.Mode, m.Link = archive.Link, 0, h.Linkname
		}
		b, err := io.ReadAll(r)
		require.NoError(t, err)
		m.content = string(b)
		all = append(all, m)
	}
}

func FuzzZip(f *testing.F) {
	for _, s := range [][]byte{
		zipRaw(nil, stored("d/", 0o40755, ""), stored("d/x", 0o100644, "content"), deflated("y", "content"), stored("l", 0o120777, "y")),
		zipOf(f, zipFile("a", "12345"), zipMember("b/", fs.ModeDir|0o755, "")),
		zipRaw(nil, stored("x", 0o100644, "abc").both(func(h *zipHeader) {
			h.packed, h.size, h.extra = 0xffffffff, 0xffffffff, le(uint16(1), uint16(16), uint64(3), uint64(3))
		})),
	} {
		_, err := readWith(f.Context(), s, channel.Zip, "linux", fuzzLimits)
		require.NoError(f, err)
		f.Add(s)
	}
	for _, s := range [][]byte{zipRaw(nil, stored("../x", 0o100644, "")), zipRaw(nil, deflated("x", "abc").with(func(e *zipEntry) { e.local.name = "y" }))} {
		_, err := readWith(f.Context(), s, channel.Zip, "linux", fuzzLimits)
		require.Error(f, err)
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := readWith(t.Context(), data, channel.Zip, "linux", fuzzLimits)
		check(t, all)
		if err != nil {
			return
		}
		r, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
		require.NoError(t, err, "archive/zip reads it, too")
		for _, e := range r.File {
			if e.Name == "./" {
				continue
			}
			require.NotEmpty(t, all)
			m := all[0]
			all = all[1:]
			require.Equal(t, m.Path, strings.TrimSuffix(strings.TrimPrefix(e.Name, "./"), "/"))
			require.Equal(t, m.Kind == archive.Folder, e.Mode().IsDir())
			require.Equal(t, m.Kind == archive.Link, e.Mode()&fs.ModeSymlink != 0)
			c, err := e.Open()
			require.NoError(t, err)
			b, err := io.ReadAll(c)
			if err == nil { // it also compares descriptors
				require.Equal(t, m.content+m.Link, string(b))
			}
		}
		require.Empty(t, all)
	})
}
