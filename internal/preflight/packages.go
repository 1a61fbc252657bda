package preflight

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// What package managers write down about the files that they have installed, in their own formats. No database is
// changed, and one that is absent owns nothing.

// dpkg looks for the program in /var/lib/dpkg/info/PACKAGE.list: absolute paths, one a line. A package of the program's own
// name is the likeliest, and read first; there may be thousands.
func (s system) dpkg(ctx context.Context, names []string) (bool, error) {
	lists, err := s.list("/var/lib/dpkg/info", ".list")
	base := filepath.Base(names[len(names)-1])
	if i := slices.IndexFunc(lists, func(l string) bool {
		pkg, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(l), ".list"), ":") // git.list, libc6:amd64.list
		return pkg == base
	}); i > 0 {
		lists[0], lists[i] = lists[i], lists[0]
	}
	owned, rerr := anyLine(ctx, lists, func() func([]byte) bool {
		return func(line []byte) bool { return isOneOf(names, "", line) }
	})
	return owned, errors.Join(err, rerr)
}

// pacman looks for the program in /var/lib/pacman/local/PACKAGE/files: a line %FILES%, then paths without the first slash,
// one a line; other sections follow.
func (s system) pacman(ctx context.Context, names []string) (bool, error) {
	dirs, err := s.list("/var/lib/pacman/local", "")
	lists := make([]string, 0, len(dirs))
	for _, dir := range dirs {
		lists = append(lists, filepath.Join(dir, "files"))
	}
	owned, rerr := anyLine(ctx, lists, func() func([]byte) bool {
		section := ""
		return func(line []byte) bool {
			if bytes.HasPrefix(line, []byte("%")) {
				section = string(line)
				return false
			}
			return section == "%FILES%" && isOneOf(names, "/", line)
		}
	})
	return owned, errors.Join(err, rerr)
}

// apk looks for the program in /lib/apk/db/installed, which may be below /usr. Of a package (P:, closed by an empty line) there
// is F: for a folder, without the first slash, and after it R: for each file in that.
func (s system) apk(ctx context.Context, names []string) (bool, error) {
	lists := []string{s.root + "/lib/apk/db/installed", s.root + "/usr/lib/apk/db/installed"}
	return anyLine(ctx, lists, func() func([]byte) bool {
		dir := "/"
		return func(line []byte) bool {
			if folder, ok := bytes.CutPrefix(line, []byte("F:")); ok {
				dir = strings.TrimSuffix("/"+string(folder), "/") + "/"
			}
			file, ok := bytes.CutPrefix(line, []byte("R:"))
			return ok && isOneOf(names, dir, file)
		}
	})
}

// isOneOf reports whether prefix and rest together are one of names.
func isOneOf(names []string, prefix string, rest []byte) bool {
	for _, name := range names {
		if end, ok := strings.CutPrefix(name, prefix); ok && end == string(rest) {
			return true
		}
	}
	return false
}

// list returns the paths of what is in folder dir with names that end in suffix.
func (s system) list(dir, suffix string) ([]string, error) {
	d, err := os.Open(s.root + dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	entries, err := d.Readdirnames(100_000)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	var paths []string
	for _, e := range entries {
		if strings.HasSuffix(e, suffix) {
			paths = append(paths, filepath.Join(s.root+dir, e))
		}
	}
	return paths, err
}

// anyLine reports whether a line of one of the files is what its reader looks for. A file that is absent has no lines. It
// goes on after an error, but not after ctx has ended.
func anyLine(ctx context.Context, paths []string, reader func() func(line []byte) bool) (bool, error) {
	var errs []error
	buf := make([]byte, 64<<10) // no path is longer
	for _, path := range paths {
		if err := ctx.Err(); err != nil {
			return false, errors.Join(append(errs, err)...)
		}
		found, err := anyLineOf(path, buf, reader())
		if found {
			return true, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) && len(errs) < 3 {
			errs = append(errs, err)
		}
	}
	return false, errors.Join(errs...)
}

func anyLineOf(path string, buf []byte, is func(line []byte) bool) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, syscall.ENOTDIR) {
		return false, nil // a file where pacman has folders: ALPM_DB_VERSION
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(io.LimitReader(f, 64<<20))
	lines.Buffer(buf, len(buf))
	for lines.Scan() {
		if is(lines.Bytes()) {
			return true, nil
		}
	}
	if err := lines.Err(); err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	return false, nil
}

// rpmDatabases are the files of which one is there if rpm has installed anything: of sqlite, ndb and Berkeley DB. The
// folder alone does not count; it comes with the program.
var rpmDatabases = [...]string{
	"/usr/lib/sysimage/rpm/rpmdb.sqlite", "/usr/lib/sysimage/rpm/Packages.db", "/usr/lib/sysimage/rpm/Packages",
	"/var/lib/rpm/rpmdb.sqlite", "/var/lib/rpm/Packages.db", "/var/lib/rpm/Packages",
}

// rpm asks /usr/bin/rpm, if that is there and there is a database: its format is nobody else's business.
func (s system) rpm(ctx context.Context, names []string) (bool, error) {
	database := s.first(rpmDatabases[:]...)
	program := s.first("/usr/bin/rpm", "/bin/rpm")
	if database == "" || program == "" {
		return false, nil
	}
	const mark = "owner="
	args := []string{"-qf", "--qf", mark + `%{NAME}\n`, "--dbpath", filepath.Dir(database)}
	for _, name := range names {
		if _, err := os.Lstat(s.root + name); err == nil { // about others it would complain
			args = append(args, name)
		}
	}
	var out, complaints head
	cmd := exec.CommandContext(ctx, s.root+program, args...)
	cmd.Stdout, cmd.Stderr = &out, &complaints
	cmd.Dir = "/"
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/bin:/bin", "HOME=/nonexistent"} // nobody's ~/.rpmmacros
	cmd.WaitDelay = 100 * time.Millisecond
	err := cmd.Run()
	if strings.HasPrefix(out.text, mark) || strings.Contains(out.text, "\n"+mark) {
		return true, nil
	}
	if ctx.Err() != nil {
		return false, fmt.Errorf("%s: %w", program, ctx.Err())
	}
	// It exits with 1 or more for paths that nobody owns, and the same on any failure.
	if _, line, failed := strings.Cut(complaints.text, "error: "); err != nil && failed {
		line, _, _ = strings.Cut(line, "\n")
		return false, fmt.Errorf("%s: %s", program, printable(line))
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return false, nil
	}
	return false, err
}

// first returns the first of these paths where a regular file is, or "".
func (s system) first(names ...string) string {
	for _, name := range names {
		if info, err := os.Stat(s.root + name); err == nil && info.Mode().IsRegular() {
			return name
		}
	}
	return ""
}

// head keeps the first 64 KiB of what is written to it.
type head struct{ text string }

func (h *head) Write(p []byte) (int, error) {
	h.text += string(p[:min(len(p), 64<<10-len(h.text))])
	return len(p), nil
}
