package update

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/delta"
	"github.com/fairlead-dev/fairlead/internal/disk"
	"github.com/fairlead-dev/fairlead/internal/preflight"
)

// Patches are a way to download less, and nothing else: what they make is checked against the signed file list as what
// an archive holds is, and whatever is wrong with them, the whole artifact is downloaded in the same run. The version in
// place is read, and never written to.

// errNoWay says that there are no patches, or none that would save anything: nothing has failed.
var errNoWay = errors.New("there is no way by patches")

// stagePatched fills the empty folder into with the new version, made of the one in place and patches.
func (u *Updater) stagePatched(ctx context.Context, up *Update, into string, progress func(Progress)) (Staged, error) {
	if !u.mayPatch(up) {
		return Staged{}, errNoWay
	}
	list := up.patches
	if list == nil {
		var err error
		if list, err = u.fetchPatches(ctx, up, u.fetchBlob); err != nil {
			return Staged{}, err
		}
	}
	b, route, err := u.routeFromBase(up, list)
	if err != nil {
		return Staged{}, err
	}
	defer b.close()
	files, err := u.downloadPatches(ctx, route, progress)
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	if err != nil {
		return Staged{}, err
	}
	st, err := u.applyPatches(ctx, up, b, route, files, into, progress)
	if err == nil {
		u.log.Info("made of patches", "to", up.Release.Version, "patches", len(route), "bytes", bytesOf(route), "whole", up.Artifact.Length)
	}
	return st, err
}

func bytesOf(route []channel.Patch) (n int64) {
	for _, p := range route {
		n += p.Length
	}
	return n
}

// mayPatch reports whether patches are thought of at all.
func (u *Updater) mayPatch(up *Update) bool {
	return u.patcher != nil && up.Release.Patches != nil && u.cfg.MaxPatchMemory > 0
}

// fetchPatches fetches and checks the list of patches.
func (u *Updater) fetchPatches(ctx context.Context, up *Update, fetch func(context.Context, channel.Blob, io.Writer) error) (*channel.Patches, error) {
	blob := *up.Release.Patches
	name := channel.BlobPath(blob.SHA256)
	if blob.Length > channel.MaxPatches {
		return nil, &VerifyError{File: name, Err: fmt.Errorf("a list of patches of %d bytes", blob.Length)}
	}
	var data bytes.Buffer
	if err := fetch(ctx, blob, &data); err != nil {
		return nil, err
	}
	list, err := channel.ParsePatches(data.Bytes())
	if err != nil {
		return nil, fmt.Errorf("update: patches to %s: %w", up.Release.Version, err)
	}
	if list.Product != u.cfg.Product || list.Version != up.Release.Version {
		return nil, &VerifyError{File: name, Err: fmt.Errorf("the patches are to %s %s", list.Product, list.Version)}
	}
	return list, nil
}

// foreseePatches tells how much is likely to be downloaded, from what is known without hashing a folder.
func (u *Updater) foreseePatches(ctx context.Context, j *journal, up *Update) {
	if !u.mayPatch(up) {
		return
	}
	list, err := u.fetchPatches(ctx, up, u.fetchOnce)
	if err != nil {
		u.log.Info("the patches to this version are not known", "to", up.Release.Version, "cause", err)
		return
	}
	up.patches = list
	q := u.routeQuery(j, up)
	if _, ok := u.installer.(treeInstaller); ok {
		q.Installed = channel.ContentDigest(u.signedInPlace(j, up))
	} else if _, files, err := u.patcher.base(); err == nil {
		q.Program = files[0].SHA256
	}
	if steps, found := list.Route(q); found {
		up.steps, up.Download = append([]channel.Patch{}, steps...), bytesOf(steps)
	}
}

// routeQuery is what a way depends on, but for what is installed.
func (u *Updater) routeQuery(j *journal, up *Update) channel.RouteQuery {
	q := channel.RouteQuery{
		Wanted: channel.ContentDigest(up.Artifact.Files), Full: u.missing(up.Artifact.Blob), Formats: delta.Formats(),
		Memory: u.cfg.MaxPatchMemory, Without: map[string]bool{},
	}
	for _, f := range j.Patches {
		if f.counts(up.checked) {
			q.Without[f.SHA256] = true
		}
	}
	return q
}

// missing is how much of a blob is still to be downloaded.
func (u *Updater) missing(b channel.Blob) int64 {
	part, err := u.disk.Lstat(u.path(stagingName, b.SHA256+partSuffix))
	if err != nil {
		return b.Length
	}
	return max(0, b.Length-part.Size())
}

