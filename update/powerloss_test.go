//go:build unix

package update_test

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/internal/disk"
	"github.com/fairlead-dev/fairlead/internal/disk/crashfs"
	"github.com/fairlead-dev/fairlead/update"
)

// Power is lost at every operation of every step, on a model of a disk that drops, reorders and tears whatever was not
// synced, and again while the next start repairs what was left. docs/reliability.md says what is shown.

var powerLossStates = flag.Int("powerloss.states", 4, "states to try for each operation at which power is lost")

// A house is one installation on a model of a disk.
type house struct {
	*machine
	layout layout
	disk   *crashfs.FS
	first  *update.Updater // which has checked
	alive  []*update.Updater
}

// build installs a version on an empty disk.
func (l layout) build(t *testing.T, v *vendor, version string) *house {
	t.Helper()
	h := &house{machine: l.install(t, v, version), layout: l, disk: crashfs.New()}
	if l.place != nil {
		require.NoError(t, os.WriteFile(filepath.Join(l.place(h.dir, version), "share", usersFile), []byte(usersContent), 0o644))
	}
	require.NoError(t, copyTree(h.disk, h.dir))
	h.disk.Settle()
	return h
}

// A user has put a file into the folder of the first version.
const usersFile, usersContent = "mine.txt", "of the user\n"

// copyTree copies a real folder to a model.
func copyTree(to *crashfs.FS, dir string) error {
	if err := disk.MkdirAll(to, dir, 0o755); err != nil {
		return err
	}
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		switch target, lerr := os.Readlink(path); {
		case err != nil || path == dir:
			return err
		case lerr == nil:
			return to.Symlink(target, path)
		case d.IsDir():
			return to.Mkdir(path, 0o755)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return disk.Write(to, path, data, 0o755)
	})
}

// on is the same house with another disk.
func (h *house) on(d *crashfs.FS) *house {
	return &house{machine: h.machine, layout: h.layout, disk: d, first: h.first}
}

// inPlace returns the version in place, or an error if there is not exactly one, whole.
func (h *house) inPlace() (string, error) {
	data, err := disk.ReadFile(h.disk, h.program, 1<<20)
	if err != nil {
		return "", fmt.Errorf("no program: %w", err)
	}
	_, version, _ := strings.Cut(string(data), "version=")
	version, whole := strings.CutSuffix(version, "\n")
	if !whole || string(data) != string(program(version)) {
		return "", fmt.Errorf("the program is not whole: %q", data)
	}
	info, err := h.disk.Lstat(h.program)
	if err != nil || info.Mode()&0o100 == 0 {
		return "", fmt.Errorf("the program cannot be run: %v, %w", info, err)
	}
	if h.layout.place == nil {
		return version, nil
	}
	root := strings.TrimSuffix(h.program, "/"+programPath)
	got := map[string]string{}
	if err := h.read(root, "", got); err != nil {
		return "", err
	}
	want := h.layout.files(version)
	for name := range want {
		if content, found := got[name]; !found || content != string(want[name]) {
			return "", fmt.Errorf("version %s is not whole: %s is %q", version, name, content)
		}
	}
	if version == "1.0.0" && got["share/"+usersFile] == usersContent {
		delete(got, "share/"+usersFile)
	}
	if len(got) != len(want) {
		return "", fmt.Errorf("version %s has more files than its own: %v", version, slices.Sorted(maps.Keys(got)))
	}
	return version, nil
}

// users returns whether the user's file is still somewhere.
func (h *house) users() error {
	if h.layout.place == nil {
		return nil
	}
	all := map[string]string{}
	if err := h.read(h.dir, "", all); err != nil {
		return err
	}
	for name, content := range all {
		if strings.HasSuffix(name, usersFile) && content == usersContent {
			return nil
		}
	}
	return fmt.Errorf("the user's file is lost; there are %v", slices.Sorted(maps.Keys(all)))
}

func (h *house) read(root, dir string, files map[string]string) error {
	path := filepath.Join(root, dir) + "/." // through a link
	entries, err := h.disk.ReadDir(filepath.Clean(path))
	if info, lerr := h.disk.Lstat(filepath.Join(root, dir)); dir == "" && lerr == nil && info.Mode()&fs.ModeSymlink != 0 {
		target, _ := h.disk.Readlink(root)
		return h.read(filepath.Join(filepath.Dir(root), target), "", files)
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		if e.Type() == fs.ModeSymlink {
			continue
		}
		if e.IsDir() {
			if err := h.read(root, name, files); err != nil {
				return err
			}
			continue
		}
		data, err := disk.ReadFile(h.disk, filepath.Join(root, name), 1<<20)
		if err != nil {
			return err
		}
		files[name] = string(data)
	}
	return nil
}

// process is a process of a version.
func (h *house) process(version string) *update.Updater {
	cfg := h.config(version)
	u, err := update.Reborn(h.first, h.disk, cfg)
	require.NoError(h.t, err)
	h.alive = append(h.alive, u)
	return u
}

// kill ends all processes.
func (h *house) kill() {
	for _, u := range h.alive {
		die(h.machine, u)
	}
	h.alive = nil
}

// boot starts whatever is in place, as a service manager would, and returns the version that runs in the end.
func (h *house) boot() (*update.Updater, string, error) {
	for range 4 {
		h.kill()
		version, err := h.inPlace()
		if err != nil {
			return nil, "", err
		}
		u := h.process(version)
		next, err := u.Start(h.t.Context())
		if err != nil {
			return nil, version, fmt.Errorf("start of %s: %w", version, err)
		}
		after, err := h.inPlace()
		if err != nil {
			return nil, "", fmt.Errorf("after the start of %s: %w", version, err)
		}
		if next == update.Continue {
			if after != version {
				return nil, "", fmt.Errorf("%s goes on, but %s is in place", version, after)
			}
			return u, version, nil
		}
	}
	return nil, "", errors.New("it restarts for ever")
}

// A story is a part of an installation's life, and what may come of it.
type story struct {
	name    string
	before  func(h *house) // makes the state that it begins with
	act     func(h *house) error
	from    string // the version that must be there when power fails: this
	to      string // or this
	unless  bool   // to may stay: it may have been confirmed
	offered string // an update that must be possible afterwards; "": none
	done    string // the version that must be there once the act has succeeded
	bad     bool   // if from is there in the end, to is remembered as bad
}

func (h *house) must(err error) {
	h.t.Helper()
	require.NoError(h.t, err)
}

// start boots and returns the process.
func (h *house) startUp() *update.Updater {
	h.t.Helper()
	u, _, err := h.boot()
	h.must(err)
	return u
}

func (h *house) update(u *update.Updater, to string) error {
	up := h.updates[to]
	if err := u.Stage(h.t.Context(), up, nil); err != nil {
		return err
	}
	return u.Apply(h.t.Context(), up)
}

// mayStart starts a process that may die on the way, and lets it do something.
func (h *house) mayStart(then func(u *update.Updater) error) error {
	version, err := h.inPlace()
	if err != nil {
		return err
	}
	u := h.process(version)
	if _, err := u.Start(h.t.Context()); err != nil || then == nil {
		return err
	}
	return then(u)
}

