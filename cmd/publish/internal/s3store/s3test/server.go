//go:build !nos3

// Package s3test starts a real S3-compatible server for tests: rclone's, built from the module in ../testdata/s3server,
// or versitygw if FAIRLEAD_VERSITYGW names its program. And it disturbs what is said to one.
package s3test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Bucket is there from the start.
const Bucket = "updates"

const (
	accessKey = "test-key"
	secretKey = "test-secret-1234567890"
)

// A Server is a process that speaks S3 on 127.0.0.1.
type Server struct {
	URL     string // its endpoint
	Folder  string // where the bucket's objects are plain files
	Process *os.Process
	Kind    string // rclone or versitygw
}

// Start starts a server and has t end it. The environment of t gets credentials for it, and nothing else that the AWS
// SDK looks at. The test is skipped if the server cannot be had, and fails with FAIRLEAD_NEED_SERVERS=1.
func Start(t testing.TB) *Server {
	t.Helper()
	data := t.TempDir()
	s := &Server{Folder: filepath.Join(data, Bucket), Kind: "rclone"}
	require.NoError(t, os.Mkdir(s.Folder, 0o755))
	port := freePort(t)
	s.URL = "http://127.0.0.1:" + port
	program := os.Getenv("FAIRLEAD_VERSITYGW")
	var cmd *exec.Cmd
	if program != "" {
		s.Kind = "versitygw"
		cmd = exec.Command(program, "--port", "127.0.0.1:"+port, "--quiet", "posix", data)
	} else {
		cmd = exec.Command(build(t), "serve", "s3", "--addr", "127.0.0.1:"+port, "--auth-key", accessKey+","+secretKey, "--config", "", data)
	}
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+accessKey, "ROOT_SECRET_KEY="+secretKey, "HOME="+home)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	require.NoError(t, cmd.Start())
	s.Process = cmd.Process
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = s.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			_ = s.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("the server said: %s", log.String())
		}
	})
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": accessKey, "AWS_SECRET_ACCESS_KEY": secretKey, "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "",
		"AWS_ENDPOINT_URL": "", "AWS_ENDPOINT_URL_S3": "", "AWS_REGION": "", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": filepath.Join(home, "none"), "AWS_SHARED_CREDENTIALS_FILE": filepath.Join(home, "none")} {
		setenv(t, name, value)
	}
	for range 200 {
		conn, err := (&net.Dialer{Timeout: time.Second}).Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			_ = conn.Close()
			return s
		}
		select {
		case <-ended:
			t.Fatalf("the server ended: %s", log.String())
		case <-time.After(50 * time.Millisecond):
		}
	}
	t.Fatal("the server does not listen")
	return nil
}

func setenv(t testing.TB, name, value string) {
	if value != "" {
		t.Setenv(name, value)
		return
	}
	t.Setenv(name, "x") // so that it is put back
	require.NoError(t, os.Unsetenv(name))
}

// Address is that of a repository in the server's bucket, as --repo takes it, by way of an endpoint.
func Address(endpoint, prefix string) string {
	return "s3://" + Bucket + "/" + prefix + "?region=us-east-1&endpoint=" + url.QueryEscape(endpoint)
}

// build makes the program, once for every state of its module.
func build(t testing.TB) string {
	t.Helper()
	mod, err := exec.CommandContext(t.Context(), "go", "env", "GOMOD").Output() // with -trimpath no source file knows where it is
	require.NoError(t, err)
	module := filepath.Join(filepath.Dir(strings.TrimSpace(string(mod))), "cmd", "publish", "internal", "s3store", "testdata", "s3server")
	hash := sha256.New()
	for _, name := range []string{"main.go", "go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(module, name))
		require.NoError(t, err)
		hash.Write(data)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "fairlead-test")
	path := filepath.Join(dir, fmt.Sprintf("s3server-%s-%x", runtime.Version(), hash.Sum(nil)[:8]))
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if os.Getenv("FAIRLEAD_S3") == "" {
		t.Skip("the S3 server was not built yet: with FAIRLEAD_S3=1 it is, in a minute or so, and then stays")
	}
	require.NoError(t, os.MkdirAll(dir, 0o755))
	own, err := os.MkdirTemp(dir, "build-")
	require.NoError(t, err)
	defer func() { _ = os.RemoveAll(own) }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(own, "s3server"), ".")
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH)
	if out, err := cmd.CombinedOutput(); err != nil {
		why := fmt.Sprintf("the S3 server cannot be built: %v: %s", err, strings.TrimSpace(string(out)))
		if os.Getenv("FAIRLEAD_NEED_SERVERS") != "" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	require.NoError(t, os.Rename(filepath.Join(own, "s3server"), path))
	return path
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return port
}
