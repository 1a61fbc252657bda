package update

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-dev/fairlead/internal/disk"
)

// Supervision says how Supervise works. Its zero value has the defaults.
type Supervision struct {
	// Patience is how long a version on trial may run without being confirmed; then it hangs, and is ended. It must be
	// longer than Trial.Healthy and all that Hooks.Healthy takes. 0: five minutes, or four times as long as that.
	Patience time.Duration
	// Grace is the time between asking the program to end and ending it. 0: 10 s.
	Grace time.Duration
	// Args are the arguments of the program. nil: those of this process.
	Args []string
}

// Ended says how a supervised program has ended.
type Ended struct {
	Code int   // for os.Exit: the program's own, 128 and the number of the signal that ended it, or 127 if it could not be started
	Err  error // why it could not be started, or was ended by us; else nil
}

// superviseVariable tells the child the process id of its supervisor. Those whom the child starts have another parent.
const superviseVariable = "FAIRLEAD_SUPERVISOR"

// Supervise runs the program in place as a child process, for daemons: it looks on while a new version is on trial, and
// when that version dies or hangs, starts it again, or the version before, without waiting for somebody to start
// the service again. It counts what Start cannot see: a version that does not even get there. Call it
// first in main, before Start:
//
//	if end := up.Supervise(ctx, update.Supervision{}); end != nil {
//		os.Exit(end.Code)
//	}
//	next, err := up.Start(ctx)
//
// In the child, and in a probe, it returns nil at once. In the supervisor it returns when the program has ended and is not
// to be started again: because it was told to end, or ended by itself while it was not on trial. Restarting a program that
// works but fails is the business of the service manager.
//
// Signals that the supervisor gets (on Unix HUP, INT, QUIT, TERM, USR1, USR2) go to the program; when ctx ends, it is asked to
// end, and ended after Grace. On Linux the program is asked to end when its supervisor dies. As process 1 of a
// container it reaps what others leave. Under systemd, use Type=simple or, with Type=notify, NotifyAccess=all; sockets
// that systemd passes do not reach the program.
//
// The supervisor goes on with the code that it was started with, and uses little of it.
func (u *Updater) Supervise(ctx context.Context, s Supervision) *Ended {
	if _, probe := os.LookupEnv(probeVariable); probe || isSupervised() {
		return nil
	}
	if s.Patience <= 0 {
		s.Patience = max(5*time.Minute, 4*time.Duration(u.cfg.Trial.Starts+1)*u.cfg.Trial.Healthy)
	}
	if s.Grace <= 0 {
		s.Grace = 10 * time.Second
	}
	if s.Args == nil {
		s.Args = os.Args[1:]
	}
	runtime.LockOSThread() // the parent, to Linux, is the thread
	defer runtime.UnlockOSThread()
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, passedOn...)
	defer signal.Stop(signals)
	v := &supervisor{u: u, s: s, ctx: ctx, signals: signals}
	for failures := 0; ; failures++ {
		if err := v.settle(); err != nil {
			u.log.Warn("supervise: the state could not be settled", "cause", err)
		}
		end := v.run()
		if !v.again(end) {
			return end
		}
		u.log.Warn("supervise: starting again", "code", end.Code, "cause", end.Err)
		if sleep(ctx, min(100*time.Millisecond<<min(failures, 6), 5*time.Second)) != nil {
			return end
		}
	}
}

func isSupervised() bool {
	return os.Getenv(superviseVariable) == strconv.Itoa(os.Getppid())
}

// environ is the environment for a program that we start, with one variable of ours.
func environ(name, value string) []string {
	env := slices.DeleteFunc(os.Environ(), func(s string) bool {
		return strings.HasPrefix(s, superviseVariable+"=") || strings.HasPrefix(s, probeVariable+"=")
	})
	return append(env, name+"="+value)
}

type supervisor struct {
	u        *Updater
	s        Supervision
	ctx      context.Context // of the one call
	signals  <-chan os.Signal
	before   *journal // when the child was started; nil: none
	stopping bool     // the program was told to end
}

// settle does for the program what its Start would: finish or undo what was interrupted, and go back when there were too
// many starts.
func (v *supervisor) settle() error {
	u := v.u
	v.before = nil
	j, release, err := u.openJournal(v.ctx)
	if err != nil || j == nil {
		return notOurs(err)
	}
	defer release()
	v.before = j
	if j.Phase == applying {
		if _, err := u.settleApplying(j); err != nil {
			return err
		}
	}
	switch {
	case j.Phase == reverting:
		return u.finishRevert(j)
	case j.Phase == trial && j.Starts >= u.cfg.Trial.Starts:
		return u.revert(j, reasonTrial)
	}
	return nil
}

