package update

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/disk"
	"github.com/fairlead-dev/fairlead/internal/filelock"
)

// Versions installs every version into a folder of its own, beside a pointer to the one in use:
//
//	Root/current                 a symbolic link to versions/DIGEST; on Windows a file that holds DIGEST
//	Root/versions/DIGEST/        one version, never changed; the first one may have any name
//	Root/.fairlead/              the updater's folder, if Config.Dir is empty
//
// What is started is Root/current/Program: so the version is chosen at each start. On Windows something has to read the
// pointer: a copy of the program itself, outside versions, that calls [Updater.Supervise] first. The version that runs
// is never touched, and going back is moving the pointer: no download, no copying. It is the layout for Windows, and
// for programs of several files anywhere.
//
// A version's folder is removed once Keep newer ones are there and no process runs from it (processes that called
// Start). A file that is not the vendor's in such a folder is not removed, see package comment, "Files of the user".
type Versions struct {
	Root    string // absolute
	Program string // the path, slash-separated, of the program in a version's folder
	Keep    int    // how many versions to keep; less than 2: two, the one in use and the one before

	fsys    disk.FS // nil: the real one
	records records
}

const (
	pointerName = "current"
	versionsDir = "versions"
)

func (v Versions) on(fsys disk.FS, k records) Installer { v.fsys, v.records = fsys, k; return v }
func (v Versions) disk() disk.FS                        { return orReal(v.fsys) }
func (v Versions) known() records                       { return orNone(v.records) }

func (v Versions) folder(name string) string { return filepath.Join(v.Root, versionsDir, name) }
func (v Versions) pointer() string           { return filepath.Join(v.Root, pointerName) }

func (v Versions) validate() error {
	return errors.Join(checkAbsolute(v.Root), channel.CheckPath(v.Program, runtime.GOOS))
}
func (v Versions) place() string { return v.Root }

// Home is Root/.fairlead.
func (v Versions) Home() string { return filepath.Join(v.Root, ".fairlead") }

// Entry is the program of the version in use.
func (v Versions) Entry() string {
	if runtime.GOOS != "windows" {
		return filepath.Join(v.pointer(), filepath.FromSlash(v.Program))
	}
	name, _ := v.read(v.pointer())
	return filepath.Join(v.folder(name), filepath.FromSlash(v.Program))
}

func (v Versions) tree(a *channel.Artifact) (tree, string, error) { return treeOf(a, v.Program) }

func (v Versions) scan() (t tree, program string, err error) {
	_, t, err = v.base()
	return t, v.Program, err
}

// Expect is the digest that the signed manifest promises.
func (v Versions) Expect(a *channel.Artifact) string {
	t, _, err := v.tree(a)
	if err != nil {
		return ""
	}
	return t.digest()
}

// Check implements an optional method of Installer.
func (v Versions) Check(_ string, a *channel.Artifact) error {
	if a != nil {
		if _, _, err := v.tree(a); err != nil {
			return err
		}
	}
	if _, err := v.read(v.pointer()); err != nil {
		return &PreflightError{Obstacle: BadLayout, Path: v.Root, Err: fmt.Errorf("no version is in place: %w", err)}
	}
	return nil
}

// Unpack implements Installer.
func (v Versions) Unpack(ctx context.Context, a *channel.Artifact, blob, into string) (Staged, error) {
	return stageTree(ctx, v.disk(), a, v.Program, blob, into)
}

// stagedTree is the name of a folder that was unpacked, and never in use.
const stagedTree = "tree"

// stageTree unpacks a folder for Versions and Bundle.
func stageTree(ctx context.Context, fsys disk.FS, a *channel.Artifact, program, blob, into string) (Staged, error) {
	t, top, err := treeOf(a, program)
	if err != nil {
		return Staged{}, err
	}
	path := filepath.Join(into, stagedTree)
	if err := unpackTree(ctx, fsys, a, t, top, blob, path); err != nil {
		return Staged{}, err
	}
	return stagedAs(fsys, t, program, into)
}

// patchTree makes one out of another.
func patchTree(ctx context.Context, fsys disk.FS, a *channel.Artifact, program string, from *contents, into string) (Staged, error) {
	t, _, err := treeOf(a, program)
	if err != nil {
		return Staged{}, err
	}
	if err := assembleTree(ctx, fsys, t, from, filepath.Join(into, stagedTree)); err != nil {
		return Staged{}, err
	}
	return stagedAs(fsys, t, program, into)
}

