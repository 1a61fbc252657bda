package update_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
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
	require.ErrorContains(t, err, "unexpected EOF")
}
