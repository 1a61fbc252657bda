package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A stage has a vendor with its command and its repository, and a customer with the program.
type stage struct {
	t                       *testing.T
	dir, publish, program   string
	keys, repository, state string
}

// tools is where the vendor's command is, once it is built.
var tools string

func TestMain(m *testing.M) {
	code := m.Run()
	if tools != "" {
		_ = os.RemoveAll(tools)
	}
	os.Exit(code)
}

func publish(t *testing.T) string {
	var err error
	if tools == "" {
		tools, err = os.MkdirTemp("", "licensed-")
		require.NoError(t, err)
		out, err := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(tools, "publish.exe"), "../../cmd/publish").CombinedOutput()
		require.NoError(t, err, string(out))
	}
	return filepath.Join(tools, "publish.exe") // a name that every system runs
}

func newStage(t *testing.T) *stage {
	if testing.Short() {
		t.Skip("builds two programs")
	}
	dir := t.TempDir()
	s := &stage{t: t, dir: dir, publish: publish(t), program: filepath.Join(dir, "licensed"),
		keys: filepath.Join(dir, "keys"), repository: filepath.Join(dir, "updates"), state: filepath.Join(dir, "state")}
	if runtime.GOOS == "windows" {
		s.program += ".exe"
	}
	s.vendor("init", "--product", "licensed", "--license", "--insecure-no-passphrase")
	s.vendor("license", "keys", "new", "acme-2026", "--insecure-no-passphrase")
	web := httptest.NewServer(http.FileServer(http.Dir(s.repository)))
	t.Cleanup(web.Close)
	s.build(web.URL)
	return s
}

// build builds the program as the vendor would, with the vendor's own root and key ring.
func (s *stage) build(updates string) {
	here, err := os.Getwd()
	require.NoError(s.t, err)
	ring := filepath.Join(s.dir, "keyring.json")
	require.NoError(s.t, os.WriteFile(ring, s.vendor("license", "keys", "show", "acme-2026"), 0o600))
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {
		filepath.Join(here, "keyring.json"): ring,
		filepath.Join(here, "root.json"):    filepath.Join(s.repository, "metadata", "1.root.json"),
	}})
	require.NoError(s.t, err)
	file := filepath.Join(s.dir, "overlay.json")
	require.NoError(s.t, os.WriteFile(file, overlay, 0o600))
	s.run("go", "build", "-overlay", file, "-ldflags", "-X main.version=1.0.0 -X main.updates="+updates+"/", "-o", s.program, ".")
}

func (s *stage) run(name string, args ...string) []byte {
	s.t.Helper()
	out, err := s.try(name, args...)
	require.NoError(s.t, err, "%s: %s", args, out)
	return out
}

// try runs a command, and returns what it wrote to standard output, or if it failed, to standard error.
func (s *stage) try(name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(s.t.Context(), name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stderr.Bytes(), err
	}
	return stdout.Bytes(), nil
}

func (s *stage) vendor(args ...string) []byte {
	s.t.Helper()
	return s.run(s.publish, append([]string{"--repo", s.repository, "--keys", s.keys}, args...)...)
}

func (s *stage) issue(args ...string) string {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "out.license")
	s.vendor(append([]string{"license", "issue", "--key", filepath.Join(s.keys, "acme-2026.pem"), "--issuer", issuer, "--product", product,
		"--subject", "customer-17", "--out", file}, args...)...)
	return file
}

// licensed runs the program on the machine plant-7.
func (s *stage) licensed(args ...string) string {
	s.t.Helper()
	return string(s.run(s.program, append([]string{"-dir", s.state, "-machine", "plant-7"}, args...)...))
}

func (s *stage) refuses(args ...string) string {
	s.t.Helper()
	out, err := s.try(s.program, append([]string{"-dir", s.state, "-machine", "plant-7"}, args...)...)
	require.Error(s.t, err)
	return string(out)
}

func in(days int) string { return time.Now().UTC().AddDate(0, 0, days).Format(time.DateOnly) }

// A year in the life of a customer.
func TestEditions(t *testing.T) {
	s := newStage(t)

	require.Contains(t, s.licensed("status"), "Community edition\nlicence: missing\n", "without a licence it works")
	require.Equal(t, 3, strings.Count(s.licensed("report"), "],")+1, "and says less")
	require.Contains(t, s.refuses("report", "-format", "csv"), `has no format "csv"`)

	// The machine has no network. A file goes out by mail, and one comes back.
	request := filepath.Join(s.dir, "request.txt")
	require.NoError(t, os.WriteFile(request, []byte(s.licensed("request")), 0o600))
	first := s.issue("--id", "L-1", "--until", in(45), "--grace", "10d", "--for", request, "--max-nodes", "1",
		"--entitlement", "csv", "--entitlement", "rows=4", "--entitlement", "edition=Pro")
	require.Contains(t, s.licensed("install", first), "Pro edition\nlicence: valid until "+in(45))
	require.Len(t, strings.Split(strings.TrimSpace(s.licensed("report", "-format", "csv")), "\n"), 4)

	other, err := s.try(s.program, "-dir", filepath.Join(s.dir, "other"), "-machine", "plant-8", "install", first)
	require.Error(t, err)
	require.Contains(t, string(other), "for other installations", "a licence that is passed on shows")

	// Time passes.
	for _, day := range []struct {
		in     int
		banner string
		works  bool
	}{
		{10, "", true},
		{16, "ends on", true},
		{31, "ends on", true},
		{39, "Renew it this week", true},
		{45, "ends today", true},
		{46, "Your licence has ended. Everything works until", true},
		{55, "Your licence has ended. Everything works until", true},
		{56, "The free edition goes on working", false},
	} {
		status := s.licensed("-now", in(day.in), "status")
		if day.banner == "" {
			require.NotContains(t, status, "our licence")
		}
		require.Contains(t, status, day.banner, "in %d days: %s", day.in, status)
		require.Equal(t, day.works, strings.Contains(status, "Pro edition"), "in %d days: %s", day.in, status)
	}
	require.Contains(t, s.licensed("status"), "Pro edition", "to look ahead has changed nothing")
	require.Contains(t, s.licensed("status"), "note: which licences the issuer took back is not known yet")
	require.Contains(t, s.licensed("remove"), "Community edition\nlicence: missing\n")
	require.Contains(t, s.licensed("install", first), "Pro edition", "what was removed may come back")
}

