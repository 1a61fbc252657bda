//go:build linux

package killpoint

import (
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	auditArch = unix.AUDIT_ARCH_X86_64
	x32Bit    = 1 << 30 // in the numbers of a second ABI
)

var syscallInstruction = []byte{0x0f, 0x05}

type registers struct{ unix.PtraceRegsAmd64 }

func (r registers) pc() uint64 { return r.Rip }
func (r registers) sp() uint64 { return r.Rsp }

// calling returns the registers with which the system call instruction makes the call.
func (r registers) calling(nr int, args ...uint64) registers {
	r.Rax, r.Orig_rax = uint64(nr), ^uint64(0) // Orig_rax: not in a call that is to be restarted
	for i, to := range []*uint64{&r.Rdi, &r.Rsi, &r.Rdx, &r.R10, &r.R8, &r.R9} {
		*to = 0
		if i < len(args) {
			*to = args[i]
		}
	}
	return r
}

func getRegisters(tid int) (r registers, err error) {
	err = unix.PtraceGetRegsAmd64(tid, &r.PtraceRegsAmd64)
	return r, err
}

func setRegisters(tid int, r registers) error {
	return unix.PtraceSetRegsAmd64(tid, &r.PtraceRegsAmd64)
}

// skipCall makes the call at whose entry the thread stands not happen, and return errno.
func skipCall(tid int, errno syscall.Errno) error {
	r, err := getRegisters(tid)
	if err != nil {
		return err
	}
	r.Orig_rax, r.Rax = ^uint64(0), uint64(-int64(errno))
	return setRegisters(tid, r)
}

func legacyShapes() map[uint32]shape {
	return map[uint32]shape{
		unix.SYS_OPEN:      {"open", space | follow, []operand{path(0)}, condition{arg: 1, bits: creates}},
		unix.SYS_CREAT:     {name: "creat", class: space | follow, files: []operand{path(0)}},
		unix.SYS_RENAME:    {name: "rename", class: space, files: []operand{path(0), path(1)}},
		unix.SYS_LINK:      {name: "link", class: space, files: []operand{path(0), path(1)}},
		unix.SYS_SYMLINK:   {name: "symlink", class: space, files: []operand{path(1)}},
		unix.SYS_UNLINK:    {name: "unlink", files: []operand{path(0)}},
		unix.SYS_RMDIR:     {name: "rmdir", files: []operand{path(0)}},
		unix.SYS_MKDIR:     {name: "mkdir", class: space, files: []operand{path(0)}},
		unix.SYS_MKNOD:     {name: "mknod", class: space, files: []operand{path(0)}},
		unix.SYS_CHMOD:     {name: "chmod", class: follow, files: []operand{path(0)}},
		unix.SYS_CHOWN:     {name: "chown", class: follow, files: []operand{path(0)}},
		unix.SYS_LCHOWN:    {name: "lchown", files: []operand{path(0)}},
		unix.SYS_UTIME:     {name: "utime", class: follow, files: []operand{path(0)}},
		unix.SYS_UTIMES:    {name: "utimes", class: follow, files: []operand{path(0)}},
		unix.SYS_FUTIMESAT: {name: "futimesat", class: follow, files: []operand{at(0, 1)}},
	}
}
