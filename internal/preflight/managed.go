package preflight

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode"
)

// ManagedBy names who looks after the program at path program: a package manager, an app store, a read-only image. It is
// "" for nobody whom this package knows. The name is for people to read, and printable.
//
// It asks about the path as given, about every symbolic link on the way, and about where the last one leads to. In
// this order: where the program lies; a file NAME.managed beside it, with which packagers say who they are; the databases
// of dpkg, rpm, pacman and apk on Unix, and of Windows Installer; whether it lies on a read-only volume. None of them is asked
// for longer than three seconds. No environment variable is read.
//
// An error says that a database could not be read, or not in time. The name is "" then, and somebody might look after
// the program all the same.
func ManagedBy(ctx context.Context, program string) (string, error) {
	return thisSystem().managedBy(ctx, program)
}

// A system is the machine to ask. Tests make their own.
type system struct {
	root     string                                  // stands before every path of this machine: "" but in tests
	goos     string                                  // as runtime.GOOS
	patience time.Duration                           // with each database
	msi      func(context.Context) ([]string, error) // the folders of what Windows Installer has installed
}

func thisSystem() system {
	return system{goos: runtime.GOOS, patience: 3 * time.Second, msi: installedByMSI}
}

func (s system) managedBy(ctx context.Context, program string) (string, error) {
	names := s.names(program)
	for _, name := range names {
		if by := cmp.Or(s.place(name), s.declared(name)); by != "" {
			return by, nil
		}
	}
	var errs []error
	for _, d := range s.databases() {
		owned, err := s.within(ctx, d.owns, names)
		if owned {
			return d.name, nil
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("ask %s for the owner of %s: %w", d.name, program, err))
		}
	}
	ro, err := readOnlyProgram(program)
	if ro {
		return "a read-only file system", nil
	}
	return "", errors.Join(append(errs, err)...)
}

// A database knows which files a package manager has installed.
type database struct {
	name string
	owns func(ctx context.Context, names []string) (bool, error)
}

// databases returns those of this system. None of Unix is looked for on Windows, where any user may make a \usr\bin on
// the drive and put an rpm there.
func (s system) databases() []database {
	if s.goos == "windows" {
		return []database{{"Windows Installer", s.windowsInstaller}}
	}
	return []database{{"dpkg", s.dpkg}, {"rpm", s.rpm}, {"pacman", s.pacman}, {"apk", s.apk}}
}

// readOnlyProgram reports whether a program, or the folder where it really is, cannot be changed: the volume of a link to
// it does not matter.
func readOnlyProgram(program string) (bool, error) {
	if target, err := filepath.EvalSymlinks(program); err == nil {
		program = target
	}
	for _, path := range []string{program, filepath.Dir(program)} {
		ro, err := ReadOnly(path)
		if errors.Is(err, errors.ErrUnsupported) {
			return false, nil
		}
		if ro || err != nil {
			return ro, err
		}
	}
	return false, nil
}

func (s system) within(ctx context.Context, owns func(context.Context, []string) (bool, error), names []string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	return owns(ctx, names)
}

