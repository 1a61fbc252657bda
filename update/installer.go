package update

import (
	"context"

	"github.com/fairlead-dev/fairlead/channel"
)

// An Installer knows one layout of installed software and how to exchange one version for another in it: [Executable],
// [Versions], Bundle (on Unix), or one of the app's own; package installertest holds those to the contract. Its methods
// are called by one goroutine of one process at a time, except Digest and Entry.
//
// Paths that it is given lie in the updater's folder, on the same volume as what is installed.
type Installer interface {
	// Unpack turns a verified blob (a file, which it may move) into what Exchange takes: it fills the empty folder
	// into, checks every file against a.Files, makes everything durable, and returns what to pass to Exchange and the
	// program to probe, both inside into. It must write nowhere else. The error is a [*VerifyError] if the blob is to
	// blame.
	Unpack(ctx context.Context, a *channel.Artifact, blob, into string) (Staged, error)
	// Exchange hashes next once more, and if that gives digest, puts it in place and what was there at prev, where
	// nothing is. Otherwise the error is a [*VerifyError], and nothing has changed. Whenever it is interrupted, the
	// old version or the new one is in place, whole; when it is the new one, the old one is at prev, or Settle puts it
	// there. If nothing is in place, next is put there. When it returns nil, all of that is durable.
	Exchange(next, digest, prev string) error
	// Digest identifies the content of a version by hashing it: the one at path, or, if path is "", the one in place.
	// If there is none, the error satisfies errors.Is(err, fs.ErrNotExist).
	Digest(path string) (string, error)
}

// Staged is what an Installer has unpacked.
type Staged struct {
	Path    string `json:"path"`   // what Exchange takes
	Program string `json:"-"`      // what to probe
	Digest  string `json:"digest"` // what Installer.Digest returns for Path
}

// What else an Installer may have is found by asking it. None of these is required.
type (
	// Home is the folder for state when Config.Dir is empty; without it, Config.Dir is required.
	homer interface{ Home() string }
	// Entry is the program in place: what Restart runs. Without it, that is what this process was started from.
	enterer interface{ Entry() string }
	// Expect is the digest that the signed manifest promises. Without it, only what this very process has staged is
	// installed: the journal is no witness.
	expecter interface {
		Expect(a *channel.Artifact) (digest string)
	}
	// Check refuses an installation or an update that cannot be installed here at all, before anything is downloaded.
	// dir is the updater's folder. The error is a [*PreflightError] or a [*VerifyError].
	checker interface {
		Check(dir string, a *channel.Artifact) error
	}
	// Settle finishes an Exchange that was interrupted after the new version was in place. It may be repeated.
	settler interface {
		Settle(next, prev string) error
	}
	// Find makes what Exchange takes from a version that is still on this machine, if it has it: then nothing is
	// downloaded. It fills the empty folder into.
	finder interface {
		Find(a *channel.Artifact, into string) (Staged, bool)
	}
	// Clean passes versions that are needed no more to discard, which takes them away: never those whose digests are
	// needed, nor those that a running process holds. It returns the digests of those that are still there.
	cleaner interface {
		Clean(needed []string, discard func(folder, digest string) error) (kept []string, err error)
	}
	// patcher makes a new version out of the one in place. Only our own installers are asked, not those that have one of them
	// as a part: what they unpack may be something else. Without it, everything is downloaded.
	patcher interface {
		// base returns the folder of the version in place and its files as they are now, hashed.
		base() (folder string, files tree, err error)
		// assemble is Unpack with files that come from elsewhere. Other errors than those of Unpack are the patches'.
		assemble(ctx context.Context, a *channel.Artifact, from *contents, into string) (Staged, error)
	}
	// Hold marks the version in place as in use by this process, until it ends.
	holder interface {
		Hold() (release func(), err error)
	}
)
