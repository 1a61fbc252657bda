// Package keyuri opens private keys that a URI names instead of a file:
//
//	env://NAME          a PEM key in an environment variable, encrypted or not
//	awskms://, …        a key in a key service, through the providers that the caller links (package kms)
//	NAME://…            a key behind sigstore's plug-in protocol: the program sigstore-kms-NAME on the PATH
//
// Only Ed25519 and ECDSA P-256 keys are opened. What a key service signs is checked by whoever asks for the signature
// (tufrepo and license do): some keys sign a digest where the message is meant.
//
// A URI is no secret: it is shown, and stands in files and logs. One that holds a password or a PIN is refused, and texts
// of errors that come from elsewhere have those cut out that they quote.
package keyuri

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/fairlead-dev/fairlead/tufrepo"
)

const maxURI = 2048 // bytes

// A Provider opens a key of one key service. hash is [crypto.SHA256], or 0 for a key that signs messages (Ed25519).
type Provider func(ctx context.Context, uri string, hash crypto.Hash) (signature.Signer, error)

// A System is what keys need of what is around the command.
type System struct {
	Getenv     func(name string) string // nil: there are no variables
	Passphrase func() ([]byte, error)   // asked for only if a key in a variable is encrypted; nil: there is none
	Providers  map[string]Provider      // by scheme; any other scheme is a plug-in's
}

// ErrURI says that a URI names no key as this package reads it.
var ErrURI = errors.New("not a key's URI")

// An Error says why the key that a URI names could not be opened.
type Error struct {
	URI string
	Err error
}

func (e *Error) Error() string { return "key " + e.URI + ": " + oneLine(e.Err) }

func (e *Error) Unwrap() error { return e.Err }

// An UnsetError says that the variable of env://NAME is not there, or empty.
type UnsetError struct{ Name string }

func (e *UnsetError) Error() string { return "the variable " + e.Name + " is not set" }

// A NoPluginError says that nothing here opens keys of this scheme.
type NoPluginError struct {
	Scheme, Program string
}

func (e *NoPluginError) Error() string {
	return "no key service is called " + e.Scheme + " here, and there is no plug-in " + e.Program + " on the PATH"
}

// Two letters at least, for C:\keys is none; no slash, for a plug-in's name becomes that of a program.
var schemeRE = regexp.MustCompile(`^([a-zA-Z][a-zA-Z0-9_-]+)://`)

// Is reports whether s is a URI, and no path of a file.
func Is(s string) bool { return schemeRE.MatchString(s) }

var (
	variableRE = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	pinRE      = regexp.MustCompile(`(?i)[?&;](pin-value|pin|password|passphrase|secret)=`)
)

// Check says what is wrong with a URI before anything is asked: an error that wraps [ErrURI].
func Check(uri string) error {
	scheme := schemeRE.FindString(uri)
	rest := uri[len(scheme):]
	authority, _, _ := strings.Cut(rest, "/")
	user, _, hasUser := strings.Cut(authority, "@")
	switch {
	case scheme == "":
		return fmt.Errorf("%w: it starts with no scheme such as awskms://", ErrURI)
	case len(uri) > maxURI:
		return fmt.Errorf("%w: it has more than %d bytes", ErrURI, maxURI)
	case strings.ContainsFunc(uri, func(r rune) bool { return r <= ' ' || r > '~' }):
		return fmt.Errorf("%w: it has spaces or characters beyond ASCII", ErrURI)
	case hasUser && strings.Contains(user, ":") || pinRE.MatchString(rest):
		return fmt.Errorf("%w: it holds a password or a PIN, and a URI is shown and logged; give that another way, such as in a variable that the plug-in reads", ErrURI)
	case rest == "":
		return fmt.Errorf("%w: it names no key", ErrURI)
	case scheme == "env://" && !variableRE.MatchString(rest):
		return fmt.Errorf("%w: %q is not the name of a variable", ErrURI, rest)
	}
	return nil
}

// Open opens the key. ctx also ends what the key is asked to sign later. Errors are an [*Error]; a key of another kind than
// Ed25519 and ECDSA P-256 is a [*tufrepo.KeyTypeError] in it.
func Open(ctx context.Context, uri string, sys System) (*tufrepo.Signer, error) {
	s, err := open(ctx, uri, sys)
	if err != nil {
		return nil, &Error{Display(uri), err}
	}
	return s, nil
}

func open(ctx context.Context, uri string, sys System) (*tufrepo.Signer, error) {
	if err := Check(uri); err != nil {
		return nil, err
	}
	scheme, rest, _ := strings.Cut(uri, "://")
	if scheme == "env" {
		if sys.Getenv == nil || sys.Getenv(rest) == "" {
			return nil, &UnsetError{rest}
		}
		return tufrepo.ParseKey([]byte(sys.Getenv(rest)), sys.Passphrase)
	}
	provider := sys.Providers[scheme]
	if provider == nil {
		provider = plugin
	}
	return remote(ctx, uri, provider)
}

var (
	userRE = regexp.MustCompile(`://[^/@\s"']*@`)
	argRE  = regexp.MustCompile(`(?i)([?&;](?:pin-value|pin|password|passphrase|secret)=)[^&;\s"']*`)
)

// Display is a URI, or a text with URIs in it, without what is secret in them.
func Display(text string) string {
	return argRE.ReplaceAllString(userRE.ReplaceAllString(text, "://***@"), "${1}***")
}

const maxText = 1000 // bytes of another's error

// oneLine is another's error on one line: Vault's has eight, and quotes its address.
func oneLine(err error) string {
	text := Display(strings.Join(strings.Fields(strings.TrimPrefix(err.Error(), "tufrepo: ")), " "))
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + " …"
	}
	return text
}
