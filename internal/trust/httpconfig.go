package trust

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/fairlead-dev/fairlead/internal/webclient"
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

// A ProxyError says that a proxy refused to pass a request on.
type ProxyError = webclient.ProxyError

// HTTPWith is HTTP with a configuration. Its errors are *[HTTPConfigError].
func HTTPWith(baseURL string, cfg HTTPConfig) (Source, error) {
	base, err := parseBase(baseURL)
	if err != nil {
		return nil, &HTTPConfigError{"BaseURL", err}
	}
	t := newTransport()
	if t.Proxy, err = webclient.ProxyFunc(cfg.Proxy); err != nil {
		return nil, &HTTPConfigError{"Proxy", err}
	}
	if len(cfg.Certificates) > 0 && isHTTPS(cfg.Proxy) {
		return nil, &HTTPConfigError{"Certificates", errors.New("would be shown to the https proxy, too, if it asks: use an http proxy, or none")}
	}
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: slices.Clone(cfg.Certificates)}
	if t.TLSClientConfig.RootCAs, err = webclient.RootCAs(cfg.RootCAs); err != nil {
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
const Direct = webclient.Direct

func isHTTPS(proxy string) bool {
	u, err := url.Parse(proxy)
	return err == nil && u.Scheme == "https"
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
