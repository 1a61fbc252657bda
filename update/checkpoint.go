package update

import (
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/disk"
)

// A download in progress is HASH.part, with two checkpoints beside it, each the state of the hash at an offset:
//
//	HASH.part.kept   durable: written in one step, after the data before its offset was synced
//	HASH.part.now    written over and over, and never synced: what a process that was killed had got to
//
// A kill loses nothing that was written, so "now" counts for as long as the machine has not been started again, and so does
// what was written after it; later, and where nobody can tell, "now" counts only if the data up to it hashes to it, from
// "kept" on. Data without a checkpoint counts for nothing.
//
// Nothing here is trusted. A checkpoint that is damaged is ignored, and the file hashed again. One that was forged can make
// a wrong file look right to this process's hash, no further: files of an archive are verified by hashes of their own, a
// program is hashed before it is run ([Updater.vouch]), and everything before it is put in place. Then the download
// starts again, once.

const (
	keptSuffix = ".kept" // after the name of the file
	nowSuffix  = ".now"

	checkpointFormat = "fairlead part 1 "
	maxCheckpoint    = 16 << 10
)

// pace is how often checkpoints are written.
type pace struct {
	now, kept int64         // bytes
	after     time.Duration // and kept, on slow lines, after this long
}

func defaultPace() pace { return pace{now: 512 << 10, kept: 16 << 20, after: 10 * time.Second} }

// checkpoint is how far a download has got.
type checkpoint struct {
	SHA256    string `json:"sha256"` // of the whole file
	Length    int64  `json:"length"` // of the whole file
	Offset    int64  `json:"offset"`
	State     []byte `json:"state"`               // of the hash at offset
	Origin    string `json:"origin,omitempty"`    // whom the validator is from
	Validator string `json:"validator,omitempty"` // see trust.Body
	Boot      string `json:"boot,omitempty"`      // see disk.BootID
}

func (c *checkpoint) encode() ([]byte, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	return append([]byte(checkpointFormat+hex.EncodeToString(sum[:])+"\n"), append(body, '\n')...), nil
}

// decodeCheckpoint returns nil for what is none, of this blob. What follows its line is of an older, longer one.
func decodeCheckpoint(data []byte, b channel.Blob) *checkpoint {
	head, rest, _ := strings.Cut(string(data), "\n")
	body, _, whole := strings.Cut(rest, "\n")
	sum := sha256.Sum256([]byte(body))
	if !whole || head != checkpointFormat+hex.EncodeToString(sum[:]) {
		return nil
	}
	var c checkpoint
	if json.Unmarshal([]byte(body), &c) != nil || c.SHA256 != b.SHA256 || c.Length != b.Length || c.Offset < 0 || c.Offset > b.Length {
		return nil
	}
	if _, err := c.hash(); err != nil {
		return nil
	}
	return &c
}

// hash returns a hash that has read everything up to the offset.
func (c *checkpoint) hash() (hash.Hash, error) {
	h := sha256.New()
	return h, h.(encoding.BinaryUnmarshaler).UnmarshalBinary(c.State)
}

// marks writes and reads the checkpoints of one download.
type marks struct {
	disk disk.FS
	blob channel.Blob
	file disk.File // HASH.part
	path string    // of file
	boot string
	pace pace

	now           disk.File // open once it was written
	nowAt, keptAt int64
	keptWhen      time.Time
	givenUp       bool // writing them fails; the download does not
	busy          sync.WaitGroup
	mu            sync.Mutex
	writing       bool
	failed        error // of the sync of the data
}

func newMarks(fsys disk.FS, b channel.Blob, f disk.File, boot string, p pace) *marks {
	return &marks{disk: fsys, blob: b, file: f, path: f.Name(), boot: boot, pace: p, keptWhen: time.Now()}
}

func (m *marks) read(suffix string, size int64) *checkpoint {
	data, err := disk.ReadFile(m.disk, m.path+suffix, maxCheckpoint)
	if err != nil {
		return nil
	}
	c := decodeCheckpoint(data, m.blob)
	if c == nil || c.Offset > size {
		return nil
	}
	return c
}

