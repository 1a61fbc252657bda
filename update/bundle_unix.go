//go:build unix

package update

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/disk"
)

// Bundle installs a folder in place of another, as a macOS .app is one: both change their names in one step
// (renameat2 with RENAME_EXCHANGE on Linux 3.15 or later, renamex_np with RENAME_SWAP on macOS). A process that runs
// from the old folder goes on with the files that it has open, and finds the new ones under the old names.
//
// Nearly all local file systems can do that: ext4, XFS, Btrfs, tmpfs, APFS. Where one cannot (NFS, HFS+, folders
// of a container image), a [*PreflightError] says so before anything is downloaded, unless UnsafeGap is set.
//
// Files in the folder that are not the vendor's are not carried into the new version, see package comment, "Files of the
// user". On macOS 13 and later, an app may replace only bundles that are signed by its own team.
type Bundle struct {
	Path    string // absolute, without symbolic links, of the folder
	Program string // the path, slash-separated, of the program in it, such as Contents/MacOS/Notes
	// UnsafeGap installs in two renames where the file system cannot exchange two folders: there is a moment with
	// nothing at Path, and a crash in that moment leaves it so, until a process that still has the old files, such as
	// Supervise, or a program started from the updater's folder, calls Start.
	UnsafeGap bool

	fsys    disk.FS // nil: the real one
	records records
}

func (b Bundle) on(fsys disk.FS, k records) Installer { b.fsys, b.records = fsys, k; return b }
func (b Bundle) disk() disk.FS                        { return orReal(b.fsys) }
func (b Bundle) known() records                       { return orNone(b.records) }

func (b Bundle) validate() error {
	return errors.Join(checkAbsolute(b.Path), channel.CheckPath(b.Program, runtime.GOOS))
}
func (b Bundle) place() string { return filepath.Dir(b.Path) }

// Home is .NAME.fairlead beside the folder.
func (b Bundle) Home() string { return homeBeside(b.Path) }

// Entry is the program in the folder.
func (b Bundle) Entry() string { return filepath.Join(b.Path, filepath.FromSlash(b.Program)) }

func (b Bundle) tree(a *channel.Artifact) (tree, string, error) { return treeOf(a, b.Program) }

// Expect is the digest that the signed manifest promises.
func (b Bundle) Expect(a *channel.Artifact) string {
	t, _, err := b.tree(a)
	if err != nil {
		return ""
	}
	return t.digest()
}

// Check implements an optional method of Installer: it tries the exchange on two empty folders.
func (b Bundle) Check(dir string, a *channel.Artifact) error {
	if a != nil {
		if _, _, err := b.tree(a); err != nil {
			return err
		}
	}
	if info, err := b.disk().Lstat(b.Path); err != nil || !info.IsDir() {
		return &PreflightError{Obstacle: BadLayout, Path: b.Path, Err: errors.Join(errors.New("it is not a folder"), err)}
	}
	// In the updater's folder, which is on the same volume: Preflight has asked that.
	var probes []string
	for _, name := range []string{probeName, probeName + "-2"} {
		folder := filepath.Join(dir, name)
		if err := errors.Join(b.disk().RemoveAll(folder), b.disk().Mkdir(folder, 0o700)); err != nil {
			return &StateError{folder, err}
		}
		defer func() { _ = b.disk().Remove(folder) }()
		probes = append(probes, folder)
	}
	if err := b.disk().Exchange(probes[0], probes[1]); err != nil && !b.UnsafeGap {
		return &PreflightError{Obstacle: NoExchange, Path: b.Path, Err: err}
	}
	return nil
}

// Unpack implements Installer.
func (b Bundle) Unpack(ctx context.Context, a *channel.Artifact, blob, into string) (Staged, error) {
	return stageTree(ctx, b.disk(), a, b.Program, blob, into)
}

func (b Bundle) assemble(ctx context.Context, a *channel.Artifact, from *contents, into string) (Staged, error) {
	return patchTree(ctx, b.disk(), a, b.Program, from, into)
}

