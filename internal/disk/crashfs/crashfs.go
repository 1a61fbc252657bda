// Package crashfs is a model of a disk that loses power, for tests: a [disk.FS] in memory that knows what a real file
// system has promised to keep, and makes every state that a crash may leave ([FS.Crashes]).
//
// What it takes for granted is less than ext4, XFS, Btrfs or APFS promise:
//
//   - One operation on names (create, rename, exchange, link, remove, mkdir, symlink) or on permissions is done or not done,
//     never half. A rename concerns both folders at once.
//   - It is durable once one of the folders that it concerns is synced, or the file, for permissions. Until then a crash
//     keeps or loses it, whatever became of operations before and after it: any subset, in any order.
//   - The content of a file is durable once the file is synced. Until then a crash leaves what was durable before, the
//     beginning of the new content, the new content with its last block torn, or all of it.
//
// It runs the code under test up to any operation, see [FS.StopAfter]: from then on every operation fails, as for a
// process that is dead. Single operations can fail, too ([FS.Fail]), and single syncs can be left out ([FS.Skip]): what
// a test does not notice to be missing, it does not test.
package crashfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fairlead-dev/fairlead/internal/disk"
)

// ErrDead is what every operation returns after the process has died.
var ErrDead = errors.New("crashfs: the process is dead")

// FS is a disk.FS in memory. Use New.
type FS struct {
	mu      sync.Mutex
	root    *node
	pending []op // on names and permissions, not durable
	steps   int  // operations that change something, so far
	stop    int  // the process dies after that many; -1: never
	clock   int64

	// Fail, if not nil, is asked before each operation that changes something: an error is returned instead of doing
	// it. n counts from 1.
	Fail func(n int, name, path string) error
	// Skip, if not nil, is asked before each sync: true leaves it out, and says that it succeeded. Site names the place
	// in the code that called for it.
	Skip func(site string) bool
	// Zeros adds to what a crash may leave of a file: its new length, with zeros for what was not durable, as file systems
	// do that allot the space of a file before they write it.
	Zeros bool
}

type node struct {
	typ          fs.FileMode
	perm, synced fs.FileMode // permissions now, and durable
	data         []byte
	durable      []byte
	target       string
	now, base    map[string]*node // entries of a folder: now, and durable
	changed      time.Time
}

// op is one operation that is not durable: all its changes, or none.
type op struct{ changes []change }

type change struct {
	dir  *node
	name string
	to   *node // nil: removed

	file *node // or: file gets perm
	perm fs.FileMode
}

func (o op) concerns(n *node) bool {
	return slices.ContainsFunc(o.changes, func(c change) bool { return c.dir == n || c.file == n })
}

// New returns an empty disk.
func New() *FS { return &FS{root: newFolder(0o755), stop: -1} }

func newFolder(perm fs.FileMode) *node {
	return &node{typ: fs.ModeDir, perm: perm, synced: perm, now: map[string]*node{}, base: map[string]*node{}}
}

// StopAfter lets the process die after n more operations that change something.
func (f *FS) StopAfter(n int) { f.stop = f.steps + n }

// Steps returns how many operations have changed something.
func (f *FS) Steps() int { return f.steps }

// Dead reports whether the process has died.
func (f *FS) Dead() bool { return f.stop >= 0 && f.steps >= f.stop }

// step begins an operation that changes something.
func (f *FS) step(name, path string) error {
	if f.Dead() {
		return ErrDead
	}
	f.steps++
	f.clock++
	if f.Fail != nil {
		if err := f.Fail(f.steps, name, path); err != nil {
			return &fs.PathError{Op: name, Path: path, Err: err}
		}
	}
	return nil
}

// Settle makes everything durable.
func (f *FS) Settle() {
	for _, o := range f.pending {
		o.apply(nil)
	}
	f.pending = nil
	f.each(f.root, func(n *node) { n.durable, n.synced = bytes.Clone(n.data), n.perm })
}

func (f *FS) each(n *node, visit func(*node)) {
	visit(n)
	for _, child := range n.now {
		f.each(child, visit)
	}
}

// apply makes an operation durable; in a copy, copies says which nodes stand for which.
func (o op) apply(copies map[*node]*node) {
	of := func(n *node) *node {
		if copies == nil || n == nil {
			return n
		}
		return copies[n]
	}
	for _, c := range o.changes {
		switch {
		case c.file != nil:
			of(c.file).synced = c.perm
		case c.to == nil:
			delete(of(c.dir).base, c.name)
		default:
			of(c.dir).base[c.name] = of(c.to)
		}
	}
}

