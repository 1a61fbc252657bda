package update

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"golang.org/x/time/rate"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/disk"
	"github.com/fairlead-dev/fairlead/internal/trust"
)

// Download adjusts how artifacts are fetched. The zero value fetches as fast as it can.
type Download struct {
	// BytesPerSecond is the most that all downloads of an Updater together take of the line. 0: no limit.
	BytesPerSecond int64
	// Tries is how often in a row a mirror may fail before this Stage leaves it; what brings a mebibyte counts as none.
	// Between them are growing, random pauses (up to 1 s, 2 s, 4 s, …), in which the other mirrors are asked, and what a
	// server says in Retry-After, but no more than a minute. 0: 5.
	Tries int
}

// A blob is verified by its signed length and SHA-256 while it streams: memory stays at one buffer, whatever its size.

const copyBuffer = 256 << 10

// A source must deliver this much a second, on average over the stall time-out: a trickle is a stall, too.
const leastRate = 1 << 10

var (
	errStalled = errors.New("nothing, or next to nothing, arrived for too long")
	errPaused  = errors.New("downloads are paused")
)

// fetchBlob streams a small verified blob to w. Nothing reaches w before the whole of it is verified.
func (u *Updater) fetchBlob(ctx context.Context, b channel.Blob, w io.Writer) error {
	return u.fetchSmall(ctx, b, w, func(*transfer) {})
}

// fetchNow is fetchBlob for what somebody waits for: it heeds neither Pause nor the limit.
func (u *Updater) fetchNow(ctx context.Context, b channel.Blob, w io.Writer) error {
	return u.fetchSmall(ctx, b, w, (*transfer).now)
}

// fetchOnce is fetchNow for what can be done without: every mirror is asked once, and all of it takes no longer than a stall.
func (u *Updater) fetchOnce(ctx context.Context, b channel.Blob, w io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, u.cfg.Trust.StallTimeout, errStalled)
	defer cancel()
	return u.fetchSmall(ctx, b, w, func(t *transfer) {
		t.now()
		t.tries = 1
	})
}

func (u *Updater) fetchSmall(ctx context.Context, b channel.Blob, w io.Writer, adjust func(*transfer)) error {
	if err := disk.MkdirAll(u.disk, u.dir, 0o700); err != nil {
		return &StateError{u.dir, err}
	}
	f, err := disk.CreateTemp(u.disk, u.dir)
	if err != nil {
		return &StateError{u.dir, err}
	}
	defer func() { _, _ = f.Close(), u.disk.Remove(f.Name()) }()
	t := u.transfer(ctx, b, f)
	adjust(t)
	if err := u.download(t); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return &StateError{f.Name(), err}
	}
	_, err = io.Copy(w, f)
	return err
}

// downloadBlob returns the path of the verified blob. The name is its hash: never a name from the network. It goes on where
// an earlier one stopped, see type checkpoint. The file is not synced: who installs it syncs what comes of it. It is removed
// by dropPart.
func (u *Updater) downloadBlob(ctx context.Context, b channel.Blob, progress func(done int64)) (string, error) {
	path := u.path(stagingName, b.SHA256+partSuffix)
	f, err := u.openPart(path)
	if err != nil {
		return "", &StateError{path, err}
	}
	t := u.transfer(ctx, b, f)
	t.progress = progress
	t.marks = newMarks(u.disk, b, f, u.boot(), u.pace)
	if err = t.resume(); err != nil {
		err = &StateError{path, err}
	} else {
		err = u.download(t)
	}
	u.noteDoubt(b.SHA256, t.doubt)
	err = t.finish(err)
	var full *StateError
	if errors.As(err, &full) || err != nil && t.done == 0 {
		u.dropPart(path) // a full disk is not left full
	}
	return path, err
}

// finish closes the file of a transfer that ended with err, and leaves its checkpoints as they should be.
func (t *transfer) finish(err error) error {
	var state *StateError
	switch {
	case err == nil:
		// The checkpoints stay for as long as the file: unpacking it may take long, and be killed, too.
		if err = t.marks.ends(t.checkpoint(t.done), t.hash); err != nil {
			err = &StateError{t.file.Name(), err}
		}
	case !errors.As(err, &state):
		err = errors.Join(err, t.rest())
	}
	if cerr := errors.Join(t.marks.close(), t.file.Close()); cerr != nil {
		err = errors.Join(err, &StateError{t.file.Name(), cerr})
	}
	return err
}

