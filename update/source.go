package update

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"net/http"

	"github.com/fairlead-dev/fairlead/internal/trust"
)

// HTTP reads a repository from a web server or a bucket. client may be nil: then proxies come from the environment
// (HTTP_PROXY, HTTPS_PROXY, NO_PROXY) and connecting, TLS and response headers have time limits. Redirects to
// another host or from https to http are refused in any case; client itself is not changed.
func HTTP(baseURL string, client *http.Client) (Source, error) { return trust.HTTP(baseURL, client) }

// HTTPConfig says how a web server is reached. The zero value is that of HTTP without a client: proxies of the environment,
// the system's certificate authorities, nothing secret.
type HTTPConfig struct {
	// Proxy is the URL of the proxy for this source, "http://USER:PASSWORD@HOST:PORT" (or https, or socks5), for all hosts.
	// "": the environment decides (HTTP_PROXY, HTTPS_PROXY, NO_PROXY; read once a process). [Direct]: none. An https
	// repository is reached through the proxy by CONNECT, so that the proxy sees its host only.
	Proxy string
	// RootCAs holds certificates of authorities, in PEM, that are accepted besides those of the system.
	RootCAs []byte
	// Certificates are shown to a server that asks for a client certificate. Their private keys may be any crypto.Signer.
	// An https proxy that asks would see them as well: so Proxy cannot be one, and where the environment may name one, set
	// Proxy to something else.
	Certificates []tls.Certificate
	// Header is sent with every request to the host of the base URL, such as Authorization. It is sent to no other host and
	// to no proxy, and never along a redirect, not even on the same host.
	Header http.Header
	// InsecureHeaderOnHTTP allows Header with an http URL, where anybody on the way can read it.
	InsecureHeaderOnHTTP bool
}

// Direct as HTTPConfig.Proxy means no proxy, whatever the environment says.
const Direct = trust.Direct

// HTTPWith is [HTTP] with a configuration. Its error is a [*ConfigError] that names the field; it holds no secret.
func HTTPWith(baseURL string, cfg HTTPConfig) (Source, error) {
	source, err := trust.HTTPWith(baseURL, trust.HTTPConfig(cfg))
	var field *trust.HTTPConfigError
	if errors.As(err, &field) {
		return nil, &ConfigError{"HTTP " + field.Field, field.Err}
	}
	return source, err
}

// FS reads a repository from any file system: a folder (os.DirFS), an open zip archive, files compiled in.
func FS(fsys fs.FS) Source { return trust.FS(fsys) }

// Mirrors reads from the first source that works and goes to the next on any failure, failed verification included.
func Mirrors(sources ...Source) Source {
	list := make([]trust.Source, len(sources))
	for i, s := range sources {
		list[i] = s
	}
	return trust.Mirrors(list...)
}

// Errors that tell apart why a repository was not believed or not read. Use errors.As with a pointer to one.
type (
	// An ExpiredError says that signed metadata is past its expiry. The publisher has stopped signing, somebody
	// withholds newer metadata, or this machine's clock is wrong. It says nothing about the installed version, which
	// runs on. Fields: Role string; Expired, Now time.Time.
	ExpiredError = trust.ExpiredError
	// A VerifyError says that what was delivered is not what was signed. Fields: File string, its name in the
	// repository; Err error, what did not hold.
	VerifyError = trust.VerifyError
	// A RollbackError says that the repository shows an older state than one seen before. Fields: Role string; Have,
	// Got int64, versions of the role's metadata.
	RollbackError = trust.RollbackError
	// A SourceError says that the source could not be read. Fields: Name string, the file; Err error.
	SourceError = trust.SourceError
	// A StatusError says that a web server answered with a status that is neither success nor absence. Fields: Status int;
	// URL string, without secrets; RetryAfter time.Duration, how long the server wishes to be left alone, 0 if it did
	// not say.
	StatusError = trust.StatusError
	// A PortalError says that a web page came instead of a file: most likely the login page of the network (a captive
	// portal), which the user has to open in a browser. Nothing of it was kept. Fields: URL string, that was asked for;
	// Status int; Length int64, of the page, negative if not known.
	PortalError = trust.PortalError
	// A RedirectError says that a server, or a captive portal in its place, sent this client to another host, from https to
	// http, or in circles. Fields: From, To, Why string.
	RedirectError = trust.RedirectError
	// A ProxyError says that a proxy refused to pass a request on: status 407 wants a user name and a password. Fields:
	// Proxy string, without secrets, "" if it was not asked for a tunnel; Status int.
	ProxyError = trust.ProxyError
	// A LengthError says that a server has a file of another length than the signed one; nothing of it was read. Fields: URL
	// string; Got, Want int64, bytes.
	LengthError = trust.LengthError
	// A StoreError says that the folder with the trusted metadata cannot be used. Fields: Path string; Err error.
	StoreError = trust.StoreError
)