func (f *FS) do(changes ...change) {
	for _, c := range changes {
		switch {
		case c.file != nil:
			c.file.perm = c.perm
		case c.to == nil:
			delete(c.dir.now, c.name)
		default:
			c.dir.now[c.name] = c.to
		}
	}
	f.pending = append(f.pending, op{changes})
}

// find returns the node at path, and the folder and name that it has there. It follows no link in the last element. The
// node is nil if there is none.
func (f *FS) find(name string) (n, dir *node, base string, err error) {
	return f.findFrom(name, 0)
}

func (f *FS) findFrom(name string, hops int) (n, dir *node, base string, err error) {
	if f.Dead() {
		return nil, nil, "", ErrDead
	}
	if hops > 16 {
		return nil, nil, "", &fs.PathError{Op: "open", Path: name, Err: syscall.ELOOP}
	}
	n = f.root
	parts := strings.Split(strings.Trim(filepath.ToSlash(filepath.Clean(name)), "/"), "/")
	for i, part := range parts {
		if part == "" {
			return n, nil, "", nil
		}
		if n == nil {
			return nil, nil, "", &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		if n.typ == fs.ModeSymlink {
			before := filepath.Join(append([]string{"/"}, parts[:i-1]...)...)
			return f.findFrom(filepath.Join(append([]string{before, n.target}, parts[i:]...)...), hops+1)
		}
		if n.typ != fs.ModeDir {
			return nil, nil, "", &fs.PathError{Op: "open", Path: name, Err: syscall.ENOTDIR}
		}
		dir, base = n, part
		n = dir.now[part]
	}
	return n, dir, base, nil
}

func (f *FS) existing(op, name string) (n, dir *node, base string, err error) {
	n, dir, base, err = f.find(name)
	if err == nil && n == nil {
		err = &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return n, dir, base, err
}

// Lstat implements disk.FS, like the methods below.
func (f *FS) Lstat(name string) (fs.FileInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, _, _, err := f.existing("lstat", name)
	if err != nil {
		return nil, err
	}
	return info{filepath.Base(name), n, int64(len(n.data)), n.typ | n.perm, n.changed}, nil
}

type info struct {
	name string
	node *node
	size int64
	mode fs.FileMode
	time time.Time
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return i.time }
func (i info) IsDir() bool        { return i.mode.IsDir() }
func (i info) Sys() any           { return i.node }

func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, _, _, err := f.existing("open", name)
	if err != nil {
		return nil, err
	}
	if n.typ != fs.ModeDir {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: syscall.ENOTDIR}
	}
	var list []fs.DirEntry
	for base, child := range n.now {
		list = append(list, fs.FileInfoToDirEntry(info{base, child, int64(len(child.data)), child.typ | child.perm, child.changed}))
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list, nil
}

func (f *FS) Readlink(name string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, _, _, err := f.existing("readlink", name)
	if err != nil {
		return "", err
	}
	if n.typ != fs.ModeSymlink {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: syscall.EINVAL}
	}
	return n.target, nil
}

// add makes a new name.
func (f *FS) add(op, name string, n *node) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.step(op, name); err != nil {
		return err
	}
	old, dir, base, err := f.find(name)
	switch {
	case err != nil:
		return err
	case old != nil:
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrExist}
	}
	n.changed = time.Unix(f.clock, 0)
	f.do(change{dir: dir, name: base, to: n})
	return nil
}

func (f *FS) Mkdir(name string, perm fs.FileMode) error { return f.add("mkdir", name, newFolder(perm)) }
func (f *FS) Symlink(target, name string) error {
	return f.add("symlink", name, &node{typ: fs.ModeSymlink, perm: 0o777, synced: 0o777, target: target})
}

func (f *FS) Create(name string) (disk.File, error) {
	n := &node{perm: 0o600, synced: 0o600}
	if err := f.add("create", name, n); err != nil {
		return nil, err
	}
	return &file{fs: f, node: n, name: name, writes: true}, nil
}

func (f *FS) Open(name string) (disk.File, error) { return f.open(name, false) }
func (f *FS) Edit(name string) (disk.File, error) { return f.open(name, true) }

func (f *FS) open(name string, writes bool) (disk.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, _, _, err := f.existing("open", name)
	if err != nil {
		return nil, err
	}
	if n.typ != 0 {
		return nil, &fs.PathError{Op: "open", Path: name, Err: disk.ErrNotRegular}
	}
	return &file{fs: f, node: n, name: name, writes: writes}, nil
}