// signedInPlace is the file list of the version in place, of several files, as it was signed. nil: it is not known.
func (u *Updater) signedInPlace(j *journal, up *Update) tree {
	if j.Current != nil {
		r, _ := u.record(j.Current.Digest)
		return r.Signed
	}
	if i, ok := u.installer.(treeInstaller); ok && up.running != nil {
		t, _, _ := i.tree(up.running)
		return t
	}
	return nil
}

// base is the version in place, as patches find it.
type base struct {
	files map[string]place // by SHA-256
	close func()
}

// routeFromBase hashes the version in place and finds the way from there. A file of the user's, or one that a user has
// changed, is no obstacle unless it is needed.
func (u *Updater) routeFromBase(up *Update, list *channel.Patches) (b base, route []channel.Patch, err error) {
	j, err := u.readJournal()
	if err != nil {
		return b, nil, err
	}
	q := u.routeQuery(j, up)
	signed := u.signedInPlace(j, up)
	if signed != nil {
		q.Installed = channel.ContentDigest(signed)
		if _, found := list.Route(q); !found {
			return b, nil, errNoWay // known before anything is hashed
		}
	}
	folder, have, err := u.patcher.base()
	if err != nil {
		return b, nil, &StateError{folder, err}
	}
	if _, ok := u.installer.(treeInstaller); !ok {
		q.Program = have[0].SHA256
	} else if signed == nil {
		q.Installed = channel.ContentDigest(have)
	}
	route, found := list.Route(q)
	if !found {
		return b, nil, errNoWay
	}
	if b, err = u.openBase(folder, have); err == nil {
		err = b.lacks(signed, up.Artifact.Files)
	}
	return b, route, err
}

func (u *Updater) openBase(folder string, have tree) (base, error) {
	root, err := u.disk.Root(folder)
	if err != nil {
		return base{}, &StateError{folder, err}
	}
	b := base{files: map[string]place{}, close: func() { _ = root.Close() }}
	for _, f := range have {
		if f.Link == "" {
			b.files[f.SHA256] = place{root, f.Path}
		}
	}
	return b, nil
}

// lacks says, before anything is downloaded, that a file which both versions have is not what it was.
func (b base) lacks(signed tree, wanted []channel.File) error {
	was := map[string]bool{}
	for _, f := range signed {
		was[f.SHA256] = f.Link == ""
	}
	for _, f := range wanted {
		if _, there := b.files[f.SHA256]; was[f.SHA256] && !there {
			b.close()
			return &baseError{f.SHA256}
		}
	}
	return nil
}

// downloadPatches fetches all patches of a way, and opens them. Those that are open are returned with an error, too.
func (u *Updater) downloadPatches(ctx context.Context, route []channel.Patch, progress func(Progress)) (files []disk.File, err error) {
	before, total := int64(0), bytesOf(route)
	for i := range route {
		p := &route[i]
		path, err := u.downloadBlob(ctx, p.Blob, func(done int64) {
			progress(Progress{Step: Downloading, Done: before + done, Total: total})
		})
		if err != nil {
			return files, &patchError{p, err}
		}
		f, err := u.disk.Open(path)
		if err != nil {
			return files, &StateError{path, err}
		}
		files, before = append(files, f), before+p.Length
	}
	return files, nil
}

// applyPatches makes the new version.
func (u *Updater) applyPatches(ctx context.Context, up *Update, b base, route []channel.Patch, files []disk.File, into string, progress func(Progress)) (Staged, error) {
	wanted := u.wanted(up.Artifact)
	steps := make([]step, len(route))
	for i := range route {
		p := &route[i]
		length := p.ToLength
		if i == len(route)-1 {
			length = wanted[0].Length // one file, unless it is a tree
		}
		var err error
		if steps[i], err = openStep(p, files[i], length); err != nil {
			return Staged{}, &patchError{p, err}
		}
	}
	var last *channel.Patch
	if len(route) > 0 {
		last = &route[len(route)-1]
	}
	var sums []string
	for _, f := range wanted {
		sums = append(sums, f.SHA256)
	}
	todo, err := follow(steps, last, sums, b.files)
	if err != nil {
		return Staged{}, err
	}
	c := &contents{have: maps.Clone(b.files), recipes: map[string]recipe{}, memory: u.cfg.MaxPatchMemory}
	if last := len(todo) - 1; last >= 0 {
		bases, rest := split(todo[last])
		for _, r := range rest {
			c.recipes[r.SHA256] = r
		}
		if todo = todo[:last]; len(bases) > 0 {
			todo = append(todo, bases)
		}
	}
	return u.makeAll(ctx, up, c, todo, wanted, into, progress)
}

// wanted are the files of an artifact that are installed here, without links.
func (u *Updater) wanted(a *channel.Artifact) []channel.File {
	if _, ok := u.installer.(treeInstaller); !ok {
		return []channel.File{a.Program()}
	}
	return slices.DeleteFunc(slices.Clone(a.Files), func(f channel.File) bool { return f.Link != "" })
}

