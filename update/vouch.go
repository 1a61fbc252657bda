package update

import (
	"errors"
	"fmt"

	"github.com/fairlead-dev/fairlead/channel"
)

// What was hashed with the help of a checkpoint was not all read by this process, and the checkpoint may have been forged.
// Such a blob is in doubt until what comes of it is hashed again.

// noteDoubt notes whether a blob was verified with the help of a checkpoint that another process wrote.
func (u *Updater) noteDoubt(sha256 string, doubt bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if doubt {
		u.doubted[sha256] = true
	} else {
		delete(u.doubted, sha256)
	}
}

func (u *Updater) doubts(sha256 string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.doubted[sha256]
}

// vouch hashes a program that is about to be run, if this process has not yet read all of it.
func (u *Updater) vouch(up *Update, st Staged) error {
	if !u.doubts(up.Artifact.SHA256) || up.Artifact.Format != channel.Raw || u.cfg.Trial.InsecureSkipProbe {
		return nil
	}
	got, err := u.installer.Digest(st.Path)
	if err != nil {
		return &StateError{st.Path, err}
	}
	if got != st.Digest {
		return &VerifyError{File: channel.BlobPath(up.Artifact.SHA256), Err: fmt.Errorf("what an earlier process had downloaded has changed: it has digest %s", got)}
	}
	return nil
}

// twice fills folder, and once more from the beginning if a checkpoint has deceived it.
func (u *Updater) twice(up *Update, folder string, fill func() (Staged, error)) (Staged, error) {
	st, err := fill()
	if err == nil {
		err = u.vouch(up, st)
	}
	var wrong *VerifyError
	if !errors.As(err, &wrong) || !u.doubts(up.Artifact.SHA256) {
		return st, err
	}
	u.log.Warn("a checkpoint was wrong; starting the file again", "cause", err)
	u.dropPart(u.path(stagingName, up.Artifact.SHA256+partSuffix))
	if err := u.emptyFolder(folder); err != nil {
		return Staged{}, err
	}
	return fill()
}
