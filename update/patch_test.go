package update_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/tufrepo"
	"github.com/fairlead-dev/fairlead/update"
)

// A watch is a source that notes how many bytes of which blob were asked for, and may spoil some.
type watch struct {
	update.Source
	read  map[string]int64
	spoil func(name string, r io.Reader) (io.Reader, error)
}

func watching(dir string) *watch {
	return &watch{Source: update.FS(os.DirFS(dir)), read: map[string]int64{}}
}

func (w *watch) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	r, err := w.Source.Open(ctx, name, offset)
	sum, isBlob := strings.CutPrefix(name, "blobs/sha256/")
	if err != nil || !isBlob {
		return r, err
	}
	in := io.Reader(r)
	if w.spoil != nil {
		if in, err = w.spoil(sum[3:], r); err != nil {
			return nil, errors.Join(err, r.Close())
		}
	}
	count := &countedReader{r: in, add: func(n int) { w.read[sum[3:]] += int64(n) }}
	return struct {
		io.Reader
		io.Closer
	}{count, r}, nil
}

type countedReader struct {
	r   io.Reader
	add func(n int)
}

func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.add(n)
	return n, err
}

// patchCase is one installation of 1.0.0, and a repository with 1.1.0 and patches.
type patchCase struct {
	*machine
	layout layout
	raw    bool
	source *watch
	whole  channel.Artifact
}

// eachKind runs a test for every layout, and for a program that is an artifact of its own.
func eachKind(t *testing.T, test func(t *testing.T, l layout, raw bool)) {
	for _, l := range layouts {
		for _, raw := range []bool{true, false} {
			if raw && l.place != nil {
				continue
			}
			t.Run(fmt.Sprintf("%s/raw=%v", l.name, raw), func(t *testing.T) { test(t, l, raw) })
		}
	}
}

// eachLayout is eachKind with versions that are published, and the patches that patches makes beside the last of them.
func eachLayout(t *testing.T, versions []string, patches func(raw bool) []madePatch, test func(t *testing.T, c *patchCase)) {
	eachKind(t, func(t *testing.T, l layout, raw bool) {
		v := newVendor(t)
		for _, version := range versions {
			l.publishLarge(t, v, version, raw)
		}
		v.publishPatches(versions[len(versions)-1], patches(raw)...)
		c := &patchCase{layout: l, raw: raw, source: watching(v.dir)}
		c.machine = l.installLarge(t, v, func(cfg *update.Config) { cfg.Source, cfg.Download.Tries = c.source, 1 })
		test(t, c)
	})
}

// stage checks and stages, and returns the progress that was made.
func (c *patchCase) stage(u *update.Updater) (*update.Update, []update.Progress) {
	c.t.Helper()
	up := check(c.t, u).Update
	require.NotNil(c.t, up)
	c.whole = *up.Artifact
	var all []update.Progress
	require.NoError(c.t, u.Stage(c.t.Context(), up, func(p update.Progress) { all = append(all, p) }))
	return up, all
}

// holds fails unless the version is in place as it was published, and nothing is left behind.
func (c *patchCase) holds(u *update.Updater, version string) {
	c.t.Helper()
	require.Equal(c.t, version, c.version())
	if c.layout.place == nil {
		got, err := os.ReadFile(c.program)
		require.NoError(c.t, err)
		require.True(c.t, bytes.Equal(largeProgram(version), got))
	} else {
		want := map[string]string{}
		for _, m := range largeMembers(version) {
			want[m.name] = m.content
			if m.link != "" {
				want[m.name] = "-> " + m.link
				continue
			}
			info, err := os.Stat(filepath.Join(c.root(), m.name))
			require.NoError(c.t, err)
			if runtime.GOOS != "windows" && version != "1.0.0" {
				require.Equal(c.t, fs.FileMode(m.mode), info.Mode(), m.name)
			}
			require.Equal(c.t, uint64(1), links(info), "%s has a name of its own", m.name)
		}
		require.Equal(c.t, want, filesBelow(c.t, c.root()))
	}
	c.noParts(u)
}

