package update

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// The probe runs a staged build once before anything is touched. The build's own Start answers on standard output
// and tells its main to return: that shows that it runs on this machine at all (architecture, libraries, signature),
// and that it is the version it was published as.

// probeVariable carries the nonce that the answer must repeat.
const probeVariable = "FAIRLEAD_PROBE"

const maxProbeOutput = 64 << 10

type probeAnswer struct {
	Nonce   string `json:"fairlead_probe"`
	Product string `json:"product"`
	Version string `json:"version"`
}

// A ProbeError says that a staged build was not installed because it did not pass its probe.
type ProbeError struct {
	Version string
	Err     error
	Output  string // some of what it printed, for the log
}

func (e *ProbeError) Error() string {
	return fmt.Sprintf("update: version %s failed its probe and is not installed: %v", e.Version, e.Err)
}
func (e *ProbeError) Unwrap() error { return e.Err }

// answerProbe is Start's half.
func (u *Updater) answerProbe(nonce string) error {
	line, err := json.Marshal(probeAnswer{Nonce: nonce, Product: u.cfg.Product, Version: u.cfg.Version})
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(append(append([]byte("\n"), line...), '\n'))
	return err
}

func (u *Updater) probe(ctx context.Context, program, want string) error {
	var raw [16]byte
	_, _ = rand.Read(raw[:])
	nonce := hex.EncodeToString(raw[:])
	output, err := u.runProbe(ctx, program, nonce)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	answer, found := findAnswer(output, nonce)
	switch {
	case found && answer.Product != u.cfg.Product:
		err = fmt.Errorf("it says that it is product %q, not %q", answer.Product, u.cfg.Product)
	case found && answer.Version != want:
		err = fmt.Errorf("it says that it is version %q: it was built with another version than it was published as", answer.Version)
	case found:
		return nil // how it ends after the answer does not matter
	case err == nil:
		err = errors.New("it ended without an answer: does its main call Updater.Start first, and return when told to?")
	}
	return &ProbeError{Version: want, Err: err, Output: string(output[max(0, len(output)-2048):])}
}

func findAnswer(output []byte, nonce string) (a probeAnswer, found bool) {
	for line := range bytes.Lines(output) {
		if json.Unmarshal(line, &a) == nil && a.Nonce == nonce {
			return a, true
		}
	}
	return probeAnswer{}, false
}

func (u *Updater) runProbe(ctx context.Context, program, nonce string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, u.cfg.Trial.Probe)
	defer cancel()
	for attempt := 0; ; attempt++ {
		cmd := exec.CommandContext(ctx, program)
		cmd.Dir = filepath.Dir(program)
		cmd.Env = environ(probeVariable, nonce)
		cmd.WaitDelay = time.Second // a grandchild may hold the pipe
		out := &capped{max: maxProbeOutput}
		cmd.Stdout, cmd.Stderr = out, out
		err := cmd.Run()
		// Another goroutine that forks at this moment may hold our just written file open: golang.org/issue/22315.
		if errors.Is(err, syscall.ETXTBSY) && attempt < 20 {
			time.Sleep(25 * time.Millisecond)
			continue
		}
		if ctx.Err() == context.DeadlineExceeded {
			err = fmt.Errorf("it gave no answer within %s", u.cfg.Trial.Probe)
		}
		return out.buf.Bytes(), err
	}
}

// capped keeps the beginning of what is written.
type capped struct {
	buf bytes.Buffer
	max int
}

func (c *capped) Write(p []byte) (int, error) {
	c.buf.Write(p[:min(len(p), c.max-c.buf.Len())])
	return len(p), nil
}

var _ io.Writer = (*capped)(nil)
