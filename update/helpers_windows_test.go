package update_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/fairlead-dev/fairlead/internal/disk"
)

var serveSignals = []os.Signal{os.Interrupt}

func killSelf() { os.Exit(137) }

// askToEnd ends a pretended daemon, and with it, as they are in one job, the program that it supervises.
func askToEnd(p *os.Process) error { return p.Kill() }

func mkfifo(string) error { return errors.ErrUnsupported }

// The benchmarks are for Unix.
const benchVariable = "FAIRLEAD_BENCH_JOB"

func benchMain(string) int { return 1 }

const gapVariable = "FAIRLEAD_TEST_GAP"

// systemDisk is the disk of a pretended program: on request one on which it dies, once, in the gap of Executable.
func systemDisk(dir string) disk.FS {
	if os.Getenv(gapVariable) == "" {
		return disk.OS
	}
	return gap{disk.OS, func() {
		if f, err := os.OpenFile(filepath.Join(dir, "gap"), os.O_CREATE|os.O_EXCL, 0o600); err == nil {
			_ = f.Close()
			os.Exit(9)
		}
	}}
}

// gap is a disk that calls die before a staged program is put in place: with Executable on Windows nothing is there then.
type gap struct {
	disk.FS
	die func()
}

func (g gap) Rename(from, to string) error {
	if strings.Contains(filepath.ToSlash(from), "/staging/new-") && filepath.Base(to) == "notes.exe" {
		g.die()
	}
	return g.FS.Rename(from, to)
}
