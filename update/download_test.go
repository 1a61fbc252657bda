package update_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/update"
)

// A tampered blob is refused and deleted; an honest mirror behind it delivers.
func TestTamperedBlob(t *testing.T) {
	v := newVendor(t)
	content := bytes.Repeat(program("1.1.0"), 1000)
	v.release("1.1.0", content)
	bad := bytes.Clone(content)
	bad[len(bad)/2] ^= 1
	honest := os.DirFS(v.dir)
	evil := swapFS{honest, channel.BlobPath(digest(content)), bad}

	m := newMachine(t, v, "1.0.0", func(c *update.Config) { c.Source = update.FS(evil) })
	u := m.start()
	d := check(t, u)
	err := u.Stage(t.Context(), d.Update, nil)
	var wrong *update.VerifyError
	require.ErrorAs(t, err, &wrong)
	require.Equal(t, "1.0.0", m.version())
	parts, err := filepath.Glob(filepath.Join(update.Dir(u), "staging", "*"))
	require.NoError(t, err)
	for _, p := range parts {
		info, err := os.Stat(p)
		require.NoError(t, err)
		require.Zero(t, info.Size(), "rejected bytes are deleted")
	}
	require.ErrorIs(t, u.Apply(t.Context(), d.Update), update.ErrNotStaged, "nothing is staged")

	for range 3 {
		require.Error(t, u.Stage(t.Context(), d.Update, nil))
	}
	require.Equal(t, update.Available, check(t, u).Outcome, "the mirror is to blame, not the release")

	u = m.process(func(c *update.Config) { c.Source = update.Mirrors(update.FS(evil), update.FS(honest)) })
	require.NoError(t, u.Stage(t.Context(), check(t, u).Update, nil))
}

// swapFS delivers other content for one file.
type swapFS struct {
	fs.FS
	name    string
	content []byte
}

func (s swapFS) Open(name string) (fs.File, error) {
	f, err := s.FS.Open(name)
	if err != nil || name != s.name {
		return f, err
	}
	return &swapFile{f, bytes.NewReader(s.content)}, nil
}

type swapFile struct {
	fs.File
	*bytes.Reader
}

func (f *swapFile) Read(p []byte) (int, error) { return f.Reader.Read(p) }

func (f *swapFile) Seek(o int64, w int) (int64, error) { return f.Reader.Seek(o, w) }

// source wraps Open.
type source func(ctx context.Context, name string, offset int64) (io.ReadCloser, error)

func (s source) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	return s(ctx, name, offset)
}

// wrapBlobs is a source that delivers artifacts through wrap, and metadata as it is.
func wrapBlobs(honest update.Source, wrap func(io.Reader) io.Reader) source {
	return func(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
		r, err := honest.Open(ctx, name, offset)
		if err != nil || !strings.HasPrefix(name, "blobs/") {
			return r, err
		}
		return struct {
			io.Reader
			io.Closer
		}{wrap(r), r}, nil
	}
}

// cutBlobs is one that delivers so many bytes of an artifact each time, and notes from where on it was asked.
func cutBlobs(honest update.Source, cut int64, offsets *[]int64) source {
	short := wrapBlobs(honest, func(r io.Reader) io.Reader { return io.LimitReader(r, cut) })
	return func(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
		if strings.HasPrefix(name, "blobs/") {
			*offsets = append(*offsets, offset)
		}
		return short(ctx, name, offset)
	}
}

// An interrupted download goes on where it was, and what is there is hashed again.
func TestResume(t *testing.T) {
	v := newVendor(t)
	content := bytes.Repeat(program("1.1.0"), 150_000) // 4 MB
	v.release("1.1.0", content)
	var offsets []int64
	cut := int64(900_000)
	flaky := cutBlobs(update.FS(os.DirFS(v.dir)), cut, &offsets)
	m := newMachine(t, v, "1.0.0", func(c *update.Config) { c.Source, c.Download.Tries = flaky, 1 })
	u := m.start()
	d := check(t, u)
	var failed *update.SourceError
	for range 4 {
		require.ErrorAs(t, u.Stage(t.Context(), d.Update, nil), &failed)
	}
	require.ErrorIs(t, failed, io.ErrUnexpectedEOF)
	require.NoError(t, u.Stage(t.Context(), d.Update, nil))
	require.Equal(t, []int64{0, cut, 2 * cut, 3 * cut, 4 * cut}, offsets)
	require.NoError(t, u.Stage(t.Context(), d.Update, nil), "staged already")
	require.Len(t, offsets, 5)
}

