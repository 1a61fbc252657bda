package installertest_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-dev/fairlead/update"
	"github.com/fairlead-dev/fairlead/update/installertest"
)

var program = map[bool]string{false: "bin/app", true: "bin/app.exe"}[runtime.GOOS == "windows"]

func write(dir string, files map[string][]byte) error {
	var errs []error
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		errs = append(errs, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o755))
	}
	return errors.Join(errs...)
}

func read(dir string) (map[string][]byte, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	return files, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		files[filepath.ToSlash(rel)], err = os.ReadFile(path)
		return err
	})
}

var executable = installertest.Layout{
	Installer: func(dir string) update.Installer { return update.Executable{Path: filepath.Join(dir, "app")} },
	Install: func(dir string, files map[string][]byte) error {
		return os.WriteFile(filepath.Join(dir, "app"), files[program], 0o755)
	},
	Read: func(dir string) (map[string][]byte, error) {
		content, err := os.ReadFile(filepath.Join(dir, "app"))
		return map[string][]byte{program: content}, err
	},
}

func TestExecutable(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is a moment between two renames, see update.Executable")
	}
	installertest.Run(t, executable)
}

func TestVersions(t *testing.T) {
	installertest.Run(t, installertest.Layout{
		Installer: func(dir string) update.Installer { return update.Versions{Root: dir, Program: program} },
		Install: func(dir string, files map[string][]byte) error {
			pointer := filepath.Join(dir, "current")
			if runtime.GOOS == "windows" {
				return errors.Join(write(filepath.Join(dir, "versions", "first"), files), os.WriteFile(pointer, []byte("first\n"), 0o644))
			}
			return errors.Join(write(filepath.Join(dir, "versions", "first"), files), os.Symlink("versions/first", pointer))
		},
		Read: func(dir string) (map[string][]byte, error) {
			pointer := filepath.Join(dir, "current")
			if runtime.GOOS != "windows" {
				return read(pointer)
			}
			name, err := os.ReadFile(pointer)
			if err != nil {
				return nil, err
			}
			return read(filepath.Join(dir, "versions", strings.TrimSpace(string(name))))
		},
	})
}

// careless is an installer as they are often written: it removes the old program, then writes the new one, and believes
// what is staged.
type careless struct{ update.Executable }

func (c careless) Exchange(next, _, prev string) error {
	content, err := os.ReadFile(next)
	if err != nil {
		return err
	}
	err = os.Rename(c.Path, prev)
	time.Sleep(time.Millisecond) // a busy machine
	return errors.Join(err, os.WriteFile(c.Path, content, 0o755))
}

const carelessVariable = "FAIRLEAD_TEST_CARELESS"

func TestCareless(t *testing.T) {
	if os.Getenv(carelessVariable) == "" {
		t.Skip("run by TestFindsFaults")
	}
	l := executable
	l.Installer = func(dir string) update.Installer { return careless{update.Executable{Path: filepath.Join(dir, "app")}} }
	l.Kills = 300
	installertest.Run(t, l)
}

// The test is one that can fail.
func TestFindsFaults(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestCareless$", "-test.v")
	cmd.Env = append(os.Environ(), carelessVariable+"=1")
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatal("it finds nothing wrong with a careless installer")
	}
	for _, fault := range []string{"TestCareless/Exchange_refuses", "TestCareless/Exchange_into_nothing", "TestCareless/killed"} {
		if !strings.Contains(string(out), "--- FAIL: "+fault) {
			t.Errorf("it does not find the fault that %s looks for:\n%s", fault, out)
		}
	}
}