func (b Bundle) base() (folder string, files tree, err error) {
	files, err = scanFolder(b.disk(), b.Path)
	return b.Path, files, err
}

// Digest implements Installer. What is in place has its digest as long as its program is the one of that version, and no
// other version has that program and more of the other files: programs write into their own folders, and users do.
func (b Bundle) Digest(path string) (string, error) {
	if path != "" {
		return treeDigest(b.disk(), path)
	}
	have, _, err := b.scan()
	digest := have.digest()
	if err != nil {
		return "", err
	}
	known := b.known().all()
	if _, exact := known[digest]; exact {
		return digest, nil
	}
	best := 0
	for _, d := range slices.Sorted(maps.Keys(known)) {
		held := known[d].Holds.common(have)
		if _, ok := held.index()[b.Program]; ok && len(held) > best {
			best, digest = len(held), d
		}
	}
	return digest, nil
}

func (b Bundle) scan() (t tree, program string, err error) {
	_, t, err = b.base()
	return t, b.Program, err
}

// Exchange implements Installer.
func (b Bundle) Exchange(next, digest, prev string) error {
	verify := verifyTree
	if filepath.Base(next) != stagedTree { // it was in place before
		verify = func(fsys disk.FS, path, digest string) (func(string) bool, func(), error) {
			return verifyKept(fsys, path, digest, b.known())
		}
	}
	is, release, err := verify(b.disk(), next, digest)
	if err != nil {
		return err
	}
	defer release()
	info, err := b.disk().Lstat(b.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return b.move(next, b.Path)
	}
	if err != nil {
		return err
	}
	if err := b.own(next, info); err != nil {
		return err
	}
	err = b.disk().Exchange(next, b.Path)
	if errors.Is(err, errors.ErrUnsupported) && b.UnsafeGap {
		return b.inTwoSteps(next, prev)
	}
	if disk.IsOtherVolume(err) { // of an overlay's lower layer: only the folder itself tells
		return &PreflightError{Obstacle: OtherVolume, Path: b.Path, Err: err}
	}
	if err != nil {
		return err
	}
	if !is(b.Path) {
		return errors.Join(&VerifyError{File: next, Err: errors.New("was replaced after it had been hashed")}, b.disk().Exchange(next, b.Path))
	}
	return b.Settle(next, prev)
}

// own gives a new folder the owner, for root, and the rights of the one that it replaces.
func (b Bundle) own(next string, info fs.FileInfo) error {
	if err := b.disk().Chmod(next, info.Mode().Perm()); err != nil {
		return err
	}
	root, err := b.disk().Root(next)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	return errors.Join(b.disk().Own(next, info), ownAll(root, ".", info))
}

func ownAll(root disk.FS, dir string, like fs.FileInfo) error {
	entries, err := root.ReadDir(dir)
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		err = errors.Join(err, root.Own(name, like))
		if e.IsDir() {
			err = errors.Join(err, ownAll(root, name, like))
		}
	}
	return err
}

// inTwoSteps is the way where folders cannot be exchanged. What fails is undone.
func (b Bundle) inTwoSteps(next, prev string) error {
	if err := b.move(b.Path, prev); err != nil {
		return err
	}
	if err := b.move(next, b.Path); err != nil {
		return errors.Join(err, b.move(prev, b.Path))
	}
	return nil
}

// Settle implements an optional method of Installer: what was in place is at next still.
func (b Bundle) Settle(next, prev string) error {
	if err := errors.Join(b.disk().SyncDir(filepath.Dir(b.Path)), b.disk().SyncDir(filepath.Dir(next))); err != nil {
		return err
	}
	if _, err := b.disk().Lstat(next); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return b.move(next, prev)
}

func (b Bundle) move(from, to string) error {
	if err := b.disk().Rename(from, to); err != nil {
		return err
	}
	return errors.Join(b.disk().SyncDir(filepath.Dir(to)), b.disk().SyncDir(filepath.Dir(from)))
}
