package update

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/disk"
	"github.com/fairlead-dev/fairlead/internal/filelock"
)

// phase is the state of an installation, see the table in doc.go.
type phase string

const (
	idle      phase = "idle"
	staged    phase = "staged"
	applying  phase = "applying"
	trial     phase = "trial"
	reverting phase = "reverting"
)

// version names one version of the software on this machine.
type version struct {
	Version  string `json:"version"`
	Manifest string `json:"manifest,omitempty"` // sha256 of the release's manifest; "": it did not come by update
	Digest   string `json:"digest"`             // of its content, see Installer.Digest
}

// failure remembers a release that did not work here.
type failure struct {
	Version  string    `json:"version"`
	Manifest string    `json:"manifest"`
	Reason   string    `json:"reason"`
	Tries    int       `json:"tries"`
	Last     time.Time `json:"last"`
	Bad      bool      `json:"bad"` // rolled back: never again
}

// journal is the only authority about the state of an installation. It is one file, replaced as a whole.
type journal struct {
	Phase    phase         `json:"phase"`
	From     *version      `json:"from,omitempty"`     // in place before; set while applying, trial, reverting
	To       *version      `json:"to,omitempty"`       // the new one; set from staged to reverting
	Folder   string        `json:"folder,omitempty"`   // of Staged, below the staging folder
	Staged   *Staged       `json:"staged,omitempty"`   // of To, paths below Folder; set while staged and applying
	Starts   int           `json:"starts,omitempty"`   // of To, not confirmed
	Reason   string        `json:"reason,omitempty"`   // why reverting
	Current  *version      `json:"current,omitempty"`  // what is in place, if it came by update
	Previous *version      `json:"previous,omitempty"` // what Rollback goes back to; its files are at previousName, or set aside while applying
	Failures []failure     `json:"failures,omitempty"`
	Undone   *undone       `json:"undone,omitempty"`  // a rollback that Hooks.AfterRollback is to be told
	Patches  []failedPatch `json:"patches,omitempty"` // that could not be used; forgotten when an update is confirmed
	Vetoes   int           `json:"vetoes,omitempty"`  // releases in a row that Hooks.Healthy has made this installation leave
}

// undone is a rollback: from the version that was left to the one that came back.
type undone struct {
	From string `json:"from"`
	To   string `json:"to"`
}

const (
	journalName  = "journal"
	previousName = "previous" // what was in place before
	failedName   = "failed"   // what was rolled back, for the moment of the exchange
	gonePrefix   = "gone-"    // what is needed no more, and its digest
	recordsName  = "records"  // what is known of versions, by digest
	rescuedName  = "rescued"  // files of the user
	stagingName  = "staging"
	// what is unpacked in the staging folder is in a folder of this name and something random
	unpackedPrefix = "new-"
	stageLock      = "stage.lock"
	probeName      = "probe"   // begins the names of folders that only try something
	reserveName    = "reserve" // space that the journal needs when the disk is full
	reserveSize    = 64 << 10
	maxJournal     = 1 << 20
	maxFailures    = 32
	maxTries       = 3
	retryAfter     = 24 * time.Hour
)

// encode writes the journal with its checksum on a line of its own in front: a file that a disk or a person has
// damaged is told from a whole one.
func (j *journal) encode() ([]byte, error) {
	body, err := json.MarshalIndent(j, "", "\t")
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	return append([]byte("fairlead journal 1 "+hex.EncodeToString(sum[:])+"\n"), body...), nil
}

func decodeJournal(data []byte) (*journal, error) {
	head, body, _ := strings.Cut(string(data), "\n")
	var format int
	if n, err := fmt.Sscanf(head, "fairlead journal %d ", &format); n == 1 && err == nil && format > 1 {
		return nil, &channel.NewerFormatError{What: "journal", Version: format}
	}
	sum := sha256.Sum256([]byte(body))
	if head != "fairlead journal 1 "+hex.EncodeToString(sum[:]) {
		return nil, errors.New("checksum does not match")
	}
	j := new(journal)
	if err := json.Unmarshal([]byte(body), j); err != nil {
		return nil, err
	}
	complete := map[phase]bool{
		idle: true, staged: j.To != nil && j.isLocal(), applying: j.From != nil && j.To != nil && j.isLocal(),
		trial: j.From != nil && j.To != nil, reverting: j.From != nil && j.To != nil,
	}
	if !complete[j.Phase] {
		return nil, fmt.Errorf("phase %q is unknown or lacks its fields", j.Phase)
	}
	return j, nil
}

// isLocal reports whether the journal names staged files, and only such as lie in the staging folder.
func (j *journal) isLocal() bool {
	return j.Staged != nil && filepath.IsLocal(j.Folder) && filepath.IsLocal(j.Staged.Path)
}

