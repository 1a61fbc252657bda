//go:build !nos3

package s3store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/cmd/publish/internal/s3store/s3test"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

const testPart = 5 << 20 // the least that S3 takes

// open opens a store by way of endpoint, with short pauses and parts as small as may be.
func open(t testing.TB, endpoint, prefix string) *Store {
	t.Helper()
	at, err := ParseLocation(s3test.Address(endpoint, prefix))
	require.NoError(t, err)
	s, err := newStore(t.Context(), at, tuning{stall: 2 * time.Second, pause: 20 * time.Millisecond, perPart: testPart, inOne: testPart})
	require.NoError(t, err)
	return s
}

func put(t testing.TB, s *Store, name, content string, cond tufrepo.Condition) (tufrepo.Revision, error) {
	t.Helper()
	return s.Put(t.Context(), name, strings.NewReader(content), cond)
}

func get(t testing.TB, s *Store, name string) (string, tufrepo.Revision) {
	t.Helper()
	r, rev, err := s.Get(t.Context(), name)
	require.NoError(t, err)
	data, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	return string(data), rev
}

// noise is content that compresses to nothing, and whose parts differ.
func noise(seed uint64, length int) string {
	data := make([]byte, length)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(data)
	return string(data)
}

func blobOf(content string) (string, channel.Blob) {
	sum := sha256.Sum256([]byte(content))
	b := channel.Blob{SHA256: hex.EncodeToString(sum[:]), Length: int64(len(content))}
	return channel.BlobPath(b.SHA256), b
}

const stamp = "metadata/timestamp.json"

func TestStore(t *testing.T) {
	server := s3test.Start(t)
	t.Run("conditions", func(t *testing.T) { testConditions(t, server) })
	t.Run("names", func(t *testing.T) { testNames(t, server) })
	t.Run("headers", func(t *testing.T) { testHeaders(t, server) })
	t.Run("parts", func(t *testing.T) { testParts(t, server) })
	t.Run("blobs", func(t *testing.T) { testBlobs(t, server) })
	t.Run("check blob", func(t *testing.T) { testCheckBlob(t, server) })
	t.Run("whole or not at all", func(t *testing.T) { testWholeOrNot(t, server) })
	t.Run("one wins", func(t *testing.T) { testOneWins(t, server) })
	t.Run("resume", func(t *testing.T) { testResume(t, server) })
	t.Run("resume, other bytes", func(t *testing.T) { testResumeOther(t, server) })
	t.Run("lost answers", func(t *testing.T) { testLostAnswers(t, server) })
	t.Run("faults", func(t *testing.T) { testFaults(t, server) })
	t.Run("broken downloads", func(t *testing.T) { testBrokenDownload(t, server) })
	t.Run("refusals", func(t *testing.T) { testRefusals(t, server) })
	t.Run("probe", func(t *testing.T) { testProbe(t, server) })
}

func testConditions(t *testing.T, server *s3test.Server) {
	s := open(t, server.URL, "conditions")
	_, _, err := s.Get(t.Context(), stamp)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = put(t, s, stamp, "early", tufrepo.IfRevision(`"0123456789abcdef0123456789abcdef"`))
	require.ErrorIs(t, err, tufrepo.ErrConflict, "there is none to be at that revision")
	names, err := s.List(t.Context(), "")
	require.NoError(t, err)
	require.Empty(t, names)

	first, err := put(t, s, stamp, "one", tufrepo.IfRevision(""))
	require.NoError(t, err)
	content, rev := get(t, s, stamp)
	require.Equal(t, "one", content)
	require.Equal(t, first, rev)
	_, err = put(t, s, stamp, "two", tufrepo.IfAbsent())
	require.ErrorIs(t, err, tufrepo.ErrConflict)
	second, err := put(t, s, stamp, "two", tufrepo.IfRevision(first))
	require.NoError(t, err)
	require.NotEqual(t, first, second)
	_, err = put(t, s, stamp, "three", tufrepo.IfRevision(first))
	require.ErrorIs(t, err, tufrepo.ErrConflict)
	content, rev = get(t, s, stamp)
	require.Equal(t, "two", content)
	require.Equal(t, second, rev)
	_, err = put(t, s, stamp, "four", tufrepo.Always())
	require.NoError(t, err)
	content, _ = get(t, s, stamp)
	require.Equal(t, "four", content)
	_, err = put(t, s, "blobs/empty", "", tufrepo.IfAbsent())
	require.NoError(t, err)
	content, _ = get(t, s, "blobs/empty")
	require.Empty(t, content)

	_, err = put(t, open(t, server.URL, ""), "metadata/1.root.json", "in no folder", tufrepo.IfAbsent())
	require.NoError(t, err)
	names, err = s.List(t.Context(), "")
	require.NoError(t, err)
	require.ElementsMatch(t, []string{stamp, "blobs/empty"}, names)
	names, err = s.List(t.Context(), "metadata/time")
	require.NoError(t, err)
	require.Equal(t, []string{stamp}, names)
}

