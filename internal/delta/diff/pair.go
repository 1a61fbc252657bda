package diff

import (
	"path"
	"regexp"
	"strings"

	"github.com/fairlead-dev/fairlead/channel"
)

// pair finds by name what each missing file was in old: the SHA-256 of its old self by that of the new one. The program is
// the old program, whatever they are called. Others have the same path, below a top folder that may differ (notes-1.2.3/);
// or else one that differs in numbers only, such as the hash in main.3f2a1b.js; or else they are the only ones of their
// base name.
func pair(old, next *Content, missing []channel.File) map[string]string {
	oldTop, nextTop := topFolder(old.files), topFolder(next.files)
	exact, loose, base := map[string]string{}, map[string]string{}, map[string][]string{}
	for _, f := range old.files {
		p := strings.TrimPrefix(f.Path, oldTop)
		exact[p] = f.SHA256
		loose[withoutNumbers(p)] = f.SHA256
		base[path.Base(p)] = append(base[path.Base(p)], f.SHA256)
	}
	pairs := map[string]string{}
	for _, f := range missing {
		p := strings.TrimPrefix(f.Path, nextTop)
		switch name := withoutNumbers(p); {
		case f.SHA256 == next.program && old.program != "":
			pairs[f.SHA256] = old.program
		case exact[p] != "":
			pairs[f.SHA256] = exact[p]
		case loose[name] != "":
			pairs[f.SHA256] = loose[name]
		case len(base[path.Base(p)]) == 1:
			pairs[f.SHA256] = base[path.Base(p)][0]
		}
	}
	return pairs
}

// topFolder is the folder that all files are in, with its slash, or "".
func topFolder(files []channel.File) string {
	top := ""
	for i, f := range files {
		folder, _, found := strings.Cut(f.Path, "/")
		if !found || i > 0 && folder+"/" != top {
			return ""
		}
		top = folder + "/"
	}
	return top
}

// A number is a version or a count, or what looks like a hash.
var numberRE = regexp.MustCompile(`[0-9A-Fa-f]{6,}|[0-9]+(\.[0-9]+)*`)

func withoutNumbers(p string) string { return numberRE.ReplaceAllString(p, "#") }
