//go:build unix

package update_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	figuresMB    = flag.Int("figures.mb", 0, "measure downloads of an artifact of that many MiB, see bench/download")
	figuresKills = flag.Int("figures.kills", 50, "kill the download that often")
	figuresTurns = flag.Int("figures.turns", 3, "measure the throughput that often")
)

// A bigRelease is an artifact of random bytes in a repository behind nginx, and a job that stages it.
type bigRelease struct {
	t   *testing.T
	job benchJob
	n   *nginx
}

func newBigRelease(t *testing.T, mb int, server string) *bigRelease {
	t.Helper()
	v := newVendor(t)
	path := filepath.Join(t.TempDir(), "big")
	f, err := os.Create(path)
	require.NoError(t, err)
	h := sha256.New()
	size := int64(mb) << 20
	_, err = io.Copy(io.MultiWriter(f, h), io.LimitReader(rand.NewChaCha8([32]byte{}), size))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	v.releaseFile("1.1.0", path)
	require.NoError(t, os.Remove(path))
	n := newNginx(t, v.dir, server)
	return &bigRelease{t, benchJob{Name: "fairlead", URL: n.url, Root: v.root(), SHA256: hex.EncodeToString(h.Sum(nil)), Length: size}, n}
}

// fresh is the job on a fresh machine.
func (b *bigRelease) fresh() benchJob {
	b.t.Helper()
	job := b.job
	var err error
	job.Dir, err = os.MkdirTemp(b.t.TempDir(), "machine")
	require.NoError(b.t, err)
	return job
}

// part is the path of the download.
func (j benchJob) part() string {
	return filepath.Join(j.Dir, ".notes.fairlead", "staging", j.SHA256+".part")
}

// staged returns the path of what was staged.
func (j benchJob) staged() string {
	found, _ := filepath.Glob(filepath.Join(j.Dir, ".notes.fairlead", "staging", "new-*", "notes"))
	return strings.Join(found, " ")
}

// waste is what a download that was killed has cost more than one that was not.
type waste struct {
	kills  int
	reread int64 // bytes of the file that were read again from the disk
	again  int64 // bytes that were asked of the server again
	lost   int64 // bytes that the server sent, and that were on their way when the process was killed
}

// killed stages with kill -9 in between, at even distances, and compares what comes of it.
func (b *bigRelease) killed(kills int) waste {
	b.t.Helper()
	job := b.fresh()
	w := waste{}
	had := map[int64]bool{0: true}
	for i := range kills {
		size, now := b.killAt(job, b.job.Length*int64(i+1)/int64(kills+1))
		require.Positive(b.t, size)
		w.kills++
		w.reread += size - now
		had[size] = true
	}
	out, err := job.process(b.t.Context()).CombinedOutput()
	require.NoError(b.t, err, "%s", out)
	b.t.Logf("in the end: %s", bytes.TrimSpace(out))
	require.Equal(b.t, b.job.SHA256, hashOf(b.t, job.staged()))
	for _, s := range b.n.served() {
		var from int64
		if s.Range != "" {
			_, err := fmt.Sscanf(s.Range, "bytes=%d-", &from)
			require.NoError(b.t, err)
			require.Equal(b.t, 206, s.Status)
		}
		if !had[from] { // what it had written, it did not go on from
			w.again += nearest(had, from) - from
		}
		w.lost += s.Sent
	}
	w.lost -= b.job.Length + w.again
	return w
}

// nearest is the least of the offsets that is not below at.
func nearest(offsets map[int64]bool, at int64) int64 {
	var list []int64
	for o := range offsets {
		if o >= at {
			list = append(list, o)
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i] < list[j] })
	return append(list, at)[0]
}

