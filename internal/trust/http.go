package trust

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const maxRedirects = 5

// StatusError says that an HTTP server answered with a status that is neither success nor absence. URL has no
// password and no query.
type StatusError struct {
	Status int
	URL    string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s: status %d %s", e.URL, e.Status, http.StatusText(e.Status))
}

// HTTP makes a source of the files below baseURL, an http or https URL without query and fragment.
//
// client may be nil: then one is made that waits no longer than 30 s for a connection or an answer's header and
// uses the proxy that the environment names; how long a body may take is not limited, as whoever reads watches its
// progress. A given client is not changed, but its redirect policy is not used: a redirect is followed only on
// the same host, never from https to http, and at most five times, so that a mirror can not make its clients
// fetch from elsewhere.
//
// The statuses 403, 404 and 410 mean absent: object stores answer 403 for a missing file to whoever may not list.
// Everything else but success is a *[StatusError].
func HTTP(baseURL string, client *http.Client) (Source, error) {
	u, err := url.Parse(baseURL)
	if err != nil {
		return nil, errors.New("trust: the source's base URL can not be parsed") // the parser's error repeats a password
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.Opaque != "":
		return nil, fmt.Errorf("trust: the source's base URL %s is not an http or https URL with a host", u.Redacted())
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, fmt.Errorf("trust: the source's base URL %s has a query or fragment, a plain prefix is needed", withoutSecrets(u))
	}
	own := http.Client{Transport: newTransport()}
	if client != nil {
		own = *client
	}
	own.CheckRedirect = checkRedirect
	return &httpSource{base: u, client: &own}, nil
}

func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   4,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   30 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
		ExpectContinueTimeout: time.Second,
	}
}

func checkRedirect(next *http.Request, via []*http.Request) error {
	first := via[0].URL
	switch {
	case len(via) > maxRedirects:
		return fmt.Errorf("more than %d redirects", maxRedirects)
	case next.URL.Host != first.Host:
		return fmt.Errorf("redirect to another host, %s", next.URL.Host)
	case next.URL.Scheme != first.Scheme && next.URL.Scheme != "https":
		return errors.New("redirect from https to http")
	}
	return nil
}

type httpSource struct {
	base   *url.URL
	client *http.Client
}

func (s *httpSource) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	// JoinPath cleans; the valid names above have nothing to clean, and each element is escaped before.
	elems := strings.Split(name, "/")
	for i := range elems {
		elems[i] = url.PathEscape(elems[i])
	}
	u := s.base.JoinPath(elems...)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	// What arrives is hashed as it is; a compressed answer could also be a small bomb.
	req.Header.Set("Accept-Encoding", "identity")
	if offset > 0 {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(offset, 10)+"-")
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	if err := checkResponse(resp, offset); err != nil {
		// A short rest is read so that the connection can be used again.
		_, _ = io.CopyN(io.Discard, resp.Body, 4096)
		_ = resp.Body.Close()
		return nil, err
	}
	if offset > 0 && resp.StatusCode == http.StatusOK {
		if _, err := io.CopyN(io.Discard, resp.Body, offset); err != nil {
			_ = resp.Body.Close()
			return nil, fmt.Errorf("skip to byte %d: %w", offset, err)
		}
	}
	return resp.Body, nil
}

func checkResponse(resp *http.Response, offset int64) error {
	where := withoutSecrets(resp.Request.URL)
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusPartialContent:
		want := "bytes " + strconv.FormatInt(offset, 10) + "-"
		if got := resp.Header.Get("Content-Range"); offset == 0 || !strings.HasPrefix(got, want) {
			return fmt.Errorf("%s: asked for bytes from %d, got %q", where, offset, got)
		}
	case http.StatusForbidden, http.StatusNotFound, http.StatusGone:
		return fmt.Errorf("%s: status %d: %w", where, resp.StatusCode, fs.ErrNotExist)
	default:
		return &StatusError{Status: resp.StatusCode, URL: where}
	}
	if enc := resp.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return fmt.Errorf("%s: the answer has encoding %q, which was not asked for", where, enc)
	}
	return nil
}

func withoutSecrets(u *url.URL) string {
	c := *u
	c.User, c.RawQuery, c.ForceQuery, c.Fragment = nil, "", false, ""
	return c.String()
}
