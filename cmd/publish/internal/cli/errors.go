package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/cmd/publish/internal/keyuri"
	"github.com/fairlead-dev/fairlead/license"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

// The exit codes, as exitCodesHelp and docs/publish.md promise them.
const (
	exitFailed   = 1
	exitUsage    = 2
	exitConflict = 3
	exitExpiring = 4
	exitVerify   = 5
	exitKeys     = 6
)

const exitCodesHelp = `Exit codes:

  0  done
  1  failed: the error says why; nothing was published
  2  the command line is wrong: a flag, a name, a version, a file that it names
  3  somebody else published in the meantime: run the same command again
  4  something has expired, or expires within the time asked for
  5  verification failed: the repository or the licence is not what it should be
  6  keys are missing, cannot be read, or the passphrase is wrong

With --json an error is {"error":{"code":…,"message":…,"hint":…}} on standard output, with the same exit code.`

// A failure is an error as the caller sees it: what happened, in words and as a code for programs, and what to do next.
type failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
	exit    int
	err     error
}

func (f *failure) Error() string { return f.Message }
func (f *failure) Unwrap() error { return f.err }

func failf(exit int, code, hint, format string, args ...any) *failure {
	return &failure{Code: code, Message: fmt.Sprintf(format, args...), Hint: hint, exit: exit}
}

func usagef(hint, format string, args ...any) *failure {
	return failf(exitUsage, "usage", hint, format, args...)
}

// explain turns any error into a failure; nil stays nil.
func explain(ctx context.Context, err error) *failure {
	var f *failure
	switch {
	case err == nil:
		return nil
	case errors.As(err, &f):
		return f
	case ctx.Err() != nil:
		return &failure{Code: "cancelled", Message: "cancelled", Hint: "nothing was published; run the same command again", exit: exitFailed, err: err}
	}
	f = explainRepo(err)
	if f == nil {
		f = explainInput(err)
	}
	if f == nil {
		f = &failure{Code: "failed", Hint: "nothing was published; put this right and run the same command again", exit: exitFailed}
	}
	if f.Message == "" {
		f.Message = plain(err)
	}
	f.err = err
	return f
}

// explainRepo knows the errors of package tufrepo.
func explainRepo(err error) *failure {
	var (
		trust    *tufrepo.TrustError
		parent   *tufrepo.ParentExpiresError
		reused   *tufrepo.VersionReusedError
		absent   *tufrepo.NotFoundError
		state    *tufrepo.StateError
		artifact *tufrepo.ArtifactError
		store    hinted
	)
	switch {
	case errors.Is(err, tufrepo.ErrConflict):
		return &failure{Code: "conflict", exit: exitConflict,
			Hint: "nothing of yours was published; run the same command again, it starts from what the other publisher wrote"}
	case errors.As(err, &trust):
		return &failure{Code: "not_trusted", exit: exitVerify,
			Hint: "do not publish on top of it: find out who wrote to it, restore it from a copy, and run `publish verify`"}
	case errors.As(err, &parent):
		return &failure{Code: "parent_expires", exit: exitFailed,
			Hint: fmt.Sprintf("run `publish refresh` with the keys of %s first", parent.Parent)}
	case errors.As(err, &reused):
		return &failure{Code: "version_reused", exit: exitFailed,
			Hint: "a version stands for the same bytes and terms for ever: raise the version"}
	case errors.Is(err, tufrepo.ErrExists):
		return &failure{Code: "exists", exit: exitFailed, Hint: "see it with `publish status`"}
	case errors.As(err, &absent):
		return &failure{Code: "not_found", exit: exitUsage, Hint: "`publish status` shows what there is"}
	case errors.As(err, &state):
		return &failure{Code: "state", exit: exitFailed, Hint: "`publish list` shows every release and its state"}
	case errors.As(err, &artifact) && errors.Is(err, fs.ErrNotExist):
		return &failure{Code: "no_file", exit: exitUsage, Hint: "check the path " + artifact.Path}
	case errors.As(err, &artifact):
		return &failure{Code: "artifact", exit: exitUsage,
			Hint: "an artifact is the program itself, or a .tar.gz, .tar.zst or .zip with it inside, named with --executable PATH"}
	case errors.As(err, &store):
		return &failure{Code: "store", exit: exitFailed, Hint: store.Hint()}
	}
	return explainKeys(err)
}

