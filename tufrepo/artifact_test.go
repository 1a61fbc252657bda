package tufrepo

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
)

func scan(t testing.TB, n NewArtifact) (channel.Artifact, error) {
	t.Helper()
	return scanArtifact(t.Context(), "notes", n, func(int64, int64, string) {})
}

func writeFile(t testing.TB, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, content, 0o644))
	return path
}

func regular(name string, mode int64) *tar.Header {
	return &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: mode}
}

func TestTarRefused(t *testing.T) {
	program := regular("notes", 0o755)
	windows := channel.Platform{OS: "windows", Arch: "amd64"}
	tests := map[string]struct {
		bad      *tar.Header
		platform channel.Platform
		want     string
	}{
		"parent":          {regular("../evil", 0o644), linux, `holds "../evil", which is not relative`},
		"parent inside":   {regular("a/../../evil", 0o644), linux, `holds "a/../../evil", which is not relative`},
		"absolute":        {regular("/etc/passwd", 0o644), linux, `holds "/etc/passwd", which is not relative`},
		"backslash":       {regular(`..\evil`, 0o644), linux, "which is not relative"},
		"drive":           {regular("c:evil", 0o644), linux, "which is not relative"},
		"unprinted":       {regular("a\nb", 0o644), linux, "not printed"},
		"twice":           {regular("notes", 0o644), linux, "twice"},
		"twice, dotted":   {regular("./notes", 0o644), linux, "twice"},
		"twice, by case":  {regular("NOTES", 0o644), linux, `differs only by case from "notes"`},
		"file and folder": {regular("notes/x", 0o644), linux, "both a file and a folder"},
		"symbolic link":   {&tar.Header{Name: "x", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, linux, `a symbolic link to "/etc/passwd"`},
		"hard link":       {&tar.Header{Name: "x", Typeflag: tar.TypeLink, Linkname: "notes"}, linux, "is a hard link"},
		"device":          {&tar.Header{Name: "x", Typeflag: tar.TypeChar}, linux, "is a device"},
		"fifo":            {&tar.Header{Name: "x", Typeflag: tar.TypeFifo}, linux, "is a FIFO"},
		"link to nothing": {&tar.Header{Name: "x", Typeflag: tar.TypeSymlink, Linkname: "gone"}, linux, `file "x" is a symbolic link to "gone", but "gone" is no listed file`},
		"link to itself":  {&tar.Header{Name: "x", Typeflag: tar.TypeSymlink, Linkname: "x"}, linux, "leads in a circle"},
		"link on Windows": {&tar.Header{Name: "x", Typeflag: tar.TypeSymlink, Linkname: "README"}, windows, "there are none on Windows"},
		"accents":         {regular("cafe\u0301", 0o644), linux, "only by how its accents are written"},
		"setuid":          {regular("x", 0o4755), linux, "such bits are not installed"},
		"folder outside":  {&tar.Header{Name: "../x/", Typeflag: tar.TypeDir, Mode: 0o755}, linux, `holds "../x/", which is not relative`},
		"second program":  {regular("x", 0o755), linux, "holds 2 executable files"},
		"device name":     {regular("lib/NUL.txt", 0o644), windows, "a name that Windows does not have"},
		"port name":       {regular("com1", 0o644), windows, "a name that Windows does not have"},
		"dot at the end":  {regular("a.", 0o644), windows, "a name that Windows does not have"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			first := *program
			if tt.platform.OS == "windows" {
				first.Name = "notes.exe"
			}
			_, err := scan(t, NewArtifact{Platform: tt.platform, Path: writeFile(t, "a.tgz", tarGz(t, &first, regular("caf\u00e9", 0o644), regular("README", 0o644)))})
			require.NoError(t, err)
			_, err = scan(t, NewArtifact{Platform: tt.platform, Path: writeFile(t, "a.tgz", tarGz(t, &first, regular("caf\u00e9", 0o644), tt.bad))})
			require.ErrorContains(t, err, tt.want)
		})
	}
}

func TestZipRefused(t *testing.T) {
	with := func(change func(z *zip.Writer)) []byte {
		var buf bytes.Buffer
		z := zip.NewWriter(&buf)
		h := &zip.FileHeader{Name: "notes"}
		h.SetMode(0o755)
		_, err := z.CreateHeader(h)
		require.NoError(t, err)
		change(z)
		require.NoError(t, z.Close())
		return buf.Bytes()
	}
	member := func(name string, mode fs.FileMode) func(z *zip.Writer) {
		return func(z *zip.Writer) {
			h := &zip.FileHeader{Name: name}
			h.SetMode(mode)
			_, err := z.CreateHeader(h)
			require.NoError(t, err)
		}
	}
	_, err := scan(t, NewArtifact{Platform: linux, Path: writeFile(t, "a.zip", with(member("README", 0o644)))})
	require.NoError(t, err)
	for want, change := range map[string]func(z *zip.Writer){
		`holds "../x", which is not relative`:  member("../x", 0o644),
		`holds "/x", which is not relative`:    member("/x", 0o644),
		"twice":                                member("notes", 0o644),
		"link to \"\"":                         member("link", fs.ModeSymlink|0o777),
		"executable files":                     member("other", 0o755),
		`holds "../y/", which is not relative`: member("../y/", fs.ModeDir|0o755),
	} {
		_, err := scan(t, NewArtifact{Platform: linux, Path: writeFile(t, "a.zip", with(change))})
		require.ErrorContains(t, err, want)
	}
}