// killAt runs the job until so much has arrived, kills it, and returns how much that was, and how far its checkpoint is.
func (b *bigRelease) killAt(job benchJob, at int64) (size, checkpoint int64) {
	b.t.Helper()
	cmd := job.process(b.t.Context())
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(b.t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	for killed := false; ; time.Sleep(time.Millisecond) {
		if info, err := os.Stat(job.part()); !killed && err == nil && info.Size() >= at {
			require.NoError(b.t, cmd.Process.Kill())
			killed = true
		}
		select {
		case <-ended:
			require.True(b.t, killed, "it ended before: %s", &out)
			info, err := os.Stat(job.part())
			require.NoError(b.t, err)
			return info.Size(), max(offsetIn(job.part()+".now"), offsetIn(job.part()+".kept"))
		default:
		}
	}
}

func offsetIn(path string) int64 {
	data, _ := os.ReadFile(path)
	_, body, _ := strings.Cut(string(data), "\n")
	var c struct{ Offset int64 }
	_ = json.NewDecoder(strings.NewReader(body)).Decode(&c)
	return c.Offset
}

func hashOf(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	h := sha256.New()
	_, err = io.Copy(h, f)
	require.NoError(t, err)
	return hex.EncodeToString(h.Sum(nil))
}

// A download outlasts kill -9, and goes on exactly where it was.
func TestNginxKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("seconds on real servers")
	}
	b := newBigRelease(t, 96, "limit_rate 48m;")
	w := b.killed(5)
	t.Logf("%d kills: %d bytes read again, %d asked for again, %d lost on the way", w.kills, w.reread, w.again, w.lost)
	require.Zero(t, w.again)
	require.Less(t, w.reread, int64(5*3<<20/2), "a checkpoint every 512 KiB, and a mebibyte in buffers")
}

// TestFigures measures. See bench/download.
func TestFigures(t *testing.T) {
	if *figuresMB == 0 {
		t.Skip("gigabytes: -figures.mb")
	}
	b := newBigRelease(t, *figuresMB, "")
	var ours, curls []float64
	peak := 0.0
	for range *figuresTurns {
		curl, hash := b.curl()
		require.Equal(t, b.job.SHA256, hash)
		curls = append(curls, curl)
		job := b.fresh()
		out, err := job.process(t.Context()).CombinedOutput()
		require.NoError(t, err, "%s", out)
		var seconds, mb float64
		_, err = fmt.Sscan(string(out), &seconds, &mb)
		require.NoError(t, err)
		ours, peak = append(ours, seconds), max(peak, mb)
		require.NoError(t, os.RemoveAll(job.Dir))
		t.Logf("curl | sha256sum %.1f s; Stage %.1f s, %.1f MB", curl, seconds, mb)
	}
	sort.Float64s(ours)
	sort.Float64s(curls)
	ratio := curls[len(curls)/2] / ours[len(ours)/2]
	t.Logf("%d MiB from nginx: Stage %.0f MB/s, curl | sha256sum %.0f MB/s, medians of %d: %.2f; at most %.1f MB resident", *figuresMB,
		float64(b.job.Length)/1e6/ours[len(ours)/2], float64(b.job.Length)/1e6/curls[len(curls)/2], *figuresTurns, ratio, peak)
	require.NoError(t, os.Truncate(b.n.log, 0))
	w := b.killed(*figuresKills)
	percent := func(n int64) float64 { return 100 * float64(n) / float64(b.job.Length) }
	t.Logf("killed %d times: %.2f %% of the bytes read again from the disk, %.2f %% asked of the server again, %.2f %% lost in the buffers of the connections", w.kills, percent(w.reread), percent(w.again), percent(w.lost))
	require.Less(t, peak, 40.0)
	require.Less(t, percent(w.reread+w.again), 2.0)
	require.Greater(t, ratio, 0.85)
}

// curl is the floor: the same file, to nowhere.
func (b *bigRelease) curl() (seconds float64, hash string) {
	b.t.Helper()
	url := b.n.url + "/blobs/sha256/" + b.job.SHA256[:2] + "/" + b.job.SHA256
	began := time.Now()
	out, err := exec.CommandContext(b.t.Context(), "sh", "-c", "curl -sf '"+url+"' | sha256sum").Output()
	require.NoError(b.t, err)
	return time.Since(began).Seconds(), strings.Fields(string(out))[0]
}
