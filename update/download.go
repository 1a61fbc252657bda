package update

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/disk"
	"github.com/fairlead-dev/fairlead/internal/trust"
)

// A blob is verified by its signed length and SHA-256 while it streams: memory stays at one buffer, whatever its size.

const (
	copyBuffer = 256 << 10
	flushEvery = 16 << 20
)

// A source must deliver this much a second, on average over the stall time-out: a trickle is a stall, too.
const leastRate = 1 << 10

var errStalled = errors.New("nothing, or next to nothing, arrived for too long")

// fetchBlob streams a small verified blob to w. Nothing reaches w before the whole of it is verified.
func (u *Updater) fetchBlob(ctx context.Context, b channel.Blob, w io.Writer) error {
	if err := disk.MkdirAll(u.disk, u.dir, 0o700); err != nil {
		return &StateError{u.dir, err}
	}
	f, err := disk.CreateTemp(u.disk, u.dir)
	if err != nil {
		return &StateError{u.dir, err}
	}
	defer func() { _, _ = f.Close(), u.disk.Remove(f.Name()) }()
	if err := u.download(ctx, b, f, nil); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return &StateError{f.Name(), err}
	}
	_, err = io.Copy(w, f)
	return err
}

// download completes f, which holds the beginning of b or nothing, from the sources in order: the next one on any
// failure, from where the last one stopped. When it returns nil, f holds exactly b. It is not synced: who installs it syncs
// what comes of it.
func (u *Updater) download(ctx context.Context, b channel.Blob, f disk.File, progress func(done int64)) error {
	t := &transfer{ctx: ctx, blob: b, file: f, hash: sha256.New(), stall: u.cfg.Trust.StallTimeout, progress: progress}
	list := trust.Flatten(u.cfg.Source)
	if len(list) == 0 {
		return &SourceError{Name: channel.BlobPath(b.SHA256), Err: errors.New("there is no mirror")}
	}
	if err := t.resume(); err != nil {
		return &StateError{f.Name(), err}
	}
	var errs []error
	for _, src := range list {
		err := t.from(src)
		var wrong *VerifyError
		if errors.As(err, &wrong) && t.mixed {
			u.log.Warn("what was downloaded earlier does not fit; starting the file again", "file", wrong.File)
			err = errors.Join(t.restart(), t.from(src))
		}
		if err == nil {
			return nil
		}
		errs = append(errs, err)
		var state *StateError
		if ctx.Err() != nil || errors.As(err, &state) {
			break
		}
		if errors.As(err, &wrong) {
			if err := t.restart(); err != nil {
				return &StateError{f.Name(), err}
			}
		}
		u.log.Info("a source failed", "file", channel.BlobPath(b.SHA256), "cause", err)
	}
	return errors.Join(errs...)
}

// transfer is one blob on its way into one file.
type transfer struct {
	ctx      context.Context
	blob     channel.Blob
	file     disk.File
	hash     hash.Hash
	done     int64 // bytes in file and hash
	flushed  int64 // bytes on their way to the disk
	written  chan []byte
	mixed    bool // the bytes in file are not all from one source
	stall    time.Duration
	progress func(done int64)
}

// resume takes up what is in the file already.
func (t *transfer) resume() error {
	n, err := io.CopyBuffer(t.hash, io.LimitReader(t.file, t.blob.Length+1), make([]byte, copyBuffer))
	if err != nil {
		return err
	}
	if n > t.blob.Length {
		return t.restart()
	}
	t.done, t.mixed = n, n > 0
	return nil
}

func (t *transfer) restart() error {
	t.hash.Reset()
	t.done, t.flushed, t.mixed = 0, 0, false
	_, err := t.file.Seek(0, io.SeekStart)
	return errors.Join(err, t.file.Truncate(0))
}

// from reads the rest from one source and judges the whole.
func (t *transfer) from(src Source) error {
	name := channel.BlobPath(t.blob.SHA256)
	if t.done < t.blob.Length {
		if err := t.read(src, name); err != nil {
			return err
		}
	}
	if got := hex.EncodeToString(t.hash.Sum(nil)); t.done != t.blob.Length || got != t.blob.SHA256 {
		return &VerifyError{File: name, Err: fmt.Errorf("has %d bytes with sha256 %s, %d bytes are signed", t.done, got, t.blob.Length)}
	}
	return nil
}

func (t *transfer) read(src Source, name string) error {
	ctx, cancel := context.WithCancelCause(t.ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(t.stall, func() { cancel(errStalled) })
	defer watchdog.Stop()

	r, err := src.Open(ctx, name, t.done)
	if err != nil {
		return sourceError(ctx, name, err)
	}
	defer func() { _ = r.Close() }()
	t.mixed = t.done > 0
	free, wait := t.hashBehind()
	defer wait()
	alive := t.done // bytes when the watchdog was last satisfied
	quota := int64(t.stall.Seconds() * leastRate)
	for t.done < t.blob.Length {
		buf := <-free
		n, err := r.Read(buf[:min(int64(len(buf)), t.blob.Length-t.done)])
		if n > 0 {
			if t.done+int64(n)-alive > quota {
				alive = t.done + int64(n)
				watchdog.Reset(t.stall)
			}
			if err := t.keep(buf[:n]); err != nil {
				return &StateError{t.file.Name(), err}
			}
		} else {
			free <- buf
		}
		if err == io.EOF {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return sourceError(ctx, name, err)
		}
	}
	if t.done < t.blob.Length {
		return sourceError(ctx, name, io.ErrUnexpectedEOF)
	}
	return nil
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
	go func() {
		defer close(done)
		for buf := range t.written {
			t.hash.Write(buf)
			free <- buf[:cap(buf)]
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
	if t.done-t.flushed >= flushEvery {
		writeback(t.file, t.flushed, t.done-t.flushed)
		t.flushed = t.done
	}
	if t.progress != nil {
		t.progress(t.done)
	}
	return nil
}

func sourceError(ctx context.Context, name string, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return &SourceError{Name: name, Err: err}
}
