package license

import "fmt"

// A Code says why a token was refused. It is an error, so that errors.Is(err, license.ErrUnknownKey) works; its
// text is stable, and apps and support tools may match it.
type Code string

// The codes, in the order in which Parse asks.
const (
	ErrMalformed          Code = "malformed"           // not a token: too long, wrong alphabet, no JSON, duplicate members
	ErrHeader             Code = "header"              // a header other than exactly alg, typ and kid as a licence has them
	ErrUnknownKey         Code = "unknown_key"         // issued with a key this app does not know: check for updates, or update the app
	ErrBadSignature       Code = "bad_signature"       // altered, or signed by somebody else
	ErrUnsupportedVersion Code = "unsupported_version" // genuine, in a newer format: update the app
	ErrWrongIssuer        Code = "wrong_issuer"        // genuine, from another issuer
	ErrWrongProduct       Code = "wrong_product"       // genuine, for another product
	ErrClaims             Code = "claims"              // genuine, but a claim is missing or cannot be
	ErrKeyPeriod          Code = "key_period"          // issued at a time for which its key does not speak
)

func (c Code) Error() string { return "license: " + string(c) }

// A TokenError says why a token was refused, or why none could be issued. No text in it contains the token, so
// it may be logged and shown.
type TokenError struct {
	Code   Code
	Detail string // a sentence for people, without the package's name
	Err    error  // the cause, if another package found it
}

func (e *TokenError) Error() string {
	if e.Err != nil {
		return "license: " + e.Detail + ": " + e.Err.Error()
	}
	return "license: " + e.Detail
}

// Unwrap returns the code and the cause.
func (e *TokenError) Unwrap() []error {
	if e.Err != nil {
		return []error{e.Code, e.Err}
	}
	return []error{e.Code}
}

func refuse(code Code, format string, args ...any) *TokenError {
	return &TokenError{Code: code, Detail: fmt.Sprintf(format, args...)}
}
