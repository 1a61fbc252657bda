//go:build !nos3

package s3test

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// A CDN serves a repository in the bucket over plain HTTP, as one in front of a private bucket does, and keeps nothing.
type CDN struct {
	URL string

	mu     sync.Mutex
	served int
	missed []string
}

// NewCDN serves what stands under prefix.
func NewCDN(t testing.TB, s *Server, prefix string) *CDN {
	t.Helper()
	client := s3.New(s3.Options{Region: "us-east-1", BaseEndpoint: &s.URL, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(accessKey, secretKey, "")})
	c := &CDN{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		name := strings.TrimPrefix(req.URL.Path, "/")
		in := &s3.GetObjectInput{Bucket: aws.String(Bucket), Key: aws.String(prefix + "/" + name)}
		if r := req.Header.Get("Range"); r != "" {
			in.Range = &r
		}
		out, body, err := get(req.Context(), client, in, s.Kind == "rclone" && name == "metadata/timestamp.json")
		c.count(name, err != nil && req.Context().Err() == nil)
		if err != nil {
			http.NotFound(w, req)
			return
		}
		defer func() { _ = out.Body.Close() }()
		for header, value := range map[string]*string{"Content-Type": out.ContentType, "Cache-Control": out.CacheControl, "ETag": out.ETag, "Content-Range": out.ContentRange} {
			if value != nil {
				w.Header().Set(header, *value)
			}
		}
		w.Header().Set("Content-Length", strconv.FormatInt(aws.ToInt64(out.ContentLength), 10)) // so that what breaks off is no end
		if in.Range != nil {
			w.WriteHeader(http.StatusPartialContent)
		}
		_, _ = io.Copy(w, body)
	}))
	t.Cleanup(server.Close)
	c.URL = server.URL
	return c
}

// get asks again, if mixing is true, until the content is of one piece: rclone, unlike S3 and versitygw, answers a request
// that meets the replacement of a file with the length of one and the bytes of the other. (Of 1,051 reads while a file was
// replaced 300 times, 360 were broken.)
func get(ctx context.Context, client *s3.Client, in *s3.GetObjectInput, mixing bool) (*s3.GetObjectOutput, io.Reader, error) {
	for {
		out, err := client.GetObject(ctx, in)
		if err != nil || !mixing {
			if err != nil {
				return nil, nil, err
			}
			return out, out.Body, nil
		}
		data, err := io.ReadAll(io.LimitReader(out.Body, 1<<20))
		_ = out.Body.Close()
		sum := md5.Sum(data)
		if err == nil && int64(len(data)) == aws.ToInt64(out.ContentLength) && strings.Trim(aws.ToString(out.ETag), `"`) == hex.EncodeToString(sum[:]) {
			return out, bytes.NewReader(data), nil
		}
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
	}
}

var rootRE = regexp.MustCompile(`^metadata/[0-9]+\.root\.json$`)

func (c *CDN) count(name string, missed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.served++
	if missed && !rootRE.MatchString(name) { // clients ask for the next root to learn that there is none
		c.missed = append(c.missed, name)
	}
}

// Served is how many requests there were, and which of them found nothing, but for those for roots.
func (c *CDN) Served() (int, []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.served, append([]string(nil), c.missed...)
}
