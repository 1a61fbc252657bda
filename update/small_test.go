package update_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/tufrepo"
	"github.com/fairlead-dev/fairlead/update"
)

// patchedVendor has 1.1.0, with a patch to it from 1.0.0, which is on the machine.
func patchedVendor(t *testing.T, change ...func(*update.Config)) (v *vendor, m *machine, patch channel.Patch) {
	t.Helper()
	v = newVendor(t)
	l := layouts[0]
	l.publishLarge(t, v, "1.0.0", true)
	l.publishLarge(t, v, "1.1.0", true)
	patches := direct(t)(true)
	v.publishPatches("1.1.0", patches...)
	return v, l.installLarge(t, v, change...), patches[0].Patch
}

// A check, and release notes, are not held up by what holds downloads up.
func TestPauseHoldsUpNoCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, m, patch := patchedVendor(t, func(c *update.Config) { c.Download.BytesPerSecond = 10 })
		u := m.start()
		u.Pause()
		began := time.Now()
		require.Equal(t, patch.Length, check(t, u).Update.Download)
		require.Zero(t, time.Since(began))
	})
	synctest.Test(t, func(t *testing.T) {
		v := newVendor(t)
		notes := filepath.Join(t.TempDir(), "notes.md")
		require.NoError(t, os.WriteFile(notes, []byte("# 1.1.0\nFaster.\n"), 0o644))
		v.release("1.1.0", program("1.1.0"), func(n *tufrepo.NewRelease) { n.Notes = &tufrepo.NewAttachment{Path: notes} })
		u := newMachine(t, v, "1.0.0").start()
		u.Pause()
		text, _, err := u.Notes(t.Context(), check(t, u).Update)
		require.NoError(t, err)
		require.Equal(t, "# 1.1.0\nFaster.\n", text)
	})
}

// A list of patches that is not to be had costs a check little: every mirror is asked once, and not for long.
func TestPatchListHoldsUpNoCheck(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(ctx context.Context) (io.ReadCloser, error)
		most   int // asked
		takes  time.Duration
	}{
		"busy": {func(context.Context) (io.ReadCloser, error) {
			return nil, &update.StatusError{Status: 503, RetryAfter: time.Minute}
		}, 2, 0},
		"silent": {func(ctx context.Context) (io.ReadCloser, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, 2, 30 * time.Second}, // the second one is, at most, asked in the last moment
		"slow": {func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(&slowReader{r: neverending{}, last: time.Now()}), nil
		}, 1, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v, m, _ := patchedVendor(t)
				list := make([]byte, 1<<20)
				blob := v.putBlob(list)
				v.resignEntry("1.1.0", func(r *channel.Release) { r.Patches = &blob })
				honest := update.FS(os.DirFS(v.dir))
				asked := 0
				bad := source(func(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
					if strings.HasPrefix(name, "blobs/") {
						asked++
						return c.answer(ctx)
					}
					return honest.Open(ctx, name, offset)
				})
				m.change = append(m.change, func(cfg *update.Config) { cfg.Source = update.Mirrors(bad, bad) })
				u := m.start()
				began := time.Now()
				up := check(t, u).Update
				require.Equal(t, up.Size, up.Download)
				require.LessOrEqual(t, asked, c.most)
				require.InDelta(t, c.takes, time.Since(began), float64(time.Second))
			})
		})
	}
}

// neverending is zeros.
type neverending struct{}

func (neverending) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// When an update is staged, nothing is asked about the way there any more.
func TestCheckOfStagedFetchesNoList(t *testing.T) {
	v, m, _ := patchedVendor(t)
	w := watching(v.dir)
	m.change = append(m.change, func(c *update.Config) { c.Source = w })
	u := m.start()
	up := check(t, u).Update
	list := up.Release.Patches
	require.Equal(t, list.Length, w.read[list.SHA256])
	require.NoError(t, u.Stage(t.Context(), up, nil))
	up = check(t, u).Update
	require.Equal(t, list.Length, w.read[list.SHA256])
	require.Zero(t, up.Download)
	require.NoError(t, u.Apply(t.Context(), up))
}
