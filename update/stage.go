package update

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/atomicfile"
)

// Progress of a Stage. Total is 0 where it is not known.
type Progress struct {
	Step        Step
	Done, Total int64 // bytes
}

// A Step is a part of Stage.
type Step string

// The steps of Stage, in order.
const (
	Downloading Step = "downloading"
	Unpacking   Step = "unpacking"
	Probing     Step = "probing"
)

// Stage downloads, verifies, unpacks and probes an update, all beside what is installed, which it does not touch. It
// goes on with a download that was interrupted, and returns at once when this very release is staged already.
// progress may be nil; it is called often, from Stage's goroutine.
//
// Memory stays bounded: the download streams through the hash to disk. On an error this update is not staged, and what
// failed verification is deleted. Errors: [*VerifyError], [*SourceError], [*StateError], [*ProbeError], [*BusyError],
// [*QuarantinedError], [ErrReplaced]. A release whose verified bytes fail three times to unpack or to answer the probe
// is left alone for a day.
func (u *Updater) Stage(ctx context.Context, up *Update, progress func(Progress)) error {
	if up == nil {
		return errors.New("update: stage: there is no update; use Decision.Update of an available one")
	}
	release, err := u.lockAs(ctx, "stage.lock")
	if err != nil {
		return err
	}
	defer release()
	if done, err := u.isStaged(ctx, up); done || err != nil {
		return err
	}
	if progress == nil {
		progress = func(Progress) {}
	}
	folder, st, err := u.stage(ctx, up, progress)
	if err == nil {
		err = u.noteStaged(ctx, up, folder, st)
	}
	if err != nil {
		return errors.Join(err, u.noteStageFailure(ctx, up, err))
	}
	u.log.Info("staged", "from", u.cfg.Version, "to", up.Release.Version)
	u.event(EventStaged, map[string]string{"from": u.cfg.Version, "to": up.Release.Version})
	return nil
}

// isStaged reports whether up is staged, and refuses to stage while a trial is not decided.
func (u *Updater) isStaged(ctx context.Context, up *Update) (bool, error) {
	j, release, err := u.lockJournal(ctx)
	if err != nil {
		return false, err
	}
	defer release()
	if err := u.mayInstall(j, up); err != nil {
		return false, err
	}
	if !u.names(j, up) {
		return false, nil
	}
	digest, err := u.installer.Digest(u.stagedPath(j, j.Staged.Path))
	return err == nil && digest == j.To.Digest, nil
}

// names reports whether the journal says that up is staged, with the digest that it must have.
func (u *Updater) names(j *journal, up *Update) bool {
	return j.Phase == staged && j.To.Manifest == up.Release.Manifest.SHA256 && j.To.Digest == u.expect(up)
}

// expect returns the digest that the staged files of up must have: from the signed manifest, or as this process has
// unpacked and verified them. The journal is no witness: whoever could write it could write the files as well.
func (u *Updater) expect(up *Update) string {
	if e, ok := u.installer.(expecter); ok {
		return e.Expect(up.Artifact)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.unpacked[up.Release.Manifest.SHA256]
}

// mayInstall refuses what must not be staged or applied, whatever an earlier check has said.
func (u *Updater) mayInstall(j *journal, up *Update) error {
	switch j.Phase {
	case applying, trial, reverting:
		return &BusyError{Phase: string(j.Phase), Version: j.To.Version}
	}
	if u.isReplaced() {
		return ErrReplaced
	}
	if why, bad := j.quarantined(up.checked)[up.Release.Manifest.SHA256]; bad {
		return &QuarantinedError{Version: up.Release.Version, Why: why}
	}
	return nil
}

// ErrReplaced says that the program in place is no longer the one that this process was started from: another process
// has updated it, or somebody has installed a version by hand. Restart first.
var ErrReplaced = errors.New("update: the program in place is not the one that is running: restart first")

// A QuarantinedError says that a release has failed on this machine since it was checked for.
type QuarantinedError struct{ Version, Why string }

func (e *QuarantinedError) Error() string {
	return "update: version " + e.Version + " is quarantined: " + e.Why
}

// isReplaced reports whether the program's file is another one than when this process began.
func (u *Updater) isReplaced() bool {
	now, err := os.Stat(u.program)
	return u.born != nil && err == nil && (!os.SameFile(u.born, now) || !u.born.ModTime().Equal(now.ModTime()) || u.born.Size() != now.Size())
}

// A BusyError says that an update is under way: its trial must be confirmed or rolled back first.
type BusyError struct {
	Phase   string // applying, trial or reverting
	Version string
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("update: version %s is in phase %q: restart into it and confirm it, or roll it back, before the next update", e.Version, e.Phase)
}

func (u *Updater) stage(ctx context.Context, up *Update, progress func(Progress)) (folder string, st Staged, err error) {
	blob, err := u.downloadArtifact(ctx, up.Artifact, progress)
	if err != nil {
		return "", st, err
	}
	progress(Progress{Unpacking, 0, up.Artifact.Length})
	folder, err = u.freshDir()
	if err != nil {
		return "", st, err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(folder)
		}
	}()
	st, err = u.installer.Unpack(ctx, up.Artifact, blob, folder)
	if err != nil {
		var wrong *VerifyError
		if errors.As(err, &wrong) {
			_ = os.Remove(blob)
			err = &badRelease{err}
		}
		return "", st, err
	}
	if !u.cfg.Trial.InsecureSkipProbe {
		progress(Progress{Probing, 0, 0})
		err = u.probe(ctx, st.Program, up.Release.Version)
		var failed *ProbeError
		if errors.As(err, &failed) {
			err = &badRelease{err}
		}
		if err != nil {
			return "", st, err
		}
	}
	_ = os.Remove(blob)
	return folder, st, nil
}

