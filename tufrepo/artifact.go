package tufrepo

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/fairlead-dev/fairlead/channel"
)

// Bounds on what an archive unpacks to: clients have to unpack it, too.
const (
	maxFiles    = 10_000
	maxUnpacked = 16 << 30 // bytes
)

type progressFunc = func(done, total int64, what string)

// scanArtifact reads a file once, or twice if it is a zip file, in bounded memory.
func scanArtifact(ctx context.Context, product string, n NewArtifact, progress progressFunc) (channel.Artifact, error) {
	a := channel.Artifact{Platform: n.Platform, Format: n.Format, Executable: n.Executable}
	if info, err := os.Stat(n.Path); err != nil {
		return a, err
	} else if !info.Mode().IsRegular() { // opening a FIFO would wait for ever
		return a, errors.New("is not a regular file")
	} else if info.Size() == 0 {
		return a, errors.New("is empty; was it built?")
	}
	f, err := os.Open(n.Path)
	if err != nil {
		return a, err
	}
	defer func() { _ = f.Close() }()
	if a.Format == "" {
		if a.Format, err = formatOf(n.Path, f); err != nil {
			return a, err
		}
	}
	files := &fileList{platform: n.Platform}
	switch a.Format {
	case channel.Raw:
		if err := checkBinary(f, n.Platform); err != nil {
			return a, err
		}
		a.Blob, err = hashFile(ctx, f, progress)
		if a.Executable == "" {
			a.Executable = product
			if n.Platform.OS == "windows" {
				a.Executable += ".exe"
			}
		}
		a.Files = []channel.File{{Path: a.Executable, Blob: a.Blob, Mode: 0o755}}
		return a, err
	case channel.TarGz:
		a.Blob, err = scanTarGz(ctx, f, files, progress)
	case channel.Zip:
		if a.Blob, err = hashFile(ctx, f, progress); err == nil {
			err = scanZip(ctx, f, a.Length, files)
		}
	default:
		err = fmt.Errorf("format %q is none of raw, tar.gz, zip", a.Format)
	}
	if err != nil {
		return a, err
	}
	a.Files = files.sorted()
	return a, files.chooseExecutable(&a)
}

// formatOf tells the format by the name, and asks where that is not certain: an archive released as a program would be
// found out only by the customers.
func formatOf(name string, f io.ReaderAt) (channel.Format, error) {
	lower := strings.ToLower(name)
	switch {
	case strings.HasSuffix(lower, ".tar.gz") || strings.HasSuffix(lower, ".tgz"):
		return channel.TarGz, nil
	case strings.HasSuffix(lower, ".zip"):
		return channel.Zip, nil
	}
	head := make([]byte, 6)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	for _, magic := range []string{"\x1f\x8b", "PK\x03\x04", "\xfd7zXZ", "BZh", "\x28\xb5\x2f\xfd", "7z\xbc\xaf"} {
		if strings.HasPrefix(string(head[:n]), magic) {
			return "", errors.New("looks like an archive, but is not named .tar.gz, .tgz or .zip; say which format it is")
		}
	}
	return channel.Raw, nil
}

// A meter hashes, counts and reports what is read, and ends with the context.
type meter struct {
	ctx         context.Context
	r           io.Reader
	sum         io.Writer
	name        string
	done, total int64
	progress    progressFunc
}

func (m *meter) Read(p []byte) (int, error) {
	if err := m.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := m.r.Read(p)
	_, _ = m.sum.Write(p[:n])
	m.done += int64(n)
	m.progress(m.done, m.total, m.name)
	return n, err
}

func hashFile(ctx context.Context, f *os.File, progress progressFunc) (channel.Blob, error) {
	return throughHash(ctx, f, progress, func(io.Reader) error { return nil })
}

