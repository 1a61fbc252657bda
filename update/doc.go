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
// # Layouts
//
//	Executable   one file, replaced in place
//	Versions     a folder for each version beside a pointer to the one in use; the layout for Windows, and for daemons
//	Bundle       a folder exchanged for another, such as a macOS .app (Unix)
//
// An installer of the app's own implements [Installer]; package installertest holds it to the contract.
//
// # What is promised
//
// At every moment either the old version or the new one is in place, whole, and the next Start finishes or undoes the
// rest: after a kill at any system call, and after a loss of power on a file system that keeps what was synced.
// docs/reliability.md says how that is shown. The exceptions are [Executable] on Windows and Bundle.UnsafeGap, see there.
// Nothing in this package prints, ends the process or keeps global state; the two places that reach outside are the
// probe's answer on standard output, and [Updater.Restart].
//
// # State on disk
//
// Everything is in one folder (Config.Dir), mode 0700:
//
//	journal      the only authority about the state; replaced as a whole, checksummed
//	previous     the version before the one in place (Versions: a file that names its folder)
//	failed       the version rolled back, for the moment of the exchange
//	gone-*       what is needed no more, on its way out
//	staging/     downloads in progress (HASH.part: artifacts, patches; with its checkpoints .kept and .now), one unpacked
//	             update (new-*), and while it is made of several patches what lies between them (new-*, too)
//	records/     the file lists of versions (Versions and Bundle)
//	rescued/     files of the user, out of folders that were removed
//	reserve      64 KiB for the journal when the disk is full
//	restart      what a supervised program tells its supervisor
//	trust/       verified metadata and its floors, and lists about licences
//	install-id   random; places this installation in rollouts; never sent anywhere
//	*.lock       turns between processes; released by the system when their holder dies
//
// The journal is written durably before the step that it announces. Its phases, what is on disk in each, what a crash
// there leaves, and what the next Start makes of it:
//
//	phase      in place       previous        a crash leaves                 Start
//	idle       current        older or none   half a download, half an       has nothing to do; the next Stage goes on
//	                                          unpacked or patched folder     with the downloads and removes the rest
//	staged     from           older or none   the same                       has nothing to do; Apply hashes the staged
//	                                                                         files again, and takes no others
//	applying   from           older, or set   from in place                  goes back to staged; the older version gets
//	                          aside (gone-*)                                 its name again
//	applying   to             from            the exchange made, not noted   goes on to trial
//	                          (Bundle: or still in staging)
//	applying   nothing        from            only between the two renames   puts from back; somebody has to call it
//	                                          of an exception, see above     from another path
//	trial      to             from            a start not counted, or        counts the start, before any code of the
//	                                          counted                        app; after Trial.Starts goes on to reverting
//	reverting  to             from            the decision, nothing done     exchanges them
//	reverting  from           none            the exchange made, not noted   notes it: idle, "to" quarantined; its files
//	                                                                         are removed
//
// "from" is what was in place before the update, "to" the update. An exchange is one rename, so there is no state
// between: of a file, of the pointer to a folder, or of two folders with each other. If what is in place is neither
// from nor to, somebody installed it by hand: the journal follows, and forgets the update. A journal that is missing
// or damaged reads as idle: what is in place runs.
//
// A version in a folder is told by its program, and by the vendor's other files: a program that writes into its own
// folder, or a user who does, does not change which version it is.
//
// # Files of the user
//
// What is not in a version's signed file list, or was changed, stays in that version's folder for as long as the folder is
// kept. It is not carried into the next version. Before a folder is removed, such files are moved to rescued/ in the
// updater's folder, logged, and reported as [EventRescued]; nothing there is ever removed. The list of a version that did not
// come by update is taken from the repository if the channel still has it; without a list every file counts as the
// user's. Apps keep their data elsewhere.
//
// # Licences
//
// A vendor who sells licences may publish who issues them, license/keyring.json, and which do not count any more,
// license/revocations.json, signed by the role license of the repository: so keys rotate and licences are revoked without
// a new build, and offline too. Each Check reads them before it has the licence judged; [Updater.Lists] has them, also after
// a restart without a network, and Config.License gets them by itself if it is a [license.ListHolder]. An unchanged
// list costs no request.
//
// What is known once stays in force: it is kept in the trust store together with the signatures that prove it, and is
// verified from the embedded root on at every start, by the keys that count now, but not judged by its expiry: an
// installation that was offline for years, or whose clock is wrong, knows what it knew. A newer list takes its place when
// it is signed, is no older by TUF's versions and by its own number, and can be read by this app. Otherwise (it cannot be
// had, is gone, has expired, has a newer format, goes back) the last known one stays, and Lists.Warnings and the log say
// why. Only keys that were taken from the role, or the role from the repository, take their lists with them.
//
// Without a list the check fails open: the keys that are compiled in count, and nothing is revoked. A warning says so,
// unless the repository has no role license, as its vendor does not use it then. Nobody can add a key or a licence by
// writing to the trust store. Who can write to it can remove the lists, or put back earlier ones, until the next Check.
// None of this is a reason for a Check to fail, and none of it concerns the version that is installed.
//
// # Failures
//
// A release that was rolled back is quarantined by the hash of its manifest and never tried again. One whose verified
// bytes cannot be unpacked, or fail their probe, is tried three times, then left for a day. Failures of the network or of
// a mirror do not count against a release.
//
// # Patches
//
// Where a release names patches that lead to it, Stage takes the cheapest of one of them, a chain of at most four, and the
// whole artifact, and says in Update.Download, at Check, what that is likely to cost. It makes the new version beside the
// old one: from the files that both have, whatever their names, which are cloned where the file system can (FICLONE on
// Linux: Btrfs, XFS) and else copied, but never hard-linked, as a program that writes into a file of its own would then
// change the version to go back to; from patches; and from new files in the patches. The version in place is
// read only. Everything is hashed on the way and compared with the signed file list, as what an archive holds is, and is as
// durable. A patch has no say in what is installed, and cannot make an update fail.
//
// Whatever is wrong with a patch (it cannot be had, is damaged, takes more memory than Config.MaxPatchMemory, or a file
// that it needs was changed by a user), the same run downloads the whole artifact, and [EventPatchFailed] tells. The
// patch is not tried again before an update was confirmed or 30 days have passed, unless the network is to blame, which
// did not get the whole artifact either. To cancel is no failure: what was downloaded stays, to go on with.
//
// What is in place is known by hash: for [Executable] the file itself; for [Versions] and [Bundle] the list of the version
// as it was signed, if it came by update or the channel still has it, so that files of the user do not matter; otherwise
// everything that is in the folder. Other installers than these download everything. Applying a patch of format
// zstd-prefix takes memory for the old files and the window of the new one; nothing else grows with what is installed.
//
// # Downloads
//
// An artifact streams to disk through its hash; memory does not grow with it. Whatever ends a download, a cancelled
// context, a cut line, a kill, a loss of power, the next one goes on where it was: the state of the hash is kept beside the
// data, every 512 KiB for kills and every 16 MiB or 10 s, synced, for losses of power. No checkpoint is trusted: one that is
// damaged or forged costs one download from the beginning, at most, and never a wrong file.
//
// HTTP servers are asked with Range, and with If-Range where they gave a strong validator (RFC 9110, sections 13.1.5 and
// 14.2). One that ignores ranges, or has another file by now, costs a restart at most. An answer that is no part of a file of
// the signed length is refused before its body is read.
//
// [Mirrors] are asked in order; another one goes on in the middle of a file. What fails for a moment (5xx, 408, 425, 429,
// broken or silent connections) is tried again, Download.Tries times in a row, after random pauses that grow and after what the
// server says in Retry-After; what is absent (403, 404, 410), refused (401, 407) or no answer (a captive portal, a redirect
// elsewhere, a wrong length) is not, in this Stage. A mirror that delivered all of a file and the file is wrong, or that
// answered with a wrong length or part of what another one then had, is left out for as long as the [Updater] lives, logged,
// and reported as [EventMirrorOut], unless there is no other. A file that came from several and is wrong is fetched once more
// from one. Metadata is not tried again within a Check: the next check does.
//
// [Updater.Pause] and [Updater.Resume] hold downloads up; Download.BytesPerSecond limits them; [Progress] has rate and
// time left. A transfer has no total time-out, only Trust.StallTimeout. Parallel connections are not used: they bring nothing
// on a line that is the limit itself, see docs/benchmarks.md.
//
// # When a start counts
//
// A start of a version on trial counts against it until it is confirmed: by Confirm, by Run after Trial.Healthy, or taken
// back by [Updater.Succeeded]. So a program that runs for a moment, such as a command line tool, calls Confirm once its
// work has shown that the new version works, or Succeeded at the end of every run that went well; then only failures
// count. Going back happens at a start: something has to start a program that has crashed again, be it a service manager,
// the user, or [Updater.Supervise], which also sees what fails before Start and what hangs.
//
// # Concurrency and permissions
//
// Several processes of one installation may use the package at once; they take turns. A process that may not write to
// the installation (a program installed by an administrator, run by a user) leaves it alone: Start does nothing, and
// Check says [Managed] or fails with an error that satisfies errors.Is(err, fs.ErrPermission).
package update
