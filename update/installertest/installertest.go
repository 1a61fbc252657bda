// Package installertest holds an installer of an app's own to the contract of [update.Installer]:
//
//	func TestInstaller(t *testing.T) {
//		installertest.Run(t, installertest.Layout{
//			Installer: func(dir string) update.Installer { return myInstaller{dir} },
//			Install:   func(dir string, files map[string][]byte) error { … },
//			Read:      func(dir string) (map[string][]byte, error) { … },
//		})
//	}
//
// It unpacks good and bad archives, exchanges versions forth and back, and kills processes that are exchanging
// versions, in the middle: the test binary calls itself for that. What it cannot see is whether everything is durable; a
// loss of power needs a model of a disk, or a plug to pull.
package installertest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/update"
)

// A Layout is how an installer is tried. All of its functions get a folder that is empty at first and holds one
// installation.
type Layout struct {
	// Installer returns the installer for the installation in dir.
	Installer func(dir string) update.Installer
	// Install puts a first version in place, as the vendor's own setup would: files by slash-separated path.
	Install func(dir string, files map[string][]byte) error
	// Read returns the files of the version in place, those that the installer installs. It is an error if there is none.
	Read func(dir string) (map[string][]byte, error)
	// Program is the path of the program among the files. "": bin/app, on Windows bin/app.exe.
	Program string
	// Kills is how many processes are killed while they exchange versions. 0: 60.
	Kills int
}

// childVariable tells the test binary that it is the process to kill, and in which folder.
const childVariable = "FAIRLEAD_INSTALLERTEST"

// Run tries a layout.
func Run(t *testing.T, l Layout) {
	if l.Program == "" {
		l.Program = "bin/app"
		if runtime.GOOS == "windows" {
			l.Program += ".exe"
		}
	}
	if l.Kills == 0 {
		l.Kills = 60
	}
	if dir := os.Getenv(childVariable); dir != "" {
		l.exchangeForEver(t, dir)
		return
	}
	t.Run("Unpack", l.testUnpack)
	t.Run("Unpack refuses", l.testRefusals)
	t.Run("Digest", l.testDigest)
	t.Run("Exchange", l.testExchange)
	t.Run("Exchange refuses", l.testExchangeRefuses)
	t.Run("Exchange into nothing", l.testNothingInPlace)
	t.Run("killed", l.testKilled)
}

// files is what a version holds.
func (l Layout) files(version string) map[string][]byte {
	return map[string][]byte{l.Program: []byte("program " + version), "share/help.txt": []byte("help of " + version), "share/same.txt": []byte("the same")}
}

// artifact packs files as a release does.
func (l Layout) artifact(files map[string][]byte) (*channel.Artifact, []byte) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	a := &channel.Artifact{Format: channel.TarGz, Executable: l.Program, Platform: channel.Platform{OS: runtime.GOOS, Arch: runtime.GOARCH}}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		content := files[name]
		mode := int64(0o644)
		if name == l.Program {
			mode = 0o755
		}
		// Writing to a buffer does not fail.
		_ = w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(content)), Typeflag: tar.TypeReg})
		_, _ = w.Write(content)
		a.Files = append(a.Files, channel.File{Path: name, Blob: blob(content), Mode: uint32(mode)})
	}
	_, _ = w.Close(), z.Close()
	a.Blob = blob(b.Bytes())
	return a, b.Bytes()
}

func blob(content []byte) channel.Blob {
	sum := sha256.Sum256(content)
	return channel.Blob{SHA256: hex.EncodeToString(sum[:]), Length: int64(len(content))}
}

// site is one installation, with a folder beside it as the updater has one.
type site struct {
	l          Layout
	dir, state string
	installer  update.Installer
}

