//go:build !nos3

package s3store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-dev/fairlead/tufrepo"
)

// A multipart is an upload in parts.
type multipart struct {
	*upload
	id   *string
	have map[int32]types.Part // that an earlier one left

	mu        sync.Mutex
	length    int64
	done      []types.CompletedPart
	unproven  bool // parts were taken over by their MD5
	takenOver int  // parts
}

// inParts sends a longer file. The first part is full, and more follows in r.
func (u *upload) inParts(ctx context.Context, r *bufio.Reader, first []byte) (tufrepo.Revision, error) {
	m := &multipart{upload: u}
	if err := m.begin(ctx); err != nil {
		u.s.give(first)
		return "", err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	contentErr := m.send(groupCtx, group, r, first)
	if err := group.Wait(); err != nil {
		return "", m.partFailed(ctx, err)
	}
	if contentErr != nil {
		if ctx.Err() == nil { // what was sent is good for nothing
			m.abort(ctx)
		}
		return "", contentErr
	}
	slices.SortFunc(m.done, func(a, b types.CompletedPart) int { return int(*a.PartNumber - *b.PartNumber) })
	return m.complete(ctx)
}

// send reads part after part and has each sent. The error is about the content, or the end of ctx.
func (m *multipart) send(ctx context.Context, group *errgroup.Group, r *bufio.Reader, part []byte) error {
	n, last := len(part), false
	for number := int32(1); ; number++ {
		whole, data, number := part, part[:n], number
		group.Go(func() error {
			defer m.s.give(whole)
			return m.sendPart(ctx, number, data)
		})
		if last {
			return nil
		}
		if number == maxParts {
			return fmt.Errorf("%s is larger than the %d bytes that can be stored as one file", m.name, int64(maxParts)*int64(m.s.perPart))
		}
		var err error
		if part, err = m.s.take(ctx); err != nil {
			return err
		}
		if n, last, err = fill(ctx, r, part); err != nil {
			m.s.give(part)
			return err
		}
	}
}

func (m *multipart) sendPart(ctx context.Context, number int32, data []byte) error {
	sum := sha256.Sum256(data)
	checksum := base64.StdEncoding.EncodeToString(sum[:])
	etag, unproven := m.takeOver(number, data, checksum)
	if etag == nil {
		a := &attempt{sum: hex.EncodeToString(sum[:])}
		out, err := m.s.client.UploadPart(ctx, &s3.UploadPartInput{Bucket: &m.s.at.Bucket, Key: m.key, UploadId: m.id, PartNumber: &number,
			Body: bytes.NewReader(data), ContentLength: aws.Int64(int64(len(data))), ChecksumSHA256: &checksum}, a.option)
		if err != nil {
			return err
		}
		etag = out.ETag
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done = append(m.done, types.CompletedPart{PartNumber: &number, ETag: etag, ChecksumSHA256: &checksum})
	m.length += int64(len(data))
	m.unproven = m.unproven || unproven
	return nil
}

// takeOver returns the ETag of a part that is there already, and whether that it is the same rests on an MD5 alone.
func (m *multipart) takeOver(number int32, data []byte, checksum string) (etag *string, unproven bool) {
	there, ok := m.have[number]
	if !ok || aws.ToInt64(there.Size) != int64(len(data)) {
		return nil, false
	}
	if kept := aws.ToString(there.ChecksumSHA256); kept != "" {
		if kept != checksum {
			return nil, false
		}
	} else {
		sum := md5.Sum(data)
		if !m.repeatable || strings.Trim(aws.ToString(there.ETag), `"`) != hex.EncodeToString(sum[:]) {
			return nil, false
		}
		unproven = true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.takenOver++
	return there.ETag, unproven
}

// begin finds the upload that an interrupted run left for this file, with its parts, or starts one.
func (m *multipart) begin(ctx context.Context) error {
	if !m.anew {
		if err := m.find(ctx); err != nil {
			return m.s.failed("look for an interrupted upload of", m.name, err)
		}
	}
	if m.id != nil {
		return nil
	}
	in := &s3.CreateMultipartUploadInput{Bucket: &m.s.at.Bucket, Key: m.key, ChecksumAlgorithm: types.ChecksumAlgorithmSha256}
	in.ContentType, in.CacheControl = headers(m.name)
	out, err := m.s.client.CreateMultipartUpload(ctx, in)
	if err != nil {
		return m.s.failed("write", m.name, err)
	}
	m.id = out.UploadId
	return nil
}

// find looks for the latest upload. Who may not ask, or cannot, does without. (With rclone, no upload is a 404.)
func (m *multipart) find(ctx context.Context) error {
	list, err := m.s.client.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: &m.s.at.Bucket, Prefix: m.key})
	if slices.Contains([]int{http.StatusForbidden, http.StatusNotImplemented, http.StatusMethodNotAllowed, http.StatusNotFound}, status(err)) {
		return nil
	}
	if err != nil {
		return err
	}
	var latest time.Time
	for _, u := range list.Uploads {
		ours := u.ChecksumAlgorithm == "" || u.ChecksumAlgorithm == types.ChecksumAlgorithmSha256
		if at := aws.ToTime(u.Initiated); aws.ToString(u.Key) == *m.key && ours && (m.id == nil || at.After(latest)) {
			m.id, latest = u.UploadId, at
		}
	}
	if m.id == nil {
		return nil
	}
	have := map[int32]types.Part{}
	pages := s3.NewListPartsPaginator(m.s.client, &s3.ListPartsInput{Bucket: &m.s.at.Bucket, Key: m.key, UploadId: m.id})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil { // it was ended meanwhile
			m.id = nil
			if code := status(err); code == http.StatusNotFound || code == http.StatusForbidden {
				return nil
			}
			return err
		}
		for _, p := range page.Parts {
			have[aws.ToInt32(p.PartNumber)] = p
		}
	}
	m.have = have
	return nil
}

