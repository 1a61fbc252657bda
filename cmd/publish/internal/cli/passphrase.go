package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/term"
)

const maxPassphrase = 4096 // bytes of a passphrase file

// passphrase returns what package tufrepo calls for the passphrase of existing key files. It asks at most once.
func (a *app) passphrase(ctx context.Context) func() ([]byte, error) {
	return func() ([]byte, error) { return a.askPassphrase(ctx, false) }
}

// newPassphrase returns the one to encrypt new key files with. Typed, it is typed twice.
func (a *app) newPassphrase(ctx context.Context) ([]byte, error) { return a.askPassphrase(ctx, true) }

func (a *app) askPassphrase(ctx context.Context, isNew bool) (secret []byte, err error) {
	switch {
	case a.secret != nil:
		return a.secret, nil
	case a.passphraseFile != "":
		secret, err = readPassphrase(a.passphraseFile)
	case a.sys.Passphrase != "":
		secret = []byte(a.sys.Passphrase)
	case a.sys.Stdin == nil || !term.IsTerminal(int(a.sys.Stdin.Fd())):
		hint := "give it with --passphrase-file FILE or in PUBLISH_PASSPHRASE"
		if isNew {
			hint += "; for a throw-away repository, --insecure-no-passphrase"
		}
		return nil, failf(exitKeys, "no_passphrase", hint, "the key files need a passphrase, and there is no terminal to ask at")
	default:
		secret, err = a.typedPassphrase(ctx, isNew)
	}
	if err == nil {
		a.secret = secret
	}
	return secret, err
}

func readPassphrase(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, failf(exitUsage, "no_file", "check the path after --passphrase-file", "%v", err)
	}
	if err != nil {
		return nil, failf(exitKeys, "no_passphrase", "check the path after --passphrase-file", "%v", err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxPassphrase+1))
	if err != nil {
		return nil, err
	}
	secret := bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	if len(secret) == 0 || len(data) > maxPassphrase {
		return nil, failf(exitKeys, "no_passphrase", "the file holds the passphrase and nothing else, on one line",
			"%s is no passphrase file: it has %d bytes", path, len(data))
	}
	return secret, nil
}

func (a *app) typedPassphrase(ctx context.Context, isNew bool) (secret []byte, err error) {
	fd := int(a.sys.Stdin.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	// Before the first question and until after the last: what is typed at once would be seen, for ReadPassword comes
	// after the question.
	if err := echoOff(a.sys.Stdin); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, term.Restore(fd, before)) }()
	secret, err = a.typed(ctx, "passphrase of the key files: ")
	if err != nil {
		return nil, err
	}
	if len(secret) == 0 {
		return nil, failf(exitKeys, "no_passphrase", "run the same command again and type one", "the passphrase is empty")
	}
	if !isNew {
		return secret, nil
	}
	again, err := a.typed(ctx, "again: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(secret, again) {
		return nil, failf(exitKeys, "no_passphrase", "run the same command again", "the two passphrases differ")
	}
	return secret, nil
}

// typed asks at the terminal, without echo. An interrupt ends the question: the read itself cannot be ended, so it is
// left behind.
func (a *app) typed(ctx context.Context, prompt string) ([]byte, error) {
	fd := int(a.sys.Stdin.Fd())
	_, _ = fmt.Fprint(a.sys.Stderr, "publish: "+prompt)
	defer func() { _, _ = fmt.Fprintln(a.sys.Stderr) }()
	type answer struct {
		secret []byte
		err    error
	}
	answered := make(chan answer, 1)
	go func() {
		secret, err := term.ReadPassword(fd)
		answered <- answer{secret, err}
	}()
	select {
	case got := <-answered:
		return got.secret, got.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