func TestFormats(t *testing.T) {
	archive := tarGz(t, regular("notes", 0o755), regular("helper", 0o755))
	z, err := gzip.NewReader(bytes.NewReader(archive))
	require.NoError(t, err)
	plain, err := io.ReadAll(z)
	require.NoError(t, err)
	encoder, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	zst := encoder.EncodeAll(plain, nil)
	framework := tarGz(t, frameworkHeaders()...)
	for name, tt := range map[string]struct {
		n    NewArtifact
		want string // error, or the executable
		bad  bool
	}{
		"raw":                  {NewArtifact{Platform: linux, Path: writeFile(t, "notes-linux-amd64", []byte("\x7fELF"))}, "notes", false},
		"raw for windows":      {NewArtifact{Platform: channel.Platform{OS: "windows", Arch: "amd64"}, Path: writeFile(t, "x.exe", []byte("MZ"))}, "notes.exe", false},
		"raw with a name":      {NewArtifact{Platform: linux, Path: writeFile(t, "x", []byte("x")), Executable: "bin/notes"}, "bin/notes", false},
		"named executable":     {NewArtifact{Platform: linux, Path: writeFile(t, "a.tar.gz", archive), Executable: "helper"}, "helper", false},
		"wrong executable":     {NewArtifact{Platform: linux, Path: writeFile(t, "a.tar.gz", archive), Executable: "gone"}, `holds no file "gone"`, true},
		"zstd":                 {NewArtifact{Platform: linux, Path: writeFile(t, "a.tar.zst", zst), Executable: "notes"}, "notes", false},
		"zstd, short name":     {NewArtifact{Platform: linux, Path: writeFile(t, "a.TZST", zst), Executable: "notes"}, "notes", false},
		"zstd by content":      {NewArtifact{Platform: linux, Path: writeFile(t, "notes", zst)}, "say which format", true},
		"cut zstd":             {NewArtifact{Platform: linux, Path: writeFile(t, "a.tar.zst", zst[:len(zst)-9])}, "is not a whole tar.zst archive", true},
		"a link to run":        {NewArtifact{Platform: linux, Path: writeFile(t, "a.tgz", framework), Executable: "F.framework/F"}, `holds no file "F.framework/F"`, true},
		"links beside it":      {NewArtifact{Platform: linux, Path: writeFile(t, "a.tgz", framework)}, "F.framework/Versions/A/F", false},
		"archive by content":   {NewArtifact{Platform: linux, Path: writeFile(t, "notes", archive)}, "say which format", true},
		"zip by content":       {NewArtifact{Platform: linux, Path: writeFile(t, "notes.jar", zipped(t, "a"))}, "say which format", true},
		"raw against content":  {NewArtifact{Platform: linux, Path: writeFile(t, "notes.jar", zipped(t, "a")), Format: channel.Raw}, "notes", false},
		"format against name":  {NewArtifact{Platform: linux, Path: writeFile(t, "a.bin", archive), Format: channel.TarGz, Executable: "notes"}, "notes", false},
		"not a tar":            {NewArtifact{Platform: linux, Path: writeFile(t, "a.tar.gz", []byte("text"))}, "is not a whole tar.gz archive", true},
		"cut":                  {NewArtifact{Platform: linux, Path: writeFile(t, "a.tar.gz", archive[:len(archive)-9])}, "unexpected EOF", true},
		"something after it":   {NewArtifact{Platform: linux, Path: writeFile(t, "a.tar.gz", append(bytes.Clone(archive), "tail"...)), Executable: "notes"}, "EOF", true},
		"not a zip":            {NewArtifact{Platform: linux, Path: writeFile(t, "a.zip", []byte("text"))}, "is not a whole zip archive", true},
		"unknown format":       {NewArtifact{Platform: linux, Path: writeFile(t, "a", []byte("x")), Format: "rar"}, "is none of", true},
		"executable not a bit": {NewArtifact{Platform: linux, Path: writeFile(t, "a.tgz", tarGz(t, regular("notes", 0o644))), Executable: "notes"}, "notes", false},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := scan(t, tt.n)
			if tt.bad {
				require.ErrorContains(t, err, tt.want)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.want, a.Executable)
			require.Equal(t, uint32(0o755), a.Program().Mode)
			data, err := os.ReadFile(tt.n.Path)
			require.NoError(t, err)
			require.Equal(t, blobOf(data), a.Blob)
			m := channel.Manifest{V: 1, Product: "notes", Version: "1.0.0", Published: epoch, Artifacts: []channel.Artifact{a}}
			require.NoError(t, m.Validate())
		})
	}
}