// A partial file that somebody has changed costs a restart of the download, never a wrong file.
func TestResumeFromGarbage(t *testing.T) {
	v := newVendor(t)
	content := bytes.Repeat(program("1.1.0"), 1000)
	v.release("1.1.0", content)
	for name, part := range map[string][]byte{
		"other bytes": []byte("garbage"), "too long": append(bytes.Clone(content), 'x'), "whole but wrong": bytes.Repeat([]byte("x"), len(content)), "whole": content,
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, v, "1.0.0")
			u := m.start()
			d := check(t, u)
			staging := filepath.Join(update.Dir(u), "staging")
			require.NoError(t, os.MkdirAll(staging, 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(staging, digest(content)+".part"), part, 0o600))
			require.NoError(t, u.Stage(t.Context(), d.Update, nil))
			require.NoError(t, u.Apply(t.Context(), d.Update))
			got, err := os.ReadFile(m.program)
			require.NoError(t, err)
			require.Equal(t, content, got)
		})
	}
}

func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVendor(t)
		v.release("1.1.0", program("1.1.0"))
		honest := update.FS(os.DirFS(v.dir))
		mute := source(func(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
			if !strings.HasPrefix(name, "blobs/") {
				return honest.Open(ctx, name, offset)
			}
			r, w := io.Pipe()
			context.AfterFunc(ctx, func() { _ = w.CloseWithError(ctx.Err()) })
			return r, nil
		})
		m := newMachine(t, v, "1.0.0", func(c *update.Config) {
			c.Source, c.Trust.StallTimeout, c.Download.Tries = mute, 50*time.Millisecond, 1
		})
		u := m.start()
		d := check(t, u)
		var failed *update.SourceError
		began := time.Now()
		require.ErrorAs(t, u.Stage(t.Context(), d.Update, nil), &failed)
		require.ErrorContains(t, failed, "next to nothing, arrived for too long")
		require.Less(t, time.Since(began), 10*time.Second)

		u = m.process(func(c *update.Config) { c.Trust.StallTimeout = time.Hour })
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, u.Stage(ctx, d.Update, nil), context.DeadlineExceeded)
	})
}

// A slow line is not a stalled one.
func TestSlowButSteady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVendor(t)
		content := bytes.Repeat(program("1.1.0"), 150)
		v.release("1.1.0", content)
		honest := update.FS(os.DirFS(v.dir))
		slow := wrapBlobs(honest, func(r io.Reader) io.Reader { return &slowReader{r: r, last: time.Now()} })
		m := newMachine(t, v, "1.0.0", func(c *update.Config) { c.Source, c.Trust.StallTimeout = slow, time.Second })
		u := m.start()
		d := check(t, u)
		began := time.Now()
		require.NoError(t, u.Stage(t.Context(), d.Update, nil))
		require.Greater(t, time.Since(began), 1300*time.Millisecond, "longer than the stall time-out")
	})
}

// slowReader delivers 2500 bytes a second, every 80 ms or, on a busy machine, less often.
type slowReader struct {
	r    io.Reader
	last time.Time
}

func (s *slowReader) Read(p []byte) (int, error) {
	time.Sleep(80 * time.Millisecond)
	now := time.Now()
	due := max(1, int(2500*now.Sub(s.last).Seconds()))
	s.last = now
	return s.r.Read(p[:min(due, len(p))])
}

// What the only mirror that counts has delivered is not thrown away because another one is to be had during its pause.
func TestSingleMirrorIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVendor(t)
		content := bytes.Repeat(program("1.1.0"), 100_000) // 2.7 MB
		v.release("1.1.0", content)
		honest := update.FS(os.DirFS(v.dir))
		const cut = 900_000
		var asked []string
		mirror := func(name string, wrap func(offset int64, r io.Reader) io.Reader) update.Source {
			return source(func(ctx context.Context, path string, offset int64) (io.ReadCloser, error) {
				r, err := honest.Open(ctx, path, offset)
				if err != nil || !strings.HasPrefix(path, "blobs/") {
					return r, err
				}
				asked = append(asked, fmt.Sprint(name, offset))
				return struct {
					io.Reader
					io.Closer
				}{wrap(offset, r), r}, nil
			})
		}
		liar := mirror("liar ", func(int64, io.Reader) io.Reader {
			return io.LimitReader(bytes.NewReader(bytes.Repeat([]byte("x"), cut)), cut)
		})
		good := mirror("good ", func(offset int64, r io.Reader) io.Reader {
			if slices.Contains(asked[:len(asked)-1], fmt.Sprint("good ", cut)) && offset < 2*cut { // alone, it is cut
				return io.LimitReader(r, cut)
			}
			return r
		})
		m := newMachine(t, v, "1.0.0", func(c *update.Config) { c.Source = update.Mirrors(liar, good) })
		u := m.start()
		require.NoError(t, u.Stage(t.Context(), check(t, u).Update, nil))
		require.Equal(t, []string{"liar 0", "good 900000", "good 0", "good 900000", "good 1800000"}, asked)
	})
}
