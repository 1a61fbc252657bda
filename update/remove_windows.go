package update

import (
	"path/filepath"
	"time"

	"github.com/fairlead-dev/fairlead/internal/disk"
)

// removeLater asks Windows to remove at the next start of the machine a program that is in use and older than a day. It is
// the last resort, and needs an administrator's rights: every Start tries again without it.
func removeLater(fsys disk.FS, path string, now time.Time) {
	info, err := fsys.Lstat(path)
	if err != nil || info.IsDir() || now.Sub(info.ModTime()) < 24*time.Hour {
		return
	}
	scheduled := filepath.Join(filepath.Dir(path), gonePrefix+"at-reboot")
	if path != scheduled && disk.RenameNow(fsys, path, scheduled) == nil { // once: there is one such name
		_ = disk.RemoveAtReboot(scheduled)
	}
}
