package license

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Where an id may be. Systemd takes the second over into the first when it starts for the first time, so both say the same.
var machineIDFiles = [...]string{"/etc/machine-id", "/var/lib/dbus/machine-id"}

func machineID() (string, error) {
	mounted := readMounts("/proc/self/mountinfo")
	id, err := machineIDOf(machineIDFiles[0], mounted)
	if err == nil {
		return id, nil
	}
	id, other := machineIDOf(machineIDFiles[1], mounted)
	if other == nil {
		return id, nil
	}
	return "", &NodeError{Looked: machineIDFiles[:], Err: fmt.Errorf("%w, and %w", err, other)}
}

func machineIDOf(path string, mounted mounts) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s does not exist", path)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	data, err := readFile(real)
	if err != nil {
		return "", err
	}
	id := strings.TrimSpace(string(data))
	if err := checkHexID(id); err != nil {
		return "", fmt.Errorf("%s %w", path, err)
	}
	m, own := mounted[real]
	switch {
	case own && m.fstype == "tmpfs" && m.root == "/machine-id": // of systemd, where it cannot write to /etc
		return "", fmt.Errorf("%s is made anew at each start of the system", path)
	case !own && inContainer(mounted):
		return "", fmt.Errorf("%s comes with the image of this container, so that others have it as well", path)
	}
	return id, nil
}

// inContainer reports whether the root file system is that of an image which many have: Docker and Podman say so by a
// file, and they as well as Kubernetes mount /etc/hosts, which nobody else does.
func inContainer(mounted mounts) bool {
	for _, mark := range []string{"/.dockerenv", "/run/.containerenv"} {
		if _, err := os.Lstat(mark); err == nil {
			return true
		}
	}
	_, own := mounted["/etc/hosts"]
	return own
}

// mounts are the mount points of this process.
type mounts map[string]mount

type mount struct {
	root   string // what of the file system is mounted
	fstype string
}

// readMounts reads mountinfo, see proc(5). What cannot be read is left out: a system without proc has no containers.
func readMounts(path string) mounts {
	found := mounts{}
	f, err := os.Open(path)
	if err != nil {
		return found
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(io.LimitReader(f, 16<<20)); lines.Scan(); {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if ok && len(fields) >= 5 && len(kind) > 0 {
			found[fields[4]] = mount{root: fields[3], fstype: kind[0]}
		}
	}
	return found
}
