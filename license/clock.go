package license

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

const (
	tolerance = 24 * time.Hour      // by which a clock may be behind without a word, see the package comment
	stride    = 7 * 24 * time.Hour  // by which a clock may go forward and be believed at once
	confirm   = 35 * 24 * time.Hour // within which a clock that leapt has to be there again
	patience  = 7 * 24 * time.Hour  // after which a clock that stays behind what was seen is believed
	recent    = 30 * 24 * time.Hour // how old a signed time may be and speak for the clock
)

// EndOfDay returns the last second of the day, UTC, on which t lies: what a date without a time means as the end of a
// licence. A customer reads "until the 27th" as that day included.
func EndOfDay(t time.Time) time.Time {
	year, month, day := t.UTC().Date()
	return time.Date(year, month, day, 23, 59, 59, 0, time.UTC)
}

// DefaultGrace is the grace period for licences whose contract says nothing else.
const DefaultGrace = 14 * 24 * time.Hour

// A floor is a time that it is at least, as signed data and the build prove.
type floor struct {
	at  time.Time
	why string // follows "it is at least 2026-03-01, "

	build time.Time
}

func (f *floor) raise(to time.Time, why string) {
	if to.After(f.at) {
		f.at, f.why = to, why
	}
}

// A judgement is the time at which licences are judged when the clock says now.
type judgement struct {
	at      time.Time
	warning string
	suspect bool // the clock is certainly wrong
}

// judgeClock brings a clock up to what is proven, and up to what has been seen if it is more than a day behind that.
func judgeClock(now time.Time, f floor, m memory) judgement {
	j := judgement{at: now}
	why := f.why
	if f.at.After(now) {
		j.at = f.at
	}
	seen := m.seen()
	if seen.Sub(now) > tolerance && seen.After(j.at) {
		j.at, why = seen, "as this computer's clock has already said"
	}
	j.suspect = f.at.Sub(now) > tolerance || now.Before(f.build)
	if j.at.Sub(now) > tolerance {
		j.warning = fmt.Sprintf("this computer's clock says %s, but it is at least %s, %s: "+
			"licences are judged as of then; set the clock", day(now), day(j.at), why)
	}
	return j
}

// A memory is what a store remembers of the clock. Times are seconds since 1970, 0 is none.
//
// Seen is soft: a clock that was once wrong must not end a licence for ever. It rises by at most a week at a time; a clock
// further ahead has to be there again, a day to 35 days later (Ahead). A clock that is more than a day behind it, and not proven wrong,
// is believed after a week (Behind), or at once when there is a signed time that is newer than any when Seen was noted
// (Proven), and recent by that clock.
type memory struct {
	Seen   int64 `json:"seen,omitempty"`   // the latest that the clock has said and was believed
	Ahead  int64 `json:"ahead,omitempty"`  // first said by a clock that is too far ahead
	Behind int64 `json:"behind,omitempty"` // first said by a clock that is behind
	Proven int64 `json:"proven,omitempty"` // the highest floor at which Seen was noted
}

func (m memory) seen() time.Time {
	if m.Seen == 0 {
		return time.Time{}
	}
	return time.Unix(m.Seen, 0).UTC()
}

// observe is what is remembered after the clock has said now, and signed data proved proven.
func (m memory) observe(now, proven time.Time) memory {
	at, floor := unix(now), unix(proven)
	if at < max(floor-seconds(tolerance), minDate) || at > maxDate {
		return m // a clock that is certainly wrong says nothing
	}
	believe := memory{Seen: at, Proven: max(floor, m.Proven)} // also what is out of sight just now
	switch {
	case at > max(m.Seen, floor)+seconds(stride):
		m.Behind = 0
		if at < m.Ahead || at-m.Ahead > seconds(confirm) {
			m.Ahead = at
		}
		if at-m.Ahead >= seconds(tolerance) {
			return believe
		}
	case at >= m.Seen-seconds(tolerance):
		believe.Seen = max(at, m.Seen)
		return believe
	case floor > m.Proven && at-floor <= seconds(recent):
		return believe
	default:
		m.Ahead = 0
		if m.Behind == 0 || at < m.Behind {
			m.Behind = at
		}
		if at-m.Behind >= seconds(patience) {
			return believe
		}
	}
	return m
}

// worthWriting reports whether the memory m, as it is kept, is to be replaced by next: less than an hour is not worth a write.
func (m memory) worthWriting(next memory) bool {
	on := next.Seen - m.Seen
	return on < 0 || on >= seconds(time.Hour) || m.Ahead != next.Ahead || m.Behind != next.Behind || m.Proven != next.Proven
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// parseMemory refuses what observe cannot have made.
func parseMemory(data []byte) (m memory, err error) {
	if err := json.Unmarshal(data, &m); err != nil {
		return memory{}, errors.New("it is not the JSON that is kept there")
	}
	for _, t := range []int64{m.Seen, m.Ahead, m.Behind, m.Proven} {
		if t != 0 && (t < minDate || t > maxDate) {
			return memory{}, errors.New("it has a time that cannot be")
		}
	}
	return m, nil
}
