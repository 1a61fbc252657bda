//go:build amd64 || arm64

package update_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/killpoint"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

// Real processes of a real program, on a real file system, are killed at the entry of every system call that changes
// something, of every step, and once more during the repair; or one of these calls fails. docs/reliability.md says what is
// shown.

var killEvery = flag.Int("kill.every", 0, "act at every n-th system call; 1: at all of them; 0: at some of each step, and at all renames and links")

// A killStep is what one process does.
type killStep struct {
	name   string
	before []string // jobs of processes that end well, from a fresh installation of 1.0.0
	job    string
	may    []string // versions that may run afterwards
}

var killSteps = []killStep{
	{"update", nil, "apply", []string{"1.0.0", "1.1.0"}},
	{"first start", []string{"apply"}, "run", []string{"1.1.0"}},
	{"confirm", []string{"apply"}, "confirm", []string{"1.1.0"}},
	{"roll back", []string{"apply", "confirm"}, "undo", []string{"1.0.0", "1.1.0"}},
	{"go back by itself", []string{"apply", "run", "run", "run"}, "run", []string{"1.0.0", "1.1.0"}},
	{"second update", []string{"apply", "confirm", "more"}, "apply", []string{"1.1.0", "1.2.0"}},
	{"clean up", []string{"apply", "confirm", "more", "apply"}, "confirm", []string{"1.2.0"}},
}

// patchedSteps are of updates that come as patches.
var patchedSteps = []killStep{{"patched update", nil, "apply", []string{"1.0.0", "1.1.0"}}}

// A killBench is where the kills happen: a vendor, and an installation in every state that a step begins with.
type killBench struct {
	t      *testing.T
	layout layout
	base   string // repositories and templates
	work   string // machines, on a fast file system
}

// fastDir returns a folder in memory: what power loss does is the model's business, a kill loses nothing that was written.
func fastDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "fairlead-kill-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// newKillBench publishes 1.1.0, and 1.2.0 in a second repository that goes on from the first.
func newKillBench(t *testing.T, l layout) *killBench {
	t.Helper()
	b := &killBench{t: t, layout: l, work: fastDir(t)}
	b.base = filepath.Join(b.work, "base")
	v := newVendor(t)
	repo := filepath.Join(b.base, "repo")
	build := func(version string) []byte {
		return scripted(t, behaviour{Version: version, Layout: l.name, Repo: repo, RootFile: filepath.Join(repo, "metadata", "1.root.json")}, l.patched)
	}
	b.release(v, build, "1.0.0")
	if l.patched { // there is nothing else to download than two patches, one after the other
		b.release(v, build, "1.0.5")
	}
	b.release(v, build, "1.1.0")
	if l.patched {
		v.publishPatches("1.1.0", b.patch(build, "1.0.0", "1.0.5"), b.patch(build, "1.0.5", "1.1.0"))
		v.hideArtifacts("1.0.5", "1.1.0")
	}
	require.NoError(t, os.CopyFS(repo, os.DirFS(v.dir)))
	b.release(v, build, "1.2.0")
	require.NoError(t, os.CopyFS(filepath.Join(b.base, "repo-more"), os.DirFS(v.dir)))

	fresh := filepath.Join(b.base, "fresh")
	program := filepath.Join(fresh, l.program)
	if l.place != nil {
		program = filepath.Join(l.place(fresh, "1.0.0"), programPath)
	}
	require.NoError(t, os.MkdirAll(filepath.Dir(program), 0o755))
	require.NoError(t, os.WriteFile(program, build("1.0.0"), 0o755))
	if l.patched && l.place != nil { // patches are for all of it
		for name, content := range b.files(build, "1.0.0") {
			path := filepath.Join(l.place(fresh, "1.0.0"), name)
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
			require.NoError(t, os.WriteFile(path, content, 0o755))
		}
	}
	if l.name == "versions" {
		require.NoError(t, os.Symlink("versions/1.0.0", filepath.Join(fresh, "notes", "current")))
	}
	return b
}

