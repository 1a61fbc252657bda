package update

import (
	"io/fs"
	"net/http"

	"github.com/fairlead-dev/fairlead/internal/trust"
)

// HTTP reads a repository from a web server or a bucket. client may be nil: then proxies come from the environment
// (HTTP_PROXY, HTTPS_PROXY, NO_PROXY) and connecting, TLS and response headers have time limits. Redirects to
// another host or from https to http are refused in any case; client itself is not changed.
func HTTP(baseURL string, client *http.Client) (Source, error) { return trust.HTTP(baseURL, client) }

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
	// A StoreError says that the folder with the trusted metadata cannot be used. Fields: Path string; Err error.
	StoreError = trust.StoreError
)
