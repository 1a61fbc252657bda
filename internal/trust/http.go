package trust

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-dev/fairlead/internal/webclient"
)

const maxRedirects = 5

// StatusError says that an HTTP server answered with a status that is neither success nor absence. URL has no
// password and no query.
type StatusError struct {
	Status int
	URL    string
	// RetryAfter is how long the server wishes to be left alone (RFC 9110, section 10.2.3). 0: it did not say.
	RetryAfter time.Duration
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("%s: status %d %s", e.URL, e.Status, http.StatusText(e.Status))
	if e.RetryAfter > 0 {
		text += fmt.Sprintf(", try again in %s", e.RetryAfter)
	}
	return text
}

// PortalError says that a web page came instead of a file: most likely the login page of a network (a captive portal),
// else a server that answers for missing files with a page. Nothing of it was kept.
type PortalError struct {
	URL    string // that was asked for, without secrets
	Status int
	Length int64 // of the page; negative: not known
}

func (e *PortalError) Error() string {
	return fmt.Sprintf("%s: a web page (status %d) came instead of the file: log in to the network (captive portal) with a browser and try again, or mend the server that answers so", e.URL, e.Status)
}

// RedirectError says that a server, or something on the way to it, sent this client elsewhere. It was not followed.
type RedirectError struct {
	From, To string // without secrets; To is only a host where that is what differs
	Why      string
}

func (e *RedirectError) Error() string {
	return fmt.Sprintf("%s: %s: a mirror may not send its clients elsewhere; in a network with a login page (captive portal), log in and try again", e.From, e.Why)
}

// HTTP makes a source of the files below baseURL, an http or https URL without query and fragment.
//
// client may be nil: then one is made that waits no longer than 30 s for a connection or an answer's header and
// uses the proxy that the environment names; how long a body may take is not limited, as whoever reads watches its
// progress. A given client is not changed, but its redirect policy is not used: a redirect is followed only on
// the same host, never from https to http, and at most five times, so that a mirror can not make its clients
// fetch from elsewhere; user name and password are not sent along.
//
// The statuses 403, 404 and 410 mean absent: object stores answer 403 for a missing file to whoever may not list.
// Everything else but success is a *[StatusError]; a web page in place of a file is a *[PortalError].
func HTTP(baseURL string, client *http.Client) (Source, error) {
	u, err := parseBase(baseURL)
	if err != nil {
		return nil, err
	}
	own := http.Client{Transport: newTransport()}
	if client != nil {
		own = *client
	}
	return newHTTPSource(u, own, nil), nil
}

func newHTTPSource(base *url.URL, client http.Client, header http.Header) *httpSource {
	s := &httpSource{base: base, header: header}
	client.CheckRedirect = s.checkRedirect
	s.client = &client
	return s
}

func parseBase(baseURL string) (*url.URL, error) {
	u, err := url.Parse(baseURL)
	if err != nil {
		return nil, errors.New("trust: the source's base URL can not be parsed") // the parser's error repeats a password
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.Opaque != "":
		return nil, fmt.Errorf("trust: the source's base URL %s is not an http or https URL with a host", u.Redacted())
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, fmt.Errorf("trust: the source's base URL %s has a query or fragment, a plain prefix is needed", webclient.WithoutSecrets(u))
	}
	return u, nil
}

func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		OnProxyConnectResponse: webclient.CheckProxy,
		DialContext:            (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    4,
		IdleConnTimeout:        90 * time.Second,
		TLSHandshakeTimeout:    30 * time.Second,
		ResponseHeaderTimeout:  30 * time.Second,
		ExpectContinueTimeout:  time.Second,
		ReadBufferSize:         64 << 10,
	}
}

