package archive_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/archive"
)

// What the tools of this machine write is read: a bundle with long and foreign names, links, and an AppleDouble file.
func TestTools(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("symbolic links take a privilege on Windows")
	}
	dir := t.TempDir()
	deep := strings.Repeat("a-long-name/", 20) + strings.Repeat("x", 120)
	want := map[string]string{ // content, or the target of a link
		"Notes.app/Contents/MacOS/notes": strings.Repeat("program ", 10_000), "Notes.app/Contents/._Info.plist": "resource fork",
		"Notes.app/Grüße, 世界.txt": "hello", deep: "deep", "empty": "",
		"Notes.app/Contents/Frameworks/F.framework/Versions/A/F":     "library",
		"Notes.app/Contents/Frameworks/F.framework/F":                "→Versions/Current/F",
		"Notes.app/Contents/Frameworks/F.framework/Versions/Current": "→A",
		"long": "→" + deep,
	}
	for name, content := range want {
		path := filepath.Join(dir, "in", filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		if target, ok := strings.CutPrefix(content, "→"); ok {
			require.NoError(t, os.Symlink(target, path))
		} else {
			require.NoError(t, os.WriteFile(path, []byte(content), 0o755))
		}
	}
	const python = `
import sys, tarfile
with tarfile.open(sys.argv[1], "w:gz", format=getattr(tarfile, sys.argv[2])) as t:
    t.add(".")
`
	const pythonZip = `
import sys, zipfile, os
with zipfile.ZipFile(sys.argv[1], "w", zipfile.ZIP_DEFLATED) as z:
    for folder, folders, files in os.walk("."):
        for f in folders + files:
            path = os.path.join(folder, f)
            if os.path.islink(path):
                i = zipfile.ZipInfo(path)
                i.create_system, i.external_attr = 3, 0o120777 << 16
                z.writestr(i, os.readlink(path))
            else:
                z.write(path)
`
	for name, args := range map[string][]string{
		"gnu.tar.gz":    {"tar", "--format=gnu", "-czf", "OUT", "."},
		"pax.tar.gz":    {"tar", "--format=posix", "-czf", "OUT", "."},
		"oldgnu.tar.gz": {"tar", "--format=oldgnu", "-czf", "OUT", "."},
		"names.tar.gz":  {"tar", "-czf", "OUT", "Notes.app", "long", "empty", "a-long-name"},
		"gnu.tar.zst":   {"tar", "--zstd", "-cf", "OUT", "."},
		"bsd.tar.gz":    {"bsdtar", "-czf", "OUT", "."},
		"bsdpax.tar.gz": {"bsdtar", "--format=pax", "-czf", "OUT", "."},
		"bsdgnu.tar.gz": {"bsdtar", "--format=gnutar", "-czf", "OUT", "."},
		"bsd.tar.zst":   {"bsdtar", "--zstd", "-cf", "OUT", "."},
		"bsd.zip":       {"bsdtar", "--format=zip", "-cf", "OUT", "."},
		"pypax.tar.gz":  {"python3", "-c", python, "OUT", "PAX_FORMAT"},
		"pygnu.tar.gz":  {"python3", "-c", python, "OUT", "GNU_FORMAT"},
		"py.zip":        {"python3", "-c", pythonZip, "OUT"},
		"zip.zip":       {"zip", "-q", "-y", "-r", "OUT", "."},
		"stored.zip":    {"zip", "-q", "-0", "-y", "-r", "OUT", "."},
		"zipstream.zip": {"sh", "-c", `zip -q -y -r - . > "$0"`, "OUT"},
		"zip64.zip":     {"zip", "-q", "-fz", "-y", "-r", "OUT", "."},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath(args[0]); err != nil {
				t.Skip(err)
			}
			out := filepath.Join(dir, name)
			args := slices.Clone(args)
			args[slices.Index(args, "OUT")] = out
			cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
			cmd.Dir = filepath.Join(dir, "in")
			cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
			if said, err := cmd.CombinedOutput(); err != nil {
				t.Skipf("%s cannot: %s", args[0], said) // on this machine, such as tar without zstd
			}
			data, err := os.ReadFile(out)
			require.NoError(t, err)
			format := channel.Format(name[strings.Index(name, ".")+1:])
			all, err := read(t, data, format)
			require.NoError(t, err)
			got := map[string]string{}
			for _, m := range all {
				switch m.Kind {
				case archive.File:
					require.Equal(t, 0o755, int(m.Mode))
					got[m.Path] = m.content
				case archive.Link:
					got[m.Path] = "→" + m.Link
				}
			}
			require.Equal(t, want, got)
		})
	}
}
