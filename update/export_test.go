package update

import "github.com/fairlead-dev/fairlead/channel"

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