func (f *FS) Link(from, to string) error {
	f.mu.Lock()
	n, _, _, err := f.existing("link", from)
	f.mu.Unlock()
	if err != nil {
		return err
	}
	return f.add("link", to, n)
}

func (f *FS) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.step("rename", from); err != nil {
		return err
	}
	n, dir, base, err := f.existing("rename", from)
	if err != nil {
		return err
	}
	old, toDir, toBase, err := f.find(to)
	switch {
	case err != nil:
		return err
	case toDir == nil:
		return &fs.PathError{Op: "rename", Path: to, Err: syscall.EBUSY}
	case old == n: // rename(2) does nothing when both names are links to one file
		return nil
	case old != nil && old.typ == fs.ModeDir && (n.typ != fs.ModeDir || len(old.now) > 0):
		return &fs.PathError{Op: "rename", Path: to, Err: fs.ErrExist}
	case old != nil && old.typ != fs.ModeDir && n.typ == fs.ModeDir:
		return &fs.PathError{Op: "rename", Path: to, Err: syscall.ENOTDIR}
	}
	f.do(change{dir: dir, name: base}, change{dir: toDir, name: toBase, to: n})
	return nil
}

func (f *FS) Exchange(a, b string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.step("exchange", a); err != nil {
		return err
	}
	na, dirA, baseA, errA := f.existing("exchange", a)
	nb, dirB, baseB, errB := f.existing("exchange", b)
	if err := errors.Join(errA, errB); err != nil {
		return err
	}
	f.do(change{dir: dirA, name: baseA, to: nb}, change{dir: dirB, name: baseB, to: na})
	return nil
}

func (f *FS) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.remove(name)
}

func (f *FS) remove(name string) error {
	if err := f.step("remove", name); err != nil {
		return err
	}
	n, dir, base, err := f.existing("remove", name)
	switch {
	case err != nil:
		return err
	case n.typ == fs.ModeDir && len(n.now) > 0:
		return &fs.PathError{Op: "remove", Path: name, Err: syscall.ENOTEMPTY}
	}
	f.do(change{dir: dir, name: base})
	return nil
}

func (f *FS) RemoveAll(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.removeAll(name)
}

func (f *FS) removeAll(name string) error {
	n, _, _, err := f.find(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && n == nil {
		return nil
	}
	if err != nil {
		return err
	}
	for base := range n.now {
		if err := f.removeAll(filepath.Join(name, base)); err != nil {
			return err
		}
	}
	return f.remove(name)
}

func (f *FS) Chmod(name string, perm fs.FileMode) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.step("chmod", name); err != nil {
		return err
	}
	n, _, _, err := f.existing("chmod", name)
	if err != nil {
		return err
	}
	f.do(change{file: n, perm: perm.Perm()})
	return nil
}

func (f *FS) Own(name string, _ fs.FileInfo) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, _, _, err := f.existing("chown", name)
	return err
}

func (f *FS) SyncDir(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.step("syncdir", name); err != nil {
		return err
	}
	n, _, _, err := f.existing("open", name)
	if err != nil {
		return err
	}
	if f.Skip == nil || !f.Skip(site()) {
		f.sync(n)
	}
	return nil
}

// sync makes durable what concerns a node.
func (f *FS) sync(n *node) {
	f.pending = slices.DeleteFunc(f.pending, func(o op) bool {
		if !o.concerns(n) {
			return false
		}
		o.apply(nil)
		return true
	})
}

// site names the place in the code under test that called: its own package's frames, innermost first, up to the first
// one in the package that uses package disk.
func site() string {
	var pcs [16]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	var parts []string
	for {
		frame, more := frames.Next()
		name := frame.Function[strings.LastIndex(frame.Function, "/")+1:]
		if !strings.HasPrefix(name, "crashfs.") {
			parts = append(parts, fmt.Sprintf("%s:%d", name, frame.Line))
			if !strings.HasPrefix(name, "disk.") {
				break
			}
		}
		if !more {
			break
		}
	}
	return strings.Join(parts, " < ")
}

func (f *FS) Root(dir string) (disk.Root, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, _, _, err := f.existing("open", dir)
	if err != nil {
		return nil, err
	}
	if n.typ != fs.ModeDir {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: syscall.ENOTDIR}
	}
	return &confined{f, dir, n}, nil
}

// confined is a folder of an FS. "." is the folder that was opened, whatever name it has by now.
type confined struct {
	f    *FS
	dir  string
	node *node
}

func (c *confined) path(name string) string { return filepath.Join(c.dir, name) }