// throughHash gives the file to read and hashes it to its end, whatever read left.
func throughHash(ctx context.Context, f *os.File, progress progressFunc, read func(io.Reader) error) (channel.Blob, error) {
	info, err := f.Stat()
	if err != nil {
		return channel.Blob{}, err
	}
	if !info.Mode().IsRegular() {
		return channel.Blob{}, errors.New("is not a regular file")
	}
	hash := sha256.New()
	m := &meter{ctx: ctx, r: f, sum: hash, name: f.Name(), total: info.Size(), progress: progress}
	if err := read(m); err != nil {
		return channel.Blob{}, err
	}
	if _, err := io.Copy(io.Discard, m); err != nil {
		return channel.Blob{}, err
	}
	return channel.Blob{SHA256: hex.EncodeToString(hash.Sum(nil)), Length: m.done}, nil
}

func scanTarGz(ctx context.Context, f *os.File, files *fileList, progress progressFunc) (channel.Blob, error) {
	return throughHash(ctx, f, progress, func(r io.Reader) error {
		z, err := gzip.NewReader(r)
		if err != nil {
			return fmt.Errorf("is not a whole tar.gz archive: %w", err)
		}
		limited := &io.LimitedReader{R: z, N: maxUnpacked + 1}
		t := tar.NewReader(limited)
		for {
			h, err := t.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return limitError(limited, fmt.Errorf("is not a whole tar.gz archive: %w", err))
			}
			if h.Typeflag == tar.TypeDir {
				if err := files.directory(h.Name); err != nil {
					return err
				}
				continue
			}
			if h.Typeflag != tar.TypeReg {
				return fmt.Errorf("holds %q, which is not a regular file (type %q); links and devices are not installed", h.Name, h.Typeflag)
			}
			if err := files.add(h.Name, h.FileInfo().Mode(), t); err != nil {
				return limitError(limited, err)
			}
		}
		_, err = io.Copy(io.Discard, limited) // up to the checksum
		return limitError(limited, err)
	})
}

func limitError(l *io.LimitedReader, err error) error {
	if l.N <= 0 {
		return fmt.Errorf("unpacks to more than %d bytes", int64(maxUnpacked))
	}
	return err
}

func scanZip(ctx context.Context, f *os.File, size int64, files *fileList) error {
	z, err := zip.NewReader(f, size)
	if err != nil {
		return fmt.Errorf("is not a whole zip archive: %w", err)
	}
	left := int64(maxUnpacked)
	for _, e := range z.File {
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.Mode().IsDir() {
			if err := files.directory(e.Name); err != nil {
				return err
			}
			continue
		}
		if !e.Mode().IsRegular() {
			return fmt.Errorf("holds %q, which is not a regular file; links and devices are not installed", e.Name)
		}
		r, err := e.Open()
		if err != nil {
			return fmt.Errorf("%s: %w", e.Name, err)
		}
		limited := &io.LimitedReader{R: r, N: left + 1}
		err = files.add(e.Name, e.Mode(), limited)
		_ = r.Close()
		if err := limitError(limited, err); err != nil {
			return err
		}
		left = limited.N - 1
	}
	return nil
}

// A fileList collects what an archive unpacks to.
type fileList struct {
	platform channel.Platform
	files    []channel.File
	seen     map[string]bool // files, folded to lower case
	folders  map[string]bool
}

// directory checks a folder's name only: folders exist where files are.
func (l *fileList) directory(name string) error {
	clean := strings.TrimSuffix(name, "/")
	if clean == "." || clean == "" || clean == "./" {
		return nil
	}
	clean, err := cleanMember(clean, l.platform)
	if err != nil {
		return err
	}
	return l.folder(clean)
}

