package license_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/internal/disk"
	"github.com/fairlead-dev/fairlead/internal/disk/crashfs"
	"github.com/fairlead-dev/fairlead/license"
)

// The power fails at every step of an installation, on a model of a disk: whatever it leaves, the old licence is there, or
// the new one, which it is for certain once Install has returned.
func TestPowerLossWhileInstalling(t *testing.T) {
	rng := rand.New(rand.NewPCG(21, 22))
	on := func(d *crashfs.FS) *license.Store {
		s := open(t, dir("/store"))
		s.UseDisk(d)
		return s
	}
	base := crashfs.New()
	_, err := on(base).Install(t.Context(), numbered(t, 1))
	require.NoError(t, err)
	base.Settle()
	states, seen := 0, map[string]int{}
	for n := 0; ; n++ {
		d := base.Clone()
		d.StopAfter(n)
		_, err := on(d).Install(t.Context(), numbered(t, 2))
		for _, after := range d.Crashes(rng, 64) {
			states++
			s := on(after)
			status := s.Current()
			require.True(t, status.Has("sso"), "%d: %v", n, status.Err)
			require.Empty(t, status.Warnings)
			seen[status.License.ID]++
			require.False(t, err == nil && status.License.ID != "jti-2", "%d: it was installed", n)
			status, err := s.Install(t.Context(), numbered(t, 3))
			require.NoError(t, err)
			requireCounts(t, status, license.Valid, "jti-3")
			entries, err := after.ReadDir("/store")
			require.NoError(t, err)
			for _, e := range entries {
				require.False(t, disk.IsTemp(e.Name()))
			}
		}
		if !d.Dead() {
			break
		}
	}
	t.Log(states, "states:", seen)
	require.Greater(t, states, 10)
	require.Positive(t, seen["jti-1"])
	require.Positive(t, seen["jti-2"])
}

// Operations that fail one at a time: an error with its cause, and the licence from before.
func TestFailingDisk(t *testing.T) {
	for _, cause := range []error{syscall.ENOSPC, syscall.EROFS, syscall.EIO} {
		failed := 0
		for at := 1; ; at++ {
			d := crashfs.New()
			s := open(t, dir("/store"))
			s.UseDisk(d)
			_, err := s.Install(t.Context(), numbered(t, 1))
			require.NoError(t, err)
			from, hit := d.Steps(), false
			d.Fail = func(n int, _, path string) error {
				if n != from+at || strings.Contains(path, "clock") {
					return nil
				}
				hit = true
				return cause
			}
			status, err := s.Install(t.Context(), numbered(t, 2))
			if !hit {
				require.NoError(t, err)
				break
			}
			d.Fail = nil
			if err == nil {
				continue // the time could not be noted
			}
			failed++
			var typed *license.StoreError
			require.ErrorAs(t, err, &typed)
			require.ErrorIs(t, err, cause)
			require.Equal(t, errors.Is(cause, syscall.ENOSPC), strings.HasSuffix(err.Error(), ": make room on the disk"), err)
			require.True(t, status.Has("sso"))
			_, err = s.Install(t.Context(), numbered(t, 3))
			require.NoError(t, err)
			requireCounts(t, s.Current(), license.Valid, "jti-3")
		}
		require.Greater(t, failed, 3)
	}
}