// readJournal returns the journal; a missing or damaged one reads as idle: what is in place runs, and nothing is
// assumed about it. One that a newer version of this library has written is an error, and stays as it is.
func (u *Updater) readJournal() (*journal, error) {
	data, err := disk.ReadFile(u.disk, u.path(journalName), maxJournal)
	if errors.Is(err, fs.ErrNotExist) {
		return &journal{Phase: idle}, nil
	}
	if err != nil && !errors.Is(err, disk.ErrNotRegular) {
		return nil, &StateError{u.path(journalName), err}
	}
	j, err := decodeJournal(data)
	var newer *channel.NewerFormatError
	if errors.As(err, &newer) {
		return nil, &StateError{u.path(journalName), err}
	}
	if err != nil {
		u.log.Warn("the journal is damaged; starting afresh with what is installed", "path", u.path(journalName), "cause", err)
		return &journal{Phase: idle}, nil
	}
	return j, nil
}

// writeJournal replaces the journal, durably. When the disk is full, it uses the reserve: a start on trial must be counted,
// and going back be possible, above all then.
func (u *Updater) writeJournal(j *journal) error {
	data, err := j.encode()
	if err != nil {
		return err
	}
	err = disk.Write(u.disk, u.path(journalName), data, 0o600)
	if disk.IsFull(err) && u.disk.Remove(u.path(reserveName)) == nil {
		err = disk.Write(u.disk, u.path(journalName), data, 0o600)
	}
	if err != nil {
		return &StateError{u.path(journalName), err}
	}
	return nil
}

// keepReserve sets space aside for the journal. The bytes are random: a file system that compresses would keep no space
// for others.
func (u *Updater) keepReserve() error {
	if info, err := u.disk.Lstat(u.path(reserveName)); err == nil && info.Size() == reserveSize {
		return nil
	}
	data := make([]byte, reserveSize)
	_, _ = rand.Read(data)
	if err := disk.Write(u.disk, u.path(reserveName), data, 0o600); err != nil {
		return &StateError{u.path(reserveName), err}
	}
	return nil
}

// lockJournal takes the turn of changing the journal, and reads it. The lock is held for moments, never over a transfer.
func (u *Updater) lockJournal(ctx context.Context) (j *journal, release func(), err error) {
	if release, err = u.lockAs(ctx, "lock"); err != nil {
		return nil, nil, err
	}
	if j, err = u.readJournal(); err != nil {
		release()
		return nil, nil, err
	}
	return j, release, nil
}

func (u *Updater) lockAs(ctx context.Context, name string) (release func(), err error) {
	if err := errors.Join(disk.MkdirAll(u.disk, u.dir, 0o700), u.checkPrivate()); err != nil {
		return nil, &StateError{u.dir, err}
	}
	release, err = filelock.Lock(ctx, u.path(name))
	if err != nil {
		return nil, &StateError{u.path(name), err}
	}
	return release, nil
}

// A StateError says that the updater's own folder cannot be used. When the app runs as a user who may not change the
// installation, it satisfies errors.Is(err, fs.ErrPermission).
type StateError struct {
	Path string
	Err  error
}

func (e *StateError) Error() string { return "update: state in " + e.Path + ": " + e.Err.Error() }
func (e *StateError) Unwrap() error { return e.Err }

// stagedPath is where a path of j.Staged is.
func (u *Updater) stagedPath(j *journal, path string) string {
	return u.path(stagingName, j.Folder, path)
}

// installID returns the random id that places this installation in rollouts. It never leaves the machine.
func (u *Updater) installID() (string, error) {
	path := u.path("install-id")
	if data, err := disk.ReadFile(u.disk, path, 64); err == nil && len(data) == 32 {
		return string(data), nil
	}
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // never fails, see crypto/rand
	id := hex.EncodeToString(raw[:])
	if err := errors.Join(disk.MkdirAll(u.disk, u.dir, 0o700), disk.Write(u.disk, path, []byte(id), 0o600)); err != nil {
		return "", &StateError{path, err}
	}
	return id, nil
}

// noteFailure counts a release's failure; bad ones are never tried again.
func (j *journal) noteFailure(v version, reason string, bad bool, now time.Time) {
	i := slices.IndexFunc(j.Failures, func(f failure) bool { return f.Manifest == v.Manifest })
	if i < 0 {
		if len(j.Failures) >= maxFailures { // the oldest goes, one that may be tried again first
			old := max(0, slices.IndexFunc(j.Failures, func(f failure) bool { return !f.Bad }))
			j.Failures = slices.Delete(j.Failures, old, old+1)
		}
		j.Failures = append(j.Failures, failure{Version: v.Version, Manifest: v.Manifest})
		i = len(j.Failures) - 1
	}
	f := &j.Failures[i]
	f.Reason, f.Tries, f.Last, f.Bad = reason, f.Tries+1, now.UTC().Truncate(time.Second), f.Bad || bad
}

// quarantined holds the manifests that must not be installed now, and why: rolled back once, or failed three times
// within a day.
func (j *journal) quarantined(now time.Time) map[string]string {
	list := map[string]string{}
	for _, f := range j.Failures {
		again := f.Last.Add(retryAfter)
		switch {
		case f.Bad:
			list[f.Manifest] = "it failed on this machine and was rolled back"
		case f.Tries >= maxTries && now.Before(again) && now.After(f.Last.Add(-retryAfter)):
			list[f.Manifest] = fmt.Sprintf("it failed %d times before it was installed (%s), and is tried again after %s", f.Tries, f.Reason, again.Format(time.RFC3339))
		}
	}
	return list
}
