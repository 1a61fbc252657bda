package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// run runs the command in a folder of its own.
func run(t *testing.T, ctx context.Context, dir string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, talk bytes.Buffer
	args = append(args, "--repo", filepath.Join(dir, "updates"), "--keys", filepath.Join(dir, "keys"))
	code = Run(ctx, args, System{Stdout: &out, Stderr: &talk, Now: noon.Format(time.RFC3339)})
	return code, out.String(), talk.String()
}

func repository(t *testing.T) (dir, program string) {
	t.Helper()
	dir = t.TempDir()
	program = filepath.Join(dir, "notes")
	require.NoError(t, os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755))
	code, _, stderr := run(t, t.Context(), dir, "init", "--product", "notes", "--insecure-no-passphrase")
	require.Zero(t, code, stderr)
	code, _, stderr = run(t, t.Context(), dir, "release", "--version", "1.0.0", "--artifact", "linux/amd64="+program)
	require.Zero(t, code, stderr)
	return dir, program
}

// TestConflict has another publisher come between opening and committing.
func TestConflict(t *testing.T) {
	dir, _ := repository(t)
	attempt := func(between func()) (result, *failure) {
		a := &app{out: newOutput(io.Discard, io.Discard), now: func() time.Time { return noon },
			repo: filepath.Join(dir, "updates"), keysDir: filepath.Join(dir, "keys")}
		res, err := a.edit(t.Context(), where{}, func(_ context.Context, repo *tufrepo.Repo, w where) ([]channel.Release, error) {
			between()
			return one(repo.Hold(w.product, w.channel, "1.0.0", "mine"))
		})
		return res, explain(t.Context(), err)
	}
	res, f := attempt(func() {
		code, _, stderr := run(t, t.Context(), dir, "rollout", "1.0.0", "10%")
		require.Zero(t, code, stderr)
	})
	require.Nil(t, res)
	require.Equal(t, "conflict", f.Code)
	require.Equal(t, exitConflict, f.exit)
	require.Contains(t, f.Hint, "run the same command again")
	_, stdout, _ := run(t, t.Context(), dir, "list", "--json")
	require.Contains(t, stdout, `"to": 1000`, "what the other published stands")
	require.NotContains(t, stdout, "mine")

	_, f = attempt(func() {})
	require.Nil(t, f, "and the same command works when run again")
	_, stdout, _ = run(t, t.Context(), dir, "list", "--json")
	require.Contains(t, stdout, `"to": 1000`)
	require.Contains(t, stdout, "mine")
}

func TestCancelled(t *testing.T) {
	dir, program := repository(t)
	args := []string{"release", "--version", "1.1.0", "--artifact", "linux/amd64=" + program}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	code, _, stderr := run(t, ctx, dir, args...)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "publish: error: cancelled\npublish: hint: nothing was published")
	_, stdout, _ := run(t, t.Context(), dir, "list")
	require.NotContains(t, stdout, "1.1.0")
	code, _, stderr = run(t, t.Context(), dir, args...)
	require.Zero(t, code, stderr)
}

// TestInterruptedInit has init end in the middle: the same command must work afterwards.
func TestInterruptedInit(t *testing.T) {
	dir := t.TempDir()
	args := []string{"init", "--product", "notes", "--insecure-no-passphrase"}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	code, _, _ := run(t, ctx, dir, args...)
	require.Equal(t, exitFailed, code)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "keys, and no trace of a repository")
	code, _, stderr := run(t, t.Context(), dir, args...)
	require.Zero(t, code, stderr)
	require.NotContains(t, stderr, "made", "the keys were there")
}

// TestPinnedRoot swaps the whole repository for another one: only who kept the root notices.
func TestPinnedRoot(t *testing.T) {
	dir, program := repository(t)
	root := filepath.Join(dir, "updates", rootFile)
	data, err := os.ReadFile(root)
	require.NoError(t, err)
	pinned := filepath.Join(dir, "root.json")
	require.NoError(t, os.WriteFile(pinned, data, 0o644))
	forged, _ := repository(t)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "updates")))
	require.NoError(t, os.Rename(filepath.Join(forged, "updates"), filepath.Join(dir, "updates")))
	code, stdout, _ := run(t, t.Context(), dir, "release", "--version", "1.1.0", "--artifact", "linux/amd64="+program, "--root", pinned, "--json")
	require.Equal(t, exitVerify, code)
	require.Contains(t, stdout, `"not_trusted"`)
}

