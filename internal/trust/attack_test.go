package trust

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/stretchr/testify/require"
)

// newsFiles are the files that a client of version 1 fetches for version 2, in their order.
var newsFiles = []string{"metadata/timestamp.json", "metadata/2.snapshot.json", "metadata/2.targets.json", "metadata/2.notes.stable.json"}

// beforeNews returns a repository with a second version of everything, and a store that has seen the first.
func beforeNews(t *testing.T) (*repo, string) {
	r := newRepo(t)
	dir := t.TempDir()
	r.mustRefresh(dir, nil)
	r.release("notes.stable", "stable", "1.0.0")
	r.publish("notes.stable", roleTargets)
	return r, dir
}

// refreshAll refreshes and reads a channel.
func refreshAll(r *repo, dir string, src Source) error {
	v, err := r.refresh(dir, src)
	if err != nil {
		return err
	}
	_, err = v.Role(r.tb.Context(), "notes.stable")
	return err
}

// Rule 5. What is refused leaves no trace: neither the file, nor what depends on it. What was verified before it in
// the same refresh is remembered (TUF 5.4.5), once; and the next honest refresh succeeds.
func TestRefusedFilesLeaveNoTrace(t *testing.T) {
	tampers := map[string]func(r *repo, name string, data []byte) []byte{
		"one bit":          func(_ *repo, _ string, data []byte) []byte { return flip(data) },
		"truncated":        func(_ *repo, _ string, data []byte) []byte { return data[:len(data)-1] },
		"empty":            func(*repo, string, []byte) []byte { return []byte{} },
		"a web page":       func(*repo, string, []byte) []byte { return []byte("<html>please log in</html>") },
		"trailing rubbish": func(_ *repo, _ string, data []byte) []byte { return append(slices.Clone(data), '{') },
		"another role": func(r *repo, name string, _ []byte) []byte {
			if name == newsFiles[0] {
				return r.get("metadata/2.snapshot.json")
			}
			return r.get(newsFiles[0])
		},
		"deep": func(*repo, string, []byte) []byte {
			return []byte(strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000))
		},
		"key twice": func(_ *repo, _ string, data []byte) []byte {
			return bytes.Replace(data, []byte(`{"signatures":`), []byte(`{"signatures":[],"signatures":`), 1)
		},
		"endless": func(*repo, string, []byte) []byte { return bytes.Repeat([]byte(" "), 6<<20) },
		"absent":  func(*repo, string, []byte) []byte { return nil },
	}
	for i, name := range newsFiles {
		for how, tamper := range tampers {
			t.Run(name+" "+how, func(t *testing.T) {
				r, dir := beforeNews(t)
				honest := r.copyFiles()
				before := treeHash(t, dir)
				r.put(name, tamper(r, name, honest[name]))
				err := refreshAll(r, dir, nil)
				if how == "absent" {
					var gone *SourceError
					require.ErrorAs(t, err, &gone)
					require.Equal(t, name, gone.Name)
					require.ErrorIs(t, err, fs.ErrNotExist)
				} else {
					requireVerify(t, err, name)
				}
				if i == 0 {
					require.Equal(t, before, treeHash(t, dir))
				}
				before = treeHash(t, dir)
				require.Error(t, refreshAll(r, dir, nil))
				require.Equal(t, before, treeHash(t, dir))
				require.NoError(t, refreshAll(r, dir, FS(mapFS(honest))))
			})
		}
	}
}

func flip(data []byte) []byte {
	data = slices.Clone(data)
	data[len(data)/2] ^= 1
	return data
}

