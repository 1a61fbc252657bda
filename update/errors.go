package update

import (
	"context"
	"errors"
	"io/fs"

	"github.com/fairlead-dev/fairlead/internal/delta"
)

// errorClass puts an error into one word for reports: nothing of its text leaves the machine.
func errorClass(err error) string {
	var (
		expired  *ExpiredError
		verify   *VerifyError
		rollback *RollbackError
		source   *SourceError
		store    *StoreError
		state    *StateError
		probe    *ProbeError
		channel  *NoChannelError
		obstacle *PreflightError
		hook     *HookError
		format   *delta.FormatError
		memory   *delta.MemoryError
		base     *baseError
		portal   *PortalError
	)
	switch {
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.As(err, &base):
		return "base"
	case errors.As(err, &format):
		return "patch"
	case errors.As(err, &memory):
		return "memory"
	case errors.As(err, &verify):
		return "verify"
	case errors.As(err, &rollback):
		return "rollback"
	case errors.As(err, &expired):
		return "expired"
	case errors.As(err, &obstacle):
		return string(obstacle.Obstacle)
	case errors.As(err, &hook):
		return "hook"
	case errors.As(err, &probe):
		return "probe"
	case errors.As(err, &channel):
		return "no_channel"
	case errors.As(err, &portal):
		return "portal"
	case errors.As(err, &source):
		return "source"
	case errors.Is(err, fs.ErrPermission):
		return "permission"
	case errors.As(err, &store), errors.As(err, &state):
		return "state"
	}
	return "other"
}