// noParts fails if downloads or intermediate files are left.
func (c *patchCase) noParts(u *update.Updater) {
	c.t.Helper()
	entries, err := os.ReadDir(filepath.Join(update.Dir(u), "staging"))
	require.NoError(c.t, err)
	for _, e := range entries {
		require.NotContains(c.t, e.Name(), ".part")
	}
	require.LessOrEqual(c.t, len(entries), 1)
}

// failures are the codes of patches that could not be used.
func (c *patchCase) failures() (codes []string) {
	for _, e := range c.events {
		if code, found := strings.CutPrefix(e, "update.patch_failed "); found {
			codes = append(codes, code)
		}
	}
	return codes
}

func TestPatch(t *testing.T) {
	direct := func(raw bool) []madePatch { return []madePatch{patchLarge(t, "1.0.0", "1.1.0", raw)} }
	eachLayout(t, []string{"1.0.0", "1.1.0"}, direct, func(t *testing.T, c *patchCase) {
		patch := patchLarge(t, "1.0.0", "1.1.0", c.raw)
		before := c.everything()
		u := c.start()
		up, progress := c.stage(u)
		require.Equal(t, patch.Length, up.Download, "known when it was checked")
		require.Equal(t, up.Artifact.Length, up.Size)
		require.Less(t, up.Download*20, up.Size)
		require.Empty(t, c.failures())
		require.Zero(t, c.source.read[c.whole.SHA256], "the artifact itself was not touched")
		require.Equal(t, patch.Length, c.source.read[patch.SHA256])
		require.Equal(t, before, c.everything(), "the version in place was not touched")
		c.noParts(u)

		var steps []update.Step
		last := map[update.Step]update.Progress{}
		for _, p := range progress {
			if !slices.Contains(steps, p.Step) {
				steps = append(steps, p.Step)
			}
			require.GreaterOrEqual(t, p.Done, last[p.Step].Done)
			last[p.Step] = p
		}
		require.Equal(t, []update.Step{update.Downloading, update.Patching}, steps)
		require.Equal(t, update.Progress{Step: update.Downloading, Done: patch.Length, Total: patch.Length}, last[update.Downloading])
		require.Equal(t, last[update.Patching].Total, last[update.Patching].Done)

		require.NoError(t, u.Apply(t.Context(), up))
		c.holds(u, "1.1.0")
		u = c.start()
		require.NoError(t, u.Confirm(t.Context()))
		require.NoError(t, u.Rollback(t.Context(), "test"))
		c.start()
		c.holds(u, "1.0.0")
	})
}

// everything is what is in place, and where.
func (c *patchCase) everything() map[string]string {
	c.t.Helper()
	if c.layout.place == nil {
		data, err := os.ReadFile(c.program)
		require.NoError(c.t, err)
		return map[string]string{"": string(data)}
	}
	return filesBelow(c.t, c.root())
}

// A chain of three, each shorter than anything direct. Only what the last version needs is made between.
func TestPatchChain(t *testing.T) {
	versions := []string{"1.0.0", "1.1.0", "1.2.0", "1.3.0"}
	chain := func(raw bool) (list []madePatch) {
		for i := range 3 {
			list = append(list, patchLarge(t, versions[i], versions[i+1], raw))
		}
		return list
	}
	eachLayout(t, versions, chain, func(t *testing.T, c *patchCase) {
		u := c.start()
		up, _ := c.stage(u)
		require.Equal(t, "1.3.0", up.Release.Version)
		require.Empty(t, c.failures())
		require.Zero(t, c.source.read[c.whole.SHA256])
		var sum int64
		for _, p := range chain(c.raw) {
			require.Equal(t, p.Length, c.source.read[p.SHA256])
			sum += p.Length
		}
		require.Equal(t, sum, up.Download)
		require.NoError(t, u.Apply(t.Context(), up))
		c.holds(u, "1.3.0")
	})
}

