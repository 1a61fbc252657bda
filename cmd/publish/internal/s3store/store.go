//go:build !nos3

// Package s3store keeps a repository in a bucket of Amazon S3, or of a server that speaks its protocol.
//
// It is a [tufrepo.Store] for the command publish, opened by an address such as s3://bucket/prefix?region=eu-central-1.
// What it relies on is S3's strong consistency and its conditional writes (If-Match, If-None-Match): a server that ignores
// them loses one of two publishers' work, see [Store.Probe].
//
// # What is sent
//
// A blob of up to 64 MiB is one PutObject, sent as it is read, and so is any file of up to 8 MiB. A longer one is a multipart upload in parts of 8 MiB, several at the same time,
// of this and of other files, in memory that is allotted once. Every request carries the SHA-256 of its body, signed and
// as the checksum that S3 keeps, so that the server refuses, or later tells, anything else. The upload is completed under
// the condition given, after the last part's arrival and the reader's end: until then nothing stands under the name.
//
// An upload that was interrupted is found again by its name. Parts that are there already are not sent again if their
// SHA-256 is that of the local part. Where the server keeps no SHA-256, their MD5 must be the local one's, which says
// nothing against an adversary, so then what was put together is read back and hashed; if it is not right, it is sent as a
// whole. The condition of every write is kept by retries: after an attempt whose answer was lost, a refusal is not a
// conflict if what stands there is what was sent.
//
// Headers are those that clients and CDNs need: what is named after its version or hash may be kept for ever, and the
// timestamp must be asked for anew each time. Nothing is ever deleted.
package s3store

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/cmd/publish/internal/static"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

// A Store is a [tufrepo.Store] and a [tufrepo.BlobChecker] in a bucket.
type Store struct {
	client  *s3.Client
	at      Location
	parts   chan []byte // the memory for parts: whoever takes one out gives it back
	perPart int
	inOne   int64 // blobs of up to so many bytes are sent in one request
}

const (
	partSize     = 8 << 20 // S3 takes parts from 5 MiB, and 10,000 of them: 84 GB a file
	partsAtOnce  = 5
	blobInOne    = 64 << 20
	maxParts     = 10_000
	maxBodyReads = 5 // attempts to read on where a download broke off, without a byte in between
)

// Open prepares a store for the address, see [ParseLocation]. Credentials come from where the AWS SDK looks for them:
// environment, profile, web identity, instance. Whether they are any good shows at the first request.
func Open(ctx context.Context, address string) (tufrepo.Store, error) {
	at, err := ParseLocation(address)
	if err != nil {
		return nil, err
	}
	return newStore(ctx, at, tuning{})
}

func newStore(ctx context.Context, at Location, t tuning) (*Store, error) {
	client, err := newClient(ctx, at, t)
	if err != nil {
		return nil, err
	}
	s := &Store{client: client, at: at, parts: make(chan []byte, partsAtOnce), perPart: t.part(), inOne: cmp.Or(t.inOne, blobInOne)}
	for range partsAtOnce {
		s.parts <- nil // allotted when first taken
	}
	return s, nil
}

// key is where a name stands in the bucket.
func (s *Store) key(name string) (*string, error) {
	if !fs.ValidPath(name) || name == "." || strings.HasPrefix(name, ".") || strings.Contains(name, "/.") {
		return nil, fmt.Errorf("%q is not the name of a repository's file", name)
	}
	return aws.String(s.at.prefix() + name), nil
}

// Get implements [tufrepo.Store]. A download that breaks off is gone on with.
func (s *Store) Get(ctx context.Context, name string) (io.ReadCloser, tufrepo.Revision, error) {
	key, err := s.key(name)
	if err != nil {
		return nil, "", err
	}
	out, err := s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.at.Bucket, Key: key})
	if err != nil {
		return nil, "", s.failed("read", name, err)
	}
	if aws.ToString(out.ETag) == "" {
		_ = out.Body.Close()
		return nil, "", s.failed("read", name, errors.New("the server gives it no ETag, and conditional writes need one"))
	}
	body := &body{ctx: ctx, s: s, name: name, key: key, etag: out.ETag, in: out.Body, left: aws.ToInt64(out.ContentLength)}
	return body, tufrepo.Revision(*out.ETag), nil
}

// A body reads an object, and goes on with it on another connection if one breaks.
type body struct {
	ctx        context.Context // of the Get that made it
	s          *Store
	name       string
	key, etag  *string
	in         io.ReadCloser
	done, left int64
	failures   int
}

