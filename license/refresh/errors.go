package refresh

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/fairlead-dev/fairlead/internal/webclient"
)

var (
	// ErrRefused: the issuer does not renew this licence, or does not know it. Trying again does not help.
	ErrRefused = errors.New("the issuer refuses to renew this licence: ask the vendor")

	// ErrEnded: the issuer says that there will be no renewal any more. It is not signed, so the licence goes on to its own
	// end all the same.
	ErrEnded = errors.New("the issuer says that this licence has ended: ask the vendor")

	// ErrToken: what was to be sent is not a token in its bare form.
	ErrToken = errors.New("refresh: the licence to be renewed is not a bare token: give it without armour and white space")
)

// A ConfigError says which field of HTTP cannot be used. It holds no secret.
type ConfigError struct {
	Field string
	Err   error
}

func (e *ConfigError) Error() string { return "refresh: HTTP." + e.Field + " " + e.Err.Error() }
func (e *ConfigError) Unwrap() error { return e.Err }

// A URLError says why a URL was not asked.
type URLError struct {
	URL string // without secrets; "": it could not even be read
	Why string
}

func (e *URLError) Error() string {
	return strings.ReplaceAll(fmt.Sprintf("refresh: the URL %s %s", e.URL, e.Why), "  ", " ")
}

// A StatusError is an answer other than success. It is ErrRefused or ErrEnded for errors.Is, where it says so.
type StatusError struct {
	URL    string // without secrets
	Status int

	// RetryAfter is how long the server wishes to be left alone, at most a day. 0: it did not say.
	RetryAfter time.Duration
}

func (e *StatusError) Error() string {
	text := strings.TrimRight(fmt.Sprintf("refresh: %s: status %d %s", e.URL, e.Status, http.StatusText(e.Status)), " ")
	if err := e.Unwrap(); err != nil {
		text += ": " + err.Error()
	}
	if e.RetryAfter > 0 {
		text += fmt.Sprintf(", try again in %s", e.RetryAfter)
	}
	return text
}

// Unwrap returns ErrRefused, ErrEnded or nil.
func (e *StatusError) Unwrap() error {
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return ErrRefused
	case http.StatusGone:
		return ErrEnded
	}
	return nil
}

// A RedirectError says that the server, or something on the way to it, sent this client elsewhere. The token did not go
// there.
type RedirectError struct {
	URL    string // without secrets
	Status int
	To     string // host and port; "": not said
}

func (e *RedirectError) Error() string {
	return fmt.Sprintf("refresh: %s: status %d, a redirect to %q: it is not followed, as the licence would go with it; "+
		"the vendor has to name the right URL in the licence", e.URL, e.Status, e.To)
}

// An AnswerError says that a successful answer cannot be a licence. Nothing of it is kept.
type AnswerError struct {
	URL string // without secrets
	Why string
}

func (e *AnswerError) Error() string { return fmt.Sprintf("refresh: %s: the answer %s", e.URL, e.Why) }

// A ProxyError says that the proxy refused to pass the request on.
type ProxyError = webclient.ProxyError

// withoutToken keeps an error from repeating the token: a server can send it back as a part of anything, and errors of the
// network quote what they do not understand.
func withoutToken(err error, token string) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	for part := range strings.SplitSeq(token, ".") {
		if len(part) >= 16 && strings.Contains(text, part[:16]) {
			return errors.New("refresh: the server's answer cannot be understood; it repeats the licence, so it is not shown")
		}
	}
	return err
}
