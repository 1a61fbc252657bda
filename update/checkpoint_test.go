//go:build unix

package update_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/internal/disk"
	"github.com/fairlead-dev/fairlead/internal/disk/crashfs"
	"github.com/fairlead-dev/fairlead/update"
)

// tap is a source that counts what it delivers of artifacts, and cuts every answer.
type tap struct {
	update.Source
	cut int64 // bytes of an answer; 0: all

	mu      sync.Mutex
	offsets []int64
	bytes   int64
}

func (s *tap) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	r, err := s.Source.Open(ctx, name, offset)
	if err != nil || !strings.HasPrefix(name, "blobs/") {
		return r, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offsets = append(s.offsets, offset)
	limited := io.Reader(r)
	if s.cut > 0 {
		limited = io.LimitReader(r, s.cut)
	}
	return struct {
		io.Reader
		io.Closer
	}{counter{limited, s}, r}, nil
}

type counter struct {
	io.Reader
	s *tap
}

func (c counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.bytes += int64(n)
	return n, err
}

// answering returns a program of a version, of that many bytes, that passes the probe.
func answering(version string, size int) []byte {
	script := fmt.Appendf(nil, "#!/bin/sh\nprintf '\\n{\"fairlead_probe\":\"%%s\",\"product\":\"notes\",\"version\":\"%s\"}\\n' \"$FAIRLEAD_PROBE\"\nexit 0\n", version)
	for i := 0; len(script) < size; i++ {
		script = fmt.Appendf(script, "# %x\n", sha256.Sum256(fmt.Append(nil, version, i)))
	}
	return append(script[:size-len("\nversion=")-len(version)-1], "\nversion="+version+"\n"...)
}

const gotSo = 1<<20 - 100

// half is a machine on which half of an update has been downloaded by a process that is gone.
type half struct {
	*machine
	content []byte
	part    string // path
	source  *tap
	update  *update.Update
}

func newHalf(t *testing.T, change ...func(*update.Config)) *half {
	t.Helper()
	v := newVendor(t)
	h := &half{content: answering("1.1.0", 3<<20), source: &tap{Source: update.FS(os.DirFS(v.dir)), cut: gotSo}}
	v.release("1.1.0", h.content)
	h.machine = newMachine(t, v, "1.0.0", append(change, func(c *update.Config) { c.Source, c.Download.Tries = h.source, 1 })...)
	u := h.start()
	h.update = check(t, u).Update
	h.part = filepath.Join(update.Dir(u), "staging", digest(h.content)+".part")
	h.source.cut = gotSo
	require.Error(t, u.Stage(t.Context(), h.update, nil), "cut, after too little to be tried again")
	h.source.cut, h.source.offsets, h.source.bytes = 0, nil, 0
	require.FileExists(t, h.part+".kept")
	require.FileExists(t, h.part+".now")
	return h
}

// forge rewrites the checkpoints, with a checksum that is right.
func (h *half) forge(change func(c map[string]any)) {
	h.t.Helper()
	for _, suffix := range []string{".kept", ".now"} {
		data, err := os.ReadFile(h.part + suffix)
		require.NoError(h.t, err)
		_, body, _ := strings.Cut(string(data), "\n")
		var c map[string]any
		require.NoError(h.t, json.NewDecoder(strings.NewReader(body)).Decode(&c))
		change(c)
		fresh, err := json.Marshal(c)
		require.NoError(h.t, err)
		sum := sha256.Sum256(fresh)
		require.NoError(h.t, os.WriteFile(h.part+suffix, []byte("fairlead part 1 "+hex.EncodeToString(sum[:])+"\n"+string(fresh)+"\n"), 0o600))
	}
}

func stateAfter(t *testing.T, data []byte) []byte {
	t.Helper()
	hash := sha256.New()
	hash.Write(data)
	state, err := hash.(encoding.BinaryMarshaler).MarshalBinary()
	require.NoError(t, err)
	return state
}

