package update

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/archive"
	"github.com/fairlead-dev/fairlead/internal/disk"
)

// A tree is a folder of files as a release installs it. The signed file list says what is in it, all of it. Its digest
// is the hash of that list: of every file the path, length, SHA-256 and whether it can be run, of every link the path and the
// target. It can be told from the signed manifest and from a folder on disk.
type tree []channel.File

// treeOf is what the artifact installs, and the folder of the archive that it is in. Archives often have everything in
// one folder (notes-1.2.3/, Notes.app/): it is left out if that makes the program's path the one that the installer
// knows.
func treeOf(a *channel.Artifact, program string) (t tree, top string, err error) {
	if a.Executable != program {
		var found bool
		if top, found = strings.CutSuffix(a.Executable, "/"+program); !found || strings.Contains(top, "/") {
			return nil, "", &VerifyError{File: a.Executable, Err: fmt.Errorf("the program of this installation is %q: the release's is another", program)}
		}
		top += "/"
	}
	for _, f := range a.Files {
		rest, found := strings.CutPrefix(f.Path, top)
		if !found {
			return nil, "", &VerifyError{File: f.Path, Err: fmt.Errorf("is outside the folder %q that the program is in", top)}
		}
		f.Path = rest
		t = append(t, f)
	}
	return t, top, nil
}

