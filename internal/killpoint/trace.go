//go:build linux && (amd64 || arm64)

package killpoint

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A tracer follows one tree of processes. The filter (see filter.go) stops a thread at the entry of a call that might
// count and at no other. A call that counts is then followed to its exit, so that it is known when its effect is
// complete; for calls that do not count, and for all others, threads run undisturbed. This also means that there is no
// state of "in a call or not" to keep for each thread: the kernel says which kind of stop it is.
type tracer struct {
	config Config
	under  []string
	result Result

	root    int // pid
	tasks   map[int]*task
	flying  int  // counted calls that have begun and not returned
	closing bool // call At waits at its entry for those, then all is killed
	path    [unix.PathMax]byte

	mu        sync.Mutex
	killed    bool
	processes map[int]int // pid → pidfd, which never means another process, even after the pid is used again
}

// A task is a thread.
type task struct {
	tgid    int  // its process; 0 until somebody asks
	newborn bool // has not yet seen the SIGSTOP with which the kernel starts a traced thread
	call    int  // the call that it is making, as an index into result.Calls; -1 for none
}

const options = unix.PTRACE_O_EXITKILL | unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACESECCOMP | unix.PTRACE_O_TRACEEXEC |
	unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK

// start takes over a process that stands before its first instruction.
func (t *tracer) start(pid int) error {
	t.root = pid
	if status, err := t.wait(pid); err != nil || !status.Stopped() {
		return fmt.Errorf("killpoint: the program did not start: %#x, %w", status, err)
	}
	if _, err := t.meet(pid); err != nil {
		return err
	}
	t.tasks[pid].newborn = false // it began with exec, not with SIGSTOP
	if err := unix.PtraceSetOptions(pid, options); err != nil {
		return fmt.Errorf("killpoint: trace options: %w", err)
	}
	if err := t.installFilter(pid); err != nil {
		return err
	}
	return t.resume(pid, 0)
}

// wait waits for one process only, and sees to the end of it.
func (t *tracer) wait(pid int) (status unix.WaitStatus, err error) {
	for {
		_, err = unix.Wait4(pid, &status, unix.WALL|unix.WNOTHREAD, nil)
		if err != unix.EINTR {
			break
		}
	}
	if err == nil && !status.Stopped() {
		t.gone(pid, status)
	}
	return status, err
}

// loop follows the tree until nothing is left of it.
func (t *tracer) loop() (failed error) {
	for {
		var status unix.WaitStatus
		tid, err := unix.Wait4(-1, &status, unix.WALL|unix.WNOTHREAD, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.ECHILD:
			return failed
		case err != nil:
			return fmt.Errorf("killpoint: wait: %w", err) // the thread ends, and with it what it traces
		}
		if !status.Stopped() {
			t.gone(tid, status)
			continue
		}
		// ESRCH: killed while it was stopped; its end is reported next.
		if err := t.stopped(tid, status); err != nil && !errors.Is(err, unix.ESRCH) {
			failed = errors.Join(failed, err)
			t.killAll()
		}
	}
}

func (t *tracer) stopped(tid int, status unix.WaitStatus) error {
	k, err := t.meet(tid)
	if err != nil {
		return err
	}
	if t.isKilled() {
		return nil // SIGKILL ends the stop
	}
	signal := status.StopSignal()
	switch event := status.TrapCause(); {
	case signal == unix.SIGTRAP|0x80:
		return t.returned(tid, k)
	case event == unix.PTRACE_EVENT_SECCOMP:
		return t.entered(tid, k)
	case event == unix.PTRACE_EVENT_EXEC:
		return t.execed(tid, k)
	case event > 0: // a new thread or process, which reports by itself
		return t.resume(tid, 0)
	case signal == unix.SIGSTOP && k.newborn:
		k.newborn = false
		return t.resume(tid, 0)
	case isGroupStop(tid, signal):
		return t.resume(tid, 0)
	}
	return t.resume(tid, signal)
}

// isGroupStop tells a thread that stopped together with its process from one that is about to get a stop signal.
func isGroupStop(tid int, signal syscall.Signal) bool {
	switch signal {
	case unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		var info [128]byte
		return ptrace(unix.PTRACE_GETSIGINFO, tid, 0, unsafe.Pointer(&info)) == unix.EINVAL
	}
	return false
}

func (t *tracer) resume(tid int, signal syscall.Signal) error {
	return unix.PtraceCont(tid, int(signal))
}

// entered is called when a thread is about to make a call that might count.
func (t *tracer) entered(tid int, k *task) error {
	if t.closing {
		return nil
	}
	info, err := stopInfo(tid)
	if err != nil {
		return err
	}
	call, class, ok := t.inspect(tid, info)
	if !ok {
		return t.resume(tid, 0)
	}
	call.PID, call.TID, call.N = t.process(tid, k), tid, len(t.result.Calls)+1
	if t.config.Match != nil && !t.config.Match(call) {
		return t.resume(tid, 0)
	}
	t.result.Calls = append(t.result.Calls, call)
	at, errno := t.config.At, t.config.Errno
	switch {
	case call.N == at && errno == 0:
		t.result.Acted, t.closing = true, true
		t.closed()
		return nil
	case call.N == at, t.config.Sticky && call.N > at && hits(errno, class):
		t.result.Acted = true
		if err := skipCall(tid, errno); err != nil {
			return err
		}
	}
	k.call = call.N - 1
	t.flying++
	return unix.PtraceSyscall(tid, 0) // to the exit
}

