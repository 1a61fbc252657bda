package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/fairlead-dev/fairlead/license"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"publish": main, "sigstore-kms-test": testPlugin})
}

// noExitSleep is for the environment of commands: with the race detector each would sleep for a second before it exits.
const noExitSleep = "atexit_sleep_ms=0"

// TestScripts runs testdata/*.txtar. Beyond what testscript brings, scripts have:
//
//	fails EXIT CODE ARGS…      publish ARGS must exit with EXIT, as text (error and hint on stderr) and with --json
//	                           (exactly one value on stdout, with error.code CODE); stdout and stderr are the text's
//	pack ARCHIVE FILE…         make a .tar.gz or .zip of the files; those named without a dot are executable
//	tree save|same DIR         note the content and mode of every file below DIR, or hold it against what was noted
//	tree copy DIR TO           copy DIR
//	tamper FILE                change one byte in the middle
//	mint KIND FILE             make a private key: ed25519, ecdsa-p256, ecdsa-p384, rsa; cosign-ed25519, … as cosign writes it
//	env-file NAME FILE         the variable NAME gets what FILE holds
//	json PATH VALUE            the last stdout is one JSON value, and what stands at PATH (a.0.b) is VALUE
//	examples DIR VERB…         run every example of publish VERB --help, each in a copy of DIR
//	request FILE NODE [LID SEQ]  write the activation request of an installation of notes, which holds that licence
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata", RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			e.Values["trees"] = map[string]string{}
			e.Setenv("GORACE", noExitSleep)
			cache, err := exec.CommandContext(t.Context(), "go", "env", "GOCACHE").Output() // for scripts that build programs
			e.Setenv("GOCACHE", strings.TrimSpace(string(cache)))
			return err
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"fails": fails, "pack": pack, "tree": tree, "tamper": tamper, "json": jsonAt, "request": request, "examples": examples,
			"mint": mint, "env-file": fileInEnv,
		},
	})
}

func fails(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: fails EXIT CODE ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code, args := args[1], args[2:]

	expectExit(ts, want, slices.Concat([]string{"--json"}, args))
	var object struct {
		Error struct{ Code, Message, Hint string }
	}
	oneValue(ts, &object)
	if object.Error.Code != code {
		ts.Fatalf("error.code is %q (%s), not %q", object.Error.Code, object.Error.Message, code)
	}
	if object.Error.Message == "" || object.Error.Hint == "" {
		ts.Fatalf("no message, or no hint")
	}

	expectExit(ts, want, args)
	stderr := ts.ReadFile("stderr")
	if !strings.HasSuffix(stderr, "publish: error: "+object.Error.Message+"\npublish: hint: "+object.Error.Hint+"\n") {
		ts.Fatalf("stderr does not end in the error and its hint")
	}
}

func expectExit(ts *testscript.TestScript, want int, args []string) {
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec("publish", args...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("publish %s: exit code %d, not %d", strings.Join(args, " "), got, want)
	}
}

func oneValue(ts *testscript.TestScript, into any) {
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	ts.Check(dec.Decode(into))
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		ts.Fatalf("stdout holds more than one JSON value")
	}
}

func jsonAt(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: json PATH VALUE")
	}
	var v any
	oneValue(ts, &v)
	for _, step := range strings.Split(args[0], ".") {
		switch at := v.(type) {
		case map[string]any:
			v = at[step]
		case []any:
			i, err := strconv.Atoi(step)
			if step == "len" {
				v = float64(len(at))
			} else if ts.Check(err); i < len(at) {
				v = at[i]
			} else {
				v = nil
			}
		default:
			v = nil
		}
	}
	text, ok := v.(string)
	if !ok {
		data, err := json.Marshal(v)
		ts.Check(err)
		text = string(data)
	}
	if (text == args[1]) == neg {
		ts.Fatalf("%s is %s", args[0], text)
	}
}

func tree(ts *testscript.TestScript, neg bool, args []string) {
	if !neg && len(args) == 3 && args[0] == "copy" {
		copyTree(ts, ts.MkAbs(args[1]), ts.MkAbs(args[2]))
		return
	}
	if neg || len(args) != 2 {
		ts.Fatalf("usage: tree save|same DIR, tree copy DIR TO")
	}
	trees := ts.Value("trees").(map[string]string)
	now := describe(ts, ts.MkAbs(args[1]))
	switch args[0] {
	case "save":
		trees[args[1]] = now
	case "same":
		if trees[args[1]] == "" || trees[args[1]] != now {
			ts.Fatalf("%s changed; it was\n%snow it is\n%s", args[1], trees[args[1]], now)
		}
	}
}

