//go:build unix

package preflight

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const rpmDB = "/usr/lib/sysimage/rpm/rpmdb.sqlite"

func TestManagedByRPMAsksTheProgram(t *testing.T) {
	t.Setenv("FAIRLEAD_SECRET", "1")
	m := newMachine(t, "linux")
	app := m.file("/usr/bin/app", "")
	m.file("/usr/bin/rpm", "#!/bin/sh\nenv > "+m.root+"/env\nprintf '%s|' \"$@\" > "+m.root+"/args\necho owner=app\n")
	require.Empty(t, m.by(app), "without a database nothing is asked")
	require.NoFileExists(t, m.root+"/args")
	m.file("/var/lib/rpm/.rpm.lock", "")
	require.Empty(t, m.by(app), "a folder is no database")
	m.file(rpmDB, "")
	require.Equal(t, "rpm", m.by(app))

	args, err := os.ReadFile(m.root + "/args")
	require.NoError(t, err)
	require.Equal(t, `-qf|--qf|owner=%{NAME}\n|--dbpath|/usr/lib/sysimage/rpm|/usr/bin/app|`, string(args))
	env, err := os.ReadFile(m.root + "/env")
	require.NoError(t, err)
	require.NotContains(t, string(env), "FAIRLEAD_SECRET")
	require.Contains(t, string(env), "LC_ALL=C\n")
}

func TestManagedByRPMAnswers(t *testing.T) {
	for script, want := range map[string]string{
		"echo file /usr/bin/app is not owned by any package; exit 1":                               "",
		"echo file /usr/local/bin/app is not owned by any package; echo owner=app; exit 1":         "rpm",
		"echo 'error: cannot open Packages database in /var/lib/rpm' >&2; exit 1":                  "error: cannot open Packages database in /var/lib/rpm",
		"echo 'warning: waiting for lock' >&2; echo file /usr/bin/app is not owned by any; exit 1": "",
		"kill -9 $$":               "error: signal: killed",
		"yes owner | head -c 9999": "",
	} {
		m := newMachine(t, "linux")
		m.file(rpmDB, "")
		m.file("/usr/bin/rpm", "#!/bin/sh\n"+script+"\n")
		by, err := m.managedBy(t.Context(), m.file("/usr/bin/app", ""))
		if complaint, bad := strings.CutPrefix(want, "error: "); bad {
			require.Empty(t, by, script)
			require.ErrorContains(t, err, complaint, script)
			continue
		}
		require.NoError(t, err, script)
		require.Equal(t, want, by, script)
	}
}

// A child of rpm that lives on must not hold up the answer either.
func TestManagedByRPMThatHangs(t *testing.T) {
	m := newMachine(t, "linux")
	m.patience = 200 * time.Millisecond
	m.file(rpmDB, "")
	m.file("/usr/bin/rpm", "#!/bin/sh\nsleep 20\necho owner=app\n")
	start := time.Now()
	by, err := m.managedBy(t.Context(), m.file("/usr/bin/app", ""))
	require.Empty(t, by)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "ask rpm")
	require.Less(t, time.Since(start), 15*time.Second)
}

