//go:build unix

package update_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/license"
	"github.com/fairlead-dev/fairlead/tufrepo"
	"github.com/fairlead-dev/fairlead/update"
)

// BenchmarkStage stages a large artifact from a server on loopback, beside the floor (the same bytes from a file through
// SHA-256 to a file, with fsync) and go-tuf's own DownloadTarget. Each runs in a process of its own, in turns, so that
// the peak memory is its own:
//
//	go test ./update -run '^$' -bench Stage -benchtime 5x
//
// FAIRLEAD_BENCH_MB sets the size; the default is 500.
func BenchmarkStage(b *testing.B) {
	size := 500
	if s := os.Getenv("FAIRLEAD_BENCH_MB"); s != "" {
		var err error
		size, err = strconv.Atoi(s)
		require.NoError(b, err)
	}
	j := newBenchJob(b, size)
	jobs := []string{"fairlead", "copy", "go-tuf"}
	seconds, memory := map[string]float64{}, map[string]float64{}
	for b.Loop() {
		for _, name := range jobs {
			s, m := j.run(b, name)
			seconds[name] += s
			memory[name] = max(memory[name], m)
		}
	}
	for _, name := range jobs {
		b.ReportMetric(float64(b.N*size)/seconds[name], name+"-MB/s")
		b.ReportMetric(memory[name], name+"-peak-MB")
	}
	b.ReportMetric(seconds["copy"]/seconds["fairlead"], "throughput/copy")
	b.ReportMetric(seconds["copy"]/seconds["go-tuf"], "go-tuf-throughput/copy")
	b.ReportMetric(0, "ns/op")
}

const benchVariable = "FAIRLEAD_BENCH_JOB"

// benchJob is what the processes of BenchmarkStage are told.
type benchJob struct {
	Name     string
	URL      string
	Root     []byte
	File     string // the artifact as a file, for the copy
	SHA256   string
	Length   int64
	Version  string
	Platform string
	Dir      string // fresh, or of an earlier process that was killed
	CAs      []byte
}

func newBenchJob(b *testing.B, size int) *benchJob {
	b.Helper()
	v := newVendorTB(b)
	path := filepath.Join(b.TempDir(), "big")
	writeRandom(b, path, size<<20)
	v.releaseFile("1.1.0", path)
	server := httptest.NewServer(http.FileServer(http.Dir(v.dir)))
	b.Cleanup(server.Close)
	data, err := os.Open(path)
	require.NoError(b, err)
	h := sha256.New()
	n, err := io.Copy(h, data)
	require.NoError(b, err)
	return &benchJob{URL: server.URL, Root: v.root(), File: path, SHA256: hex.EncodeToString(h.Sum(nil)), Length: n}
}

func writeRandom(b *testing.B, path string, size int) {
	b.Helper()
	f, err := os.Create(path)
	require.NoError(b, err)
	var seed [32]byte
	_, err = io.Copy(f, io.LimitReader(rand.NewChaCha8(seed), int64(size)))
	require.NoError(b, errors.Join(err, f.Close()))
}

// run runs one job in a process of its own and returns its seconds and its peak memory in MB.
func (j *benchJob) run(b *testing.B, name string) (seconds, peak float64) {
	b.Helper()
	job := *j
	job.Name, job.Dir = name, b.TempDir()
	text, err := json.Marshal(job)
	require.NoError(b, err)
	cmd := exec.CommandContext(b.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), benchVariable+"="+string(text))
	output, err := cmd.Output()
	require.NoError(b, err, "%s", output)
	_, err = fmt.Sscan(string(output), &seconds, &peak)
	require.NoError(b, err)
	require.NoError(b, os.RemoveAll(job.Dir))
	return seconds, peak
}

// peakMemory returns the most memory, in MB, that this process has had resident.
func peakMemory() float64 {
	// What getrusage tells on Linux includes the process that forked this one, from before exec.
	status, err := os.ReadFile("/proc/self/status")
	if _, line, found := strings.Cut(string(status), "VmHWM:"); err == nil && found {
		var kB float64
		_, _ = fmt.Sscan(line, &kB)
		return kB * 1024 / 1e6
	}
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return float64(u.Maxrss) / 1e6
}

