//go:build linux && (amd64 || arm64)

package killpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data.
const (
	dataNumber = 0
	dataArch   = 4
	dataArgs   = 16 // the low half of each of six 64-bit words
)

// filter returns a seccomp program that reports the calls in shapes to the tracer.
var filter = sync.OnceValue(func() []unix.SockFilter {
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	skipUnless := func(op uint16, k uint32, skip int) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, K: k, Jf: uint8(skip)}
	}
	ret := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	const allow, trace, refuse = unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_TRACE, unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)

	p := []unix.SockFilter{
		load(dataArch),
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: auditArch, Jt: 1}, ret(refuse),
		load(dataNumber),
		skipUnless(unix.BPF_JEQ, unix.SYS_IO_URING_SETUP, 1), ret(refuse),
		skipUnless(unix.BPF_JGE, x32Bit, 1), ret(refuse),
	}
	all := shapes()
	for _, nr := range slices.Sorted(maps.Keys(all)) {
		only := all[nr].only
		var test []unix.SockFilter
		if only.bits != 0 {
			test = append(test, skipUnless(unix.BPF_JSET, only.bits, 1), ret(trace))
		}
		for _, v := range only.values {
			test = append(test, skipUnless(unix.BPF_JEQ, v, 1), ret(trace))
		}
		if test == nil {
			test = append(test, ret(trace))
		} else {
			test = append(append([]unix.SockFilter{load(dataArgs + uint32(only.arg)*8)}, test...), ret(allow))
		}
		p = append(append(p, skipUnless(unix.BPF_JEQ, nr, len(test))), test...)
	}
	return append(p, ret(allow))
})

// installFilter makes a process that stands before its first instruction install the filter: it writes the filter below
// the top of the stack, which nothing uses yet, and a system call instruction over the first instruction, lets it run, and puts
// everything back. Threads and children inherit the filter, and it outlasts exec.
func (t *tracer) installFilter(pid int) error {
	before, err := getRegisters(pid)
	if err != nil {
		return fmt.Errorf("killpoint: registers: %w", err)
	}
	start := uintptr(before.pc())
	instruction := make([]byte, len(syscallInstruction))
	if _, err := unix.PtracePeekText(pid, start, instruction); err != nil {
		return fmt.Errorf("killpoint: text: %w", err)
	}
	program := filter()
	place := (before.sp() - 16<<10) &^ 15
	var b bytes.Buffer // struct sock_fprog, then the program
	for _, part := range []any{uint64(len(program)), place + 16, program} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			return err
		}
	}
	remote := []unix.RemoteIovec{{Base: uintptr(place), Len: b.Len()}}
	if n, err := unix.ProcessVMWritev(pid, []unix.Iovec{iovec(b.Bytes())}, remote, 0); err != nil || n != b.Len() {
		return fmt.Errorf("killpoint: stack: %w", errors.Join(err, ErrRefused))
	}
	if _, err := unix.PtracePokeText(pid, start, syscallInstruction); err != nil {
		return fmt.Errorf("killpoint: text: %w", err)
	}

	seccomp := func() (syscall.Errno, error) {
		return t.inject(pid, before, unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, place)
	}
	errno, err := seccomp()
	if err == nil && errno == unix.EACCES { // without CAP_SYS_ADMIN, only for those who gain no privileges
		if _, err = t.inject(pid, before, unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err == nil {
			errno, err = seccomp()
		}
	}
	if err != nil {
		return err
	}
	if errno != 0 {
		return fmt.Errorf("%w: seccomp: %w", ErrRefused, errno)
	}
	if _, err := unix.PtracePokeText(pid, start, instruction); err != nil {
		return fmt.Errorf("killpoint: text: %w", err)
	}
	return setRegisters(pid, before)
}

// inject makes the process execute the system call instruction at its program counter.
func (t *tracer) inject(pid int, before registers, nr int, args ...uint64) (syscall.Errno, error) {
	if err := setRegisters(pid, before.calling(nr, args...)); err != nil {
		return 0, fmt.Errorf("killpoint: registers: %w", err)
	}
	for stops := 0; stops < 2; { // entry and exit
		if err := unix.PtraceSyscall(pid, 0); err != nil {
			return 0, fmt.Errorf("killpoint: %w", err)
		}
		status, err := t.wait(pid)
		switch {
		case err != nil:
			return 0, fmt.Errorf("killpoint: wait: %w", err)
		case !status.Stopped():
			return 0, errors.New("killpoint: the program was killed before it began")
		case status.StopSignal() == unix.SIGTRAP|0x80:
			stops++
		default: // a signal that came early: send it again later
			defer func(s syscall.Signal) { _ = unix.Tgkill(pid, pid, s) }(status.StopSignal())
		}
	}
	i, err := stopInfo(pid)
	if err != nil {
		return 0, err
	}
	return i.errno(), nil
}