// makeAll makes what lies between, if anything, in a folder of its own, and then the new version.
func (u *Updater) makeAll(ctx context.Context, up *Update, c *contents, between [][]recipe, wanted []channel.File, into string, progress func(Progress)) (Staged, error) {
	var done, total int64
	for _, recipes := range between {
		total += lengths(recipes)
	}
	if total > channel.MaxUnpacked {
		return Staged{}, fmt.Errorf("update: the patches make %d bytes between the first and the last", total)
	}
	for _, f := range wanted {
		total += f.Length
	}
	if err := u.checkFree(total + spaceMargin); err != nil {
		return Staged{}, err
	}
	progress(Progress{Step: Patching, Total: total})
	c.progress = func(n int) {
		done += int64(n)
		progress(Progress{Step: Patching, Done: done, Total: total})
	}
	if len(between) > 0 {
		folder, err := disk.MkdirTemp(u.disk, u.path(stagingName), unpackedPrefix)
		if err != nil {
			return Staged{}, &StateError{folder, err}
		}
		defer func() { _ = u.disk.RemoveAll(folder) }()
		if err := c.between(ctx, u.disk, folder, between); err != nil {
			return Staged{}, stagedError(ctx, folder, err)
		}
	}
	return u.patcher.assemble(ctx, up.Artifact, c, into)
}

// stagedError tells an error of the files in folder from others, which are returned as they are.
func stagedError(ctx context.Context, folder string, err error) error {
	var wrong *VerifyError
	var patch *patchError
	if err == nil || ctx.Err() != nil || errors.As(err, &wrong) || errors.As(err, &patch) {
		return err
	}
	return &StateError{folder, err}
}

// dropPatches removes downloaded patches, which are of no more use.
func (u *Updater) dropPatches(up *Update, failed error) {
	if up.Release.Patches == nil {
		return
	}
	entries, _ := u.disk.ReadDir(u.path(stagingName))
	for _, e := range entries {
		if name := e.Name(); filepath.Ext(name) == partSuffix && name != up.Artifact.SHA256+partSuffix {
			u.dropPart(u.path(stagingName, name))
		}
	}
	if failed == nil { // and what there is of the whole
		u.dropPart(u.path(stagingName, up.Artifact.SHA256+partSuffix))
	}
}

// notePatchFailure reports why the whole artifact is downloaded.
func (u *Updater) notePatchFailure(up *Update, failed error) {
	u.log.Warn("patches cannot be used; downloading all of it", "to", up.Release.Version, "cause", failed)
	u.event(EventPatchFailed, map[string]string{"to": up.Release.Version, "code": errorClass(failed)})
}

// rememberPatch notes a patch that has failed, so that it is not tried again: unless this machine is to blame, or the
// network, which did not get the whole artifact either.
func (u *Updater) rememberPatch(ctx context.Context, up *Update, failed, whole error) {
	var p *patchError
	var state *StateError
	var source *SourceError
	var wrong *VerifyError
	switch {
	case !errors.As(failed, &p), errors.As(failed, &state):
		return
	case errors.As(failed, &source) && !errors.As(failed, &wrong) && !errors.Is(failed, fs.ErrNotExist) && whole != nil:
		return
	}
	err := u.change(context.WithoutCancel(ctx), func(j *journal) error {
		j.notePatch(p.patch.SHA256, up.checked)
		return nil
	})
	if err != nil {
		u.log.Info("a patch that failed is not remembered", "cause", err)
	}
}

// failedPatch is one that could not be used here.
type failedPatch struct {
	SHA256 string    `json:"sha256"`
	Last   time.Time `json:"last"`
}

const (
	maxFailedPatches = 32
	patchAgain       = 30 * 24 * time.Hour
)

// counts reports whether it is not to be tried again yet. A clock that was wrong then keeps it no longer.
func (f failedPatch) counts(now time.Time) bool {
	age := now.Sub(f.Last)
	return age < patchAgain && age > -patchAgain
}

// notePatch remembers a patch; the oldest go.
func (j *journal) notePatch(sum string, now time.Time) {
	j.Patches = slices.DeleteFunc(j.Patches, func(f failedPatch) bool { return f.SHA256 == sum || !f.counts(now) })
	j.Patches = append(j.Patches, failedPatch{sum, now.UTC().Truncate(time.Second)})
	j.Patches = j.Patches[max(0, len(j.Patches)-maxFailedPatches):]
}

// checkFree reports whether so much can be written.
func (u *Updater) checkFree(need int64) error {
	free, err := preflight.Free(u.dir)
	if err == nil && free < need {
		return &PreflightError{Obstacle: NoSpace, Path: u.dir, Need: need, Free: free}
	}
	return nil
}