// names returns the paths by which others may know the program: as given, each link on the way, where it is in the end,
// and each again for folders that have two names (/bin, where it is a link to /usr/bin).
func (s system) names(program string) []string {
	var names []string
	add := func(path string) {
		if name := strings.TrimPrefix(path, s.root); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	path, err := filepath.Abs(program)
	if err != nil {
		path = program
	}
	for range 40 { // as many links as Linux follows
		add(path)
		if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
			path = filepath.Join(dir, filepath.Base(path))
			add(path)
		}
		target, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	if s.goos == "windows" {
		return names
	}
	for _, name := range slices.Clone(names) {
		for _, alias := range s.aliases(name) {
			add(alias)
		}
	}
	return names
}

// mergedFolders are those that distributions have made one of: a package may list its files by either name.
var mergedFolders = [...]string{
	"/bin/", "/sbin/", "/lib/", "/lib32/", "/lib64/", "/libx32/",
	"/usr/bin/", "/usr/sbin/", "/usr/lib/", "/usr/lib32/", "/usr/lib64/", "/usr/libx32/",
}

func (s system) aliases(name string) []string {
	var aliases []string
	for _, dir := range mergedFolders {
		rest, in := strings.CutPrefix(name, dir)
		here, err := os.Stat(s.root + dir)
		if !in || err != nil {
			continue
		}
		for _, other := range mergedFolders {
			if there, err := os.Stat(s.root + other); err == nil && os.SameFile(here, there) {
				aliases = append(aliases, other+rest)
			}
		}
	}
	return aliases
}

// managedPlaces are where only a package manager puts programs: below a folder, or below any folder of some name. Names are
// compared without regard to case on Windows, and written in lower case here.
var managedPlaces = [...]struct{ goos, below, part, by string }{
	{"", "", "/nix/store/", "Nix"}, // also in the store of a user without root, below another folder
	{"", "", "/gnu/store/", "Guix"},
	{"", "", "/Cellar/", "Homebrew"},
	{"", "", "/Caskroom/", "Homebrew"},
	{"darwin", "/opt/homebrew/", "", "Homebrew"},
	{"linux", "/home/linuxbrew/.linuxbrew/", "", "Homebrew"},
	{"darwin", "/opt/local/", "", "MacPorts"},
	{"darwin", "", "/AppTranslocation/", "macOS App Translocation: move the app to the Applications folder first"},
	{"linux", "/snap/", "", "snap"}, // not any /snap/: ~/snap is where snaps keep data
	{"linux", "/var/lib/snapd/snap/", "", "snap"},
	{"linux", "/var/lib/flatpak/", "", "Flatpak"},
	{"linux", "", "/.local/share/flatpak/", "Flatpak"},
	{"windows", "", "/windowsapps/", "the Microsoft Store"},
	{"windows", "", "/chocolatey/lib/", "Chocolatey"},
	{"windows", "", "/scoop/apps/", "Scoop"},
	{"windows", "", "/winget/packages/", "WinGet"},
}

func (s system) place(name string) string {
	if s.goos == "windows" {
		name = strings.ToLower(strings.ReplaceAll(name, `\`, "/"))
	}
	for _, p := range managedPlaces {
		if (p.goos == "" || p.goos == s.goos) && strings.HasPrefix(name, p.below) && strings.Contains(name, p.part) {
			return p.by
		}
	}
	if s.goos == "linux" && strings.HasPrefix(name, "/app/") && s.exists("/.flatpak-info") { // seen from inside
		return "Flatpak"
	}
	if s.goos == "darwin" && s.fromAppStore(name) {
		return "the Mac App Store"
	}
	return ""
}

// fromAppStore reports whether an app around the program, or around the app that it is a helper in, has a receipt.
func (s system) fromAppStore(name string) bool {
	for dir := filepath.Dir(name); dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if strings.EqualFold(filepath.Ext(dir), ".app") && s.exists(filepath.Join(dir, "Contents/_MASReceipt/receipt")) {
			return true
		}
	}
	return false
}

// declared returns what the file NAME.managed says, by which packagers may say so themselves. An empty or unreadable one
// says it, too.
func (s system) declared(name string) string {
	path := s.root + name + ".managed"
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	const some = "a package manager"
	if !info.Mode().IsRegular() {
		return some
	}
	f, err := os.Open(path)
	if err != nil {
		return some
	}
	defer func() { _ = f.Close() }()
	text, _ := io.ReadAll(io.LimitReader(f, 64))
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	return cmp.Or(strings.TrimSpace(printable(line)), some)
}

// printable drops what could steer a terminal, and the half of a letter at the end.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, s)
}

func (s system) exists(name string) bool {
	_, err := os.Stat(s.root + name)
	return err == nil || !errors.Is(err, fs.ErrNotExist)
}

// windowsInstaller reports whether the program lies below the folder of a product of Windows Installer.
func (s system) windowsInstaller(ctx context.Context, names []string) (bool, error) {
	folders, err := s.msi(ctx)
	for _, folder := range folders {
		// Some products quote the folder. A whole drive, or a relative path, is somebody's mistake.
		folder = strings.ToLower(strings.TrimRight(strings.ReplaceAll(strings.Trim(folder, `" `), "/", `\`), `\`)) + `\`
		if strings.Count(folder, `\`) < 2 {
			continue
		}
		for _, name := range names {
			if strings.HasPrefix(strings.ToLower(strings.ReplaceAll(name, "/", `\`)), folder) {
				return true, nil
			}
		}
	}
	return false, err
}