func (c *confined) Open(name string) (disk.File, error)        { return c.f.Open(c.path(name)) }
func (c *confined) Create(name string) (disk.File, error)      { return c.f.Create(c.path(name)) }
func (c *confined) Edit(name string) (disk.File, error)        { return c.f.Edit(c.path(name)) }
func (c *confined) ReadDir(name string) ([]fs.DirEntry, error) { return c.f.ReadDir(c.path(name)) }
func (c *confined) Readlink(name string) (string, error)       { return c.f.Readlink(c.path(name)) }
func (c *confined) Mkdir(name string, p fs.FileMode) error     { return c.f.Mkdir(c.path(name), p) }
func (c *confined) Symlink(target, name string) error          { return c.f.Symlink(target, c.path(name)) }
func (c *confined) Link(from, to string) error                 { return c.f.Link(c.path(from), c.path(to)) }
func (c *confined) Rename(from, to string) error               { return c.f.Rename(c.path(from), c.path(to)) }
func (c *confined) Exchange(_, _ string) error                 { return errors.ErrUnsupported }
func (c *confined) Remove(name string) error                   { return c.f.Remove(c.path(name)) }
func (c *confined) RemoveAll(name string) error                { return c.f.RemoveAll(c.path(name)) }
func (c *confined) Chmod(name string, p fs.FileMode) error     { return c.f.Chmod(c.path(name), p) }
func (c *confined) Own(name string, i fs.FileInfo) error       { return c.f.Own(c.path(name), i) }
func (c *confined) SyncDir(name string) error                  { return c.f.SyncDir(c.path(name)) }
func (c *confined) Root(name string) (disk.Root, error)        { return c.f.Root(c.path(name)) }
func (c *confined) Close() error                               { return nil }

func (c *confined) Lstat(name string) (fs.FileInfo, error) {
	if name == "." {
		return info{filepath.Base(c.dir), c.node, 0, c.node.typ | c.node.perm, c.node.changed}, nil
	}
	return c.f.Lstat(c.path(name))
}

// file is an open file.
type file struct {
	fs     *FS
	node   *node
	name   string
	at     int64
	writes bool
}

func (o *file) Name() string { return o.name }
func (o *file) Close() error { return nil }

func (o *file) Stat() (fs.FileInfo, error) {
	n := o.node
	return info{filepath.Base(o.name), n, int64(len(n.data)), n.typ | n.perm, n.changed}, nil
}

func (o *file) Read(p []byte) (int, error) {
	n, err := o.ReadAt(p, o.at)
	o.at += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

func (o *file) ReadAt(p []byte, at int64) (int, error) {
	o.fs.mu.Lock()
	defer o.fs.mu.Unlock()
	if o.fs.Dead() {
		return 0, ErrDead
	}
	return bytes.NewReader(o.node.data).ReadAt(p, at)
}

func (o *file) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += o.at
	case io.SeekEnd:
		offset += int64(len(o.node.data))
	}
	o.at = offset
	return offset, nil
}

func (o *file) change(name string, do func()) error {
	o.fs.mu.Lock()
	defer o.fs.mu.Unlock()
	if !o.writes {
		return &fs.PathError{Op: name, Path: o.name, Err: syscall.EBADF}
	}
	if err := o.fs.step(name, o.name); err != nil {
		return err
	}
	do()
	return nil
}

func (o *file) Write(p []byte) (int, error) {
	err := o.change("write", func() {
		n := o.node
		if missing := int(o.at) + len(p) - len(n.data); missing > 0 {
			n.data = append(bytes.Clone(n.data), make([]byte, missing)...)
		} else {
			n.data = bytes.Clone(n.data)
		}
		copy(n.data[o.at:], p)
		o.at += int64(len(p))
	})
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (o *file) Truncate(size int64) error {
	return o.change("truncate", func() {
		data := make([]byte, size)
		copy(data, o.node.data)
		o.node.data = data
	})
}

func (o *file) Chmod(perm fs.FileMode) error {
	o.fs.mu.Lock()
	defer o.fs.mu.Unlock()
	if err := o.fs.step("chmod", o.name); err != nil {
		return err
	}
	o.fs.do(change{file: o.node, perm: perm.Perm()})
	return nil
}

func (o *file) Sync() error {
	o.fs.mu.Lock()
	defer o.fs.mu.Unlock()
	if err := o.fs.step("sync", o.name); err != nil {
		return err
	}
	if o.fs.Skip == nil || !o.fs.Skip(site()) {
		o.node.durable = bytes.Clone(o.node.data)
		o.fs.sync(o.node)
	}
	return nil
}
