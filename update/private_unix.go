//go:build unix

package update

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// checkPrivate refuses a folder for state that somebody else could write to: what is in it decides what runs. It may
// belong to this user, to root, or to whoever owns the program's own folder and can replace the program anyway.
func (u *Updater) checkPrivate() error {
	info, err := os.Lstat(u.dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("it is not a folder: remove it")
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("other users may write to it (mode %o): chmod 700", info.Mode().Perm())
	}
	owner := ownerOf(info)
	if owner == os.Geteuid() || owner == 0 {
		return nil
	}
	if home, err := os.Stat(filepath.Dir(u.program())); err == nil && ownerOf(home) == owner {
		return nil
	}
	return fmt.Errorf("it belongs to another user (%d): remove it", owner)
}

func ownerOf(info os.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }
