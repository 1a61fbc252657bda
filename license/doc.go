// Package license reads, judges and issues licences: signed statements of what a customer has bought.
//
// An app makes a [Verifier] from the keys compiled into it and a [Store] that says where its licence may be, and
// asks [Store.Has] or [Store.Current] whenever it wants to know. Package update asks [Status.AllowUpdate] which releases
// the licence includes. The vendor makes licences with an [Issuer], usually through the command
// `publish license`.
//
// Verify is not enforce. This package says who signed what, and what that is worth at a given time; the app
// decides what to do about it. By itself Fairlead withholds updates only, never the app, and never a security
// release of the major version that the licence covers.
//
// # What it is not
//
// No copy protection: whoever controls the machine can patch the app, and a licence can be copied. Binding to
// nodes makes that visible, not impossible. No server: nothing here uses the network; a fresh token
// ([License.Refresh]) is fetched by a [Refresher] that the app chooses. No secret: a licence is signed, not encrypted, so keep personal data out
// of it. Keep it out of logs as well: who has it can use it.
//
// # Trust
//
// What is believed is what the app was built with: the issuer's name, the product's name and the [Keyring].
// Everything in a token is hostile until its signature fits, and which algorithm that is is fixed by the key
// that kid names, not by the token (RFC 8725 sections 3.1 and 3.10). A strict gate comes before golang-jwt verifies
// the signature: at most 16 KiB, two dots, canonical unpadded base64url without line breaks, a header of exactly
//
//	{"alg":"EdDSA","kid":"acme-2026","typ":"license+jwt"}
//
// with alg EdDSA (Ed25519) or ES256, so no crit, jwk, jku or x5u, in at most 1 KiB. The payload is decoded once, after the
// signature, and duplicate members, members that differ in capitals only, nesting beyond eight levels, dates
// outside 2000 to 2199 and numbers that are not integers are refused. On any error there is no license.
//
// A license is named by its jti, never by the token's bytes or their hash: an ECDSA signature has two spellings.
//
// Around the token white space is fine, and so is armour, in which mail programs may wrap it. The whole may be UTF-16 with a
// byte order mark, as Windows PowerShell writes it:
//
//	-----BEGIN LICENSE-----
//	eyJhbGciOiJFZERTQSIsImtpZCI6ImFjbWUtMjAyNiIsInR5cCI6ImxpY2Vuc2Ur
//	…
//	-----END LICENSE-----
//
// # Claims
//
// All times are NumericDate integers: seconds since 1970, UTC. Claims not in this table are ignored; a higher
// major version in v is refused with [ErrUnsupportedVersion], which means "update the app".
//
//	v          integer  required  format of the claims, 1
//	iss        string   required  issuer, equal to Config.Issuer            RFC 7519 section 4.1.1
//	sub        string   required  customer, an opaque id                    4.1.2
//	aud        strings  required  products, Config.Product among them       4.1.3
//	exp        time     required  end of the token                          4.1.4
//	nbf        time               start; absent: iat                        4.1.5
//	iat        time     required  time of issue                             4.1.6
//	jti        string   required  id of this token alone                    4.1.7
//	lid        string   required  id of the licence, kept by renewals
//	seq        integer  required  from 1, higher with each renewal
//	lic_exp    time               end of the licence; 0 or absent: perpetual
//	grace_s    seconds            how long it counts beyond exp and lic_exp; more than 180 days count as 180
//	upd_until  time               publish time of the last releases included; absent: no end
//	sec_until  time               publish time of the last security releases owed; absent: no end
//	ver        string             semver constraint on versions, such as ">=2.0.0 <4.0.0"; absent: all
//	chan       strings            channels; absent: "stable"
//	ent        object             entitlement codes to true, false, an integer or a string; at most 256
//	plan, env  string             terms, for people
//	trial      boolean            never inferred from dates
//	nodes      strings            fingerprints of installations; absent: any
//	max_nodes  integer            most elements that nodes may have; 0 or absent: no limit
//	req        string             id of the activation request that this token answers
//	refresh    object             {"url": https URL, "after": time}; a hint
//
// Texts have at most 256 bytes.
//
// # Machines
//
// A licence with nodes holds where [Config.Node] is one of them. [MachineNode] makes that fingerprint of the machine's own
// id; [NodeOf] of another one, where there is none, as in most containers. A customer without a licence, or with one for
// another machine, sends the vendor a request ([Store.ActivationRequest]), by mail or on a stick. The vendor reads it
// ([ReadRequest]), issues a token with its node in nodes and its nonce in req, and sends that back, to be installed.
//
// # Three dates
//
//   - exp ends the token. A licence that goes on is still [Valid], with a warning that a refresh is overdue,
//     for as long as the grace lasts; then it is [Expired]. A short exp is what bounds the life of a token that
//     the vendor would like back.
//   - lic_exp ends the licence: [ExpiringSoon] for the 30 days before, [Grace] for grace_s after it, then Expired.
//   - upd_until ends which releases are included. It is compared with the release's signed publish time, so no
//     clock can be wrong, and what was included once stays included, also when the licence has expired. A
//     vendor who wants updates to end with the token sets it no later than exp.
//
// # States
//
// Evaluate asks in this order, and the first that fits is the state:
//
//	Missing       no token, or an empty one
//	Invalid       Parse refuses it; Status.Err is the *TokenError
//	Revoked       the list of revocations names it; Status.Reason says how
//	WrongMachine  it names nodes, and Config.Node is none of them
//	NotYetValid   now is more than 5 minutes before nbf, or before iat
//	Expired       exp or lic_exp has passed, and the grace after it, too
//	Grace         lic_exp has passed
//	ExpiringSoon  lic_exp is less than 30 days away
//	Valid         otherwise
//
// # The store
//
// A [Store] looks at all the tokens that its sources have, and at those that were installed, and one of them counts:
//
//   - Candidates are tokens that Parse accepts, that are not revoked, for this machine, and started.
//   - Of one licence (lid) the highest seq counts, also when its terms are worse: the issuer said it later. A renewal
//     that starts later leaves the present token in place until then. Of one seq, the later iat, then the higher jti.
//   - Of several licences one that holds comes before one that has expired, then one that was bought before a trial, then the
//     later iat, then the higher jti.
//   - Without a candidate the failure that tells most is shown: Revoked, WrongMachine, NotYetValid, Invalid, Missing.
//
// What cannot be read is a sentence in Status.Warnings and hides nothing; what it had when it could be read counts on while
// the process runs. Only when nothing else is there, it is Invalid.
//
// [Store.Install] refuses a token that would not count, now or when it starts: a worse one never replaces a better one.
// Nothing is copied from the other sources: who removes a file removes the licence.
//
// The store's folder has three files. licenses.jwt (mode 0600) has up to eight tokens, one a line: the one that counts,
// renewals to come, other licences, and tokens that another version of the app may read. clock.json is the memory of time,
// see below. Both are replaced in one step, under the lock on the file lock. A crash at any moment leaves the old file or
// the new. Whatever stands in their place, and is no such file, is left out with a warning and replaced at the next
// installation. Beside them is device.key, once a request was made, see [OpenDevice]. Nobody gets a licence by writing to the
// folder, since only what is signed counts. Who can write to it can remove licences, and what is remembered of time.
//
// # Clocks
//
// A clock is brought up to the newest of these, and licences are judged as of then:
//
//   - when the app was built ([StoreConfig.BuildTime]), when any of the tokens at hand that are not revoked was issued,
//     and what the vendor's repository was last signed at ([Lists.Time]). These are certain.
//   - the time that this clock has shown before, if it is more than a day behind that.
//
// Up to a day nothing is said about it; beyond, a warning asks to set the clock. So a clock set back, or to 1970 by an empty
// battery, brings no licence back that had ended by then, and none that holds is lost by it. A licence that has not started is [ClockSuspect]
// instead of NotYetValid while the clock is certainly wrong: more than a day behind what is certain, or before the build.
//
// The last of these is soft, since a clock may have been ahead by mistake. It takes over a leap forward of more than a week
// only once the clock is there again, a day to 35 days later. And when the clock then stays behind it for a week, without being behind what is
// certain, the clock is believed after all; at once if there is a signed time that was not known then and is within 30 days
// of the clock, say a licence that the vendor has issued anew. The week is one of the clock's own: whoever sets it back, and
// back once more but a week later, is believed, as is who removes clock.json, and an honest customer loses no more than a
// week. What is certain holds for all. This is a floor, and no police.
//
// # Lists
//
// With [Store.UseLists], which package update calls, keys and revocations come from the vendor's signed repository. Its key
// ring adds keys to those that are compiled in and retires known ones; it takes none away, and never retires the last. A
// retired key still verifies what it signed before. The list of revocations names tokens (jti), the least seq of a licence
// (lid) that counts, and the time (iat) from which on a key (kid) does not count. A process never goes back to a list with a
// lower number or an older view, and says so. Without a list everything goes on, with a warning.
package license
