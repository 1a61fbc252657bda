package tufrepo

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

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
		"parent":          {regular("../evil", 0o644), linux, `holds the path "../evil"`},
		"parent inside":   {regular("a/../../evil", 0o644), linux, `holds the path "a/../../evil"`},
		"absolute":        {regular("/etc/passwd", 0o644), linux, `holds the path "/etc/passwd"`},
		"backslash":       {regular(`..\evil`, 0o644), linux, "holds the path"},
		"drive":           {regular("c:evil", 0o644), linux, "holds the path"},
		"unprinted":       {regular("a\nb", 0o644), linux, "not printed"},
		"twice":           {regular("notes", 0o644), linux, "twice"},
		"twice, dotted":   {regular("./notes", 0o644), linux, "twice"},
		"twice, by case":  {regular("NOTES", 0o644), linux, "differ only by case"},
		"file and folder": {regular("notes/x", 0o644), linux, "both as a file and as a folder"},
		"symbolic link":   {&tar.Header{Name: "x", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, linux, "not a regular file"},
		"hard link":       {&tar.Header{Name: "x", Typeflag: tar.TypeLink, Linkname: "notes"}, linux, "not a regular file"},
		"device":          {&tar.Header{Name: "x", Typeflag: tar.TypeChar}, linux, "not a regular file"},
		"fifo":            {&tar.Header{Name: "x", Typeflag: tar.TypeFifo}, linux, "not a regular file"},
		"setuid":          {regular("x", 0o4755), linux, "such bits are not installed"},
		"folder outside":  {&tar.Header{Name: "../x/", Typeflag: tar.TypeDir, Mode: 0o755}, linux, `holds the path "../x"`},
		"second program":  {regular("x", 0o755), linux, "holds 2 executable files"},
		"device name":     {regular("lib/NUL.txt", 0o644), windows, "which Windows does not have"},
		"port name":       {regular("com1", 0o644), windows, "which Windows does not have"},
		"dot at the end":  {regular("a.", 0o644), windows, "which Windows does not have"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			first := *program
			if tt.platform.OS == "windows" {
				first.Name = "notes.exe"
			}
			_, err := scan(t, NewArtifact{Platform: tt.platform, Path: writeFile(t, "a.tgz", tarGz(t, &first, regular("README", 0o644)))})
			require.NoError(t, err)
			_, err = scan(t, NewArtifact{Platform: tt.platform, Path: writeFile(t, "a.tgz", tarGz(t, &first, tt.bad))})
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
		`holds the path "../x"`: member("../x", 0o644),
		`holds the path "/x"`:   member("/x", 0o644),
		"twice":                 member("notes", 0o644),
		"not a regular file":    member("link", fs.ModeSymlink|0o777),
		"executable files":      member("other", 0o755),
		`holds the path "../y"`: member("../y/", fs.ModeDir|0o755),
	} {
		_, err := scan(t, NewArtifact{Platform: linux, Path: writeFile(t, "a.zip", with(change))})
		require.ErrorContains(t, err, want)
	}
}

func TestFormats(t *testing.T) {
	archive := tarGz(t, regular("notes", 0o755), regular("helper", 0o755))
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

// TestBomb: an archive that unpacks to more than a client would take is refused while it is read.
func TestBomb(t *testing.T) {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	w := tar.NewWriter(z)
	for i := range maxFiles + 1 {
		require.NoError(t, w.WriteHeader(regular(fmt.Sprintf("file-%d", i), 0o644)))
	}
	require.NoError(t, w.Close())
	require.NoError(t, z.Close())
	_, err := scan(t, NewArtifact{Platform: linux, Path: writeFile(t, "a.tgz", buf.Bytes()), Executable: "x"})
	require.ErrorContains(t, err, "holds more than 10000 files")
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
