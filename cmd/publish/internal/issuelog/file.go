package issuelog

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-dev/fairlead/internal/disk"
	"github.com/fairlead-dev/fairlead/internal/filelock"
)

const (
	maxLine = 64 << 10  // bytes
	maxFile = 512 << 20 // bytes: about a million lines
	turn    = 30 * time.Second
)

var zeros = strings.Repeat("0", 64)

// A Log is what a file says.
type Log struct {
	Entries []Entry
	Head    string // hash of the last line; of an empty log, zeros
	Torn    int    // bytes at the end that a crash left of a line

	hashes                   map[string]bool
	tokens, newest, answered map[string]int // index in Entries

	size    int64 // of the whole lines
	unended bool  // the last of them lacks its line break
	tail    []byte
}

// Has reports whether a line with this hash is in the log.
func (l *Log) Has(hash string) bool { return l.hashes[hash] }

// A BrokenError says that a log is not what was written: a line was changed, taken out or put in.
type BrokenError struct {
	Path    string
	Line    int // the first that does not fit
	Problem string
}

func (e *BrokenError) Error() string {
	return fmt.Sprintf("%s: line %d %s", e.Path, e.Line, e.Problem)
}

// ErrBusy says that somebody else has been writing to the log for all the time that Append waits.
var ErrBusy = errors.New("another publish is writing to the log")

// Read reads a log and checks every line of it. No file is an empty log. The error is a [*BrokenError], or one of reading;
// with a BrokenError the log has the lines before.
func Read(path string) (*Log, error) { return read(disk.OS, path) }

func read(fsys disk.FS, path string) (*Log, error) {
	log := &Log{Head: zeros, hashes: map[string]bool{}, tokens: map[string]int{}, newest: map[string]int{}, answered: map[string]int{}}
	f, err := fsys.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return log, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s has %d bytes; at most %d are read", path, info.Size(), maxFile)
	}
	lines := bufio.NewReaderSize(f, maxLine)
	for {
		line, err := lines.ReadSlice('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			if errors.Is(err, bufio.ErrBufferFull) {
				err = &BrokenError{path, len(log.Entries) + 1, "is longer than any line that is written"}
			}
			return log, err
		}
		line = bytes.Clone(line) // Peek moves the buffer
		_, next := lines.Peek(1)
		if done, err := log.add(line, next != nil); done || err != nil {
			if err != nil {
				err = &BrokenError{path, len(log.Entries) + 1, err.Error()}
			}
			return log, err
		}
	}
}

// add takes in one line; done says that it was what a crash left, or nothing.
func (l *Log) add(line []byte, last bool) (done bool, err error) {
	if len(line) == 0 {
		return true, nil
	}
	text, whole := bytes.CutSuffix(line, []byte("\n"))
	var e Entry
	err = l.check(text, &e)
	if err != nil && last && (!whole || bytes.IndexByte(text, 0) >= 0) {
		// Not acknowledged: it has no end, or blocks of it were never written, which read as zeros.
		l.Torn, l.tail = len(line), bytes.Clone(line)
		return true, nil
	}
	if err != nil {
		return false, err
	}
	l.take(e, text)
	l.size += int64(len(line))
	l.unended = !whole
	return !whole, nil
}

func (l *Log) check(text []byte, e *Entry) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	if err := dec.Decode(e); err != nil || dec.InputOffset() != int64(len(text)) {
		return errors.New("is no line of this log")
	}
	switch {
	case e.Version > Format:
		return fmt.Errorf("has format version %d, this program reads up to %d: update publish first", e.Version, Format)
	case e.Previous != l.Head && l.Head == zeros:
		return errors.New("is not the first line that was written: those before it are missing")
	case e.Previous != l.Head:
		return errors.New("does not follow the line before it: one of the two was changed, or lines between them are missing")
	case e.Number != int64(len(l.Entries))+1:
		return fmt.Errorf("has the number %d", e.Number)
	}
	return nil
}