// dropPart removes a file that downloadBlob has returned, or what an earlier one left, with its checkpoints.
func (u *Updater) dropPart(path string) {
	for _, suffix := range []string{"", keptSuffix, nowSuffix} {
		_ = u.disk.RemoveAll(path + suffix)
	}
}

// transfer is one blob on its way into one file, which is open for writing.
type transfer struct {
	ctx      context.Context
	blob     channel.Blob
	file     disk.File
	stall    time.Duration
	limit    *rate.Limiter // nil: none
	pauser   *pauser
	tries    int              // see Download
	progress func(done int64) // may be nil
	marks    *marks           // nil: it is too small to go on with

	hash    hash.Hash
	done    int64 // bytes in file and, when no read is under way, in hash
	written chan []byte
	origin  string // of the validator
	past    string // validator of the file that the bytes are of, see trust.Body
	far     int64  // the most that was ever done: a server that makes it start again and again gets on no further
	by      int    // number of the mirror that all bytes are from; 0: not known, or several
	single  bool   // bytes of several are no longer accepted, as those did not fit
	doubt   bool   // the hash goes back to a checkpoint of another process
}

func (u *Updater) transfer(ctx context.Context, b channel.Blob, f disk.File) *transfer {
	return &transfer{ctx: ctx, blob: b, file: f, hash: sha256.New(), stall: u.cfg.Trust.StallTimeout, limit: u.limit, pauser: u.pauser, tries: u.cfg.Download.Tries}
}

// now lets a transfer heed neither Pause nor the limit.
func (t *transfer) now() { t.limit, t.pauser = nil, newPauser() }

// download completes the file from the mirrors. When it returns nil, the file holds exactly the blob.
func (u *Updater) download(t *transfer) error {
	name := channel.BlobPath(t.blob.SHA256)
	all := newCandidates(u.roster.Present(), t.tries)
	for {
		c, wait := all.next(time.Now(), t.owner())
		if c == nil {
			return cmp.Or(all.err(), error(&SourceError{Name: name, Err: errors.New("there is no mirror")}))
		}
		if err := cmp.Or(sleep(t.ctx, wait), t.pauser.wait(t.ctx)); err != nil {
			return errors.Join(&SourceError{Name: name, Err: err}, all.err())
		}
		err := u.from(t, c.Mirror)
		var state *StateError
		switch {
		case err == nil:
			u.strikeMisfits(all)
			return nil
		case errors.As(err, &state), t.ctx.Err() != nil:
			return err
		case errors.Is(err, errPaused):
			if err := t.rest(); err != nil {
				return err
			}
			continue
		}
		u.log.Info("a mirror failed", "file", name, "mirror", c.Number, "done", t.done, "cause", err)
		c.failed(err, t.done-t.far >= leastProgress, time.Now())
		t.far = max(t.far, t.done)
	}
}

// strikeMisfits strikes the mirrors that answered with a wrong length or part, now that another one had the right blob.
func (u *Updater) strikeMisfits(all candidates) {
	for _, c := range all {
		if misfits(c.err) {
			u.roster.Strike(c.Mirror, c.err)
		}
	}
}

// owner is the number of the mirror whose bytes would be lost with any other; 0: there is none.
func (t *transfer) owner() int {
	if t.single && t.done > 0 {
		return t.by
	}
	return 0
}

// from reads the rest from one mirror and judges the whole. What does not fit is deleted.
func (u *Updater) from(t *transfer, m trust.Mirror) error {
	err := t.from(m)
	var wrong *VerifyError
	if !errors.As(err, &wrong) {
		return err
	}
	mixed := t.by == 0 && !t.single
	if rerr := t.restart(); rerr != nil {
		return &StateError{t.file.Name(), rerr}
	}
	if !mixed {
		u.roster.Strike(m, err)
		return err
	}
	// Whose fault it was cannot be told. From a single mirror, it can.
	u.log.Warn("what was downloaded earlier or elsewhere does not fit; starting the file again", "file", wrong.File)
	t.single, t.far = true, 0
	return u.from(t, m)
}

