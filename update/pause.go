package update

import (
	"context"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// newLimit lets that many bytes a second pass, or all for 0. What is saved up is at most a second's, or one buffer.
func newLimit(bytesPerSecond int64) *rate.Limiter {
	if bytesPerSecond <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(bytesPerSecond), int(min(bytesPerSecond, copyBuffer)))
}

// pauser holds downloads up.
type pauser struct {
	mu      sync.Mutex
	paused  chan struct{} // closed while paused
	resumed chan struct{} // closed while not
}

func newPauser() *pauser {
	p := &pauser{paused: make(chan struct{}), resumed: make(chan struct{})}
	close(p.resumed)
	return p
}

func (p *pauser) pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.paused:
	default:
		p.resumed = make(chan struct{})
		close(p.paused)
	}
}

func (p *pauser) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.paused:
		p.paused = make(chan struct{})
		close(p.resumed)
	default:
	}
}

func (p *pauser) channels() (paused, resumed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.paused, p.resumed
}

// wait returns when downloads may go on.
func (p *pauser) wait(ctx context.Context) error {
	_, resumed := p.channels()
	select {
	case <-resumed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Pause holds up the downloads of this Updater, those under way and those to come, until Resume: the connection is given
// up, what has arrived is kept. Stage waits, and so does the time of its context. It is not remembered by the next
// process.
func (u *Updater) Pause() { u.pauser.pause() }

// Resume lets downloads go on where they were paused.
func (u *Updater) Resume() { u.pauser.resume() }

// A meter tells how fast a download goes: the average of the last seconds, in which the newest count most.
type meter struct {
	at   time.Time
	done int64
	rate float64 // bytes a second; 0: not known yet
}

const (
	meterStep   = 250 * time.Millisecond
	meterMemory = 5 * time.Second
	longestLeft = float64(math.MaxInt64 / time.Second) // in seconds: 292 years
)

func (m *meter) note(done int64, now time.Time) float64 {
	passed := now.Sub(m.at)
	switch {
	case m.at.IsZero() || done < m.done: // the beginning, or a beginning again
		m.at, m.done, m.rate = now, done, 0
	case passed >= meterStep:
		latest := float64(done-m.done) / passed.Seconds()
		if m.rate == 0 {
			m.rate = latest
		} else {
			weight := min(1, passed.Seconds()/meterMemory.Seconds())
			m.rate += weight * (latest - m.rate)
		}
		m.at, m.done = now, done
	}
	return m.rate
}

// metered adds rate and time left to what a download reports.
func metered(progress func(Progress)) func(Progress) {
	var m meter
	return func(p Progress) {
		if p.Step == Downloading {
			if rate := m.note(p.Done, time.Now()); rate >= 1 {
				p.Rate = int64(rate)
				p.Left = time.Duration(min(float64(max(0, p.Total-p.Done))/rate, longestLeft)) * time.Second
			}
		}
		progress(p)
	}
}