// The real rpm, with a database of its own that holds one tiny package.
func TestManagedByRealRPM(t *testing.T) {
	for _, tool := range []string{"/usr/bin/rpm", "/usr/bin/rpmbuild"} {
		if _, err := os.Stat(tool); err != nil {
			t.Skipf("no %s on this machine: apt-get install rpm", tool)
		}
	}
	m := newMachine(t, "linux")
	app := m.file("/usr/bin/app", "")
	work := t.TempDir()
	spec := "Name: fixture\nVersion: 1\nRelease: 1\nSummary: s\nLicense: MIT\nBuildArch: noarch\n%description\nd\n" +
		"%install\nmkdir -p %{buildroot}" + m.root + "/usr/bin\ntouch %{buildroot}" + app + "\n%files\n" + app + "\n"
	require.NoError(t, os.WriteFile(work+"/fixture.spec", []byte(spec), 0o600))
	run(t, "rpmbuild", "-bb", "--quiet", "--define", "_topdir "+work+"/top", work+"/fixture.spec")
	db := m.root + filepath.Dir(rpmDB)
	run(t, "rpm", "--dbpath", db, "--initdb")
	run(t, "rpm", "--dbpath", db, "-i", "--justdb", "--nodeps", "--force-debian", work+"/top/RPMS/noarch/fixture-1-1.noarch.rpm")

	// Stands for the machine's rpm: puts the machine's root before every path, and runs the real one.
	m.file("/usr/bin/rpm", `#!/bin/sh
for a; do
	case $a in /*) a="`+m.root+`$a" ;; esac
	set -- "$@" "$a"
	shift
done
exec /usr/bin/rpm "$@"
`)
	require.Equal(t, "rpm", m.by(app))
	require.Equal(t, "rpm", m.by(m.link("/usr/local/bin/app", "../../bin/app")))
	require.Empty(t, m.by(m.file("/usr/bin/mine", "")))

	// Damaged, it is an error, and no answer.
	m.file(rpmDB, "this is no database")
	for _, side := range []string{"-wal", "-shm"} {
		_ = os.Remove(m.root + rpmDB + side)
	}
	by, err := m.managedBy(t.Context(), app)
	require.Empty(t, by)
	require.ErrorContains(t, err, "rpm: sqlite failure")
}

// The real dpkg of this machine, whichever way a package has listed its files.
func TestManagedByRealDpkg(t *testing.T) {
	if _, err := exec.LookPath("dpkg"); err != nil {
		t.Skip("no dpkg on this machine")
	}
	for _, program := range []string{"/bin/ls", "/usr/bin/ls", "/bin/dpkg", "/usr/bin/dpkg", "/usr/bin/awk"} {
		start := time.Now()
		by, err := ManagedBy(t.Context(), program)
		require.NoError(t, err)
		require.Equal(t, "dpkg", by, program)
		t.Logf("%s: %s", program, time.Since(start))
	}
	mine := filepath.Join(t.TempDir(), "ls")
	require.NoError(t, os.WriteFile(mine, nil, 0o755))
	start := time.Now()
	by, err := ManagedBy(t.Context(), mine)
	require.NoError(t, err)
	require.Empty(t, by)
	t.Logf("nobody's: %s", time.Since(start))
}

// The real pacman writes down the real format.
func TestManagedByRealPacman(t *testing.T) {
	if _, err := exec.LookPath("pacman"); err != nil {
		t.Skip("no pacman on this machine: apt-get install pacman-package-manager")
	}
	if os.Geteuid() != 0 {
		t.Skip("pacman installs as root only")
	}
	m := newMachine(t, "linux")
	work := t.TempDir()
	for name, content := range map[string]string{
		"/.PKGINFO":    "pkgname = fixture\npkgver = 1-1\narch = any\nsize = 1\nbackup = etc/app.conf\n",
		"/usr/bin/app": "app", "/etc/app.conf": "x",
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(work+name), 0o755))
		require.NoError(t, os.WriteFile(work+name, []byte(content), 0o644))
	}
	pkg := filepath.Join(t.TempDir(), "fixture-1-1-any.pkg.tar")
	run(t, "tar", "-cf", pkg, "-C", work, ".PKGINFO", "usr", "etc")
	m.file("/etc/pacman.conf", "[options]\nSigLevel = Never\nLocalFileSigLevel = Never\nArchitecture = auto\n")
	m.file("/var/lib/pacman/.keep", "")
	run(t, "pacman", "-U", "--noconfirm", "--noscriptlet", "--config", m.root+"/etc/pacman.conf", "--root", m.root, "--dbpath", m.root+"/var/lib/pacman",
		"--cachedir", t.TempDir(), "--logfile", "/dev/null", "--hookdir", t.TempDir(), pkg)
	require.Equal(t, "pacman", m.by(m.root+"/usr/bin/app"))
	require.Empty(t, m.by(m.file("/usr/bin/mine", "")))
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	require.NoError(t, err, "%s: %s", name, out)
}
