package main

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestSigners signs with keys in Vault's transit engine, and in SoftHSM2 behind a plug-in: testdata/signers has the programs,
// in a module of their own, and the scripts. It is skipped unless FAIRLEAD_SIGNERS is set, for what it costs to build them.
// Scripts have, beyond those of TestScripts:
//
//	vault METHOD PATH [BODY]   ask the transit engine: vault POST keys/NAME {"type":"ed25519"}
func TestSigners(t *testing.T) {
	if os.Getenv("FAIRLEAD_SIGNERS") == "" {
		t.Skip("FAIRLEAD_SIGNERS is not set; docs/testing.md says what this is")
	}
	bin := t.TempDir()
	for _, program := range []string{"transitdev", "sigstore-kms-softhsm"} {
		build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./"+program)
		build.Dir = filepath.Join("testdata", "signers")
		build.Env = append(os.Environ(), "CGO_ENABLED=1", "GOFLAGS=-mod=readonly")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", program, err, out)
		}
	}
	token := rand.Text()
	address := startTransit(t, filepath.Join(bin, "transitdev"), token)
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "signers", "scripts"), RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			e.Values["trees"] = map[string]string{}
			e.Setenv("PATH", e.Getenv("PATH")+string(filepath.ListSeparator)+bin)
			e.Setenv("VAULT_ADDR", address)
			e.Setenv("VAULT_TOKEN", token)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"fails": fails, "tree": tree, "json": jsonAt, "vault": askVault,
		},
	})
}

func startTransit(t *testing.T, program, token string) string {
	t.Helper()
	server := exec.Command(program, token)
	server.Stderr = os.Stderr
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

func askVault(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: vault METHOD PATH [BODY]")
	}
	body := strings.Join(slices.Clone(args[2:]), "")
	request, err := http.NewRequest(args[0], ts.Getenv("VAULT_ADDR")+"/v1/transit/"+args[1], strings.NewReader(body))
	ts.Check(err)
	request.Header.Set("X-Vault-Token", ts.Getenv("VAULT_TOKEN"))
	response, err := http.DefaultClient.Do(request)
	ts.Check(err)
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	ts.Check(err)
	if response.StatusCode >= 300 {
		ts.Fatalf("%s: %s", response.Status, text)
	}
	_, _ = fmt.Fprintf(ts.Stdout(), "%s\n", text)
}
