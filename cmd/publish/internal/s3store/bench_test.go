//go:build unix && !nos3

package s3store

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/cmd/publish/internal/s3store/s3test"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

const jobVariable = "FAIRLEAD_S3_JOB"

// A job is what a process of its own does, so that its memory can be measured.
type job struct {
	Kind     string // publish, plain or parts
	Endpoint string
	Prefix   string
	Folder   string // of the artifacts
}

func TestMain(m *testing.M) {
	if text := os.Getenv(jobVariable); text != "" {
		var j job
		if err := json.Unmarshal([]byte(text), &j); err != nil {
			panic(err)
		}
		debug.SetGCPercent(25) // as publish does
		fmt.Println(j.do())
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// do returns how long it took, in nanoseconds, without what comes before.
func (j job) do() int64 {
	testing.Init()
	if err := flag.Set("test.benchtime", "1x"); err != nil {
		panic(err)
	}
	var took time.Duration
	testing.Benchmark(func(b *testing.B) {
		run := j.plain
		switch j.Kind {
		case "publish":
			run = j.publish
		case "parts":
			run = j.parts
		}
		work := run(b)
		began := time.Now()
		work()
		took = time.Since(began)
	})
	if took == 0 {
		panic("it failed")
	}
	return took.Nanoseconds()
}

func (j job) files(t testing.TB) []string {
	files, err := filepath.Glob(filepath.Join(j.Folder, "*"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	return files
}

// publish makes a repository, and releases all files in it: hash, upload, sign.
func (j job) publish(b *testing.B) func() {
	s, err := Open(b.Context(), s3test.Address(j.Endpoint, j.Prefix))
	require.NoError(b, err)
	p := newPublisher(b, s)
	return func() {
		r, err := tufrepo.Open(b.Context(), s, tufrepo.OpenConfig{Patches: tufrepo.PatchPolicy{From: -1}})
		require.NoError(b, err)
		n := tufrepo.NewRelease{Version: "1.0.0"}
		for i, path := range j.files(b) {
			n.Artifacts = append(n.Artifacts, tufrepo.NewArtifact{Platform: channel.Platform{OS: "linux", Arch: fmt.Sprintf("arch%d", i)}, Path: path})
		}
		_, err = r.Release(b.Context(), "notes", "stable", n)
		require.NoError(b, err)
		_, err = r.Commit(b.Context(), p.key)
		require.NoError(b, err)
	}
}

// plain has the SDK put every file as it is, with its own settings, as many at once as tufrepo does.
func (j job) plain(b *testing.B) func() {
	cfg, err := config.LoadDefaultConfig(b.Context(), config.WithRegion("us-east-1"))
	require.NoError(b, err)
	client := s3.NewFromConfig(cfg, func(o *s3.Options) { o.BaseEndpoint, o.UsePathStyle = &j.Endpoint, true })
	return func() {
		var group errgroup.Group
		group.SetLimit(4)
		for _, path := range j.files(b) {
			group.Go(func() error {
				f, err := os.Open(path)
				if err != nil {
					return err
				}
				defer func() { _ = f.Close() }()
				_, err = client.PutObject(b.Context(), &s3.PutObjectInput{Bucket: aws.String(s3test.Bucket), Key: aws.String(j.Prefix + "/" + filepath.Base(path)), Body: f})
				return err
			})
		}
		require.NoError(b, group.Wait())
	}
}

// parts has the SDK send every file in parts of the same size, with its own settings: five parts at once, as its upload
// manager does.
func (j job) parts(b *testing.B) func() {
	cfg, err := config.LoadDefaultConfig(b.Context(), config.WithRegion("us-east-1"))
	require.NoError(b, err)
	client := s3.NewFromConfig(cfg, func(o *s3.Options) { o.BaseEndpoint, o.UsePathStyle = &j.Endpoint, true })
	return func() {
		for _, path := range j.files(b) {
			require.NoError(b, sendParts(b, client, aws.String(j.Prefix+"/"+filepath.Base(path)), path))
		}
	}
}

func sendParts(b *testing.B, client *s3.Client, key *string, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	bucket := aws.String(s3test.Bucket)
	up, err := client.CreateMultipartUpload(b.Context(), &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key, ChecksumAlgorithm: types.ChecksumAlgorithmCrc32})
	if err != nil {
		return err
	}
	done := make([]types.CompletedPart, (info.Size()+partSize-1)/partSize)
	var group errgroup.Group
	group.SetLimit(5)
	for i := range done {
		group.Go(func() error {
			body := io.NewSectionReader(f, int64(i)*partSize, min(partSize, info.Size()-int64(i)*partSize))
			out, err := client.UploadPart(b.Context(), &s3.UploadPartInput{Bucket: bucket, Key: key, UploadId: up.UploadId, PartNumber: aws.Int32(int32(i + 1)), Body: body})
			if err == nil {
				done[i] = types.CompletedPart{PartNumber: aws.Int32(int32(i + 1)), ETag: out.ETag, ChecksumCRC32: out.ChecksumCRC32}
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	_, err = client.CompleteMultipartUpload(b.Context(), &s3.CompleteMultipartUploadInput{Bucket: bucket, Key: key, UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: done}})
	return err
}

// BenchmarkUpload publishes artifacts of 2 GB (FAIRLEAD_BENCH_MB: of so many MB) to a server on loopback, and puts the same
// files there with the SDK alone, in turns, each in a process of its own: 40 artifacts, each sent in one request, and 8, in
// parts.
func BenchmarkUpload(b *testing.B) {
	b.Run("40 artifacts", func(b *testing.B) { benchmarkUpload(b, 40) })
	b.Run("8 artifacts", func(b *testing.B) { benchmarkUpload(b, 8) })
}

func benchmarkUpload(b *testing.B, count int) {
	megabytes, err := strconv.Atoi(cmp.Or(os.Getenv("FAIRLEAD_BENCH_MB"), "2000"))
	require.NoError(b, err)
	server := s3test.Start(b)
	folder := b.TempDir()
	for i := range count {
		writeNoise(b, filepath.Join(folder, fmt.Sprint("artifact", i)), i, megabytes/count)
	}
	kinds := []string{"plain", "publish"}
	if count < 40 {
		kinds = []string{"plain", "parts", "publish"}
	}
	took, memory := map[string]time.Duration{}, map[string]int64{}
	rounds := 0
	for b.Loop() {
		rounds++
		for _, kind := range kinds {
			prefix := fmt.Sprintf("%s%d", kind, rounds) // the server remembers what was taken away behind its back
			d, cpu, rss := runJob(b, job{kind, server.URL, prefix, folder})
			took[kind] += d
			memory[kind] = max(memory[kind], rss)
			require.NoError(b, os.RemoveAll(filepath.Join(server.Folder, prefix)))
			b.Logf("%s: %s, %s of CPU, %d MB of memory", kind, d.Round(time.Millisecond), cpu.Round(time.Millisecond), rss/1e6)
		}
	}
	for kind, d := range took {
		b.ReportMetric(float64(megabytes*rounds)/d.Seconds(), kind+"-MB/s")
		b.ReportMetric(float64(memory[kind])/1e6, kind+"-RSS-MB")
	}
	b.ReportMetric(took["plain"].Seconds()/took["publish"].Seconds(), "of-plain")
	if took["parts"] > 0 {
		b.ReportMetric(took["parts"].Seconds()/took["publish"].Seconds(), "of-parts")
	}
}

func writeNoise(b *testing.B, path string, seed, megabytes int) {
	b.Helper()
	f, err := os.Create(path)
	require.NoError(b, err)
	block := noise(uint64(seed), 1_000_000)
	for i := range megabytes {
		_, err := f.WriteString(fmt.Sprintf("%08d", i) + block[8:])
		require.NoError(b, err)
	}
	require.NoError(b, f.Close())
}

// runJob returns the time by the clock, that of the client's processors, and its memory.
func runJob(b *testing.B, j job) (took, cpu time.Duration, rss int64) {
	b.Helper()
	text, err := json.Marshal(j)
	require.NoError(b, err)
	self, err := os.Executable()
	require.NoError(b, err)
	cmd := exec.CommandContext(b.Context(), self)
	cmd.Env = append(os.Environ(), jobVariable+"="+string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(b, err, "%s", out)
	ns, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	require.NoError(b, err, "%s", out)
	return time.Duration(ns), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
}