// checkpoint describes the transfer when the hash has read up to an offset.
func (t *transfer) checkpoint(offset int64) checkpoint {
	return checkpoint{Offset: offset, Origin: t.origin, Validator: t.past}
}

// resume takes up what is in the file already: up to a checkpoint without reading it.
func (t *transfer) resume() error {
	c, err := t.marks.take()
	if err != nil {
		return err
	}
	if c != nil {
		if t.hash, err = c.hash(); err != nil {
			return err
		}
		t.done, t.origin, t.past = c.Offset, c.Origin, c.Validator
	} else {
		t.marks.begins(t.hash)
	}
	if _, err := t.file.Seek(t.done, io.SeekStart); err != nil {
		return err
	}
	n, err := io.CopyBuffer(t.hash, io.LimitReader(t.file, t.blob.Length-t.done+1), make([]byte, copyBuffer))
	if err != nil {
		return err
	}
	if t.done += n; t.done > t.blob.Length {
		return t.restart()
	}
	t.far, t.doubt = t.done, t.done > 0
	if t.progress != nil && t.done > 0 {
		t.progress(t.done)
	}
	return nil
}

func (t *transfer) restart() error {
	if t.marks != nil {
		if err := t.marks.dropAll(); err != nil {
			return err
		}
	}
	t.hash = sha256.New()
	t.done, t.by, t.origin, t.past, t.doubt = 0, 0, "", "", false
	_, err := t.file.Seek(0, io.SeekStart)
	err = errors.Join(err, t.file.Truncate(0))
	if t.marks != nil && err == nil {
		t.marks.begins(t.hash)
	}
	return err
}

// rest makes what has arrived durable, as it may be long before it goes on.
func (t *transfer) rest() error {
	if t.marks == nil {
		return nil
	}
	if err := t.marks.rest(t.checkpoint(t.done), t.hash); err != nil {
		return &StateError{t.file.Name(), err}
	}
	return nil
}

func (t *transfer) from(m trust.Mirror) error {
	name := channel.BlobPath(t.blob.SHA256)
	if t.done < t.blob.Length {
		if err := t.read(m, name); err != nil {
			return err
		}
	}
	if got := hex.EncodeToString(t.hash.Sum(nil)); t.done != t.blob.Length || got != t.blob.SHA256 {
		return &VerifyError{File: name, Err: fmt.Errorf("has %d bytes with sha256 %s, %d bytes are signed", t.done, got, t.blob.Length)}
	}
	return nil
}

// open asks a mirror for the rest, and settles what the answer means for what is there.
func (t *transfer) open(ctx context.Context, m trust.Mirror, name string) (_ trust.Body, skip int64, err error) {
	if t.single && t.by != m.Number && t.done > 0 {
		if err := t.restart(); err != nil {
			return trust.Body{}, 0, &StateError{t.file.Name(), err}
		}
	}
	b := trust.Body{Offset: t.done}
	origin := ""
	if ranged, ok := m.Source.(trust.Ranged); ok {
		r := trust.Range{Name: name, Offset: t.done, Length: t.blob.Length}
		if origin = ranged.Origin(); origin == t.origin {
			r.Past = t.past
		}
		b, err = ranged.OpenRange(ctx, r)
	} else {
		b.ReadCloser, err = m.Source.Open(ctx, name, t.done)
	}
	if err != nil {
		return b, 0, sourceError(ctx, name, err)
	}
	if b.Changed && t.done > 0 {
		if err := t.restart(); err != nil {
			_ = b.Close()
			return b, 0, &StateError{t.file.Name(), err}
		}
	}
	if t.done == 0 {
		t.by = m.Number
	} else if t.by != m.Number {
		t.by = 0
	}
	t.origin, t.past = origin, b.Validator
	return b, t.done - b.Offset, nil
}