// Each file is signed by somebody, but not by who may.
func TestWrongKeysAreRefused(t *testing.T) {
	forge := map[string]func(r *repo, thief signature.Signer){
		newsFiles[0]: func(r *repo, thief signature.Signer) {
			r.keys[roleTimestamp] = []signature.Signer{thief}
			r.publishTimestamp()
		},
		newsFiles[1]: func(r *repo, thief signature.Signer) {
			r.snapshot.Signed.Version--
			r.keys[roleSnapshot] = []signature.Signer{thief}
			r.publish()
		},
		newsFiles[2]: func(r *repo, thief signature.Signer) {
			r.roles[roleTargets].Signed.Version--
			r.keys[roleTargets] = []signature.Signer{thief}
			r.publish(roleTargets)
		},
		newsFiles[3]: func(r *repo, thief signature.Signer) {
			r.roles["notes.stable"].Signed.Version--
			r.keys["notes.stable"] = []signature.Signer{thief}
			r.publish("notes.stable")
		},
	}
	for name, f := range forge {
		for _, who := range []string{"stranger", "notes.beta", "nobody", "the right one"} {
			t.Run(name+" "+who, func(t *testing.T) {
				r, dir := beforeNews(t)
				switch who {
				case "stranger":
					f(r, ed25519Signer(t))
				case "notes.beta":
					f(r, r.keys["notes.beta"][0])
				case "nobody":
					r.put(name, bytes.Replace(r.get(name), []byte(`"sig":"`), []byte(`"sig":"00`), 1))
				default:
					require.NoError(t, refreshAll(r, dir, nil))
					return
				}
				requireVerify(t, refreshAll(r, dir, nil), name)
			})
		}
	}
}

// Every value of every document replaced by null, as a mirror may serve it before any signature is checked.
func TestNullsAnywhereAreRefused(t *testing.T) {
	r, _ := beforeNews(t)
	r.delegate("notes.beta", delegated("deeper", "notes/beta/*/x"))
	r.publish("deeper", "notes.beta")
	r.publishRoot()
	honest := r.copyFiles()
	for _, name := range []string{rootName(2), newsFiles[0], "metadata/3.snapshot.json", newsFiles[2], newsFiles[3], "metadata/2.notes.beta.json"} {
		count := 0
		for where, doc := range withNulls(t, honest[name]) {
			count++
			files := maps.Clone(honest)
			files[name] = doc
			dir := t.TempDir()
			v, err := r.refresh(dir, FS(mapFS(files)))
			if err == nil {
				_, err = v.Role(t.Context(), "notes.stable")
			}
			if err == nil {
				_, err = v.Role(t.Context(), "notes.beta")
			}
			requireVerify(t, err, name)
			if inCustom := strings.Contains(where, "/custom/"); !inCustom {
				require.ErrorContains(t, precheck(doc), "null", where) // before go-tuf sees it
			} else {
				require.NoError(t, precheck(doc), "a publisher's own data may hold a null")
			}
		}
		require.Greater(t, count, 10, name)
	}
}

// withNulls returns doc once for each value in it, with null in its place.
func withNulls(t *testing.T, doc []byte) map[string][]byte {
	out := map[string][]byte{}
	var root any
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	require.NoError(t, d.Decode(&root))
	var walk func(where string, v any)
	replace := func(where string, old any, set func(any)) {
		set(nil)
		data, err := json.Marshal(root)
		require.NoError(t, err)
		out[where] = data
		set(old)
		walk(where, old)
	}
	walk = func(where string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, old := range v {
				replace(where+"/"+k, old, func(x any) { v[k] = x })
			}
		case []any:
			for i, old := range v {
				replace(fmt.Sprintf("%s/%d", where, i), old, func(x any) { v[i] = x })
			}
		}
	}
	walk("", root)
	return out
}

func TestParserThatPanicsIsOneMoreRefusal(t *testing.T) {
	err := guarded("metadata/x.json", []byte("{}"), func() error { panic("boom") })
	requireVerify(t, err, "metadata/x.json")
	require.ErrorContains(t, err, "boom")

	// A key of the wrong length, signed by whoever may: go-tuf panics on it.
	r := newRepo(t)
	for _, k := range r.roles[roleTargets].Signed.Delegations.Keys {
		k.Value.PublicKey = k.Value.PublicKey[:10]
	}
	r.publish(roleTargets)
	v := r.mustRefresh(t.TempDir(), nil)
	_, err = v.Role(t.Context(), "notes.stable")
	requireVerify(t, err, "metadata/1.notes.stable.json")
}

// slowReader gives one byte, and then nothing for as long as its context lasts; or for good, if it ignores that.
type slowReader struct {
	ctx  context.Context
	sent bool
}

