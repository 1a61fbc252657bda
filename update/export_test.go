package update

import (
	"context"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/disk"
)

// ReleaseTrial does what the system does when a process dies.
func ReleaseTrial(u *Updater) {
	u.endTrial()
	for _, release := range u.held {
		release()
	}
	u.held = nil
}

// Host is what this machine is to channel.Resolve.
func Host() channel.Host { return host() }

// JournalPath is where an updater keeps its journal.
func JournalPath(u *Updater) string { return u.path(journalName) }

// Dir is the updater's folder.
func Dir(u *Updater) string { return u.dir }

// NewOn is New on another disk than the real one. The trust store and locks are real nevertheless.
func NewOn(fsys disk.FS, cfg Config) (*Updater, error) { return newOn(fsys, cfg) }

// Reborn is another process of the same installation, with another disk. It shares the trust store of u, and whom to ask
// who looks after it.
func Reborn(u *Updater, fsys disk.FS, cfg Config) (*Updater, error) {
	fresh, err := newHome(fsys, cfg)
	if err == nil {
		fresh.trust, fresh.managedBy = u.trust, u.managedBy
	}
	return fresh, err
}

// SetCheckpoints says how often an updater writes them, and in which run of the machine it is.
func SetCheckpoints(u *Updater, now, kept int64, boot string) {
	u.pace.now, u.pace.kept, u.boot = now, kept, func() string { return boot }
}

// Metered adds rate and time left to what a download reports.
func Metered(progress func(Progress)) func(Progress) { return metered(progress) }

// Unmanaged answers for u that nobody else looks after its installation. To find that out, all that dpkg has installed is
// read, three times in an update: half of its time.
func Unmanaged(u *Updater) *Updater {
	u.managedBy = func(context.Context, string) (string, error) { return "", nil }
	return u
}