func (b *body) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.in.Read(p)
	b.done, b.left = b.done+int64(n), b.left-int64(n)
	if n > 0 {
		b.failures = 0
	}
	switch {
	case b.left <= 0:
		return n, io.EOF
	case err == nil:
		return n, nil
	case b.ctx.Err() != nil:
		return n, b.ctx.Err()
	}
	if b.failures++; b.failures > maxBodyReads {
		return n, b.s.failed("read", b.name, err)
	}
	out, err := b.s.client.GetObject(b.ctx, &s3.GetObjectInput{Bucket: &b.s.at.Bucket, Key: b.key, IfMatch: b.etag,
		Range: aws.String(fmt.Sprintf("bytes=%d-", b.done))})
	if err == nil && aws.ToInt64(out.ContentLength) != b.left {
		_ = out.Body.Close()
		err = errors.New("the server does not continue where the connection broke")
	}
	if err != nil {
		return n, b.s.failed("read", b.name, err)
	}
	_ = b.in.Close()
	b.in = out.Body
	return n, nil
}

func (b *body) Close() error { return b.in.Close() }

// List implements [tufrepo.Store].
func (s *Store) List(ctx context.Context, prefix string) ([]string, error) {
	var names []string
	pages := s3.NewListObjectsV2Paginator(s.client, &s3.ListObjectsV2Input{Bucket: &s.at.Bucket, Prefix: aws.String(s.at.prefix() + prefix)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, s.failed("list", prefix, err)
		}
		for _, object := range page.Contents {
			name, ok := strings.CutPrefix(aws.ToString(object.Key), s.at.prefix())
			if _, err := s.key(name); ok && err == nil { // "folders" of web consoles, and servers' temporary files, are no names
				names = append(names, name)
			}
		}
	}
	return names, nil
}

// CheckBlob implements [tufrepo.BlobChecker]: with the SHA-256 that S3 keeps for a file sent in one piece, or with that of
// its parts if they were as this package makes them.
func (s *Store) CheckBlob(ctx context.Context, name string, b channel.Blob, open func() (io.ReadCloser, error)) error {
	key, err := s.key(name)
	if err != nil {
		return err
	}
	head, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.at.Bucket, Key: key, ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		return s.failed("look for", name, err)
	}
	if got := aws.ToInt64(head.ContentLength); got != b.Length {
		return fmt.Errorf("%s: %w: it has %d bytes, not %d", name, tufrepo.ErrDamaged, got, b.Length)
	}
	sum, count, ofParts := strings.Cut(aws.ToString(head.ChecksumSHA256), "-")
	want := fromHex(b.SHA256)
	switch {
	case sum == "": // none is kept
		return nil
	case ofParts && (open == nil || count != fmt.Sprint(s.partCount(b.Length))):
		return nil
	case ofParts:
		if want, err = s.localChecksum(ctx, open); err != nil {
			return err
		}
		sum += "-" + count
	}
	if sum != want {
		return fmt.Errorf("%s: %w: its checksum is %s, not %s", name, tufrepo.ErrDamaged, sum, want)
	}
	return nil
}

func (s *Store) localChecksum(ctx context.Context, open func() (io.ReadCloser, error)) (string, error) {
	f, err := open()
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	return digest(ctx, f, s.perPart)
}

func (s *Store) partCount(length int64) int64 {
	return (length + int64(s.perPart) - 1) / int64(s.perPart)
}

// fromHex writes a SHA-256 as S3 does.
func fromHex(sum string) string {
	data, _ := hex.DecodeString(sum)
	return base64.StdEncoding.EncodeToString(data)
}

// Probe finds out whether the server keeps conditions, with the content that a file has anyway, so that one that does not
// changes nothing.
func (s *Store) Probe(ctx context.Context, name string, content []byte) error {
	for _, cond := range []tufrepo.Condition{tufrepo.IfAbsent(), tufrepo.IfRevision(`"00000000000000000000000000000000"`)} {
		_, err := s.Put(ctx, name, strings.NewReader(string(content)), cond)
		if err == nil {
			return &Error{"write", name, errors.New("the server ignores the conditions of writes (If-None-Match, If-Match): of two publishers at once one would lose its work"),
				"use a server that keeps them, such as Amazon S3, or make sure that nobody ever publishes at the same time"}
		}
		if !errors.Is(err, tufrepo.ErrConflict) {
			return err
		}
	}
	return nil
}

// Headers are the content type and the cache policy of a file.
func headers(name string) (contentType, cacheControl *string) {
	t, c := static.Headers(name)
	return &t, &c
}
