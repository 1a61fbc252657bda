// Package fairlead is the tour of Fairlead, an embeddable library and a command for in-app updates and licensing.
// It holds no code; the packages below do the work.
//
// # Two halves and one repository
//
// A vendor's release CI runs the command publish (cmd/publish). It signs what was released, channel by channel, as a
// repository of plain static files in the format of The Update Framework (TUF). Whatever serves files serves updates:
// a web server, a bucket, a CDN, a folder on a stick. There is no server to run.
//
// The vendor's app imports package update. It verifies that repository from a root of trust compiled into the app,
// picks the best release that the customer's licence, platform and rollout allow, installs it so that no crash can lose
// the app, and goes back by itself when the new version proves bad.
//
//	channel  what a release is, and which one an installation should run; pure
//	license  entitlement tokens: parse, judge, issue
//	update   check, stage, apply, confirm or roll back; what an app imports
//	tufrepo  make, edit, sign and verify a repository; what a publisher imports
//
// # Trust
//
//   - The app trusts the root metadata compiled into it and its own version. Mirrors, caches, the clock and staged files
//     are taken for hostile.
//   - Each channel of each product has a role of its own, with its own keys. A stolen key of the beta channel cannot name
//     a release of the stable one. Keys are replaced through the root, without a new build of the app; the root's and
//     the targets' keys belong to several people, offline.
//   - Version, channel, platform, rollout and the hash of every byte are inside the signature. So are withdrawal and the
//     version to go back to: nobody but the channel's key holders can make an installation step down.
//   - Expired metadata is an error, never "up to date", and never stops the installed version.
//   - A licence decides over updates only. What an app does without one is the app's business.
//
// # What this is not
//
// It is no copy protection: who controls the machine controls the program. It keeps no secrets: who can read a repository
// can read all of it. It does not replace code signing, which the operating system wants for its own reasons; sign first,
// then publish. It is no package manager for shared systems: where one looks after the program, update only says
// what is new.
//
// The formats and promises are described with the packages; start with package update. Figures are in
// docs/benchmarks.md. To see all of it at work:
//
//	go run ./examples/quickstart
package fairlead
