package license

import (
	"context"
	"time"
)

// Watch sends the status as it is, and then whenever something about it changes that people want to know: its state, which
// token counts, where that was found, or the rung of the ladder of notices (see [Status.EndsWithin]). Only the latest is
// kept for a receiver who is slow. The channel is closed soon after ctx has ended, and nothing goes on behind it.
//
// What this process installs, and what starts or ends, shows at once; everything else within a minute.
func (s *Store) Watch(ctx context.Context) <-chan Status {
	out := make(chan Status, 1)
	wake := make(chan struct{}, 1)
	go func() {
		defer close(out)
		if s.made() {
			s.register(wake, true)
			defer s.register(wake, false)
		}
		s.watch(ctx, wake, out)
	}()
	return out
}

func (s *Store) register(wake chan struct{}, on bool) {
	s.turn <- struct{}{}
	defer s.give()
	if on {
		s.watchers[wake] = true
	} else {
		delete(s.watchers, wake)
	}
}

func (s *Store) watch(ctx context.Context, wake <-chan struct{}, out chan Status) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last notice
	for first := true; ; first = false {
		select { // not both at once in the other one, which would choose at random
		case <-ctx.Done():
			return
		default:
		}
		status, wait := s.currentFor()
		if n := status.notice(); first || n != last {
			last = n
			select {
			case <-out: // nobody has taken the one before
			default:
			}
			out <- status
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-timer.C:
		}
	}
}

// currentFor returns the status, and how long it is good for.
func (s *Store) currentFor() (Status, time.Duration) {
	status := s.Current()
	if s.made() {
		if snap := s.snap.Load(); snap != nil {
			return status, max(0, snap.due-s.tick())
		}
	}
	return status, lookEvery
}

// A notice is what makes a status worth sending.
type notice struct {
	state  State
	token  string
	source string
	rung   int
}

func (s Status) notice() notice {
	n := notice{state: s.State, source: s.Source, rung: s.EndsWithin()}
	if s.License != nil {
		n.token = s.License.ID
	}
	return n
}