// stagedAs makes a folder durable, and tells what is in it.
func stagedAs(fsys disk.FS, t tree, program, into string) (Staged, error) {
	path := filepath.Join(into, stagedTree)
	if err := fsys.SyncDir(into); err != nil {
		return Staged{}, &StateError{into, err}
	}
	return Staged{Path: path, Program: filepath.Join(path, filepath.FromSlash(program)), Digest: t.digest()}, nil
}

func (v Versions) assemble(ctx context.Context, a *channel.Artifact, from *contents, into string) (Staged, error) {
	return patchTree(ctx, v.disk(), a, v.Program, from, into)
}

func (v Versions) base() (folder string, files tree, err error) {
	name, err := v.read(v.pointer())
	if err != nil {
		return v.pointer(), nil, err
	}
	folder = v.folder(name)
	files, err = scanFolder(v.disk(), folder)
	return folder, files, err
}

// Find implements an optional method of Installer: a version that is still here need not be downloaded. What Exchange
// takes then is a file that names it.
func (v Versions) Find(a *channel.Artifact, into string) (Staged, bool) {
	digest := v.Expect(a)
	if v.verify(digest, digest) != nil {
		return Staged{}, false
	}
	path := filepath.Join(into, "pointer")
	if err := disk.Write(v.disk(), path, []byte(digest+"\n"), 0o600); err != nil {
		return Staged{}, false
	}
	return Staged{Path: path, Program: filepath.Join(v.folder(digest), filepath.FromSlash(v.Program)), Digest: digest}, true
}

// read returns the name of the folder that a pointer names: a link, or a file.
func (v Versions) read(path string) (string, error) {
	info, err := v.disk().Lstat(path)
	if err != nil {
		return "", err
	}
	var name string
	if info.Mode()&fs.ModeSymlink != 0 {
		target, err := v.disk().Readlink(path)
		if err != nil {
			return "", err
		}
		dir, base := filepath.Split(target)
		if dir != versionsDir+string(filepath.Separator) {
			return "", fmt.Errorf("%s points to %s, which is not in %s", path, target, versionsDir)
		}
		name = base
	} else {
		data, err := disk.ReadFile(v.disk(), path, 256)
		if err != nil {
			return "", err
		}
		name = strings.TrimSpace(string(data))
	}
	if channel.CheckPath(name, "windows") != nil || strings.Contains(name, "/") {
		return "", fmt.Errorf("%s names the version %q, which is no name", path, name)
	}
	return name, nil
}

// isDigest reports whether a version's folder was made by us: then its name says what is in it.
func isDigest(name string) bool { return channel.IsSHA256(name) }

// Digest implements Installer. What is in place was hashed before it was put there; its name says what it is.
func (v Versions) Digest(path string) (string, error) {
	inPlace := path == ""
	if inPlace {
		path = v.pointer()
	}
	info, err := v.disk().Lstat(path)
	if err != nil {
		return "", err
	}
	if info.IsDir() {
		return treeDigest(v.disk(), path)
	}
	name, err := v.read(path)
	if err != nil {
		return "", err
	}
	if inPlace && isDigest(name) {
		_, err := v.disk().Lstat(v.folder(name))
		return name, err
	}
	return treeDigest(v.disk(), v.folder(name))
}

// Exchange implements Installer. The new folder gets its name, then the pointer moves: two renames, and between them
// the pointer names the old version. What was in use is not touched.
func (v Versions) Exchange(next, digest, prev string) error {
	name, err := v.settleIn(next, digest, filepath.Dir(prev))
	if err != nil {
		return err
	}
	old, err := v.read(v.pointer())
	if err == nil && old != name {
		err = disk.Write(v.disk(), prev, []byte(old+"\n"), 0o600)
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return err
	}
	return v.pointTo(name, filepath.Dir(prev))
}

