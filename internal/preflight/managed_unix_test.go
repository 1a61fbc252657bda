//go:build unix

package preflight

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A machine below a folder: what a test puts there stands in for the real one's /usr, /var and so on.
type machine struct {
	t *testing.T
	system
}

func newMachine(t *testing.T, goos string) machine {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	none := func(context.Context) ([]string, error) { return nil, nil }
	return machine{t, system{root: root, goos: goos, patience: time.Minute, msi: none}}
}

// file makes a file, and returns its real path.
func (m machine) file(name, content string) string {
	m.t.Helper()
	path := m.root + name
	require.NoError(m.t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(m.t, os.WriteFile(path, []byte(content), 0o755))
	return path
}

func (m machine) link(name, target string) string {
	m.t.Helper()
	path := m.root + name
	require.NoError(m.t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(m.t, os.Symlink(target, path))
	return path
}

func (m machine) by(program string) string {
	m.t.Helper()
	by, err := m.managedBy(m.t.Context(), program)
	require.NoError(m.t, err)
	return by
}

func TestManagedByNobody(t *testing.T) {
	for _, goos := range []string{"linux", "darwin", "windows"} {
		m := newMachine(t, goos)
		require.Empty(t, m.by(m.file("/home/me/bin/app", "")), goos)
		require.Empty(t, m.by(m.root+"/absent"), goos)
	}
}

func TestManagedByFlatpakFromInside(t *testing.T) {
	m := newMachine(t, "linux")
	app := m.file("/app/bin/app", "")
	require.Empty(t, m.by(app))
	m.file("/.flatpak-info", "")
	require.Equal(t, "Flatpak", m.by(app))
	require.Empty(t, m.by(m.file("/home/app/bin/app", "")))
}

func TestManagedByMacAppStore(t *testing.T) {
	m := newMachine(t, "darwin")
	app := m.file("/Applications/App.app/Contents/MacOS/App", "")
	helper := m.file("/Applications/App.app/Contents/Helpers/Helper.app/Contents/MacOS/Helper", "")
	require.Empty(t, m.by(app))
	m.file("/Applications/App.app/Contents/_MASReceipt/receipt", "")
	require.Equal(t, "the Mac App Store", m.by(app))
	require.Equal(t, "the Mac App Store", m.by(helper))
	require.Empty(t, m.by(m.file("/Applications/Other.app/Contents/MacOS/Other", "")))
}

// Both ways count: a package may own the link, or what it leads to, or what lies between.
func TestManagedByThroughLinks(t *testing.T) {
	m := newMachine(t, "darwin")
	m.file("/usr/local/Cellar/app/1.0/bin/app", "")
	require.Equal(t, "Homebrew", m.by(m.link("/usr/local/bin/app", "../Cellar/app/1.0/bin/app")))
	m.file("/data/app", "")
	m.link("/opt/homebrew/bin/app", "../../../data/app")
	require.Equal(t, "Homebrew", m.by(m.link("/home/me/app", m.root+"/opt/homebrew/bin/app")))
	m.link("/home/me/folder", m.root+"/usr/local/Cellar/app/1.0")
	require.Equal(t, "Homebrew", m.by(m.root+"/home/me/folder/bin/app"))
	m.link("/loop/a", "b")
	by, err := m.managedBy(t.Context(), m.link("/loop/b", "a"))
	require.Empty(t, by)
	require.Error(t, err)
}

func TestManagedByDeclaration(t *testing.T) {
	m := newMachine(t, "linux")
	app := m.file("/opt/app/app", "")
	link := m.link("/usr/local/bin/app", "../../../opt/app/app")
	for text, by := range map[string]string{
		"pkgsrc\n":                     "pkgsrc",
		"":                             "a package manager",
		"our IT\nask them":             "our IT",
		"\x1b[31mred\x07\u202e\r\n":    "[31mred",
		strings.Repeat("x", 63) + "é":  strings.Repeat("x", 63),
		strings.Repeat("long ", 1_000): strings.TrimSpace(strings.Repeat("long ", 1_000)[:64]),
	} {
		m.file("/opt/app/app.managed", text)
		require.Equal(t, by, m.by(app), "%q", text)
		require.Equal(t, by, m.by(link), "%q", text)
	}
	require.NoError(t, os.Remove(app+".managed"))
	require.Empty(t, m.by(link))
	m.file("/usr/local/bin/app.managed", "beside the link")
	require.Equal(t, "beside the link", m.by(link))
	require.Empty(t, m.by(app))
}

func TestManagedByDpkg(t *testing.T) {
	m := newMachine(t, "linux")
	m.file("/var/lib/dpkg/info/other.list", "/.\n/usr\n/usr/bin\n/usr/bin/other\n")
	m.file("/var/lib/dpkg/info/app:amd64.list", "/.\n/usr/bin/apple\n/opt/usr/bin/app\n/usr/bin/app2\n")
	m.file("/var/lib/dpkg/info/app:amd64.md5sums", "/usr/bin/app\n")
	app := m.file("/usr/bin/app", "")
	require.Empty(t, m.by(app), "parts of lines do not count, nor other files")
	m.file("/var/lib/dpkg/info/zzz.list", "/.\n/usr/bin/app")
	require.Equal(t, "dpkg", m.by(app))
	require.Equal(t, "dpkg", m.by(m.link("/home/me/app", m.root+"/usr/bin/app")))
	require.Empty(t, m.by(m.file("/usr/bin/mine", "")))
}

func TestManagedByDpkgMergedUsr(t *testing.T) {
	for _, listed := range []string{"/bin/app", "/usr/bin/app"} {
		m := newMachine(t, "linux")
		m.file("/usr/bin/app", "")
		m.link("/bin", "usr/bin")
		m.file("/var/lib/dpkg/info/app.list", listed+"\n")
		require.Equal(t, "dpkg", m.by(m.root+"/usr/bin/app"), listed)
		require.Equal(t, "dpkg", m.by(m.root+"/bin/app"), listed)
	}
	m := newMachine(t, "linux") // two folders, two programs
	app := m.file("/usr/bin/app", "")
	m.file("/bin/app", "")
	m.file("/var/lib/dpkg/info/app.list", "/bin/app\n")
	require.Empty(t, m.by(app))
}

// Everything is read when nobody owns the program. The list that says so is the last in any order but for the name.
func TestManagedByDpkgWithManyLists(t *testing.T) {
	m := newMachine(t, "linux")
	app := m.file("/usr/bin/app", "")
	var list strings.Builder
	for i := range 200 {
		fmt.Fprintf(&list, "/usr/share/doc/package/some/rather/long/name/of/a/file-%d\n", i)
	}
	for i := range 3_000 {
		m.file(fmt.Sprintf("/var/lib/dpkg/info/package-%d.list", i), list.String())
	}
	start := time.Now()
	require.Empty(t, m.by(app))
	t.Logf("3,000 lists, %d MB: %s", 3_000*list.Len()>>20, time.Since(start))

	m.patience = time.Nanosecond
	by, err := m.managedBy(t.Context(), app)
	require.Empty(t, by)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "ask dpkg for the owner of "+app)
}

func TestManagedByCanceled(t *testing.T) {
	m := newMachine(t, "linux")
	m.file("/var/lib/dpkg/info/app.list", "/usr/bin/app\n")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	by, err := m.managedBy(ctx, m.file("/usr/bin/app", ""))
	require.Empty(t, by)
	require.ErrorIs(t, err, context.Canceled)
}

// What cannot be read may own the program. A list that is broken does not hide the next one.
func TestManagedByUnreadable(t *testing.T) {
	m := newMachine(t, "linux")
	app := m.file("/usr/bin/app", "")
	m.file("/var/lib/dpkg/info/app.list", strings.Repeat("x", 70_000))
	by, err := m.managedBy(t.Context(), app)
	require.Empty(t, by)
	require.ErrorContains(t, err, "app.list")
	m.file("/var/lib/dpkg/info/real.list", "/usr/bin/app\n")
	require.Equal(t, "dpkg", m.by(app))
}

func TestManagedByPacman(t *testing.T) {
	m := newMachine(t, "linux")
	m.file("/var/lib/pacman/local/ALPM_DB_VERSION", "9\n")
	m.file("/var/lib/pacman/local/app-1-1/desc", "%NAME%\napp\n\n%FILES%\nusr/bin/mine\n")
	m.file("/var/lib/pacman/local/app-1-1/files", "%FILES%\nusr/\nusr/bin/\nusr/bin/app\n\n%BACKUP%\nusr/bin/config\n")
	require.Equal(t, "pacman", m.by(m.file("/usr/bin/app", "")))
	require.Empty(t, m.by(m.file("/usr/bin/config", "")), "of another section")
	require.Empty(t, m.by(m.file("/usr/bin/mine", "")), "of another file")
	require.Empty(t, m.by(m.file("/opt/usr/bin/app", "")))
}

const apkInstalled = `C:Q1abc=
P:busybox
V:1.36.1-r2
F:bin
R:busybox
a:0:0:755
Z:Q1abc=
F:etc
F:etc/network
R:app

P:app
V:1.0-r0
F:
R:top
F:usr
F:usr/bin
R:app
a:0:0:755
Z:Q1def=

`

func TestManagedByApk(t *testing.T) {
	for _, db := range []string{"/lib/apk/db/installed", "/usr/lib/apk/db/installed"} {
		m := newMachine(t, "linux")
		m.file(db, apkInstalled)
		require.Equal(t, "apk", m.by(m.file("/usr/bin/app", "")), db)
		require.Equal(t, "apk", m.by(m.file("/bin/busybox", "")), db)
		require.Equal(t, "apk", m.by(m.file("/top", "")), db)
		require.Empty(t, m.by(m.file("/bin/app", "")), db)
		require.Empty(t, m.by(m.file("/etc/app", "")), db)
		require.Empty(t, m.by(m.file("/usr/bin/busybox", "")), db)
	}
}

// On Windows any user may make C:\usr\bin\rpm.
func TestManagedByAsksNoDatabaseOfUnixOnWindows(t *testing.T) {
	m := newMachine(t, "windows")
	m.file("/var/lib/dpkg/info/app.list", "/usr/bin/app\n")
	m.file("/lib/apk/db/installed", apkInstalled)
	app := m.file("/usr/bin/app", "")
	require.Empty(t, m.by(app))
	m.goos = "linux"
	require.Equal(t, "dpkg", m.by(app))
}