// returned is called when a counted call has had its effect.
func (t *tracer) returned(tid int, k *task) error {
	if k.call < 0 {
		return fmt.Errorf("killpoint: thread %d left a call that it did not enter", tid)
	}
	info, err := stopInfo(tid)
	if err != nil {
		return err
	}
	t.result.Calls[k.call].Err = info.errno()
	t.landed(k)
	if t.closing {
		return nil
	}
	return t.resume(tid, 0)
}

func (t *tracer) landed(k *task) {
	if k.call >= 0 {
		k.call = -1
		t.flying--
		t.closed()
	}
}

// closed kills everything once the calls before call At are complete.
func (t *tracer) closed() {
	if t.closing && t.flying == 0 {
		t.killAll()
	}
}

// execed is called when a process has become another program. The other threads have ended, and the one that called
// exec has taken the process's id; neither it, under its own id, nor the thread that had this id is heard of again.
func (t *tracer) execed(tid int, k *task) error {
	former, err := unix.PtraceGetEventMsg(tid)
	if err != nil {
		return err
	}
	if int(former) != tid {
		delete(t.tasks, int(former))
	}
	t.landed(k)
	k.tgid, k.newborn = tid, false
	if t.isKilled() { // landed may have done it
		return nil
	}
	return t.resume(tid, 0)
}

// gone is called when a thread has ended. For the first thread of a process this comes last.
func (t *tracer) gone(tid int, status unix.WaitStatus) {
	if k := t.tasks[tid]; k != nil {
		t.landed(k)
		delete(t.tasks, tid)
	}
	if tid == t.root {
		t.result.ExitCode = status.ExitStatus()
		if status.Signaled() {
			t.result.Signal = status.Signal()
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if fd, ok := t.processes[tid]; ok {
		_ = unix.Close(fd)
		delete(t.processes, tid)
	}
}

// meet returns what is known about a thread that is stopped. A new one that is the first of its process can be killed
// from here on; a process that is born after killAll is killed here.
func (t *tracer) meet(tid int) (*task, error) {
	if k := t.tasks[tid]; k != nil {
		return k, nil
	}
	k := &task{newborn: true, call: -1}
	t.tasks[tid] = k
	fd, err := unix.PidfdOpen(tid, 0)
	switch err {
	case nil:
	case unix.EINVAL, unix.ENOENT: // not the first thread
		return k, nil
	default:
		_ = unix.Kill(tid, unix.SIGKILL) // not reaped yet, so the id is still its own
		return k, fmt.Errorf("killpoint: pidfd_open: %w", err)
	}
	k.tgid = tid
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.processes == nil {
		t.processes = map[int]int{}
	}
	t.processes[tid] = fd
	if t.killed {
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	}
	return k, nil
}

// killAll kills all processes, and those that are yet to be met. It may be called from any goroutine.
func (t *tracer) killAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.killed = true
	for _, fd := range t.processes {
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	}
}

func (t *tracer) isKilled() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.killed
}

// process returns the id of the process to which the thread belongs.
func (t *tracer) process(tid int, k *task) int {
	if k.tgid == 0 {
		status, _ := os.ReadFile("/proc/" + strconv.Itoa(tid) + "/status")
		_, rest, _ := strings.Cut(string(status), "\nTgid:")
		line, _, _ := strings.Cut(rest, "\n")
		k.tgid, _ = strconv.Atoi(strings.TrimSpace(line))
	}
	return k.tgid
}

// info is struct ptrace_syscall_info, the same on all architectures. first is the number of the call at its entry and
// the value returned at its exit.
type info struct {
	op    uint8
	_     [3]byte
	arch  uint32
	ip    uint64
	sp    uint64
	first uint64
	args  [6]uint64
	_     uint64
}

// errno is the error that the call returned, or 0.
func (i *info) errno() syscall.Errno {
	if isError := i.args[0]&0xff != 0; !isError {
		return 0
	}
	return syscall.Errno(-int64(i.first))
}

func stopInfo(tid int) (*info, error) {
	var i info
	if err := ptrace(unix.PTRACE_GET_SYSCALL_INFO, tid, unsafe.Sizeof(i), unsafe.Pointer(&i)); err != nil {
		return nil, fmt.Errorf("killpoint: PTRACE_GET_SYSCALL_INFO: %w", err)
	}
	return &i, nil
}

func ptrace(request, tid int, addr uintptr, data unsafe.Pointer) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), addr, uintptr(data), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
