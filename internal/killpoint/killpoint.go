//go:build linux && (amd64 || arm64)

package killpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrRefused is returned by [Run] where the system forbids tracing, as some containers do. Tests skip then.
var ErrRefused = errors.New("killpoint: tracing is not permitted here")

// A Call is one counted system call.
type Call struct {
	N    int    // its place in the count, from 1
	Name string // as in the manual: "renameat2"

	// Path is the file that the call changes, absolute and clean; for a copy it is the file copied to, for a symbolic
	// link the link. Path2 is the other name of a rename or link, where it leads to. A file that has no name any more
	// keeps its last one, an O_TMPFILE file has an invented one.
	Path, Path2 string

	PID, TID int

	// Err is what the call returned: 0 for success, and for a call that never returned because the program was killed.
	Err syscall.Errno
}

// Config says what to run, and where to stop it. Path and Under are required.
type Config struct {
	Path   string    // the program, not looked up in $PATH
	Args   []string  // without the program's name
	Env    []string  // as in [exec.Cmd]: nil is the environment of this process
	Dir    string    // "" is the folder of this process
	Stdout io.Writer // nil discards; see [exec.Cmd]
	Stderr io.Writer // nil discards

	Under  []string        // calls count that touch one of these folders, or something below
	Match  func(Call) bool // and of those, the ones for which Match is true; nil is all. Call.N is the number it would get
	At     int             // the call to act on, from 1; 0 only records
	Errno  syscall.Errno   // 0 kills everything before call At has any effect; else the call is not made and returns Errno
	Sticky bool            // with Errno: later calls fail, too. ENOSPC and EDQUOT only hit calls that could need space
}

// Result is what happened.
type Result struct {
	Calls    []Call         // those counted; if At killed, the last one is call At, which had no effect
	Acted    bool           // call At was reached
	ExitCode int            // of the program itself; -1 if a signal ended it
	Signal   syscall.Signal // the signal that ended it, SIGKILL if At killed; else 0
}

// Run runs the program, and returns when it and all processes that it started have ended, however detached they are.
// If ctx ends first, all of them are killed, and Run returns the error of ctx with what was recorded. How the program
// ended is in the Result and no error. Several Runs may go on at once.
func Run(ctx context.Context, c Config) (Result, error) {
	under, err := folders(c.Under)
	switch {
	case err != nil:
		return Result{}, err
	case c.At < 0, c.Sticky && c.Errno == 0, c.Errno != 0 && c.At == 0:
		return Result{}, errors.New("killpoint: At, Errno and Sticky do not fit together")
	case ctx.Err() != nil:
		return Result{}, ctx.Err()
	}
	t := &tracer{config: c, under: under, tasks: map[int]*task{}}
	cmd := exec.Command(c.Path, c.Args...) // not CommandContext: it would wait for, and kill, by itself
	cmd.Path, cmd.Err = c.Path, nil
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = c.Env, c.Dir, c.Stdout, c.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}

	done := make(chan error)
	go onChildlessThread(func() { done <- t.run(ctx, cmd) })
	err = <-done
	return t.result, err
}

// folders returns the folders by the names given and by their real ones, which is what descriptors show.
func folders(under []string) ([]string, error) {
	if len(under) == 0 {
		return nil, errors.New("killpoint: Under is empty")
	}
	var all []string
	for _, u := range under {
		abs, err := filepath.Abs(u)
		if err != nil {
			return nil, err
		}
		all = append(all, abs)
		if real, err := filepath.EvalSymlinks(abs); err == nil && real != abs {
			all = append(all, real)
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// onChildlessThread calls f on a thread of its own that has no children, and will get none but those of f. A tracer
// is a thread, and waits for "any child of this thread": it must not reap what another goroutine once started here. The
// main thread will not do, because it inherits the children of threads that end.
func onChildlessThread(f func()) {
	runtime.LockOSThread()
	const peek = unix.WEXITED | unix.WSTOPPED | unix.WNOHANG | unix.WNOWAIT | unix.WALL | unix.WNOTHREAD
	if unix.Gettid() != unix.Getpid() && unix.Waitid(unix.P_ALL, 0, nil, peek, nil) == unix.ECHILD {
		f()
		return // still locked: the thread ends here, and the kernel would kill what it still traces
	}
	defer runtime.UnlockOSThread() // not before f has found another thread
	done := make(chan struct{})
	go onChildlessThread(func() { defer close(done); f() })
	<-done
}

// run is everything that has to happen on one thread.
func (t *tracer) run(ctx context.Context, cmd *exec.Cmd) error {
	if err := cmd.Start(); errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	} else if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, t.killAll)
	err := t.start(cmd.Process.Pid)
	if err != nil {
		t.killAll()
	}
	if waitErr := t.loop(); err == nil {
		err = waitErr
	}
	_ = cmd.Wait() // the process is reaped, which is its error; what is left is to copy the output to its end
	if !stop() {
		return ctx.Err()
	}
	return err
}
