// Package channel says what a release is, and which one an installation should run.
//
// It is the pure heart of Fairlead: no network, no files, no clock and no randomness; what it needs of
// those comes in as arguments, so the same input always gives the same answer. Package update asks it what to
// install; package tufrepo uses the same types to write what update reads; package license supplies the
// answer to "may this customer have it" as [Query.Permit].
//
// # A channel is a signed list
//
// A channel (say "stable" of product "notes") is the list of targets that the TUF role "notes.stable" signs. Each
// target is named
//
//	<product>/<channel>/<version>/release.json
//
// ([TargetPath]) and stands for one [Release]. Its custom metadata holds, under the key "fairlead", everything
// needed to choose: that is the [Release]. The target file behind it is the [Manifest], which holds everything
// needed to install. A release is immutable: its manifest and artifacts never change, and a version is never
// used again for other bytes. Being offered is not: state, rollout and the like stand in the list, so that a
// hold or a withdrawal costs one small signature.
//
// # Choosing
//
// [Resolve] walks the list and answers with a [Plan]: the steps to take, the best release allowed, the best one
// withheld, and for every release passed over the reason. It asks, in this order, with a [Reason] of its own for
// each: format and state, platform, licence, the app's own pin, skip and constraint, the version the release may
// be installed from, components, rollout.
//
// It never answers with a lower version than the running one, with two exceptions: the running release was
// withdrawn and names the version to go back to ([Release.RevertTo]), or the caller switches channels and says
// that a downgrade is acceptable ([Query.AcceptDowngrade]).
package channel
