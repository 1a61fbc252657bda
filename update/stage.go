package update

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/delta"
	"github.com/fairlead-dev/fairlead/internal/disk"
)

// Progress of a Stage. Total is 0 where it is not known.
type Progress struct {
	Step        Step
	Done, Total int64 // bytes
	// Rate is in bytes a second, over the last seconds, and Left is how long the rest of the download takes at that rate. Both
	// are 0 while they are not known, and in other steps than Downloading.
	Rate int64
	Left time.Duration
}

// A Step is a part of Stage.
type Step string

// The steps of Stage, in order.
const (
	Downloading Step = "downloading"
	Unpacking   Step = "unpacking"
	Patching    Step = "patching" // instead of unpacking
	Probing     Step = "probing"
)

// Stage downloads, verifies, unpacks and probes an update, all beside what is installed, which it does not touch. It
// goes on with a download that was interrupted, and returns at once when this very release is staged already.
// progress may be nil; it is called often, from Stage's goroutine.
//
// What it downloads are patches to the version in place, where there are any that save something, or else the whole artifact,
// see package comment, "Patches". Progress.Total counts what is really downloaded, and begins again if patches fail.
//
// Memory stays bounded: the download streams through the hash to disk. On an error this update is not staged, and what
// failed verification is deleted. Whether the update can be installed here at all is asked first, see
// [Updater.Preflight]. Errors: [*PreflightError], [*VerifyError], [*SourceError], [*StateError], [*ProbeError],
// [*BusyError], [*QuarantinedError], [ErrReplaced]. A release whose verified bytes fail three times to unpack or to answer the probe
// is left alone for a day.
func (u *Updater) Stage(ctx context.Context, up *Update, progress func(Progress)) error {
	if up == nil {
		return errors.New("update: stage: there is no update; use Decision.Update of an available one")
	}
	release, err := u.lockAs(ctx, stageLock)
	if err != nil {
		return err
	}
	defer release()
	if done, err := u.isStaged(ctx, up); done || err != nil {
		return err
	}
	if err := u.preflight(ctx, up); err != nil {
		return err
	}
	if progress == nil {
		progress = func(Progress) {}
	}
	folder, st, err := u.stage(ctx, up, metered(progress))
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
	now, err := os.Stat(u.program())
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
	if folder, err = u.freshFolder(up); err != nil {
		return "", st, err
	}
	st, err = u.twice(up, folder, func() (Staged, error) { return u.findOrFetch(ctx, up, folder, progress) })
	if err == nil && !u.cfg.Trial.InsecureSkipProbe {
		progress(Progress{Step: Probing})
		err = u.probe(ctx, st.Program, up.Release.Version)
		var failed *ProbeError
		if errors.As(err, &failed) {
			err = &badRelease{err}
		}
	}
	if err != nil {
		_ = u.disk.RemoveAll(folder)
	}
	return folder, st, err
}

// freshFolder makes a new, empty, private folder for an update, and removes what others have left.
func (u *Updater) freshFolder(up *Update) (string, error) {
	if err := disk.MkdirAll(u.disk, u.path(stagingName), 0o700); err != nil {
		return "", &StateError{u.path(stagingName), err}
	}
	u.clearStaging(up.goesOnWith)
	if err := u.keepReserve(); err != nil {
		return "", err
	}
	folder, err := disk.MkdirTemp(u.disk, u.path(stagingName), unpackedPrefix)
	if err != nil {
		return "", &StateError{u.path(stagingName), err}
	}
	return folder, nil
}

// findOrFetch fills folder: with a version that is still here, or from the repository.
func (u *Updater) findOrFetch(ctx context.Context, up *Update, folder string, progress func(Progress)) (Staged, error) {
	if f, ok := u.installer.(finder); ok {
		if st, found := f.Find(up.Artifact, folder); found {
			return st, nil
		}
	}
	st, failed := u.stagePatched(ctx, up, folder, progress)
	switch {
	case failed == nil:
		u.dropPatches(up, nil)
		return st, nil
	case errors.Is(failed, errNoWay):
	case ctx.Err() != nil: // downloads are good
		return st, failed
	default:
		if err := u.fallBack(ctx, up, folder, failed); err != nil {
			return st, err
		}
	}
	st, err := u.stageWhole(ctx, up, folder, progress)
	u.rememberPatch(ctx, up, failed, err)
	if err == nil {
		u.dropPatches(up, failed)
	}
	return st, err
}