func TestExplain(t *testing.T) {
	missing := &tufrepo.MissingKeysError{Role: "snapshot", Need: 1, KeyIDs: []string{"0123456789abcdef"}}
	for name, c := range map[string]struct {
		err  error
		code string
		exit int
	}{
		"conflict":     {errors.Join(tufrepo.ErrConflict), "conflict", exitConflict},
		"parent":       {&tufrepo.ParentExpiresError{Parent: "targets"}, "parent_expires", exitFailed},
		"missing keys": {errors.Join(missing, missing), "missing_keys", exitKeys},
		"trust":        {&tufrepo.TrustError{Name: "x", Err: io.EOF}, "not_trusted", exitVerify},
		"passphrase":   {&tufrepo.KeyFileError{Path: "x", Err: tufrepo.ErrWrongPassphrase}, "wrong_passphrase", exitKeys},
		"newer format": {&channel.NewerFormatError{What: "entry", Version: 2}, "newer_format", exitFailed},
		"permission":   {&os.PathError{Op: "open", Path: "x", Err: os.ErrPermission}, "permission", exitFailed},
		"disk full":    {errors.New("no space left on device"), "failed", exitFailed},
	} {
		f := explain(t.Context(), c.err)
		require.Equal(t, c.code, f.Code, name)
		require.Equal(t, c.exit, f.exit, name)
		require.NotEmpty(t, f.Hint, name)
		require.NotContains(t, f.Message, "\n", name)
		require.NotContains(t, f.Message, "tufrepo: ", name)
		require.ErrorIs(t, f, c.err, name)
	}
	require.Nil(t, explain(t.Context(), nil))
	require.Equal(t, "keys are missing, and nothing was written: snapshot needs 1 of 0123456789ab and has 0; snapshot needs 1 of 0123456789ab and has 0",
		explain(t.Context(), errors.Join(missing, missing)).Message)
}

func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{"30d": 720 * time.Hour, "2w": 336 * time.Hour, "48h": 48 * time.Hour, "1h30m": 90 * time.Minute, "0d": 0} {
		got, err := duration("over", text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "d", "-1d", "1.5d", "30", "-4h", "99999999d", "1d2h", "soon"} {
		_, err := duration("over", text)
		var f *failure
		require.ErrorAs(t, err, &f, text)
		require.Equal(t, exitUsage, f.exit, text)
	}
}

func TestInstants(t *testing.T) {
	got, err := instant("at", "2027-03-31")
	require.NoError(t, err)
	require.Equal(t, "2027-03-31T23:59:59Z", got.Format(time.RFC3339))
	got, err = instant("at", "2027-03-31T12:00:00.5+02:00")
	require.NoError(t, err)
	require.Equal(t, "2027-03-31T10:00:00Z", got.Format(time.RFC3339Nano))
	for _, text := range []string{"", "2027", "31.3.2027", "2027-02-30", "2027-03-31 12:00"} {
		_, err := instant("at", text)
		require.Error(t, err, text)
	}
}

func TestPercentages(t *testing.T) {
	for text, want := range map[string]int{"0%": 0, "5%": 500, "0.5%": 50, "12.34%": 1234, "100%": 10000, "005%": 500} {
		got, err := percentage(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "%", "5", "-5%", "+5%", "100.01%", "101%", "1.234%", "5.%", ".5%", "5 %", "1e1%", "٥%"} {
		_, err := percentage(text)
		require.Error(t, err, text)
	}
	require.Equal(t, []string{"0%", "0.5%", "12.34%", "100%"}, []string{share(0), share(50), share(1234), share(10000)})
}

func TestRamps(t *testing.T) {
	r, err := ramp("100%", "", 0, noon)
	require.NoError(t, err)
	require.Nil(t, r, "everybody is no rollout")
	r, err = ramp("5%..100%", "2d", 0, noon)
	require.NoError(t, err)
	require.Equal(t, &channel.Rollout{From: 500, To: 10000, Start: noon, Duration: 172800}, r)
	r, err = ramp("50%", "1h", 1234, noon.Add(time.Millisecond))
	require.NoError(t, err)
	require.Equal(t, &channel.Rollout{From: 1234, To: 5000, Start: noon, Duration: 3600}, r, "from the share reached; whole seconds")
	_, err = ramp("5%..100%", "2000d", 0, noon)
	var invalid *channel.InvalidError
	require.ErrorAs(t, err, &invalid)
}

func TestExpiring(t *testing.T) {
	role := func(name string, life, left time.Duration) tufrepo.RoleStatus {
		return tufrepo.RoleStatus{Role: name, Signed: noon.Add(left - life), Expires: noon.Add(left)}
	}
	const d = 24 * time.Hour
	for name, c := range map[string]struct {
		role  tufrepo.RoleStatus
		fails bool
	}{
		"a long one with time":       {role("root", 400*d, 31*d), false},
		"a long one in the window":   {role("root", 400*d, 30*d), true},
		"a short one that is fresh":  {role("timestamp", 7*d, 7*d), false},
		"a short one, half its life": {role("timestamp", 7*d, 7*d/2), true},
		"a short one, just not yet":  {role("timestamp", 7*d, 7*d/2+time.Second), false},
		"expired":                    {role("root", 400*d, 0), true},
	} {
		err := expiring([]tufrepo.RoleStatus{c.role}, noon, 30*d)
		require.Equal(t, c.fails, err != nil, name)
		if err != nil {
			require.Equal(t, exitExpiring, explain(t.Context(), err).exit, name)
		}
	}
}

type text string

func (s text) text(p *page) { p.row("a", string(s)); p.line("%s", string(s)) }

// TestTerminalSafe: reasons and claims come from files, and must not reach the terminal as orders.
func TestTerminalSafe(t *testing.T) {
	var out bytes.Buffer
	p := &page{w: tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)}
	text("x\x1b[2Jy\u009bz\r\nnext\x7f").text(p)
	require.NoError(t, p.flush())
	require.Equal(t, "a  x [2Jy z  next\nx [2Jy z  next \n", out.String())
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestOutputThatCannotBeWritten(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		var stderr bytes.Buffer
		o := newOutput(failingWriter{}, &stderr)
		o.json = asJSON
		require.Equal(t, exitFailed, o.finish(&serving{"x"}, nil))
		require.Contains(t, stderr.String(), "standard output cannot be written: disk full")
	}
}

