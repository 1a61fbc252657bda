//go:build !nos3

package s3store

import (
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/cmd/publish/internal/s3store/s3test"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

// interrupt sends a file and breaks off when three parts have arrived.
func interrupt(t *testing.T, proxy *s3test.Proxy, prefix, name, content string) {
	t.Helper()
	proxy.Decide(func(_ int, req *http.Request) s3test.Fault {
		if req.URL.Query().Get("partNumber") > "3" {
			return s3test.Error500
		}
		return s3test.None
	})
	s := open(t, proxy.URL, prefix)
	key, err := s.key(name)
	require.NoError(t, err)
	arrived := readerFunc(func([]byte) (int, error) {
		for {
			m := &multipart{upload: &upload{s: s, name: name, key: key}}
			if err := m.find(t.Context()); err != nil || len(m.have) == 3 {
				return 0, cmp.Or(err, io.EOF)
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	const sent = 3*testPart + 1 // with the first byte of the fourth: it is looked at before the third is sent
	_, err = s.Put(t.Context(), name, io.MultiReader(strings.NewReader(content[:sent]), arrived, strings.NewReader(content[sent:])), tufrepo.IfAbsent())
	require.ErrorContains(t, err, "InternalError")
	var hinted interface{ Hint() string }
	require.ErrorAs(t, err, &hinted)
	require.Equal(t, againHint, hinted.Hint())
	proxy.Decide(nil)
}

func testResume(t *testing.T, server *s3test.Server) {
	proxy := s3test.NewProxy(t, server, nil)
	s := open(t, proxy.URL, "resume")
	content := noise(9, 6*testPart+3)
	name, _ := blobOf(content)
	interrupt(t, proxy, "resume", name, content)
	require.Len(t, s.uploads(t), 1)
	proxy.Decide(nil)
	_, err := put(t, s, name, content, tufrepo.IfAbsent())
	require.NoError(t, err)
	require.InDelta(t, 3*testPart, proxy.Sent(), 10_000, "parts that are there are not sent again")
	require.Empty(t, s.uploads(t))
	got, _ := get(t, s, name)
	require.True(t, content == got)
	t.Logf("%s: %d of %d bytes sent: %s", server.Kind, proxy.Sent(), len(content), strings.Join(proxy.Requests(), ", "))
}

// testResumeOther: what an interrupted upload left is of another file. What stands there in the end is right.
func testResumeOther(t *testing.T, server *s3test.Server) {
	proxy := s3test.NewProxy(t, server, nil)
	s := open(t, proxy.URL, "other")
	content := noise(11, 4*testPart)
	name, _ := blobOf(content)
	interrupt(t, proxy, "other", name, noise(12, 4*testPart))
	_, err := put(t, s, name, content, tufrepo.IfAbsent())
	require.NoError(t, err)
	got, _ := get(t, s, name)
	require.True(t, content == got)
}

// testLostAnswers: the server did what was asked, and the answer was lost. It is no conflict, and no double.
func testLostAnswers(t *testing.T, server *s3test.Server) {
	proxy := s3test.NewProxy(t, server, nil)
	s := open(t, proxy.URL, "lost")
	lose := func(method, query string, fault s3test.Fault) {
		lost := false
		proxy.Decide(func(_ int, req *http.Request) s3test.Fault {
			if !lost && req.Method == method && req.URL.Query().Has(query) == (query != "") {
				lost = true
				return fault
			}
			return s3test.None
		})
	}
	rev := tufrepo.Revision("")
	for i, fault := range []s3test.Fault{s3test.LostAnswer, s3test.LostStall, s3test.LostAnswer} {
		lose(http.MethodPut, "", fault)
		content := fmt.Sprint("content ", i)
		next, err := put(t, s, stamp, content, tufrepo.IfRevision(rev))
		require.NoError(t, err)
		got, there := get(t, s, stamp)
		require.Equal(t, content, got)
		require.Equal(t, there, next)
		require.NotEqual(t, rev, next)
		rev = next
	}
	content := noise(13, testPart+1)
	name, _ := blobOf(content)
	lose(http.MethodPost, "uploadId", s3test.LostAnswer)
	_, err := put(t, s, name, content, tufrepo.IfAbsent())
	require.NoError(t, err)
	got, _ := get(t, s, name)
	require.True(t, content == got)

	// But a conflict stays one, if another file stands there.
	lost := false
	proxy.Decide(func(_ int, req *http.Request) s3test.Fault {
		if !lost && req.Method == http.MethodPut {
			lost = true
			_, err := put(t, open(t, server.URL, "lost"), stamp, "somebody else's", tufrepo.IfRevision(rev))
			require.NoError(t, err)
			return s3test.Reset
		}
		return s3test.None
	})
	_, err = put(t, s, stamp, "mine", tufrepo.IfRevision(rev))
	require.ErrorIs(t, err, tufrepo.ErrConflict)
	gone, _ := get(t, s, stamp)
	require.Equal(t, "somebody else's", gone)
}

// testFaults: every request of an upload fails once in every way, and is tried again.
func testFaults(t *testing.T, server *s3test.Server) {
	proxy := s3test.NewProxy(t, server, nil)
	for fault, what := range map[s3test.Fault]string{s3test.Error500: "500", s3test.Error503: "503", s3test.Error409: "409",
		s3test.Reset: "reset", s3test.LostAnswer: "lost"} {
		s := open(t, proxy.URL, "faults-"+what)
		seen := map[string]bool{}
		proxy.Decide(func(_ int, req *http.Request) s3test.Fault {
			key := req.Method + req.URL.RawQuery
			if seen[key] {
				return s3test.None
			}
			seen[key] = true
			return fault
		})
		content := noise(15, 2*testPart+1)
		name, b := blobOf(content)
		_, err := put(t, s, name, content, tufrepo.IfAbsent())
		require.NoError(t, err, what)
		_, err = put(t, s, stamp, "x", tufrepo.IfAbsent())
		require.NoError(t, err, what)
		require.NoError(t, s.CheckBlob(t.Context(), name, b, nil), what)
		names, err := s.List(t.Context(), "")
		require.NoError(t, err, what)
		require.ElementsMatch(t, []string{name, stamp}, names, what)
		got, _ := get(t, s, name)
		require.True(t, content == got, what)
		require.GreaterOrEqual(t, len(seen), 8, what)
	}
	// And what fails for good fails, with what the server said.
	s := open(t, proxy.URL, "faults-for-good")
	proxy.Decide(func(int, *http.Request) s3test.Fault { return s3test.Error409 })
	_, err := put(t, s, stamp, "x", tufrepo.IfAbsent())
	require.EqualError(t, err, "cannot write metadata/timestamp.json: ConditionalRequestConflict: disturbed (status 409)")
	require.Len(t, proxy.Requests(), 5)
}

func testBrokenDownload(t *testing.T, server *s3test.Server) {
	proxy := s3test.NewProxy(t, server, nil)
	s := open(t, proxy.URL, "download")
	content := noise(17, 2000)
	rev, err := put(t, s, "blobs/b", content, tufrepo.Always())
	require.NoError(t, err)
	proxy.Decide(func(n int, _ *http.Request) s3test.Fault {
		if n <= 3 {
			return s3test.CutBody
		}
		return s3test.None
	})
	got, _ := get(t, s, "blobs/b")
	require.Equal(t, content, got)
	require.Len(t, proxy.Requests(), 4)

	// Another file in its place is not the rest of this one.
	proxy.Decide(func(n int, _ *http.Request) s3test.Fault {
		if n == 1 {
			return s3test.CutBody
		}
		_, err := put(t, open(t, server.URL, "download"), "blobs/b", noise(18, 2000), tufrepo.IfRevision(rev))
		require.NoError(t, err)
		return s3test.None
	})
	r, _, err := s.Get(t.Context(), "blobs/b")
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, r)
	require.ErrorContains(t, err, "cannot read blobs/b")
	require.NoError(t, r.Close())
}

// testRefusals: what the server refuses is told with what to do.
func testRefusals(t *testing.T, server *s3test.Server) {
	hintOf := func(t *testing.T, err error) string {
		t.Helper()
		var hinted interface{ Hint() string }
		require.ErrorAs(t, err, &hinted)
		return hinted.Hint()
	}
	t.Run("bucket", func(t *testing.T) {
		at, err := ParseLocation(strings.Replace(s3test.Address(server.URL, "p"), "//"+s3test.Bucket, "//nowhere", 1))
		require.NoError(t, err)
		s, err := newStore(t.Context(), at, tuning{})
		require.NoError(t, err)
		_, _, err = s.Get(t.Context(), stamp)
		require.NotErrorIs(t, err, fs.ErrNotExist, "a bucket that is not there holds no empty repository")
		require.Contains(t, hintOf(t, err), "make the bucket nowhere")
	})
	t.Run("key", func(t *testing.T) {
		t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
		_, err := put(t, open(t, server.URL, "p"), stamp, "x", tufrepo.Always())
		require.Contains(t, hintOf(t, err), "AWS_SECRET_ACCESS_KEY")
		require.NotContains(t, err.Error(), "wrong")
	})
	t.Run("no credentials", func(t *testing.T) {
		t.Setenv("AWS_ACCESS_KEY_ID", "")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "")
		_, _, err := open(t, server.URL, "p").Get(t.Context(), stamp)
		require.Contains(t, hintOf(t, err), "set AWS_ACCESS_KEY_ID")
	})
	t.Run("nobody there", func(t *testing.T) {
		_, _, err := open(t, "http://127.0.0.1:9", "p").Get(t.Context(), stamp)
		require.ErrorContains(t, err, "connection refused")
		require.Equal(t, againHint, hintOf(t, err))
	})
	t.Run("plain http from the environment", func(t *testing.T) {
		t.Setenv("AWS_ENDPOINT_URL", "http://192.0.2.1")
		_, err := ParseLocation("s3://updates/p?region=x")
		require.NoError(t, err)
		s, err := Open(t.Context(), "s3://updates/p?region=us-east-1")
		require.NoError(t, err)
		_, _, err = s.Get(t.Context(), stamp)
		require.ErrorContains(t, err, "http://192.0.2.1 is not encrypted")
	})
	t.Run("silence", func(t *testing.T) {
		proxy := s3test.NewProxy(t, server, func(int, *http.Request) s3test.Fault { return s3test.Stall })
		at, err := ParseLocation(s3test.Address(proxy.URL, "p"))
		require.NoError(t, err)
		s, err := newStore(t.Context(), at, tuning{stall: 200 * time.Millisecond, pause: time.Millisecond, attempts: 2})
		require.NoError(t, err)
		began := time.Now()
		_, _, err = s.Get(t.Context(), stamp)
		require.ErrorContains(t, err, "i/o timeout")
		require.Less(t, time.Since(began), 5*time.Second)
		require.Len(t, proxy.Requests(), 2)
	})
}
