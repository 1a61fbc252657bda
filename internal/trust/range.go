package trust

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-dev/fairlead/internal/webclient"
)

// Ranged is found by assertion on a [Source] that can tell whether a file that it began to deliver before is still the
// same. The others are asked for the rest of a file by Open, and the hash of the whole decides.
type Ranged interface {
	Source
	// OpenRange opens a file. Its errors are those of Open; nothing of an answer that is no part of a file of r.Length
	// bytes is delivered.
	OpenRange(ctx context.Context, r Range) (Body, error)
	// Origin names where the files come from: the same in every process, and without secrets.
	Origin() string
}

// A Range is what is wanted of a file.
type Range struct {
	Name   string
	Offset int64  // of the first byte that is wanted
	Length int64  // of the whole file, as signed; 0: not known
	Past   string // the validator that the bytes before Offset came with; "": not known
}

// A Body is the answer to a Range.
type Body struct {
	io.ReadCloser
	// Offset is that of the first byte: the one that was asked for, or 0 when the server does not do ranges or has
	// another file by now.
	Offset int64
	// Validator names this version of the file: a strong entity tag in its quotes, or a date that is as good; "" where
	// the server gave neither (RFC 9110, sections 8.8 and 13.1.5).
	Validator string
	// Changed says that this is not the file that the bytes before Range.Offset are of.
	Changed bool
}

// OpenRange implements Ranged, with Range and If-Range (RFC 9110, sections 14.2 and 13.1.5). A 416 answer, and a 206
// answer from another version of the file in spite of If-Range, are followed by a request for the whole file.
func (s *httpSource) OpenRange(ctx context.Context, r Range) (Body, error) {
	if !isValidator(r.Past) {
		r.Past = ""
	}
	resp, err := s.get(ctx, r)
	if err != nil {
		return Body{}, err
	}
	again := resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && r.Offset > 0
	if resp.StatusCode == http.StatusPartialContent {
		now := validator(resp.Header)
		again = r.Past != "" && now != "" && now != r.Past
	}
	if again {
		hangUp(resp)
		r.Offset = 0
		if resp, err = s.get(ctx, r); err != nil {
			return Body{}, err
		}
	}
	if err := checkResponse(resp, r); err != nil {
		hangUp(resp)
		return Body{}, err
	}
	b := Body{ReadCloser: resp.Body, Validator: validator(resp.Header), Changed: again}
	if resp.StatusCode == http.StatusPartialContent {
		b.Offset = r.Offset
		if b.Validator == "" {
			b.Validator = r.Past // which it was sent on condition of
		}
	} else if r.Past != "" && b.Validator != "" && b.Validator != r.Past {
		b.Changed = true
	}
	return b, nil
}

// hangUp ends an answer that is of no use. A short rest is read so that the connection can be used again.
func hangUp(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 4096)
	_ = resp.Body.Close()
}

func (s *httpSource) Origin() string { return webclient.WithoutSecrets(s.base) }

// A date proves nothing about a file that was changed twice within its second. If the answer was made a minute later than
// the file, on the same clock, it was not (RFC 9110, section 8.8.2.2).
const strongAfter = time.Minute

// validator returns a strong validator of an answer, or "".
func validator(h http.Header) string {
	if tag := h.Get("ETag"); tag != "" {
		if isEntityTag(tag) {
			return tag
		}
		return "" // where there is a tag, a date may not stand in for it (RFC 9110, section 13.1.5)
	}
	modified, err := http.ParseTime(h.Get("Last-Modified"))
	if err != nil {
		return ""
	}
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil || date.Sub(modified) < strongAfter {
		return ""
	}
	return h.Get("Last-Modified")
}

// isValidator reports whether v may be sent as If-Range. It may have been read from a disk.
func isValidator(v string) bool {
	_, err := http.ParseTime(v)
	return err == nil || isEntityTag(v)
}

// isEntityTag reports whether v is a strong entity tag (RFC 9110, section 8.8.3).
func isEntityTag(v string) bool {
	if len(v) < 2 || len(v) > 1024 || v[0] != '"' || v[len(v)-1] != '"' {
		return false
	}
	return !strings.ContainsFunc(v[1:len(v)-1], func(r rune) bool { return r <= ' ' || r == '"' || r == 0x7f })
}

// checkPart compares the Content-Range of a 206 answer with what was asked for (RFC 9110, section 14.4).
func checkPart(h http.Header, r Range, where string) error {
	got := h.Get("Content-Range")
	wrong := &RangeError{URL: where, Offset: r.Offset, Length: r.Length, Got: got}
	rest, found := strings.CutPrefix(got, "bytes ")
	span, total, slash := strings.Cut(rest, "/")
	from, to, dash := strings.Cut(span, "-")
	if !found || !slash || !dash || r.Offset == 0 {
		return wrong
	}
	first, err1 := strconv.ParseInt(from, 10, 64)
	last, err2 := strconv.ParseInt(to, 10, 64)
	if err1 != nil || err2 != nil || first != r.Offset || last < first {
		return wrong
	}
	whole, err := strconv.ParseInt(total, 10, 64)
	switch {
	case total == "*":
	case err != nil, last >= whole, r.Length > 0 && whole != r.Length:
		return wrong
	}
	if r.Length > 0 && last >= r.Length {
		return wrong
	}
	return nil
}

// A RangeError says that a server sent another part of a file than the one that was asked for, or a part of another file.
type RangeError struct {
	URL    string // without secrets
	Offset int64  // that was asked for
	Length int64  // of the whole file, as signed; 0: not known
	Got    string // the answer's Content-Range
}

func (e *RangeError) Error() string {
	return fmt.Sprintf("%s: asked for the bytes from %d of %d on, the answer has Content-Range %q: the mirror is broken, or has another file", e.URL, e.Offset, e.Length, e.Got)
}

// A LengthError says that a server has a file of another length than the signed one. Nothing of it was read.
type LengthError struct {
	URL       string // without secrets
	Got, Want int64  // bytes
}

func (e *LengthError) Error() string {
	return fmt.Sprintf("%s: has %d bytes, %d are signed: the mirror is broken, or something on the way answers in its place", e.URL, e.Got, e.Want)
}
