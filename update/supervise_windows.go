package update

import (
	"errors"
	"os"
	"os/exec"
	"unsafe"

	"golang.org/x/sys/windows"
)

// passedOn: what is typed at a console reaches every program of it. Here it must only not end the supervisor.
var passedOn = []os.Signal{os.Interrupt}

func (v *supervisor) pass(*os.Process, os.Signal) { v.stopping = true }

// askToEnd: there is nothing to ask with; the program is ended.
func askToEnd(p *os.Process) error { return p.Kill() }

func wait(p *os.Process) int {
	state, err := p.Wait()
	if err != nil {
		return 127
	}
	return state.ExitCode()
}

// startTied starts a program that ends when this process does: in a job of its own.
func startTied(cmd *exec.Cmd) (release func(), err error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return nil, err
	}
	release = func() { _ = windows.CloseHandle(job) }
	limits := windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION{BasicLimitInformation: windows.JOBOBJECT_BASIC_LIMIT_INFORMATION{
		LimitFlags: windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE | windows.JOB_OBJECT_LIMIT_SILENT_BREAKAWAY_OK,
	}}
	_, err = windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation, uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits)))
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		release()
		return nil, err
	}
	process, err := windows.OpenProcess(windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE, false, uint32(cmd.Process.Pid))
	if err == nil {
		err = errors.Join(windows.AssignProcessToJobObject(job, process), windows.CloseHandle(process))
	}
	if err != nil { // older systems refuse a second job; the program runs all the same
		release()
		return func() {}, nil
	}
	return release, nil
}
