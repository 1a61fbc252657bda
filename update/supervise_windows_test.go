package update_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/windows"
)

// On Windows a copy of the program beside the folder of versions supervises the one that the pointer names. The program
// updates itself, asks to be started again, and is the new version; a bad one is left.
func TestSuperviseOnWindows(t *testing.T) {
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			v := newVendor(t)
			l.releaseProgram(v, behaviour{Version: "1.1.0"})
			_, launcher := l.installProgram(t, v, "1.0.0")
			d := startDaemon(t, launcher, "serve-updating")
			d.expect("running 1.0.0", 1)
			d.expect("running 1.1.0", 1)
			d.expect("msg=confirmed", 1)
			require.Equal(t, 1, strings.Count(d.output(), "supervise: starting again\" code=0 cause=<nil>"), "as it was asked")
			l.releaseProgram(v, behaviour{Version: "1.2.0", Crash: "late"})
			d.expect("running 1.2.0", 3)
			d.expect("msg=\"rolled back\"", 1)
			d.expect("running 1.1.0", 2)
			d.expect("quarantined", 1)
		})
	}
}

func TestSuperviseGoesBackOnWindows(t *testing.T) {
	n := 0
	for name, bad := range badVersions {
		n++
		for i, l := range layouts {
			if testing.Short() && i != n%2 {
				continue // half of them
			}
			t.Run(name+"/"+l.name, func(t *testing.T) {
				t.Parallel()
				v := newVendor(t)
				bad.Version = "1.1.0"
				l.releaseProgram(v, bad)
				_, launcher := l.installProgram(t, v, "1.0.0")
				d := startDaemon(t, launcher, "serve-updating")
				d.expect("running 1.0.0", 1)
				d.expect("rolled back", 1)
				d.expect("running 1.0.0", 2)
				d.expect("quarantined", 1)
				require.Equal(t, 3, strings.Count(d.output(), "supervise: starting again")-strings.Count(d.output(), "code=0"), "three starts")
			})
		}
	}
}

// The end of a program that is not on trial is passed on as it is.
func TestSupervisePassesTheEndOnWindows(t *testing.T) {
	v := newVendor(t)
	for _, l := range layouts {
		_, launcher := l.installProgram(t, v, "1.0.0")
		for job, want := range map[string]int{"exit 0": 0, "exit 7": 7} {
			t.Run(l.name+"/"+job, func(t *testing.T) {
				d := startDaemon(t, append([]string{launcher, "serve"}, strings.Fields(job)...)...)
				require.Equal(t, want, d.exit())
				require.NotContains(t, d.output(), "starting again")
			})
		}
	}
}

// When the supervisor is killed, its program is not left alone.
func TestSupervisorKilledOnWindows(t *testing.T) {
	v := newVendor(t)
	_, launcher := layouts[1].installProgram(t, v, "1.0.0")
	d := startDaemon(t, launcher, "serve")
	d.expect("serving as", 1)
	child, err := windows.OpenProcess(windows.SYNCHRONIZE, false, uint32(d.child()))
	require.NoError(t, err)
	defer func() { _ = windows.CloseHandle(child) }()
	require.NoError(t, d.cmd.Process.Kill())
	event, err := windows.WaitForSingleObject(child, 10_000)
	require.NoError(t, err)
	require.EqualValues(t, windows.WAIT_OBJECT_0, event)
}

// The launcher is never touched, and starts whatever version is in place.
func TestLauncherStaysAsItIs(t *testing.T) {
	l := layouts[1]
	v := newVendor(t)
	l.releaseProgram(v, behaviour{Version: "1.1.0"})
	m, launcher := l.installProgram(t, v, "1.0.0")
	before, err := os.Stat(launcher)
	require.NoError(t, err)
	d := startDaemon(t, launcher, "serve-updating")
	d.expect("msg=confirmed", 1)
	require.NoError(t, d.cmd.Process.Kill())
	<-d.done
	require.False(t, strings.HasPrefix(m.inPlace(), l.place(m.dir, "1.0.0")))
	d = startDaemon(t, launcher, "serve")
	d.expect("running 1.1.0", 1)
	after, err := os.Stat(launcher)
	require.NoError(t, err)
	require.Equal(t, before.ModTime(), after.ModTime())
	require.True(t, os.SameFile(before, after))
}
