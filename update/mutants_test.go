//go:build unix

package update_test

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var mutants = flag.Bool("mutants", false, "take out the guards of an installation, one at a time: the tests must fail")

// A mutant is this module without one guard.
type mutant struct {
	name     string
	file     string // below the module
	old, new string
	tests    string // those that are to fail, of package update, or FOLDER:TESTS
}

const modelTests = "TestPowerLoss"

var guards = []mutant{
	{"a file is written under its own name", "internal/disk/disk.go",
		"	f, err := CreateTemp(fsys, filepath.Dir(path))\n	if err != nil {\n		return err\n	}\n	defer func() {",
		"	_ = fsys.Remove(path)\n	f, err := fsys.Create(path)\n	if err != nil {\n		return err\n	}\n	defer func() {", modelTests},
	{"the old program is not kept before it is replaced", "update/executable_unix.go",
		", disk.Keep(e.disk(), e.Path, prev))", ")", modelTests},
	{"the new program is not hashed again", "update/executable.go",
		"if sum != digest {", "if false {", "TestStagedFilesAreVerifiedAgain"},
	{"a new folder is not hashed again", "update/tree.go",
		"		if t.digest() != digest {\n			return fmt.Errorf(\"has digest %s, not %s\", t.digest(), digest)\n		}\n		return nil\n	})\n}\n\n// verifyKept",
		"		return nil\n	})\n}\n\n// verifyKept", "TestStagedTreeIsHashedAgain"},
	{"what was kept is not looked at before going back", "update/tree.go",
		"if missing := t.lacks(r.Holds); missing != \"\" {", "if missing := t.lacks(r.Holds); missing == \"?\" {", "TestDamagedPrevious"},
	{"the exchange is not announced", "update/apply.go",
		"	j.Phase, j.From = applying, &from\n	if err := u.writeJournal(j); err != nil {\n		return err\n	}\n", "	j.Phase, j.From = applying, &from\n", modelTests},
	{"going back is not announced", "update/apply.go",
		"	j.Phase, j.Reason = reverting, reason\n	if err := u.writeJournal(j); err != nil {\n		return err\n	}\n", "	j.Phase, j.Reason = reverting, reason\n", modelTests},
	{"a start is not written down", "update/start.go",
		"	j.Starts++\n	if err := u.writeJournal(j); err != nil {\n		held()\n		return Continue, err\n	}\n", "	j.Starts++\n", modelTests},
	{"a version that was left is not remembered", "update/apply.go",
		"		j.noteFailure(*to, reason, true, u.cfg.Now())\n", "", "TestLayouts|TestProcessUpdatesItself"},
	{"the folder before the last is not set aside", "update/apply.go",
		"	if j.Previous != nil {\n		if err := u.setAside(", "	if false {\n		if err := u.setAside(", "TestLayouts/bundle|TestPowerLoss/bundle"},
	{"an exchange that was interrupted is not settled", "update/apply.go",
		"			if err := s.Settle(u.stagedPath(j, j.Staged.Path), u.path(previousName)); err != nil {", "			if err := error(nil); s == nil {", "TestPowerLoss/bundle"},
	{"the pointer is removed, then made", "update/versions.go",
		"	if err := v.disk().Rename(temp, v.pointer()); err != nil {", "	_ = v.disk().Remove(v.pointer())\n	if err := v.disk().Rename(temp, v.pointer()); err != nil {", "TestPowerLoss/versions"},
	{"a file more than is signed is unpacked", "update/tree.go",
		"	if !found || !listed {", "	if !found || !listed && false {", "TestTreeIsExactly"},
	{"a file less than is signed is unpacked", "update/tree.go",
		"	for name := range u.wanted {\n		return", "	for name := range map[string]bool{} {\n		return", "TestTreeIsExactly"},
	{"the user's files go with the folder", "update/tidy.go",
		"		if err := u.rescue(path, digest); err != nil {", "		if err := error(nil); err != nil {", "TestFilesOfTheUser|TestPowerLoss/bundle"},
	{"there is no reserve", "update/journal.go",
		"	if disk.IsFull(err) && u.disk.Remove(u.path(reserveName)) == nil {", "	if false {", "TestFullDisk"},
	{"the version before is removed while the exchange is under way", "update/tidy.go",
		"		case name == failedName && j.Phase != reverting,", "		case name == failedName, name == previousName && j.Phase == trial,", modelTests + "/executable"},
	{"an exchange is not noted as a trial", "update/apply.go",
		"	j.Phase, j.Staged, j.Folder, j.Previous, j.Starts = trial, nil, \"\", nil, 0\n	if err := u.writeJournal(j); err != nil {\n		return err\n	}\n",
		"	j.Phase, j.Staged, j.Folder, j.Previous, j.Starts = trial, nil, \"\", nil, 0\n", modelTests + "/executable"},
	{"what is written as new may exist", "internal/disk/os.go",
		"os.O_RDWR|os.O_CREATE|os.O_EXCL", "os.O_RDWR|os.O_CREATE|os.O_TRUNC", "internal/disk:TestCreateIsExclusive"},
	{"a file with another name is written to", "internal/disk/os.go",
		"err != nil || !sole {", "err != nil && !sole {", "internal/disk:TestEditWantsASoleName"},
	{"what gets the name is not what was hashed", "update/executable_unix.go",
		"	if kept && !is(e.Path) {", "	if kept && !is(e.Path) && false {", "TestReplacedAfterTheHash"},
	{"the journal is believed about what is staged", "update/stage.go",
		" && j.To.Digest == u.expect(up)", "", "TestForgedStaged"},
	{"the journal has no checksum", "update/journal.go",
		"	if head != \"fairlead journal 1 \"+hex.EncodeToString(sum[:]) {", "	if false {", "TestDamagedJournal"},
	{"processes take no turns", "update/journal.go",
		"	release, err = filelock.Lock(ctx, u.path(name))", "	release, err = func() {}, ctx.Err()", "TestProcessesTakeTurns"},
	{"an old process installs over a newer program", "update/stage.go",
		"	if u.isReplaced() {", "	if false {", "TestOldProcess"},
	{"a build that does not start is installed", "update/stage.go",
		"err == nil && !u.cfg.Trial.InsecureSkipProbe {", "false {", "TestProbe$"},
	{"a version that runs is removed", "update/versions.go",
		"	if err != nil {\n		return false, nil\n	}\n	digest := name",
		"	if err != nil {\n		release = func() {}\n	}\n	digest := name", "TestVersionsKeeps"},
	{"what a patch makes is not hashed", "update/contents.go",
		"		err = v.check(f)\n", "		err = nil\n", "TestPatchMakesAnother"},
	{"what is taken from the version in place is not hashed", "update/contents.go",
		"	return copyVerified(c.counter(out), in, f, buf)", "	_, err = io.CopyBuffer(c.counter(out), in, buf)\n	return err", "TestPatchOfBaseThatChanges"},
	{"whoever cancels gets the whole", "update/stage.go",
		"	case ctx.Err() != nil: // downloads", "	case false: // downloads", "TestPatchCancelled"},
	{"the whole is unpacked into what a patch has left", "update/stage.go",
		"	u.notePatchFailure(up, failed)\n	if err := u.emptyFolder(folder); err != nil {", "	u.notePatchFailure(up, failed)\n	if err := error(nil); err != nil {", "TestPatchFallsBack"},
	{"nobody asks whether the whole fits after a patch has failed", "update/stage.go",
		"	err := u.checkSpace(up.Artifact, nil)\n", "	err := error(nil)\n", "TestPatchNeedsLessSpace"},
	{"a patch that failed is tried again", "update/patch.go",
		"		j.notePatch(p.patch.SHA256, up.checked)\n", "", "TestPatchFallsBack|TestPatchRemembered"},
	{"a patch is blamed for the network", "update/patch.go",
		"&& whole != nil:", "&& false:", "TestPatchAfterNetworkFailure"},
	{"a patch that failed is never forgotten", "update/patch.go",
		"	return age < patchAgain && age > -patchAgain", "	return age < patchAgain || age > -patchAgain", "TestPatchRemembered"},
	{"a changed base is noticed late", "update/patch.go",
		"was[f.SHA256] && !there {", "was[f.SHA256] && !there && false {", "TestPatchOfChangedBase"},
	{"what lies between is left behind", "update/patch.go",
		"		defer func() { _ = u.disk.RemoveAll(folder) }()\n		if err := c.between", "		if err := c.between", "TestPatchChain"},
	{"patches go past an app's own installer", "update/config.go",
		"			u.patcher, _ = with.(patcher)\n		}", "		}\n		u.patcher, _ = u.installer.(patcher)", "TestPatchNotWithinAnApps"},
	{"a patch writes more than it should", "internal/delta/delta.go",
		"	if int64(len(p)) > a.left {", "	if false {", "internal/delta:TestApply"},
	{"a window takes what it wants", "internal/delta/zstd.go",
		"	case window < zstd.MinWindowSize || need > uint64(window):", "	case false:", "internal/delta:TestApply"},
	{"what is staged is not synced", "internal/disk/disk.go",
		"	return errors.Join(f.Sync(), f.Close())\n}\n\n// SameFile", "	return f.Close()\n}\n\n// SameFile", modelTests},
	{"the journal is not synced", "internal/disk/disk.go",
		"f.Chmod(perm), f.Sync(), f.Close())", "f.Chmod(perm), f.Close())", modelTests},
	{"a folder is not synced after a rename", "internal/disk/disk.go",
		"	return fsys.SyncDir(filepath.Dir(path))\n}\n\n// CreateTemp", "	return nil\n}\n\n// CreateTemp", modelTests},
}

