package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	checkEvery = 200 * time.Millisecond
	patience   = 60 * time.Second
)

// story holds the stage: a temporary folder with the vendor's things and the customer's machine.
type story struct {
	ctx  context.Context
	on   target
	out  io.Writer
	dir  string
	url  string // of the repository
	page string // of the notes server

	server  *exec.Cmd
	service context.CancelFunc
	stopped chan struct{}
	starts  atomic.Int64 // how often the service manager has started notes
	log     logBuffer    // what notes has logged
}

// target is the system that the programs are built for and run on. The story's own, but for a test under wine.
type target struct {
	goos, goarch string
	runner       string            // what runs a program of that system here; "": the system does
	overlay      map[string]string // of go build
}

func thisSystem() target { return target{goos: runtime.GOOS, goarch: runtime.GOARCH} }

func (t target) exe(name string) string {
	if t.goos == "windows" {
		return name + ".exe"
	}
	return name
}

func (t target) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	if t.runner != "" {
		return exec.CommandContext(ctx, t.runner, append([]string{program}, args...)...)
	}
	return exec.CommandContext(ctx, program, args...)
}

// status is what the notes server says of itself.
type status struct {
	Version, Outcome, Reason, Best, Text string
	PID                                  int
}

func (s *story) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

func (s *story) say(format string, a ...any)   { _, _ = fmt.Fprintf(s.out, format+"\n", a...) }
func (s *story) title(format string, a ...any) { s.say("\n"+format, a...) }

// build builds a package of this module.
func (s *story) build(pkg, to string, flags ...string) error {
	overlay, err := s.overlay()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(s.ctx, "go", append(append([]string{"build", "-trimpath", "-overlay", overlay, "-o", s.on.exe(to)}, flags...), pkg)...)
	cmd.Dir = moduleDir()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+s.on.goos, "GOARCH="+s.on.goarch)
	return s.quietly(cmd)
}

// moduleDir finds the source: this file's, two folders up; or the current folder when built with -trimpath.
func moduleDir() string {
	_, file, _, _ := runtime.Caller(0)
	if !filepath.IsAbs(file) {
		return "."
	}
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// quietly runs a command; what it printed is shown only if it fails.
func (s *story) quietly(cmd *exec.Cmd) error {
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, output)
	}
	return nil
}

func (s *story) publishCommand(args ...string) *exec.Cmd {
	s.say("  $ publish %s", strings.ReplaceAll(strings.Join(args, " "), s.dir+string(filepath.Separator), ""))
	cmd := s.on.command(s.ctx, s.on.exe(s.path("publish")), append(args, "--repo", s.path("updates"), "--keys", s.path("keys"))...)
	cmd.Env = append(os.Environ(), "PUBLISH_PASSPHRASE=quickstart")
	return cmd
}

func (s *story) publish(args ...string) error { return s.quietly(s.publishCommand(args...)) }

func (s *story) publishOutput(args ...string) ([]byte, error) {
	cmd := s.publishCommand(args...)
	output, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cmd, err)
	}
	return output, nil
}

// serve starts `publish serve`; its address is part of every build of notes.
func (s *story) serve() error {
	s.server = s.publishCommand("serve", "--addr", "127.0.0.1:0")
	out, err := s.server.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.server.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		return errors.New("publish serve said nothing")
	}
	s.url = strings.TrimSpace(lines.Text())
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return nil
}

// overlay puts the repository's root and the licence keys where a vendor would commit them: beside the source of notes.
func (s *story) overlay() (string, error) {
	source := filepath.Join(moduleDir(), "examples", "quickstart", "notes")
	if abs, err := filepath.Abs(source); err == nil {
		source = abs
	}
	replace := map[string]string{
		filepath.Join(source, "root.json"):    s.path("updates", "metadata", "1.root.json"),
		filepath.Join(source, "keyring.json"): s.path("keyring.json"),
	}
	maps.Copy(replace, s.on.overlay)
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	if err != nil {
		return "", err
	}
	return s.path("overlay.json"), os.WriteFile(s.path("overlay.json"), overlay, 0o600)
}

// buildNotes builds the notes server as a vendor would: with the repository's root and the licence keys embedded, and
// version and address set by the linker.
func (s *story) buildNotes(version string, flags ...string) (string, error) {
	to := s.path("dist", version, "notes")
	s.say("  $ go build -ldflags '-X main.version=%s' ./notes %s", version, strings.Join(flags, " "))
	flags = append(flags, "-ldflags", "-s -w -X main.version="+version+" -X main.updates="+s.url)
	return s.on.exe(to), s.build("./examples/quickstart/notes", to, flags...)
}

// release builds a version and publishes it.
func (s *story) release(version string, flags ...string) error {
	program, err := s.buildNotes(version, flags...)
	if err != nil {
		return err
	}
	return s.publishRelease(version, program)
}

func (s *story) publishRelease(version, program string, flags ...string) error {
	return s.publish(append([]string{"release", "--version", version, "--artifact", s.on.goos + "/" + s.on.goarch + "=" + program, "--patches-from", "1"}, flags...)...)
}

