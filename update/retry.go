package update

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/fairlead-dev/fairlead/internal/trust"
)

// Which mirror is asked next, and when: the first in the list that may be asked now. A failure costs a mirror a try and a
// pause, in which the others are asked, unless that would cost what has arrived.

const (
	defaultTries    = 5
	leastProgress   = 1 << 20          // that makes a failed try count as none
	firstPause      = time.Second      // between tries, at most
	longestPause    = 30 * time.Second // between tries, in the end
	longestObedient = time.Minute      // to Retry-After
)

// candidates are the mirrors of one download, in order.
type candidates []*candidate

type candidate struct {
	trust.Mirror
	most, tries int       // in a row, and left
	ready       time.Time // may not be asked before
	pauses      pauses
	err         error // the last
}

func newCandidates(mirrors []trust.Mirror, tries int) candidates {
	if tries <= 0 {
		tries = defaultTries
	}
	var all candidates
	for _, m := range mirrors {
		all = append(all, &candidate{Mirror: m, most: tries, tries: tries, pauses: newPauses()})
	}
	return all
}

// next returns the first that may be asked now, or soonest, and how long that takes; nil if none is left. The one with the
// number owner goes before all others.
func (all candidates) next(now time.Time, owner int) (*candidate, time.Duration) {
	var soonest *candidate
	for _, c := range all {
		if c.tries > 0 && c.Number == owner {
			soonest = c
			break
		}
		if c.tries > 0 && (soonest == nil || earlier(c, soonest, now)) {
			soonest = c
		}
	}
	if soonest == nil {
		return nil, 0
	}
	return soonest, max(0, soonest.ready.Sub(now))
}

// earlier reports whether c may be asked before d, which stands before it in the list.
func earlier(c, d *candidate, now time.Time) bool {
	return d.ready.After(now) && c.ready.Before(d.ready)
}

func (all candidates) err() error {
	var errs []error
	for _, c := range all {
		if c.err != nil {
			errs = append(errs, c.err)
		}
	}
	return errors.Join(errs...)
}

// failed notes a failure, and decides whether and when the mirror is asked again.
func (c *candidate) failed(err error, gotOn bool, now time.Time) {
	c.err = err
	switch {
	case !passes(err):
		c.tries = 0
	case gotOn:
		c.tries, c.pauses = c.most, newPauses()
	default:
		c.tries--
	}
	pause := c.pauses.NextBackOff()
	var status *StatusError
	if errors.As(err, &status) {
		pause = max(pause, min(status.RetryAfter, longestObedient))
	}
	c.ready = now.Add(pause)
}

// pauses are the waits between tries: exponential, with full jitter.
type pauses struct{ *backoff.ExponentialBackOff }

func newPauses() pauses {
	b := backoff.NewExponentialBackOff()
	// The wait is between 0 and twice the interval.
	b.InitialInterval, b.MaxInterval, b.Multiplier, b.RandomizationFactor = firstPause/2, longestPause/2, 2, 1
	return pauses{b}
}

// passes reports whether a failure of a mirror may be over in a moment. Absent files and refusals are not, nor is an answer
// that is none, and a file that does not verify is worse.
func passes(err error) bool {
	var (
		wrong    *VerifyError
		portal   *PortalError
		redirect *RedirectError
		proxy    *ProxyError
		status   *StatusError
		cert     *tls.CertificateVerificationError
		alert    tls.AlertError
	)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.As(err, &wrong), errors.As(err, &portal), errors.As(err, &redirect),
		errors.As(err, &proxy), misfits(err), errors.As(err, &cert), errors.As(err, &alert):
		return false
	case errors.As(err, &status):
		switch status.Status {
		case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
			return true
		}
		return status.Status >= 500 && status.Status != http.StatusNotImplemented && status.Status != http.StatusHTTPVersionNotSupported
	}
	return true
}

// misfits reports whether an answer cannot be of the file that was asked for: it has another length, or is another part.
func misfits(err error) bool {
	var length *trust.LengthError
	var part *trust.RangeError
	return errors.As(err, &length) || errors.As(err, &part)
}