func (b *killBench) release(v *vendor, build func(version string) []byte, version string) {
	b.t.Helper()
	if b.layout.place == nil {
		v.release(version, build(version))
		return
	}
	files := b.files(build, version)
	v.release(version, tarGzOf(b.t, packed{programPath, files[programPath]}, packed{"share/help.txt", files["share/help.txt"]}, packed{"share/same.txt", files["share/same.txt"]}),
		func(n *tufrepo.NewRelease) {
			n.Artifacts[0].Format, n.Artifacts[0].Executable = channel.TarGz, programPath
		})
}

func (b *killBench) files(build func(version string) []byte, version string) map[string][]byte {
	return map[string][]byte{programPath: build(version), "share/help.txt": []byte("help of " + version), "share/same.txt": []byte("same")}
}

func (b *killBench) patch(build func(version string) []byte, from, to string) madePatch {
	if b.layout.place == nil {
		return filePatch(b.t, build(from), build(to))
	}
	return treePatch(b.t, b.files(build, from), b.files(build, to), nil)
}

// scripted makes the program of a version as a script that starts this binary. It is small, so that a kill at every call
// takes minutes and not hours; it is not so small that it is written by one call.
// Two that are alike are longer, so that patches are worth it.
func scripted(t *testing.T, b behaviour, alike bool) []byte {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	trailer, err := json.Marshal(b)
	require.NoError(t, err)
	script := []byte(fmt.Sprintf("#!/bin/sh\n%s=\"$0\" exec '%s' \"$@\"\n", scriptVariable, exe))
	lines, version := 2000, b.Version
	if alike {
		lines, version = 5000, "any"
	}
	for i := range lines {
		script = fmt.Appendf(script, "# version %s: %x\n", version, sha256.Sum256(fmt.Append(nil, version, i)))
	}
	return append(append(script, trailerMark...), trailer...)
}

// A killMachine is one installation in a folder of its own, with a repository beside it that looks the same to all.
type killMachine struct {
	b   *killBench
	dir string
}

var machines atomic.Int64

// clone makes a machine like the one in a folder. Large files are shared: nothing writes to a file in place, and this test
// would show it.
func (b *killBench) clone(from string) *killMachine {
	m := &killMachine{b: b, dir: filepath.Join(b.work, fmt.Sprintf("m%d", machines.Add(1)))}
	require.NoError(b.t, filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(from, path)
		to := filepath.Join(m.dir, rel)
		info, err := d.Info()
		switch target, lerr := os.Readlink(path); {
		case err != nil:
			return err
		case d.IsDir():
			return errors.Join(os.MkdirAll(to, 0o700), os.Chmod(to, info.Mode().Perm()))
		case lerr == nil:
			return os.Symlink(target, to)
		case info.Size() > 1<<16 && !strings.HasSuffix(path, ".part"):
			return os.Link(path, to)
		}
		data, err := os.ReadFile(path)
		return errors.Join(err, os.WriteFile(to, data, info.Mode().Perm()), os.Chmod(to, info.Mode().Perm()))
	}))
	return m
}

func (m *killMachine) remove() { _ = os.RemoveAll(m.dir) }

func (m *killMachine) program() string { return filepath.Join(m.dir, m.b.layout.program) }

// run runs a job to its end.
func (m *killMachine) run(job string) (out string, err error) {
	if job == "more" { // the vendor publishes 1.2.0: later processes see it
		return "", os.WriteFile(filepath.Join(m.dir, "more"), nil, 0o600)
	}
	cmd := exec.CommandContext(m.b.t.Context(), m.program(), job)
	var talk bytes.Buffer
	cmd.Stderr = &talk
	data, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s%s", job, err, data, talk.Bytes())
	}
	return strings.TrimSpace(string(data)), err
}

// traced runs a job under the tool.
func (m *killMachine) traced(ctx context.Context, job string, change func(*killpoint.Config)) (killpoint.Result, error) {
	c := killpoint.Config{Path: m.program(), Args: []string{job}, Under: []string{m.dir}}
	if change != nil {
		change(&c)
	}
	return killpoint.Run(ctx, c)
}