// benchMain is the process of one job. It prints the seconds of the transfer alone.
func benchMain(text string) int {
	var job benchJob
	if err := json.Unmarshal([]byte(text), &job); err != nil {
		return fail(err)
	}
	jobs := map[string]func(benchJob) (func() error, error){
		"fairlead": benchFairlead, "copy": benchCopy, "go-tuf": benchGoTUF, "check": benchCheck, "go-tuf-check": benchGoTUFCheck,
	}
	transfer, err := jobs[job.Name](job)
	if err != nil {
		return fail(err)
	}
	began := time.Now()
	if err := transfer(); err != nil {
		return fail(err)
	}
	fmt.Println(time.Since(began).Seconds(), peakMemory())
	return 0
}

func benchFairlead(job benchJob) (func() error, error) {
	program := filepath.Join(job.Dir, "notes")
	if err := os.WriteFile(program, []byte("old"), 0o755); err != nil {
		return nil, err
	}
	source, err := update.HTTPWith(job.URL, update.HTTPConfig{RootCAs: job.CAs})
	if err != nil {
		return nil, err
	}
	up, err := update.New(update.Config{
		Product: "notes", Channel: "stable", Version: "1.0.0", Root: job.Root, Source: source, Installer: update.Executable{Path: program},
		Trial: update.Trial{InsecureSkipProbe: true}, Now: func() time.Time { return start.Add(time.Hour) },
	})
	if err != nil {
		return nil, err
	}
	d, err := up.Check(noTest)
	if err != nil {
		return nil, err
	}
	return func() error { return up.Stage(noTest, d.Update, nil) }, nil
}

func benchCopy(job benchJob) (func() error, error) {
	return func() error {
		in, err := os.Open(job.File)
		if err != nil {
			return err
		}
		out, err := os.Create(filepath.Join(job.Dir, "copy"))
		if err != nil {
			return err
		}
		h := sha256.New()
		if _, err := io.CopyBuffer(io.MultiWriter(out, h), struct{ io.Reader }{in}, make([]byte, 256<<10)); err != nil {
			return err
		}
		if hex.EncodeToString(h.Sum(nil)) != job.SHA256 {
			return errors.New("wrong hash")
		}
		return errors.Join(out.Sync(), out.Close(), in.Close())
	}, nil
}

func goTUF(job benchJob) (*updater.Updater, error) {
	cfg, err := config.New(job.URL+"/metadata", job.Root)
	if err != nil {
		return nil, err
	}
	cfg.LocalMetadataDir, cfg.LocalTargetsDir = filepath.Join(job.Dir, "md"), filepath.Join(job.Dir, "tg")
	cfg.PrefixTargetsWithHash = false
	if err := errors.Join(os.Mkdir(cfg.LocalMetadataDir, 0o700), os.Mkdir(cfg.LocalTargetsDir, 0o700)); err != nil {
		return nil, err
	}
	up, err := updater.New(cfg)
	if err == nil {
		up.UnsafeSetRefTime(start.Add(time.Hour))
	}
	return up, err
}

func benchGoTUF(job benchJob) (func() error, error) {
	up, err := goTUF(job)
	if err != nil {
		return nil, err
	}
	if err := up.Refresh(); err != nil {
		return nil, err
	}
	sum, err := hex.DecodeString(job.SHA256)
	if err != nil {
		return nil, err
	}
	// The same blob, as a target of its own.
	target := &metadata.TargetFiles{Path: channel.BlobPath(job.SHA256), Length: job.Length, Hashes: metadata.Hashes{"sha256": sum}}
	return func() error {
		_, _, err := up.DownloadTarget(target, filepath.Join(job.Dir, "tg", "big"), job.URL)
		return err
	}, nil
}

// BenchmarkFirstCheck is the first check of a fresh installation in a process of its own, with 1,000 releases in the
// channel, beside go-tuf's updater reading the same role: seconds and peak memory.
func BenchmarkFirstCheck(b *testing.B) {
	v := newVendorTB(b)
	v.manyReleases(1000)
	server := httptest.NewServer(http.FileServer(http.Dir(v.dir)))
	b.Cleanup(server.Close)
	j := &benchJob{URL: server.URL, Root: v.root()}
	seconds, memory := map[string]float64{}, map[string]float64{}
	for b.Loop() {
		for _, name := range []string{"check", "go-tuf-check"} {
			s, m := j.run(b, name)
			seconds[name] += s
			memory[name] = max(memory[name], m)
		}
	}
	for name := range seconds {
		b.ReportMetric(1000*seconds[name]/float64(b.N), name+"-ms")
		b.ReportMetric(memory[name], name+"-peak-MB")
	}
	b.ReportMetric(0, "ns/op")
}

