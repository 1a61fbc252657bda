package refresh

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/fairlead-dev/fairlead/internal/webclient"
)

const (
	defaultTimeout = 10 * time.Second
	defaultTries   = 3
	firstPause     = time.Second // between tries, at most
	maxRetryAfter  = 24 * time.Hour

	maxAnswer = 64 << 10 // what package license reads
	maxToken  = 16 << 10
	maxURL    = 2048
)

// HTTP fetches fresh licences from the issuer's servers. It is a Refresher for the Store of package license. It does not
// change, and may be used concurrently.
type HTTP struct {
	// Hosts are the servers that may see a licence: "licenses.acme.example", which is its port 443, or "HOST:PORT".
	// Exactly these: no wildcards, no subdomains. Compile them in. Required.
	Hosts []string

	// Proxy is the URL of a proxy, "http://USER:PASSWORD@HOST:PORT" (or https, or socks5). "": none, whatever the
	// environment says. [Environment]: what that says. The proxy sees the host's name only.
	Proxy string

	// RootCAs holds certificates of authorities, in PEM, that are accepted besides those of the system.
	RootCAs []byte

	// Timeout bounds Refresh as a whole, from looking the host up to the last byte, tries and pauses included. 0: 10 s.
	Timeout time.Duration

	// Tries is how often the server is asked, if it is busy or cannot be reached. 0: 3.
	Tries int
}

// Environment as HTTP.Proxy means the proxy that HTTPS_PROXY and NO_PROXY name. They are read once a process.
const Environment = "environment"

// Refresh sends token, in its bare form, to the server of address, and returns what that has instead. nil, nil: there is
// nothing newer.
//
// The errors are [*ConfigError], [*URLError] and ErrToken, for which nobody was asked, [*StatusError], [*RedirectError],
// [*AnswerError], [*ProxyError], and those of the network and of ctx.
func (h *HTTP) Refresh(ctx context.Context, address string, token []byte) ([]byte, error) {
	u, err := h.allow(address)
	if err != nil {
		return nil, err
	}
	if !isToken(token) {
		return nil, ErrToken
	}
	timeout := h.Timeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	transport, err := h.transport(ctx)
	if err != nil {
		return nil, err
	}
	fresh, err := h.persist(ctx, func() ([]byte, error) { return ask(ctx, transport, u, string(token)) })
	return fresh, withoutToken(err, string(token))
}