// What does not work falls back to the whole in the same run, is told, and is not tried again.
func TestPatchFallsBack(t *testing.T) {
	versions := []string{"1.0.0", "1.1.0"}
	broken := errors.New("connection reset")
	for name, c := range map[string]struct {
		patch      func(p madePatch) madePatch // as it is published
		spoil      func(name string, r io.Reader) (io.Reader, error)
		change     func(*update.Config)
		code       string
		remembered bool
	}{
		"not on the mirror": {spoil: func(string, io.Reader) (io.Reader, error) { return nil, fs.ErrNotExist }, code: "source", remembered: true},
		"a line that breaks": {spoil: func(_ string, r io.Reader) (io.Reader, error) {
			return io.MultiReader(io.LimitReader(r, 9), failingReader{broken}), nil
		}, code: "source", remembered: true},
		"cut off on the mirror":   {spoil: func(_ string, r io.Reader) (io.Reader, error) { return io.LimitReader(r, 10), nil }, code: "source", remembered: true},
		"damaged on the mirror":   {spoil: func(_ string, r io.Reader) (io.Reader, error) { return &flipping{r: r, at: 100}, nil }, code: "verify", remembered: true},
		"published damaged":       {patch: func(p madePatch) madePatch { return rebuilt(p, spoilPart) }, code: "patch", remembered: true},
		"published as another":    {patch: func(p madePatch) madePatch { return withBody(p, []byte("FLtree1\nnot really")) }, code: "patch", remembered: true},
		"too long":                {patch: func(p madePatch) madePatch { return withBody(p, append(bytes.Clone(p.body), "more"...)) }, code: "patch", remembered: true},
		"takes more than allowed": {change: func(c *update.Config) { c.MaxPatchMemory = 300 << 10 }, patch: func(p madePatch) madePatch { p.Memory = 1; return p }, code: "memory", remembered: true},
	} {
		t.Run(name, func(t *testing.T) {
			list := func(raw bool) []madePatch {
				p := patchLarge(t, "1.0.0", "1.1.0", raw)
				if c.patch != nil {
					p = c.patch(p)
				}
				return []madePatch{p}
			}
			eachLayout(t, versions, list, func(t *testing.T, p *patchCase) {
				patch := list(p.raw)[0]
				if c.change != nil {
					p.change = append(p.change, c.change)
				}
				p.source.spoil = func(name string, r io.Reader) (io.Reader, error) {
					if name == patch.SHA256 && c.spoil != nil {
						return c.spoil(name, r)
					}
					return r, nil
				}
				before := p.everything()
				u := p.start()
				_, progress := p.stage(u)
				require.Equal(t, []string{c.code}, p.failures())
				require.Equal(t, p.whole.Length, p.source.read[p.whole.SHA256])
				require.Equal(t, update.Unpacking, progress[len(progress)-1].Step)
				require.Equal(t, before, p.everything())
				p.noParts(u)

				// Not tried again, as long as it is remembered.
				require.NoError(t, os.RemoveAll(filepath.Join(update.Dir(u), "staging")))
				p.source.spoil, p.events = nil, nil
				asked := p.source.read[patch.SHA256]
				up, _ := p.stage(u)
				require.Empty(t, p.failures())
				require.Equal(t, c.remembered, asked == p.source.read[patch.SHA256])
				require.Equal(t, up.Size, up.Download)
				require.NoError(t, u.Apply(t.Context(), up))
				p.holds(u, "1.1.0")
			})
		})
	}
}

// spoilPart damages what makes the program.
func spoilPart(body []byte) {
	at := 30
	if bytes.HasPrefix(body, []byte("FLtree1\n")) {
		at += 12 + int(binary.LittleEndian.Uint32(body[8:]))
	}
	body[at] ^= 1
}

// rebuilt changes the bytes of a patch, and names them as they are then.
func rebuilt(p madePatch, change func([]byte)) madePatch {
	body := bytes.Clone(p.body)
	change(body)
	return withBody(p, body)
}

