// Package issuelog is an issuer's own record of the licences that it gave out and took back: a file of JSON lines to which
// lines are only ever added, each naming the hash of the one before.
//
// # What it is for
//
// A licence that was handed out is nowhere else: to renew it, to revoke it, or to say how many installations it was for,
// the issuer has to know that it exists. So a line is on the disk, synced, before the token it is about leaves [Append]'s
// caller: after a crash the log may have a token that nobody got, and never lacks one that somebody has.
//
// # What is in it
//
// Ids, dates and hashes: nothing that counts as a licence, and no customer's name. The customer is the SHA-256 of the
// licence's id and the customer's id, so that who knows both can find the lines, and two licences of one customer do not
// show as such. It is no secret: an id such as customer-17 can be guessed and tried.
//
// # What the hashes prove
//
// A line that was changed, taken out or put in makes the line after it wrong, and every later one. They do not show that
// lines were cut off at the end, or that all of it was written anew: for that, keep the hash of a line ([Log.Head])
// elsewhere, and ask with [Log.Has] whether it is still there.
//
// # Crashes
//
// A line that a crash cut off was never acknowledged. The next Append takes it out, and writes a line with the action
// [Repair] that says how many bytes of it there were. A broken chain is different: nothing is added to it, see
// [BrokenError].
package issuelog

import (
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// Format is the major version of a line (v).
const Format = 1

// The actions.
const (
	Issue     = "issue"      // a licence was issued
	Renew     = "renew"      // as the next of the same lid
	Revoke    = "revoke"     // a token, a licence or a key was revoked
	Prune     = "prune"      // tokens that ended long ago left the list of revocations
	NewKey    = "key_new"    // a key was made
	AddKey    = "key_add"    // a key was added to the key ring
	RetireKey = "key_retire" // a key in the key ring got its date of retirement
	Repair    = "repair"     // what a crash left of a line was taken out
)

// An Entry is one line. What does not apply to its action is left out.
type Entry struct {
	Version int       `json:"v"`
	Number  int64     `json:"n"` // of the line, from 1
	Time    time.Time `json:"time"`
	Action  string    `json:"action"`
	By      string    `json:"by,omitempty"` // who did it

	KeyID     string   `json:"kid,omitempty"`
	ID        string   `json:"jti,omitempty"`
	LicenseID string   `json:"lid,omitempty"`
	Seq       int64    `json:"seq,omitempty"`
	Issuer    string   `json:"iss,omitempty"`
	Products  []string `json:"aud,omitempty"`
	Subject   string   `json:"sub_sha256,omitempty"`    // see Subject
	Claims    string   `json:"claims_sha256,omitempty"` // of the token's payload, as signed

	IssuedAt       time.Time `json:"iat,omitzero"`
	NotBefore      time.Time `json:"nbf,omitzero"`
	Expires        time.Time `json:"exp,omitzero"`
	LicenseExpires time.Time `json:"lic_exp,omitzero"`
	UpdatesUntil   time.Time `json:"upd_until,omitzero"`
	Grace          int64     `json:"grace_s,omitempty"`

	Nodes    int    `json:"nodes,omitempty"` // how many
	MaxNodes int64  `json:"max_nodes,omitempty"`
	Request  string `json:"nonce,omitempty"` // of the activation request that it answers

	Below   int64     `json:"below,omitempty"` // of revoke with lid: what has a lower seq
	Since   time.Time `json:"since,omitzero"`  // of revoke and key_retire with kid: what was issued then or later; none: all
	List    int64     `json:"num,omitempty"`   // the list's number since then
	Reason  string    `json:"reason,omitempty"`
	Dropped []string  `json:"dropped,omitempty"` // of prune: the tokens
	Bytes   int       `json:"bytes,omitempty"`   // of repair

	Previous string `json:"prev"` // SHA-256 of the line before, without its line break; of the first, zeros
}

// Subject is how a customer stands in the log.
func Subject(licenseID, subject string) string {
	h := sha256.New()
	for _, part := range []string{"fairlead licence log", licenseID, subject} {
		h.Write([]byte(part))
		h.Write([]byte{0}) // no claim has one
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Hash is the lower-case hex SHA-256 of data.
func Hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// IsToken reports whether e is about a licence that was handed out.
func (e *Entry) IsToken() bool { return e.Action == Issue || e.Action == Renew }

// Token returns the line of a token, nil if there is none.
func (l *Log) Token(id string) *Entry { return l.entry(l.tokens, id) }

// Newest returns the line of the highest number of a licence, nil if there is none.
func (l *Log) Newest(licenseID string) *Entry { return l.entry(l.newest, licenseID) }

// Answered returns the line of the licence that answered a request, nil if none did.
func (l *Log) Answered(nonce string) *Entry { return l.entry(l.answered, nonce) }

func (l *Log) entry(index map[string]int, name string) *Entry {
	i, ok := index[name]
	if !ok {
		return nil
	}
	return &l.Entries[i]
}