func benchCheck(job benchJob) (func() error, error) {
	source, err := update.HTTP(job.URL, nil)
	if err != nil {
		return nil, err
	}
	program := filepath.Join(job.Dir, "notes")
	if err := os.WriteFile(program, []byte("old"), 0o755); err != nil {
		return nil, err
	}
	up, err := update.New(update.Config{
		Product: "notes", Channel: "stable", Version: "1.999.0", Root: job.Root, Source: source, Installer: update.Executable{Path: program},
		Now: func() time.Time { return start.Add(time.Hour) },
	})
	if err != nil {
		return nil, err
	}
	return func() error {
		d, err := up.Check(noTest)
		if err == nil && d.Outcome != update.UpToDate {
			err = errors.New(d.String())
		}
		return err
	}, nil
}

func benchGoTUFCheck(job benchJob) (func() error, error) {
	up, err := goTUF(job)
	if err != nil {
		return nil, err
	}
	return func() error {
		if err := up.Refresh(); err != nil {
			return err
		}
		_, err := up.GetTargetInfo(channel.TargetPath("notes", "stable", "1.999.0"))
		return err
	}, nil
}

// BenchmarkCheck is a whole check with nothing new: refresh over HTTP, licence aside, and resolve.
func BenchmarkCheck(b *testing.B) {
	for _, n := range []int{100, 1000} {
		b.Run(strconv.Itoa(n)+"-releases", func(b *testing.B) {
			v := newVendorTB(b)
			v.manyReleases(n)
			server := httptest.NewServer(http.FileServer(http.Dir(v.dir)))
			defer server.Close()
			source, err := update.HTTP(server.URL, nil)
			require.NoError(b, err)
			program := filepath.Join(b.TempDir(), "notes")
			up, err := update.New(update.Config{
				Product: "notes", Channel: "stable", Version: fmt.Sprintf("1.%d.0", n-1), Root: v.root(), Source: source,
				Installer: update.Executable{Path: program}, Now: func() time.Time { return start.Add(time.Hour) },
			})
			require.NoError(b, err)
			ctx := context.Background()
			b.ReportAllocs()
			before := cpuTime()
			for b.Loop() {
				d, err := up.Check(ctx)
				if err != nil || d.Outcome != update.UpToDate {
					b.Fatal(d)
				}
			}
			b.ReportMetric(float64((cpuTime()-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
		})
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkLists measures what the first judgement of a licence in a process costs for the lists, and the ones after it.
func BenchmarkLists(b *testing.B) {
	for name, tokens := range map[string]int{"few": 100, "full": 30_000} {
		role := newRoleSigner(b)
		v := newVendorTB(b, func(v *vendor, c *tufrepo.CreateConfig) {
			v.more = []*tufrepo.Signer{role}
			c.License = tufrepo.RoleKeys{Keys: []tufrepo.PublicKey{role.Public()}}
		})
		v.manyReleases(100)
		list := license.Revocations{Number: 1}
		for i := range tokens {
			list.Tokens = append(list.Tokens, fmt.Sprintf("01J9ZK5E9V%018d", i))
		}
		data, err := json.Marshal(&list)
		require.NoError(b, err)
		v.edit(func(r *tufrepo.Repo) error { return r.PutLicense("revocations.json", data) })
		program := filepath.Join(b.TempDir(), "notes")
		require.NoError(b, os.WriteFile(program, []byte("x"), 0o755))
		process := func() *update.Updater {
			u, err := update.New(update.Config{Product: "notes", Channel: "stable", Version: "1.0.0", Root: v.root(),
				Source: update.FS(os.DirFS(v.dir)), Installer: update.Executable{Path: program}, Now: func() time.Time { return v.now.Add(time.Hour) }})
			require.NoError(b, err)
			return u
		}
		_, err = process().Check(b.Context())
		require.NoError(b, err)
		b.Run(name+"/first", func(b *testing.B) {
			before := cpuTime()
			for b.Loop() {
				require.Len(b, process().Lists(b.Context()).Revocations.Tokens, tokens)
			}
			b.ReportMetric(float64((cpuTime()-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
			b.ReportMetric(float64(len(data))/1e3, "list-kB")
		})
		b.Run(name+"/next", func(b *testing.B) {
			u := process()
			u.Lists(b.Context())
			for b.Loop() {
				u.Lists(b.Context())
			}
		})
	}
}
