package issuelog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/internal/disk/crashfs"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func token(lid string, seq int64) Entry {
	return Entry{Action: Issue, LicenseID: lid, Seq: seq, ID: fmt.Sprintf("%s-%d", lid, seq), Subject: Subject(lid, "customer-17")}
}

// logOf writes a log of n lines, and returns its path and its lines with their line breaks.
func logOf(t *testing.T, n int) (path string, lines []string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "keys", "licenses.log")
	for i := range n {
		_, err := Append(t.Context(), path, noon, func(*Log) ([]Entry, error) { return []Entry{token("L", int64(i)+1)}, nil })
		require.NoError(t, err)
	}
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	return path, strings.SplitAfter(strings.TrimSuffix(string(data), "\n"), "\n")
}

func TestAppendAndRead(t *testing.T) {
	path, lines := logOf(t, 3)
	require.Len(t, lines, 3)
	log, err := Read(path)
	require.NoError(t, err)
	require.Len(t, log.Entries, 3)
	require.Equal(t, zeros, log.Entries[0].Previous)
	require.Equal(t, Hash([]byte(strings.TrimSuffix(lines[0], "\n"))), log.Entries[1].Previous)
	require.Equal(t, Hash([]byte(lines[2])), log.Head)
	require.True(t, log.Has(log.Head))
	require.True(t, log.Has(log.Entries[1].Previous))
	require.False(t, log.Has(zeros))
	require.Equal(t, int64(3), log.Newest("L").Seq)
	require.Nil(t, log.Newest("M"))
	require.Equal(t, int64(2), log.Token("L-2").Seq)
	require.Nil(t, log.Answered(""), "no request is not answered")

	refused := errors.New("no")
	_, err = Append(t.Context(), path, noon, func(l *Log) ([]Entry, error) {
		require.Len(t, l.Entries, 3)
		return []Entry{token("L", 4)}, refused
	})
	require.ErrorIs(t, err, refused)
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, strings.Join(lines, "")+"\n", string(after), "a refusal writes nothing")

	log, err = Read(filepath.Join(t.TempDir(), "absent"))
	require.NoError(t, err)
	require.Empty(t, log.Entries)
}

// TestLong has more lines than fit into the buffer that they are read through.
func TestLong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "licenses.log")
	var many []Entry
	for seq := range int64(1000) {
		many = append(many, token("L", seq+1))
	}
	_, err := Append(t.Context(), path, noon, func(*Log) ([]Entry, error) { return many, nil })
	require.NoError(t, err)
	log, err := Read(path)
	require.NoError(t, err)
	require.Len(t, log.Entries, 1000)
	require.Equal(t, "L-1000", log.Entries[999].ID)
}

func TestSubject(t *testing.T) {
	require.Len(t, Subject("L-1", "customer-17"), 64)
	require.NotEqual(t, Subject("L-1", "customer-17"), Subject("L-2", "customer-17"), "two licences of one customer look different")
	require.NotEqual(t, Subject("L-1", "1"), Subject("L-11", ""), "no two pairs run together")
}

// TestTampering: whatever is done to a line that has a line after it is noticed, and nothing is added to such a log.
func TestTampering(t *testing.T) {
	for name, c := range map[string]struct {
		change func(lines []string) []string
		line   int
	}{
		"changed":     {func(l []string) []string { l[1] = strings.Replace(l[1], `"seq":2`, `"seq":9`, 1); return l }, 3},
		"taken out":   {func(l []string) []string { return append(l[:1:1], l[2:]...) }, 2},
		"first gone":  {func(l []string) []string { return l[1:] }, 1},
		"put in":      {func(l []string) []string { return append(l[:2:2], l[1], l[2], l[3]) }, 3},
		"exchanged":   {func(l []string) []string { l[1], l[2] = l[2], l[1]; return l }, 2},
		"no JSON":     {func(l []string) []string { l[1] = "rubbish\n"; return l }, 2},
		"empty line":  {func(l []string) []string { l[1] = "\n"; return l }, 2},
		"zeros":       {func(l []string) []string { l[1] = strings.Repeat("\x00", 40) + "\n"; return l }, 2},
		"more on it":  {func(l []string) []string { l[1] = strings.TrimSuffix(l[1], "\n") + "{}\n"; return l }, 2},
		"very long":   {func(l []string) []string { l[1] = strings.Repeat("x", 1<<20) + "\n"; return l }, 2},
		"newer":       {func(l []string) []string { l[1] = strings.Replace(l[1], `"v":1`, `"v":2`, 1); return l }, 2},
		"last, ended": {func(l []string) []string { l[3] = "{\n"; return l }, 4},
	} {
		path, lines := logOf(t, 4)
		tampered := strings.TrimSuffix(strings.Join(c.change(lines), ""), "\n") + "\n"
		require.NoError(t, os.WriteFile(path, []byte(tampered), 0o600))
		log, err := Read(path)
		var broken *BrokenError
		require.ErrorAs(t, err, &broken, name)
		require.Equal(t, c.line, broken.Line, name)
		require.Len(t, log.Entries, c.line-1, name)
		_, err = Append(t.Context(), path, noon, func(*Log) ([]Entry, error) { return []Entry{token("L", 9)}, nil })
		require.ErrorAs(t, err, &broken, name)
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, tampered, string(after), name)
	}
}