func (r *slowReader) Read(p []byte) (int, error) {
	if !r.sent {
		r.sent = true
		p[0] = ' '
		return 1, nil
	}
	<-r.ctx.Done()
	return 0, r.ctx.Err()
}

func (r *slowReader) Close() error { return nil }

func TestStalledReadsEnd(t *testing.T) {
	quick := func(c *Config) { c.StallTimeout = 50 * time.Millisecond }
	for _, name := range append([]string{rootName(2)}, newsFiles...) {
		for _, how := range []string{"stalls in the body", "ignores its context", "stalls before the body", "spins"} {
			t.Run(name+" "+how, func(t *testing.T) {
				r, dir := beforeNews(t)
				free, release := context.WithCancel(context.Background())
				t.Cleanup(release)
				src := sourceFunc(func(ctx context.Context, n string, offset int64) (io.ReadCloser, error) {
					switch {
					case n != name:
						return liveSource{r}.Open(ctx, n, offset)
					case how == "stalls in the body":
						return &slowReader{ctx: ctx}, nil
					case how == "ignores its context":
						return &slowReader{ctx: free}, nil
					case how == "spins":
						return io.NopCloser(spinner{}), nil
					}
					<-ctx.Done()
					return nil, ctx.Err()
				})
				began := time.Now()
				v, err := r.refresh(dir, src, quick)
				if err == nil {
					_, err = v.Role(t.Context(), "notes.stable")
				}
				require.ErrorIs(t, err, errStalled)
				var failed *SourceError
				require.ErrorAs(t, err, &failed)
				require.Equal(t, name, failed.Name)
				require.Less(t, time.Since(began), 10*time.Second)
				require.NoError(t, refreshAll(r, dir, nil))
			})
		}
	}
}

// spinner never brings a byte and never ends.
type spinner struct{}

func (spinner) Read([]byte) (int, error) { return 0, nil }

// A slow source is not a stalled one: whoever makes progress may take longer than the time-out altogether.
func TestProgressPostponesTheStall(t *testing.T) {
	r, dir := beforeNews(t)
	src := sourceFunc(func(ctx context.Context, n string, offset int64) (io.ReadCloser, error) {
		in, err := liveSource{r}.Open(ctx, n, offset)
		if err != nil || n != newsFiles[0] {
			return in, err
		}
		return io.NopCloser(dripping{in}), nil
	})
	began := time.Now()
	_, err := r.refresh(dir, src, func(c *Config) { c.StallTimeout = 200 * time.Millisecond })
	require.NoError(t, err)
	require.Greater(t, time.Since(began), 250*time.Millisecond)
}

type dripping struct{ io.Reader }

func (d dripping) Read(p []byte) (int, error) {
	time.Sleep(20 * time.Millisecond)
	return d.Reader.Read(p[:min(len(p), 32)])
}