// frameworkHeaders describe a macOS framework: links to folders, and links through those.
func frameworkHeaders() []*tar.Header {
	return []*tar.Header{
		regular("F.framework/Versions/A/F", 0o755),
		{Name: "F.framework/Versions/Current", Typeflag: tar.TypeSymlink, Linkname: "A", Mode: 0o777},
		{Name: "F.framework/F", Typeflag: tar.TypeSymlink, Linkname: "Versions/Current/F", Mode: 0o777},
	}
}

// TestLinksListed: a symbolic link stands in the signed list as what it is.
func TestLinksListed(t *testing.T) {
	mac := channel.Platform{OS: "darwin", Arch: "arm64"}
	a, err := scan(t, NewArtifact{Platform: mac, Path: writeFile(t, "a.tgz", tarGz(t, frameworkHeaders()...))})
	require.NoError(t, err)
	require.Equal(t, []channel.File{
		{Path: "F.framework/F", Link: "Versions/Current/F"},
		{Path: "F.framework/Versions/A/F", Blob: blobOf([]byte("content of F.framework/Versions/A/F")), Mode: 0o755},
		{Path: "F.framework/Versions/Current", Link: "A"},
	}, a.Files)
}

// TestBomb: an archive that unpacks to more than a client would take is refused while it is read.
func TestBomb(t *testing.T) {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	w := tar.NewWriter(z)
	for i := range channel.MaxFiles + 1 {
		require.NoError(t, w.WriteHeader(regular(fmt.Sprintf("file-%d", i), 0o644)))
	}
	require.NoError(t, w.Close())
	require.NoError(t, z.Close())
	_, err := scan(t, NewArtifact{Platform: linux, Path: writeFile(t, "a.tgz", buf.Bytes()), Executable: "x"})
	require.ErrorContains(t, err, "is one more than 10000 files")
}

func TestChangedSinceRelease(t *testing.T) {
	w := newWorld(t)
	before := w.mustVerify()
	r := w.open()
	n := w.release("1.0.0", "bytes")
	_, err := r.Release(t.Context(), "notes", "stable", n)
	require.NoError(t, err)
	w.file("notes-1.0.0", []byte("other"))
	_, err = r.Commit(t.Context(), w.all()...)
	var artifact *ArtifactError
	require.ErrorAs(t, err, &artifact)
	require.Equal(t, n.Artifacts[0].Path, artifact.Path)
	require.ErrorContains(t, err, "was changed since it was released")
	require.NoFileExists(t, w.path(blobFile("bytes")), "nothing stands under a name that it does not match")
	require.Equal(t, before.Releases, w.mustVerify().Releases)
	w.file("notes-1.0.0", []byte("bytes"))
	w.commit(r)
	w.mustVerify()
}

// TestDamagedBlobIsReplaced: the publisher has the right bytes, so it heals what it finds cut.
func TestDamagedBlobIsReplaced(t *testing.T) {
	w := newWorld(t)
	w.published("beta", w.release("1.0.0", "bytes"))
	w.cut(blobFile("bytes"))
	r := w.open()
	_, err := r.Release(t.Context(), "notes", "stable", w.release("1.0.0", "bytes"))
	require.NoError(t, err)
	w.commit(r)
	w.mustVerify()
}

func FuzzScanTarGz(f *testing.F) {
	f.Add(tarGz(f, regular("notes", 0o755), regular("README", 0o644)))
	f.Add(tarGz(f, regular("../evil", 0o755)))
	f.Add(tarGz(f, &tar.Header{Name: "x", Typeflag: tar.TypeSymlink, Linkname: "/"}))
	f.Fuzz(func(t *testing.T, data []byte) { fuzzScan(t, "a.tgz", data) })
}

func FuzzScanZip(f *testing.F) {
	f.Add(zipped(f, "notes", "README"))
	f.Add(zipped(f, "../evil"))
	f.Fuzz(func(t *testing.T, data []byte) { fuzzScan(t, "a.zip", data) })
}

// fuzzScan: whatever is accepted makes a valid manifest.
func fuzzScan(t *testing.T, name string, data []byte) {
	a, err := scan(t, NewArtifact{Platform: linux, Path: writeFile(t, name, data)})
	if err != nil {
		return
	}
	require.Equal(t, blobOf(data), a.Blob)
	m := channel.Manifest{V: 1, Product: "notes", Version: "1.0.0", Published: epoch, Artifacts: []channel.Artifact{a}}
	require.NoError(t, m.Validate())
}
