//go:build linux && (amd64 || arm64)

package killpoint_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The programs that the tests run are the test binary itself, with this variable set.
const programEnv = "KILLPOINT_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(programEnv) == "" {
		if flag.Parse(); testing.Short() {
			fmt.Println("skipped: with the race detector, as -short is for, the programs traced are a hundred times slower")
			return
		}
		os.Exit(m.Run())
	}
	err := programs()[os.Args[1]](os.Args[2], os.Args[3:])
	if errno := syscall.Errno(0); errors.As(err, &errno) && os.Args[1] != "steps" {
		os.Exit(int(errno))
	} else if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func programs() map[string]func(dir string, args []string) error {
	return map[string]func(string, []string) error{
		"steps": stepsProgram, "writers": writersProgram, "storm": storm, "exec": execProgram, "paths": paths, "family": familyProgram,
		"forks": forks, "watch": watch,
		"rename":   func(dir string, _ []string) error { return os.Rename(dir+"/a", dir+"/b") },
		"stubborn": stubborn,
		"exit":     func(_ string, args []string) error { os.Exit(number(args[0])); return nil },
		"stopself": func(dir string, _ []string) error {
			_ = unix.Kill(os.Getpid(), unix.SIGSTOP)
			return os.Mkdir(dir+"/d", 0o700)
		},
		"mkdir": func(_ string, args []string) error {
			for _, a := range args {
				if err := os.Mkdir(a, 0o700); err != nil {
					return err
				}
			}
			return nil
		},
		"iouring": func(string, []string) error {
			var params [120]byte
			_, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
			return errno
		},
	}
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

const (
	xattr   = "user.killpoint"
	longAgo = 1e9
)

// A step makes exactly one system call that counts.
type step struct {
	call, path, path2 string
	do                func(dir string) error
	err               syscall.Errno // that it returns, and must
}

// withFile calls f for an open file; the open itself does not count.
func withFile(name string, flags int, f func(fd int) error) func(string) error {
	return func(dir string) error {
		fd, err := unix.Open(filepath.Join(dir, name), flags|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return errors.Join(f(fd), unix.Close(fd))
	}
}

func write(text string) func(fd int) error {
	return func(fd int) error {
		_, err := unix.Write(fd, []byte(text))
		return err
	}
}

var steps = []step{
	{call: "mkdirat", path: "d", do: func(dir string) error { return unix.Mkdirat(unix.AT_FDCWD, dir+"/d", 0o700) }},
	{call: "openat", path: "d/a", do: func(dir string) error {
		fd, err := unix.Open(dir+"/d/a", unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		_ = unix.Close(fd)
		return err
	}},
	{call: "write", path: "d/a", do: withFile("d/a", unix.O_WRONLY, write("one"))},
	{call: "pwrite64", path: "d/a", do: withFile("d/a", unix.O_WRONLY, func(fd int) error {
		_, err := unix.Pwrite(fd, []byte("two"), 3)
		return err
	})},
	{call: "fsync", path: "d/a", do: withFile("d/a", unix.O_WRONLY, unix.Fsync)},
	{call: "fdatasync", path: "d/a", do: withFile("d/a", unix.O_WRONLY, unix.Fdatasync)},
	{call: "fsync", path: "d", do: withFile("d", unix.O_DIRECTORY, unix.Fsync)},
	{call: "mkdirat", path: "d", err: syscall.EEXIST, do: func(dir string) error { return unix.Mkdirat(unix.AT_FDCWD, dir+"/d", 0o700) }},
	{call: "renameat", path: "d/a", path2: "d/b", do: func(dir string) error {
		return unix.Renameat(unix.AT_FDCWD, dir+"/d/a", unix.AT_FDCWD, dir+"/d/b")
	}},
	{call: "linkat", path: "d/b", path2: "c", do: func(dir string) error {
		return unix.Linkat(unix.AT_FDCWD, dir+"/d/b", unix.AT_FDCWD, dir+"/c", 0)
	}},
	{call: "symlinkat", path: "s", do: func(dir string) error { return unix.Symlinkat("c", unix.AT_FDCWD, dir+"/s") }},
	{call: "fchmodat", path: "c", do: func(dir string) error { return unix.Fchmodat(unix.AT_FDCWD, dir+"/c", 0o640, 0) }},
	{call: "fchmod", path: "c", do: withFile("c", unix.O_RDONLY, func(fd int) error { return unix.Fchmod(fd, 0o644) })},
	{call: "utimensat", path: "c", do: func(dir string) error {
		return unix.UtimesNanoAt(unix.AT_FDCWD, dir+"/c", []unix.Timespec{{Sec: longAgo}, {Sec: longAgo}}, 0)
	}},
	{call: "renameat2", path: "d/b", path2: "c2", do: func(dir string) error {
		return unix.Renameat2(unix.AT_FDCWD, dir+"/d/b", unix.AT_FDCWD, dir+"/c2", unix.RENAME_NOREPLACE)
	}},
	{call: "openat", path: "d/e", do: func(dir string) error {
		fd, err := unix.Open(dir+"/d/e", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		_ = unix.Close(fd)
		return err
	}},
	{call: "copy_file_range", path: "d/e", do: func(dir string) error {
		return withFile("c", unix.O_RDONLY, func(from int) error {
			return withFile("d/e", unix.O_WRONLY, func(to int) error {
				_, err := unix.CopyFileRange(from, nil, to, nil, 4, 0)
				return err
			})(dir)
		})(dir)
	}},
	{call: "sendfile", path: "d/e", do: func(dir string) error {
		return withFile("c", unix.O_RDONLY, func(from int) error {
			return withFile("d/e", unix.O_WRONLY, func(to int) error {
				_, err := unix.Sendfile(to, from, nil, 6)
				return err
			})(dir)
		})(dir)
	}},
	{call: "fallocate", path: "d/e", do: withFile("d/e", unix.O_WRONLY, func(fd int) error { return unix.Fallocate(fd, 0, 0, 8) })},
	{call: "ftruncate", path: "d/e", do: withFile("d/e", unix.O_WRONLY, func(fd int) error { return unix.Ftruncate(fd, 5) })},
	{call: "truncate", path: "d/e", do: func(dir string) error { return unix.Truncate(dir+"/d/e", 4) }},
	{call: "fsetxattr", path: "d/e", do: withFile("d/e", unix.O_WRONLY, func(fd int) error {
		return unix.Fsetxattr(fd, xattr, []byte("x"), 0)
	})},
	{call: "openat", path: "d/e", do: withFile("d/e", unix.O_WRONLY|unix.O_TRUNC, func(int) error { return nil })},
	{call: "writev", path: "d/e", do: withFile("d/e", unix.O_WRONLY, func(fd int) error {
		_, err := unix.Writev(fd, [][]byte{[]byte("a"), []byte("b")})
		return err
	})},
	{call: "unlinkat", path: "c", do: func(dir string) error { return unix.Unlinkat(unix.AT_FDCWD, dir+"/c", 0) }},
	{call: "mknodat", path: "fifo", do: func(dir string) error {
		return unix.Mknodat(unix.AT_FDCWD, dir+"/fifo", unix.S_IFIFO|0o600, 0)
	}},
	{call: "unlinkat", path: "d/e", do: func(dir string) error { return unix.Unlinkat(unix.AT_FDCWD, dir+"/d/e", 0) }},
	{call: "unlinkat", path: "d", do: func(dir string) error { return unix.Unlinkat(unix.AT_FDCWD, dir+"/d", unix.AT_REMOVEDIR) }},
}

const childEvery = 9 // this many steps by threads of the program itself, then one by a child; see stepsProgram

func doStep(dir string, i int) error {
	if err := steps[i].do(dir); !errors.Is(err, steps[i].err) && !(err == nil && steps[i].err == 0) {
		return fmt.Errorf("step %d, %s: %w", i+1, steps[i].call, err)
	}
	return nil
}

// doSteps does the first n steps in this process.
func doSteps(dir string, n int) {
	for i := range n {
		if err := doStep(dir, i); err != nil {
			panic(err)
		}
	}
}

// stepsProgram does all steps one after the other, each on a thread of its own, and some in a child.
func stepsProgram(dir string, args []string) error {
	if len(args) == 1 {
		return doStep(dir, number(args[0]))
	}
	for i := range steps {
		done := make(chan error)
		go func() {
			runtime.LockOSThread() // and never unlock: the thread ends, and the next step gets another one
			if i%childEvery != childEvery-1 {
				done <- doStep(dir, i)
				return
			}
			exe, _ := os.Executable()
			out, err := exec.Command(exe, "steps", dir, strconv.Itoa(i)).CombinedOutput()
			if err != nil {
				err = fmt.Errorf("child: %w: %s", err, out)
			}
			done <- err
		}()
		if err := <-done; err != nil {
			return err
		}
	}
	return nil
}

const (
	writers  = 8
	writes   = 25
	bigWrite = 1 << 20
)

func writersProgram(dir string, args []string) error {
	b := []byte{'x'}
	if len(args) == 1 {
		b = make([]byte, number(args[0]))
	}
	runtime.GOMAXPROCS(writers)
	var all sync.WaitGroup
	start := make(chan struct{})
	errs := make([]error, writers)
	for w := range writers {
		fd, err := unix.Open(filepath.Join(dir, strconv.Itoa(w)), unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return err
		}
		all.Go(func() {
			runtime.LockOSThread()
			<-start
			for range writes {
				_, err := unix.Write(fd, b)
				errs[w] = errors.Join(errs[w], err)
			}
		})
	}
	close(start)
	all.Wait()
	return errors.Join(errs...)
}

const stormWrites = 200

// storm writes while threads that never call anything are preempted, garbage is collected, and signals arrive.
func storm(dir string, _ []string) error {
	runtime.GOMAXPROCS(4)
	got := make(chan os.Signal, 1)
	signal.Notify(got, syscall.SIGUSR1)
	var stop atomic.Bool
	for range 2 {
		go func() {
			for x := 1; !stop.Load(); x++ {
				for range 1 << 20 {
					x *= 3
				}
			}
		}()
		go func() {
			for !stop.Load() {
				runtime.GC()
				_ = unix.Kill(os.Getpid(), syscall.SIGURG)
			}
		}()
	}
	fd, err := unix.Open(dir+"/f", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	for range stormWrites {
		_ = unix.Kill(os.Getpid(), syscall.SIGUSR1)
		select {
		case <-got:
		case <-time.After(10 * time.Second):
			return errors.New("a signal was lost")
		}
		_, werr := unix.Write(fd, []byte("x"))
		err = errors.Join(err, werr)
	}
	stop.Store(true)
	return err
}

func stubborn(dir string, _ []string) error {
	fd, err := unix.Open(dir+"/f", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	_ = write("x")(fd)
	_ = unix.Unlinkat(unix.AT_FDCWD, dir+"/f", 0)
	_ = write("x")(fd)
	_ = unix.Mkdirat(unix.AT_FDCWD, dir+"/d", 0o700)
	_ = unix.Ftruncate(fd, 1)
	_ = unix.Unlinkat(unix.AT_FDCWD, dir+"/d", unix.AT_REMOVEDIR)
	return nil
}

// execProgram makes two folders, replaces itself, and makes two more.
func execProgram(dir string, args []string) error {
	if len(args) == 1 {
		return errors.Join(os.Mkdir(dir+"/3", 0o700), os.Mkdir(dir+"/4", 0o700))
	}
	failed := make(chan error)
	for range 3 { // other threads that exec ends, one of them in a system call
		go func() { runtime.LockOSThread(); _ = unix.Pause(); select {} }()
	}
	runtime.LockOSThread() // the main thread is taken, so this goroutine gets another one
	go func() {
		runtime.LockOSThread()
		exe, _ := os.Executable()
		err := errors.Join(os.Mkdir(dir+"/1", 0o700), os.Mkdir(dir+"/2", 0o700))
		failed <- errors.Join(err, syscall.Exec(exe, []string{exe, "exec", dir, "again"}, os.Environ()))
	}()
	return <-failed
}

// paths makes one call for each way of naming a file.
func paths(dir string, args []string) error {
	outside := args[0]
	var errs []error
	try := func(err error) { errs = append(errs, err) }
	open := func(name string, flags int) int {
		fd, err := unix.Open(name, flags|unix.O_CLOEXEC, 0o600)
		try(err)
		return fd
	}

	try(os.Mkdir(dir+"/root", 0o700))
	root, err := os.OpenRoot(dir + "/root")
	try(err)
	f, err := root.OpenFile("f", os.O_CREATE|os.O_WRONLY, 0o600)
	try(err)
	try(os.Chdir(dir + "/root"))
	try(unix.Mkdirat(unix.AT_FDCWD, "../cwd", 0o700))
	try(unix.Mkdirat(unix.AT_FDCWD, outside+"/link/linked", 0o700))
	try(unix.Mkdirat(unix.AT_FDCWD, outside+"/not", 0o700))
	try(os.Symlink(dir+"/root/f", outside+"/flink"))
	_ = unix.Close(open(outside+"/flink", unix.O_TRUNC|unix.O_WRONLY))
	try(root.Remove("f"))
	_, err = f.WriteString("deleted")
	try(err)
	try(unix.Mkdirat(unix.AT_FDCWD, outside+"/out0", 0o700))
	try(unix.Renameat(unix.AT_FDCWD, outside+"/out0", unix.AT_FDCWD, outside+"/out1"))
	try(move(dir+"/out", outside+"/out"))
	try(move(outside+"/out", dir+"/in"))

	tmp := open(dir, unix.O_TMPFILE|unix.O_WRONLY)
	try(unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", tmp), unix.AT_FDCWD, dir+"/named", unix.AT_SYMLINK_FOLLOW))
	d := open(dir, unix.O_DIRECTORY)
	for _, flags := range []uint64{unix.O_RDONLY | unix.O_DIRECTORY, unix.O_CREAT | unix.O_WRONLY} {
		name := map[bool]string{true: "two", false: "root"}[flags&unix.O_CREAT != 0]
		mode := uint64(0)
		if flags&unix.O_CREAT != 0 {
			mode = 0o600
		}
		_, err = unix.Openat2(d, name, &unix.OpenHow{Flags: flags, Mode: mode})
		try(err)
	}
	try(unix.Fchmod(d, 0o700))
	_, err = fmt.Fprintln(os.Stdout, "a pipe does not count")
	try(err)
	return errors.Join(errs...)
}

// move renames what need not exist.
func move(from, to string) error {
	if err := unix.Renameat(unix.AT_FDCWD, from, unix.AT_FDCWD, to); !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

// forks starts processes from all threads, without end, and makes folders meanwhile.
func forks(dir string, _ []string) error {
	for range 4 {
		go func() {
			for {
				_ = exec.Command("/bin/true").Run()
			}
		}()
	}
	for i := 0; ; i++ {
		if err := os.Mkdir(filepath.Join(dir, strconv.Itoa(i)), 0o700); err != nil {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// watch starts children, and fails if one seems to stop.
func watch(string, []string) error {
	for range 20 {
		pid, err := syscall.ForkExec("/bin/true", []string{"true"}, nil)
		if err != nil {
			return err
		}
		var status unix.WaitStatus
		if _, err := unix.Wait4(pid, &status, unix.WUNTRACED, nil); err != nil || !status.Exited() {
			return fmt.Errorf("status %#x: %w", status, err)
		}
	}
	return nil
}

const family = 3

// familyProgram leaves a mark, starts the next generation in a session of its own, and sleeps.
func familyProgram(dir string, args []string) error {
	generation := number(args[0])
	if generation < family {
		exe, _ := os.Executable()
		next := exec.Command(exe, "family", dir, strconv.Itoa(generation+1))
		next.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := next.Start(); err != nil {
			return err
		}
	}
	name := fmt.Sprintf("%s/pid.%d", dir, os.Getpid())
	if err := unix.Mkdirat(unix.AT_FDCWD, name, 0o700); err != nil {
		return err
	}
	time.Sleep(time.Minute)
	return nil
}