// releaseTampered publishes a version, of which one byte is changed in the repository, as somebody would who has the
// server but not the keys: in the program, and in every patch. It is on hold until then.
func (s *story) releaseTampered(version string) (artifact string, err error) {
	program, err := s.buildNotes(version)
	if err != nil {
		return "", err
	}
	if err := s.publishRelease(version, program, "--hold", "until Monday"); err != nil {
		return "", err
	}
	data, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	s.say("  (one byte of every artifact and every patch is changed on the server)")
	err = filepath.WalkDir(s.path("updates", "blobs"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return changeByte(path)
	})
	if err != nil {
		return "", err
	}
	return hash(data), s.publish("offer", version)
}

func changeByte(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	data[len(data)/2] ^= 1
	return os.WriteFile(path, data, 0o644)
}

// forgeTimestamp changes what a client reads first: its version number is raised, so that the forgery looks new.
func (s *story) forgeTimestamp() error {
	path := s.path("updates", "metadata", "timestamp.json")
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	forged := bytes.ReplaceAll(data, []byte(`"version":`), []byte(`"version":1`))
	if bytes.Equal(forged, data) {
		return errors.New("the timestamp was not changed")
	}
	s.say("  (the timestamp is forged to look newer)")
	return os.WriteFile(path, forged, 0o644)
}

// install puts a version on the customer's machine and starts it as a service.
func (s *story) install(version string) error {
	if err := os.MkdirAll(s.path("customer"), 0o755); err != nil {
		return err
	}
	data, err := os.ReadFile(s.on.exe(s.path("dist", version, "notes")))
	if err != nil {
		return err
	}
	program := s.on.exe(s.path("customer", "notes"))
	if err := os.WriteFile(program, data, 0o755); err != nil {
		return err
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	addr := free.Addr().String()
	if err := free.Close(); err != nil {
		return err
	}
	s.page = "http://" + addr
	ctx, cancel := context.WithCancel(s.ctx)
	s.service, s.stopped = cancel, make(chan struct{})
	go s.manage(ctx, program, addr)
	return nil
}

// manage is the service manager: it starts notes again whenever it ends, as systemd does with Restart=always.
//
// On Windows notes restarts as another process, a child of the one that ends. Like a job object, the manager takes the
// service to have ended when the last of them has: when nobody holds the pipe of its log any more.
func (s *story) manage(ctx context.Context, program, addr string) {
	defer close(s.stopped)
	for ctx.Err() == nil {
		cmd := s.on.command(ctx, program, "-addr", addr, "-every", checkEvery.String(), "-healthy", "1s")
		cmd.Dir = s.path("customer")
		cmd.Stdout, cmd.Stderr = &s.log, &s.log
		if s.on.goos != "windows" {
			cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
			cmd.WaitDelay = 5 * time.Second
		}
		s.starts.Add(1)
		_ = cmd.Run()
		_ = sleep(ctx, 100*time.Millisecond)
	}
}

// stop ends the service.
func (s *story) stop() error {
	s.service()
	for tries := 0; ; tries++ {
		select {
		case <-s.stopped:
			return nil
		case <-time.After(200 * time.Millisecond):
		}
		switch {
		case s.on.goos != "windows":
		case tries > 100:
			return errors.New("notes cannot be stopped")
		default:
			s.kill()
		}
	}
}

// kill ends the notes server that answers. The context of the story may have ended.
func (s *story) kill() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), patience)
	defer cancel()
	if st, err := s.askWith(ctx); err == nil {
		_ = s.on.command(ctx, "taskkill", "/F", "/PID", strconv.Itoa(st.PID)).Run()
	}
}

// close stops what the story has started.
func (s *story) close() (err error) {
	if s.service != nil {
		err = s.stop()
	}
	if s.server == nil || s.server.Process == nil {
		return err
	}
	_ = s.server.Process.Kill()
	_ = s.server.Wait()
	return err
}

// expect waits until notes says what it should.
func (s *story) expect(what string, is func(status) bool) error {
	deadline := time.Now().Add(patience)
	for {
		st, err := s.ask()
		if err == nil && is(st) {
			s.say("  ✓ %s", what)
			if st.Text != "" {
				s.say("    (notes %s says: %s)", st.Version, strings.ReplaceAll(st.Text, s.dir, ""))
			}
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("expected: %s\nnotes says: %+v, %w\nits log ends:\n%s", what, st, err, s.log.tail())
		}
		if err := s.sleep(50 * time.Millisecond); err != nil {
			return err
		}
	}
}

// expectLog waits until one line of notes' log has all parts.
func (s *story) expectLog(what string, parts ...string) error {
	deadline := time.Now().Add(patience)
	for !s.log.has(parts...) {
		if time.Now().After(deadline) {
			return fmt.Errorf("expected: %s\nits log ends:\n%s", what, s.log.tail())
		}
		if err := s.sleep(50 * time.Millisecond); err != nil {
			return err
		}
	}
	s.say("  ✓ %s", what)
	return nil
}

func (s *story) ask() (status, error) { return s.askWith(s.ctx) }

func (s *story) askWith(ctx context.Context) (st status, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.page+"/status", nil)
	if err != nil {
		return st, err
	}
	resp, err := (&http.Client{Timeout: 2 * time.Second}).Do(req)
	if err != nil {
		return st, err
	}
	defer func() { _ = resp.Body.Close() }()
	return st, json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(&st)
}

func (s *story) sleep(d time.Duration) error { return sleep(s.ctx, d) }

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