func (t tree) digest() string {
	sorted := slices.SortedFunc(slices.Values(t), func(a, b channel.File) int { return strings.Compare(a.Path, b.Path) })
	h := sha256.New()
	for _, f := range sorted {
		kind := "file"
		switch {
		case f.Link != "":
			_, _ = fmt.Fprintf(h, "link %q %q\n", f.Path, f.Link)
			continue
		case f.Mode&0o100 != 0 && runtime.GOOS != "windows": // which has no such bit
			kind = "program"
		}
		_, _ = fmt.Fprintf(h, "%s %q %d %s\n", kind, f.Path, f.Length, f.SHA256)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// scanTree hashes a folder. What is neither a file, a folder nor a link is an error: no release has it.
func scanTree(root disk.FS) (tree, error) {
	var t tree
	buf := make([]byte, copyBuffer)
	err := walk(root, ".", func(name string, info fs.FileInfo) (err error) {
		f := channel.File{Path: name, Mode: uint32(info.Mode().Perm())}
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			f.Mode = 0
			f.Link, err = root.Readlink(name)
			f.Link = filepath.ToSlash(f.Link)
		case info.Mode().IsRegular():
			f.SHA256, f.Length, err = hashFile(root, name, buf)
		default:
			err = fmt.Errorf("%s is neither a file, a folder nor a link", name)
		}
		t = append(t, f)
		return err
	})
	return t, err
}

// walk visits everything below dir but folders. It follows no link.
func walk(root disk.FS, dir string, visit func(name string, info fs.FileInfo) error) error {
	entries, err := root.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		info, err := root.Lstat(name)
		if err == nil && info.IsDir() {
			err = walk(root, name, visit)
		} else if err == nil {
			err = visit(name, info)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func hashFile(fsys disk.FS, name string, buf []byte) (sum string, length int64, err error) {
	f, err := fsys.Open(name)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = f.Close() }()
	return hashOpen(f, buf)
}

func hashOpen(f io.Reader, buf []byte) (sum string, length int64, err error) {
	h := sha256.New()
	length, err = io.CopyBuffer(h, struct{ io.Reader }{f}, buf)
	return hex.EncodeToString(h.Sum(nil)), length, err
}

func scanFolder(fsys disk.FS, path string) (tree, error) {
	root, err := fsys.Root(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	return scanTree(root)
}

// treeDigest hashes the folder at path.
func treeDigest(fsys disk.FS, path string) (string, error) {
	t, err := scanFolder(fsys, path)
	return t.digest(), err
}

// verifyTree hashes a folder through a handle that stays open: is reports later whether what has got a name is that
// very folder.
func verifyTree(fsys disk.FS, path, digest string) (is func(path string) bool, release func(), err error) {
	return judgeTree(fsys, path, func(t tree) error {
		if t.digest() != digest {
			return fmt.Errorf("has digest %s, not %s", t.digest(), digest)
		}
		return nil
	})
}

// verifyKept is verifyTree for a version that was in use: users and the program itself may have put files into its
// folder, or changed some. What must hold is in its record.
func verifyKept(fsys disk.FS, path, digest string, known records) (is func(path string) bool, release func(), err error) {
	return judgeTree(fsys, path, func(t tree) error {
		if t.digest() == digest {
			return nil
		}
		r, ok := known.record(digest)
		if !ok {
			return fmt.Errorf("has digest %s, not %s, and there is no list of its files", t.digest(), digest)
		}
		if missing := t.lacks(r.Holds); missing != "" {
			return fmt.Errorf("%s is not what it was", missing)
		}
		return nil
	})
}

func judgeTree(fsys disk.FS, path string, judge func(tree) error) (is func(path string) bool, release func(), err error) {
	root, err := fsys.Root(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, &VerifyError{File: path, Err: err}
	}
	if err != nil {
		return nil, nil, &StateError{path, err}
	}
	t, err := scanTree(root)
	before, statErr := root.Lstat(".")
	if err = errors.Join(err, statErr); err != nil {
		err = &StateError{path, err}
	} else if why := judge(t); why != nil {
		err = &VerifyError{File: path, Err: why}
	}
	if err != nil {
		_ = root.Close()
		return nil, nil, err
	}
	return func(path string) bool {
		now, err := fsys.Lstat(path)
		return err == nil && disk.SameFile(before, now)
	}, func() { _ = root.Close() }, nil
}

// same reports whether two files are the same but for their rights.
func same(a, b channel.File) bool { return a.Path == b.Path && a.Link == b.Link && a.Blob == b.Blob }

// common returns the files of t that other has, too.
func (t tree) common(other tree) tree {
	index := other.index()
	return slices.DeleteFunc(slices.Clone(t), func(f channel.File) bool { return !same(f, index[f.Path]) })
}

// lacks returns the path of a file of want that t does not have; "": it has all.
func (t tree) lacks(want tree) string {
	index := t.index()
	for _, f := range want {
		if !same(f, index[f.Path]) {
			return f.Path
		}
	}
	return ""
}

func (t tree) index() map[string]channel.File {
	index := make(map[string]channel.File, len(t))
	for _, f := range t {
		index[f.Path] = f
	}
	return index
}

// unpackTree writes t, which lies below top in the archive, into the folder at path, which it makes, and makes it
// durable. What is in the archive and not in t, or the other way round, is an error.
func unpackTree(ctx context.Context, fsys disk.FS, a *channel.Artifact, t tree, top, blob, path string) error {
	in, err := fsys.Open(blob)
	if err != nil {
		return &StateError{blob, err}
	}
	defer func() { _ = in.Close() }()
	return fillTree(ctx, fsys, t, top, path, func(u *unpacking) error { return u.read(ctx, a, in) })
}

// assembleTree is unpackTree with files that come from elsewhere than an archive.
func assembleTree(ctx context.Context, fsys disk.FS, t tree, from *contents, path string) error {
	return fillTree(ctx, fsys, t, "", path, func(u *unpacking) error { return u.gather(ctx, t, from) })
}

// fillTree makes a folder that holds exactly t, durably.
func fillTree(ctx context.Context, fsys disk.FS, t tree, top, path string, fill func(*unpacking) error) error {
	if err := fsys.Mkdir(path, 0o700); err != nil {
		return &StateError{path, err}
	}
	root, err := fsys.Root(path)
	if err != nil {
		return &StateError{path, err}
	}
	defer func() { _ = root.Close() }()
	u := &unpacking{buf: make([]byte, copyBuffer), root: root, top: top, wanted: map[string]channel.File{}, made: map[string]bool{".": true}}
	for _, f := range t {
		u.wanted[f.Path] = f
	}
	if err = fill(u); err == nil {
		err = u.finish()
	}
	return stagedError(ctx, path, err)
}

type unpacking struct {
	buf    []byte
	root   disk.Root
	top    string
	wanted map[string]channel.File // by path, not seen yet
	files  []channel.File
	links  []channel.File
	made   map[string]bool // folders
}

func (u *unpacking) read(ctx context.Context, a *channel.Artifact, in disk.File) error {
	if a.Format == channel.Raw {
		return u.visit(archive.Member{Path: a.Executable, Size: a.Length, Mode: 0o755}, in)
	}
	err := archive.Read(ctx, in, a.Length, a.Format, a.Platform.OS, limits(a), u.visit)
	if isDamaged(err) {
		err = &VerifyError{File: channel.BlobPath(a.SHA256), Err: err}
	}
	return err
}

// limits: an archive that holds more than the signed list is a bomb.
func limits(a *channel.Artifact) archive.Limits {
	l := archive.Limits{Files: len(a.Files), Bytes: 1}
	for _, f := range a.Files {
		l.Bytes += f.Length
	}
	return l
}

// isDamaged reports whether an archive is to blame for an error.
func isDamaged(err error) bool {
	var member *archive.MemberError
	var format *archive.FormatError
	return errors.As(err, &member) || errors.As(err, &format)
}

func (u *unpacking) visit(m archive.Member, content io.Reader) error {
	if m.Kind == archive.Folder {
		return nil // folders are where files are
	}
	name, found := strings.CutPrefix(m.Path, u.top)
	f, listed := u.wanted[name]
	if !found || !listed {
		return &VerifyError{File: m.Path, Err: errors.New("is in the archive, but not in the signed file list")}
	}
	delete(u.wanted, name)
	if (m.Kind == archive.Link) != (f.Link != "") || m.Link != f.Link {
		return &VerifyError{File: m.Path, Err: fmt.Errorf("the signed file list says that it links to %q, the archive to %q", f.Link, m.Link)}
	}
	if err := u.mkdirs(path.Dir(name)); err != nil {
		return err
	}
	if f.Link != "" {
		u.links = append(u.links, f) // later: so nothing is written through one
		return nil
	}
	u.files = append(u.files, f)
	return u.write(f, content)
}

func (u *unpacking) mkdirs(dir string) error {
	if u.made[dir] {
		return nil
	}
	if err := u.mkdirs(path.Dir(dir)); err != nil {
		return err
	}
	u.made[dir] = true
	return errors.Join(u.root.Mkdir(dir, 0o700), u.root.Chmod(dir, 0o755))
}

// gather fills the folder with what from has.
func (u *unpacking) gather(ctx context.Context, t tree, from *contents) error {
	for _, f := range t {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		delete(u.wanted, f.Path)
		if err := u.mkdirs(path.Dir(f.Path)); err != nil {
			return err
		}
		if f.Link != "" {
			u.links = append(u.links, f)
			continue
		}
		u.files = append(u.files, f)
		if err := u.create(f, func(out disk.File) error { return from.write(ctx, f, out, u.buf) }); err != nil {
			return err
		}
		from.note(f.SHA256, u.root, f.Path)
	}
	return nil
}

// write fills one file, and checks it on the way.
func (u *unpacking) write(f channel.File, content io.Reader) error {
	return u.create(f, func(out disk.File) error { return copyVerified(out, content, f, u.buf) })
}

func (u *unpacking) create(f channel.File, fill func(out disk.File) error) error {
	out, err := u.root.Create(f.Path)
	if err != nil {
		return err
	}
	err = fill(out)
	return errors.Join(err, out.Chmod(installedMode(f)), out.Close())
}

// installedMode: the owner can read every file, to verify it, and nobody else can write to it. On Windows a file without
// the owner's write bit would be read-only, and could not be removed.
func installedMode(f channel.File) fs.FileMode {
	mode := fs.FileMode(f.Mode)&0o755 | 0o400
	if runtime.GOOS == "windows" {
		mode |= 0o200
	}
	return mode
}

// copyVerified copies what f promises. The error is a *VerifyError if it is not that.
func copyVerified(out io.Writer, content io.Reader, f channel.File, buf []byte) error {
	v, in := &verifying{w: out, hash: sha256.New()}, &failing{r: content}
	_, err := io.CopyBuffer(v, io.LimitReader(in, f.Length+1), buf)
	if err := cmp.Or(in.err, err); err != nil { // the reader's first: archive tells what it is
		return err
	}
	return v.check(f)
}

// failing tells the reader's errors from the writer's.
type failing struct {
	r   io.Reader
	err error
}

func (f *failing) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && err != io.EOF {
		f.err = err
	}
	return n, err
}

// finish makes links, and everything durable: after all is written, since then one sync of the journal is for all.
func (u *unpacking) finish() error {
	for name := range u.wanted {
		return &VerifyError{File: name, Err: errors.New("is in the signed file list, but not in the archive")}
	}
	for _, f := range u.links {
		if err := u.root.Symlink(filepath.FromSlash(f.Link), f.Path); err != nil {
			return err
		}
	}
	for _, f := range u.files {
		if err := disk.SyncFile(u.root, f.Path); err != nil {
			return err
		}
	}
	for dir := range u.made {
		if err := u.root.SyncDir(dir); err != nil {
			return err
		}
	}
	return u.root.Chmod(".", 0o755)
}
