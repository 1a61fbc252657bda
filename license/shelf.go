package license

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/fairlead-dev/fairlead/internal/disk"
	"github.com/fairlead-dev/fairlead/internal/filelock"
)

// The files of a store's folder. The first has one token a line; each is replaced as a whole, under the lock.
const (
	tokensName = "licenses.jwt"
	clockName  = "clock.json"
	lockName   = "lock"

	maxKept   = 8
	maxTokens = maxKept * (maxToken + 2)
	maxClock  = 4 << 10
)

// A StoreError says that the folder of a store cannot be written. What was in it is unchanged; only when the last step
// fails, in which the system says that all is on disk, it is the new already, and may be lost with the power.
type StoreError struct {
	Dir string
	Err error
}

func (e *StoreError) Error() string {
	hint := ""
	switch {
	case disk.IsFull(e.Err):
		hint = ": make room on the disk"
	case errors.Is(e.Err, fs.ErrPermission):
		hint = ": give this user the right to write there"
	}
	return fmt.Sprintf("license: the store %s cannot be written: %v%s", e.Dir, e.Err, hint)
}

// Unwrap returns the cause.
func (e *StoreError) Unwrap() error { return e.Err }

// A shelf is the folder of a store; without a folder it keeps tokens as long as the process lives.
type shelf struct {
	dir    string
	fs     disk.FS
	lock   func(ctx context.Context, path string, wait bool) (release func(), err error)
	memory []string
}

func newShelf(dir string) shelf { return shelf{dir: dir, fs: disk.OS, lock: lock} }

func lock(ctx context.Context, path string, wait bool) (release func(), err error) {
	if wait {
		return filelock.Lock(ctx, path)
	}
	return filelock.TryLock(path)
}

// Load makes the shelf the first source of its store.
func (s *shelf) Load(context.Context) ([]Found, error) {
	tokens, err := s.tokens()
	found := make([]Found, len(tokens))
	for i, token := range tokens {
		found[i] = Found{s.name(), []byte(token)}
	}
	return found, err
}

func (s *shelf) name() string {
	if s.dir == "" {
		return "the installed licences"
	}
	return "the store " + s.dir
}

func (s *shelf) tokens() ([]string, error) {
	if s.dir == "" {
		return s.memory, nil
	}
	data, err := disk.ReadFile(s.fs, filepath.Join(s.dir, tokensName), maxTokens)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("license: the store %s cannot be read: %w", s.dir, err)
	}
	var tokens []string
	for line := range bytes.Lines(data) {
		if line = bytes.TrimSpace(line); len(line) > 0 && len(tokens) < maxKept {
			tokens = append(tokens, string(line))
		}
	}
	return tokens, nil
}

// hold takes the store's turn among processes, and waits for it or not. It makes the folder where there is none.
func (s *shelf) hold(ctx context.Context, wait bool) (release func(), err error) {
	if s.dir == "" {
		return func() {}, ctx.Err()
	}
	if err := disk.MkdirAll(s.fs, s.dir, 0o700); err != nil {
		return nil, &StoreError{s.dir, err}
	}
	path := filepath.Join(s.dir, lockName)
	if info, err := s.fs.Lstat(path); err == nil && !info.Mode().IsRegular() {
		if err := s.fs.RemoveAll(path); err != nil {
			return nil, &StoreError{s.dir, err}
		}
	}
	release, err = s.lock(ctx, path, wait)
	switch {
	case err == nil:
		return release, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("license: the store %s was not changed, as somebody else is at it: %w", s.dir, ctx.Err())
	}
	return nil, &StoreError{s.dir, err}
}

// put keeps these tokens and no others. The turn is held.
func (s *shelf) put(tokens []string) error {
	if s.dir == "" {
		s.memory = tokens
		return nil
	}
	if err := s.write(tokensName, []byte(strings.Join(tokens, "\n")+"\n")); err != nil {
		return err
	}
	s.sweep()
	return nil
}

// clear keeps no token.
func (s *shelf) clear() error {
	if s.dir == "" {
		s.memory = nil
		return nil
	}
	path := filepath.Join(s.dir, tokensName)
	if _, err := s.fs.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := errors.Join(s.fs.RemoveAll(path), s.fs.SyncDir(s.dir)); err != nil {
		return &StoreError{s.dir, err}
	}
	s.sweep()
	return nil
}

// write replaces a file, whatever stands in its place.
func (s *shelf) write(name string, data []byte) error {
	if err := disk.Replace(s.fs, filepath.Join(s.dir, name), data, 0o600); err != nil {
		return &StoreError{s.dir, err}
	}
	return nil
}

// sweep removes what interrupted writers have left: all write in their turn.
func (s *shelf) sweep() {
	entries, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if disk.IsTemp(e.Name()) {
			_ = s.fs.Remove(filepath.Join(s.dir, e.Name())) // the next one tries again
		}
	}
}

// clock returns what is remembered of time; an error says that it was there and cannot be used.
func (s *shelf) clock() (memory, error) {
	if s.dir == "" {
		return memory{}, nil
	}
	data, err := disk.ReadFile(s.fs, filepath.Join(s.dir, clockName), maxClock)
	if errors.Is(err, fs.ErrNotExist) {
		return memory{}, nil
	}
	if err != nil {
		return memory{}, err
	}
	return parseMemory(data)
}

// noteClock keeps what the clock says, together with what other processes have noted. It does not wait for them.
func (s *shelf) noteClock(observe func(memory) memory) error {
	release, err := s.hold(context.Background(), false)
	if err != nil {
		return err
	}
	defer release()
	kept, err := s.clock()
	next := observe(kept)
	if err == nil && !kept.worthWriting(next) {
		return nil
	}
	data, err := json.Marshal(next)
	if err != nil {
		return err
	}
	return s.write(clockName, append(data, '\n'))
}
