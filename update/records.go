package update

import (
	"encoding/json"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/disk"
)

// record is what is known of a version that is or was installed here, beside its digest. It is kept for as long as the
// version is: so it can be told again when files were put into its folder, and the user's files from the vendor's.
type record struct {
	// Signed is the release's file list. nil: it is not known, and any file may be the user's.
	Signed tree `json:"signed,omitempty"`
	// Holds are the files that the version cannot do without: those of Signed that nobody had changed when it was last
	// in place, or, if that is not known, what can be run.
	Holds tree `json:"holds"`
}

// records is where installers find them.
type records interface {
	record(digest string) (record, bool)
	all() map[string]record
}

// noRecords is for an installer that is a part of another one.
type noRecords struct{}

func (noRecords) record(string) (record, bool) { return record{}, false }
func (noRecords) all() map[string]record       { return nil }

const maxRecord = 16 << 20

func (u *Updater) recordPath(digest string) string { return u.path(recordsName, digest+".json") }

func (u *Updater) record(digest string) (r record, ok bool) {
	data, err := disk.ReadFile(u.disk, u.recordPath(digest), maxRecord)
	return r, err == nil && json.Unmarshal(data, &r) == nil // a damaged one is as good as none
}

func (u *Updater) all() map[string]record {
	entries, _ := u.disk.ReadDir(u.path(recordsName))
	found := map[string]record{}
	for _, e := range entries {
		digest, _ := strings.CutSuffix(e.Name(), ".json")
		if r, ok := u.record(digest); ok {
			found[digest] = r
		}
	}
	return found
}

// noteRecord keeps what is known of a version.
func (u *Updater) noteRecord(digest string, r record) error {
	data, err := json.Marshal(r)
	if err == nil {
		err = errors.Join(disk.MkdirAll(u.disk, u.path(recordsName), 0o700), disk.Write(u.disk, u.recordPath(digest), data, 0o600))
	}
	if err != nil {
		return &StateError{u.recordPath(digest), err}
	}
	return nil
}

// noteStagedRecord does it for what was unpacked from an artifact.
func (u *Updater) noteStagedRecord(a *channel.Artifact, digest string) error {
	i, ok := u.installer.(treeInstaller)
	if !ok {
		return nil
	}
	t, _, err := i.tree(a)
	if err != nil {
		return err
	}
	return u.noteRecord(digest, record{Signed: t, Holds: t})
}

// noteLeftRecord does it for the version in place, which is about to be left: as it is now. Its list is known if it came by
// update, or if the repository told it.
func (u *Updater) noteLeftRecord(up *Update, digest string) error {
	i, ok := u.installer.(treeInstaller)
	if !ok {
		return nil
	}
	have, program, err := i.scan()
	if err != nil {
		return &StateError{u.program(), err}
	}
	r, known := u.record(digest)
	if (!known || r.Signed == nil) && up.running != nil {
		if r.Signed, _, err = i.tree(up.running); err != nil {
			return err
		}
	}
	if r.Signed != nil {
		r.Holds = r.Signed.common(have)
	} else {
		r.Holds = slices.DeleteFunc(have, func(f channel.File) bool { return f.Path != program && f.Mode&0o111 == 0 })
	}
	return u.noteRecord(digest, r)
}

// spareRecords is how many records are kept beside those that are known to be needed: of versions whose folders are
// still there, and which were not worth being hashed.
const spareRecords = 8

func (u *Updater) dropRecords(needed []string) {
	entries, _ := u.disk.ReadDir(u.path(recordsName))
	var spare []fs.FileInfo
	for _, e := range entries {
		digest := strings.TrimSuffix(e.Name(), ".json")
		info, err := e.Info()
		if _, gone := u.disk.Lstat(u.path(gonePrefix + digest)); err == nil && errors.Is(gone, fs.ErrNotExist) && !slices.Contains(needed, digest) {
			spare = append(spare, info)
		}
	}
	slices.SortFunc(spare, func(a, b fs.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	for _, info := range spare[min(spareRecords, len(spare)):] {
		_ = u.disk.Remove(u.path(recordsName, info.Name()))
	}
}
