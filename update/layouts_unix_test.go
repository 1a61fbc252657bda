//go:build unix

package update_test

import (
	"path/filepath"

	"github.com/fairlead-dev/fairlead/update"
)

// systemLayouts are those that Windows does not have.
var systemLayouts = []layout{
	{
		name: "bundle",
		installer: func(dir string) update.Installer {
			return update.Bundle{Path: filepath.Join(dir, "Notes.app"), Program: programPath}
		},
		program: "Notes.app/" + programPath,
		place:   func(dir, _ string) string { return filepath.Join(dir, "Notes.app") },
	},
}
