//go:build linux && (amd64 || arm64)

package killpoint

import (
	"bytes"
	"encoding/binary"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A shape says how to read one system call.
type shape struct {
	name  string
	class class
	files []operand // one, or two
	only  condition
}

type class uint8

const (
	space  class = 1 << iota // can fail because the disk is full
	follow                   // acts on what a symbolic link leads to
)

// An operand names a file by arguments of a call: an open file, a path, or a path relative to an open folder.
type operand struct{ dir, path int }

const none = -1

func fd(arg int) operand             { return operand{arg, none} }
func path(arg int) operand           { return operand{none, arg} }
func at(dirArg, pathArg int) operand { return operand{dirArg, pathArg} }

// A condition restricts a call by its argument number arg: it has one of the bits, or is one of the values. The zero
// condition is always true.
type condition struct {
	arg    int
	bits   uint32
	values []uint32
}

const creates = unix.O_CREAT | unix.O_TRUNC | unix.O_TMPFILE&^unix.O_DIRECTORY

// shapes returns the calls that change files, by number. Those that only older architectures have are in legacyShapes.
var shapes = sync.OnceValue(func() map[uint32]shape {
	all := map[uint32]shape{
		unix.SYS_OPENAT:  {"openat", space | follow, []operand{at(0, 1)}, condition{arg: 2, bits: creates}},
		unix.SYS_OPENAT2: {name: "openat2", class: space | follow, files: []operand{at(0, 1)}}, // flags are in memory: see inspect

		unix.SYS_WRITE:           {name: "write", class: space, files: []operand{fd(0)}},
		unix.SYS_PWRITE64:        {name: "pwrite64", class: space, files: []operand{fd(0)}},
		unix.SYS_WRITEV:          {name: "writev", class: space, files: []operand{fd(0)}},
		unix.SYS_PWRITEV:         {name: "pwritev", class: space, files: []operand{fd(0)}},
		unix.SYS_PWRITEV2:        {name: "pwritev2", class: space, files: []operand{fd(0)}},
		unix.SYS_COPY_FILE_RANGE: {name: "copy_file_range", class: space, files: []operand{fd(2)}},
		unix.SYS_SENDFILE:        {name: "sendfile", class: space, files: []operand{fd(0)}},
		unix.SYS_SPLICE:          {name: "splice", class: space, files: []operand{fd(2)}},
		unix.SYS_FALLOCATE:       {name: "fallocate", class: space, files: []operand{fd(0)}},
		unix.SYS_FTRUNCATE:       {name: "ftruncate", files: []operand{fd(0)}},
		unix.SYS_TRUNCATE:        {name: "truncate", class: follow, files: []operand{path(0)}},
		unix.SYS_IOCTL: {"ioctl", space, []operand{fd(0)},
			condition{arg: 1, values: []uint32{unix.FICLONE, unix.FICLONERANGE}}},

		// With delayed allocation, fsync is where a full disk shows.
		unix.SYS_FSYNC:           {name: "fsync", class: space, files: []operand{fd(0)}},
		unix.SYS_FDATASYNC:       {name: "fdatasync", class: space, files: []operand{fd(0)}},
		unix.SYS_SYNCFS:          {name: "syncfs", class: space, files: []operand{fd(0)}},
		unix.SYS_SYNC_FILE_RANGE: {name: "sync_file_range", class: space, files: []operand{fd(0)}},

		unix.SYS_RENAMEAT:  {name: "renameat", class: space, files: []operand{at(0, 1), at(2, 3)}},
		unix.SYS_RENAMEAT2: {name: "renameat2", class: space, files: []operand{at(0, 1), at(2, 3)}},
		unix.SYS_LINKAT:    {name: "linkat", class: space, files: []operand{at(0, 1), at(2, 3)}},
		unix.SYS_SYMLINKAT: {name: "symlinkat", class: space, files: []operand{at(1, 2)}},
		unix.SYS_UNLINKAT:  {name: "unlinkat", files: []operand{at(0, 1)}},
		unix.SYS_MKDIRAT:   {name: "mkdirat", class: space, files: []operand{at(0, 1)}},
		unix.SYS_MKNODAT:   {name: "mknodat", class: space, files: []operand{at(0, 1)}},

		unix.SYS_FCHMOD:       {name: "fchmod", files: []operand{fd(0)}},
		unix.SYS_FCHMODAT:     {name: "fchmodat", class: follow, files: []operand{at(0, 1)}},
		unix.SYS_FCHMODAT2:    {name: "fchmodat2", class: follow, files: []operand{at(0, 1)}},
		unix.SYS_FCHOWN:       {name: "fchown", files: []operand{fd(0)}},
		unix.SYS_FCHOWNAT:     {name: "fchownat", class: follow, files: []operand{at(0, 1)}},
		unix.SYS_UTIMENSAT:    {name: "utimensat", class: follow, files: []operand{at(0, 1)}},
		unix.SYS_FILE_SETATTR: {name: "file_setattr", class: follow, files: []operand{at(0, 1)}},

		unix.SYS_SETXATTR:      {name: "setxattr", class: space | follow, files: []operand{path(0)}},
		unix.SYS_LSETXATTR:     {name: "lsetxattr", class: space, files: []operand{path(0)}},
		unix.SYS_FSETXATTR:     {name: "fsetxattr", class: space, files: []operand{fd(0)}},
		unix.SYS_SETXATTRAT:    {name: "setxattrat", class: space | follow, files: []operand{at(0, 1)}},
		unix.SYS_REMOVEXATTR:   {name: "removexattr", class: follow, files: []operand{path(0)}},
		unix.SYS_LREMOVEXATTR:  {name: "lremovexattr", files: []operand{path(0)}},
		unix.SYS_FREMOVEXATTR:  {name: "fremovexattr", files: []operand{fd(0)}},
		unix.SYS_REMOVEXATTRAT: {name: "removexattrat", class: follow, files: []operand{at(0, 1)}},
	}
	maps.Copy(all, legacyShapes())
	return all
})

// hits reports whether a call of that class can fail with errno.
func hits(errno syscall.Errno, c class) bool {
	return errno != unix.ENOSPC && errno != unix.EDQUOT || c&space != 0
}

// inspect reads the call at whose entry the thread stands, and reports whether it touches one of the folders.
func (t *tracer) inspect(tid int, i *info) (Call, class, bool) {
	s := shapes()[uint32(i.first)]
	if s.name == "openat2" && t.word(tid, i.args[2])&creates == 0 {
		return Call{}, 0, false
	}
	call := Call{Name: s.name}
	var counts bool
	for n, o := range s.files {
		name := t.file(tid, o, &i.args)
		name, below := t.below(name, s.class&follow != 0)
		counts = counts || below
		if n == 0 {
			call.Path = name
		} else {
			call.Path2 = name
		}
	}
	return call, s.class, counts
}

// file returns the absolute path of an operand; "" if there is none, as for a socket.
func (t *tracer) file(tid int, o operand, args *[6]uint64) string {
	task := "/proc/" + strconv.Itoa(tid)
	if o.path == none {
		return openFile(task, int32(args[o.dir]))
	}
	name := t.text(tid, args[o.path])
	if !filepath.IsAbs(name) {
		dir := int32(unix.AT_FDCWD)
		if o.dir != none {
			dir = int32(args[o.dir])
		}
		base := openFile(task, dir)
		if base == "" {
			return ""
		}
		name = filepath.Join(base, name) // for an empty path the descriptor itself: AT_EMPTY_PATH, or futimens
	}
	name = filepath.Clean(name)
	for _, self := range []string{"/proc/self/", "/proc/thread-self/"} {
		if rest, ok := strings.CutPrefix(name, self); ok {
			name = task + "/" + rest
		}
	}
	// A path to a descriptor, as linkat gets it for an O_TMPFILE file.
	if dir, last := filepath.Split(name); strings.HasPrefix(dir, "/proc/") && strings.HasSuffix(dir, "/fd/") {
		if n, err := strconv.Atoi(last); err == nil {
			return openFile(strings.TrimSuffix(dir, "/fd/"), int32(n))
		}
	}
	return name
}

func openFile(task string, fd int32) string {
	link := task + "/fd/" + strconv.Itoa(int(fd))
	if fd == unix.AT_FDCWD {
		link = task + "/cwd"
	}
	name, err := os.Readlink(link)
	if err != nil || !filepath.IsAbs(name) { // "socket:[…]"
		return ""
	}
	return strings.TrimSuffix(name, " (deleted)")
}

// below reports whether a path lies below one of the folders, as it is written or, if not, where symbolic links lead
// to, and returns the one that does.
func (t *tracer) below(name string, follow bool) (string, bool) {
	if name == "" || t.within(name) {
		return name, name != ""
	}
	if strings.HasPrefix(name, "/proc/") { // would show this process, not the traced one
		return name, false
	}
	if follow {
		if real, err := filepath.EvalSymlinks(name); err == nil {
			return choose(name, real, t.within(real))
		}
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(name))
	real := filepath.Join(dir, filepath.Base(name))
	return choose(name, real, err == nil && t.within(real))
}

func choose(name, real string, below bool) (string, bool) {
	if below {
		return real, true
	}
	return name, false
}

func (t *tracer) within(name string) bool {
	for _, u := range t.under {
		if rest, ok := strings.CutPrefix(name, u); ok && (rest == "" || rest[0] == '/' || u == "/") {
			return true
		}
	}
	return false
}

// text reads a path from the memory of the traced process; "" if it cannot be read, and then the call will fail, too.
func (t *tracer) text(tid int, addr uint64) string {
	n := read(tid, addr, t.path[:])
	end := bytes.IndexByte(t.path[:n], 0)
	if end < 0 {
		return ""
	}
	return string(t.path[:end])
}

func (t *tracer) word(tid int, addr uint64) uint64 {
	var b [8]byte
	if read(tid, addr, b[:]) != len(b) {
		return 0
	}
	return binary.LittleEndian.Uint64(b[:])
}

// read reads up to len(b) bytes. The range is cut at page boundaries, because the next page may not exist.
func read(tid int, addr uint64, b []byte) int {
	if addr == 0 {
		return 0
	}
	const page = 4096
	first := min(int(page-addr%page), len(b))
	remote := []unix.RemoteIovec{{Base: uintptr(addr), Len: first}, {Base: uintptr(addr) + uintptr(first), Len: len(b) - first}}
	n, err := unix.ProcessVMReadv(tid, []unix.Iovec{iovec(b)}, remote, 0)
	if err != nil {
		return 0
	}
	return n
}

func iovec(b []byte) unix.Iovec {
	v := unix.Iovec{Base: &b[0]}
	v.SetLen(len(b))
	return v
}