// take returns the checkpoint to go on from, or nil, and cuts the file to what may be built on: to the checkpoint after the
// machine was started again, as what lies beyond may be anything then.
func (m *marks) take() (*checkpoint, error) {
	info, err := m.file.Stat()
	if err != nil || info.Size() == 0 {
		return nil, errors.Join(err, m.dropAll())
	}
	kept, now := m.read(keptSuffix, info.Size()), m.read(nowSuffix, info.Size())
	best := kept
	if now != nil && (kept == nil || now.Offset > kept.Offset) {
		right := m.sameBoot(now)
		if !right {
			if right, err = m.hashesTo(kept, now); err != nil {
				return nil, err
			}
		}
		if right {
			best = now
		}
	}
	// What is not believed now must not be believed later, when the file has grown past it.
	if kept == nil {
		err = m.drop(keptSuffix)
	} else {
		m.keptAt = kept.Offset
	}
	if best != now {
		err = errors.Join(err, m.drop(nowSuffix))
	}
	if best == nil {
		if info.Size() > m.pace.now { // less is hashed again, and in doubt
			err = errors.Join(err, m.file.Truncate(0))
		}
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	m.nowAt = best.Offset
	if m.sameBoot(best) || info.Size() == best.Offset {
		return best, nil
	}
	return best, m.file.Truncate(best.Offset)
}

func (m *marks) sameBoot(c *checkpoint) bool { return c.Boot != "" && c.Boot == m.boot }

// hashesTo reports whether the file holds, from one checkpoint on, what the other says.
func (m *marks) hashesTo(from, to *checkpoint) (bool, error) {
	h, at := sha256.New(), int64(0)
	if from != nil {
		var err error
		if h, err = from.hash(); err != nil {
			return false, nil
		}
		at = from.Offset
	}
	if _, err := io.CopyBuffer(h, io.NewSectionReader(m.file, at, to.Offset-at), make([]byte, copyBuffer)); err != nil {
		return false, err
	}
	state, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	return err == nil && string(state) == string(to.State), nil
}

// begins notes that a download has begun, so that even its first bytes outlast a kill.
func (m *marks) begins(h hash.Hash) { m.note(checkpoint{}, h) }

// ends notes that it is whole. Its error is that of a sync of the data.
func (m *marks) ends(c checkpoint, h hash.Hash) error {
	m.busy.Wait()
	if !m.givenUp {
		m.note(c, h)
	}
	return m.err()
}

func (m *marks) note(c checkpoint, h hash.Hash) {
	if m.blob.Length >= m.pace.now {
		m.write(c, h)
	}
}

// write writes "now", and returns what it holds. It gives up if that fails.
func (m *marks) write(c checkpoint, h hash.Hash) []byte {
	data, err := m.encode(&c, h)
	if err == nil {
		err = m.writeNow(data)
	}
	m.nowAt, m.givenUp = c.Offset, err != nil
	return data
}

// at is called whenever the hash has got further. It does not wait for the disk.
func (m *marks) at(c checkpoint, h hash.Hash) {
	urgent := c.Offset-m.keptAt >= m.pace.kept || time.Since(m.keptWhen) >= m.pace.after
	if m.givenUp || !urgent && c.Offset-m.nowAt < m.pace.now {
		return
	}
	data := m.write(c, h)
	if m.givenUp {
		return
	}
	if urgent && m.begin() {
		m.keptAt, m.keptWhen = c.Offset, time.Now()
		m.busy.Add(1)
		go func() {
			defer m.busy.Done()
			m.end(m.writeKept(data))
		}()
	}
}

func (m *marks) encode(c *checkpoint, h hash.Hash) ([]byte, error) {
	c.SHA256, c.Length, c.Boot = m.blob.SHA256, m.blob.Length, m.boot
	var err error
	if c.State, err = h.(encoding.BinaryMarshaler).MarshalBinary(); err != nil {
		return nil, err
	}
	return c.encode()
}

func (m *marks) writeNow(data []byte) (err error) {
	if m.now == nil {
		if err := m.disk.RemoveAll(m.path + nowSuffix); err != nil {
			return err
		}
		if m.now, err = m.disk.Create(m.path + nowSuffix); err != nil {
			m.now = nil
			return err
		}
	}
	if _, err := m.now.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err = m.now.Write(data)
	return err
}

// writeKept makes the data durable, then the checkpoint: never the other way about. Its error is that of the data.
func (m *marks) writeKept(data []byte) error {
	if err := m.file.Sync(); err != nil {
		return err
	}
	_ = disk.Write(m.disk, m.path+keptSuffix, data, 0o600) // the one before it is as true
	return nil
}

func (m *marks) begin() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.writing {
		return false
	}
	m.writing = true
	return true
}

func (m *marks) end(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writing = false
	m.failed = errors.Join(m.failed, err)
}

// err says that data could not be synced: a later sync may say nothing of it any more, and it may be lost.
func (m *marks) err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failed
}

// rest writes a durable checkpoint for whoever goes on another time, if it is worth it.
func (m *marks) rest(c checkpoint, h hash.Hash) error {
	m.busy.Wait()
	if c.Offset-m.keptAt < m.pace.now/8 || m.err() != nil {
		return m.err()
	}
	data, err := m.encode(&c, h)
	if err != nil {
		return nil
	}
	m.keptAt, m.keptWhen = c.Offset, time.Now()
	return m.writeKept(data)
}

// drop removes a checkpoint, for good.
func (m *marks) drop(suffix string) error {
	if _, err := m.disk.Lstat(m.path + suffix); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	err := m.disk.RemoveAll(m.path + suffix)
	if suffix == keptSuffix {
		err = errors.Join(err, m.disk.SyncDir(filepath.Dir(m.path)))
	}
	return err
}

// dropAll removes both, before what they are of is overwritten.
func (m *marks) dropAll() error {
	err := errors.Join(m.close(), m.drop(nowSuffix), m.drop(keptSuffix))
	m.nowAt, m.keptAt = 0, 0
	return err
}

func (m *marks) close() error {
	m.busy.Wait()
	if m.now == nil {
		return nil
	}
	err := m.now.Close()
	m.now = nil
	return err
}
