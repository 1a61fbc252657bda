//go:build linux

package killpoint

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	auditArch = unix.AUDIT_ARCH_AARCH64
	x32Bit    = 1 << 30 // not here, and no call has such a number
)

var syscallInstruction = []byte{0x01, 0x00, 0x00, 0xd4} // svc #0

type registers struct{ unix.PtraceRegsArm64 }

func (r registers) pc() uint64 { return r.Pc }
func (r registers) sp() uint64 { return r.Sp }

// calling returns the registers with which the system call instruction makes the call.
func (r registers) calling(nr int, args ...uint64) registers {
	r.Regs[8] = uint64(nr)
	for i := range 6 {
		r.Regs[i] = 0
		if i < len(args) {
			r.Regs[i] = args[i]
		}
	}
	return r
}

func getRegisters(tid int) (r registers, err error) {
	err = unix.PtraceGetRegSetArm64(tid, unix.NT_PRSTATUS, &r.PtraceRegsArm64)
	return r, err
}

func setRegisters(tid int, r registers) error {
	return unix.PtraceSetRegSetArm64(tid, unix.NT_PRSTATUS, &r.PtraceRegsArm64)
}

// skipCall makes the call at whose entry the thread stands not happen, and return errno.
func skipCall(tid int, errno syscall.Errno) error {
	r, err := getRegisters(tid)
	if err != nil {
		return err
	}
	r.Regs[0] = uint64(-int64(errno))
	if err := setRegisters(tid, r); err != nil {
		return err
	}
	number := int32(-1)
	v := unix.Iovec{Base: (*byte)(unsafe.Pointer(&number)), Len: uint64(unsafe.Sizeof(number))}
	return ptrace(unix.PTRACE_SETREGSET, tid, unix.NT_ARM_SYSTEM_CALL, unsafe.Pointer(&v))
}

func legacyShapes() map[uint32]shape { return nil }
