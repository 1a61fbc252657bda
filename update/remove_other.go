//go:build !windows

package update

import (
	"time"

	"github.com/fairlead-dev/fairlead/internal/disk"
)

// removeLater does nothing where a file that is in use can be removed.
func removeLater(disk.FS, string, time.Time) {}
