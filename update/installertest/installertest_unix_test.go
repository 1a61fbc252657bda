//go:build unix

package installertest_test

import (
	"path/filepath"
	"testing"

	"github.com/fairlead-dev/fairlead/update"
	"github.com/fairlead-dev/fairlead/update/installertest"
)

func TestBundle(t *testing.T) {
	place := func(dir string) string { return filepath.Join(dir, "App.app") }
	installertest.Run(t, installertest.Layout{
		Installer: func(dir string) update.Installer { return update.Bundle{Path: place(dir), Program: program} },
		Install:   func(dir string, files map[string][]byte) error { return write(place(dir), files) },
		Read:      func(dir string) (map[string][]byte, error) { return read(place(dir)) },
	})
}