func TestCancelledContextEndsARefresh(t *testing.T) {
	for _, name := range append([]string{rootName(2)}, newsFiles[:3]...) {
		r, dir := beforeNews(t)
		before := treeHash(t, dir)
		ctx, cancel := context.WithCancel(t.Context())
		src := sourceFunc(func(ctx context.Context, n string, offset int64) (io.ReadCloser, error) {
			if n == name {
				cancel()
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return liveSource{r}.Open(ctx, n, offset)
		})
		_, err := r.client(dir, Mirrors(src, src)).Refresh(ctx)
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, before, treeHash(t, dir))
		require.NoError(t, refreshAll(r, dir, nil))
	}
	r, dir := beforeNews(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := r.client(dir, nil).Refresh(ctx)
	require.ErrorIs(t, err, context.Canceled)
	_, err = r.client(dir, nil).Load(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

// A source may answer its cancelled context with an absent file: that is no end of the chain of roots.
func TestAbsenceAfterCancellationIsNoAnswer(t *testing.T) {
	r, dir := beforeNews(t)
	ctx, cancel := context.WithCancel(t.Context())
	src := sourceFunc(func(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
		cancel()
		return nil, fs.ErrNotExist
	})
	_, err := r.client(dir, Mirrors(src, src)).Refresh(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, fs.ErrNotExist)
}

// Neither an offline view nor somebody else's deadline has to wait for a refresh that hangs.
func TestNobodyWaitsForARefreshThatHangs(t *testing.T) {
	r, dir := beforeNews(t)
	hung, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	src := sourceFunc(func(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
		once.Do(func() { close(hung) })
		<-goOn
		return liveSource{r}.Open(ctx, name, offset)
	})
	c := r.client(dir, src)
	done := make(chan error)
	go func() {
		_, err := c.Refresh(context.Background())
		done <- err
	}()
	<-hung
	v, err := c.Load(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, v.Versions()["timestamp"])
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = c.Refresh(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	close(goOn)
	require.NoError(t, <-done)
}

func TestSourceThatPanics(t *testing.T) {
	r, dir := beforeNews(t)
	_, err := r.refresh(dir, sourceFunc(nil))
	var failed *SourceError
	require.ErrorAs(t, err, &failed)
	require.ErrorContains(t, err, "panicked")
}

func TestNextMirrorIsTriedOnAnyFailure(t *testing.T) {
	down := errors.New("connection refused")
	faults := map[string]func(data []byte) (io.ReadCloser, error){
		"down":   func([]byte) (io.ReadCloser, error) { return nil, down },
		"absent": func([]byte) (io.ReadCloser, error) { return nil, fs.ErrNotExist },
		"tampered": func(data []byte) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(flip(append(data, ' ')))), nil
		},
		"endless": func([]byte) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(make([]byte, 6<<20))), nil },
		"truncated": func([]byte) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader("{"), brokenReader{down})), nil
		},
	}
	for how, fault := range faults {
		t.Run(how, func(t *testing.T) {
			r, dir := beforeNews(t)
			r.publishRoot()
			bad := sourceFunc(func(_ context.Context, name string, _ int64) (io.ReadCloser, error) { return fault(r.get(name)) })
			v := r.mustRefresh(dir, Mirrors(bad, Mirrors(bad, liveSource{r})))
			list, err := v.Role(t.Context(), "notes.stable")
			require.NoError(t, err)
			_, err = v.Fetch(t.Context(), list[0], 1000)
			require.NoError(t, err)
			require.EqualValues(t, 2, v.Versions()["root"])
		})
	}
	t.Run("stale or frozen", func(t *testing.T) {
		r := newRepo(t)
		dir := t.TempDir()
		old := FS(mapFS(r.copyFiles()))
		r.publish()
		r.mustRefresh(dir, nil)
		require.EqualValues(t, 2, r.mustRefresh(dir, Mirrors(old, liveSource{r})).Versions()["timestamp"], "rolled back")
		frozen := FS(mapFS(r.copyFiles()))
		r.now = start.Add(8 * day)
		r.timestamp.Signed.Expires = start.Add(14 * day)
		r.publishTimestamp()
		require.EqualValues(t, 3, r.mustRefresh(dir, Mirrors(frozen, liveSource{r})).Versions()["timestamp"], "expired")
	})
}

type brokenReader struct{ err error }

func (b brokenReader) Read([]byte) (int, error) { return 0, b.err }

// That one mirror was out of reach must not hide that another one was tampered with.
func TestFailedVerificationShowsThroughNetworkErrors(t *testing.T) {
	r, dir := beforeNews(t)
	down := errors.New("connection refused")
	unreachable := sourceFunc(func(_ context.Context, name string, _ int64) (io.ReadCloser, error) {
		if name == rootName(2) {
			return nil, fs.ErrNotExist
		}
		return nil, down
	})
	r.put(newsFiles[0], flip(r.get(newsFiles[0])))
	for _, src := range []Source{Mirrors(unreachable, liveSource{r}), Mirrors(liveSource{r}, unreachable)} {
		_, err := r.refresh(dir, src)
		requireVerify(t, err, newsFiles[0])
		require.ErrorIs(t, err, down)
		require.Regexp(t, "(?s)does not verify.*next mirror.*connection refused", err.Error())
	}
	_, err := r.refresh(dir, Mirrors())
	require.ErrorContains(t, err, "no mirrors")
}
