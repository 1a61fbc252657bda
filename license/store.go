package license

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/fairlead-dev/fairlead/internal/filelock"
)

// lookEvery is how old a look may be on which Has, Limit and Value rely.
const lookEvery = time.Minute

// noteEvery is how often the time is noted in the folder.
const noteEvery = time.Hour

// forever is longer than any process runs, and less than half of what a Duration holds.
const forever = 100 * 365 * 24 * time.Hour

var errNotMade = errors.New("license: there is no store: make it with OpenStore")

// StoreConfig says where an installation has its licences from, and where it keeps those that it is given.
type StoreConfig struct {
	Verifier *Verifier // required

	// Dir is the store's own folder, used by nothing else: installed and refreshed licences, and the time last seen. It is
	// made when something is to be kept. "": what is installed lasts as long as the process.
	Dir string

	// Sources are where the app looks for licences besides, see [File], [Folder], [Env] and [Token]. Their order counts
	// between equals only.
	Sources []Source

	// BuildTime is when the app was built: it is that late at least. Zero: not known.
	BuildTime time.Time

	// Now is the clock; nil: time.Now.
	Now func() time.Time

	Logger *slog.Logger // nil: silent
}

// A Store holds the licence that counts on this installation, out of all that its sources have. It is a [ListHolder], and
// may be used concurrently. A nil Store, and one that OpenStore has not made, grants nothing.
type Store struct {
	config StoreConfig
	shelf  shelf
	log    *slog.Logger
	base   time.Time // what ticks count from

	snap atomic.Pointer[snapshot]

	view atomic.Pointer[view]   // of the last look; nil: nobody has looked yet
	mind atomic.Pointer[memory] // nil: nothing is remembered

	turn     chan struct{} // holds the one turn to write the above and to touch what follows
	lists    lists
	parsed   map[string]parsed // by the bytes of a token
	last     [][]Found         // by source, the shelf first: what was had the last time that it could be read
	noteDue  time.Duration     // when the time is to be noted in the folder
	noted    time.Time         // what was proven when it was noted last
	watchers map[chan struct{}]bool
}

// A snapshot is what Has, Limit and Value answer from.
type snapshot struct {
	license  *License      // nil unless it holds
	from     time.Duration // the look, in ticks
	due      time.Duration // when to look again
	boundary time.Duration // when time itself may change the judgement
}

type parsed struct {
	license *License
	token   string
	err     error
}

// OpenStore makes a Store. It reads nothing: a folder or a source that cannot be read shows in the Status, and never keeps
// an app from starting.
func OpenStore(c StoreConfig) (*Store, error) {
	if c.Verifier == nil || c.Verifier.config.Keys == nil {
		return nil, errors.New("license: StoreConfig.Verifier is missing: make one with NewVerifier")
	}
	if i := slices.Index(c.Sources, nil); i >= 0 {
		return nil, fmt.Errorf("license: StoreConfig.Sources has nil at %d", i)
	}
	if c.Dir != "" {
		dir, err := filepath.Abs(c.Dir)
		if err != nil {
			return nil, fmt.Errorf("license: StoreConfig.Dir %q: %w", c.Dir, err)
		}
		c.Dir = dir
	}
	return newStore(c), nil
}

