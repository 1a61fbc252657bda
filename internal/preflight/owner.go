package preflight

// ForeignOwner reports whether the program at path, or the folder, belongs to another user than the one whom this process
// runs as, and to whom. To replace such a program would change its owner: a shared system binary in a folder that
// happens to be writable for a group must not become one user's own. Symbolic links are followed.
//
// Nothing is foreign to root, who can restore the owner, or to an elevated process on Windows. On Windows only users count
// as owners: what belongs to a group or to the system there (an installer that ran elevated leaves that behind, even
// in a user's own folders) has its access from its folder. If the owner cannot be found out, foreign is false.
func ForeignOwner(path string) (owner string, foreign bool) { return foreignOwner(path) }

// SessionEnding reports whether Windows is shutting down or logging this user off: whatever is begun now will be cut
// short. Other systems have no such state to ask for; there it is always false.
func SessionEnding() bool { return sessionEnding() }
