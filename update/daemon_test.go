package update_test

import (
	"bytes"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

// A daemon is a supervised program in real processes.
type daemon struct {
	t    *testing.T
	cmd  *exec.Cmd
	mu   sync.Mutex
	out  bytes.Buffer
	done chan struct{}
}

func (d *daemon) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.out.Write(p)
}

func (d *daemon) output() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.out.String()
}

func startDaemon(t *testing.T, argv ...string) *daemon {
	t.Helper()
	d := &daemon{t: t, cmd: exec.CommandContext(t.Context(), argv[0], argv[1:]...), done: make(chan struct{})}
	d.cmd.Stdout, d.cmd.Stderr = d, d
	d.cmd.WaitDelay = time.Second
	d.cmd.Cancel = func() error { return askToEnd(d.cmd.Process) }
	require.NoError(t, d.cmd.Start())
	go func() {
		defer close(d.done)
		_ = d.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = askToEnd(d.cmd.Process)
		select {
		case <-d.done:
		case <-time.After(5 * time.Second):
			_ = d.cmd.Process.Kill()
			<-d.done
		}
		out := d.output()
		t.Log(out[max(0, len(out)-4000):])
	})
	return d
}

// expect waits until the daemon and its program have printed something n times.
func (d *daemon) expect(text string, n int) {
	d.t.Helper()
	require.Eventually(d.t, func() bool { return strings.Count(d.output(), text) >= n }, time.Minute, 10*time.Millisecond, "%q %d times", text, n)
}

func (d *daemon) exit() int {
	d.t.Helper()
	select {
	case <-d.done:
	case <-time.After(20 * time.Second):
		d.t.Fatal("it does not end:\n" + d.output())
	}
	return d.cmd.ProcessState.ExitCode()
}

// child is the process id that the program printed last.
func (d *daemon) child() int {
	d.t.Helper()
	lines := strings.Split(d.output(), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if s, found := strings.CutPrefix(lines[i], "serving as "); found {
			pid, err := strconv.Atoi(s)
			require.NoError(d.t, err)
			return pid
		}
	}
	d.t.Fatal("it does not serve")
	return 0
}

// bad versions and what is wrong with them. The probe does not show it.
var badVersions = map[string]behaviour{
	"dies at work":       {Crash: "late"},
	"dies before Start":  {Crash: "supervised"},
	"hangs before Start": {Hang: true, Crash: "supervised"},
	"hangs at work":      {Hang: true, Crash: "late"},
}

// releaseProgram publishes a real program in the form that the layout needs.
func (l layout) releaseProgram(v *vendor, b behaviour) {
	v.t.Helper()
	b.Layout = l.name
	v.now = v.now.Add(time.Second)
	if l.place == nil {
		v.release(b.Version, v.build(b))
		return
	}
	v.release(b.Version, tarGzOf(v.t, packed{programPath, v.build(b)}, packed{"share/help.txt", []byte("help of " + b.Version)}), func(n *tufrepo.NewRelease) {
		n.Artifacts[0].Format, n.Artifacts[0].Executable = channel.TarGz, programPath
	})
}
