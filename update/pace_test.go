package update_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/update"
)

// One call of Stage outlasts a connection that is cut again and again, as long as it gets on.
func TestStageOutlastsCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVendor(t)
		content := bytes.Repeat(program("1.1.0"), 200_000)
		v.release("1.1.0", content)
		var offsets []int64
		cut := int64(1 << 20)
		flaky := cutBlobs(update.FS(os.DirFS(v.dir)), cut, &offsets)
		m := newMachine(t, v, "1.0.0", func(c *update.Config) { c.Source, c.Download.Tries = flaky, 2 })
		u := m.start()
		require.NoError(t, u.Stage(t.Context(), check(t, u).Update, nil))
		require.Equal(t, []int64{0, cut, 2 * cut, 3 * cut, 4 * cut, 5 * cut}, offsets)
	})
}

// A server whose file is another one each time makes it start again, but not for ever.
func TestRestartsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVendor(t)
		content := bytes.Repeat(program("1.1.0"), 200_000)
		v.release("1.1.0", content)
		var tag, asked atomic.Int64
		files := http.FileServer(http.Dir(v.dir))
		s, err := update.HTTP("http://localhost", &http.Client{Transport: roundTrip(func(req *http.Request) *http.Response {
			w := httptest.NewRecorder()
			if !strings.HasPrefix(req.URL.Path, "/blobs/") {
				files.ServeHTTP(w, req)
				return w.Result()
			}
			asked.Add(1)
			w.Header().Set("ETag", `"`+string(rune('a'+tag.Add(1)))+`"`)
			w.Header().Set("Content-Length", "5400000")
			resp := w.Result()
			resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(content[:2<<20]), failingReader{errors.New("connection reset")}))
			return resp
		})})
		require.NoError(t, err)
		m := newMachine(t, v, "1.0.0", func(c *update.Config) { c.Source, c.Download.Tries = s, 2 })
		u := m.start()
		var failed *update.SourceError
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		require.ErrorAs(t, u.Stage(ctx, check(t, u).Update, nil), &failed)
		require.LessOrEqual(t, asked.Load(), int64(4))
	})
}

// roundTrip answers without a network.
type roundTrip func(*http.Request) *http.Response

func (r roundTrip) RoundTrip(req *http.Request) (*http.Response, error) {
	resp := r(req)
	resp.Request = req
	return resp, nil
}

// A mirror that lied is not asked again by this Updater; when all have lied, all are.
func TestLiarsAreLeftOut(t *testing.T) {
	v := newVendor(t)
	content := program("1.1.0")
	v.release("1.1.0", content)
	honest := update.FS(os.DirFS(v.dir))
	var lies, truths int
	liar := source(func(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
		if strings.HasPrefix(name, "blobs/") {
			lies++
			return io.NopCloser(strings.NewReader(strings.ToUpper(string(content[offset:])))), nil
		}
		return honest.Open(ctx, name, offset)
	})
	down := true
	failing := source(func(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
		if strings.HasPrefix(name, "blobs/") {
			if truths++; down {
				return nil, os.ErrNotExist
			}
		}
		return honest.Open(ctx, name, offset)
	})
	m := newMachine(t, v, "1.0.0", func(c *update.Config) { c.Source = update.Mirrors(liar, failing) })
	u := m.start()
	d := check(t, u)
	var wrong *update.VerifyError
	require.ErrorAs(t, u.Stage(t.Context(), d.Update, nil), &wrong)
	require.Equal(t, []int{1, 1}, []int{lies, truths})
	require.Contains(t, m.events, "update.mirror_out verify")
	require.Error(t, u.Stage(t.Context(), d.Update, nil))
	require.Equal(t, []int{1, 2}, []int{lies, truths}, "the liar is not asked")
	down = false
	require.NoError(t, u.Stage(t.Context(), d.Update, nil))
	require.Equal(t, []int{1, 3}, []int{lies, truths})

	m = newMachine(t, v, "1.0.0", func(c *update.Config) { c.Source = update.Mirrors(liar, liar) })
	u = m.start()
	d = check(t, u)
	for range 2 {
		lies = 0
		require.ErrorAs(t, u.Stage(t.Context(), d.Update, nil), &wrong)
		require.Equal(t, 2, lies, "there is nobody else to ask")
	}
}

func TestBandwidthLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVendor(t)
		content := bytes.Repeat(program("1.1.0"), 20_000) // 540 kB
		v.release("1.1.0", content)
		m := newMachine(t, v, "1.0.0", func(c *update.Config) {
			c.Download.BytesPerSecond, c.Trust.StallTimeout = 200_000, 300*time.Millisecond
		})
		u := m.start()
		d := check(t, u)
		began := time.Now()
		var last update.Progress
		require.NoError(t, u.Stage(t.Context(), d.Update, func(p update.Progress) {
			if p.Step == update.Downloading {
				last = p
			}
		}))
		// A second's worth may be taken at once.
		require.GreaterOrEqual(t, time.Since(began), 1600*time.Millisecond)
		require.Less(t, time.Since(began), 10*time.Second)
		require.EqualValues(t, len(content), last.Done)
		require.InDelta(t, 200_000, last.Rate, 150_000)

		_, err := update.New(m.config("1.0.0", func(c *update.Config) { c.Download.BytesPerSecond = -1 }))
		var bad *update.ConfigError
		require.ErrorAs(t, err, &bad)
	})
}

func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVendor(t)
		content := bytes.Repeat(program("1.1.0"), 150_000)
		v.release("1.1.0", content)
		honest := update.FS(os.DirFS(v.dir))
		var offsets []int64
		slow := source(func(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
			r, err := honest.Open(ctx, name, offset)
			if err == nil && strings.HasPrefix(name, "blobs/") {
				offsets = append(offsets, offset)
			}
			return r, err
		})
		m := newMachine(t, v, "1.0.0", func(c *update.Config) {
			c.Source, c.Download.BytesPerSecond, c.Trust.StallTimeout = slow, 2_000_000, 200*time.Millisecond
		})
		u := m.start()
		d := check(t, u)
		u.Resume() // is nothing
		u.Pause()
		u.Pause()
		ended := make(chan error, 1)
		var done atomic.Int64
		reached := make(chan struct{}, 1)
		go func() {
			ended <- u.Stage(t.Context(), d.Update, func(p update.Progress) {
				if p.Step == update.Downloading {
					done.Store(p.Done)
					select {
					case reached <- struct{}{}:
					default:
					}
				}
			})
		}()
		time.Sleep(100 * time.Millisecond)
		require.Zero(t, done.Load(), "it waits")
		u.Resume()
		<-reached
		u.Pause()
		time.Sleep(100 * time.Millisecond)
		at := done.Load()
		require.Less(t, at, int64(len(content)))
		time.Sleep(500 * time.Millisecond) // longer than the stall time-out
		require.Equal(t, at, done.Load())
		select {
		case err := <-ended:
			t.Fatal("it ended: ", err)
		default:
		}
		u.Resume()
		require.NoError(t, <-ended)
		require.Equal(t, []int64{0, at}, offsets, "where it was")

		u.Pause()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		v.release("1.2.0", program("1.2.0"))
		u = m.start()
		d = check(t, u)
		u.Pause()
		require.ErrorIs(t, u.Stage(ctx, d.Update, nil), context.DeadlineExceeded)
	})
}