func newStore(c StoreConfig) *Store {
	s := &Store{config: c, shelf: newShelf(c.Dir), log: c.Logger, turn: make(chan struct{}, 1), watchers: map[chan struct{}]bool{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.config.Sources = append([]Source{&s.shelf}, c.Sources...)
	s.last = make([][]Found, len(s.config.Sources))
	s.base = s.now()
	return s
}

func (s *Store) now() time.Time {
	if s.config.Now != nil {
		return s.config.Now()
	}
	return time.Now()
}

// tick is the time since the store was opened. Without a clock of the app's own it is monotonic, which is twice as fast
// as the time of day, and what the time of day does in between shows at the next look.
func (s *Store) tick() time.Duration {
	if s.config.Now != nil {
		return s.config.Now().Sub(s.base)
	}
	return time.Since(s.base)
}

// made reports whether OpenStore has made the store.
func (s *Store) made() bool { return s != nil && s.turn != nil }

// take takes the turn, unless ctx ends first.
func (s *Store) take(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Store) give() { <-s.turn }

// Status answers what the licence is worth at the time now: it looks into every source, at a cost of microseconds, and
// judges. A clock that is behind what is known of time is brought up to that, see the package comment. The time now is not
// taken for what the clock says, so asking about another time leaves nothing behind.
//
// If ctx has ended, the last look counts.
func (s *Store) Status(ctx context.Context, now time.Time) Status {
	if !s.made() {
		return s.Current()
	}
	status, _ := s.judge(s.latest(ctx), now)
	return status
}

// latest looks, unless ctx ends first.
func (s *Store) latest(ctx context.Context) *view {
	if err := s.take(ctx); err != nil {
		if v := s.view.Load(); v != nil {
			return v
		}
		return &view{verifier: s.config.Verifier, faults: []error{fmt.Errorf("license: no licence was looked for: %w", err)}}
	}
	defer s.give()
	return s.look(ctx)
}

// Current is Status by the store's own clock.
func (s *Store) Current() Status {
	if !s.made() {
		return Status{State: Invalid, Err: errNotMade}
	}
	s.turn <- struct{}{}
	defer s.give()
	status, _ := s.judgeNow(s.look(context.Background()))
	return status
}

// remembered is what the store remembers of the clock.
func (s *Store) remembered() memory {
	if m := s.mind.Load(); m != nil {
		return *m
	}
	return memory{}
}

func (s *Store) judgeClock(v *view, now time.Time) judgement {
	return judgeClock(now, v.floor, s.remembered())
}

// judge judges a view at the time now.
func (s *Store) judge(v *view, now time.Time) (Status, *held) {
	j := s.judgeClock(v, now)
	status, chosen := v.judge(j.at)
	if status.State == NotYetValid && j.suspect {
		status.State = ClockSuspect
		status.Reason = fmt.Sprintf("this computer's clock says %s, but it is at least %s, %s", day(now), day(v.floor.at), v.floor.why)
	}
	if j.warning != "" {
		status.Warnings = append([]string{j.warning}, status.Warnings...)
	}
	return status, chosen
}

// judgeNow judges a view by the clock, and keeps the verdict for Has, Limit and Value. The turn is held.
func (s *Store) judgeNow(v *view) (Status, *held) {
	now := s.now()
	tick := now.Sub(s.base)
	s.observe(now, tick, v.floor.at)
	status, chosen := s.judge(v, now)
	snap := &snapshot{from: tick, due: tick + lookEvery, boundary: math.MaxInt64}
	if next := v.next(s.judgeClock(v, now).at); !next.IsZero() && next.Sub(now) < forever {
		snap.boundary = tick + next.Sub(now)
	}
	snap.due = min(snap.due, snap.boundary)
	if status.State.holds() {
		snap.license = status.License
	}
	s.snap.Store(snap)
	return status, chosen
}

// observe remembers what the clock says, and notes it in the folder: about once an hour, and when more is proven than before.
// The turn is held.
func (s *Store) observe(now time.Time, tick time.Duration, proven time.Time) {
	next := s.remembered().observe(now, proven)
	if s.config.Dir != "" && (tick >= s.noteDue || tick < s.noteDue-noteEvery || proven.After(s.noted)) {
		s.noteDue, s.noted = tick+noteEvery, proven
		err := s.shelf.noteClock(func(kept memory) memory {
			if kept != (memory{}) { // other processes have the same clock, and may have seen more of it
				next = kept.observe(now, proven)
			}
			return next
		})
		switch {
		case errors.Is(err, filelock.ErrHeld): // somebody writes there just now
			s.noteDue = tick + lookEvery
		case err != nil:
			s.log.Info("the time was not noted", "error", err)
		}
	}
	s.mind.Store(&next)
}

// Has reports whether the licence holds now and grants an entitlement, see [License.Has]. It takes some tens of
// nanoseconds: it looks into the sources when the last look is more than a minute old, and judges anew at the moment at
// which a licence starts or ends.
func (s *Store) Has(code string) bool { return s.holding().Has(code) }

// Limit returns the number of an entitlement of the licence that holds now, as Has does.
func (s *Store) Limit(code string) (int64, bool) { return s.holding().Limit(code) }

// Value returns the text of an entitlement of the licence that holds now, as Has does.
func (s *Store) Value(code string) (string, bool) { return s.holding().Value(code) }

// holding returns the licence that holds now, nil if none does.
func (s *Store) holding() *License {
	if !s.made() {
		return nil
	}
	snap, tick := s.snap.Load(), s.tick()
	if snap != nil && snap.from <= tick && tick < snap.due {
		return snap.license
	}
	return s.renew(snap, tick)
}

// renew looks and judges anew. Of many who ask while only a look is due, one does it, and the others need not wait.
func (s *Store) renew(snap *snapshot, tick time.Duration) *License {
	if snap != nil && snap.from <= tick && tick < snap.boundary {
		select {
		case s.turn <- struct{}{}:
		default:
			return snap.license
		}
	} else {
		s.turn <- struct{}{}
	}
	defer s.give()
	tick = s.tick()
	if snap = s.snap.Load(); snap != nil && snap.from <= tick && tick < snap.due {
		return snap.license // somebody did while this one waited
	}
	s.judgeNow(s.look(context.Background()))
	return s.snap.Load().license
}

// UseLists has the store ask for keys and revocations from now on. Package update calls it.
func (s *Store) UseLists(source ListSource) {
	if !s.made() {
		return
	}
	s.turn <- struct{}{}
	defer s.give()
	s.lists.source, s.lists.from = source, nil
	s.changed()
}

// changed has everybody look again. The turn is held.
func (s *Store) changed() {
	s.snap.Store(nil)
	for wake := range s.watchers {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}

// look reads all sources. The turn is held.
func (s *Store) look(ctx context.Context) *view {
	if s.mind.Load() == nil {
		kept, err := s.shelf.clock()
		if err != nil {
			s.log.Info("the time last seen is not known", "file", clockName, "error", err)
		}
		s.mind.Store(&kept)
	}
	v := &view{}
	var fresh bool
	v.verifier, fresh = s.lists.verifier(ctx, s.config.Verifier)
	if fresh {
		s.parsed = nil
	}
	v.warnings = s.lists.warnings
	seen := map[string]parsed{}
	for i, source := range s.config.Sources {
		found, err := source.Load(ctx)
		if err != nil {
			v.faults = append(v.faults, err)
			v.unread = v.unread || i == 0
			found = withLast(found, s.last[i], err)
		}
		s.last[i] = found
		for _, f := range found {
			v.add(f, s.parse(v.verifier, f.Token, seen))
		}
	}
	s.parsed = seen
	v.findFloor(s.config.BuildTime, s.lists.time)
	s.view.Store(v)
	return v
}

// withLast adds to what was found of a source what err may hide of what was there the last time.
func withLast(found, last []Found, err error) []Found {
	had := found[:len(found):len(found)] // not what is added: several tokens may have one name
	for _, f := range last {
		if hides(err, f.Name) && !slices.ContainsFunc(had, func(g Found) bool { return g.Name == f.Name }) {
			found = append(found, f)
		}
	}
	return found
}

// parse is Parse of what may have been parsed at the last look.
func (s *Store) parse(v *Verifier, raw []byte, seen map[string]parsed) parsed {
	if len(raw) > maxInput { // refused by its length; not worth keeping
		_, err := v.Parse(raw)
		return parsed{err: err}
	}
	p, ok := seen[string(raw)]
	if !ok {
		if p, ok = s.parsed[string(raw)]; !ok && len(trim(raw)) > 0 {
			p.license, p.err = v.Parse(raw)
			if p.err == nil {
				p.token, _ = unarmor(raw)
			}
		}
		seen[string(raw)] = p
	}
	return p
}

func (v *view) add(f Found, p parsed) {
	switch {
	case p.err != nil:
		v.refused = append(v.refused, refused{p.err, f.Name})
	case p.license != nil:
		v.held = append(v.held, held{p.license, p.token, f.Name})
	}
}

func (v *view) findFloor(build, signed time.Time) {
	v.floor = floor{build: build}
	v.floor.raise(build, "when this app was built")
	v.floor.raise(signed, "when its vendor's repository was signed")
	for _, h := range v.held {
		// Whoever stole a key that was revoked since writes what time he likes.
		if _, revoked := v.verifier.revocations.Revoked(h.license); !revoked {
			v.floor.raise(h.license.IssuedAt, "when a licence was issued")
		}
	}
}