// partFailed explains why a part could not be sent.
func (m *multipart) partFailed(ctx context.Context, err error) error {
	if hasCode(err, "NoSuchUpload") && m.cond.Absent() {
		if there, _, getErr := m.s.Get(ctx, m.name); getErr == nil { // another publisher ended it
			_ = there.Close()
			return m.conflict()
		}
	}
	// A part that is there and differs cannot be replaced everywhere, and an upload can be of another kind.
	if code := status(err); m.have != nil && code >= 400 && code <= http.StatusNotImplemented && code != http.StatusForbidden && code != http.StatusConflict {
		m.abort(ctx)
		return &uselessUpload{err: m.s.failed("write", m.name, err)}
	}
	return m.s.failed("write", m.name, err)
}

// complete makes the file of the parts, if the condition is met.
func (m *multipart) complete(ctx context.Context) (tufrepo.Revision, error) {
	checksum := m.checksum()
	in := &s3.CompleteMultipartUploadInput{Bucket: &m.s.at.Bucket, Key: m.key, UploadId: m.id,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: m.done}}
	in.IfMatch, in.IfNoneMatch = m.conditions()
	a := &attempt{}
	out, err := m.s.client.CompleteMultipartUpload(ctx, in, a.option)
	gone := hasCode(err, "NoSuchUpload")
	switch {
	case err == nil:
		return m.completed(ctx, out, checksum)
	case !gone && !refused(err, m.cond):
		return "", m.s.failed("write", m.name, err)
	case gone || a.count > 1:
		if rev, err := m.stands(ctx, m.length, checksum, m.s.perPart); rev != "" || err != nil {
			return rev, err
		}
		if gone && !m.cond.Absent() {
			return "", m.s.failed("write", m.name, err)
		}
	}
	if !gone {
		m.abort(ctx)
		return "", m.conflict()
	}
	return "", m.partFailed(ctx, err)
}

// checksum is what S3 has of a file in parts.
func (m *multipart) checksum() string {
	all := sha256.New()
	for _, p := range m.done {
		sum, _ := base64.StdEncoding.DecodeString(*p.ChecksumSHA256)
		all.Write(sum)
	}
	return fmt.Sprintf("%s-%d", base64.StdEncoding.EncodeToString(all.Sum(nil)), len(m.done))
}

// completed makes sure that the file is what was sent.
func (m *multipart) completed(ctx context.Context, out *s3.CompleteMultipartUploadOutput, checksum string) (tufrepo.Revision, error) {
	kept := aws.ToString(out.ChecksumSHA256)
	if kept == checksum || kept == "" && !m.unproven {
		return m.written(out.ETag)
	}
	rev, err := m.stands(ctx, m.length, checksum, m.s.perPart)
	if err != nil || rev != "" {
		return rev, err
	}
	return "", &uselessUpload{true, m.s.failed("write", m.name, errors.New("what the server put together is not what was sent"))}
}

// abort has the server forget the parts.
func (m *multipart) abort(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	// If that fails, the bucket's rule on incomplete uploads sweeps up.
	_, _ = m.s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &m.s.at.Bucket, Key: m.key, UploadId: m.id})
}