// The pauses between tries grow, and Retry-After is obeyed, up to a minute.
func TestPausesBetweenTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVendor(t)
		v.release("1.1.0", program("1.1.0"))
		honest := update.FS(os.DirFS(v.dir))
		var at []time.Time
		wish := time.Duration(0)
		busy := source(func(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
			if !strings.HasPrefix(name, "blobs/") {
				return honest.Open(ctx, name, offset)
			}
			at = append(at, time.Now())
			return nil, &update.StatusError{Status: 503, RetryAfter: wish}
		})
		m := newMachine(t, v, "1.0.0", func(c *update.Config) { c.Source = busy })
		u := m.start()
		d := check(t, u)
		var status *update.StatusError
		require.ErrorAs(t, u.Stage(t.Context(), d.Update, nil), &status)
		require.Len(t, at, 5)
		total := at[4].Sub(at[0])
		for i, most := range []time.Duration{1, 2, 4, 8} {
			require.LessOrEqual(t, at[i+1].Sub(at[i]), most*time.Second+time.Millisecond)
		}
		require.Greater(t, total, 100*time.Millisecond)
		at, wish = nil, time.Hour
		require.ErrorAs(t, u.Stage(t.Context(), d.Update, nil), &status)
		require.Len(t, at, 5)
		require.Equal(t, time.Minute, at[1].Sub(at[0]))
		at, wish = nil, time.Hour
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(90*time.Second, func() { cancel(errors.New("enough")) })
		require.ErrorContains(t, u.Stage(ctx, d.Update, nil), "enough")
		require.Len(t, at, 2)
	})
}

// A limit that is slower than a stalled line is no stall.
func TestSlowLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVendor(t)
		content := bytes.Repeat(program("1.1.0"), 60) // 1620 bytes
		v.release("1.1.0", content)
		m := newMachine(t, v, "1.0.0", func(c *update.Config) {
			c.Download.BytesPerSecond, c.Download.Tries, c.Trust.StallTimeout = 500, 1, 600*time.Millisecond
		})
		u := m.start()
		require.NoError(t, u.Stage(t.Context(), check(t, u).Update, nil))
	})
}

// A mirror that answers with a wrong length, or a wrong part, is left out once another one has shown that it is wrong.
func TestMisfitsAreLeftOut(t *testing.T) {
	for name, answer := range map[string]func(w http.ResponseWriter, whole int){
		"a wrong length": func(w http.ResponseWriter, _ int) { _, _ = io.WriteString(w, "short") },
		"a wrong part": func(w http.ResponseWriter, whole int) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 1-%d/%d", whole-1, whole))
			w.WriteHeader(http.StatusPartialContent)
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVendor(t)
			content := program("1.1.0")
			v.release("1.1.0", content)
			asked := 0
			files := http.FileServer(http.Dir(v.dir))
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if !strings.HasPrefix(req.URL.Path, "/blobs/") {
					files.ServeHTTP(w, req)
					return
				}
				asked++
				answer(w, len(content))
			}))
			defer srv.Close()
			liar, err := update.HTTP(srv.URL, nil)
			require.NoError(t, err)
			empty := true // and so cannot tell who is right
			honest := update.FS(os.DirFS(v.dir))
			other := source(func(ctx context.Context, path string, offset int64) (io.ReadCloser, error) {
				if empty && strings.HasPrefix(path, "blobs/") {
					return nil, os.ErrNotExist
				}
				return honest.Open(ctx, path, offset)
			})
			m := newMachine(t, v, "1.0.0", func(c *update.Config) { c.Source = update.Mirrors(liar, other) })
			u := m.start()
			d := check(t, u)
			require.Error(t, u.Stage(t.Context(), d.Update, nil))
			require.NotContains(t, m.events, "update.mirror_out source")
			empty = false
			require.NoError(t, u.Stage(t.Context(), d.Update, nil))
			require.Contains(t, m.events, "update.mirror_out source")
			require.Equal(t, 2, asked)
			v.release("1.2.0", program("1.2.0"))
			require.NoError(t, u.Stage(t.Context(), check(t, u).Update, nil))
			require.Equal(t, 2, asked, "it is asked no more")
		})
	}
}

// At a byte a second, what is left of a large file takes longer than a Duration can say.
func TestTimeLeftOfSlowDownloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var last update.Progress
		note := update.Metered(func(p update.Progress) { last = p })
		for done := range int64(3) {
			note(update.Progress{Step: update.Downloading, Done: done, Total: 1 << 40})
			time.Sleep(time.Second)
		}
		require.EqualValues(t, 1, last.Rate)
		require.Greater(t, last.Left, 250*365*24*time.Hour)
	})
}
