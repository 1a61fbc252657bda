package update_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

// On Windows a copy of the program outside the folder of versions supervises the one that the pointer names. The program
// updates itself, asks to be started again, and is the new version; a bad one is left.
func TestSuperviseOnWindows(t *testing.T) {
	v := newVendor(t)
	release := func(b behaviour) {
		b.Layout = "versions"
		v.now = v.now.Add(time.Second)
		v.release(b.Version, tarGzOf(t, packed{programPath, v.build(b)}, packed{"share/help.txt", []byte("help of " + b.Version)}), func(n *tufrepo.NewRelease) {
			n.Artifacts[0].Format, n.Artifacts[0].Executable = channel.TarGz, programPath
		})
	}
	release(behaviour{Version: "1.1.0"})
	root := filepath.Join(t.TempDir(), "notes")
	first := v.build(behaviour{Version: "1.0.0", Layout: "versions"})
	program := filepath.Join(root, "versions", "first", programPath)
	require.NoError(t, os.MkdirAll(filepath.Dir(program), 0o755))
	require.NoError(t, os.WriteFile(program, first, 0o755))
	require.NoError(t, pointTo(root, "first"))
	// The copy lies as deep as the program, so that it finds the same installation.
	launcher := filepath.Join(root, "launch", "er", programPath)
	require.NoError(t, os.MkdirAll(filepath.Dir(launcher), 0o755))
	require.NoError(t, os.WriteFile(launcher, first, 0o755))

	ctx, stop := context.WithCancel(t.Context())
	var mu sync.Mutex
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, launcher, "serve-updating")
	w := writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return out.Write(p)
	})
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = w, w, 2*time.Second
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		stop() // its child is in a job that ends with it
		_ = cmd.Wait()
		t.Log(out.String()[max(0, out.Len()-3000):])
	})
	expect := func(text string, n int) {
		t.Helper()
		require.Eventually(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return strings.Count(out.String(), text) >= n
		}, time.Minute, 20*time.Millisecond, "%q %d times", text, n)
	}
	expect("running 1.0.0", 1)
	expect("running 1.1.0", 1)
	expect("msg=confirmed", 1)
	release(behaviour{Version: "1.2.0", Crash: "late"})
	expect("running 1.2.0", 3)
	expect("msg=\"rolled back\"", 1)
	expect("running 1.1.0", 2)
	expect("quarantined", 1)
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