func (l Layout) site(t *testing.T, version string) *site {
	t.Helper()
	base := t.TempDir()
	s := &site{l: l, dir: filepath.Join(base, "installation"), state: filepath.Join(base, "state")}
	must(t, errors.Join(os.Mkdir(s.dir, 0o755), os.Mkdir(s.state, 0o700)))
	if version != "" {
		must(t, l.Install(s.dir, l.files(version)))
	}
	s.installer = l.Installer(s.dir)
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// unpack unpacks a blob into a fresh folder, as Stage does.
func (s *site) unpack(t *testing.T, name string, a *channel.Artifact, data []byte) (st update.Staged, err error) {
	t.Helper()
	into := filepath.Join(s.state, name)
	must(t, os.Mkdir(into, 0o700))
	path := filepath.Join(s.state, name+".blob")
	must(t, os.WriteFile(path, data, 0o600))
	return s.installer.Unpack(t.Context(), a, path, into)
}

// stage unpacks a version that is good.
func (s *site) stage(t *testing.T, version string) update.Staged {
	t.Helper()
	a, data := s.l.artifact(s.l.files(version))
	st, err := s.unpack(t, "new-"+version, a, data)
	must(t, err)
	return st
}

// expect fails unless that version is in place.
func (s *site) expect(t *testing.T, version string) {
	t.Helper()
	if err := s.is(version); err != nil {
		t.Fatal(err)
	}
}

func (s *site) is(versions ...string) error {
	got, err := s.l.Read(s.dir)
	if err != nil {
		return fmt.Errorf("no version is in place: %w", err)
	}
	if len(got[s.l.Program]) == 0 {
		return fmt.Errorf("what is in place has no program %s", s.l.Program)
	}
	for _, version := range versions {
		want := s.l.files(version)
		whole := true
		for name, content := range got { // an installer may leave some out
			whole = whole && bytes.Equal(want[name], content)
		}
		if whole {
			return nil
		}
	}
	return fmt.Errorf("what is in place is none of %v, whole: %q", versions, got)
}

func (l Layout) testUnpack(t *testing.T) {
	s := l.site(t, "1.0.0")
	before := snapshot(t, s.dir)
	st := s.stage(t, "1.1.0")
	for name, path := range map[string]string{"Path": st.Path, "Program": st.Program} {
		if rel, err := filepath.Rel(filepath.Join(s.state, "new-1.1.0"), path); err != nil || !filepath.IsLocal(rel) {
			t.Errorf("Staged.%s is %s, which is not inside the folder to unpack into", name, path)
		}
	}
	if content, err := os.ReadFile(st.Program); err != nil || string(content) != "program 1.1.0" {
		t.Errorf("Staged.Program holds %q, %v", content, err)
	}
	if digest, err := s.installer.Digest(st.Path); err != nil || digest != st.Digest || digest == "" {
		t.Errorf("Staged.Digest is %q, Digest says %q, %v", st.Digest, digest, err)
	}
	if after := snapshot(t, s.dir); after != before {
		t.Error("Unpack has changed the installation:\n" + after)
	}
	if e, ok := s.installer.(interface {
		Expect(*channel.Artifact) string
	}); ok {
		a, _ := l.artifact(l.files("1.1.0"))
		if got := e.Expect(a); got != st.Digest {
			t.Errorf("Expect says %q, Unpack %q", got, st.Digest)
		}
	}
}

// snapshot describes all that is in a folder.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b bytes.Buffer
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		content := ""
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			content = blob(data).SHA256
		}
		target, _ := os.Readlink(path)
		_, _ = fmt.Fprintln(&b, path, info.Mode(), content, target)
		return nil
	}))
	return b.String()
}

func (l Layout) testRefusals(t *testing.T) {
	good, data := l.artifact(l.files("1.1.0"))
	change := func(name, content string) []byte {
		files := l.files("1.1.0")
		files[name] = []byte(content)
		_, data := l.artifact(files)
		return data
	}
	without := l.files("1.1.0")
	delete(without, l.Program)
	_, lacking := l.artifact(without)
	for name, data := range map[string][]byte{
		"another program":   change(l.Program, "program 6.6.6"),
		"a longer program":  change(l.Program, "program 1.1.0!"),
		"a shorter program": change(l.Program, "program"),
		"no program":        lacking,
		"cut off":           data[:len(data)/2],
		"no archive":        []byte("not an archive"),
		"a path outside":    change("../evil", "evil"),
		"an absolute path":  change("/evil", "evil"),
	} {
		t.Run(name, func(t *testing.T) {
			s := l.site(t, "1.0.0")
			a := *good
			a.Blob = blob(data) // as the updater has it: verified, but its maker was careless
			_, err := s.unpack(t, "new", &a, data)
			var wrong *update.VerifyError
			if !errors.As(err, &wrong) {
				t.Errorf("the error is %v, not a *update.VerifyError", err)
			}
			if _, err := os.Lstat(filepath.Join(s.state, "evil")); err == nil {
				t.Error("it has written outside of its folder")
			}
			s.expect(t, "1.0.0")
		})
	}
}

func (l Layout) testDigest(t *testing.T) {
	var digests []string
	for _, version := range []string{"1.0.0", "1.0.0", "1.1.0"} {
		s := l.site(t, version)
		d, err := s.installer.Digest("")
		must(t, err)
		digests = append(digests, d)
	}
	if digests[0] != digests[1] {
		t.Errorf("the same version has the digests %s and %s", digests[0], digests[1])
	}
	if digests[0] == digests[2] || digests[0] == "" {
		t.Errorf("two versions have the digests %q and %q", digests[0], digests[2])
	}
	s := l.site(t, "")
	if d, err := s.installer.Digest(""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("where nothing is in place, Digest says %q, %v, not fs.ErrNotExist", d, err)
	}
}