// copyTree copies a folder, with the permissions of private keys.
func copyTree(ts *testscript.TestScript, from, to string) {
	ts.Check(os.CopyFS(to, os.DirFS(from)))
	keys, err := filepath.Glob(filepath.Join(to, "keys", "*.pem"))
	ts.Check(err)
	for _, key := range keys {
		ts.Check(os.Chmod(key, 0o600))
	}
}

func describe(ts *testscript.TestScript, dir string) string {
	var out strings.Builder
	ts.Check(filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		sum := ""
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			hash := sha256.Sum256(data)
			sum = hex.EncodeToString(hash[:])
		}
		fmt.Fprintf(&out, "%s %s %s\n", path, info.Mode(), sum)
		return nil
	}))
	return out.String()
}

func tamper(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: tamper FILE")
	}
	path := ts.MkAbs(args[0])
	names, err := filepath.Glob(path)
	ts.Check(err)
	if len(names) != 1 {
		ts.Fatalf("%s names %d files", args[0], len(names))
	}
	data, err := os.ReadFile(names[0])
	ts.Check(err)
	data[len(data)/2] ^= 1
	ts.Check(os.WriteFile(names[0], data, 0o644))
}

func pack(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: pack ARCHIVE FILE...")
	}
	var out bytes.Buffer
	if strings.HasSuffix(args[0], ".zip") {
		packZip(ts, &out, args[1:])
	} else {
		packTar(ts, &out, args[1:])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), out.Bytes(), 0o644))
}

// request makes an activation request at the time that PUBLISH_NOW says, in a folder of its own.
func request(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 && len(args) != 4 {
		ts.Fatalf("usage: request FILE NODE [LID SEQ]")
	}
	now, err := time.Parse(time.RFC3339, ts.Getenv("PUBLISH_NOW"))
	ts.Check(err)
	device, err := license.OpenDevice(context.Background(), ts.MkAbs(args[0]+".device"))
	ts.Check(err)
	r := license.Request{Product: "notes", Node: args[1], Created: now}
	if len(args) == 4 {
		r.License = args[2]
		r.Seq, err = strconv.ParseInt(args[3], 10, 64)
		ts.Check(err)
	}
	data, err := device.Request(r)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o644))
}

var (
	exampleRE = regexp.MustCompile(`(?s)\nExamples:\n(.*?)\n\n`)
	wordRE    = regexp.MustCompile(`"[^"]*"|\S+`)
)

// examples runs every example that a verb's help gives, each in a fresh copy of a folder.
func examples(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: examples DIR VERB...")
	}
	ts.Check(ts.Exec("publish", append(args[1:], "--help")...))
	m := exampleRE.FindStringSubmatch(ts.ReadFile("stdout"))
	if m == nil {
		ts.Fatalf("publish %s --help has no examples", strings.Join(args[1:], " "))
	}
	for i, line := range strings.Split(strings.ReplaceAll(m[1], "\\\n", ""), "\n") {
		line, _, _ = strings.Cut(line, " > ")
		words := wordRE.FindAllString(line, -1)
		for i := range words {
			words[i] = strings.Trim(words[i], `"`)
		}
		dir := fmt.Sprintf("%s-%s-%d", args[0], strings.Join(args[1:], "-"), i)
		copyTree(ts, ts.MkAbs(args[0]), ts.MkAbs(dir))
		ts.Check(ts.Chdir(dir))
		if err := ts.Exec(words[0], words[1:]...); err != nil {
			ts.Fatalf("%s: %v: %s", line, err, ts.ReadFile("stderr"))
		}
		ts.Check(ts.Chdir(".."))
	}
}

func modeOf(name string) fs.FileMode {
	if strings.Contains(filepath.Base(name), ".") {
		return 0o644
	}
	return 0o755
}

func packZip(ts *testscript.TestScript, out io.Writer, names []string) {
	w := zip.NewWriter(out)
	for _, name := range names {
		h := &zip.FileHeader{Name: name, Method: zip.Deflate}
		h.SetMode(modeOf(name))
		f, err := w.CreateHeader(h)
		ts.Check(err)
		_, err = io.WriteString(f, ts.ReadFile(name))
		ts.Check(err)
	}
	ts.Check(w.Close())
}

func packTar(ts *testscript.TestScript, out io.Writer, names []string) {
	gz := gzip.NewWriter(out)
	w := tar.NewWriter(gz)
	for _, name := range names {
		data := ts.ReadFile(name)
		ts.Check(w.WriteHeader(&tar.Header{Name: name, Mode: int64(modeOf(name)), Size: int64(len(data)), Typeflag: tar.TypeReg}))
		_, err := io.WriteString(w, data)
		ts.Check(err)
	}
	ts.Check(errors.Join(w.Close(), gz.Close()))
}
