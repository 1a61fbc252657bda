//go:build !nos3

package s3store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

// Put implements [tufrepo.Store].
func (s *Store) Put(ctx context.Context, name string, content io.Reader, cond tufrepo.Condition) (tufrepo.Revision, error) {
	key, err := s.key(name)
	if err != nil {
		return "", err
	}
	u := &upload{s: s, name: name, key: key, cond: cond}
	again, ok := content.(io.Seeker)
	u.repeatable = ok
	if b, ok := content.(blob); ok && b.Blob().Length <= s.inOne {
		return u.stream(ctx, b)
	}
	rev, err := u.put(ctx, content)
	var useless *uselessUpload
	if !errors.As(err, &useless) || !ok {
		return rev, err
	}
	if _, err := again.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	u = &upload{s: s, name: name, key: key, cond: cond, anew: true}
	if useless.stands {
		u.cond = tufrepo.Always()
	}
	return u.put(ctx, content)
}

// A blob is a content whose length and hash are known, as [tufrepo.Repo.Commit] gives it.
type blob interface {
	io.ReadSeeker
	Blob() channel.Blob
}

// stream sends a blob in one request, as it is read.
func (u *upload) stream(ctx context.Context, b blob) (tufrepo.Revision, error) {
	want := b.Blob()
	body := &blobBody{blob: b, length: want.Length}
	rev, err := u.one(ctx, body, want.Length, want.SHA256)
	if body.err != nil {
		return "", body.err
	}
	return rev, err
}

// A blobBody gives its last bytes only when the content has turned out to be what it should be, so that no server gets
// all of another one. It fails for good then: to send it again is no use.
type blobBody struct {
	blob
	done, length int64
	err          error
}

func (b *blobBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.done == b.length {
		return 0, io.EOF
	}
	n, err := b.blob.Read(p[:min(int64(len(p)), b.length-b.done)])
	if b.done += int64(n); err == nil && b.done == b.length {
		if m, end := b.blob.Read(make([]byte, 1)); m > 0 {
			err = errors.New("the file has grown since it was read")
		} else {
			err = end
		}
	}
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF) && b.done == b.length:
		return n, nil
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	b.err = err
	return 0, err
}

// Seek serves the SDK, which asks where the body begins and ends, and starts again.
func (b *blobBody) Seek(offset int64, whence int) (int64, error) {
	switch {
	case b.err != nil:
		return 0, b.err
	case whence == io.SeekCurrent && offset == 0:
		return b.done, nil
	case whence == io.SeekEnd && offset == 0:
		return b.length, nil // it comes back before it reads
	case whence != io.SeekStart || offset != 0:
		return 0, errors.ErrUnsupported
	}
	if b.done > 0 {
		if _, err := b.blob.Seek(0, io.SeekStart); err != nil {
			b.err = err
			return 0, err
		}
	}
	b.done = 0
	return 0, nil
}

// A uselessUpload says that what an interrupted upload left cannot be used for this file.
type uselessUpload struct {
	stands bool // the file was made of it nevertheless, and is wrong
	err    error
}

func (e *uselessUpload) Error() string {
	return "what an interrupted upload left cannot be used: " + plainly(e.err)
}

func (e *uselessUpload) Unwrap() error { return e.err }

// An upload is one Put.
type upload struct {
	s          *Store
	name       string
	key        *string
	cond       tufrepo.Condition
	repeatable bool // the content can be read once more
	anew       bool // nothing is taken over from earlier uploads
}

func (u *upload) put(ctx context.Context, content io.Reader) (tufrepo.Revision, error) {
	r := bufio.NewReader(content)
	part, err := u.s.take(ctx)
	if err != nil {
		return "", err
	}
	n, last, err := fill(ctx, r, part)
	if err != nil || last {
		defer u.s.give(part)
	}
	switch {
	case err != nil:
		return "", err
	case last:
		return u.whole(ctx, part[:n])
	}
	return u.inParts(ctx, r, part)
}

