// Package trust is the client side of TUF: it turns files from anywhere into a verified view of a repository.
//
// Package update makes a [Client] with the root metadata compiled into the application, a folder for the trust store
// and a [Source]; Refresh returns a [View]; the view lists what a role signs ([View.Role]), finds one target
// ([View.Find]) and reads a small one ([View.Fetch]). Large files are not read here: update streams them from the
// same source and compares them with the [Target]. Nothing here signs.
//
// # Trust model
//
// Only the embedded root, the running program and what they lead to by signatures are trusted. Mirrors, networks,
// the clock and the trust store itself are taken to be hostile or broken:
//
//   - Verification of each file is go-tuf's (metadata/trustedmetadata), behind a strict check of our own for size,
//     depth, nulls and duplicate keys. Workflow, storage and transport are ours (TUF specification 1.0.34, section 5).
//   - Every operation starts at the embedded root and follows the chain of roots from there, stored links first, then
//     the source's. A key that a root revoked stays revoked, even when a mirror hides that root afterwards.
//   - Versions never go back. The floors are kept apart from the cached files, and fall only when the keys that
//     vouched for them are no longer trusted (fast-forward recovery, TUF 5.3.11).
//   - Metadata expires. The time is that of the system, but no earlier than the build of the application, the newest
//     verified timestamp's signing and the last refresh that succeeded. Installations without a network may allow a
//     bounded staleness, of timestamp and snapshot only.
//   - Reads are bounded in bytes, and end when no byte arrives for a while. A mirror that sends one byte now and then
//     is bounded by the caller's context only.
//
// Who can write to the trust store can make updates fail, by raising the floors; it can not make anything verify
// that the repository did not sign, and damage by accident heals with the next refresh.
//
// # The trust store
//
//	lock                        taken in turns by all processes; never held while waiting for a network
//	floors.json                 {"sha256": of the floors as written, "floors": {...}}, see type floors
//	roots/N.root.json           the chain of roots after the embedded one
//	timestamp.json              of the last refresh that succeeded: what it leads to is in the store too
//	pending.json                a newer timestamp that verified, whose snapshot or targets could not be had
//	snapshot.V.json             by version
//	role.H.V.json               targets and delegated roles: H is the sha256 of the role's name, V the version
//	kept.H.P.json               a target that was kept, with the metadata that lists it: P is the sha256 of its path
//
// Files are replaced atomically with mode 0600, timestamp.json after what it leads to and floors.json last; floors
// that a crash left behind are made up for by the cached metadata. What cannot be used is ignored and fetched anew.
// Everything but the roots, the floors, what timestamp.json and pending.json lead to, and what was kept for a role that the
// snapshot lists is swept away.
package trust
