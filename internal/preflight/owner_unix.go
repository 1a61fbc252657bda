//go:build unix

package preflight

import (
	"os"
	"os/user"
	"strconv"
	"syscall"
)

func foreignOwner(path string) (string, bool) {
	info, err := os.Stat(path)
	me := os.Geteuid()
	if err != nil || me == 0 {
		return "", false
	}
	uid := int(info.Sys().(*syscall.Stat_t).Uid)
	if uid == me {
		return "", false
	}
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username, true
	}
	return "uid " + strconv.Itoa(uid), true
}

func sessionEnding() bool { return false }