var stories = []story{
	{
		name: "the first update", done: "1.1.0", from: "1.0.0", to: "1.1.0", offered: "1.1.0",
		act: func(h *house) error {
			return h.mayStart(func(u *update.Updater) error { return h.update(u, "1.1.0") })
		},
	},
	{
		name: "the first start of a new version", done: "1.1.0", from: "1.0.0", to: "1.1.0",
		before: func(h *house) { h.must(h.update(h.startUp(), "1.1.0")) },
		act: func(h *house) error {
			return h.mayStart(nil)
		},
	},
	{
		name: "confirming", done: "1.1.0", from: "1.0.0", to: "1.1.0", unless: true,
		before: func(h *house) { h.must(h.update(h.startUp(), "1.1.0")) },
		act: func(h *house) error {
			return h.mayStart(func(u *update.Updater) error { return u.Confirm(h.t.Context()) })
		},
	},
	{
		name: "the last start, which goes back", bad: true, done: "1.0.0", from: "1.0.0", to: "1.1.0",
		before: func(h *house) {
			h.must(h.update(h.startUp(), "1.1.0"))
			for range 3 {
				h.startUp()
			}
			h.kill()
		},
		act: func(h *house) error {
			return h.mayStart(nil)
		},
	},
	{
		name: "rolling back a confirmed version", bad: true, done: "1.0.0", from: "1.0.0", to: "1.1.0", unless: true,
		before: func(h *house) {
			h.must(h.update(h.startUp(), "1.1.0"))
			h.must(h.startUp().Confirm(h.t.Context()))
		},
		act: func(h *house) error {
			return h.mayStart(func(u *update.Updater) error { return u.Rollback(h.t.Context(), "test") })
		},
	},
	{
		name: "the second update, which replaces what was kept", done: "1.2.0", from: "1.1.0", to: "1.2.0", offered: "1.2.0",
		before: func(h *house) {
			h.must(h.update(h.startUp(), "1.1.0"))
			h.must(h.startUp().Confirm(h.t.Context()))
		},
		act: func(h *house) error {
			return h.mayStart(func(u *update.Updater) error { return h.update(u, "1.2.0") })
		},
	},
	{
		name: "confirming the second one, which cleans up", done: "1.2.0", from: "1.1.0", to: "1.2.0", unless: true,
		before: func(h *house) {
			h.must(h.update(h.startUp(), "1.1.0"))
			h.must(h.startUp().Confirm(h.t.Context()))
			h.must(h.update(h.startUp(), "1.2.0"))
		},
		act: func(h *house) error {
			return h.mayStart(func(u *update.Updater) error { return u.Confirm(h.t.Context()) })
		},
	},
}

// patchedStories are of updates that come as a chain of patches: there is nothing else to download.
var patchedStories = []story{
	{
		name: "a patched update", done: "1.2.0", from: "1.0.0", to: "1.2.0", offered: "1.2.0",
		act: func(h *house) error {
			return h.mayStart(func(u *update.Updater) error { return h.update(u, "1.2.0") })
		},
	},
}

// judge takes a disk after a loss of power, and says what is wrong with it. deep tries further what is costly.
func (s story) judge(h *house, deep bool) error {
	defer h.kill()
	version, err := h.inPlace()
	if err != nil {
		return err
	}
	if version != s.from && version != s.to {
		return fmt.Errorf("%s is in place", version)
	}
	u, version, err := h.boot()
	if err != nil {
		return err
	}
	if err := h.users(); err != nil {
		return err
	}
	if deep && s.offered != "" && version == s.from {
		// What is staged is staged: a crash may have lost that, but not left a part of it.
		err := u.Apply(h.t.Context(), h.updates[s.offered])
		if errors.Is(err, update.ErrNotStaged) {
			err = h.update(u, s.offered)
		}
		if err != nil {
			return fmt.Errorf("the next try to update: %w", err)
		}
		if version, err = h.inPlace(); err != nil || version != s.offered {
			return fmt.Errorf("after the next update: %s, %w", version, err)
		}
	}
	// Nobody confirms it: in the end the old version is back, unless the new one was confirmed before.
	for range 5 {
		if _, version, err = h.boot(); err != nil {
			return err
		}
	}
	if err := h.users(); err != nil {
		return err
	}
	if version != s.from && (!s.unless || version != s.to) {
		return fmt.Errorf("%s stays, and was never confirmed", version)
	}
	if s.bad && version == s.from {
		journal, err := disk.ReadFile(h.disk, update.JournalPath(u), 1<<20)
		if err != nil || !strings.Contains(string(journal), `"bad": true`) {
			return fmt.Errorf("%s would be installed again: %s, %w", s.to, journal, err)
		}
	}
	return nil
}

