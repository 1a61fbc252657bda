package update

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/disk"
	"github.com/fairlead-dev/fairlead/internal/filelock"
)

// treeInstaller is an installer of folders, which users may have put files into.
type treeInstaller interface {
	// tree is what an artifact installs, and the folder of the archive that it is in.
	tree(a *channel.Artifact) (t tree, top string, err error)
	// scan hashes the version in place. program is the path of its program.
	scan() (t tree, program string, err error)
}

// tidy removes what is needed no more, and what crashes have left. It never follows a link. What cannot be removed, such as
// a program that still runs on Windows, is left for the next time.
func (u *Updater) tidy(j *journal) {
	entries, err := u.disk.ReadDir(u.dir)
	if err != nil {
		return
	}
	var errs []error
	for _, e := range entries {
		name := e.Name()
		switch digest, gone := strings.CutPrefix(name, gonePrefix); {
		case gone:
			errs = append(errs, u.discard(name, digest))
		case name == failedName && j.Phase != reverting,
			name == previousName && (j.Phase == idle || j.Phase == staged) && j.Previous == nil:
			errs = append(errs, u.discard(name, ""))
		case disk.IsTemp(name), disk.IsKeepTemp(name, previousName, failedName), strings.HasPrefix(name, probeName):
			errs = append(errs, u.disk.RemoveAll(u.path(name)))
		}
	}
	errs = append(errs, u.tidyStaging(j), u.removeTemps(recordsName))
	needed := j.digests()
	if c, ok := u.installer.(cleaner); ok {
		kept, err := c.Clean(needed, func(folder, digest string) error {
			if err := disk.RenameNow(u.disk, folder, u.path(gonePrefix+digest)); err != nil {
				return err
			}
			return u.discard(gonePrefix+digest, digest)
		})
		errs = append(errs, err)
		needed = append(needed, kept...)
	}
	u.dropRecords(needed)
	if err := errors.Join(errs...); err != nil {
		u.log.Info("not everything that is needed no more could be removed", "cause", err)
	}
	if j.Phase != idle {
		_ = u.keepReserve() // if the disk was full, it may not be any more
	}
}

// tidyStaging removes what was unpacked and is needed no more, unless somebody is staging just now. Downloads stay, to go
// on with, but while a version is on trial: nothing can be staged then, so they are of no use.
func (u *Updater) tidyStaging(j *journal) error {
	release, err := filelock.TryLock(u.path(stageLock))
	if err != nil {
		return nil
	}
	defer release()
	entries, _ := u.disk.ReadDir(u.path(stagingName))
	var errs []error
	for _, e := range entries {
		if e.Name() != j.Folder && (j.Phase == trial || strings.HasPrefix(e.Name(), unpackedPrefix)) {
			errs = append(errs, u.disk.RemoveAll(u.path(stagingName, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// removeTemps removes what interrupted writes have left in a folder.
func (u *Updater) removeTemps(dir string) error {
	entries, _ := u.disk.ReadDir(u.path(dir))
	var errs []error
	for _, e := range entries {
		if disk.IsTemp(e.Name()) {
			errs = append(errs, u.disk.Remove(u.path(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// digests lists the versions that the journal needs.
func (j *journal) digests() []string {
	var list []string
	for _, v := range []*version{j.Current, j.Previous, j.From, j.To} {
		if v != nil {
			list = append(list, v.Digest)
		}
	}
	return list
}

// discard removes a version from the updater's folder, but for what is not the vendor's.
func (u *Updater) discard(name, digest string) error {
	path := u.path(name)
	info, err := u.disk.Lstat(path)
	if err != nil {
		return err
	}
	if _, ok := u.installer.(treeInstaller); ok && info.IsDir() {
		if err := u.rescue(path, digest); err != nil {
			return err
		}
	}
	err = u.disk.RemoveAll(path)
	if err != nil {
		removeLater(u.disk, path, u.cfg.Now())
	}
	return err
}

// rescue moves files that are not the vendor's out of a folder that is to be removed. Without a signed list of what
// the vendor put there, that is every file.
func (u *Updater) rescue(path, digest string) error {
	root, err := u.disk.Root(path)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	have, err := scanTree(root)
	if err != nil {
		return err
	}
	if digest == "" {
		digest = have.digest()
	}
	r, _ := u.record(digest)
	vendors := r.Signed.index()
	var rescued []string
	to := u.path(rescuedName, u.cfg.Now().UTC().Format("20060102")+"-"+digest[:min(len(digest), 12)])
	for _, f := range have {
		if same(f, vendors[f.Path]) {
			continue
		}
		if err := u.moveOut(filepath.Join(path, filepath.FromSlash(f.Path)), filepath.Join(to, filepath.FromSlash(f.Path))); err != nil {
			return err
		}
		rescued = append(rescued, f.Path)
	}
	if len(rescued) > 0 {
		u.log.Warn("files that are not the vendor's were kept", "folder", to, "files", rescued)
		u.event(EventRescued, map[string]string{"files": fmt.Sprint(len(rescued))})
	}
	return nil
}

// moveOut moves one file, durably. What has the name already gets another one.
func (u *Updater) moveOut(from, to string) error {
	if err := disk.MkdirAll(u.disk, filepath.Dir(to), 0o700); err != nil {
		return err
	}
	free := to
	for n := 2; ; n++ {
		if _, err := u.disk.Lstat(free); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return err
		}
		free = fmt.Sprintf("%s.%d", to, n)
	}
	return errors.Join(disk.RenameNow(u.disk, from, free), u.disk.SyncDir(filepath.Dir(free)))
}