// judge takes a machine after a crash: the program is there and starts, and the next starts bring everything in order.
func (m *killMachine) judge(s killStep) error {
	out, err := m.run("run")
	if err != nil {
		return fmt.Errorf("the next start: %w", err)
	}
	version, _ := strings.CutPrefix(out, "running ")
	if !slices.Contains(s.may, version) && (len(s.may) > 1 || version != "1.0.0") { // it goes back when the start was the last
		return fmt.Errorf("the next start says %q", out)
	}
	if err := m.wholeTree(version); err != nil {
		return err
	}
	for _, job := range []string{"apply", "confirm"} {
		if _, err := m.run(job); err != nil && !strings.Contains(err.Error(), "quarantined") {
			return fmt.Errorf("then %w", err)
		}
	}
	if out, err = m.run("confirm"); err != nil {
		return err
	}
	version, _ = strings.CutPrefix(out, "running ")
	return errors.Join(m.wholeTree(version), m.leftovers())
}

// wholeTree checks that the other files are those of the program.
func (m *killMachine) wholeTree(version string) error {
	if m.b.layout.place == nil || version == "1.0.0" {
		return nil
	}
	root := strings.TrimSuffix(m.program(), programPath)
	help, err := os.ReadFile(filepath.Join(root, "share/help.txt"))
	same, serr := os.ReadFile(filepath.Join(root, "share/same.txt"))
	if string(help) != "help of "+version || string(same) != "same" {
		return fmt.Errorf("%s is in place with %q, %q: %w", version, help, same, errors.Join(err, serr))
	}
	return nil
}

// leftovers checks that nothing is left that nobody needs.
func (m *killMachine) leftovers() error {
	var found []string
	err := filepath.WalkDir(m.dir, func(path string, _ os.DirEntry, err error) error {
		rel, _ := filepath.Rel(m.dir, path)
		for _, sign := range []string{".tmp-", "/gone-", "/failed", ".new", ".part", "/staging/", "/probe", ".probe", "/rescued"} {
			if strings.Contains(rel, sign) {
				found = append(found, rel)
			}
		}
		return err
	})
	if len(found) > 0 {
		err = errors.Join(err, fmt.Errorf("left behind: %v", found))
	}
	return err
}

// template makes the machine that a step begins with, once.
func (b *killBench) template(s killStep) string {
	b.t.Helper()
	m := b.clone(filepath.Join(b.base, "fresh"))
	for _, job := range s.before {
		_, err := m.run(job)
		require.NoError(b.t, err)
	}
	return m.dir
}

// points chooses where to act, of n points. All are chosen that rename, link or exchange.
func points(calls []killpoint.Call) []int {
	every := *killEvery
	if every == 0 {
		every = max(1, len(calls)/40)
	}
	var list []int
	for _, c := range calls {
		if c.N%every == 0 || (every > 1 && *killEvery == 0 && (strings.HasPrefix(c.Name, "rename") || strings.HasPrefix(c.Name, "link"))) {
			list = append(list, c.N)
		}
	}
	return list
}

// outcome counts what was tried.
type outcome struct {
	mu     sync.Mutex
	tried  int
	failed []string
}

func (o *outcome) note(what string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tried++
	if err != nil {
		o.failed = append(o.failed, fmt.Sprintf("%s: %v", what, err))
	}
}

// inParallel calls f for every point, two at a time: as many as there are cores where the tests run.
func inParallel(list []int, f func(n int)) {
	var wg sync.WaitGroup
	turns := make(chan struct{}, 2)
	for _, n := range list {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			f(n)
		})
	}
	wg.Wait()
}

// record runs a step without disturbing it.
func (b *killBench) record(t *testing.T, template string, s killStep) []killpoint.Call {
	t.Helper()
	m := b.clone(template)
	defer m.remove()
	r, err := m.traced(t.Context(), s.job, nil)
	if errors.Is(err, killpoint.ErrRefused) {
		t.Skip(err)
	}
	require.NoError(t, err)
	require.Zero(t, r.ExitCode, "undisturbed")
	return r.Calls
}

