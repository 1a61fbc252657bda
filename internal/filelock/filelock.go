// Package filelock takes turns between processes.
//
// A lock is an advisory lock (flock on Unix, LockFileEx on Windows) on a file of its own that is never removed. The
// system releases it when its holder dies, so it can not be left behind. It also excludes other holders in the
// same process.
package filelock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gofrs/flock"
)

// ErrHeld says that somebody else holds the lock.
var ErrHeld = errors.New("the lock is held by another process")

// Lock waits for the lock at path, creating the file if needed, until ctx ends.
func Lock(ctx context.Context, path string) (release func(), err error) {
	l := flock.New(path, flock.SetPermissions(0o600))
	if _, err := l.TryLockContext(ctx, 10*time.Millisecond); err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { _ = l.Close() }, nil
}

// TryLock takes the lock at path if it is free, and returns ErrHeld if it is not.
func TryLock(path string) (release func(), err error) {
	return try(flock.New(path, flock.SetPermissions(0o600)), (*flock.Flock).TryLock)
}

// TryShare takes a share of the lock at path: others may have one too, but nobody the lock. Other users may share it.
func TryShare(path string) (release func(), err error) {
	return try(flock.New(path, flock.SetPermissions(0o644)), (*flock.Flock).TryRLock)
}

func try(l *flock.Flock, lock func(*flock.Flock) (bool, error)) (release func(), err error) {
	ok, err := lock(l)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", l.Path(), err)
	}
	if !ok {
		return nil, ErrHeld
	}
	return func() { _ = l.Close() }, nil
}