func testNames(t *testing.T, server *s3test.Server) {
	s := open(t, server.URL, "names")
	for _, name := range []string{"", ".", "..", "../a", "a/../b", "/a", "a//b", "a/", "./a", ".lock", "a/.tmp"} {
		_, err := put(t, s, name, "x", tufrepo.Always())
		require.ErrorContains(t, err, "is not the name of a repository's file", "%q", name)
		_, _, err = s.Get(t.Context(), name)
		require.ErrorContains(t, err, "is not the name of a repository's file", "%q", name)
		err = s.CheckBlob(t.Context(), name, channel.Blob{}, nil)
		require.ErrorContains(t, err, "is not the name of a repository's file", "%q", name)
	}
	var want []string
	count := 20
	if long() {
		count = 1100 // more than a page of a listing
	}
	for i := range count {
		name := fmt.Sprintf("metadata/%d.root.json", i+1)
		want = append(want, name)
	}
	each(t, want, func(name string) error {
		_, err := put(t, s, name, name, tufrepo.IfAbsent())
		return err
	})
	_, err := s.client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(s3test.Bucket), Key: aws.String("names/metadata/.hidden"), Body: strings.NewReader("x")})
	require.NoError(t, err)
	names, err := s.List(t.Context(), "metadata/")
	require.NoError(t, err)
	require.ElementsMatch(t, want, names)
}

// each calls f for all, eight at once.
func each(t *testing.T, all []string, f func(string) error) {
	t.Helper()
	var wg sync.WaitGroup
	work := make(chan string)
	for range 8 {
		wg.Go(func() {
			for item := range work {
				if err := f(item); err != nil {
					t.Errorf("%s: %v", item, err)
				}
			}
		})
	}
	for _, item := range all {
		work <- item
	}
	close(work)
	wg.Wait()
}

func testHeaders(t *testing.T, server *s3test.Server) {
	s := open(t, server.URL, "headers")
	large, _ := blobOf(noise(1, testPart+1))
	const forever = "public, max-age=31536000, immutable"
	for name, want := range map[string][2]string{
		stamp:                     {"application/json", "no-cache"},
		"metadata/1.root.json":    {"application/json", forever},
		"metadata/17.a.beta.json": {"application/json", forever},
		"targets/notes/beta/1.0.0/0123456789abcdef.release.json": {"application/json", forever},
		"blobs/sha256/ab/abcdef":                                 {"application/octet-stream", forever},
		large:                                                    {"application/octet-stream", forever},
	} {
		content := "x"
		if name == large {
			content = noise(1, testPart+1)
		}
		_, err := put(t, s, name, content, tufrepo.Always())
		require.NoError(t, err)
		head, err := s.client.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String(s3test.Bucket), Key: aws.String("headers/" + name)})
		require.NoError(t, err)
		require.Equal(t, want, [2]string{aws.ToString(head.ContentType), aws.ToString(head.CacheControl)}, name)
	}
}

// testParts: lengths around those of parts, and what stands there is what was sent.
func testParts(t *testing.T, server *s3test.Server) {
	proxy := s3test.NewProxy(t, server, nil)
	s := open(t, proxy.URL, "parts")
	for _, length := range []int{testPart - 1, testPart, testPart + 1, 2 * testPart, 3*testPart + 11} {
		content := noise(uint64(length), length)
		name, _ := blobOf(content)
		proxy.Decide(nil)
		rev, err := s.Put(t.Context(), name, iotest.HalfReader(strings.NewReader(content)), tufrepo.IfAbsent())
		require.NoError(t, err)
		got, there := get(t, s, name)
		require.True(t, content == got, "%d bytes", length)
		require.Equal(t, rev, there)
		require.Equal(t, length > testPart, strings.Contains(strings.Join(proxy.Requests(), "\n"), "?uploads"))
		_, err = put(t, s, name, content, tufrepo.IfAbsent())
		require.ErrorIs(t, err, tufrepo.ErrConflict, "%d bytes", length)
		require.Empty(t, s.uploads(t), "nothing is left of the one in vain")
		_, err = put(t, s, name, content+"!", tufrepo.IfRevision(rev))
		require.NoError(t, err)
		_, err = put(t, s, name, content, tufrepo.IfRevision(rev))
		require.ErrorIs(t, err, tufrepo.ErrConflict, "%d bytes", length)
		got, _ = get(t, s, name)
		require.True(t, content+"!" == got, "%d bytes", length)
	}
}

