//go:build !nos3

package s3store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/fairlead-dev/fairlead/tufrepo"
)

// An AddressError says what is wrong with an address.
type AddressError struct {
	Detail string
	hint   string
}

func (e *AddressError) Error() string { return "the address of the repository: " + e.Detail }

// Hint says what to do next.
func (e *AddressError) Hint() string { return e.hint }

// An Error says what the server, or the way to it, refused.
type Error struct {
	Op   string // read, write, …
	Name string // the file
	Err  error
	hint string
}

func (e *Error) Error() string { return fmt.Sprintf("cannot %s %s: %s", e.Op, e.Name, plainly(e.Err)) }

func (e *Error) Unwrap() error { return e.Err }

// Hint says what to do next.
func (e *Error) Hint() string { return e.hint }

// plainly leaves out what the SDK wraps around an error: operations, request ids, attempts.
func plainly(err error) string {
	var api smithy.APIError
	var answer *awshttp.ResponseError
	switch {
	case errors.As(err, &api) && errors.As(err, &answer):
		text := strings.TrimSpace(api.ErrorCode() + ": " + api.ErrorMessage())
		return fmt.Sprintf("%s (status %d)", strings.TrimSuffix(text, ":"), answer.HTTPStatusCode())
	case errors.As(err, &api):
		return api.ErrorCode() + ": " + api.ErrorMessage()
	}
	var op *smithy.OperationError
	if errors.As(err, &op) {
		return op.Err.Error()
	}
	return err.Error()
}

func status(err error) int {
	var answer *awshttp.ResponseError
	if errors.As(err, &answer) {
		return answer.HTTPStatusCode()
	}
	return 0
}

func hasCode(err error, codes ...string) bool {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return false
	}
	for _, c := range codes {
		if api.ErrorCode() == c {
			return true
		}
	}
	return false
}

// refused reports whether a write's condition was not met. A file that must be at a revision and is gone is not found.
func refused(err error, cond tufrepo.Condition) bool {
	return status(err) == http.StatusPreconditionFailed || cond.Revision() != "" && hasCode(err, "NoSuchKey", "NotFound")
}

const againHint = "run the same command again: it is safe, and goes on where this one stopped"

// failed makes an error of what the SDK returned.
func (s *Store) failed(op, name string, err error) error {
	var ours *Error
	var address *AddressError
	code := status(err)
	switch {
	case errors.As(err, &ours):
		return err
	case errors.As(err, &address):
		return address
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) && code == 0:
		return fmt.Errorf("%s %s: %w", op, name, err)
	case hasCode(err, "NoSuchBucket"):
		return &Error{op, name, err, "make the bucket " + s.at.Bucket + ", or correct --repo"}
	case code == http.StatusNotFound && op != "write":
		return &fs.PathError{Op: op, Path: s.at.String() + "/" + name, Err: fs.ErrNotExist}
	}
	hint := s.hint(code, err)
	if hint == againHint && op == "write" && (code < 400 || code >= 500) && !strings.HasPrefix(name, "blobs/") { // the answer was lost
		hint = "it may have been written all the same: run the same command again, it is safe"
	}
	return &Error{op, name, err, hint}
}

func (s *Store) hint(code int, err error) string {
	switch {
	case hasCode(err, "SignatureDoesNotMatch", "InvalidAccessKeyId", "ExpiredToken", "InvalidToken", "ExpiredTokenException"):
		return "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or the profile"
	case code == http.StatusForbidden:
		return "docs/publish.md lists the permissions that are needed; without s3:ListBucket a file that is not there is refused, too"
	case code == http.StatusMovedPermanently || code == http.StatusTemporaryRedirect || hasCode(err, "AuthorizationHeaderMalformed", "PermanentRedirect"):
		return "the bucket is in another region: correct region= in --repo"
	case code == http.StatusNotImplemented:
		return "the server lacks what publish needs: conditional writes, and multipart uploads with SHA-256; docs/publish.md names some that do"
	case strings.Contains(err.Error(), "get credentials") || strings.Contains(err.Error(), "get identity"):
		return "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run where a role is assumed"
	}
	return againHint
}
