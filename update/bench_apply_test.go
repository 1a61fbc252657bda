package update_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/tufrepo"
	"github.com/fairlead-dev/fairlead/update"
)

// BenchmarkApply measures, on real processes and a real disk: from calling Apply to the new version's first answer, and from
// starting a bad version once too often to the old version's. Both restart a process. The floor is copying the bytes
// that are installed, with fsync, in the same run.
//
//	go test ./update -run '^$' -bench Apply -benchtime 5x
func BenchmarkApply(b *testing.B) {
	for _, l := range layouts {
		b.Run(l.name, func(b *testing.B) {
			var forth, back, floor time.Duration
			for b.Loop() {
				m := l.benchMachine(b)
				from, to := m.timed("bench-apply")
				forth += to - from
				for range 2 {
					m.timed("bench-start")
				}
				from, to = m.timed("bench-start")
				back += to - from
				floor += m.copyWithSync()
			}
			n := time.Duration(b.N)
			b.ReportMetric(float64((forth/n).Microseconds())/1000, "apply-ms")
			b.ReportMetric(float64((back/n).Microseconds())/1000, "back-ms")
			b.ReportMetric(float64((floor/n).Microseconds())/1000, "copy-ms")
			b.ReportMetric(float64(forth)/float64(floor), "apply/copy")
			b.ReportMetric(float64(back)/float64(floor), "back/copy")
			b.ReportMetric(0, "ns/op")
		})
	}
}

type benchMachine struct {
	b       *testing.B
	program string
	data    [][]byte // of 1.1.0
}

func (l layout) benchMachine(b *testing.B) *benchMachine {
	b.Helper()
	v := newVendorTB(b)
	dir := b.TempDir()
	m := &benchMachine{b: b, program: filepath.Join(dir, l.program)}
	old := v.build(behaviour{Version: "1.0.0", Layout: l.name})
	program := m.program
	if l.place != nil {
		program = filepath.Join(l.place(dir, "1.0.0"), programPath)
	}
	require.NoError(b, os.MkdirAll(filepath.Dir(program), 0o755))
	require.NoError(b, os.WriteFile(program, old, 0o755))
	fresh := v.build(behaviour{Version: "1.1.0", Layout: l.name})
	m.data = append(m.data, fresh)
	if l.place == nil {
		v.release("1.1.0", fresh)
		return m
	}
	if l.name == "versions" {
		require.NoError(b, os.Symlink("versions/1.0.0", filepath.Join(dir, "notes", "current")))
	}
	list := []packed{{programPath, fresh}}
	for i := range 200 {
		data := []byte(strings.Repeat(strconv.Itoa(i)+"0123456789abcdef", 8<<10)) // 140 kB
		list = append(list, packed{fmt.Sprintf("share/%d", i), data})
		m.data = append(m.data, data)
	}
	v.release("1.1.0", tarGzOf(b, list...), func(n *tufrepo.NewRelease) {
		n.Artifacts[0].Format, n.Artifacts[0].Executable = channel.TarGz, programPath
	})
	return m
}

// timed runs a job, which prints when it began what is measured, and the version that runs in the end when it answers.
func (m *benchMachine) timed(job string) (from, to time.Duration) {
	m.b.Helper()
	out, err := exec.CommandContext(m.b.Context(), m.program, job, strconv.FormatInt(time.Now().UnixNano(), 10)).Output()
	require.NoError(m.b, err, "%s", out)
	for line := range strings.Lines(string(out)) {
		if at, found := strings.CutPrefix(strings.TrimSpace(line), "from "); found {
			from = nanos(m.b, at)
		}
		if at, found := strings.CutPrefix(strings.TrimSpace(line), "answered at "); found {
			to = nanos(m.b, at)
		}
	}
	require.Positive(m.b, to-from, "%s", out)
	return from, to
}

func nanos(b *testing.B, s string) time.Duration {
	b.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	require.NoError(b, err)
	return time.Duration(n)
}

func (m *benchMachine) copyWithSync() time.Duration {
	m.b.Helper()
	dir := m.b.TempDir()
	began := time.Now()
	for i, data := range m.data {
		f, err := os.Create(filepath.Join(dir, strconv.Itoa(i)))
		require.NoError(m.b, err)
		_, err = f.Write(data)
		require.NoError(m.b, errors.Join(err, f.Sync(), f.Close()))
	}
	d, err := os.Open(dir)
	require.NoError(m.b, errors.Join(err, d.Sync(), d.Close()))
	return time.Since(began)
}

// benchProgram is the program's part. Start has returned, so what the process was started for is this version's to answer.
func benchProgram(up *update.Updater, out io.Writer, args []string) error {
	if args[0] == "bench-apply" {
		d, err := up.Check(noTest)
		if err == nil && d.Update != nil {
			err = up.Stage(noTest, d.Update, nil)
			_, _ = fmt.Fprintln(out, "from", time.Now().UnixNano())
			if err = errors.Join(err, up.Apply(noTest, d.Update)); err == nil {
				os.Args = []string{os.Args[0], "bench-answer"}
				return up.Restart()
			}
		}
		return err
	}
	if args[0] == "bench-start" {
		_, _ = fmt.Fprintln(out, "from", args[1])
	}
	_, _ = fmt.Fprintln(out, "answered at", time.Now().UnixNano())
	return nil
}
