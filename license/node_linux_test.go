package license_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/license"
)

// A place is a file system of its own, in which the machine's id is looked for.
type place struct {
	Root    string
	Files   map[string]string // in the place
	Links   map[string]string
	Mounted map[string]string // path in the place: content of a file that is mounted there
	Tmpfs   map[string]string // the same, of a file machine-id on a file system in memory
	NoProc  bool
}

type found struct {
	Node, Err string
	Looked    []string
}

const (
	placesVariable = "FAIRLEAD_TEST_PLACES"
	hostID         = "0123456789abcdef0123456789abcdef\n"
	otherID        = "fedcba9876543210fedcba9876543210\n"
)

// Real mounts, in a mount namespace of its own, and chroot: what a container has.
func TestMachineIDs(t *testing.T) {
	host, other := license.NodeOf(product, hostID[:32]), license.NodeOf(product, otherID[:32])
	const etc, dbus = "/etc/machine-id", "/var/lib/dbus/machine-id"
	cases := map[string]struct {
		place place
		node  string
		words string // of the error, if there is no node
	}{
		"a machine":      {place{Files: map[string]string{etc: hostID}}, host, ""},
		"no line end":    {place{Files: map[string]string{etc: hostID[:32]}}, host, ""},
		"no proc":        {place{Files: map[string]string{etc: hostID}, NoProc: true}, host, ""},
		"D-Bus only":     {place{Files: map[string]string{dbus: hostID}}, host, ""},
		"both":           {place{Files: map[string]string{etc: hostID, dbus: otherID}}, host, ""},
		"the other one":  {place{Files: map[string]string{etc: "", dbus: otherID}}, other, ""},
		"a link":         {place{Files: map[string]string{"/persist/id": hostID}, Links: map[string]string{etc: "../persist/id"}}, host, ""},
		"none":           {place{}, "", "/etc/machine-id does not exist, and /var/lib/dbus/machine-id does not exist"},
		"empty":          {place{Files: map[string]string{etc: "\n"}}, "", "/etc/machine-id is empty"},
		"uninitialized":  {place{Files: map[string]string{etc: "uninitialized\n"}}, "", `/etc/machine-id is "uninitialized"`},
		"zeros":          {place{Files: map[string]string{etc: "00000000000000000000000000000000\n"}}, "", "one digit only"},
		"short":          {place{Files: map[string]string{etc: "0123456789abcdef\n"}}, "", "32 hexadecimal digits"},
		"two ids":        {place{Files: map[string]string{etc: hostID + otherID}}, "", "32 hexadecimal digits"},
		"capitals":       {place{Files: map[string]string{etc: "0123456789ABCDEF0123456789ABCDEF\n"}}, "", "32 hexadecimal digits"},
		"a loop":         {place{Links: map[string]string{etc: "machine-id"}}, "", etc},
		"a folder":       {place{Files: map[string]string{etc + "/x": ""}}, "", "not a regular file"},
		"Docker":         {place{Files: map[string]string{etc: hostID, "/.dockerenv": ""}}, "", "/etc/machine-id comes with the image"},
		"Docker's D-Bus": {place{Files: map[string]string{dbus: hostID, "/.dockerenv": ""}}, "", "/var/lib/dbus/machine-id comes with the image"},
		"Podman":         {place{Files: map[string]string{etc: hostID, "/run/.containerenv": ""}}, "", "comes with the image"},
		"Kubernetes":     {place{Files: map[string]string{etc: hostID}, Mounted: map[string]string{"/etc/hosts": "127.0.0.1 localhost"}}, "", "comes with the image"},
		"handed in":      {place{Files: map[string]string{"/.dockerenv": ""}, Mounted: map[string]string{"/etc/hosts": "", etc: hostID}}, host, ""},
		"handed in, by a link": {place{Links: map[string]string{dbus: "/etc/machine-id"},
			Files: map[string]string{"/.dockerenv": ""}, Mounted: map[string]string{etc: otherID}}, other, ""},
		"made at the start": {place{Tmpfs: map[string]string{etc: hostID}}, "", "made anew at each start"},
	}
	places := map[string]place{}
	for name, c := range cases {
		c.place.Root = t.TempDir()
		places[name] = c.place
	}
	answers := look(t, places)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := answers[name]
			if c.words == "" {
				require.Equal(t, found{Node: c.node}, got)
				return
			}
			require.Empty(t, got.Node)
			require.Contains(t, got.Err, c.words)
			require.Contains(t, got.Err, "license.NodeOf", "the next step")
			require.Equal(t, []string{etc, dbus}, got.Looked)
		})
	}
}