func (t *transfer) read(m trust.Mirror, name string) error {
	ctx, cancel := context.WithCancelCause(t.ctx)
	defer cancel(nil)
	defer t.stopWhenPaused(ctx, cancel)()
	alive := t.watch(cancel)
	defer alive.timer.Stop()

	r, skip, err := t.open(ctx, m, name)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	free, wait := t.hashBehind()
	defer wait()
	for t.done < t.blob.Length {
		buf := <-free
		n, err := r.Read(t.window(buf, skip))
		switch {
		case n > 0 && skip > 0:
			skip -= int64(n)
			free <- buf
		case n > 0:
			if err := t.keep(buf[:n]); err != nil {
				return &StateError{t.file.Name(), err}
			}
		default:
			free <- buf
		}
		alive.note(int64(n))
		if err == nil {
			err = cmp.Or(t.throttle(ctx, n, alive), ctx.Err())
		}
		if err == io.EOF && t.done == t.blob.Length {
			return nil
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return sourceError(ctx, name, err)
		}
	}
	return nil
}

// window is the part of a buffer that may be filled by one read.
func (t *transfer) window(buf []byte, skip int64) []byte {
	want := t.blob.Length - t.done
	if skip > 0 {
		want = skip
	}
	if t.limit != nil {
		want = min(want, int64(t.limit.Burst()))
	}
	return buf[:min(int64(len(buf)), want)]
}

// throttle waits until n more bytes may have been read. It is not the mirror's fault.
func (t *transfer) throttle(ctx context.Context, n int, alive *watchdog) error {
	if t.limit == nil || n == 0 {
		return nil
	}
	wait := t.limit.ReserveN(time.Now(), n).Delay()
	if wait == 0 {
		return nil
	}
	alive.timer.Stop()
	defer alive.reset()
	return sleep(ctx, wait)
}

// stopWhenPaused ends a read when downloads are paused. stop must be called.
func (t *transfer) stopWhenPaused(ctx context.Context, cancel context.CancelCauseFunc) (stop func()) {
	paused, _ := t.pauser.channels()
	over := make(chan struct{})
	go func() {
		select {
		case <-paused:
			cancel(errPaused)
		case <-ctx.Done():
		case <-over:
		}
	}()
	return func() { close(over) }
}

// watchdog ends a read that brings too little.
type watchdog struct {
	timer *time.Timer
	stall time.Duration
	got   int64 // since it was last satisfied
}

func (t *transfer) watch(cancel context.CancelCauseFunc) *watchdog {
	return &watchdog{timer: time.AfterFunc(t.stall, func() { cancel(errStalled) }), stall: t.stall}
}

func (w *watchdog) note(n int64) {
	if w.got += n; w.got > int64(w.stall.Seconds()*leastRate) {
		w.reset()
	}
}

func (w *watchdog) reset() {
	w.got = 0
	w.timer.Reset(w.stall)
}

// hashBehind hashes what keep has written while the next bytes arrive: on a fast line the hash is what takes longest.
// It hands out buffers through free. wait must be called before the hash is used.
func (t *transfer) hashBehind() (free chan []byte, wait func()) {
	const buffers = 4
	free, t.written = make(chan []byte, buffers), make(chan []byte, buffers)
	for range buffers {
		free <- make([]byte, copyBuffer)
	}
	done := make(chan struct{})
	hashed := t.done
	go func() {
		defer close(done)
		for buf := range t.written {
			t.hash.Write(buf)
			hashed += int64(len(buf))
			free <- buf[:cap(buf)]
			if t.marks != nil {
				t.marks.at(t.checkpoint(hashed), t.hash)
			}
		}
	}()
	return free, func() {
		close(t.written)
		<-done
	}
}

// keep writes bytes to the file and hands them on to the hash.
func (t *transfer) keep(buf []byte) error {
	if _, err := t.file.Write(buf); err != nil {
		return err
	}
	t.written <- buf
	t.done += int64(len(buf))
	if t.progress != nil {
		t.progress(t.done)
	}
	if t.marks != nil {
		return t.marks.err()
	}
	return nil
}

func sourceError(ctx context.Context, name string, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return &SourceError{Name: name, Err: err}
}
