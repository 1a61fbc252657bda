package channel

import (
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds on what an artifact installs. A publisher refuses what is beyond them, since clients will.
const (
	MaxFiles          = 10_000   // files and symbolic links; folders are bounded by the same number
	MaxUnpacked int64 = 16 << 30 // bytes of all files together
)

const (
	maxPath    = 1024 // bytes: PATH_MAX of macOS
	maxElement = 255  // bytes: NAME_MAX of every file system in use
	maxDepth   = 64   // elements
	maxHops    = 32   // symbolic links on the way to a file: MAXSYMLINKS of macOS, the smallest of our systems
)

// CheckPath checks the path of an installed file, link or folder: relative, slash-separated, the shortest way of
// writing it, of printable UTF-8, and nothing that a system reads as a drive, a stream or a share. It is the only place
// for these rules: manifests, archives and publishers ask it.
//
// If os is "windows", it refuses besides what Windows does not have, or reads as something else: device names, trailing
// dots and spaces, and the characters <>"|?*. Elsewhere those are ordinary names, and in use.
//
// Names that are equal only after Unicode normalisation (NFC) are not found here: apps may not link the tables for
// it. Publishers refuse them (package tufrepo), and a client creates every file exclusively, so a file system
// that takes two such names for one refuses the second.
//
// The error is an [*InvalidError]. Its Detail continues a sentence that begins with the path.
func CheckPath(p, os string) error {
	return invalidPath(p, badPath(p, os))
}

func invalidPath(p, why string) error {
	if why == "" {
		return nil
	}
	if len(p) > maxPath {
		p = p[:maxPath] + "…"
	}
	return &InvalidError{fmt.Sprintf("path %q", p), why}
}

// badPath says why p is refused, or "".
func badPath(p, os string) string {
	switch {
	case len(p) > maxPath:
		return fmt.Sprintf("is longer than %d bytes", maxPath)
	case p == "" || p == "." || p == ".." || strings.HasPrefix(p, "../") || path.IsAbs(p) || path.Clean(p) != p || strings.ContainsAny(p, `\:`):
		return "is not relative, clean and slash-separated"
	case !utf8.ValidString(p):
		return "is not UTF-8"
	case strings.ContainsFunc(p, func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }):
		return "has characters that are not printed"
	}
	elements := strings.Split(p, "/")
	if len(elements) > maxDepth {
		return fmt.Sprintf("has more than %d elements", maxDepth)
	}
	for _, e := range elements {
		if len(e) > maxElement {
			return fmt.Sprintf("has an element of more than %d bytes", maxElement)
		}
		if os == "windows" && !windowsName(e) {
			return "is a name that Windows does not have"
		}
	}
	return ""
}

func windowsName(s string) bool {
	if strings.HasSuffix(s, ".") || strings.HasSuffix(s, " ") || strings.ContainsAny(s, `<>"|?*`) {
		return false
	}
	base, _, _ := strings.Cut(strings.ToLower(s), ".") // nul.txt is the device, too
	switch base = strings.TrimRight(base, " "); base {
	case "con", "prn", "aux", "nul", "conin$", "conout$":
		return false
	}
	port, ok := strings.CutPrefix(base, "com")
	if !ok {
		port, ok = strings.CutPrefix(base, "lpt")
	}
	return !ok || utf8.RuneCountInString(port) != 1 || !strings.ContainsAny(port, "0123456789¹²³")
}

// CheckLink checks a symbolic link at path p by itself; whether its target is there, only a whole file list can tell,
// see [File]. The error is as that of [CheckPath].
func CheckLink(p, target, os string) error {
	if err := CheckPath(p, os); err != nil {
		return err
	}
	return invalidPath(p, badLink(p, target, os))
}

func badLink(p, target, os string) string {
	if os == "windows" {
		return "is a symbolic link; there are none on Windows" // to make one takes a privilege
	}
	why := ""
	if target == "" || path.Clean(target) != target {
		why = "is not relative, clean and slash-separated"
	}
	rest := target
	for rest == ".." || strings.HasPrefix(rest, "../") {
		rest = strings.TrimPrefix(rest[2:], "/")
	}
	if why == "" && rest != "" {
		why = badPath(rest, os)
	}
	joined := path.Join(path.Dir(p), target)
	if why == "" && (joined == "." || joined == ".." || strings.HasPrefix(joined, "../")) {
		why = "is the installed folder itself, or outside of it"
	}
	if why == "" {
		return ""
	}
	return fmt.Sprintf("is a symbolic link to %.256q, which %s", target, why)
}

// A PathSet collects the paths of what is installed together, and refuses those that are one and the same on a file
// system that ignores case, as those of macOS and Windows do: two files, a file and a folder, or a folder written in
// two ways. The zero value is empty.
type PathSet struct {
	seen    map[string]pathEntry // by folded path
	folders int
}

type pathEntry struct {
	path string
	kind pathKind
}

type pathKind int

const (
	aFile   pathKind = iota // or a link: nothing is below it
	aFolder                 // because something is below it
	aListedFolder
)

// Add adds a path that passed [CheckPath], and the folders above it. A symbolic link counts as a file. The error is as
// that of CheckPath; after one, the set is not used any more.
func (s *PathSet) Add(p string, folder bool) error {
	return invalidPath(p, s.add(p, folder))
}

func (s *PathSet) add(p string, folder bool) string {
	if s.seen == nil {
		s.seen = map[string]pathEntry{}
	}
	folded := foldPath(p)
	for i, j := 0, 0; ; i, j = i+1, j+1 { // folding neither makes slashes nor removes any
		next := strings.IndexByte(p[i:], '/')
		if next < 0 {
			break
		}
		i, j = i+next, j+strings.IndexByte(folded[j:], '/')
		if why := s.put(folded[:j], p[:i], aFolder); why != "" {
			return fmt.Sprintf("is in the folder %q, which %s", p[:i], why)
		}
	}
	kind := aFile
	if folder {
		kind = aListedFolder
	}
	return s.put(folded, p, kind)
}

func (s *PathSet) put(folded, p string, kind pathKind) string {
	there, ok := s.seen[folded]
	switch {
	case !ok:
		if kind != aFile {
			s.folders++
		}
		if s.folders > MaxFiles {
			return fmt.Sprintf("is one more than %d folders", MaxFiles)
		}
	case there.path != p:
		return fmt.Sprintf("differs only by case from %q", there.path)
	case (there.kind == aFile) != (kind == aFile):
		return "is both a file and a folder"
	case there.kind == kind && kind != aFolder:
		return "is there twice"
	case kind == aFolder:
		return ""
	}
	s.seen[folded] = pathEntry{p, kind}
	return ""
}

// foldPath maps paths to the same text if any of our systems may take them for the same file. It goes further than
// each of them: by upper case as NTFS does, by lower case and by Unicode's simple folding as APFS does.
func foldPath(p string) string {
	return strings.Map(func(r rune) rune {
		r = unicode.ToLower(unicode.ToUpper(r))
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		return least
	}, p)
}
