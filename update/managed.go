package update

import (
	"bytes"
	"cmp"
	"os"
	"path/filepath"
	"strings"
)

// managedPaths are places where only a package manager puts programs. A pattern matches any part of the path.
var managedPaths = [...]struct{ part, by string }{
	{"/snap/", "snap"}, {"/nix/store/", "Nix"}, {"/gnu/store/", "Guix"}, {"/Cellar/", "Homebrew"}, {"/var/lib/flatpak/", "Flatpak"},
	{"/AppTranslocation/", "macOS App Translocation: move the app to the Applications folder first"}, {"/WindowsApps/", "the Microsoft Store"},
}

// managedBy says who looks after this installation, or "" if we may.
func (u *Updater) managedBy() string {
	program := filepath.ToSlash(u.program)
	for _, m := range managedPaths {
		if strings.Contains(program, m.part) {
			return m.by
		}
	}
	// Packagers may say so themselves, with a file NAME.managed beside the program that holds their name.
	if by, err := os.ReadFile(u.program + ".managed"); err == nil {
		return cmp.Or(strings.TrimSpace(string(by[:min(len(by), 64)])), "a package manager")
	}
	if inDebianPackage(program) {
		return "dpkg"
	}
	if !writable(filepath.Dir(u.program)) {
		return "another user (this one may not write to " + filepath.Dir(u.program) + ")"
	}
	return ""
}

func inDebianPackage(program string) bool {
	lists, _ := filepath.Glob("/var/lib/dpkg/info/*.list")
	line := []byte("\n" + program + "\n")
	for _, list := range lists {
		if data, err := os.ReadFile(list); err == nil && bytes.Contains(data, line) {
			return true
		}
	}
	return false
}

// writable asks the system by doing it: permission bits, ACLs, read-only mounts and sandboxes all count.
func writable(dir string) bool {
	f, err := os.CreateTemp(dir, ".fairlead-*")
	if err != nil {
		return false
	}
	_ = f.Close()
	return os.Remove(f.Name()) == nil
}