// take waits for memory for a part.
func (s *Store) take(ctx context.Context) ([]byte, error) {
	select {
	case part := <-s.parts:
		if part == nil {
			part = make([]byte, s.perPart)
		}
		return part, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *Store) give(part []byte) { s.parts <- part }

// fill reads a part, and says whether it is the last one. Only io.EOF is an end: io.ReadFull would take a content that
// was cut off for one.
func fill(ctx context.Context, r *bufio.Reader, part []byte) (n int, last bool, err error) {
	for n < len(part) {
		if err := ctx.Err(); err != nil {
			return n, false, err
		}
		m, err := r.Read(part[n:])
		n += m
		if errors.Is(err, io.EOF) {
			return n, true, nil
		}
		if err != nil {
			return n, false, err
		}
	}
	_, err = r.Peek(1)
	if errors.Is(err, io.EOF) {
		return n, true, nil
	}
	return n, false, err
}

// conditions are the headers of a write.
func (u *upload) conditions() (ifMatch, ifNoneMatch *string) {
	switch {
	case u.cond.Absent():
		return nil, aws.String("*")
	case u.cond.Revision() != "":
		return aws.String(string(u.cond.Revision())), nil
	}
	return nil, nil
}

// whole sends a file that fits into the memory for a part.
func (u *upload) whole(ctx context.Context, data []byte) (tufrepo.Revision, error) {
	sum := sha256.Sum256(data)
	return u.one(ctx, bytes.NewReader(data), int64(len(data)), hex.EncodeToString(sum[:]))
}

// one sends a file in one request. sum is its SHA-256, in hex.
func (u *upload) one(ctx context.Context, body io.ReadSeeker, length int64, sum string) (tufrepo.Revision, error) {
	checksum := fromHex(sum)
	in := &s3.PutObjectInput{Bucket: &u.s.at.Bucket, Key: u.key, Body: body, ContentLength: &length, ChecksumSHA256: &checksum}
	in.ContentType, in.CacheControl = headers(u.name)
	in.IfMatch, in.IfNoneMatch = u.conditions()
	a := &attempt{sum: sum}
	out, err := u.s.client.PutObject(ctx, in, a.option)
	if err == nil {
		return u.written(out.ETag)
	}
	if !refused(err, u.cond) {
		return "", u.s.failed("write", u.name, err)
	}
	if a.count > 1 {
		if rev, err := u.stands(ctx, length, checksum, 0); rev != "" || err != nil {
			return rev, err
		}
	}
	return "", u.conflict()
}

func (u *upload) conflict() error {
	return fmt.Errorf("%s/%s: %w", u.s.at, u.name, tufrepo.ErrConflict)
}

func (u *upload) written(etag *string) (tufrepo.Revision, error) {
	if aws.ToString(etag) == "" {
		return "", u.s.failed("write", u.name, errors.New("the server gave it no ETag, and conditional writes need one"))
	}
	return tufrepo.Revision(*etag), nil
}

// stands returns the revision of the file if it is what was sent, and else "": an answer that was lost is found out so.
// With perPart the checksum is that of parts of so many bytes.
func (u *upload) stands(ctx context.Context, length int64, checksum string, perPart int) (tufrepo.Revision, error) {
	head, err := u.s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &u.s.at.Bucket, Key: u.key, ChecksumMode: types.ChecksumModeEnabled})
	switch {
	case status(err) == 404:
		return "", nil
	case err != nil:
		return "", u.s.failed("look for", u.name, err)
	case aws.ToInt64(head.ContentLength) != length:
		return "", nil
	case aws.ToString(head.ChecksumSHA256) == checksum:
		return u.written(head.ETag)
	}
	there, rev, err := u.s.Get(ctx, u.name)
	if err != nil {
		return "", err
	}
	defer func() { _ = there.Close() }()
	got, err := digest(ctx, there, perPart)
	if err != nil {
		return "", err
	}
	if got != checksum {
		return "", nil
	}
	return rev, nil
}

// digest is the checksum that S3 has of a file that was sent in one piece, or with perPart in parts of so many bytes.
func digest(ctx context.Context, content io.Reader, perPart int) (string, error) {
	if perPart == 0 {
		hash := sha256.New()
		_, err := io.Copy(hash, content)
		return base64.StdEncoding.EncodeToString(hash.Sum(nil)), err
	}
	all := sha256.New()
	r := bufio.NewReader(content)
	for count := 1; ; count++ {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		hash := sha256.New()
		if _, err := io.CopyN(hash, r, int64(perPart)); err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		all.Write(hash.Sum(nil))
		if _, err := r.Peek(1); errors.Is(err, io.EOF) {
			return fmt.Sprintf("%s-%d", base64.StdEncoding.EncodeToString(all.Sum(nil)), count), nil
		}
	}
}
