package license

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
)

// The codes by which a [Store] refuses a token that Parse accepts.
const (
	ErrRevoked      Code = "revoked"       // the issuer took it back
	ErrWrongMachine Code = "wrong_machine" // it is for other installations
	ErrSuperseded   Code = "superseded"    // a later token of the same licence is there
	ErrNotBetter    Code = "not_better"    // another licence is there, and is the one that counts
	ErrOtherLicense Code = "other_license" // a refresh brought another licence
)

// Install keeps a token that the customer has brought, bare or in armour. Afterwards it is the one that counts, or, when
// it starts later, will be from then on; the one before it stays until then. To install again what is installed changes
// nothing. An expired one is installed as well: it says what it still includes.
//
// The Status is that after the call. A token that cannot be used is refused with a [*TokenError], and nothing has changed;
// a folder that cannot be written is a [*StoreError].
func (s *Store) Install(ctx context.Context, token []byte) (Status, error) {
	return s.install(ctx, token, nil)
}

// install keeps a token; if old is not nil, only one that is to renew that.
func (s *Store) install(ctx context.Context, raw []byte, old *License) (Status, error) {
	if !s.made() {
		return s.Current(), errNotMade
	}
	// Twice: what is refused at once leaves no trace, not even a lock; and another process may be faster.
	if err := s.offer(ctx, raw, old, false); err != nil {
		return s.Current(), err
	}
	release, err := s.shelf.hold(ctx, true)
	if err == nil {
		err = s.offer(ctx, raw, old, true)
		release()
	}
	return s.Current(), err
}

// offer judges a token that is to be installed, and if keep is set, keeps it.
func (s *Store) offer(ctx context.Context, raw []byte, old *License, keep bool) error {
	if err := s.take(ctx); err != nil {
		return fmt.Errorf("license: nothing was installed: %w", err)
	}
	defer s.give()
	v := s.look(ctx)
	l, err := v.verifier.Parse(raw)
	if err != nil {
		return err
	}
	if err := s.admit(v, l, old); err != nil || !keep {
		return err
	}
	token, err := unarmor(raw)
	if err != nil {
		return err
	}
	kept := s.toKeep(v, held{license: l, token: token})
	if kept == nil {
		return nil
	}
	defer s.changed()
	if err := s.shelf.put(kept); err != nil {
		return err
	}
	s.log.Info("a licence was installed", "lid", l.LicenseID, "seq", l.Seq, "jti", l.ID)
	return nil
}

// admit says why a token would not count, now or later.
func (s *Store) admit(v *view, l, old *License) error {
	with := *v
	with.held = append(slices.Clone(v.held), held{license: l})
	with.floor.raise(l.IssuedAt, "")
	at := s.judgeClock(&with, s.now()).at
	offered := v.verifier.Evaluate(l, at)
	switch {
	case old != nil && l.LicenseID != old.LicenseID:
		return refuse(ErrOtherLicense, "licence %s was to be refreshed, this is %s", old.LicenseID, l.LicenseID)
	case old != nil && !renews(l, old):
		return refuse(ErrSuperseded, "number %d of licence %s is no later than the one that is here", l.Seq, l.LicenseID)
	case offered.State == Revoked:
		return refuse(ErrRevoked, "this licence was revoked by its issuer: %s", offered.Reason)
	case offered.State == WrongMachine:
		return refuse(ErrWrongMachine, "%s", offered.Reason)
	}
	for _, h := range v.held {
		state := v.verifier.Evaluate(h.license, at).State
		later := state.counts() || state == NotYetValid && offered.State == NotYetValid
		if h.license.LicenseID == l.LicenseID && later && renews(h.license, l) && h.license.ID != l.ID {
			return refuse(ErrSuperseded, "number %d of licence %s is in %s already, this is number %d",
				h.license.Seq, l.LicenseID, h.source, l.Seq)
		}
	}
	if _, present := v.judge(at); offered.State == NotYetValid || present != nil && present.license.LicenseID == l.LicenseID {
		return nil // it renews the licence that counts, for better or worse
	}
	if status, chosen := with.judge(at); chosen != nil && chosen.license.ID != l.ID {
		return refuse(ErrNotBetter, "licence %s in %s is the one that counts (%s), not this one, %s (%s): remove it first",
			chosen.license.LicenseID, chosen.source, status.State, l.LicenseID, offered.State)
	}
	return nil
}