func TestMutants(t *testing.T) { testMutants(t, guards) }

func testMutants(t *testing.T, guards []mutant) {
	if !*mutants {
		t.Skip("builds and tests this package once for each guard: -mutants")
	}
	caught := 0
	for _, m := range guards {
		t.Run(m.name, func(t *testing.T) {
			module, err := filepath.Abs("..")
			require.NoError(t, err)
			path := filepath.Join(module, filepath.FromSlash(m.file))
			source, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, 1, strings.Count(string(source), m.old), "the guard is not in the code as it is written here")
			dir := t.TempDir()
			without := filepath.Join(dir, "without.go")
			require.NoError(t, os.WriteFile(without, []byte(strings.Replace(string(source), m.old, m.new, 1)), 0o600))
			overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{path: without}})
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600))
			out, err := m.test(t, "-overlay", filepath.Join(dir, "overlay.json"))
			require.Error(t, err, "nobody notices")
			_, found, failed := strings.Cut(out, "--- FAIL: ")
			require.True(t, failed, "it ended otherwise: %s", out)
			first, _, _ := strings.Cut(found, "\n")
			t.Log(first)
			caught++
		})
	}
	t.Logf("%d of %d missing guards caught", caught, len(guards))
	t.Run("with all guards", func(t *testing.T) {
		all := map[string][]string{}
		for _, m := range guards {
			folder, tests := m.where()
			all[folder] = append(all[folder], tests)
		}
		for folder, tests := range all {
			out, err := mutant{tests: folder + ":" + strings.Join(tests, "|")}.test(t)
			require.NoError(t, err, out)
		}
	})
}

// where returns the folder and the pattern of the tests.
func (m mutant) where() (folder, tests string) {
	if folder, tests, found := strings.Cut(m.tests, ":"); found {
		return folder, tests
	}
	return "update", m.tests
}

// test builds the tests, which must work, and runs them.
func (m mutant) test(t *testing.T, flags ...string) (output string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	folder, tests := m.where()
	binary := filepath.Join(t.TempDir(), "some.test")
	build := exec.CommandContext(ctx, "go", append(append([]string{"test", "-c", "-vet=off"}, flags...), "-o", binary, "./"+folder)...)
	build.Dir = ".."
	out, err := build.CombinedOutput()
	require.NoError(t, err, "it must build: %s", out)
	run := exec.CommandContext(ctx, binary, "-test.failfast", "-test.run", tests)
	if folder == "update" {
		run.Args = append(run.Args, "-powerloss.states=6")
	}
	run.Dir = filepath.Join("..", filepath.FromSlash(folder))
	out, err = run.CombinedOutput()
	return string(out), err
}
