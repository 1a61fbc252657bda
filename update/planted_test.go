package update_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/update"
)

// What somebody has planted in the updater's folder is neither opened, nor followed, nor waited for.
func TestPlanted(t *testing.T) {
	content := program("1.1.0")
	v := newVendor(t)
	v.release("1.1.0", content)
	part := "staging/" + digest(content) + ".part"
	for name, plant := range map[string]func(dir, victim string) error{
		"a FIFO for the download":       func(dir, _ string) error { return mkfifo(filepath.Join(dir, part)) },
		"a folder for the download":     func(dir, _ string) error { return os.MkdirAll(filepath.Join(dir, part, "deep"), 0o700) },
		"a link for the download":       func(dir, victim string) error { return os.Symlink(victim, filepath.Join(dir, part)) },
		"a FIFO for the journal":        func(dir, _ string) error { return mkfifo(filepath.Join(dir, "journal")) },
		"a link for the journal":        func(dir, victim string) error { return os.Symlink(victim, filepath.Join(dir, "journal")) },
		"a link for the version before": func(dir, victim string) error { return os.Symlink(victim, filepath.Join(dir, "previous")) },
		"a FIFO for the version before": func(dir, _ string) error { return mkfifo(filepath.Join(dir, "previous")) },
		"a link to a folder for an unpacked": func(dir, victim string) error {
			return os.Symlink(filepath.Dir(victim), filepath.Join(dir, "staging/new-x"))
		},
		"a link to a folder on its way out": func(dir, victim string) error { return os.Symlink(filepath.Dir(victim), filepath.Join(dir, "gone-x")) },
		"a folder on its way out, with a link": func(dir, victim string) error {
			return errors.Join(os.Mkdir(filepath.Join(dir, "gone-x"), 0o700), os.Symlink(filepath.Dir(victim), filepath.Join(dir, "gone-x", "link")))
		},
		"a link for the reserve":             func(dir, victim string) error { return os.Symlink(victim, filepath.Join(dir, "reserve")) },
		"a FIFO for a failed version":        func(dir, _ string) error { return mkfifo(filepath.Join(dir, "failed")) },
		"a link for what a supervisor hears": func(dir, victim string) error { return os.Symlink(victim, filepath.Join(dir, "restart")) },
	} {
		t.Run(name, func(t *testing.T) {
			if runtime.GOOS == "windows" && strings.Contains(name, "FIFO") {
				t.Skip("there is no such thing")
			}
			m := newMachine(t, v, "1.0.0")
			victim := filepath.Join(m.dir, "victims", "precious")
			require.NoError(t, os.Mkdir(filepath.Dir(victim), 0o755))
			require.NoError(t, os.WriteFile(victim, []byte("precious"), 0o600))
			dir := update.Dir(m.process())
			require.NoError(t, os.MkdirAll(filepath.Join(dir, "staging"), 0o700))
			require.NoError(t, plant(dir, victim))
			m.updateTo(m.start(), "1.1.0")
			u := m.start()
			require.NoError(t, u.Confirm(t.Context()))
			require.NoError(t, u.Rollback(t.Context(), "test"))
			m.start()
			require.Equal(t, "1.0.0", m.version())
			data, err := os.ReadFile(victim)
			require.NoError(t, err)
			require.Equal(t, "precious", string(data))
			info, err := os.Lstat(m.program)
			require.NoError(t, err)
			require.True(t, info.Mode().IsRegular())
		})
	}
}
