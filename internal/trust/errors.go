package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
)

var (
	// ErrNotFound says that no role that is trusted for a path (or no delegation with that name) lists it. It is an
	// answer, not a fault: the whole search succeeded.
	ErrNotFound = errors.New("trust: not found in the repository")

	// ErrNotStored says that the store does not hold what an offline view needs: refresh once with a source first.
	ErrNotStored = errors.New("trust: not in the local store, refresh while the repository can be reached")

	// ErrDamaged says that the store does not hold what it once held, because a file is gone or damaged. The next
	// refresh that succeeds mends it.
	ErrDamaged = errors.New("trust: the local store is damaged, refresh while the repository can be reached")

	// ErrMoreRoots says that a refresh stopped after as many root rotations as one run may follow. Those were
	// verified and kept; the next refresh goes on from there.
	ErrMoreRoots = errors.New("trust: verified and kept the most root rotations that one run may follow, refresh again for the rest")

	errStalled = errors.New("no byte arrived for too long")
)

// ExpiredError says that the newest metadata of a role is no longer valid. Either the vendor has stopped signing, or
// a mirror holds back newer metadata (a freeze attack), or the clock of this machine is wrong.
type ExpiredError struct {
	Role         string
	Expired, Now time.Time
}

func (e *ExpiredError) Error() string {
	return fmt.Sprintf("trust: %s expired at %s and it is %s: the repository is no longer maintained, newer metadata is held back, or the clock is wrong",
		e.Role, e.Expired.UTC().Format(time.RFC3339), e.Now.UTC().Format(time.RFC3339))
}

// VerifyError says that a file is not what the repository's keys signed. File is its name in the repository; Err
// says what did not hold.
type VerifyError struct {
	File string
	Err  error
}

func (e *VerifyError) Error() string {
	return fmt.Sprintf("trust: %s does not verify: %v: the mirror is broken, somebody changed the file, or the embedded root is that of another repository", e.File, e.Err)
}

func (e *VerifyError) Unwrap() error { return e.Err }

// RollbackError says that a source offers an older version of a role than this installation has already verified:
// a stale mirror, or somebody replaying old metadata. Got is 0 when the role is no longer listed at all.
type RollbackError struct {
	Role      string
	Have, Got int64
}

func (e *RollbackError) Error() string {
	if e.Got == 0 {
		return fmt.Sprintf("trust: %s was at version %d and is no longer listed: the mirror is stale, or somebody replays old metadata", e.Role, e.Have)
	}
	return fmt.Sprintf("trust: %s is offered at version %d, version %d was verified before: the mirror is stale, or somebody replays old metadata", e.Role, e.Got, e.Have)
}

// SourceError says that a file could not be read from the source: the network is down, the mirror answers with an
// error, or the file is not there (then errors.Is with fs.ErrNotExist holds). Nothing is known to be tampered with.
type SourceError struct {
	Name string
	Err  error
}

func (e *SourceError) Error() string {
	text := fmt.Sprintf("trust: read %s: %v", e.Name, e.Err)
	if e.Name == "metadata/timestamp.json" && errors.Is(e.Err, fs.ErrNotExist) {
		text += ": there is no repository at this address"
	}
	return text
}

func (e *SourceError) Unwrap() error { return e.Err }

// StoreError says that the local trust store can not be used: its folder is not writable, or the disk is full. A
// file in it that is merely damaged is never an error.
type StoreError struct {
	Path string
	Err  error
}

func (e *StoreError) Error() string { return fmt.Sprintf("trust: use the store %s: %v", e.Path, e.Err) }

func (e *StoreError) Unwrap() error { return e.Err }

// mirrorErrors holds what went wrong with each of several mirrors, failed verification before anything else: that
// one mirror was down must not hide that another one was tampered with.
type mirrorErrors []error

func (m mirrorErrors) Error() string {
	texts := make([]string, len(m))
	for i, err := range m {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; next mirror: ")
}

func (m mirrorErrors) Unwrap() []error { return m }

// joinMirrors makes one error of those of the mirrors that were tried. nil means none was tried.
func joinMirrors(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	var security, rest mirrorErrors
	for _, err := range errs {
		var source *SourceError
		if errors.As(err, &source) {
			rest = append(rest, err)
		} else {
			security = append(security, err)
		}
	}
	return append(security, rest...)
}
