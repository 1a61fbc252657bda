package update

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-dev/fairlead/internal/trust"
	"github.com/fairlead-dev/fairlead/license"
)

// The vendor's lists about licences, as package comment, "Licences", describes.

const licenseRole = "license"

// A listFile is a file of role license that is known here.
type listFile struct {
	path     string
	max      int64
	optional bool   // a repository may well have none
	without  string // what it means that there is none
	read     func(data []byte) (list, error)
}

// list is what a file holds.
type list struct {
	put    func(*license.Lists)
	number int64 // that only rises; 0: it has none
}

var listFiles = [...]listFile{
	{licenseRole + "/keyring.json", license.MaxKeyring, true, "only the issuer keys that are compiled into this app count", func(data []byte) (list, error) {
		keys, err := license.ParseKeyring(data)
		return list{func(l *license.Lists) { l.Keys = keys }, 0}, err
	}},
	{licenseRole + "/revocations.json", license.MaxRevocations, false, "no licence is known to be revoked", func(data []byte) (list, error) {
		revocations, err := license.ParseRevocations(data)
		if err != nil {
			return list{}, err
		}
		return list{func(l *license.Lists) { l.Revocations = revocations }, revocations.Number}, nil
	}},
}

// knownLists is what is known of the lists at one time.
type knownLists struct {
	read  bool   // the trust store was read, or the repository
	fault string // why nothing is known, in words
	time  time.Time
	files [len(listFiles)]knownList // zero if the repository has no role license

	// The repository's state that this goes back to; zero: the trust store.
	root, timestamp, role int64
}

type knownList struct {
	list
	id      string    // of the content; "": there is none
	data    []byte    // while it is being worked on
	expires time.Time // of the metadata that lists it
	trouble string    // what stands in the way of a newer one, in words
	refused string    // the id of what was fetched and could not be used
	again   bool      // the next check may have more luck
}

// licenseLists is what an Updater holds of the lists.
type licenseLists struct {
	mu     sync.Mutex
	known  knownLists
	lists  *license.Lists // what known comes to
	due    time.Time      // when it will come to something else; zero: not by itself
	failed time.Time      // when the trust store could not be read
}

const (
	listPatience = time.Second // to wait for another process that uses the trust store
	listRetry    = time.Minute
)

// Lists returns what the vendor's repository says about licences, as it was last verified: see package comment,
// "Licences". It implements [license.ListSource]. The first call reads the trust store, without a network; each
// [Updater.Check] brings the newest. nil: nothing is known, as no Check has ever succeeded here.
func (u *Updater) Lists(ctx context.Context) *license.Lists {
	l := &u.lists
	l.mu.Lock()
	defer l.mu.Unlock()
	now := u.cfg.Now()
	if !l.known.read && (l.failed.IsZero() || now.Sub(l.failed).Abs() >= listRetry) {
		patient, cancel := context.WithTimeout(ctx, listPatience)
		known := u.recallLists(patient)
		cancel()
		if ctx.Err() != nil {
			return l.lists
		}
		l.failed = now
		u.settleLists(known, now)
	}
	if !l.due.IsZero() && now.After(l.due) {
		u.settleLists(l.known, now)
	}
	return l.lists
}

// recallLists reads what the trust store proves, however old it is.
func (u *Updater) recallLists(ctx context.Context) knownLists {
	paths := make([]string, len(listFiles))
	for i, f := range listFiles {
		paths[i] = f.path
	}
	k, err := u.trust.Known(ctx, licenseRole, paths...)
	if errors.Is(err, trust.ErrNotStored) {
		return knownLists{}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.New("another process is using the trust store")
	}
	if err != nil {
		return knownLists{fault: fmt.Sprintf("what is known of issuer keys and revoked licences cannot be read: %v", err)}
	}
	next := knownLists{read: true, time: k.Signed}
	if !k.Delegated {
		return next
	}
	for i, f := range listFiles {
		file := &next.files[i]
		kept, has := k.Kept[f.path]
		if has {
			if file.list, err = f.read(kept.Data); err == nil {
				file.id, file.data, file.expires = contentID(kept.Target), kept.Data, kept.Expires
			} else { // a newer version of the app may have been here
				file.trouble = fmt.Sprintf("cannot be used: %v", err)
			}
		}
		switch listed, ok := k.Listed[f.path]; {
		case file.trouble != "":
		case k.Listed != nil && !ok:
			file.trouble = troubleAbsent
		case !has || ok && contentID(listed) != file.id:
			file.trouble = "has not been fetched yet"
		}
	}
	return next
}

const troubleAbsent = "is not in the vendor's repository"

func contentID(t trust.Target) string { return t.SHA256 + t.SHA512 }

