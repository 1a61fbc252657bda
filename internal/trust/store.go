package trust

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fairlead-dev/fairlead/internal/disk"
	"github.com/fairlead-dev/fairlead/internal/filelock"
)

const (
	floorsName    = "floors.json"
	timestampName = "timestamp.json"
	pendingName   = "pending.json"
	rootsDir      = "roots"

	maxFloors = 4 << 20
)

// store is the folder that the package comment describes. All access to it is under its lock, which is never held
// while anything waits for a network.
type store struct {
	dir string
	log *slog.Logger
}

// lock takes the store's turn. create says whether the folder may be made.
func (s *store) lock(ctx context.Context, create bool) (release func(), err error) {
	if create {
		if err := os.MkdirAll(s.dir, 0o700); err != nil {
			return nil, &StoreError{s.dir, err}
		}
	}
	path := filepath.Join(s.dir, "lock")
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		if err := os.RemoveAll(path); err != nil {
			return nil, &StoreError{s.dir, err}
		}
	}
	release, err = filelock.Lock(ctx, path)
	if errors.Is(err, fs.ErrPermission) && os.Remove(path) == nil { // made unusable by accident, and ours to replace
		release, err = filelock.Lock(ctx, path)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &StoreError{s.dir, err}
	}
	return release, nil
}

// read returns the content of a file of the store, nil if there is none that could be used: it is absent, too long,
// not a regular file (a pipe would block for ever) or can not be read. That is never an error, as everything in the store can be had again.
func (s *store) read(name string, max int64) []byte {
	path := filepath.Join(s.dir, filepath.FromSlash(name))
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil && !info.Mode().IsRegular():
		err = errors.New("not a regular file")
	case err == nil && info.Size() > max:
		err = fmt.Errorf("longer than %d bytes", max)
	}
	if err != nil {
		s.dropped(name, err)
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		s.dropped(name, err)
		return nil
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, max))
	if err != nil {
		s.dropped(name, err)
		return nil
	}
	return data
}

func (s *store) dropped(name string, err error) {
	s.log.Info("a cached file is not used", "file", name, "error", err)
}

// write replaces a file of the store, whatever stands in its place.
func (s *store) write(name string, data []byte) error {
	path := filepath.Join(s.dir, filepath.FromSlash(name))
	if err := disk.Replace(disk.OS, path, data, 0o600); err != nil {
		return &StoreError{path, err}
	}
	return nil
}

// writeRoot keeps one link of the root chain.
func (s *store) writeRoot(version int64, data []byte) error {
	dir := filepath.Join(s.dir, rootsDir)
	if info, err := os.Lstat(dir); err == nil && !info.IsDir() {
		if err := os.Remove(dir); err != nil {
			return &StoreError{dir, err}
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return &StoreError{dir, err}
	}
	return s.write(rootFile(version), data)
}

func (s *store) remove(name string) {
	if err := os.Remove(filepath.Join(s.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Info("a file that is not needed any more could not be removed", "file", name, "error", err)
	}
}

// sweepTemps removes what crashed writers have left.
func (s *store) sweepTemps() {
	for _, dir := range []string{".", rootsDir} {
		entries, _ := os.ReadDir(filepath.Join(s.dir, dir))
		for _, e := range entries {
			if disk.IsTemp(e.Name()) {
				s.remove(filepath.Join(dir, e.Name()))
			}
		}
	}
}

// sweep removes the snapshots and roles that are not of the given state, and kept targets of roles that it does not know.
func (s *store) sweep(st *state) {
	keep := map[string]bool{snapshotCache(st.snapshot.Signed.Version): true}
	roles := map[string]bool{}
	for name, meta := range st.snapshot.Signed.Meta {
		if role, ok := roleOf(name); ok {
			keep[roleCache(role, meta.Version)] = true
			roles[roleHash(role)] = true
		}
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		name := e.Name()
		ours := strings.HasPrefix(name, "snapshot.") || strings.HasPrefix(name, "role.")
		if rest, kept := strings.CutPrefix(name, keptPrefix); kept {
			role, _, _ := strings.Cut(rest, ".")
			ours, keep[name] = true, roles[role]
		}
		if ours && !keep[name] {
			s.remove(name)
		}
	}
}

// contents is what one look into the store found.
type contents struct {
	floors    floors
	floorsRaw []byte // nil if there are none that can be used
	timestamp []byte // of the state that is wholly in the store
	pending   []byte // a newer one, the rest of which could not be had
}

// look reads what every operation starts from. The lock is held.
func (s *store) look() contents {
	var in contents
	raw := s.read(floorsName, maxFloors)
	if raw != nil {
		f, err := parseFloors(raw)
		if err != nil {
			s.dropped(floorsName, err)
		} else {
			in.floors, in.floorsRaw = f, raw
		}
	}
	in.timestamp = s.read(timestampName, maxTimestamp)
	in.pending = s.read(pendingName, maxTimestamp)
	return in
}

// outcome is what one operation wants to be kept.
type outcome struct {
	root      *rootMeta
	floors    floors
	timestamp []byte            // nil: nothing below the roots was verified
	version   int64             // of timestamp
	files     map[string][]byte // what was verified below it and is not in the store yet, by its name there
	whole     *state            // not nil if everything below timestamp was verified
}

// commit keeps an outcome unless another process got further meanwhile. The lock is held.
func (s *store) commit(out outcome) error {
	now := s.look()
	merged := now.floors.clone()
	if merged.Root > out.root.Signed.Version {
		return nil // what was verified with older keys has no say any more
	}
	merged.rebase(out.root)
	newest := merged.Timestamp == nil || merged.Timestamp.Version <= out.version
	if out.timestamp != nil && newest {
		if err := s.commitFiles(out, now); err != nil {
			return err
		}
	}
	seen := merged.Seen
	merged.merge(out.floors)
	if d := merged.Seen.Sub(seen); d < time.Hour && now.floorsRaw != nil {
		unseen := merged
		unseen.Seen = seen // an hour is not worth a write of its own
		if raw, err := unseen.marshal(); err == nil && bytes.Equal(raw, now.floorsRaw) {
			return nil
		}
	}
	raw, err := merged.marshal()
	if err != nil {
		return &StoreError{s.dir, err}
	}
	return s.write(floorsName, raw)
}

// commitFiles writes the timestamp last, so that whenever this is interrupted, what timestamp.json leads to is there.
func (s *store) commitFiles(out outcome, now contents) error {
	for name, data := range out.files {
		if err := s.write(name, data); err != nil {
			return err
		}
	}
	if out.whole == nil {
		if bytes.Equal(out.timestamp, now.timestamp) || bytes.Equal(out.timestamp, now.pending) {
			return nil
		}
		return s.write(pendingName, out.timestamp)
	}
	changed := !bytes.Equal(out.timestamp, now.timestamp)
	if changed {
		if err := s.write(timestampName, out.timestamp); err != nil {
			return err
		}
	}
	if now.pending != nil {
		s.remove(pendingName)
	}
	if changed {
		s.sweep(out.whole)
	}
	return nil
}

func rootFile(version int64) string { return fmt.Sprintf("%s/%d.root.json", rootsDir, version) }

func snapshotCache(version int64) string { return fmt.Sprintf("snapshot.%d.json", version) }

// roleCache names the file of a role after the hash of its name, as names of roles are not ours to choose.
func roleCache(role string, version int64) string {
	return fmt.Sprintf("role.%s.%d.json", roleHash(role), version)
}

func roleHash(role string) string {
	sum := sha256.Sum256([]byte(role))
	return hex.EncodeToString(sum[:])
}
