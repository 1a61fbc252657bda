// Package tufrepo is the publisher's side of a TUF repository: create it, list releases in its channels, sign,
// commit, and check it all as an auditor would.
//
// A release job opens a repository with [Open], edits it ([Repo.Release], [Repo.Promote], [Repo.Withdraw], …) and
// commits once with the keys it has ([Repo.Commit]). Edits are collected in memory; nothing is written before
// Commit, and Commit writes nothing if a key is missing. A scheduled job calls [Repo.Refresh] and [Repo.Commit].
// [Verify] walks a whole repository from a trusted root. What clients do with it is package update's part.
//
// # Trust
//
// The repository is standard TUF 1.0 with consistent snapshots:
//
//	root                     offline, several people; names the keys of the four top-level roles
//	├─ timestamp             online; pins the snapshot; re-signed daily
//	├─ snapshot              online; pins version, length and sha256 of every role below
//	└─ targets               offline; lists nothing, delegates only:
//	   ├─ <product>.<channel>  one role per channel, terminating, for <product>/<channel>/*/*
//	   ├─ <product>.archive    releases that left their channel
//	   └─ license              issuer keys and revocations, for license/*
//
// No two roles may name the same path, so who steals the key of a beta channel cannot name a stable release. Opening
// a repository checks every signature, threshold, version and hash from a trusted root on, so a storage that was
// tampered with is not signed over; expiry is tolerated, since a refresh must be able to heal it.
//
// # Files
//
//	metadata/  N.root.json  timestamp.json  N.snapshot.json  N.targets.json  N.<role>.json
//	targets/   <product>/<channel>/<version>/<sha256>.release.json
//	           license/<sha256>.keyring.json  license/<sha256>.revocations.json
//	blobs/     sha256/<first two hex>/<sha256>
//
// The signed part of every role carries, under the key "fairlead", what refresh, status and monitors need:
//
//	{"v":1, "signed":"2026-11-22T10:00:00Z", "period_s":604800, "margin_s":518400, "seq":17}
//
// signed is the time of signing, period_s how long the signature was to last, margin_s how long before its end it
// is to be renewed, and seq the highest number ever given to a release (channels) or to a list of revocations (license).
//
// # Publication
//
// Commit signs everything in memory and then writes blobs → manifests → roles → snapshot → timestamp. The timestamp
// is the commit point: it is written on condition that it still is the one that was read, so of two publishers one
// gets [ErrConflict], and a reader sees the old state or the new one. Versioned files are never overwritten: what an
// interrupted publisher left under a version that no timestamp names stays where it is, and the next version number
// is taken. Running the same commands again completes what was interrupted.
//
// A new root is a commit point of its own: readers take it as soon as it is there. It is written last if the old
// root's keys accept the new timestamp, snapshot and targets as well, and else, since then they cannot be used with
// the old root, just before the timestamp. So to replace an online key without a gap, commit with both keys at hand. If
// the publisher dies between the two, or another one overtakes it there, clients find no timestamp that their root
// accepts. Then Open takes the lists that the new keys signed, and the next commit writes the timestamp; of what the
// replaced keys signed only the number of the last timestamp is used. For that it needs a root from before the change.
//
// Out of scope: deleting files, serving them, secrecy (whoever reads a role sees its list). And a publisher has no
// memory of its own: a store that was put back, as a whole, to an older state verifies. Clients refuse what is then
// published, since its timestamp has a number that they have seen; [CommitResult.Orphans] is the publisher's hint.
package tufrepo