// Nothing has to be restarted for a licence: not to get one, not to renew it, not to lose it.
func TestLicenceOfARunningProgram(t *testing.T) {
	s := newStage(t)
	url, lines := s.serve()
	require.Contains(t, s.page(url), "Community edition")

	first := s.issue("--id", "L-1", "--until", in(20), "--entitlement", "edition=Pro")
	s.post(url, first, http.StatusOK)
	require.Contains(t, s.page(url), "Pro edition")
	require.Contains(t, s.page(url), "Your licence ends on")
	lines.expect("licence: expiring soon until " + in(20))

	renewed := filepath.Join(s.dir, "renewed.license")
	s.vendor("license", "renew", first, "--key", filepath.Join(s.keys, "acme-2026.pem"), "--until", in(385), "--out", renewed)
	// This time as an administrator would: the file goes into the folder.
	folder := filepath.Join(s.state, "licenses")
	require.NoError(t, os.MkdirAll(folder, 0o700))
	data, err := os.ReadFile(renewed)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "renewed.license"), data, 0o600))
	require.Contains(t, s.page(url), "valid until "+in(385))
	require.NotContains(t, s.page(url), "Your licence")
	s.post(url, first, http.StatusUnprocessableEntity) // the old one does not come back
	require.Contains(t, s.page(url), "valid until "+in(385))

	// A new issuer key reaches the program through the repository, and so does the end of the licence.
	s.vendor("license", "keys", "rotate", "acme-2027", "--old", "acme-2026", "--retire-at", in(1), "--insecure-no-passphrase")
	s.vendor("license", "revoke", "--license", "L-1", "--reason", "the order was cancelled")
	lines.expect("licence: revoked")
	require.Contains(t, s.page(url), "Community edition")
	require.Contains(t, s.page(url), "took this licence back")

	file := filepath.Join(s.dir, "second.license")
	s.vendor("license", "issue", "--key", filepath.Join(s.keys, "acme-2027.pem"), "--issuer", issuer, "--product", product, "--subject", "customer-17",
		"--id", "L-2", "--until", in(365), "--entitlement", "edition=Pro", "--out", file)
	s.post(url, file, http.StatusOK)
	require.Contains(t, s.page(url), "Pro edition")
}

// A log has what a program writes.
type log struct {
	t     *testing.T
	lines chan string
}

func (l *log) expect(text string) {
	l.t.Helper()
	patience := time.After(time.Minute)
	for {
		select {
		case line := <-l.lines:
			if strings.Contains(line, text) {
				return
			}
		case <-patience:
			require.Fail(l.t, "the program did not say: "+text)
		}
	}
}

// serve starts the program, which looks for news twice a second.
func (s *stage) serve() (url string, out *log) {
	ctx, stop := context.WithCancel(s.t.Context())
	cmd := exec.CommandContext(ctx, s.program, "-dir", s.state, "-machine", "plant-7", "serve", "-every", "500ms")
	pipe, err := cmd.StdoutPipe()
	require.NoError(s.t, err)
	require.NoError(s.t, cmd.Start())
	s.t.Cleanup(func() {
		stop()
		_ = cmd.Wait()
	})
	out = &log{s.t, make(chan string, 100)}
	go func() {
		for lines := bufio.NewScanner(pipe); lines.Scan(); {
			out.lines <- lines.Text()
		}
	}()
	select {
	case url = <-out.lines:
	case <-time.After(time.Minute):
		require.Fail(s.t, "the program does not serve its page")
	}
	return url, out
}

func (s *stage) page(url string) string {
	s.t.Helper()
	resp, err := http.Get(url)
	require.NoError(s.t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(s.t, err)
	return string(body)
}

func (s *stage) post(url, file string, want int) {
	s.t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(s.t, err)
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("license", "x.license")
	require.NoError(s.t, err)
	_, _ = part.Write(data)
	require.NoError(s.t, form.Close())
	resp, err := http.Post(url+"install", form.FormDataContentType(), &body)
	require.NoError(s.t, err)
	defer func() { _ = resp.Body.Close() }()
	text, _ := io.ReadAll(resp.Body)
	require.Equal(s.t, want, resp.StatusCode, string(text))
}