func explainKeys(err error) *failure {
	var (
		missing *tufrepo.MissingKeysError
		keyFile *tufrepo.KeyFileError
		kind    *tufrepo.KeyTypeError
		uri     *keyuri.Error
		signing *tufrepo.SigningError
		token   *license.SigningError
	)
	switch {
	case errors.Is(err, tufrepo.ErrWrongPassphrase):
		return &failure{Code: "wrong_passphrase", exit: exitKeys,
			Hint: "give the passphrase with --passphrase-file FILE or PUBLISH_PASSPHRASE"}
	case errors.As(err, &missing):
		return &failure{Code: "missing_keys", exit: exitKeys, Message: missingText(err),
			Hint: "put the private key into the --keys folder; `publish keys show` says which keys there are"}
	case errors.As(err, &keyFile) && errors.Is(err, fs.ErrNotExist):
		return &failure{Code: "no_file", exit: exitUsage, Hint: "check the path " + keyFile.Path}
	case errors.As(err, &keyFile):
		return &failure{Code: "key_file", exit: exitKeys, Hint: keyFileHint(keyFile)}
	case errors.As(err, &kind) && errors.As(err, &uri):
		return &failure{Code: "key_file", exit: exitKeys, Hint: "make an Ed25519 or an ECDSA P-256 key there: no other kind is verified by all clients"}
	case errors.As(err, &kind):
		return &failure{Code: "key_file", exit: exitKeys, Hint: "make a key with `publish keys new NAME`"}
	case errors.As(err, &uri):
		return explainURI(uri)
	case errors.As(err, &signing), errors.As(err, &token):
		return &failure{Code: "signing", exit: exitKeys, Hint: "nothing was published or issued; look at the key where it is kept, or use another"}
	}
	return nil
}

// explainURI knows the errors of package keyuri.
func explainURI(err *keyuri.Error) *failure {
	var (
		unset  *keyuri.UnsetError
		plugin *keyuri.NoPluginError
	)
	switch {
	case errors.Is(err, keyuri.ErrURI):
		return &failure{Code: "key_uri", exit: exitUsage, Hint: "`publish key-files` says how keys are named"}
	case errors.As(err, &unset):
		return &failure{Code: "missing_keys", exit: exitKeys, Hint: "set it to the private key in PEM"}
	case errors.As(err, &plugin):
		return &failure{Code: "key_service", exit: exitKeys, Hint: "correct the URI, or install " + plugin.Program}
	}
	if strings.HasPrefix(err.URI, "env://") {
		return &failure{Code: "key_file", exit: exitKeys, Hint: "set the variable to an Ed25519 or ECDSA P-256 private key in PEM"}
	}
	return &failure{Code: "key_service", exit: exitKeys,
		Hint: "check that the service can be reached, and that the credentials that it reads may use the key"}
}

// missingText says on one line which keys which roles lack; the repository reports each by itself.
func missingText(err error) string {
	list := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		list = joined.Unwrap()
	}
	var words []string
	for _, e := range list {
		var m *tufrepo.MissingKeysError
		if errors.As(e, &m) {
			words = append(words, fmt.Sprintf("%s needs %d of %s and has %d", m.Role, m.Need, strings.Join(short(m.KeyIDs), ", "), m.Have))
		}
	}
	return "keys are missing, and nothing was written: " + strings.Join(words, "; ")
}

func keyFileHint(e *tufrepo.KeyFileError) string {
	if info, err := statMode(e.Path); err == nil && info&0o077 != 0 {
		return "chmod 600 " + e.Path
	}
	return "put the file there with --keys FOLDER, or make a key with `publish keys new NAME`"
}

// explainInput knows the errors of packages channel and license, and those about files.
func explainInput(err error) *failure {
	var (
		invalid *channel.InvalidError
		newer   *channel.NewerFormatError
		token   *license.TokenError
		file    *fs.PathError
	)
	switch {
	case errors.As(err, &invalid):
		return &failure{Code: "invalid", exit: exitUsage, Hint: "correct the " + invalid.Field + " and run the same command again; --help shows examples"}
	case errors.As(err, &newer):
		return &failure{Code: "newer_format", exit: exitFailed, Hint: "update publish: the repository was written by a newer one"}
	case errors.As(err, &token):
		return &failure{Code: string(token.Code), exit: exitUsage, Hint: "see `publish license issue --help`"}
	case errors.As(err, &file) && errors.Is(err, fs.ErrNotExist):
		return &failure{Code: "no_file", exit: exitUsage, Hint: "check the path " + file.Path}
	case errors.Is(err, fs.ErrPermission):
		return &failure{Code: "permission", exit: exitFailed, Hint: "let the user who runs publish read and write it"}
	}
	return nil
}

// plain is an error's text on one line, without the name of the package that it comes from, which says nothing to a
// user.
func plain(err error) string {
	lines := strings.Split(err.Error(), "\n")
	for i := range lines {
		for _, name := range []string{"tufrepo: ", "channel: ", "license: "} {
			lines[i] = strings.TrimPrefix(lines[i], name)
		}
	}
	return strings.Join(lines, "; ")
}