func withBody(p madePatch, body []byte) madePatch {
	p.body, p.Blob = body, blobOf(body)
	return p
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }

// flipping changes one byte on the way.
type flipping struct {
	r  io.Reader
	at int
}

func (f *flipping) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if f.at >= 0 && f.at < n {
		p[f.at] ^= 1
	}
	f.at -= n
	return n, err
}

// direct is the one patch from 1.0.0 to 1.1.0.
func direct(t *testing.T) func(raw bool) []madePatch {
	return func(raw bool) []madePatch { return []madePatch{patchLarge(t, "1.0.0", "1.1.0", raw)} }
}

// What a user has changed is no obstacle unless it is needed. What is needed and was changed before is known before
// anything is downloaded, where the version in place is one that the channel lists.
func TestPatchOfChangedBase(t *testing.T) {
	for name, c := range map[string]struct {
		file    string
		content string // "": the file is removed
		patched bool
		early   bool // refused before the patch is downloaded
	}{
		"a file more":                        {"share/mine.txt", "mine", true, false},
		"a file that the new one lacks":      {"share/new-in-1.0.0", "changed", true, false},
		"a file that both have":              {"share/same.bin", "changed", false, true},
		"a file that both have, gone":        {"share/moved-to-1.0.0", "", false, true},
		"what a patch is made for":           {"share/changed.txt", "changed", false, false},
		"what a patch is made for, gone":     {"share/changed.txt", "", false, false},
		"the program, which only patches do": {programPath, string(program("1.0.0")), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			eachLayout(t, []string{"1.0.0", "1.1.0"}, direct(t), func(t *testing.T, p *patchCase) {
				path := p.program
				switch {
				case p.layout.place != nil:
					path = filepath.Join(p.root(), filepath.FromSlash(c.file))
				case c.file != programPath:
					t.Skip("only the program is there")
				}
				require.NoError(t, os.RemoveAll(path))
				if c.content != "" {
					require.NoError(t, os.WriteFile(path, []byte(c.content), 0o755))
				}
				patch := direct(t)(p.raw)[0]
				before := p.everything()
				u := p.start()
				up, _ := p.stage(u)
				require.Equal(t, c.patched, p.source.read[p.whole.SHA256] == 0)
				switch {
				case c.patched:
					require.Empty(t, p.failures())
				case p.layout.place == nil: // no list knows such a program
					require.Empty(t, p.failures())
					require.Zero(t, p.source.read[patch.SHA256])
				default:
					require.Equal(t, []string{"base"}, p.failures())
					require.Equal(t, c.early, p.source.read[patch.SHA256] == 0)
				}
				require.Equal(t, before, p.everything())
				require.NoError(t, u.Apply(t.Context(), up))
				p.holds(u, "1.1.0")
			})
		})
	}
}

// The first version need not be in the channel: then it is what is there.
func TestPatchOfUnlistedVersion(t *testing.T) {
	eachLayout(t, []string{"1.1.0"}, direct(t), func(t *testing.T, p *patchCase) {
		u := p.start()
		up, _ := p.stage(u)
		require.Zero(t, p.source.read[p.whole.SHA256])
		require.NoError(t, u.Apply(t.Context(), up))
		p.holds(u, "1.1.0")
	})
	eachLayout(t, []string{"1.1.0"}, direct(t), func(t *testing.T, p *patchCase) {
		if p.layout.place == nil {
			t.Skip("there is no other file")
		}
		require.NoError(t, os.WriteFile(filepath.Join(p.root(), "mine.txt"), []byte("mine"), 0o600))
		_, _ = p.stage(p.start())
		require.NotZero(t, p.source.read[p.whole.SHA256], "nobody knows which files are the vendor's")
		require.Empty(t, p.failures())
	})
}