// run starts the program once and waits for its end.
func (v *supervisor) run() *Ended {
	cmd := exec.Command(v.u.program(), v.s.Args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = environ(superviseVariable, strconv.Itoa(os.Getpid()))
	_ = v.u.disk.Remove(v.u.path(restartName))
	tie, err := startTied(cmd)
	if err != nil {
		return &Ended{Code: 127, Err: err}
	}
	defer tie()
	ended := make(chan int, 1)
	go func() { ended <- wait(cmd.Process) }()
	hung := time.NewTicker(min(v.s.Patience/8+1, 5*time.Second))
	defer hung.Stop()
	var trialSince time.Time
	var trialOf string
	done := v.ctx.Done()
	for {
		select {
		case code := <-ended:
			return &Ended{Code: code}
		case sig := <-v.signals:
			v.pass(cmd.Process, sig)
		case <-done:
			v.stopping, done = true, nil
			return v.end(cmd.Process, ended, context.Cause(v.ctx))
		case <-hung.C:
			switch of := v.onTrial(); {
			case of == "":
				trialOf = ""
			case of != trialOf:
				trialOf, trialSince = of, time.Now()
			case time.Since(trialSince) >= v.s.Patience:
				return v.end(cmd.Process, ended, errHung)
			}
		}
	}
}

var errHung = errors.New("update: supervise: the new version was not confirmed in time, and was ended")

// onTrial returns the digest of the version that is on trial and that our child is. "": it is another one.
func (v *supervisor) onTrial() string {
	j, err := v.u.readJournal()
	if err != nil || j.Phase != trial {
		return ""
	}
	startedAsIt := v.before != nil && v.before.Phase == trial && v.before.To.Digest == j.To.Digest
	if j.Starts == 0 && !startedAsIt && v.request() != requestExec {
		return "" // our child is still the version before
	}
	return j.To.Digest
}

// end asks the program to end, and ends it.
func (v *supervisor) end(p *os.Process, ended <-chan int, cause error) *Ended {
	_ = askToEnd(p)
	select {
	case code := <-ended:
		return &Ended{Code: code, Err: cause}
	case <-time.After(v.s.Grace):
	}
	_ = p.Kill()
	return &Ended{Code: <-ended, Err: cause}
}

// again decides whether the program is to be started again, and counts a start on trial that nobody else has.
func (v *supervisor) again(end *Ended) bool {
	if v.stopping {
		return false
	}
	u := v.u
	request := v.request()
	if request == requestAgain {
		return true
	}
	j, release, err := u.openJournal(v.ctx)
	if err != nil || j == nil {
		return false
	}
	defer release()
	switch {
	case j.Phase == applying, j.Phase == reverting:
		return true // it died in the middle
	case j.Phase != trial:
		return false
	case j.Starts == 0 && request != requestExec && (v.before == nil || v.before.Phase != trial):
		return true // a new version is in place, and the old one has ended for it
	case j.Starts > 0 && end.Code == 0 && end.Err == nil:
		return false // it ended well
	}
	uncounted := j.Starts == 0 || (v.before != nil && v.before.Phase == trial && v.before.Starts == j.Starts && request == "")
	if uncounted { // it did not get as far as Start
		j.Starts++
		if err := u.writeJournal(j); err != nil {
			u.log.Warn("supervise: a start could not be counted", "cause", err)
			return false // or it would go on for ever
		}
	}
	return true
}

// restartName is a file by which a program tells its supervisor that it is about to be another version.
const (
	restartName  = "restart"
	requestAgain = "again" // it ends, to be started again
	requestExec  = "exec"  // it goes on as the version that is in place
)

// tellSupervisor makes a request, if there is a supervisor.
func (u *Updater) tellSupervisor(request string) error {
	if !isSupervised() {
		return errors.ErrUnsupported
	}
	return disk.Write(u.disk, u.path(restartName), []byte(request), 0o600)
}

func (v *supervisor) request() string {
	data, err := disk.ReadFile(v.u.disk, v.u.path(restartName), 64)
	if err != nil {
		return ""
	}
	return string(data)
}
