package license

import (
	"context"

	"github.com/fairlead-dev/fairlead/internal/disk"
)

// UseDisk puts a model in the place of the file system. It has no locks.
func (s *Store) UseDisk(fsys disk.FS) {
	s.shelf.fs = fsys
	s.shelf.lock = func(context.Context, string, bool) (func(), error) { return func() {}, nil }
}
