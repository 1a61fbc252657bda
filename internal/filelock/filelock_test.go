package filelock_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/internal/filelock"
)

const lockVariable = "FAIRLEAD_TEST_LOCK"

// holder starts another process that takes the lock and keeps it until it is killed.
func holder(t *testing.T, path string) (kill func()) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), lockVariable+"="+path)
	stdin, err := cmd.StdinPipe() // open as long as this process lives
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	said, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "held\n", said)
	return func() {
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
		_ = stdin.Close()
	}
}

func TestMain(m *testing.M) {
	path := os.Getenv(lockVariable)
	if path == "" {
		os.Exit(m.Run())
	}
	release, err := filelock.TryLock(path)
	if err != nil {
		_, _ = os.Stdout.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	_, _ = os.Stdout.WriteString("held\n")
	_, _ = os.Stdin.Read(make([]byte, 1))
	release()
}

func TestHolderIsKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	kill := holder(t, path)
	_, err := filelock.TryLock(path)
	require.ErrorIs(t, err, filelock.ErrHeld)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = filelock.Lock(ctx, path)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	kill()
	// Windows releases the locks of a dead process when it gets round to it: "the time depends upon available system
	// resources" (LockFileEx).
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	release, err := filelock.Lock(ctx, path)
	require.NoError(t, err)
	defer release()
	require.FileExists(t, path, "the file stays")
}

func TestSameProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	release, err := filelock.TryLock(path)
	require.NoError(t, err)
	_, err = filelock.TryLock(path)
	require.ErrorIs(t, err, filelock.ErrHeld)
	release()
	release, err = filelock.TryLock(path)
	require.NoError(t, err)
	release()
}