// losses counts what was tried.
type losses struct {
	operations, states, bad int
	first                   error
}

func (l *losses) note(where string, err error) {
	l.states++
	if err != nil {
		l.bad++
		if l.first == nil {
			l.first = fmt.Errorf("%s: %w", where, err)
		}
	}
}

// losePower loses power at every operation of a story, and in the repair of what that leaves.
func (s story) losePower(h *house, rng *rand.Rand, most int) losses {
	return s.losePowerFrom(h, rng, most, 0, nil)
}

// losePowerFrom begins at an operation. skip, if not nil, leaves out syncs while power is lost at the operation n, and in
// the repair; then the first harm is enough.
func (s story) losePowerFrom(h *house, rng *rand.Rand, most, from int, skip func(n int, site string) bool) losses {
	if s.before != nil {
		h = h.on(h.disk.Clone())
		s.before(h)
		h.kill()
		h.disk.Settle()
	}
	var l losses
	for n := from; ; n++ {
		d := h.on(h.disk.Clone())
		var skipped func(site string) bool
		if skip != nil {
			skipped = func(site string) bool { return skip(n, site) }
		}
		d.disk.Skip = skipped
		d.disk.StopAfter(n)
		err := s.act(d)
		d.kill()
		done := !d.disk.Dead()
		if done && err != nil {
			l.note("without a crash", err)
			return l
		}
		for i, state := range d.disk.Crashes(rng, most) {
			if skip != nil && l.bad > 0 { // seen
				return l
			}
			again := state.Clone()
			state.Skip = skipped
			where := fmt.Sprintf("power lost at operation %d, state %d", n, i)
			if version, err := h.on(state).inPlace(); done && version != s.done {
				l.note(where, fmt.Errorf("it was done, but %s is in place, %w", version, err))
			}
			l.note(where, s.judge(h.on(state), i%8 == 0))
			if i%4 == 0 && skip == nil {
				s.loseAgain(h.on(again), rng, max(4, most/8), where, &l)
			}
		}
		if done {
			l.operations = n
			return l
		}
	}
}

// loseAgain loses power once more, at an operation of the repair.
func (s story) loseAgain(h *house, rng *rand.Rand, most int, where string, l *losses) {
	for j := 0; ; j += 1 + rng.IntN(3) {
		d := h.on(h.disk.Clone())
		d.disk.StopAfter(j)
		_, _, _ = d.boot()
		d.kill()
		if !d.disk.Dead() {
			return
		}
		for i, state := range d.disk.Crashes(rng, most) {
			l.note(fmt.Sprintf("%s, again at operation %d of the repair, state %d", where, j, i), s.judge(h.on(state), false))
		}
	}
}

func TestPowerLoss(t *testing.T) {
	if testing.Short() {
		t.Skip("a minute on the model")
	}
	most := *powerLossStates
	var total, ran atomic.Int64
	t.Cleanup(func() {
		t.Logf("%d states", total.Load())
		if most >= 4 && int(ran.Load()) == len(layouts)*(len(stories)+len(patchedStories)) {
			require.GreaterOrEqual(t, total.Load(), int64(10_000))
		}
	})
	for _, l := range slices.Concat(layouts, patchedLayouts()) {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			h := l.inhabited(t, newVendor(t))
			told := stories
			if l.patched {
				told = patchedStories
			}
			for _, s := range told {
				t.Run(s.name, func(t *testing.T) {
					h.t = t
					result := s.losePower(h, rand.New(rand.NewPCG(1, 2)), most)
					t.Logf("%d operations, %d states, %d bad", result.operations, result.states, result.bad)
					require.NoError(t, result.first)
					require.Greater(t, result.operations, 3)
					total.Add(int64(result.states))
					ran.Add(1)
				})
			}
		})
	}
}

