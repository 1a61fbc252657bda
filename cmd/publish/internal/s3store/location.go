//go:build !nos3

package s3store

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// A Location says where a repository is.
type Location struct {
	Bucket    string
	Prefix    string // of all names, without a slash at either end; "": none
	Region    string // "": as the SDK's configuration says
	Endpoint  string // the server's URL; "": Amazon's, or as the SDK's configuration says
	PathStyle bool   // the bucket stands in the path, not in the host

	// InsecurePlainHTTP allows an http endpoint that is not on this machine: whoever is on the way can read, and what is
	// read is only as good as the signatures. Credentials are not sent in clear, but a request can be replayed.
	InsecurePlainHTTP bool
}

var (
	bucketRE = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	prefixRE = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$`)
)

// ParseLocation reads s3://BUCKET/PREFIX?region=R&endpoint=URL&path_style=BOOL&insecure_plain_http=BOOL. All but the
// bucket may be left out. path_style is true with an endpoint and false without one unless it says otherwise.
func ParseLocation(address string) (Location, error) {
	refuse := func(hint, format string, args ...any) (Location, error) {
		return Location{}, &AddressError{fmt.Sprintf(format, args...), hint}
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "s3" || u.Opaque != "" {
		return refuse(addressHint, "it is no s3://BUCKET/PREFIX")
	}
	at := Location{Bucket: u.Host, Prefix: strings.Trim(u.Path, "/")}
	switch {
	case u.User != nil:
		return refuse("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE", "credentials do not belong into an address")
	case u.Fragment != "":
		return refuse(addressHint, "it has a fragment (#…)")
	case !bucketRE.MatchString(at.Bucket):
		return refuse(addressHint, "%q is not a bucket's name", at.Bucket)
	case at.Prefix != "" && !prefixRE.MatchString(at.Prefix):
		return refuse("use letters, digits, dots, dashes and underscores between the slashes", "%q is not a prefix", at.Prefix)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return refuse("escape what is special in a query: & as %26", "%v", err)
	}
	at.PathStyle = query.Get("endpoint") != ""
	for name, values := range query {
		if len(values) != 1 || values[0] == "" {
			return refuse("write "+name+"=VALUE, once", "%s has no value, or several", name)
		}
		if err := at.set(name, values[0]); err != nil {
			return Location{}, err
		}
	}
	if at.Endpoint != "" {
		return at, at.checkEndpoint(at.Endpoint)
	}
	return at, nil
}

const addressHint = "write s3://BUCKET/PREFIX?region=eu-central-1; docs/publish.md has the rest"

func (at *Location) set(name, value string) (err error) {
	switch name {
	case "region":
		at.Region = value
	case "endpoint":
		at.Endpoint = value
	case "path_style":
		at.PathStyle, err = strconv.ParseBool(value)
	case "insecure_plain_http":
		at.InsecurePlainHTTP, err = strconv.ParseBool(value)
	default:
		return &AddressError{name + " is not known", "there are region, endpoint, path_style and insecure_plain_http"}
	}
	if err != nil {
		return &AddressError{fmt.Sprintf("%s=%s is neither true nor false", name, value), "write " + name + "=true"}
	}
	return nil
}

// checkEndpoint refuses what is not a server's URL, and what is not encrypted unless that was asked for.
func (at *Location) checkEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.RawQuery != "" {
		return &AddressError{fmt.Sprintf("%q is not the URL of a server", endpoint), "write endpoint=https://s3.example.com"}
	}
	return at.checkPlain(u)
}

func (at *Location) checkPlain(u *url.URL) error {
	if u.Scheme == "https" || at.InsecurePlainHTTP || isLoopback(u.Hostname()) {
		return nil
	}
	return &AddressError{u.Scheme + "://" + u.Host + " is not encrypted", "use https; insecure_plain_http=true does without, where nobody is on the way"}
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback() || host == "localhost"
}

func (at *Location) prefix() string {
	if at.Prefix == "" {
		return ""
	}
	return at.Prefix + "/"
}

// String is the location without what says how to get there.
func (at Location) String() string { return strings.TrimSuffix("s3://"+at.Bucket+"/"+at.Prefix, "/") }
