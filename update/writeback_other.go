//go:build !linux

package update

import "os"

func writeback(*os.File, int64, int64) {}