// Patches that are not worth it, or not allowed, are not even downloaded; without any, neither is the list.
func TestPatchNotTaken(t *testing.T) {
	none := func(*update.Config) {}
	for name, c := range map[string]struct {
		patch  func(p *channel.Patch)
		change func(*update.Config)
		listed bool
	}{
		"takes too much memory":  {func(p *channel.Patch) { p.Memory = 1<<30 + 1 }, none, true},
		"of an unknown format":   {func(p *channel.Patch) { p.Format = "magic/9" }, none, true},
		"from another version":   {func(p *channel.Patch) { p.From, p.Program = digest(nil), "" }, none, true},
		"no patches are allowed": {func(*channel.Patch) {}, func(c *update.Config) { c.MaxPatchMemory = -1 }, false},
		"an installer of an app": {func(*channel.Patch) {}, func(c *update.Config) { c.Installer, c.Dir = own{c.Installer}, t.TempDir() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			var list string
			patch := func(raw bool) []madePatch {
				p := patchLarge(t, "1.0.0", "1.1.0", raw)
				c.patch(&p.Patch)
				return []madePatch{p}
			}
			eachLayout(t, []string{"1.0.0", "1.1.0"}, patch, func(t *testing.T, p *patchCase) {
				p.change = append(p.change, c.change)
				u := p.start()
				up := check(t, u).Update
				list = up.Release.Patches.SHA256
				require.Equal(t, up.Size, up.Download)
				require.NoError(t, u.Stage(t.Context(), up, nil))
				require.Equal(t, up.Size, p.source.read[up.Artifact.SHA256])
				require.Zero(t, p.source.read[patch(p.raw)[0].SHA256])
				require.Equal(t, c.listed, p.source.read[list] > 0)
				require.Empty(t, p.failures())
			})
		})
	}
}

// own is an installer of an app's own.
type own struct{ update.Installer }

// An app may have made one of our installers a part of its own, which unpacks in another way.
func TestPatchNotWithinAnApps(t *testing.T) {
	v := newVendor(t)
	l := layouts[0]
	l.publishLarge(t, v, "1.1.0", true)
	v.publishPatches("1.1.0", patchLarge(t, "1.0.0", "1.1.0", true))
	m := l.installLarge(t, v)
	i := &embedding{Executable: update.Executable{Path: m.program}}
	m.change = append(m.change, func(c *update.Config) { c.Installer = i })
	m.updateTo(m.start(), "1.1.0")
	require.Equal(t, 1, i.unpacked)
}

type embedding struct {
	update.Executable
	unpacked int
}

func (e *embedding) Unpack(ctx context.Context, a *channel.Artifact, blob, into string) (update.Staged, error) {
	e.unpacked++
	return e.Executable.Unpack(ctx, a, blob, into)
}

// A list that is not what was signed costs the patches, and nothing else.
func TestPatchListFails(t *testing.T) {
	for name, spoil := range map[string]func(r io.Reader) (io.Reader, error){
		"absent":  func(io.Reader) (io.Reader, error) { return nil, fs.ErrNotExist },
		"damaged": func(r io.Reader) (io.Reader, error) { return &flipping{r: r, at: 20}, nil },
	} {
		t.Run(name, func(t *testing.T) {
			eachLayout(t, []string{"1.0.0", "1.1.0"}, direct(t), func(t *testing.T, p *patchCase) {
				patch := direct(t)(p.raw)[0]
				var list string
				p.source.spoil = func(name string, r io.Reader) (io.Reader, error) {
					if name == list || list == "" {
						return spoil(r)
					}
					return r, nil
				}
				u := p.start()
				up := check(t, u).Update
				list = up.Release.Patches.SHA256
				require.Equal(t, up.Size, up.Download)
				require.NoError(t, u.Stage(t.Context(), up, nil))
				require.Len(t, p.failures(), 1)
				require.Zero(t, p.source.read[patch.SHA256])
				require.NoError(t, u.Apply(t.Context(), up))
				p.holds(u, "1.1.0")
			})
		})
	}
	// Signed, but for another version.
	eachLayout(t, []string{"1.0.0", "1.1.0"}, direct(t), func(t *testing.T, p *patchCase) {
		patches := direct(t)(p.raw)
		p.vendor.publishPatches("1.0.0", patches...) // so that there is such a list
		p.vendor.resignEntry("1.1.0", func(r *channel.Release) { r.Patches = p.vendor.entry("1.0.0").Patches })
		_, _ = p.stage(p.start())
		require.Equal(t, []string{"verify"}, p.failures())
		require.NotZero(t, p.source.read[p.whole.SHA256])
	})
}

// When the network is to blame, the patch is not.
func TestPatchAfterNetworkFailure(t *testing.T) {
	eachLayout(t, []string{"1.0.0", "1.1.0"}, direct(t), func(t *testing.T, p *patchCase) {
		patch := direct(t)(p.raw)[0]
		u := p.start()
		up := check(t, u).Update
		broken := errors.New("no route to host")
		left := int64(100) // then the line is dead
		p.source.spoil = func(_ string, r io.Reader) (io.Reader, error) {
			defer func() { left = 0 }()
			return io.MultiReader(io.LimitReader(r, left), failingReader{broken}), nil
		}
		require.ErrorIs(t, u.Stage(t.Context(), up, nil), broken)
		require.Equal(t, int64(100), p.source.read[patch.SHA256])
		p.source.spoil = nil
		u = p.start()
		up, _ = p.stage(u)
		require.Equal(t, patch.Length, p.source.read[patch.SHA256], "and the download goes on where it was")
		require.NoError(t, u.Apply(t.Context(), up))
		p.holds(u, "1.1.0")
	})
}

// The list of patches may come later than the check: what there is of a patch is kept for it.
func TestPatchListIsLate(t *testing.T) {
	eachLayout(t, []string{"1.0.0", "1.1.0"}, direct(t), func(t *testing.T, p *patchCase) {
		patch := direct(t)(p.raw)[0]
		up := check(t, p.start()).Update
		broken, left := errors.New("no route to host"), int64(100)
		p.source.spoil = func(_ string, r io.Reader) (io.Reader, error) {
			defer func() { left = 0 }()
			return io.MultiReader(io.LimitReader(r, left), failingReader{broken}), nil
		}
		require.ErrorIs(t, p.start().Stage(t.Context(), up, nil), broken)
		u := p.start()
		up = check(t, u).Update // without the list
		p.source.spoil = nil
		require.NoError(t, u.Stage(t.Context(), up, nil))
		require.Zero(t, p.source.read[up.Artifact.SHA256])
		require.Equal(t, patch.Length, p.source.read[patch.SHA256], "and the download goes on where it was")
	})
}

// Whoever cancels wants nothing more: no whole download, and nothing is held against the patch.
func TestPatchCancelled(t *testing.T) {
	for _, step := range []update.Step{update.Downloading, update.Patching} {
		t.Run(string(step), func(t *testing.T) {
			eachLayout(t, []string{"1.0.0", "1.1.0"}, direct(t), func(t *testing.T, p *patchCase) {
				patch := direct(t)(p.raw)[0]
				u := p.start()
				up := check(t, u).Update
				ctx, cancel := withCause(t)
				user := errors.New("the user")
				err := u.Stage(ctx, up, func(now update.Progress) {
					if now.Step == step && now.Done > 0 {
						cancel(user)
					}
				})
				require.ErrorIs(t, err, user)
				require.Zero(t, p.source.read[up.Artifact.SHA256])
				require.Empty(t, p.failures())
				up, _ = p.stage(p.start())
				require.Zero(t, p.source.read[up.Artifact.SHA256])
				require.Equal(t, patch.Length, p.source.read[patch.SHA256], "the download is kept")
				require.NoError(t, u.Apply(t.Context(), up))
				p.holds(u, "1.1.0")
			})
		})
	}
}