func TestProgressOnlyAtATerminal(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	require.NoError(t, err)
	defer func() { _ = file.Close() }()
	o := newOutput(io.Discard, file)
	o.progress(1, 2, "notes")
	info, err := file.Stat()
	require.NoError(t, err)
	require.Zero(t, info.Size())
}

// TestJSONKeepsNumbers: with an error the result goes through a map, which must not round.
func TestJSONKeepsNumbers(t *testing.T) {
	var out bytes.Buffer
	o := newOutput(&out, io.Discard)
	o.json = true
	require.Equal(t, exitVerify, o.finish(&verified{Bytes: 1<<53 + 1, Findings: []finding{}}, failf(exitVerify, "verification", "h", "m")))
	require.Contains(t, out.String(), `"bytes": 9007199254740993`)
	require.True(t, json.Valid(out.Bytes()))
	require.True(t, strings.Contains(out.String(), `"code": "verification"`))
}

func FuzzPeek(f *testing.F) {
	const token = "eyJhbGciOiJFZERTQSIsImtpZCI6ImsiLCJ0eXAiOiJsaWNlbnNlK2p3dCJ9.eyJpc3MiOiJhIiwiYXVkIjpbIm5vdGVzIl0sImxpZCI6IkwifQ.AAAA"
	u, err := peek([]byte("-----BEGIN LICENSE-----\n" + token[:40] + "\n" + token[40:] + "\n-----END LICENSE-----\n"))
	require.NoError(f, err)
	require.Equal(f, unverified{keyID: "k", issuer: "a", product: "notes", products: []string{"notes"}, claims: json.RawMessage(`{"iss":"a","aud":["notes"],"lid":"L"}`)}, u)
	f.Add([]byte(token))
	single, err := peek([]byte("eyJraWQiOiJrIn0.eyJhdWQiOiJub3RlcyJ9.AAAA"))
	require.NoError(f, err)
	require.Equal(f, "notes", single.product, "a single string, as RFC 7519 allows")
	f.Add([]byte("..\n"))
	f.Add([]byte("e30.e30.e30"))
	f.Add([]byte("bnVsbA.bnVsbA.bnVsbA"))
	f.Fuzz(func(t *testing.T, data []byte) {
		u, err := peek(data)
		if err != nil {
			return
		}
		i := &inspected{KeyID: u.keyID, Claims: u.claims}
		p := &page{w: tabwriter.NewWriter(io.Discard, 0, 0, 2, ' ', 0)}
		i.text(p)
		_, err = json.Marshal(i)
		require.NoError(t, err)
	})
}

// TestDocsAreComplete: every verb, every global flag, and every error code that the source names stand in the docs.
func TestDocsAreComplete(t *testing.T) {
	data, err := os.ReadFile("../../../../docs/publish.md")
	require.NoError(t, err)
	doc := string(data)
	a := &app{out: newOutput(io.Discard, io.Discard)}
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Runnable() && !cmd.HasSubCommands() {
			require.Contains(t, doc, "`"+cmd.CommandPath(), "a verb")
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	root := a.rootCommand()
	walk(root)
	for _, flag := range []string{"repo", "keys", "root", "json", "quiet", "passphrase-file"} {
		require.NotNil(t, root.PersistentFlags().Lookup(flag))
		require.Contains(t, doc, "`--"+flag)
	}
	sources, err := filepath.Glob("*.go")
	require.NoError(t, err)
	codeRE := regexp.MustCompile(`failf\(exit[A-Za-z]+, "([a-z_]+)"|Code: "([a-z_]+)"`)
	seen := 0
	for _, name := range sources {
		source, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, m := range codeRE.FindAllStringSubmatch(string(source), -1) {
			require.Contains(t, doc, "`"+m[1]+m[2]+"`", "an error code of %s", name)
			seen++
		}
	}
	require.Greater(t, seen, 30)
	for _, line := range strings.Split(exitCodesHelp, "\n") {
		if n, meaning, ok := strings.Cut(strings.TrimSpace(line), "  "); ok {
			require.Contains(t, doc, "| "+n+" | "+meaning+" |")
		}
	}
}