// inhabited builds a house, and finds out what updates are offered.
func (l layout) inhabited(t *testing.T, v *vendor) *house {
	t.Helper()
	for _, version := range []string{"1.0.0", "1.1.0", "1.2.0"} {
		l.publish(v, version)
	}
	h := l.build(t, v, "1.0.0")
	h.updates = map[string]*update.Update{}
	for _, version := range []string{"1.1.0", "1.2.0"} {
		c := h.config("1.0.0")
		c.Wishes.Pin = version
		u, err := update.NewOn(h.disk, c)
		require.NoError(t, err)
		h.updates[version] = check(t, update.Unmanaged(u)).Update
		require.NotNil(t, h.updates[version])
		h.first = u
	}
	if l.patched {
		v.hideArtifacts("1.1.0", "1.2.0")
	}
	require.NoError(t, h.disk.RemoveAll(update.Dir(h.first))) // as if nothing had ever been checked
	h.disk.Settle()
	return h
}

// harmless are syncs that no loss of power needs, with what they are for.
var harmless = map[string]string{
	"disk.MkdirAll < update.(*Updater).freshFolder":               "the journal's sync of the folder above covers it",
	"disk.MkdirAll < update.(*Updater).noteRecord":                "without a record every file counts as the user's, and is kept",
	"disk.WriteFunc < disk.Write < update.(*Updater).noteRecord":  "without a record every file counts as the user's, and is kept",
	"disk.WriteFunc < disk.Write < update.(*Updater).keepReserve": "it makes the file system allot the space; a reserve that is lost is made again",
	"update.(*Updater).takeBack":                                  "the journal's sync of the same folder covers it",
	"update.Bundle.move":                                          "the journal's sync of the folder that it moves from or to covers it",
	"update.Versions.pointTo":                                     "the journal's sync of the folder that the link comes from covers it",
}

// Every sync is needed: without any one of them, some loss of power does harm. The exceptions have their reasons.
func TestEverySyncIsNeeded(t *testing.T) {
	if *powerLossStates <= 8 {
		t.Skip("every story, once for each sync, takes minutes: -powerloss.states=24")
	}
	type chance struct {
		house *house
		story story
		from  int // the operation before which the sync is not called for
	}
	chances := map[string][]chance{} // where a sync is called for
	for _, l := range slices.Concat(layouts, patchedLayouts()) {
		h := l.inhabited(t, newVendor(t))
		told := stories
		if l.patched {
			told = patchedStories
		}
		for _, s := range told {
			first := map[string]int{}
			s.losePowerFrom(h, rand.New(rand.NewPCG(1, 2)), 1, 0, func(n int, site string) bool {
				if _, seen := first[site]; !seen {
					first[site] = n
				}
				return false
			})
			for site, n := range first {
				chances[site] = append(chances[site], chance{h, s, n})
			}
		}
	}
	caught := 0
	for _, site := range slices.Sorted(maps.Keys(chances)) {
		why, excused := harmless[siteFunctions(site)]
		if excused && *powerLossStates <= 8 { // takes longest: nobody will notice
			continue
		}
		found := false
		for _, c := range chances[site] {
			r := c.story.losePowerFrom(c.house, rand.New(rand.NewPCG(1, 2)), *powerLossStates/2, c.from, func(_ int, at string) bool { return at == site })
			if found = r.bad > 0; found {
				t.Logf("without the sync at %s: %s, %s: %v", site, c.house.layout.name, c.story.name, r.first)
				caught++
				break
			}
		}
		switch {
		case found && excused:
			t.Errorf("the sync at %s is needed: take it from the list of those that are not", site)
		case !found && excused:
			t.Logf("nothing needs the sync at %s: %s", site, why)
		case !found:
			t.Errorf("nobody notices that the sync at %s is missing", site)
		}
	}
	t.Logf("%d missing syncs caught", caught)
}

// siteFunctions leaves the lines out of a site's name.
func siteFunctions(site string) string { return regexp.MustCompile(`:\d+`).ReplaceAllString(site, "") }