// finish stages and applies in a fresh process, as often as it takes, and returns how often.
func (h *half) finish(most int) (tries int) {
	h.t.Helper()
	for {
		tries++
		u := h.process()
		require.NoError(h.t, errors.Join(check(h.t, u).Err))
		err := u.Stage(h.t.Context(), h.update, nil)
		if err == nil {
			err = u.Apply(h.t.Context(), h.update)
		}
		if err == nil {
			got, err := os.ReadFile(h.program)
			require.NoError(h.t, err)
			require.Equal(h.t, digest(h.content), digest(got))
			for _, suffix := range []string{"", ".kept", ".now"} {
				require.NoFileExists(h.t, h.part+suffix)
			}
			return tries
		}
		require.Less(h.t, tries, most, "it fails for ever: %v", err)
		die(h.machine, u)
	}
}

// A checkpoint can be anything. It costs a restart of the download at most, and never a wrong program.
func TestHostileCheckpoint(t *testing.T) {
	evil := func(h *half) []byte {
		return bytes.Repeat([]byte("#!/bin/sh\ntouch /tmp/evil\n"), 200_000)[:len(h.content)]
	}
	for name, c := range map[string]struct {
		do       func(h *half)
		restarts bool
	}{
		"as it was left":        {func(*half) {}, false},
		"both are gone":         {func(h *half) { h.remove(".kept", ".now") }, false},
		"one is gone":           {func(h *half) { h.remove(".kept") }, false},
		"the other is gone":     {func(h *half) { h.remove(".now") }, false},
		"the file is gone":      {func(h *half) { h.remove("") }, true},
		"torn":                  {func(h *half) { h.cut(".kept", 100); h.cut(".now", 100) }, false},
		"empty":                 {func(h *half) { h.cut(".kept", 0); h.cut(".now", 0) }, false},
		"one byte is another":   {func(h *half) { h.flip(".kept"); h.flip(".now") }, false},
		"of another blob":       {func(h *half) { h.forge(func(c map[string]any) { c["sha256"] = digest([]byte("x")) }) }, false},
		"negative offset":       {func(h *half) { h.forge(func(c map[string]any) { c["offset"] = -1 }) }, false},
		"offset beyond the end": {func(h *half) { h.forge(func(c map[string]any) { c["offset"] = len(h.content) + 1 }) }, false},
		"no state":              {func(h *half) { h.forge(func(c map[string]any) { c["state"] = "" }) }, false},
		"state of nothing":      {func(h *half) { h.forge(func(c map[string]any) { c["state"] = stateAfter(h.t, nil) }) }, true},
		"state of other bytes":  {func(h *half) { h.forge(func(c map[string]any) { c["state"] = stateAfter(h.t, evil(h)[:gotSo]) }) }, true},
		"header in the validator": {func(h *half) {
			h.forge(func(c map[string]any) { c["validator"], c["origin"] = "\"a\"\r\nX: y", "" })
		}, false},
		"the bytes are others": {func(h *half) { h.overwrite(evil(h)[:gotSo]) }, true},
		"all bytes are others": {func(h *half) {
			h.overwrite(evil(h))
			h.forge(func(c map[string]any) { c["offset"], c["state"] = len(h.content), stateAfter(h.t, h.content) })
		}, true},
		"a folder in its place": {func(h *half) {
			for _, suffix := range []string{".kept", ".now"} {
				h.remove(suffix)
				require.NoError(h.t, os.MkdirAll(filepath.Join(h.part+suffix, "deep"), 0o700))
			}
		}, false},
		"the file is longer": {func(h *half) { h.overwrite(append(bytes.Clone(h.content), 'x')) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it waits for the disk
			for _, probed := range []bool{true, false} {
				h := newHalf(t, func(c *update.Config) { c.Trial.InsecureSkipProbe = !probed })
				c.do(h)
				tries := h.finish(3)
				if probed {
					require.Equal(t, 1, tries, "what was deceived is found out before anything is run")
				} else {
					require.LessOrEqual(t, tries, 2, "or, at the latest, before it is put in place")
				}
				if c.restarts {
					require.LessOrEqual(t, h.source.bytes, int64(len(h.content))*2, "one restart")
				} else {
					require.LessOrEqual(t, h.source.bytes, int64(len(h.content)), "at most the whole file")
				}
				if name == "as it was left" {
					require.EqualValues(t, len(h.content)-gotSo, h.source.bytes, "only the rest")
				}
			}
		})
	}
}

