package trust

import (
	"slices"
	"sync"
)

// A Roster is the mirrors of a source during one session. One that has lied, that is delivered bytes which do not
// verify, is struck off and asked no more. When all have, all are back: a fault on the way to them, such as a proxy that
// changes files, would look the same, and an installation that asks nobody would never be updated again.
//
// It may be used from several goroutines.
type Roster struct {
	all  []Mirror
	told func(number int, err error)

	mu     sync.Mutex
	struck map[int]bool
}

// A Mirror is one single source. Number is its place in the source's list, from 1 on.
type Mirror struct {
	Number int
	Source Source
}

// NewRoster lists the mirrors of source. told, which may be nil, is called whenever one is struck off, with what did not
// verify; it must not call back.
func NewRoster(source Source, told func(number int, err error)) *Roster {
	r := &Roster{told: told, struck: map[int]bool{}}
	for i, s := range Flatten(source) {
		r.all = append(r.all, Mirror{i + 1, s})
	}
	return r
}

// Present returns the mirrors to ask, the first to ask first.
func (r *Roster) Present() []Mirror {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.all), func(m Mirror) bool { return r.struck[m.Number] })
}

// Strike leaves a mirror out from now on.
func (r *Roster) Strike(m Mirror, err error) {
	r.mu.Lock()
	known := r.struck[m.Number]
	r.struck[m.Number] = true
	if len(r.struck) == len(r.all) {
		clear(r.struck)
	}
	r.mu.Unlock()
	if !known && r.told != nil {
		r.told(m.Number, err)
	}
}