// fallBack makes ready for the whole artifact where patches have failed.
func (u *Updater) fallBack(ctx context.Context, up *Update, folder string, failed error) error {
	u.notePatchFailure(up, failed)
	if err := u.emptyFolder(folder); err != nil {
		return err
	}
	var source *SourceError
	if !errors.As(failed, &source) {
		u.dropPatches(up, failed) // the whole may need their space
	}
	err := u.checkSpace(up.Artifact, nil)
	var memory *delta.MemoryError
	if err != nil && !errors.As(failed, &memory) { // of which the app may allow more, and then there is a way
		u.rememberPatch(ctx, up, failed, err)
	}
	return err
}

// emptyFolder removes what is in a folder for an update.
func (u *Updater) emptyFolder(folder string) error {
	if err := errors.Join(u.disk.RemoveAll(folder), u.disk.Mkdir(folder, 0o700)); err != nil {
		return &StateError{folder, err}
	}
	return nil
}

// stageWhole downloads the whole artifact and unpacks it.
func (u *Updater) stageWhole(ctx context.Context, up *Update, folder string, progress func(Progress)) (Staged, error) {
	blob, err := u.downloadBlob(ctx, up.Artifact.Blob, func(done int64) { progress(Progress{Step: Downloading, Done: done, Total: up.Artifact.Length}) })
	if err != nil {
		return Staged{}, err
	}
	progress(Progress{Step: Unpacking, Total: up.Artifact.Length})
	st, err := u.installer.Unpack(ctx, up.Artifact, blob, folder)
	var wrong *VerifyError
	var full *StateError
	switch {
	case errors.As(err, &wrong):
		err = &badRelease{err}
	case err != nil && !errors.As(err, &full): // cancelled: the download is good
		return st, err
	}
	u.dropPart(blob) // of no more use; and a full disk is not left full
	return st, err
}

const partSuffix = ".part"

// goesOnWith reports whether a file is a download that this update may go on with: any, while its patches are not known.
func (up *Update) goesOnWith(name string) bool {
	sum, part := strings.CutSuffix(name, partSuffix)
	switch {
	case !part || sum == up.Artifact.SHA256:
		return part
	case up.patches == nil:
		return up.Release.Patches != nil
	}
	return slices.ContainsFunc(up.patches.Patches, func(p channel.Patch) bool { return p.SHA256 == sum })
}

// badRelease marks a failure of the release itself: its bytes are what was signed, and they do not work here.
type badRelease struct{ error }

func (b *badRelease) Unwrap() error { return b.error }

// openPart opens the file that a download goes into, or goes on in. What is there and not ours alone is removed: another
// name would be a way to change the file after it was verified.
func (u *Updater) openPart(path string) (disk.File, error) {
	f, err := u.disk.Edit(path)
	if err == nil {
		return f, nil
	}
	if err := u.disk.RemoveAll(path); err != nil {
		return nil, err
	}
	return u.disk.Create(path)
}

// clearStaging removes what earlier attempts left in the staging folder, but for keep, their checkpoints, and what the
// journal names.
func (u *Updater) clearStaging(keep func(name string) bool) {
	named := ""
	if j, err := u.readJournal(); err == nil && j.Staged != nil {
		named = j.Folder
	}
	entries, _ := u.disk.ReadDir(u.path(stagingName))
	for _, e := range entries {
		download := strings.TrimSuffix(strings.TrimSuffix(e.Name(), keptSuffix), nowSuffix)
		if !keep(download) && e.Name() != named {
			_ = u.disk.RemoveAll(u.path(stagingName, e.Name()))
		}
	}
}

func (u *Updater) noteStaged(ctx context.Context, up *Update, folder string, st Staged) error {
	if err := u.disk.SyncDir(u.path(stagingName)); err != nil {
		return &StateError{u.path(stagingName), err}
	}
	if err := u.noteStagedRecord(up.Artifact, st.Digest); err != nil {
		return err
	}
	below := Staged{Digest: st.Digest}
	var err error
	if below.Path, err = filepath.Rel(folder, st.Path); err != nil || !filepath.IsLocal(below.Path) {
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
