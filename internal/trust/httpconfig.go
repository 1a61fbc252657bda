package trust

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// HTTPConfig says how a server is reached. Its fields are described at update.HTTPConfig.
type HTTPConfig struct {
	Proxy                string
	RootCAs              []byte
	Certificates         []tls.Certificate
	Header               http.Header
	InsecureHeaderOnHTTP bool
}

// HTTPConfigError says which field of an HTTPConfig cannot be used.
type HTTPConfigError struct {
	Field string
	Err   error
}

func (e *HTTPConfigError) Error() string {
	return "trust: HTTPConfig." + e.Field + ": " + e.Err.Error()
}
func (e *HTTPConfigError) Unwrap() error { return e.Err }

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

// checkProxy judges the answer to CONNECT.
func checkProxy(_ context.Context, proxy *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	return &ProxyError{Proxy: withoutSecrets(proxy), Status: resp.StatusCode}
}

// HTTPWith is HTTP with a configuration. Its errors are *[HTTPConfigError].
func HTTPWith(baseURL string, cfg HTTPConfig) (Source, error) {
	base, err := parseBase(baseURL)
	if err != nil {
		return nil, &HTTPConfigError{"BaseURL", err}
	}
	t := newTransport()
	if t.Proxy, err = proxyFunc(cfg.Proxy); err != nil {
		return nil, &HTTPConfigError{"Proxy", err}
	}
	if len(cfg.Certificates) > 0 && isHTTPS(cfg.Proxy) {
		return nil, &HTTPConfigError{"Certificates", errors.New("would be shown to the https proxy, too, if it asks: use an http proxy, or none")}
	}
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: slices.Clone(cfg.Certificates)}
	if t.TLSClientConfig.RootCAs, err = rootCAs(cfg.RootCAs); err != nil {
		return nil, &HTTPConfigError{"RootCAs", err}
	}
	for _, c := range cfg.Certificates {
		if len(c.Certificate) == 0 || c.PrivateKey == nil {
			return nil, &HTTPConfigError{"Certificates", errors.New("one has no certificate or no private key: use tls.LoadX509KeyPair")}
		}
	}
	if err := checkOwnHeader(cfg.Header); err != nil {
		return nil, &HTTPConfigError{"Header", err}
	}
	if len(cfg.Header) > 0 && base.Scheme != "https" && !cfg.InsecureHeaderOnHTTP {
		return nil, &HTTPConfigError{"Header", errors.New("would be sent in the clear: use an https URL, or set InsecureHeaderOnHTTP")}
	}
	header := http.Header{}
	for name, values := range cfg.Header {
		header[http.CanonicalHeaderKey(name)] = slices.Clone(values)
	}
	return newHTTPSource(base, http.Client{Transport: t}, header), nil
}

// Direct as HTTPConfig.Proxy means none, whatever the environment says.
const Direct = "direct"

func proxyFunc(proxy string) (func(*http.Request) (*url.URL, error), error) {
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

func isHTTPS(proxy string) bool {
	u, err := url.Parse(proxy)
	return err == nil && u.Scheme == "https"
}

// rootCAs adds certificates to those of the system. nil means the system's alone.
func rootCAs(pem []byte) (*x509.CertPool, error) {
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

// isOurs reports whether a header is one that requests are made of, and that nobody else may set.
func isOurs(name string) bool {
	switch name {
	case "Accept-Encoding", "Connection", "Content-Length", "Host", "If-Range", "Proxy-Authorization", "Range", "Transfer-Encoding":
		return true
	}
	return false
}

func checkOwnHeader(h http.Header) error {
	for name, values := range h {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return !isTokenRune(r) }) {
			return fmt.Errorf("%q is no name of a header", name)
		}
		if isOurs(http.CanonicalHeaderKey(name)) {
			return fmt.Errorf("%s is not for the app to set", http.CanonicalHeaderKey(name))
		}
		for _, v := range values {
			if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
				return fmt.Errorf("the value of %s holds a control character", name)
			}
		}
	}
	return nil
}

// isTokenRune is RFC 9110, section 5.6.2.
func isTokenRune(r rune) bool {
	return r > ' ' && r < 0x7f && !strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}
