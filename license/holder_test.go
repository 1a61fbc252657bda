package license_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/license"
)

func TestFromFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "acme.license")
	h := license.FromFile(verifier(t), path)
	is := func(want license.State, code error) {
		t.Helper()
		s := h.Status(t.Context(), now)
		require.Equal(t, want.String(), s.State.String())
		require.ErrorIs(t, s.Err, code)
		require.Equal(t, want == license.Valid, s.License != nil)
	}
	is(license.Missing, nil)
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	is(license.Missing, nil)
	require.NoError(t, os.WriteFile(path, license.Armor(issue(t)), 0o600))
	is(license.Valid, nil)
	require.Equal(t, license.Expired, h.Status(t.Context(), date("2030-01-01")).State, "judged at the time asked")
	require.NoError(t, os.WriteFile(path, []byte("garbage"), 0o600))
	is(license.Invalid, license.ErrMalformed)
	require.NoError(t, os.WriteFile(path, []byte(strings.Repeat(" ", 70<<10)+string(issue(t))), 0o600))
	is(license.Invalid, license.ErrMalformed)

	// What stops root, too: a folder, a file where a folder should be, a name too long.
	h = license.FromFile(verifier(t), dir)
	require.ErrorContains(t, h.Status(t.Context(), now).Err, "is not a regular file")
	if runtime.GOOS != "windows" { // which says of the last two that there is no such file
		h = license.FromFile(verifier(t), filepath.Join(path, "below"))
		require.Equal(t, license.Invalid, h.Status(t.Context(), now).State)
		var pathErr *fs.PathError
		require.ErrorAs(t, h.Status(t.Context(), now).Err, &pathErr)
		h = license.FromFile(verifier(t), filepath.Join(dir, strings.Repeat("x", 5000)))
		require.Equal(t, license.Invalid, h.Status(t.Context(), now).State)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := license.FromFile(verifier(t), path).Status(ctx, now)
	require.Equal(t, license.Invalid, s.State)
	require.ErrorIs(t, s.Err, context.Canceled)
}

// An open product stays open when the file cannot be read.
func TestFromFileOpen(t *testing.T) {
	h := license.FromFile(verifier(t, func(c *license.Config) { c.Open = true }), t.TempDir())
	r := release()
	require.False(t, h.Status(t.Context(), now).AllowUpdate("stable", "2.3.0", r).Allowed)
	r.Requires = nil
	require.True(t, h.Status(t.Context(), now).AllowUpdate("stable", "2.3.0", r).Allowed)
}

func TestFromToken(t *testing.T) {
	token := issue(t)
	h := license.FromToken(verifier(t), token)
	clear(token)
	require.Equal(t, license.Valid, h.Status(t.Context(), now).State, "it keeps a copy")
	require.Equal(t, license.Expired, h.Status(t.Context(), date("2030-01-01")).State)
	require.Equal(t, license.Missing, license.FromToken(verifier(t), nil).Status(t.Context(), now).State)
	require.ErrorIs(t, license.FromToken(verifier(t), []byte("x")).Status(t.Context(), now).Err, license.ErrMalformed)
}

func TestConcurrentUse(t *testing.T) {
	v := verifier(t)
	h := license.FromToken(v, issue(t))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				s := h.Status(context.Background(), now)
				if !s.Has("sso") || !s.AllowUpdate("stable", "2.3.0", release()).Allowed {
					t.Error("not valid")
				}
			}
		})
	}
	wg.Wait()
}