// TestTorn cuts the last line at every byte, as a crash may.
func TestTorn(t *testing.T) {
	path, lines := logOf(t, 2)
	whole, last := lines[0], lines[1]
	for n := 1; n <= len(last); n++ {
		require.NoError(t, os.WriteFile(path, []byte(whole+last[:n]), 0o600))
		log, err := Read(path)
		require.NoError(t, err)
		kept := 1
		if n == len(last) { // all but its line break: it may have been acknowledged
			kept = 2
		}
		require.Len(t, log.Entries, kept)
		require.Equal(t, kept == 1, log.Torn == n)
		if n%40 != 0 && n < len(last)-1 { // each costs a sync
			continue
		}
		_, err = Append(t.Context(), path, noon, func(l *Log) ([]Entry, error) {
			require.Len(t, l.Entries, 2)
			return []Entry{token("L", 3)}, nil
		})
		require.NoError(t, err)
		log, err = Read(path)
		require.NoError(t, err)
		require.Len(t, log.Entries, 3)
		require.Equal(t, kept == 1, log.Entries[1].Action == Repair)
		require.Equal(t, int64(3), log.Entries[2].Seq)
	}
	zeroed := whole + last[:50] + strings.Repeat("\x00", len(last)-51) + "\n"
	require.NoError(t, os.WriteFile(path, []byte(zeroed), 0o600))
	log, err := Read(path)
	require.NoError(t, err)
	require.Equal(t, len(last), log.Torn, "blocks that were never written")
}

// TestPowerLoss loses power at every operation of three Appends: what was acknowledged is there, the chain holds, and the
// next Append works.
func TestPowerLoss(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	one := func(fsys *crashfs.FS, seq int64) error {
		_, err := appendTo(fsys, "/licenses.log", noon, func(*Log) ([]Entry, error) {
			return []Entry{{Action: Issue, LicenseID: "L", Seq: seq}}, nil
		})
		return err
	}
	states := 0
	for stop := 0; ; stop++ {
		disk := crashfs.New()
		disk.Zeros = true
		disk.StopAfter(stop)
		acknowledged := int64(0)
		for seq := int64(1); seq <= 3 && one(disk, seq) == nil; seq++ {
			acknowledged = seq
		}
		full := content(disk.Clone())
		for _, after := range disk.Crashes(rng, 60) {
			if got := content(after); len(full) > 1 && got != "" && got == full[:len(full)/2] {
				continue // the model takes a file to be written anew; one that is added to does not lose its synced beginning
			}
			states++
			log, err := read(after, "/licenses.log")
			require.NoError(t, err)
			for seq := int64(1); seq <= acknowledged; seq++ {
				require.Greater(t, len(log.Entries), int(seq)-1, "lost after operation %d", stop)
				require.Equal(t, seq, log.Entries[seq-1].Seq)
			}
			require.NoError(t, one(after, 9))
			log, err = read(after, "/licenses.log")
			require.NoError(t, err)
			require.Equal(t, int64(9), log.Entries[len(log.Entries)-1].Seq)
			require.Zero(t, log.Torn)
		}
		if acknowledged == 3 {
			break
		}
	}
	require.Greater(t, states, 20)
}

func content(fsys *crashfs.FS) string {
	f, err := fsys.Open("/licenses.log")
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(f)
	if err != nil {
		return ""
	}
	return string(data)
}

// TestFailing has every operation fail once: the log stays readable, and what failed is not half there.
func TestFailing(t *testing.T) {
	for failing := 1; ; failing++ {
		disk := crashfs.New()
		disk.Fail = func(n int, _, _ string) error {
			if n == failing {
				return errors.New("no space left on device")
			}
			return nil
		}
		failed := false
		for seq := int64(1); seq <= 2; seq++ {
			_, err := appendTo(disk, "/licenses.log", noon, func(*Log) ([]Entry, error) { return []Entry{token("L", seq)}, nil })
			failed = failed || err != nil
		}
		log, err := read(disk, "/licenses.log")
		require.NoError(t, err, failing)
		require.NotEmpty(t, log.Entries, failing)
		if !failed {
			require.Greater(t, failing, 4)
			return
		}
	}
}

// TestManyAtOnce: two that write take turns, each on what the other wrote.
func TestManyAtOnce(t *testing.T) {
	path, _ := logOf(t, 1)
	var wg sync.WaitGroup
	errs := make(chan error, 40)
	for range 4 {
		wg.Go(func() {
			for range 10 {
				_, err := Append(t.Context(), path, noon, func(l *Log) ([]Entry, error) {
					return []Entry{token("L", l.Newest("L").Seq+1)}, nil
				})
				errs <- err
			}
		})
	}
	wg.Wait()
	for range 40 {
		require.NoError(t, <-errs)
	}
	log, err := Read(path)
	require.NoError(t, err)
	require.Equal(t, int64(41), log.Newest("L").Seq, "no number was given twice")
	require.Len(t, log.Entries, 41)
}

func FuzzRead(f *testing.F) {
	path := filepath.Join(f.TempDir(), "licenses.log")
	for i := range 3 {
		_, err := Append(f.Context(), path, noon, func(*Log) ([]Entry, error) { return []Entry{token("L", int64(i)+1)}, nil })
		require.NoError(f, err)
	}
	whole, err := os.ReadFile(path)
	require.NoError(f, err)
	f.Add(whole)
	f.Add(whole[:len(whole)-10])
	f.Add([]byte("{}\n"))
	f.Add([]byte("null\nnull\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		disk := crashfs.New()
		file, err := disk.Create("/licenses.log")
		require.NoError(t, err)
		_, err = file.Write(data)
		require.NoError(t, err)
		_, err = appendTo(disk, "/licenses.log", noon, func(*Log) ([]Entry, error) { return []Entry{token("M", 1)}, nil })
		if err != nil {
			return
		}
		log, err := read(disk, "/licenses.log")
		require.NoError(t, err, "what was taken is a log again")
		require.Equal(t, "M", log.Entries[len(log.Entries)-1].LicenseID)
		if log.Entries[0].Action != Repair && bytes.Count(data, []byte("\n")) > 1 {
			require.Equal(t, zeros, log.Entries[0].Previous)
		}
	})
}