// checkRedirect follows few redirects, and takes no secret along: whoever can make a server redirect could otherwise
// have them sent to another place on it.
func (s *httpSource) checkRedirect(next *http.Request, via []*http.Request) error {
	first := via[0].URL
	refuse := func(to, why string) error {
		return &RedirectError{From: webclient.WithoutSecrets(first), To: to, Why: why}
	}
	switch {
	case len(via) > maxRedirects:
		return refuse(webclient.WithoutSecrets(next.URL), fmt.Sprintf("more than %d redirects", maxRedirects))
	case next.URL.Host != first.Host:
		return refuse(next.URL.Host, "redirect to another host, "+next.URL.Host)
	case next.URL.Scheme != first.Scheme && next.URL.Scheme != "https":
		return refuse(webclient.WithoutSecrets(next.URL), "redirect from https to http")
	}
	next.URL.User = nil
	next.Header.Del("Authorization")
	for name := range s.header {
		next.Header.Del(name)
	}
	return nil
}

type httpSource struct {
	base   *url.URL
	client *http.Client
	header http.Header // secrets for the host of base
}

func (s *httpSource) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	b, err := s.OpenRange(ctx, Range{Name: name, Offset: offset})
	if err != nil {
		return nil, err
	}
	if b.Offset < offset {
		if _, err := io.CopyN(io.Discard, b, offset-b.Offset); err != nil {
			_ = b.Close()
			return nil, fmt.Errorf("skip to byte %d: %w", offset, err)
		}
	}
	return b.ReadCloser, nil
}

// get asks for a file.
func (s *httpSource) get(ctx context.Context, r Range) (*http.Response, error) {
	if !fs.ValidPath(r.Name) {
		return nil, &fs.PathError{Op: "open", Path: r.Name, Err: fs.ErrInvalid}
	}
	// JoinPath cleans; the valid names above have nothing to clean, and each element is escaped before.
	elems := strings.Split(r.Name, "/")
	for i := range elems {
		elems[i] = url.PathEscape(elems[i])
	}
	u := s.base.JoinPath(elems...)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for name, values := range s.header {
		req.Header[name] = values
	}
	// What arrives is hashed as it is; a compressed answer could also be a small bomb.
	req.Header.Set("Accept-Encoding", "identity")
	if r.Offset > 0 {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(r.Offset, 10)+"-")
		if r.Past != "" {
			req.Header.Set("If-Range", r.Past)
		}
	}
	return s.client.Do(req)
}

func checkResponse(resp *http.Response, r Range) error {
	where := webclient.WithoutSecrets(resp.Request.URL)
	switch resp.StatusCode {
	case http.StatusOK:
		if err := checkWhole(resp, r.Length, where); err != nil {
			return err
		}
	case http.StatusPartialContent:
		if err := checkPart(resp.Header, r, where); err != nil {
			return err
		}
	case http.StatusForbidden, http.StatusNotFound, http.StatusGone:
		return fmt.Errorf("%s: status %d: %w", where, resp.StatusCode, fs.ErrNotExist)
	case http.StatusProxyAuthRequired:
		return &webclient.ProxyError{Status: resp.StatusCode}
	case http.StatusNetworkAuthenticationRequired: // RFC 6585, section 6
		return &PortalError{URL: where, Status: resp.StatusCode, Length: resp.ContentLength}
	default:
		return &StatusError{Status: resp.StatusCode, URL: where, RetryAfter: webclient.RetryAfter(resp.Header, time.Now())}
	}
	if enc := resp.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return fmt.Errorf("%s: the answer has encoding %q, which was not asked for", where, enc)
	}
	return nil
}

// checkWhole looks at an answer before its body is read: it may be a page, or have another length than the file. A page of
// just the right length may be the file, such as release notes: its hash decides.
func checkWhole(resp *http.Response, length int64, where string) error {
	fits := length > 0 && resp.ContentLength == length
	switch kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); {
	case (kind == "text/html" || kind == "application/xhtml+xml") && !fits:
		return &PortalError{URL: where, Status: resp.StatusCode, Length: resp.ContentLength}
	case length > 0 && resp.ContentLength >= 0 && !fits:
		return &LengthError{URL: where, Got: resp.ContentLength, Want: length}
	}
	return nil
}
