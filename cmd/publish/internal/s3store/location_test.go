//go:build !nos3

package s3store

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLocations(t *testing.T) {
	for address, want := range map[string]Location{
		"s3://updates":                     {Bucket: "updates"},
		"s3://updates/":                    {Bucket: "updates"},
		"s3://updates/a/b/":                {Bucket: "updates", Prefix: "a/b"},
		"s3://updates?region=eu-central-1": {Bucket: "updates", Region: "eu-central-1"},
		"s3://updates/a?endpoint=https://s3.example.com":                                      {Bucket: "updates", Prefix: "a", Endpoint: "https://s3.example.com", PathStyle: true},
		"s3://updates/a?endpoint=https%3A%2F%2Fs3.example.com&path_style=false":               {Bucket: "updates", Prefix: "a", Endpoint: "https://s3.example.com"},
		"s3://updates/a?endpoint=http://127.0.0.1:9000":                                       {Bucket: "updates", Prefix: "a", Endpoint: "http://127.0.0.1:9000", PathStyle: true},
		"s3://updates/a?endpoint=http://[::1]:9000":                                           {Bucket: "updates", Prefix: "a", Endpoint: "http://[::1]:9000", PathStyle: true},
		"s3://updates/a?endpoint=http://s3.corp.example&insecure_plain_http=true&region=here": {Bucket: "updates", Prefix: "a", Region: "here", Endpoint: "http://s3.corp.example", PathStyle: true, InsecurePlainHTTP: true},
	} {
		got, err := ParseLocation(address)
		require.NoError(t, err, address)
		require.Equal(t, want, got, address)
	}
	for address, want := range map[string]string{
		"s3:updates":                                         "is no s3://BUCKET/PREFIX",
		"gs://updates":                                       "is no s3://BUCKET/PREFIX",
		"s3://":                                              `"" is not a bucket's name`,
		"s3://Updates":                                       "is not a bucket's name",
		"s3://a:b@updates":                                   "credentials do not belong",
		"s3://updates/../b":                                  "is not a prefix",
		"s3://updates/a//b":                                  "is not a prefix",
		"s3://updates/.hidden":                               "is not a prefix",
		"s3://updates/a b":                                   "is not a prefix",
		"s3://updates/a#b":                                   "fragment",
		"s3://updates?regoin=x":                              "regoin is not known",
		"s3://updates?region=":                               "region has no value, or several",
		"s3://updates?region=a&region=b":                     "region has no value, or several",
		"s3://updates?path_style=perhaps":                    "neither true nor false",
		"s3://updates?endpoint=s3.example.com":               "is not the URL of a server",
		"s3://updates?endpoint=ftp://s3.example":             "is not the URL of a server",
		"s3://updates?endpoint=https://u:p@s3.eu":            "is not the URL of a server",
		"s3://updates?endpoint=http://s3.eu":                 "http://s3.eu is not encrypted",
		"s3://updates?endpoint=http://127.0.0.1.example.com": "is not encrypted",
	} {
		_, err := ParseLocation(address)
		var refused *AddressError
		require.ErrorAs(t, err, &refused, address)
		require.ErrorContains(t, err, want, address)
		require.NotEmpty(t, refused.Hint(), address)
	}
	_, err := Open(t.Context(), "s3://updates/a?endpoint=https://s3.example.com")
	require.NoError(t, err, "servers other than Amazon's seldom have regions")
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	_, err = Open(t.Context(), "s3://updates/a")
	require.ErrorContains(t, err, "it names no region")
}