// toKeep returns the tokens that the folder is to have when fresh is added, nil if it has that already. Numbers that have
// been replaced go. When there is no room for all others, those that hold or start later stay.
func (s *Store) toKeep(v *view, fresh held) []string {
	at := s.judgeClock(v, s.now()).at
	type entry struct {
		held
		rank int
	}
	var list []entry
	var started []*License
	if v.verifier.Evaluate(fresh.license, at).State != NotYetValid {
		started = append(started, fresh.license)
	}
	for _, f := range s.last[0] { // what the folder has
		p := s.parse(v.verifier, f.Token, s.parsed)
		var code Code
		switch {
		case p.license != nil && p.license.ID == fresh.license.ID && !renews(fresh.license, p.license):
			if !v.unread {
				return nil
			}
		case p.license != nil:
			state := v.verifier.Evaluate(p.license, at).State
			rank := state.rank()
			switch {
			case state.counts():
				started = append(started, p.license)
			case state == NotYetValid:
				rank = Valid.rank()
			}
			list = append(list, entry{held{p.license, p.token, ""}, rank})
		case errors.As(p.err, &code) && (code == ErrUnknownKey || code == ErrUnsupportedVersion):
			list = append(list, entry{held{nil, string(f.Token), ""}, -1}) // another version of the app may know better
		}
	}
	slices.SortStableFunc(list, func(a, b entry) int { return cmp.Compare(b.rank, a.rank) })
	kept := []string{fresh.token}
	for _, e := range list {
		replaced := e.license != nil && slices.ContainsFunc(started, func(l *License) bool {
			return l.LicenseID == e.license.LicenseID && renews(l, e.license)
		})
		if !replaced && len(kept) < maxKept {
			kept = append(kept, e.token)
		}
	}
	return kept
}

// Remove forgets every licence that was installed. What other sources have goes on counting.
func (s *Store) Remove(ctx context.Context) error {
	if !s.made() {
		return nil
	}
	release, err := s.shelf.hold(ctx, true)
	if err != nil {
		return err
	}
	defer release()
	if err := s.take(ctx); err != nil {
		return fmt.Errorf("license: nothing was removed: %w", err)
	}
	defer s.give()
	defer s.changed()
	if err := s.shelf.clear(); err != nil {
		return err
	}
	s.log.Info("the installed licences were removed")
	return nil
}

// A Refresher asks the issuer for a fresh token. Package license/refresh has one for HTTP.
type Refresher interface {
	// Refresh sends token, the one that counts, to url, the hint of its issuer, and returns a fresh one; nil, nil: there
	// is nothing newer. It is up to the Refresher which URLs it knows. What it returns is believed as far as it is signed.
	Refresh(ctx context.Context, url string, token []byte) ([]byte, error)
}

// Refresh asks for a fresh token of the licence that counts, and installs it. Without a hint where to ask, or before the
// time in it, it asks nobody, except that a revoked one may be replaced at any time. The old token goes on counting to
// its own end, whatever the error.
func (s *Store) Refresh(ctx context.Context, r Refresher) (Status, error) {
	if !s.made() {
		return s.Current(), errNotMade
	}
	hint, asking, err := s.hint(ctx)
	if hint == nil || err != nil {
		return s.Current(), err
	}
	fresh, err := r.Refresh(ctx, hint.URL, []byte(asking.token))
	if err != nil {
		return s.Current(), fmt.Errorf("license: no fresh licence from %s: %w", host(hint.URL), err)
	}
	if len(trim(fresh)) == 0 {
		return s.Current(), nil
	}
	status, err := s.install(ctx, fresh, asking.license)
	if errors.Is(err, ErrSuperseded) { // the issuer has nothing newer than what is here
		return status, nil
	}
	return status, err
}

// hint returns where to ask for a fresh token of the licence that counts, nil if nobody is to be asked now.
func (s *Store) hint(ctx context.Context) (*Refresh, *held, error) {
	if err := s.take(ctx); err != nil {
		return nil, nil, fmt.Errorf("license: no fresh licence was asked for: %w", err)
	}
	defer s.give()
	v := s.look(ctx)
	status, chosen := s.judgeNow(v)
	if chosen == nil || chosen.license.Refresh == nil {
		return nil, nil, nil
	}
	if status.State != Revoked && chosen.license.Refresh.After.After(s.judgeClock(v, s.now()).at) {
		return nil, nil, nil
	}
	return chosen.license.Refresh, chosen, nil
}

func host(text string) string {
	if u, err := url.Parse(text); err == nil {
		return u.Host
	}
	return "its issuer"
}