// settleIn gives a version its folder, verified, and returns the folder's name.
func (v Versions) settleIn(next, digest, dir string) (string, error) {
	info, err := v.disk().Lstat(next)
	if errors.Is(err, fs.ErrNotExist) { // an Exchange that was interrupted has moved it already
		return digest, v.verify(digest, digest)
	}
	if err != nil {
		return "", &StateError{next, err}
	}
	if !info.IsDir() {
		name, err := v.read(next)
		if err != nil {
			return "", &VerifyError{File: next, Err: err}
		}
		return name, v.verify(name, digest)
	}
	is, release, err := verifyTree(v.disk(), next, digest)
	if err != nil {
		return "", err
	}
	if runtime.GOOS == "windows" { // an open folder cannot be renamed
		release()
	} else {
		defer release()
	}
	to := v.folder(digest)
	if v.verify(digest, digest) == nil {
		return digest, nil // it was here before
	}
	if _, err := v.disk().Lstat(to); err == nil { // damaged: the updater looks through it
		if err := v.disk().Rename(to, filepath.Join(dir, gonePrefix+digest)); err != nil {
			return "", err
		}
	}
	if err := disk.MkdirAll(v.disk(), filepath.Dir(to), 0o755); err != nil {
		return "", err
	}
	if err := v.disk().Rename(next, to); err != nil {
		return "", err
	}
	if !is(to) {
		return "", errors.Join(&VerifyError{File: next, Err: errors.New("was replaced after it had been hashed")}, v.disk().Rename(to, next))
	}
	return digest, errors.Join(v.disk().SyncDir(filepath.Dir(to)), v.disk().SyncDir(filepath.Dir(next)))
}

// verify hashes a version that is in its folder.
func (v Versions) verify(name, digest string) error {
	_, release, err := verifyKept(v.disk(), v.folder(name), digest, v.known())
	if err == nil {
		release()
	}
	return err
}

// pointTo moves the pointer, durably. scratch is a folder on the same volume for the moment before.
func (v Versions) pointTo(name, scratch string) error {
	if runtime.GOOS == "windows" { // links need rights there that users do not have
		return disk.Write(v.disk(), v.pointer(), []byte(name+"\n"), 0o644)
	}
	temp, err := disk.SymlinkTemp(v.disk(), filepath.Join(versionsDir, name), scratch)
	if err != nil {
		return err
	}
	if err := v.disk().Rename(temp, v.pointer()); err != nil {
		return errors.Join(err, v.disk().Remove(temp))
	}
	return v.disk().SyncDir(v.Root)
}

// Clean implements an optional method of Installer.
func (v Versions) Clean(needed []string, discard func(folder, digest string) error) (kept []string, err error) {
	current, err := v.read(v.pointer())
	if err != nil {
		return nil, err
	}
	folders, err := v.folders()
	if err != nil {
		return nil, err
	}
	spare := max(v.Keep, 2)
	var others []string
	for _, name := range folders {
		digest := name
		if !isDigest(name) && len(folders) > spare { // hashing takes time: only if something may have to go
			if digest, err = treeDigest(v.disk(), v.folder(name)); err != nil {
				return nil, err
			}
		}
		if name == current || slices.Contains(needed, digest) {
			kept = append(kept, digest)
		} else {
			others = append(others, name)
		}
	}
	spare -= len(kept)
	var errs []error
	for i, name := range others { // the newest first
		if i >= spare {
			gone, err := v.discard(name, discard)
			errs = append(errs, err)
			if gone {
				continue
			}
		}
		kept = append(kept, name)
	}
	return kept, errors.Join(errs...)
}

// discard has a version removed, unless a process runs from it.
func (v Versions) discard(name string, discard func(folder, digest string) error) (gone bool, err error) {
	release, err := filelock.TryLock(v.lockFile(name))
	if err != nil {
		return false, nil
	}
	digest := name
	if !isDigest(name) {
		digest, err = treeDigest(v.disk(), v.folder(name))
	}
	if err == nil {
		err = discard(v.folder(name), digest)
	}
	release()
	if err != nil {
		return false, err
	}
	_ = os.Remove(v.lockFile(name)) // after the lock: Windows removes no open file
	return true, nil
}

// folders lists the versions that are there, the newest first.
func (v Versions) folders() ([]string, error) {
	entries, err := v.disk().ReadDir(filepath.Dir(v.folder("x")))
	if err != nil {
		return nil, err
	}
	var list []string
	since := map[string]time.Time{}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && e.IsDir() {
			list = append(list, e.Name())
			since[e.Name()] = info.ModTime()
		}
	}
	slices.SortFunc(list, func(a, b string) int { return since[b].Compare(since[a]) })
	return list, nil
}

func (v Versions) lockFile(name string) string { return v.folder(name) + ".lock" }

// Hold implements an optional method of Installer.
func (v Versions) Hold() (release func(), err error) {
	name, err := v.read(v.pointer())
	if err != nil {
		return nil, err
	}
	return filelock.TryShare(v.lockFile(name))
}