func (l Layout) testExchange(t *testing.T) {
	s := l.site(t, "1.0.0")
	old, err := s.installer.Digest("")
	must(t, err)
	st := s.stage(t, "1.1.0")
	previous, failed := filepath.Join(s.state, "previous"), filepath.Join(s.state, "failed")
	must(t, s.installer.Exchange(st.Path, st.Digest, previous))
	s.expect(t, "1.1.0")
	if d, err := s.installer.Digest(""); err != nil || d != st.Digest {
		t.Errorf("Digest says that %q is in place, %v, not %q", d, err, st.Digest)
	}
	if d, err := s.installer.Digest(previous); err != nil || d != old {
		t.Errorf("Digest says that %q is at prev, %v, not %q", d, err, old)
	}
	must(t, s.installer.Exchange(previous, old, failed))
	s.expect(t, "1.0.0")
	must(t, os.RemoveAll(failed))
	st = s.stage(t, "1.2.0")
	must(t, os.RemoveAll(previous))
	must(t, s.installer.Exchange(st.Path, st.Digest, previous))
	s.expect(t, "1.2.0")
}

func (l Layout) testExchangeRefuses(t *testing.T) {
	s := l.site(t, "1.0.0")
	st := s.stage(t, "1.1.0")
	other := l.site(t, "1.0.0").stage(t, "1.2.0")
	before := snapshot(t, s.dir)
	for name, err := range map[string]error{
		"another digest": s.installer.Exchange(st.Path, other.Digest, filepath.Join(s.state, "previous")),
		"changed":        errors.Join(os.WriteFile(st.Program, []byte("evil"), 0o755), s.installer.Exchange(st.Path, st.Digest, filepath.Join(s.state, "previous"))),
	} {
		var wrong *update.VerifyError
		if !errors.As(err, &wrong) {
			t.Errorf("%s: the error is %v, not a *update.VerifyError", name, err)
		}
	}
	if after := snapshot(t, s.dir); after != before {
		t.Error("it has changed the installation:\n" + after)
	}
}

func (l Layout) testNothingInPlace(t *testing.T) {
	s := l.site(t, "1.0.0")
	old, err := s.installer.Digest("")
	must(t, err)
	st := s.stage(t, "1.1.0")
	previous := filepath.Join(s.state, "previous")
	must(t, s.installer.Exchange(st.Path, st.Digest, previous))
	must(t, os.RemoveAll(s.dir)) // somebody has deleted the program
	must(t, os.Mkdir(s.dir, 0o755))
	if _, err := s.installer.Digest(previous); err != nil {
		t.Skip("what is kept goes with the installation")
	}
	must(t, s.installer.Exchange(previous, old, filepath.Join(s.state, "failed")))
	s.expect(t, "1.0.0")
}

// testKilled kills processes that exchange versions forth and back.
func (l Layout) testKilled(t *testing.T) {
	exe, err := os.Executable()
	must(t, err)
	s := l.site(t, "1.0.0")
	for i := range l.Kills {
		cmd := exec.CommandContext(t.Context(), exe, "-test.run=^"+topLevel(t)+"$")
		cmd.Env = append(os.Environ(), childVariable+"="+filepath.Dir(s.dir))
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		if _, err := out.Read(make([]byte, 1)); err != nil { // it has begun
			t.Fatalf("the process to kill did not begin: %v", err)
		}
		time.Sleep(time.Duration(rand.IntN(4000)) * time.Microsecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if err := s.is("1.0.0", "1.1.0"); err != nil {
			t.Fatalf("after kill %d: %v", i+1, err)
		}
	}
}

func topLevel(t *testing.T) string {
	name := t.Name()
	for i, c := range name {
		if c == '/' {
			return name[:i]
		}
	}
	return name
}

// exchangeForEver is the process that is killed. It finds what another one has left, as Start does.
func (l Layout) exchangeForEver(t *testing.T, base string) {
	s := &site{l: l, dir: filepath.Join(base, "installation"), state: filepath.Join(base, "state")}
	s.installer = l.Installer(s.dir)
	for n := 0; ; n++ {
		current, version := "", "1.0.0"
		if s.is("1.0.0") == nil {
			current, version = "1.0.0", "1.1.0"
		}
		if err := s.is("1.0.0", "1.1.0"); err != nil {
			t.Fatal(err, current)
		}
		must(t, os.RemoveAll(s.state))
		must(t, os.Mkdir(s.state, 0o700))
		st := s.stage(t, version)
		if n == 0 {
			fmt.Println("begun") // not before: where it takes long to stage, no kill would hit the exchange
		}
		must(t, s.installer.Exchange(st.Path, st.Digest, filepath.Join(s.state, "previous")))
	}
}
