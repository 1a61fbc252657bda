// Package webclient has what every client of a web server here needs: proxies, certificate authorities, when to try again,
// and URLs that can be shown.
package webclient

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ProxyError says that a proxy refused to pass a request on.
type ProxyError struct {
	Proxy  string // without secrets; "": the proxy of the environment or the configuration
	Status int
}

func (e *ProxyError) Error() string {
	text := fmt.Sprintf("the proxy %s answers with status %d %s", e.Proxy, e.Status, http.StatusText(e.Status))
	if e.Status == http.StatusProxyAuthRequired {
		text += ": it wants a user name and a password, or others"
	}
	return strings.ReplaceAll(text, "  ", " ")
}

// CheckProxy judges the answer to CONNECT, as http.Transport.OnProxyConnectResponse.
func CheckProxy(_ context.Context, proxy *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	return &ProxyError{Proxy: WithoutSecrets(proxy), Status: resp.StatusCode}
}

// Direct as a proxy means none, whatever the environment says.
const Direct = "direct"

// ProxyFunc reads the URL of a proxy: "" is what the environment names (read once a process), Direct is none. Its error holds no secret.
func ProxyFunc(proxy string) (func(*http.Request) (*url.URL, error), error) {
	switch proxy {
	case "":
		return http.ProxyFromEnvironment, nil
	case Direct:
		return nil, nil
	}
	u, err := url.Parse(proxy)
	if err != nil {
		return nil, errors.New("is no URL: use http://[USER:PASSWORD@]HOST:PORT") // the parser's error repeats a password
	}
	if !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%s is not of the form http://[USER:PASSWORD@]HOST:PORT (or https, socks5)", u.Redacted())
	}
	return http.ProxyURL(u), nil
}

// RootCAs adds certificates to those of the system. nil means the system's alone.
func RootCAs(pem []byte) (*x509.CertPool, error) {
	if len(pem) == 0 {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("the system's certificates cannot be read: %w", err)
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("holds no certificate in PEM")
	}
	return pool, nil
}

// RetryAfter reads the header, in either of its forms (RFC 9110, section 10.2.3). A date is compared with the server's own
// clock where it tells it.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.ParseInt(text, 10, 32); err == nil {
		return max(0, time.Duration(seconds)*time.Second)
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return max(0, at.Sub(now))
}

// WithoutSecrets is a URL without user, password, query and fragment.
func WithoutSecrets(u *url.URL) string {
	c := *u
	c.User, c.RawQuery, c.ForceQuery, c.Fragment = nil, "", false, ""
	return c.String()
}