// A testBlob is a content as tufrepo gives it.
type testBlob struct {
	io.ReadSeeker
	want   channel.Blob
	failed error // instead of the end
}

func (b *testBlob) Blob() channel.Blob { return b.want }

func (b *testBlob) Read(p []byte) (int, error) {
	n, err := b.ReadSeeker.Read(p)
	if errors.Is(err, io.EOF) && b.failed != nil {
		return n, b.failed
	}
	return n, err
}

// testBlobs: a blob that is sent as it is read: tried again, refused if it changed, and never there if it is not right.
func testBlobs(t *testing.T, server *s3test.Server) {
	proxy := s3test.NewProxy(t, server, nil)
	s := open(t, proxy.URL, "blobs")
	content := noise(21, testPart-10)
	name, want := blobOf(content)
	changed := errors.New("was changed")
	for what, b := range map[string]*testBlob{
		"changed": {strings.NewReader(content[1:] + "?"), want, changed},
		"shorter": {strings.NewReader(content[1:]), want, nil},
		"longer":  {strings.NewReader(content + "?"), want, nil},
	} {
		proxy.Decide(nil)
		_, err := s.Put(t.Context(), name, b, tufrepo.IfAbsent())
		require.Error(t, err, what)
		require.Equal(t, b.failed != nil, errors.Is(err, changed), "%s: %v", what, err)
		require.Len(t, proxy.Requests(), 1, "to send it again is no use")
		_, _, err = s.Get(t.Context(), name)
		require.ErrorIs(t, err, fs.ErrNotExist, what)
	}
	// The server looks, too: at a reader that does not notice.
	_, err := s.Put(t.Context(), name, &testBlob{strings.NewReader(content[1:] + "?"), want, nil}, tufrepo.IfAbsent())
	require.ErrorContains(t, err, "status 400")
	_, _, err = s.Get(t.Context(), name)
	require.ErrorIs(t, err, fs.ErrNotExist)

	for _, fault := range []s3test.Fault{s3test.Error500, s3test.Error409, s3test.Reset, s3test.LostAnswer} {
		proxy.Decide(func(n int, _ *http.Request) s3test.Fault {
			if n <= 2 {
				return fault
			}
			return s3test.None
		})
		rev, err := s.Put(t.Context(), fmt.Sprint("blobs/", fault), &testBlob{strings.NewReader(content), want, nil}, tufrepo.IfAbsent())
		require.NoError(t, err, "fault %d", fault)
		got, there := get(t, s, fmt.Sprint("blobs/", fault))
		require.True(t, content == got)
		require.Equal(t, rev, there)
	}
}

// uploads lists the unfinished uploads below the store's prefix.
func (s *Store) uploads(t testing.TB) []types.MultipartUpload {
	t.Helper()
	list, err := s.client.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &s.at.Bucket, Prefix: aws.String(s.at.prefix())})
	if status(err) == http.StatusNotFound { // rclone's way to say none
		return nil
	}
	require.NoError(t, err)
	return list.Uploads
}

func testCheckBlob(t *testing.T, server *s3test.Server) {
	s := open(t, server.URL, "check")
	for _, length := range []int{10, 2*testPart + 5} {
		content := noise(uint64(length)+7, length)
		name, b := blobOf(content)
		opened := 0
		opener := func() (io.ReadCloser, error) {
			opened++
			return io.NopCloser(strings.NewReader(content)), nil
		}
		require.ErrorIs(t, s.CheckBlob(t.Context(), name, b, opener), fs.ErrNotExist)
		_, err := put(t, s, name, content, tufrepo.IfAbsent())
		require.NoError(t, err)
		require.NoError(t, s.CheckBlob(t.Context(), name, b, opener))
		require.NoError(t, s.CheckBlob(t.Context(), name, b, nil))
		head, err := s.client.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &s.at.Bucket, Key: aws.String("check/" + name), ChecksumMode: types.ChecksumModeEnabled})
		require.NoError(t, err)
		keeps := aws.ToString(head.ChecksumSHA256) != ""
		t.Logf("%s keeps the SHA-256 of %d bytes: %v %s", server.Kind, length, keeps, aws.ToString(head.ChecksumSHA256))

		// Another file of the same length, and one of another.
		other := content[:length-1] + "?"
		_, err = put(t, s, name, other, tufrepo.Always())
		require.NoError(t, err)
		err = s.CheckBlob(t.Context(), name, b, opener)
		if keeps {
			require.ErrorIs(t, err, tufrepo.ErrDamaged)
			require.Equal(t, length > testPart, opened > 0, "the local file is read only for a hash of parts")
		} else {
			require.NoError(t, err)
		}
		_, err = put(t, s, name, content[1:], tufrepo.Always())
		require.NoError(t, err)
		require.ErrorIs(t, s.CheckBlob(t.Context(), name, b, opener), tufrepo.ErrDamaged)
	}
}

