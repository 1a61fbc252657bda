package update

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/fairlead-dev/fairlead/internal/disk"
)

// writeback starts writing a part of a file to disk without waiting, so that the disk works while the network does and
// the sync at the end has little left to do. It is a hint: its failure means nothing.
func writeback(f disk.File, from, n int64) {
	if f, ok := f.(*os.File); ok {
		_ = unix.SyncFileRange(int(f.Fd()), from, n, unix.SYNC_FILE_RANGE_WRITE)
	}
}