// look asks a process that goes through the places.
func look(t *testing.T, places map[string]place) (answers map[string]found) {
	t.Helper()
	data, err := json.Marshal(places)
	require.NoError(t, err)
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestInPlaces$")
	cmd.Env = append(os.Environ(), placesVariable+"="+string(data))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	err = cmd.Run()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) {
		t.Skip("this user may not make a mount namespace")
	}
	require.NoError(t, err, "%s%s", &out, &complaints)
	require.NoError(t, json.NewDecoder(&out).Decode(&answers))
	return answers
}

// TestInPlaces is the process that goes through the places.
func TestInPlaces(t *testing.T) {
	text := os.Getenv(placesVariable)
	if text == "" {
		t.Skip("is run by TestMachineIDs")
	}
	var places map[string]place
	require.NoError(t, json.Unmarshal([]byte(text), &places))
	require.NoError(t, syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""))
	home, err := os.Open("/")
	require.NoError(t, err)
	defer func() { _ = home.Close() }()
	answers := map[string]found{}
	for name, p := range places {
		p.furnish(t)
		require.NoError(t, syscall.Chroot(p.Root))
		require.NoError(t, os.Chdir("/"))
		node, err := license.MachineNode(product)
		answer := found{Node: node}
		if err != nil {
			var none *license.NodeError
			require.ErrorAs(t, err, &none)
			answer.Err, answer.Looked = err.Error(), none.Looked
		}
		answers[name] = answer
		require.NoError(t, home.Chdir())
		require.NoError(t, syscall.Chroot("."))
	}
	require.NoError(t, json.NewEncoder(os.Stdout).Encode(answers))
}

func (p place) furnish(t *testing.T) {
	t.Helper()
	write := func(path, content string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
	}
	bind := func(from, to string) {
		require.NoError(t, syscall.Mount(from, to, "", syscall.MS_BIND|syscall.MS_REC, ""), "%s to %s", from, to)
	}
	for _, dir := range []string{"etc", "proc", "run", "outside", "var/lib/dbus"} {
		require.NoError(t, os.MkdirAll(filepath.Join(p.Root, dir), 0o755))
	}
	bind(p.Root, p.Root) // a mount of its own, as a container's is
	for path, content := range p.Files {
		write(filepath.Join(p.Root, path), content)
	}
	for path, target := range p.Links {
		require.NoError(t, os.Symlink(target, filepath.Join(p.Root, path)))
	}
	for path, content := range p.Mounted {
		write(filepath.Join(p.Root, path), "")
		write(filepath.Join(p.Root, "outside", filepath.Base(path)), content)
		bind(filepath.Join(p.Root, "outside", filepath.Base(path)), filepath.Join(p.Root, path))
	}
	for path, content := range p.Tmpfs {
		require.NoError(t, syscall.Mount("tmpfs", filepath.Join(p.Root, "run"), "tmpfs", 0, ""))
		write(filepath.Join(p.Root, path), "")
		write(filepath.Join(p.Root, "run/machine-id"), content)
		bind(filepath.Join(p.Root, "run/machine-id"), filepath.Join(p.Root, path))
	}
	if !p.NoProc {
		bind("/proc", filepath.Join(p.Root, "proc"))
	}
}
