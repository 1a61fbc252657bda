package update

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/disk"
	"github.com/fairlead-dev/fairlead/internal/preflight"
)

// An Obstacle is why an update cannot be installed on this machine.
type Obstacle string

// The obstacles. The first seven last: somebody has to change the installation, or to update it in another way.
const (
	ManagedElsewhere Obstacle = "managed"        // a package manager or a store looks after it; PreflightError.By
	ForeignOwner     Obstacle = "foreign_owner"  // the program belongs to another user, PreflightError.By, who shares it
	NotWritable      Obstacle = "not_writable"   // this user may not write there
	ReadOnly         Obstacle = "read_only"      // the file system is mounted read-only: a disk image, a container image
	OtherVolume      Obstacle = "other_volume"   // Config.Dir is on another volume: nothing can be renamed from there
	NoExchange       Obstacle = "no_exchange"    // the file system cannot exchange two folders, see Bundle
	BadLayout        Obstacle = "bad_layout"     // what the installer expects is not there
	NoSpace          Obstacle = "no_space"       // PreflightError.Need and Free
	SessionEnding    Obstacle = "session_ending" // Windows is shutting down or logging the user off, and would kill us
)

func (o Obstacle) lasts() bool { return o != NoSpace && o != SessionEnding }

// A PreflightError says that an update cannot be installed here, found out before anything was downloaded. Nothing was
// changed.
type PreflightError struct {
	Obstacle   Obstacle
	Path       string
	By         string // who looks after the installation, or owns it
	Need, Free int64  // bytes, with NoSpace
	Err        error  // what the system said; may be nil
}

func (e *PreflightError) Error() string { return "update: it cannot be installed here: " + e.reason() }
func (e *PreflightError) Unwrap() error { return e.Err }

func (e *PreflightError) reason() string {
	var s string
	switch e.Obstacle {
	case ManagedElsewhere:
		return "this installation is looked after by " + e.By + ": update it there"
	case ForeignOwner:
		return fmt.Sprintf("%s belongs to %s: update it as that user", e.Path, e.By)
	case NoSpace:
		return fmt.Sprintf("%d bytes are needed on the volume of %s, %d are free", e.Need, e.Path, e.Free)
	case SessionEnding:
		return "the session is ending: try again after the next start"
	case ReadOnly:
		return e.Path + " is on a read-only file system: install a newer image, or move the program"
	case NotWritable:
		s = "this user may not write to " + e.Path + ": update it as the user who installed it"
	case OtherVolume:
		s = "the updater's folder is on another volume than " + e.Path + ": set Config.Dir to a folder on that one"
	case NoExchange:
		s = "the file system of " + e.Path + " cannot exchange two folders in one step: use Versions, or move the program"
	default:
		s = e.Path + " is not laid out as the installer expects"
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// spaceMargin is what should be left for others, beside 1/20 of what is installed.
const spaceMargin = 4 << 20

// Preflight asks whether an update could be installed here, before anything is downloaded. Stage asks it as well. The
// error is a [*PreflightError], or a [*VerifyError] if the release is not made for this layout.
//
// What it asks: who looks after the installation (dpkg, rpm, pacman, apk, Homebrew, MacPorts, snap, Flatpak, Nix, Guix, MSI,
// Chocolatey, Scoop, the stores, a file NAME.managed beside the program), whose it is, whether this user may write there,
// whether there is enough space, and whether files can be renamed into place.
func (u *Updater) Preflight(ctx context.Context, up *Update) error {
	if up == nil {
		return errors.New("update: preflight: there is no update; use Decision.Update of an available one")
	}
	return u.preflight(ctx, up)
}

// preflight does not ask for space without an update: then it is staged already.
func (u *Updater) preflight(ctx context.Context, up *Update) error {
	program, place := u.program(), u.place()
	by, err := u.managedBy(ctx, program)
	if err != nil { // nobody is known to; the next one asks again
		u.log.Info("who looks after this installation could not be told", "cause", err)
	}
	if by != "" {
		return &PreflightError{Obstacle: ManagedElsewhere, Path: program, By: by}
	}
	if ro, err := preflight.ReadOnly(place); err == nil && ro {
		return &PreflightError{Obstacle: ReadOnly, Path: place}
	}
	if owner, foreign := preflight.ForeignOwner(program); foreign {
		return &PreflightError{Obstacle: ForeignOwner, Path: program, By: owner}
	}
	if err := preflight.Writable(place); err != nil {
		return &PreflightError{Obstacle: NotWritable, Path: place, Err: err}
	}
	if preflight.SessionEnding() {
		return &PreflightError{Obstacle: SessionEnding, Path: place}
	}
	if err := disk.MkdirAll(u.disk, u.dir, 0o700); err != nil {
		return &PreflightError{Obstacle: NotWritable, Path: u.dir, Err: err}
	}
	if err := preflight.SameVolume(u.dir, place); errors.Is(err, preflight.ErrOtherVolume) {
		return &PreflightError{Obstacle: OtherVolume, Path: place, Err: err}
	} else if err != nil {
		return &PreflightError{Obstacle: NotWritable, Path: u.dir, Err: err}
	}
	var a *channel.Artifact
	if up != nil {
		a = up.Artifact
	}
	if c, ok := u.installer.(checker); ok {
		if err := c.Check(u.dir, a); err != nil {
			return err
		}
	}
	if up == nil {
		return nil
	}
	return u.checkSpace(a, up.steps)
}

// place is the folder in which an exchange happens.
func (u *Updater) place() string {
	if i, ok := u.installer.(ours); ok {
		return i.place()
	}
	return filepath.Dir(u.program())
}

// checkSpace counts the download, as far as it is still to be made, what it unpacks to or is patched to, and a margin. What
// is in place now takes no more space when it is kept. steps is nil for the whole artifact.
func (u *Updater) checkSpace(a *channel.Artifact, steps []channel.Patch) error {
	need := int64(spaceMargin) + reserveSize
	if a.Format != channel.Raw || steps != nil { // else it is installed as it was downloaded
		for _, f := range a.Files {
			need += f.Length
		}
	}
	need += need / 20
	for i, p := range steps {
		need += u.missing(p.Blob)
		if i < len(steps)-1 {
			need += p.ToLength // of a tree it is not known yet, see makeAll
		}
	}
	if steps == nil {
		need += u.missing(a.Blob)
	}
	return u.checkFree(need)
}