// badRelease marks a failure of the release itself: its bytes are what was signed, and they do not work here.
type badRelease struct{ error }

func (b *badRelease) Unwrap() error { return b.error }

// downloadArtifact returns the path of the verified artifact. The name is its hash: never a name from the network.
func (u *Updater) downloadArtifact(ctx context.Context, a *channel.Artifact, progress func(Progress)) (string, error) {
	dir := u.path(stagingName)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", &StateError{dir, err}
	}
	path := filepath.Join(dir, a.SHA256+".part")
	u.clearStaging(filepath.Base(path))
	// O_EXCL, or an existing regular file of our own with no other name: never through a link that somebody planted.
	f, err := openRegular(path)
	if err != nil {
		return "", &StateError{path, err}
	}
	err = u.download(ctx, a.Blob, f, func(done int64) { progress(Progress{Downloading, done, a.Length}) })
	if cerr := f.Close(); err == nil && cerr != nil {
		err = &StateError{path, cerr}
	}
	var full *StateError
	if errors.As(err, &full) {
		_ = os.Remove(path) // a full disk is not left full
	}
	if err != nil {
		return "", err
	}
	return path, nil
}

// openRegular opens a regular file for reading and writing, creating it if absent.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil || !errors.Is(err, os.ErrExist) {
		return f, err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || !soleName(info) {
		if err := os.RemoveAll(path); err != nil {
			return nil, err
		}
		return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	}
	return os.OpenFile(path, os.O_RDWR, 0o600)
}

// clearStaging removes what earlier attempts left in the staging folder, but for keep and what the journal names.
func (u *Updater) clearStaging(keep string) {
	named := ""
	if j, err := u.readJournal(); err == nil && j.Staged != nil {
		named = j.Folder
	}
	entries, _ := os.ReadDir(u.path(stagingName))
	for _, e := range entries {
		path := u.path(stagingName, e.Name())
		if e.Name() != keep && e.Name() != named {
			_ = os.RemoveAll(path)
		}
	}
}

// freshDir makes a new, empty, private folder for staging.
func (u *Updater) freshDir() (string, error) {
	if err := os.MkdirAll(u.path(stagingName), 0o700); err != nil {
		return "", &StateError{u.path(stagingName), err}
	}
	dir, err := os.MkdirTemp(u.path(stagingName), "new-")
	if err != nil {
		return "", &StateError{u.path(stagingName), err}
	}
	return dir, nil
}

func (u *Updater) noteStaged(ctx context.Context, up *Update, folder string, st Staged) error {
	if err := atomicfile.SyncDir(u.path(stagingName)); err != nil {
		return &StateError{u.path(stagingName), err}
	}
	below := Staged{Digest: st.Digest}
	var err, perr error
	below.Path, err = filepath.Rel(folder, st.Path)
	below.Program, perr = filepath.Rel(folder, st.Program)
	if err != nil || perr != nil || !filepath.IsLocal(below.Path) || !filepath.IsLocal(below.Program) {
		return fmt.Errorf("update: the installer has unpacked to %s, not below %s", st.Path, folder)
	}
	u.mu.Lock()
	u.unpacked[up.Release.Manifest.SHA256] = st.Digest
	u.mu.Unlock()
	return u.change(ctx, func(j *journal) error {
		if err := u.mayInstall(j, up); err != nil {
			return err
		}
		j.Phase, j.Folder, j.Staged = staged, filepath.Base(folder), &below
		j.To = &version{Version: up.Release.Version, Manifest: up.Release.Manifest.SHA256, Digest: st.Digest}
		return nil
	})
}

func (u *Updater) noteStageFailure(ctx context.Context, up *Update, cause error) error {
	u.log.Warn("staging failed", "to", up.Release.Version, "cause", cause)
	class := errorClass(cause)
	step := "stage"
	if class == "probe" {
		step = "probe"
	}
	u.event(EventFailed, map[string]string{"stage": step, "code": class, "to": up.Release.Version})
	var bad *badRelease
	if !errors.As(cause, &bad) {
		return nil // the release is not to blame: the network, a mirror or this machine is
	}
	return u.change(context.WithoutCancel(ctx), func(j *journal) error {
		j.noteFailure(version{Version: up.Release.Version, Manifest: up.Release.Manifest.SHA256}, class, false, up.checked)
		return nil
	})
}

// change edits the journal under the lock.
func (u *Updater) change(ctx context.Context, edit func(*journal) error) error {
	j, release, err := u.lockJournal(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := edit(j); err != nil {
		return err
	}
	return u.writeJournal(j)
}