// A patch that failed is left out: another way is taken. It is forgotten after a month, and when an update works.
func TestPatchRemembered(t *testing.T) {
	versions := []string{"1.0.0", "1.1.0", "1.2.0"}
	list := func(raw bool) []madePatch {
		return []madePatch{
			rebuilt(patchLarge(t, "1.0.0", "1.2.0", raw), spoilPart),
			patchLarge(t, "1.0.0", "1.1.0", raw), patchLarge(t, "1.1.0", "1.2.0", raw),
		}
	}
	eachLayout(t, versions, list, func(t *testing.T, p *patchCase) {
		bad := list(p.raw)[0]
		again := func() (taken bool) {
			u := p.start()
			require.NoError(t, os.RemoveAll(filepath.Join(update.Dir(u), "staging")))
			clear(p.source.read)
			p.events = nil
			_, _ = p.stage(u)
			return p.source.read[bad.SHA256] > 0
		}
		require.True(t, again())
		require.Equal(t, []string{"patch"}, p.failures())
		require.NotZero(t, p.source.read[p.whole.SHA256])
		require.False(t, again())
		require.Empty(t, p.failures())
		require.Zero(t, p.source.read[p.whole.SHA256], "a chain is left")
		now := p.now
		p.now = now.Add(29 * 24 * time.Hour)
		p.vendor.now = p.now
		p.vendor.refresh()
		require.False(t, again())
		p.now = now.Add(31 * 24 * time.Hour)
		p.vendor.now = p.now
		p.vendor.refresh()
		require.True(t, again())

		u := p.start()
		up := check(t, u).Update
		require.NoError(t, u.Stage(t.Context(), up, nil))
		require.NoError(t, u.Apply(t.Context(), up))
		journal := func() string {
			data, err := os.ReadFile(update.JournalPath(u))
			require.NoError(t, err)
			return string(data)
		}
		require.Contains(t, journal(), bad.SHA256)
		require.NoError(t, p.start().Confirm(t.Context()))
		require.NotContains(t, journal(), bad.SHA256)
	})
}

// Versions that hold the same, but under other names or with other rights, need no patch at all.
func TestPatchOfNothing(t *testing.T) {
	for _, l := range layouts[1:] {
		t.Run(l.name, func(t *testing.T) {
			v := newVendor(t)
			l.publishLarge(t, v, "1.0.0", false)
			members := largeMembers("1.0.0")
			for i := range members {
				if members[i].name == "share/only-mode.sh" {
					members[i].mode = 0o755
				}
				members[i].name = strings.Replace(members[i].name, "moved-to", "renamed-to", 1)
			}
			v.release("1.1.0", tarOf(t, members...), func(n *tufrepo.NewRelease) {
				n.Artifacts[0].Format, n.Artifacts[0].Executable = channel.TarGz, programPath
			})
			v.publishPatches("1.1.0")
			w := watching(v.dir)
			m := l.installLarge(t, v, func(c *update.Config) { c.Source = w })
			u := m.start()
			up := check(t, u).Update
			require.Zero(t, up.Download)
			require.NoError(t, u.Stage(t.Context(), up, nil))
			require.Zero(t, w.read[up.Artifact.SHA256])
			staged, err := filepath.Glob(filepath.Join(update.Dir(u), "staging", "new-*", "tree"))
			require.NoError(t, err)
			require.Len(t, staged, 1)
			files := filesBelow(t, staged[0])
			require.Len(t, files, len(members))
			require.Contains(t, files, "share/renamed-to-1.0.0")
			info, err := os.Stat(filepath.Join(staged[0], "share", "only-mode.sh"))
			require.NoError(t, err)
			if runtime.GOOS != "windows" {
				require.Equal(t, fs.FileMode(0o755), info.Mode())
			}
			if l.name == "versions" { // Bundle takes two versions with one program for one, unless both came by update
				require.NoError(t, u.Apply(t.Context(), up))
				require.Equal(t, files, filesBelow(t, m.root()))
			}
		})
	}
}

