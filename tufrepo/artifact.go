package tufrepo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/archive"
)

type progressFunc = func(done, total int64, what string)

// scanArtifact reads a file once, or twice if it is an archive, in bounded memory.
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
	case channel.TarGz, channel.TarZst, channel.Zip:
	default:
		return a, fmt.Errorf("format %q is none of raw, tar.gz, tar.zst, zip", a.Format)
	}
	if a.Blob, err = hashFile(ctx, f, progress); err != nil {
		return a, err
	}
	if a.Files, err = listFiles(ctx, f, a); err != nil {
		return a, err
	}
	if err := chooseExecutable(&a); err != nil {
		return a, err
	}
	return a, a.Validate() // such as where a link leads: the whole list tells
}

// formatOf tells the format by the name, and asks where that is not certain: an archive released as a program would be
// found out only by the customers.
func formatOf(name string, f io.ReaderAt) (channel.Format, error) {
	lower := strings.ToLower(name)
	switch {
	case strings.HasSuffix(lower, ".tar.gz") || strings.HasSuffix(lower, ".tgz"):
		return channel.TarGz, nil
	case strings.HasSuffix(lower, ".tar.zst") || strings.HasSuffix(lower, ".tzst"):
		return channel.TarZst, nil
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
			return "", errors.New("looks like an archive, but is not named .tar.gz, .tgz, .tar.zst, .tzst or .zip; say which format it is")
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
	info, err := f.Stat()
	if err != nil {
		return channel.Blob{}, err
	}
	if !info.Mode().IsRegular() {
		return channel.Blob{}, errors.New("is not a regular file")
	}
	hash := sha256.New()
	m := &meter{ctx: ctx, r: f, sum: hash, name: f.Name(), total: info.Size(), progress: progress}
	// io.Discard would read 8 kB at a time.
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, m, make([]byte, 256<<10)); err != nil {
		return channel.Blob{}, err
	}
	return channel.Blob{SHA256: hex.EncodeToString(hash.Sum(nil)), Length: m.done}, nil
}

// listFiles reads an archive and lists what it installs, by path. What it holds is hostile until the list is signed.
func listFiles(ctx context.Context, f io.ReaderAt, a channel.Artifact) ([]channel.File, error) {
	var files []channel.File
	var composed channel.PathSet
	err := archive.Read(ctx, f, a.Length, a.Format, a.Platform.OS, archive.Limits{}, func(m archive.Member, content io.Reader) error {
		// The reader compared the paths as they are. macOS takes two for one file if only their accents are written in
		// different ways.
		if composed.Add(norm.NFC.String(m.Path), m.Kind == archive.Folder) != nil {
			return &archive.MemberError{Name: m.Path, Why: "differs from another name only by how its accents are written (Unicode NFC)"}
		}
		switch m.Kind {
		case archive.Link:
			files = append(files, channel.File{Path: m.Path, Link: m.Link})
		case archive.File:
			hash := sha256.New()
			n, err := io.Copy(hash, content)
			if err != nil {
				return err
			}
			blob := channel.Blob{SHA256: hex.EncodeToString(hash.Sum(nil)), Length: n}
			// Nobody but the owner writes to what is installed: zip files made on Windows say 0666.
			files = append(files, channel.File{Path: m.Path, Blob: blob, Mode: uint32(m.Mode &^ 0o022)})
		}
		return nil
	})
	slices.SortFunc(files, func(a, b channel.File) int { return strings.Compare(a.Path, b.Path) })
	return files, err
}

// chooseExecutable finds the program to run, or checks the one named, and makes it executable.
func chooseExecutable(a *channel.Artifact) error {
	var candidates []int
	for i, f := range a.Files {
		executable := f.Mode&0o111 != 0
		if a.Platform.OS == "windows" { // its archives do not say
			executable = strings.HasSuffix(strings.ToLower(f.Path), ".exe")
		}
		if f.Link == "" && f.Path == a.Executable || (a.Executable == "" && executable) {
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
