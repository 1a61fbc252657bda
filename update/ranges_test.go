//go:build unix

package update_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"
)

var figuresRanges = flag.Bool("figures.ranges", false, "measure what several connections bring")

// TestParallelRanges measures what a file takes over one, two and four connections, each with its own range, where a
// network limits every connection, where it limits all of them together, and where it is only far away. It is about
// whether the library should do so, which it does not: docs/benchmarks.md.
func TestParallelRanges(t *testing.T) {
	if !*figuresRanges {
		t.Skip("a measurement: -figures.ranges")
	}
	dir := t.TempDir()
	const size = 32 << 20
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), make([]byte, size), 0o644))
	n := newNginx(t, dir, "")
	p := newToxiproxy(t)
	own := p.between("own", n.port)
	p.toxic("own", "bandwidth", map[string]any{"rate": 4096})
	far := p.between("far", n.port)
	p.toxic("far", "latency", map[string]any{"latency": 100})
	for _, c := range []struct{ name, url string }{
		{"loopback, no limit", n.url},
		{"4 MiB/s for each connection", own},
		{"8 MiB/s for all together", sharedLine(t, n.port, 8<<20)},
		{"100 ms away, no limit", far},
	} {
		line := c.name + ":"
		for _, connections := range []int{1, 2, 4} {
			began := time.Now()
			require.NoError(t, fetchInParts(t.Context(), c.url+"/file", size, connections))
			line += fmt.Sprintf(" %d: %.2f s;", connections, time.Since(began).Seconds())
		}
		t.Log(line)
	}
}

func fetchInParts(ctx context.Context, url string, size, connections int) error {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	errs := make(chan error, connections)
	for i := range connections {
		go func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				errs <- err
				return
			}
			req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", size/connections*i, size/connections*(i+1)-1))
			resp, err := client.Do(req)
			if err != nil {
				errs <- err
				return
			}
			defer func() { _ = resp.Body.Close() }()
			n, err := io.Copy(io.Discard, resp.Body)
			if err == nil && n != int64(size/connections) {
				err = io.ErrUnexpectedEOF
			}
			errs <- err
		}()
	}
	for range connections {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

// sharedLine passes connections on over one line of so many bytes a second, and returns its URL.
func sharedLine(t *testing.T, port string, bytesPerSecond int) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	line := rate.NewLimiter(rate.Limit(bytesPerSecond), 64<<10)
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = client.Close() }()
				server, err := net.Dial("tcp", "127.0.0.1:"+port)
				if err != nil {
					return
				}
				defer func() { _ = server.Close() }()
				go func() { _, _ = io.Copy(server, client) }()
				buf := make([]byte, 16<<10)
				for {
					n, err := server.Read(buf)
					if err != nil || line.WaitN(t.Context(), n) != nil {
						return
					}
					if _, err := client.Write(buf[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	return "http://" + l.Addr().String()
}