// What a patch makes is compared with the signed list, also where the patch itself is sound.
func TestPatchMakesAnother(t *testing.T) {
	evil := func(raw bool) []madePatch {
		program := largeProgram("1.1.0")
		good := digest(program)
		copy(program, "evil")
		if raw {
			p := filePatch(t, largeProgram("1.0.0"), program)
			p.To = good
			return []madePatch{p}
		}
		files := largeFiles("1.1.0")
		files[programPath] = program
		p := treePatch(t, largeFiles("1.0.0"), files, func(list []indexed) {
			list[slices.IndexFunc(list, func(i indexed) bool { return i.SHA256 == digest(program) })].SHA256 = good
		})
		p.To = contentOf(largeFiles("1.1.0"))
		return []madePatch{p}
	}
	eachLayout(t, []string{"1.0.0", "1.1.0"}, evil, func(t *testing.T, p *patchCase) {
		u := p.start()
		up, _ := p.stage(u)
		require.Equal(t, []string{"verify"}, p.failures())
		require.NotZero(t, p.source.read[p.whole.SHA256])
		require.NoError(t, u.Apply(t.Context(), up))
		p.holds(u, "1.1.0")
	})
}

// Whoever signs a hostile index gets no further than anybody who signs hostile archives: what comes out is compared.
func TestPatchHostileIndex(t *testing.T) {
	for name, c := range map[string]struct {
		change func(list []indexed)
		code   string
	}{
		"a base that no version has":   {func(l []indexed) { l[0].Base = []string{digest([]byte("nothing"))} }, "base"},
		"a base that is made itself":   {func(l []indexed) { l[0].Base = []string{l[1].SHA256} }, "base"},
		"another base":                 {func(l []indexed) { l[0].Base = []string{digest(largeFiles("1.0.0")["share/same.bin"])} }, "patch"},
		"a file twice":                 {func(l []indexed) { l[1].SHA256 = l[0].SHA256 }, "patch"},
		"a huge size":                  {func(l []indexed) { l[0].Size = 1 << 60 }, "patch"},
		"a huge length":                {func(l []indexed) { l[0].Length = 1 << 33 }, "patch"},
		"no length":                    {func(l []indexed) { l[0].Length = 0 }, "patch"},
		"a file that nobody asked for": {func(l []indexed) { l[0].SHA256 = digest([]byte("other")) }, "base"},
	} {
		t.Run(name, func(t *testing.T) {
			list := func(raw bool) []madePatch {
				if raw {
					return nil
				}
				return []madePatch{treePatch(t, largeFiles("1.0.0"), largeFiles("1.1.0"), c.change)}
			}
			eachLayout(t, []string{"1.0.0", "1.1.0"}, list, func(t *testing.T, p *patchCase) {
				if p.raw {
					t.Skip("has no index")
				}
				u := p.start()
				up, _ := p.stage(u)
				code := c.code
				if p.layout.place == nil && name == "another base" {
					code = "base" // which is not there
				}
				require.Equal(t, []string{code}, p.failures())
				require.NoError(t, u.Apply(t.Context(), up))
				p.holds(u, "1.1.0")
			})
		})
	}
}

// A file that is changed between the look at it and the copy is noticed.
func TestPatchOfBaseThatChanges(t *testing.T) {
	eachLayout(t, []string{"1.0.0", "1.1.0"}, direct(t), func(t *testing.T, p *patchCase) {
		if p.layout.place == nil {
			t.Skip("nothing is copied")
		}
		patch := direct(t)(p.raw)[0]
		path := filepath.Join(p.root(), "share", "same.bin")
		p.source.spoil = func(name string, r io.Reader) (io.Reader, error) {
			if name == patch.SHA256 { // after the look, before the copy
				require.NoError(t, os.WriteFile(path, noise("other", 60<<10), 0o644))
			}
			return r, nil
		}
		u := p.start()
		up, _ := p.stage(u)
		require.Equal(t, []string{"verify"}, p.failures())
		require.NoError(t, u.Apply(t.Context(), up))
		p.holds(u, "1.1.0")
	})
}