// testWholeOrNot: a content that fails, or a context that ends, in the first part or a later one.
func testWholeOrNot(t *testing.T, server *s3test.Server) {
	s := open(t, server.URL, "whole")
	_, err := put(t, s, "blobs/b", "old", tufrepo.Always())
	require.NoError(t, err)
	broken := errors.New("broken")
	for _, length := range []int{10, testPart, testPart + 10, 3 * testPart} {
		for _, failure := range []error{broken, io.ErrUnexpectedEOF} {
			_, err = s.Put(t.Context(), "blobs/b", io.MultiReader(strings.NewReader(noise(3, length)), iotest.ErrReader(failure)), tufrepo.Always())
			require.ErrorIs(t, err, failure, "%d bytes", length)
		}
		ctx, cancel := context.WithCancel(t.Context())
		_, err = s.Put(ctx, "blobs/b", io.MultiReader(strings.NewReader(noise(3, length)), readerFunc(func(p []byte) (int, error) {
			cancel()
			return copy(p, "w"), nil
		})), tufrepo.Always())
		require.ErrorIs(t, err, context.Canceled, "%d bytes", length)
		content, _ := get(t, s, "blobs/b")
		require.Equal(t, "old", content)
	}
	require.Len(t, s.parts, partsAtOnce, "all memory was given back")
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// testOneWins: of many writers with the same condition exactly one gets it, time and again.
func testOneWins(t *testing.T, server *s3test.Server) {
	s := open(t, server.URL, "race")
	rev := tufrepo.Revision("")
	for round := range 20 {
		var mu sync.Mutex
		var wg sync.WaitGroup
		var won []string
		next := rev
		for i := range 6 {
			wg.Go(func() {
				content := fmt.Sprintf("%d by %d", round, i)
				got, err := put(t, s, stamp, content, tufrepo.IfRevision(rev))
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won, next = append(won, content), got
				} else if !errors.Is(err, tufrepo.ErrConflict) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.Len(t, won, 1)
		content, there := get(t, s, stamp)
		require.Equal(t, won[0], content)
		require.Equal(t, next, there)
		rev = next
	}
	content := noise(5, testPart+100)
	name, _ := blobOf(content)
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() { _, errs[i] = put(t, s, name, content, tufrepo.IfAbsent()) })
	}
	wg.Wait()
	for _, err := range errs { // they may share one upload, and then each is told that its file is there
		require.True(t, err == nil || errors.Is(err, tufrepo.ErrConflict), "%v", err)
	}
	got, _ := get(t, s, name)
	require.True(t, content == got)
}

func testProbe(t *testing.T, server *s3test.Server) {
	s := open(t, server.URL, "probe")
	_, err := put(t, s, "metadata/1.root.json", "root", tufrepo.IfAbsent())
	require.NoError(t, err)
	require.NoError(t, s.Probe(t.Context(), "metadata/1.root.json", []byte("root")))
	for _, deaf := range []string{"If-None-Match", "If-Match"} {
		half := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("ETag", `"1"`)
			if (req.Header.Get("If-Match") != "" || req.Header.Get("If-None-Match") != "") && req.Header.Get(deaf) == "" {
				w.WriteHeader(http.StatusPreconditionFailed)
			}
		}))
		err = open(t, half.URL, "probe").Probe(t.Context(), "metadata/1.root.json", []byte("root"))
		require.ErrorContains(t, err, "ignores the conditions")
		half.Close()
	}
	content, _ := get(t, s, "metadata/1.root.json")
	require.Equal(t, "root", content)
}

func TestDigest(t *testing.T) {
	content := []byte(noise(1, 25))
	whole, err := digest(t.Context(), bytes.NewReader(content), 0)
	require.NoError(t, err)
	sum := sha256.Sum256(content)
	require.Equal(t, fromHex(hex.EncodeToString(sum[:])), whole)
	for perPart, count := range map[int]string{10: "-3", 25: "-1", 5: "-5", 26: "-1"} {
		got, err := digest(t.Context(), iotest.OneByteReader(bytes.NewReader(content)), perPart)
		require.NoError(t, err)
		require.True(t, strings.HasSuffix(got, count), "%d: %s", perPart, got)
	}
	_, err = digest(t.Context(), io.MultiReader(bytes.NewReader(content), iotest.ErrReader(io.ErrUnexpectedEOF)), 5)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}