func (h *half) remove(suffixes ...string) {
	h.t.Helper()
	for _, s := range suffixes {
		require.NoError(h.t, os.Remove(h.part+s))
	}
}

func (h *half) cut(suffix string, size int64) {
	h.t.Helper()
	require.NoError(h.t, os.Truncate(h.part+suffix, size))
}

func (h *half) flip(suffix string) {
	h.t.Helper()
	data, err := os.ReadFile(h.part + suffix)
	require.NoError(h.t, err)
	data[bytes.IndexByte(data, '\n')+20] ^= 1
	require.NoError(h.t, os.WriteFile(h.part+suffix, data, 0o600))
}

func (h *half) overwrite(data []byte) {
	h.t.Helper()
	require.NoError(h.t, os.WriteFile(h.part, data, 0o600))
}

// Power is lost, or the process killed, at every operation of a download that writes checkpoints often. The next
// process goes on, from a state that is right: no download starts again because of what a crash has left.
func TestDownloadCrashes(t *testing.T) {
	v := newVendor(t)
	content := answering("1.1.0", 6000)
	v.release("1.1.0", content)
	honest := update.FS(os.DirFS(v.dir))
	drops := wrapBlobs(honest, func(r io.Reader) io.Reader { return &dripping{r, 200} })
	l := layouts[0]
	h := l.build(t, v, "1.0.0")
	h.disk.Zeros = true
	h.change = append(h.change, func(c *update.Config) { c.Source, c.Download.Tries = drops, 1 })
	first, err := update.NewOn(h.disk, h.config("1.0.0"))
	require.NoError(t, err)
	h.first = first
	up := check(t, update.Unmanaged(first)).Update
	h.disk.Settle()

	var log strings.Builder
	stage := func(d *crashfs.FS, boot string, tap *tap) error {
		x := h.on(d)
		cfg := x.config("1.0.0")
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		if tap != nil {
			cfg.Source = tap
		}
		u, err := update.Reborn(first, d, cfg)
		require.NoError(t, err)
		update.SetCheckpoints(u, 300, 1000, boot)
		defer die(x.machine, u)
		return u.Stage(t.Context(), up, nil)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	part := filepath.Join(update.Dir(first), "staging", digest(content)+".part")
	states, kills, resumed := 0, 0, 0
	next := func(d *crashfs.FS, boot, where string) {
		before, _ := d.Lstat(part)
		tap := &tap{Source: honest}
		log.Reset()
		require.NoError(t, stage(d, boot, tap), where)
		require.Equal(t, digest(content), digest(stagedOn(t, d, filepath.Dir(part))), "%s: a crash, and nothing worse, has left a wrong checkpoint", where)
		require.NotContains(t, log.String(), "starting the file again", "%s: a crash, and nothing worse, has left a wrong checkpoint", where)
		require.LessOrEqual(t, len(tap.offsets), 1, where)
		if len(tap.offsets) == 1 && tap.offsets[0] > 0 {
			resumed++
		}
		if boot == "first" && before != nil && len(tap.offsets) == 1 {
			require.Equal(t, before.Size(), tap.offsets[0], "%s: a kill loses nothing that was written", where)
		}
	}
	for n := 0; ; n++ {
		d := h.disk.Clone()
		d.StopAfter(n)
		err := stage(d, "first", nil)
		if !d.Dead() {
			require.NoError(t, err)
			break
		}
		killed := d.Clone()
		killed.StopAfter(1 << 40)
		next(killed, "first", fmt.Sprintf("killed at %d", n))
		kills++
		if n%2 == 1 {
			continue
		}
		for i, state := range d.Crashes(rng, 24) {
			boots := []string{"second", ""}
			for _, boot := range boots[:1+i%4/3] {
				next(state.Clone(), boot, fmt.Sprintf("power lost at %d, state %d, boot %q", n, i, boot))
				states++
			}
		}
	}
	t.Logf("%d kills, %d states after a loss of power, %d went on in the middle", kills, states, resumed)
	require.Greater(t, kills, 50)
	require.Greater(t, resumed, kills)
}

// stagedOn returns the program that was staged.
func stagedOn(t *testing.T, d *crashfs.FS, dir string) []byte {
	t.Helper()
	entries, err := d.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "new-") {
			data, err := disk.ReadFile(d, filepath.Join(dir, e.Name(), "notes"), 1<<20)
			require.NoError(t, err)
			return data
		}
	}
	return nil
}