func (l *fileList) add(name string, mode fs.FileMode, content io.Reader) error {
	clean, err := cleanMember(name, l.platform)
	if err != nil {
		return err
	}
	folded := strings.ToLower(clean) // on macOS and Windows one would overwrite the other
	switch {
	case len(l.files) == maxFiles:
		return fmt.Errorf("holds more than %d files", maxFiles)
	case l.seen[folded]:
		return fmt.Errorf("holds %q twice, or two names that differ only by case", clean)
	case l.folders[folded]:
		return fmt.Errorf("holds %q both as a file and as a folder", clean)
	case mode&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != 0:
		return fmt.Errorf("holds %q with mode %s; such bits are not installed", clean, mode)
	}
	if err := l.folder(path.Dir(clean)); err != nil {
		return err
	}
	hash := sha256.New()
	n, err := io.Copy(hash, content)
	if err != nil {
		return fmt.Errorf("%s: %w", clean, err)
	}
	if l.seen == nil {
		l.seen = map[string]bool{}
	}
	l.seen[folded] = true
	blob := channel.Blob{SHA256: hex.EncodeToString(hash.Sum(nil)), Length: n}
	// Nobody but the owner writes to what is installed: zip files made on Windows say 0666.
	l.files = append(l.files, channel.File{Path: clean, Blob: blob, Mode: uint32(mode.Perm() &^ 0o022)})
	return nil
}

func (l *fileList) folder(name string) error {
	if l.folders == nil {
		l.folders = map[string]bool{}
	}
	for ; name != "." && name != ""; name = path.Dir(name) {
		folded := strings.ToLower(name)
		if l.seen[folded] {
			return fmt.Errorf("holds %q both as a file and as a folder", name)
		}
		l.folders[folded] = true
	}
	return nil
}

// cleanMember accepts what tar and zip tools write, a leading ./ included, and nothing that could lead elsewhere.
func cleanMember(name string, p channel.Platform) (string, error) {
	clean := strings.TrimPrefix(name, "./")
	if clean == "" || path.Clean(clean) != clean || !fs.ValidPath(clean) || strings.ContainsAny(clean, "\\:\x00") {
		return "", fmt.Errorf("holds the path %q, which is not relative, clean and slash-separated", name)
	}
	for _, r := range clean {
		if r < ' ' || r == 0x7f || r == 0xfffd {
			return "", fmt.Errorf("holds the path %q, with characters that are not printed", name)
		}
	}
	if p.OS == "windows" {
		for _, element := range strings.Split(clean, "/") {
			if !windowsName(element) {
				return "", fmt.Errorf("holds the path %q, which Windows does not have", name)
			}
		}
	}
	return clean, nil
}

func windowsName(s string) bool {
	if strings.HasSuffix(s, ".") || strings.HasSuffix(s, " ") || strings.ContainsAny(s, `<>"|?*`) {
		return false
	}
	base, _, _ := strings.Cut(strings.ToLower(s), ".")
	switch base = strings.TrimRight(base, " "); base {
	case "con", "prn", "aux", "nul", "conin$", "conout$":
		return false
	}
	return len(base) != 4 || (base[:3] != "com" && base[:3] != "lpt") || base[3] < '0' || base[3] > '9'
}

func (l *fileList) sorted() []channel.File {
	slices.SortFunc(l.files, func(a, b channel.File) int { return strings.Compare(a.Path, b.Path) })
	return l.files
}

// chooseExecutable finds the program to run, or checks the one named, and makes it executable.
func (l *fileList) chooseExecutable(a *channel.Artifact) error {
	var candidates []int
	for i, f := range a.Files {
		executable := f.Mode&0o111 != 0
		if l.platform.OS == "windows" { // its archives do not say
			executable = strings.HasSuffix(strings.ToLower(f.Path), ".exe")
		}
		if f.Path == a.Executable || (a.Executable == "" && executable) {
			candidates = append(candidates, i)
		}
	}
	if len(candidates) != 1 {
		if a.Executable != "" {
			return fmt.Errorf("holds no file %q", a.Executable)
		}
		return fmt.Errorf("holds %d executable files, so the one to run must be named", len(candidates))
	}
	f := &a.Files[candidates[0]]
	f.Mode |= 0o755
	a.Executable = f.Path
	return nil
}