func TestKillPoints(t *testing.T) {
	if testing.Short() {
		t.Skip("hundreds of processes are killed")
	}
	total, ran := 0, 0
	for _, l := range slices.Concat(layouts, patchedLayouts()) {
		b := newKillBench(t, l)
		steps := killSteps
		if l.patched {
			steps = patchedSteps
		}
		for _, s := range steps {
			t.Run(l.name+"/"+s.name, func(t *testing.T) {
				template := b.template(s)
				calls := b.record(t, template, s)
				var o, again outcome
				inParallel(points(calls), func(n int) {
					m := b.clone(template)
					defer m.remove()
					r, err := m.traced(t.Context(), s.job, func(c *killpoint.Config) { c.At = n })
					where := fmt.Sprintf("killed at call %d of %d", n, len(calls))
					if len(r.Calls) > 0 {
						last := r.Calls[len(r.Calls)-1]
						where += fmt.Sprintf(" (%s %s)", last.Name, strings.TrimPrefix(last.Path, m.dir))
					}
					if err == nil && n%7 == 0 {
						m.killAgain(t, s, n, where, &again)
					}
					o.note(where, errors.Join(err, m.judge(s)))
				})
				t.Logf("%d calls, killed at %d, and again during the repair at %d: %d failures", len(calls), o.tried, again.tried, len(o.failed)+len(again.failed))
				require.Empty(t, append(o.failed, again.failed...))
				total += o.tried + again.tried
				ran++
			})
		}
	}
	t.Logf("%d kills", total)
	if *killEvery == 0 && ran == len(layouts)*(len(killSteps)+len(patchedSteps)) {
		require.GreaterOrEqual(t, total, 200)
	}
}

// killAgain kills the next start, too, at three of its calls.
func (m *killMachine) killAgain(t *testing.T, s killStep, n int, where string, o *outcome) {
	for _, at := range []int{1 + n%5, 6 + n%11, 17 + n%23} {
		c := m.b.clone(m.dir)
		r, err := c.traced(t.Context(), "run", func(k *killpoint.Config) { k.At = at })
		if err != nil || r.Acted {
			o.note(fmt.Sprintf("%s, and again at call %d of the repair", where, at), errors.Join(err, c.judge(s)))
		}
		c.remove()
	}
}

// A call fails, alone or with all that follow: no space, an error of the disk, no permission.
func TestFailingCalls(t *testing.T) {
	if *killEvery == 0 {
		t.Skip("thousands of processes: -kill.every=1")
	}
	total := 0
	for _, l := range slices.Concat(layouts, patchedLayouts()) {
		b := newKillBench(t, l)
		steps := killSteps
		if l.patched {
			steps = patchedSteps
		}
		for _, s := range steps {
			t.Run(l.name+"/"+s.name, func(t *testing.T) {
				template := b.template(s)
				calls := b.record(t, template, s)
				var o outcome
				for i, fault := range []struct {
					errno  syscall.Errno
					sticky bool
				}{{syscall.ENOSPC, true}, {syscall.EIO, false}, {syscall.EACCES, false}} {
					list := points(calls)
					if *killEvery == 0 {
						list = slices.DeleteFunc(list, func(n int) bool { return n%5 != i })
					}
					inParallel(list, func(n int) {
						m := b.clone(template)
						defer m.remove()
						r, err := m.traced(t.Context(), s.job, func(c *killpoint.Config) { c.At, c.Errno, c.Sticky = n, fault.errno, fault.sticky })
						where := fmt.Sprintf("%v at call %d of %d", fault.errno, n, len(calls))
						if len(r.Calls) >= n {
							where += fmt.Sprintf(" (%s %s)", r.Calls[n-1].Name, strings.TrimPrefix(r.Calls[n-1].Path, m.dir))
						}
						if r.Signal != 0 {
							err = errors.Join(err, fmt.Errorf("it ended by %v", r.Signal))
						}
						o.note(where, errors.Join(err, m.judge(s)))
					})
				}
				t.Logf("%d calls, failures at %d: %d failures", len(calls), o.tried, len(o.failed))
				require.Empty(t, o.failed)
				total += o.tried
			})
		}
	}
	t.Logf("%d failing calls", total)
}