// persist tries again what may pass, until the time or the tries are used up.
func (h *HTTP) persist(ctx context.Context, try func() ([]byte, error)) ([]byte, error) {
	pauses := backoff.NewExponentialBackOff()
	// Full jitter: a pause is between 0 and twice the interval.
	pauses.InitialInterval, pauses.Multiplier, pauses.RandomizationFactor = firstPause/2, 2, 1
	tries := h.Tries
	if tries <= 0 {
		tries = defaultTries
	}
	for {
		fresh, err := try()
		tries--
		if err == nil || tries == 0 || ctx.Err() != nil || !passes(err) {
			return fresh, err
		}
		pause := pauses.NextBackOff()
		var status *StatusError
		if errors.As(err, &status) {
			pause = max(pause, status.RetryAfter)
		}
		if end, _ := ctx.Deadline(); time.Until(end) <= pause {
			return nil, err // it tells when to come back, which is not within this call
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// passes reports whether a failure may be over in a moment.
func passes(err error) bool {
	var (
		status   *StatusError
		redirect *RedirectError
		answer   *AnswerError
		proxy    *ProxyError
		cert     *tls.CertificateVerificationError
		network  *net.OpError
		lookup   *net.DNSError
	)
	switch {
	case errors.As(err, &status):
		return slices.Contains([]int{http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}, status.Status)
	case errors.As(err, &redirect), errors.As(err, &answer), errors.As(err, &proxy), errors.As(err, &cert):
		return false
	case errors.As(err, &lookup):
		return !lookup.IsNotFound
	case errors.As(err, &network):
		return network.Op != "remote error" // a TLS alert
	}
	return true
}

// transport makes connections for one refresh, which end with ctx. Nothing is worth keeping until the next one, tomorrow.
func (h *HTTP) transport(ctx context.Context) (*http.Transport, error) {
	proxy := h.Proxy
	switch proxy {
	case "":
		proxy = webclient.Direct
	case Environment:
		proxy = ""
	}
	via, err := webclient.ProxyFunc(proxy)
	if err != nil {
		return nil, &ConfigError{"Proxy", err}
	}
	roots, err := webclient.RootCAs(h.RootCAs)
	if err != nil {
		return nil, &ConfigError{"RootCAs", err}
	}
	return &http.Transport{
		Proxy:                  via,
		OnProxyConnectResponse: webclient.CheckProxy,
		// The transport goes on dialling when a request is given up, for the next one.
		DialContext: func(_ context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			if err == nil {
				context.AfterFunc(ctx, func() { _ = conn.Close() })
			}
			return conn, err
		},
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxAnswer,
	}, nil
}

// ask sends one request. A transport knows nothing of redirects and cookies, unlike a client.
func ask(ctx context.Context, transport http.RoundTripper, u *url.URL, token string) ([]byte, error) {
	where := webclient.WithoutSecrets(u)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, &URLError{where, "makes no request"}
	}
	req.Header = http.Header{
		"Authorization":   {"Bearer " + token},
		"Accept":          {"application/jwt"},
		"Accept-Encoding": {"identity"}, // a compressed answer could be a small bomb
		"User-Agent":      {"fairlead"}, // no version, no system: nobody needs to know
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, broken(ctx, where, err)
	}
	defer func() { _ = resp.Body.Close() }()
	switch status := resp.StatusCode; {
	case status == http.StatusOK:
		return readAnswer(ctx, resp, where)
	case status == http.StatusNoContent, status == http.StatusNotModified, status == http.StatusNotFound:
		return nil, nil
	case 300 <= status && status < 400:
		return nil, &RedirectError{URL: where, Status: status, To: redirectHost(resp)}
	}
	wait := min(webclient.RetryAfter(resp.Header, time.Now()), maxRetryAfter)
	return nil, &StatusError{URL: where, Status: resp.StatusCode, RetryAfter: wait}
}

func readAnswer(ctx context.Context, resp *http.Response, where string) ([]byte, error) {
	wrong := func(why string) error { return &AnswerError{where, why} }
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	encoding := resp.Header.Get("Content-Encoding")
	switch {
	case kind == "text/html" || kind == "application/xhtml+xml":
		return nil, wrong("is a web page: the server answers so for what it does not have, or something on the way does")
	case encoding != "" && !strings.EqualFold(encoding, "identity"):
		return nil, wrong(fmt.Sprintf("has the encoding %.32q, which was not asked for", encoding))
	case resp.ContentLength > maxAnswer:
		return nil, wrong(fmt.Sprintf("has %d bytes; a licence has at most %d", resp.ContentLength, maxAnswer))
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, broken(ctx, where, err)
	case len(data) > maxAnswer:
		return nil, wrong(fmt.Sprintf("has more than %d bytes", maxAnswer))
	case len(data) == 0:
		return nil, wrong("is empty")
	}
	return data, nil
}

// broken is an error of the network.
func broken(ctx context.Context, where string, err error) error {
	if ctx.Err() != nil { // that is why, whatever it looks like
		return fmt.Errorf("refresh: %s: no answer in time: %w", where, ctx.Err())
	}
	return fmt.Errorf("refresh: %s: %w", where, err)
}

func redirectHost(resp *http.Response) string {
	to, err := resp.Location()
	if err != nil {
		return ""
	}
	return to.Host
}

// allow reads a URL, and checks that its server is one of ours.
func (h *HTTP) allow(address string) (*url.URL, error) {
	ours, err := h.origins()
	if err != nil {
		return nil, err
	}
	if len(address) > maxURL {
		return nil, &URLError{"", fmt.Sprintf("is longer than %d bytes", maxURL)}
	}
	u, err := url.Parse(address)
	if err != nil { // the parser's error repeats a password
		return nil, &URLError{"", "cannot be parsed"}
	}
	where := webclient.WithoutSecrets(u)
	switch {
	case u.Scheme != "https":
		return nil, &URLError{where, "is not an https URL: a licence is not sent in the clear"}
	case u.User != nil:
		return nil, &URLError{where, "has a user name or a password: the token is all that is shown"}
	case u.Fragment != "":
		return nil, &URLError{where, "has a fragment"}
	}
	at, ok := origin(u)
	switch {
	case !ok:
		return nil, &URLError{where, "has no host of letters, digits, dots and hyphens"}
	case !slices.Contains(ours, at):
		return nil, &URLError{where, "is on a server that is not one of this app's (" + strings.Join(h.Hosts, ", ") + ")"}
	}
	return u, nil
}

// origins are where Hosts lead to.
func (h *HTTP) origins() ([]string, error) {
	if len(h.Hosts) == 0 {
		return nil, &ConfigError{"Hosts", errors.New("is empty: say which servers may see a licence")}
	}
	var list []string
	for _, entry := range h.Hosts {
		u, err := url.Parse("https://" + entry)
		if err != nil || u.Host != entry {
			return nil, &ConfigError{"Hosts", fmt.Errorf("has %q, which is not HOST or HOST:PORT", entry)}
		}
		at, ok := origin(u)
		if !ok {
			return nil, &ConfigError{"Hosts", fmt.Errorf("has %q, which is not HOST or HOST:PORT", entry)}
		}
		list = append(list, at)
	}
	return list, nil
}

// origin is where a URL leads to, in one spelling. Only ASCII: what else stands for a letter (the Kelvin sign is a k) is for
// others to know.
func origin(u *url.URL) (hostPort string, ok bool) {
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if port == "" {
		if strings.HasSuffix(u.Host, ":") {
			return "", false
		}
		port = "443"
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || host == "" || strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789.-:_") != "" || !isASCII(u.Host) {
		return "", false
	}
	return net.JoinHostPort(host, strconv.FormatUint(n, 10)), true
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 })
}

// isToken keeps out what would be a header of its own, and what is no token.
func isToken(token []byte) bool {
	return len(token) > 0 && len(token) <= maxToken && !slices.ContainsFunc(token, func(c byte) bool {
		return (c < 'a' || 'z' < c) && (c < 'A' || 'Z' < c) && (c < '0' || '9' < c) && c != '-' && c != '_' && c != '.'
	})
}
