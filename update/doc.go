// Package update keeps an installed program up to date: it checks a repository that the vendor has signed, stages what
// the customer's licence allows, applies it so that no crash can lose the program, and goes back by itself when the
// new version is bad.
//
//	Check ─► Stage ─► Apply ─► (restart) ─► trial ─► Confirm
//	                                          └────► automatic rollback
//
// # Embedding
//
// Make an [Updater] and call [Updater.Start] first thing in main; do what it says. Then either let [Updater.Run] look
// after everything in the background, or call Check, Stage and Apply where the app wants them.
//
// # What is trusted
//
// The root metadata compiled into the app, and the version of the running build. Nothing else: mirrors, caches, staged
// files and the clock are taken for hostile. The repository is verified as the TUF specification 1.0.34 (section 5)
// says; a release's list entry, manifest and bytes hang on those signatures by SHA-256. There is no way to install
// something that was not verified.
//
// An expired repository, an unreachable one or one that has been tampered with never stops the installed version: it is
// an error of Check, and the next check tries again.
//
// # What is promised
//
// At every moment either the old version or the new one is in place, whole, and the next Start finishes or undoes the
// rest. The exception is [Executable] on Windows, see there. Nothing in this package prints, ends the process
// or keeps global state; the two places that reach outside are the probe's answer on standard output, and
// [Updater.Restart].
//
// # State on disk
//
// Everything is in one folder (Config.Dir), mode 0700:
//
//	journal      the only authority about the state; replaced as a whole, checksummed
//	previous     the version before the one in place
//	failed       the version rolled back, for the moment of the exchange
//	staging/     downloads in progress (HASH.part) and one unpacked update (new-*)
//	trust/       verified metadata and its floors
//	install-id   random; places this installation in rollouts; never sent anywhere
//	*.lock       turns between processes; released by the system when their holder dies
//
// The journal's phases, what a crash in each leaves on disk, and what Start makes of it:
//
//	phase      in place       previous        after a crash, Start
//	idle       current        older or none   has nothing to do; a half-made download is taken up by the next Stage
//	staged     from           older or none   has nothing to do; Apply verifies the staged files again
//	applying   from or to     older or from   looks at what is in place: from → staged again, to → trial
//	trial      to             from            counts the start; after Trial.Starts of them goes on to reverting
//	reverting  to or from     from or none    exchanges them if that is still to be done, then idle
//
// "from" is what was in place before the update, "to" the update. An exchange is one rename on Unix, so there is no
// state between; each phase is written durably before the step that it announces. If what is in place is neither from
// nor to, somebody installed it by hand: the journal follows, and forgets the update. A journal that is missing
// or damaged reads as idle: what is in place runs.
//
// # Failures
//
// A release that was rolled back is quarantined by the hash of its manifest and never tried again. One whose verified
// bytes cannot be unpacked, or fail their probe, is tried three times, then left for a day. Failures of the network or of
// a mirror do not count against a release.
//
// # When a start counts
//
// A start of a version on trial counts against it until it is confirmed: by Confirm, by Run after Trial.Healthy, or taken
// back by [Updater.Succeeded]. So a program that runs for a moment, such as a command line tool, calls Confirm once its
// work has shown that the new version works, or Succeeded at the end of every run that went well; then only failures
// count. Going back happens at a start: something has to start a program that has crashed again, be it a service manager or
// the user. What fails before Start is not seen at all.
//
// # Concurrency and permissions
//
// Several processes of one installation may use the package at once; they take turns. A process that may not write to
// the installation (a program installed by an administrator, run by a user) leaves it alone: Start does nothing, and
// Check says [Managed] or fails with an error that satisfies errors.Is(err, fs.ErrPermission).
package update
