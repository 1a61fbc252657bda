//go:build unix

package trust

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"
)

// fixture is a repository with many releases, before and after one more, behind a server that counts what goes over
// the wire. It runs in the same process as the client, so its CPU time counts for either client alike.
type fixture struct {
	root     []byte
	files    atomic.Pointer[map[string][]byte]
	old, new map[string][]byte
	url      string
	rx       atomic.Int64
	requests atomic.Int64
	now      time.Time
}

const benchRole = "notes.stable"

func newFixture(b *testing.B, releases int) *fixture {
	r := newRepo(b)
	for i := range releases {
		r.release(benchRole, "stable", fmt.Sprintf("1.%d.0", i))
	}
	r.publish(benchRole)
	f := &fixture{root: r.get(rootName(1)), old: r.copyFiles(), now: start}
	r.release(benchRole, "stable", "2.0.0")
	r.publish(benchRole)
	f.new = r.copyFiles()
	f.files.Store(&f.old)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		f.requests.Add(1)
		data := (*f.files.Load())[strings.TrimPrefix(req.URL.Path, "/")]
		if data == nil {
			http.Error(w, "no", http.StatusNotFound)
			return
		}
		_, _ = w.Write(data)
	}))
	srv.Listener = countingListener{srv.Listener, &f.rx}
	srv.Start()
	b.Cleanup(srv.Close)
	f.url = srv.URL
	return f
}

// countingListener counts every byte that its connections send, headers included.
type countingListener struct {
	net.Listener
	sent *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return countingConn{c, l.sent}, err
}

type countingConn struct {
	net.Conn
	sent *atomic.Int64
}

func (c countingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.sent.Add(int64(n))
	return n, err
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// measure runs op b.N times, prepare before each of them uncounted.
func (f *fixture) measure(b *testing.B, prepare, op func()) {
	var cpu time.Duration
	b.ReportAllocs()
	f.rx.Store(0)
	var rx, requests int64
	for b.Loop() {
		b.StopTimer()
		prepare()
		rx0, req0 := f.rx.Load(), f.requests.Load()
		b.StartTimer()
		began := cpuTime()
		op()
		cpu += cpuTime() - began
		rx += f.rx.Load() - rx0
		requests += f.requests.Load() - req0
	}
	n := float64(b.N)
	b.ReportMetric(float64(cpu.Microseconds())/1000/n, "cpu-ms/op")
	b.ReportMetric(float64(rx)/n, "rx-bytes/op")
	b.ReportMetric(float64(requests)/n, "requests/op")
}

func (f *fixture) client(b *testing.B, dir string) *Client {
	src, err := HTTP(f.url, nil)
	require.NoError(b, err)
	c, err := New(Config{Root: f.root, Dir: dir, Source: src, Now: func() time.Time { return f.now }})
	require.NoError(b, err)
	return c
}

func check(b *testing.B, c *Client, want int) {
	v, err := c.Refresh(b.Context())
	require.NoError(b, err)
	list, err := v.Role(b.Context(), benchRole)
	require.NoError(b, err)
	require.Len(b, list, want)
}

// goTUF is the same check with go-tuf's own client.
func (f *fixture) goTUF(b *testing.B, dir string, want string) {
	cfg, err := config.New(f.url+"/metadata", f.root)
	require.NoError(b, err)
	cfg.LocalMetadataDir, cfg.LocalTargetsDir = dir, dir
	u, err := updater.New(cfg)
	require.NoError(b, err)
	u.UnsafeSetRefTime(f.now)
	require.NoError(b, u.Refresh())
	_, err = u.GetTargetInfo(want)
	require.NoError(b, err)
}

func BenchmarkUnchanged100(b *testing.B) {
	f := newFixture(b, 100)
	nothing := func() {}
	b.Run("warm", func(b *testing.B) {
		c := f.client(b, b.TempDir())
		check(b, c, 100)
		f.measure(b, nothing, func() { check(b, c, 100) })
	})
	b.Run("cold", func(b *testing.B) {
		dir := b.TempDir()
		check(b, f.client(b, dir), 100)
		f.measure(b, nothing, func() { check(b, f.client(b, dir), 100) })
	})
	b.Run("go-tuf", func(b *testing.B) { // it can not be used twice, so it is always cold
		dir := b.TempDir()
		f.goTUF(b, dir, "notes/stable/1.99.0/release.json")
		f.measure(b, nothing, func() { f.goTUF(b, dir, "notes/stable/1.99.0/release.json") })
	})
}

func BenchmarkNewRelease1000(b *testing.B) {
	f := newFixture(b, 1000)
	const want = "notes/stable/2.0.0/release.json"
	b.Run("warm", func(b *testing.B) {
		var c *Client
		f.measure(b, func() {
			f.files.Store(&f.old)
			c = f.client(b, b.TempDir())
			check(b, c, 1000)
			f.files.Store(&f.new)
		}, func() { check(b, c, 1001) })
	})
	b.Run("cold", func(b *testing.B) {
		var dir string
		f.measure(b, func() {
			f.files.Store(&f.old)
			dir = b.TempDir()
			check(b, f.client(b, dir), 1000)
			f.files.Store(&f.new)
		}, func() { check(b, f.client(b, dir), 1001) })
	})
	b.Run("go-tuf", func(b *testing.B) {
		var dir string
		f.measure(b, func() {
			f.files.Store(&f.old)
			dir = b.TempDir()
			f.goTUF(b, dir, "notes/stable/1.99.0/release.json")
			f.files.Store(&f.new)
		}, func() { f.goTUF(b, dir, want) })
	})
}
