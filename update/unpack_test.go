package update_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/tufrepo"
	"github.com/fairlead-dev/fairlead/update"
)

func blobOf(content []byte) channel.Blob {
	return channel.Blob{SHA256: digest(content), Length: int64(len(content))}
}

// artifact describes an archive with one program.
func artifact(format channel.Format, archive, program []byte) *channel.Artifact {
	return &channel.Artifact{
		Blob: blobOf(archive), Format: format, Executable: "bin/notes",
		Files: []channel.File{{Path: "bin/notes", Blob: blobOf(program), Mode: 0o755}},
	}
}

// What an archive holds counts only as far as the signed file list says so.
func TestUnpackRefusals(t *testing.T) {
	good := program("1.1.0")
	files := map[string][]byte{"bin/notes": good}
	unpack := func(a *channel.Artifact, archive []byte) (update.Staged, error) {
		blob := filepath.Join(t.TempDir(), "blob")
		require.NoError(t, os.WriteFile(blob, archive, 0o600))
		e := update.Executable{Path: filepath.Join(t.TempDir(), "notes")}
		return e.Unpack(t.Context(), a, blob, t.TempDir())
	}
	for format, pack := range map[channel.Format]func(*testing.T, map[string][]byte) []byte{channel.TarGz: tarGz, channel.Zip: zipped} {
		for _, prefix := range []string{"", "./"} {
			archive := pack(t, map[string][]byte{prefix + "bin/notes": good})
			st, err := unpack(artifact(format, archive, good), archive)
			require.NoError(t, err)
			got, err := os.ReadFile(st.Path)
			require.NoError(t, err)
			require.Equal(t, good, got)
		}
		for name, c := range map[string]struct {
			files  map[string][]byte
			signed []byte
			cause  string
		}{
			"other content": {files, program("1.1.1"), "are signed"},
			"longer":        {files, good[:len(good)-1], "are signed"},
			"shorter":       {files, append(bytes.Clone(good), 'x'), "are signed"},
			"absent":        {map[string][]byte{"bin/other": good}, good, "is not in the archive"},
		} {
			archive := pack(t, c.files)
			_, err := unpack(artifact(format, archive, c.signed), archive)
			var wrong *update.VerifyError
			require.ErrorAs(t, err, &wrong, "%s %s", format, name)
			require.ErrorContains(t, err, c.cause, "%s %s", format, name)
		}
		archive := pack(t, files)
		_, err := unpack(artifact(format, archive[:len(archive)/2], good), archive[:len(archive)/2])
		var wrong *update.VerifyError
		require.ErrorAs(t, err, &wrong, "cut off")
	}
	// Far more than the file list says lies before the program: nobody unpacks through that.
	bomb := tarGzOf(t, packed{"a-bomb", make([]byte, 8<<20)}, packed{"bin/notes", good})
	_, err := unpack(artifact(channel.TarGz, bomb, good), bomb)
	var wrong *update.VerifyError
	require.ErrorAs(t, err, &wrong)
	require.ErrorContains(t, err, `holds "a-bomb", which unpacks to more than`)
	// A hostile member beside the program is refused, too, even after it.
	hostile := tarGzOf(t, packed{"bin/notes", good}, packed{"../evil", nil})
	_, err = unpack(artifact(channel.TarGz, hostile, good), hostile)
	require.ErrorAs(t, err, &wrong)
	require.ErrorContains(t, err, `holds "../evil"`)
}

func tarGz(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var list []packed
	for name, content := range files {
		list = append(list, packed{name, content})
	}
	return tarGzOf(t, list...)
}

type packed struct {
	name    string
	content []byte
}

func tarGzOf(t testing.TB, files ...packed) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, f := range files {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o755, Size: int64(len(f.content)), Typeflag: tar.TypeReg}))
		_, err := w.Write(f.content)
		require.NoError(t, err)
	}
	require.NoError(t, errors.Join(w.Close(), z.Close()))
	return b.Bytes()
}

func zipped(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, content := range files {
		h := &zip.FileHeader{Name: name, Method: zip.Deflate}
		h.SetMode(0o755)
		f, err := w.CreateHeader(h)
		require.NoError(t, err)
		_, err = f.Write(content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func TestArchives(t *testing.T) {
	v := newVendor(t)
	m := newMachine(t, v, "1.0.0")
	named := func(format channel.Format) func(*tufrepo.NewRelease) {
		return func(n *tufrepo.NewRelease) {
			n.Artifacts[0].Format, n.Artifacts[0].Executable = format, "notes-x/bin/notes"
		}
	}
	files := func(version string) map[string][]byte {
		return map[string][]byte{"notes-x/bin/notes": program(version), "notes-x/README": []byte("read me")}
	}
	v.release("1.1.0", tarGz(t, files("1.1.0")), named(channel.TarGz))
	m.updateTo(m.start(), "1.1.0")
	u := m.start()
	require.NoError(t, u.Confirm(t.Context()))
	v.release("1.2.0", zipped(t, files("1.2.0")), named(channel.Zip))
	m.updateTo(u, "1.2.0")
	info, err := os.Stat(m.program)
	require.NoError(t, err)
	if runtime.GOOS != "windows" { // which has no such modes
		require.Equal(t, fs.FileMode(0o755), info.Mode())
	}
}