// dripping delivers few bytes at a time.
type dripping struct {
	r io.Reader
	n int
}

func (d *dripping) Read(p []byte) (int, error) { return d.r.Read(p[:min(d.n, len(p))]) }

// The data could not be synced: what the file holds is not known, and it is not built on.
func TestSyncOfDataFails(t *testing.T) {
	v := newVendor(t)
	content := answering("1.1.0", 6000)
	v.release("1.1.0", content)
	h := layouts[0].build(t, v, "1.0.0")
	u, err := update.NewOn(h.disk, h.config("1.0.0"))
	require.NoError(t, err)
	update.SetCheckpoints(u, 300, 1000, "first")
	up := check(t, u).Update
	part := filepath.Join(update.Dir(u), "staging", digest(content)+".part")
	h.disk.Fail = func(_ int, name, path string) error {
		if name == "sync" && path == part {
			return errors.New("input/output error")
		}
		return nil
	}
	var state *update.StateError
	require.ErrorAs(t, u.Stage(t.Context(), up, nil), &state)
	_, err = h.disk.Lstat(part)
	require.ErrorIs(t, err, os.ErrNotExist)
	h.disk.Fail = nil
	require.NoError(t, u.Stage(t.Context(), up, nil))
	staged, err := disk.ReadFile(h.disk, part, 1)
	require.Error(t, err, "%q", staged)
}

// When a file begins again, what the checkpoint said of its bytes is forgotten before they are gone.
func TestRestartForgetsCheckpoints(t *testing.T) {
	v := newVendor(t)
	content := answering("1.1.0", 3<<20)
	v.release("1.1.0", content)
	files := http.FileServer(http.Dir(v.dir))
	var second, forgotten atomic.Bool
	m := newMachine(t, v, "1.0.0")
	part := filepath.Join(update.Dir(m.start()), "staging", digest(content)+".part")
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !strings.HasPrefix(req.URL.Path, "/blobs/") {
			files.ServeHTTP(w, req)
			return
		}
		tag, cut := `"a"`, gotSo
		if second.Load() {
			tag, cut = `"b"`, 300_000
		}
		w.Header().Set("ETag", tag)
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		_, _ = w.Write(content[:cut])
		_ = http.NewResponseController(w).Flush()
		if second.Load() {
			for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
				if info, err := os.Stat(part); err == nil && info.Size() == int64(cut) {
					break
				}
			}
			_, err := os.Stat(part + ".kept")
			forgotten.Store(errors.Is(err, os.ErrNotExist))
		}
		panic(http.ErrAbortHandler)
	}))
	defer srv.Close()
	s, err := update.HTTP(srv.URL, nil)
	require.NoError(t, err)
	u := m.process(func(c *update.Config) { c.Source, c.Download.Tries = s, 1 })
	d := check(t, u)
	require.Error(t, u.Stage(t.Context(), d.Update, nil))
	require.FileExists(t, part+".kept")
	second.Store(true)
	require.Error(t, u.Stage(t.Context(), d.Update, nil))
	require.True(t, forgotten.Load())
}