// updateLists brings the lists up to date with a view, as far as that can be done. It never fails.
func (u *Updater) updateLists(ctx context.Context, view *trust.View) {
	u.Lists(ctx) // so that what the store has is known
	u.lists.mu.Lock()
	have := u.lists.known
	u.lists.mu.Unlock()

	targets, err := view.Role(ctx, licenseRole)
	versions := view.Versions()
	next := have
	switch {
	case errors.Is(err, trust.ErrNotFound):
		next = knownLists{}
	case err != nil:
		next = u.recallLists(ctx)
		for i := range next.files {
			next.files[i].trouble, next.files[i].again = fmt.Sprintf("cannot be looked up in the vendor's repository: %v", err), true
		}
	case have.root != versions["root"] || have.role != versions[licenseRole] || have.again():
		next = u.recallLists(ctx)
		for i, f := range listFiles {
			next.files[i] = u.updateList(ctx, view, f, targets, next.files[i], have.files[i])
		}
	}
	if next.fault != "" {
		u.log.Warn("lists about licences stay as they are", "cause", next.fault)
		return
	}
	next.read, next.time = true, view.Signed()
	next.root, next.timestamp, next.role = versions["root"], versions["timestamp"], versions[licenseRole]

	u.lists.mu.Lock()
	defer u.lists.mu.Unlock()
	if now := &u.lists.known; now.root > next.root || now.root == next.root && now.timestamp > next.timestamp {
		return // a check that began later was done first
	}
	u.settleLists(next, u.cfg.Now())
}

// again reports whether a repository that has not changed may still have something new.
func (k *knownLists) again() bool {
	return slices.ContainsFunc(k.files[:], func(f knownList) bool { return f.again })
}

// updateList brings one list up to date. last is what the trust store proves by the keys that count now: what stays
// in force if there is nothing better. before is what this process knew.
func (u *Updater) updateList(ctx context.Context, view *trust.View, f listFile, targets []trust.Target, last, before knownList) knownList {
	i := slices.IndexFunc(targets, func(t trust.Target) bool { return t.Path == f.path })
	if i < 0 {
		last.trouble = troubleAbsent
		return last
	}
	t := targets[i]
	if id := contentID(t); id == before.refused {
		last.trouble, last.refused = before.trouble, id
		return last
	} else if id != last.id {
		data, err := view.Fetch(ctx, t, f.max)
		if err != nil {
			last.trouble, last.again = fmt.Sprintf("could not be fetched: %v", err), true
			return last
		}
		found, err := f.read(data)
		if err == nil && found.number < last.number {
			err = fmt.Errorf("it goes back from number %d to %d", last.number, found.number)
		}
		if err != nil {
			last.trouble, last.refused = fmt.Sprintf("cannot be used as it is published: %v", err), id
			return last
		}
		last = knownList{list: found, id: id, data: data}
	}
	last.trouble, last.expires = "", view.RoleExpires(licenseRole)
	if err := view.Keep(ctx, t, last.data); err != nil {
		u.log.Warn("a list was not kept, and is not known after a restart without a network", "list", f.path, "cause", err)
		last.again = true
	}
	return last
}

// settleLists takes over what is known. u.lists.mu is held.
func (u *Updater) settleLists(known knownLists, now time.Time) {
	l := &u.lists
	for i := range known.files {
		known.files[i].data = nil
	}
	next, due := known.assemble(now)
	l.due = due
	if old := l.lists; old == nil || next == nil || !known.same(&l.known) || !slices.Equal(old.Warnings, next.Warnings) {
		l.lists = next
		u.warnOf(old, next)
	}
	l.known = known
}

func (u *Updater) warnOf(old, next *license.Lists) {
	if next == nil {
		return
	}
	for _, w := range next.Warnings {
		if old == nil || !slices.Contains(old.Warnings, w) {
			u.log.Warn("lists about licences", "warning", w)
		}
	}
}

// same reports whether both come to the same lists.
func (k *knownLists) same(other *knownLists) bool {
	for i := range k.files {
		if k.files[i].id != other.files[i].id {
			return false
		}
	}
	return k.time.Equal(other.time)
}

// assemble makes the lists, and says when their warnings change. nil: nothing is known.
func (k *knownLists) assemble(now time.Time) (l *license.Lists, due time.Time) {
	if !k.read && k.fault == "" {
		return nil, due
	}
	l = &license.Lists{Time: k.time}
	warn := func(format string, args ...any) { l.Warnings = append(l.Warnings, fmt.Sprintf(format, args...)) }
	if k.fault != "" {
		warn("%s", k.fault)
	}
	if k.time.After(now) {
		now = k.time
	}
	for i, f := range listFiles {
		file := &k.files[i]
		switch {
		case file.id == "" && file.trouble == troubleAbsent && f.optional:
		case file.id == "" && file.trouble != "":
			warn("%s %s: %s", f.path, file.trouble, f.without)
		case file.id == "":
		case file.trouble != "":
			warn("%s %s: the last one that is known stays in force", f.path, file.trouble)
		case now.After(file.expires):
			warn("%s was to be signed anew by %s: the last one that is known stays in force", f.path, file.expires.Format(time.RFC3339))
		case due.IsZero() || file.expires.Before(due):
			due = file.expires
		}
		if file.id != "" {
			file.put(l)
		}
	}
	return l, due
}
