package cli

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// terminal opens a pseudo-terminal: keyboard is where its user types.
func terminal(t *testing.T) (keyboard, tty *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no pseudo-terminals here: ", err)
	}
	t.Cleanup(func() { _ = keyboard.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = tty.Close() })
	return keyboard, tty
}

func echoes(t *testing.T, tty *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	require.NoError(t, err)
	return state.Lflag&unix.ECHO != 0
}

// A hasty user answers the very moment that a question appears.
type hasty struct {
	bytes.Buffer
	t             *testing.T
	keyboard, tty *os.File
	asked         int
}

func (h *hasty) Write(p []byte) (int, error) {
	if strings.HasSuffix(string(p), ": ") {
		h.asked++
		require.False(h.t, echoes(h.t, h.tty), "what is typed at %q would be seen", p)
		_, err := h.keyboard.WriteString("correct horse\n")
		require.NoError(h.t, err)
	}
	return h.Buffer.Write(p)
}

func TestTypedPassphraseIsNotShown(t *testing.T) {
	keyboard, tty := terminal(t)
	require.True(t, echoes(t, tty))
	user := &hasty{t: t, keyboard: keyboard, tty: tty}
	a := &app{sys: System{Stdin: tty, Stderr: user}, out: newOutput(user, user)}
	secret, err := a.newPassphrase(t.Context())
	require.NoError(t, err)
	require.Equal(t, "correct horse", string(secret))
	require.Equal(t, 2, user.asked)
	require.True(t, echoes(t, tty), "the terminal is as it was")
}