func (l *Log) take(e Entry, text []byte) {
	l.Head = Hash(text)
	l.hashes[l.Head] = true
	if i := len(l.Entries); e.IsToken() {
		l.tokens[e.ID] = i
		if newest, ok := l.newest[e.LicenseID]; !ok || e.Seq >= l.Entries[newest].Seq {
			l.newest[e.LicenseID] = i
		}
		if e.Request != "" {
			l.answered[e.Request] = i
		}
	}
	l.Entries = append(l.Entries, e)
}

// Append adds the entries that decide returns, given the log as it stands, and returns the log with them. Nobody else
// writes meanwhile, so decide may refuse what the log forbids, such as answering a request twice: its error is returned,
// and nothing is written. When Append has returned without an error the lines are durable. It fills in what every line has:
// v, n, time and prev. Of the errors of its own, ErrBusy and [*BrokenError] are to be told apart.
func Append(ctx context.Context, path string, now time.Time, decide func(*Log) ([]Entry, error)) (*Log, error) {
	if err := disk.MkdirAll(disk.OS, filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	waiting, cancel := context.WithTimeout(ctx, turn)
	defer cancel()
	release, err := filelock.Lock(waiting, path+".lock")
	if err != nil {
		if ctx.Err() == nil && waiting.Err() != nil {
			return nil, ErrBusy
		}
		return nil, err
	}
	defer release()
	return appendTo(disk.OS, path, now, decide)
}

func appendTo(fsys disk.FS, path string, now time.Time, decide func(*Log) ([]Entry, error)) (*Log, error) {
	log, err := read(fsys, path)
	if err != nil {
		return nil, err
	}
	if log.Torn > 0 {
		if err := log.write(fsys, path, now, []Entry{{Action: Repair, Bytes: log.Torn, Reason: "a crash left part of a line, sha256 " + Hash(log.tail)}}); err != nil {
			return nil, err
		}
	}
	entries, err := decide(log)
	if err != nil || len(entries) == 0 {
		return log, err
	}
	return log, log.write(fsys, path, now, entries)
}

// write puts lines at the end of the whole ones. If that fails the file is as it was, or ends in part of a line.
func (l *Log) write(fsys disk.FS, path string, now time.Time, entries []Entry) (err error) {
	entries = slices.Clone(entries)
	lines := make([][]byte, len(entries))
	var text bytes.Buffer
	if l.unended {
		text.WriteByte('\n')
	}
	head := l.Head
	for i := range entries {
		e := &entries[i]
		e.Version, e.Number, e.Time, e.Previous = Format, int64(len(l.Entries)+i)+1, now.UTC().Truncate(time.Second), head
		if lines[i], err = json.Marshal(e); err != nil {
			return err
		}
		if len(lines[i]) >= maxLine {
			return fmt.Errorf("%s: a line of %d bytes; at most %d are written", path, len(lines[i]), maxLine)
		}
		head = Hash(lines[i])
		text.Write(append(lines[i], '\n'))
	}
	f, err := open(fsys, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := put(f, l.size, text.Bytes()); err != nil {
		_ = f.Truncate(l.size) // what is left otherwise reads as torn
		return err
	}
	if err := fsys.SyncDir(filepath.Dir(path)); err != nil { // of a new file, its name
		return err
	}
	for i, e := range entries {
		l.take(e, lines[i])
	}
	l.size += int64(text.Len())
	l.Torn, l.tail, l.unended = 0, nil, false
	return nil
}

func open(fsys disk.FS, path string) (disk.File, error) {
	f, err := fsys.Edit(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fsys.Create(path)
	}
	return f, err
}

func put(f disk.File, at int64, text []byte) error {
	if err := f.Truncate(at); err != nil {
		return err
	}
	if _, err := f.Seek(at, io.SeekStart); err != nil {
		return err
	}
	if _, err := f.Write(text); err != nil {
		return err
	}
	return f.Sync()
}
