package license

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	requestType   = "license-request+jwt"
	requestLife   = 30 * 24 * time.Hour
	maxRequest    = 4 << 10 // bytes of the token itself
	maxNonce      = 64
	minNonce      = 22                   // 128 bits in base64url
	mostLife      = 366 * 24 * time.Hour // of a request
	requestLeeway = 24 * time.Hour       // for clocks without a network: a wrong time zone is up to 14 hours
)

var requestKind = kind{"licence request", "-----BEGIN LICENSE REQUEST-----", "-----END LICENSE REQUEST-----", maxRequest}

var requestNames = [...]string{"v", "aud", "node", "jti", "iat", "exp", "lid", "seq"}

// The codes of a request that is genuine, and that the vendor should not answer now.
const (
	ErrRequestExpired Code = "request_expired" // it is too old: the customer makes another one
	ErrRequestEarly   Code = "request_early"   // it was made in the future: one of the two clocks is wrong
)

// A Request is an installation's wish for a licence of its own, or for the renewal of the one that it holds: a file that
// goes to the vendor by mail or on a stick, see docs/formats.md. It tells what is written here, and nothing else: no
// names of users or hosts, no addresses, no paths.
type Request struct {
	Product string // aud
	Node    string // node: the installation's fingerprint, which goes into License.Nodes
	Nonce   string // jti: of this request alone; License.Request of the answer repeats it

	// License and Seq (lid, seq) are those of the licence that the installation holds; "" and 0: it has none.
	License string
	Seq     int64

	// Created and Expires (iat, exp) bound the time in which it may be answered, by the installation's clock.
	Created, Expires time.Time

	// Key has signed it. That shows that nobody has changed the request on its way, and that two requests are of
	// the same installation. It does not show whose installation that is: anybody can make a key.
	Key ed25519.PublicKey
}

// DeviceID names the installation, as its own [Device.ID] does.
func (r *Request) DeviceID() string { return thumbprint(r.Key) }

// Request signs a request, and returns it in armour. Product, Node and Created are required. Nonce and Key are filled in,
// Expires is 30 days after Created if it is zero. Times lose their fractions of seconds.
func (d *Device) Request(r Request) ([]byte, error) {
	if d == nil || d.private == nil {
		return nil, errors.New("license: no key is known: get the device from OpenDevice")
	}
	r.Nonce, r.Key = rand.Text(), d.Public()
	if r.Expires.IsZero() && !r.Created.IsZero() {
		r.Expires = r.Created.Add(requestLife)
	}
	head, err := json.Marshal(map[string]any{"alg": algEdDSA, "typ": requestType, "jwk": jwkOf(r.Key)})
	if err != nil {
		return nil, err
	}
	payload, err := r.encode()
	if err != nil {
		return nil, err
	}
	text := encodeSegment(head) + "." + encodeSegment(payload)
	token := text + "." + encodeSegment(ed25519.Sign(d.private, []byte(text)))
	if _, err := ReadRequest([]byte(token), r.Created); err != nil {
		return nil, err
	}
	return requestKind.armor([]byte(token)), nil
}

func (r *Request) encode() ([]byte, error) {
	claims := map[string]any{"v": FormatVersion, "aud": r.Product, "node": r.Node, "jti": r.Nonce, "iat": unix(r.Created), "exp": unix(r.Expires)}
	if r.License != "" || r.Seq != 0 {
		claims["lid"], claims["seq"] = r.License, r.Seq
	}
	return json.Marshal(claims)
}

// ActivationRequest makes a request of the installation whose store is in the folder dir, for [Config.Product] and
// [Config.Node]. held is the licence that is to be renewed or replaced, nil if there is none.
func ActivationRequest(ctx context.Context, dir, product, node string, held *License, now time.Time) ([]byte, error) {
	if node == "" {
		return nil, errors.New("license: this installation has no fingerprint to ask for: set Config.Node, see MachineNode")
	}
	if now.Unix() < minDate || now.Unix() > maxDate {
		return nil, fmt.Errorf("license: this computer's clock says %s: set it, and make the request then", day(now))
	}
	d, err := OpenDevice(ctx, dir)
	if err != nil {
		return nil, err
	}
	r := Request{Product: product, Node: node, Created: now}
	if held != nil {
		r.License, r.Seq = held.LicenseID, held.Seq
	}
	return d.Request(r)
}

// ActivationRequest makes a request of this installation, for the vendor: for a first licence, or for what is to come after
// the one that counts. It needs StoreConfig.Dir and [Config.Node].
func (s *Store) ActivationRequest(ctx context.Context) ([]byte, error) {
	if !s.made() || s.config.Dir == "" {
		return nil, errors.New("license: a request needs a store with a folder: set StoreConfig.Dir")
	}
	c := s.config.Verifier.config
	held, now := s.Current().License, s.now()
	if v := s.view.Load(); v.floor.at.After(now) { // the vendor refuses what is too old
		now = v.floor.at
	}
	return ActivationRequest(ctx, s.config.Dir, c.Product, c.Node, held, now)
}

// ReadRequest reads a request, bare or in armour, as the vendor does who is to answer it. It is as strict as
// [Verifier.Parse]: size, alphabet, the members of the header, JSON, dates. Clocks may differ by a day.
//
// The error is a [*TokenError]. Whether the vendor makes that product, knows that licence, or has answered that nonce
// before, is for the caller to ask.
func ReadRequest(data []byte, now time.Time) (*Request, error) {
	signed, parts, err := requestKind.split(data)
	if err != nil {
		return nil, err
	}
	key, err := readRequestHeader(parts[0])
	if err != nil {
		return nil, err
	}
	if !ed25519.Verify(key, []byte(signed), parts[2]) {
		return nil, refuse(ErrBadSignature, "the signature does not fit: the request was altered on its way")
	}
	r, err := readRequestClaims(parts[1])
	if err != nil {
		return nil, err
	}
	r.Key = key
	switch {
	case r.Created.After(now.Add(requestLeeway)):
		return nil, refuse(ErrRequestEarly, "the request was made on %s, and here it is %s: is the customer's clock right?", day(r.Created), day(now))
	case !now.Before(r.Expires.Add(requestLeeway)):
		return nil, refuse(ErrRequestExpired, "the request was made on %s, to be answered until %s, and here it is %s: have the customer "+
			"make another one; if this one is new, the customer's clock is wrong", day(r.Created), day(r.Expires), day(now))
	}
	return r, nil
}

// readRequestHeader takes exactly {"alg":"EdDSA","typ":"license-request+jwt","jwk":{"kty":"OKP","crv":"Ed25519","x":"…"}}.
func readRequestHeader(data []byte) (ed25519.PublicKey, error) {
	members, err := readObject(data)
	if err != nil {
		return nil, refuse(ErrMalformed, "the token's header %v", err)
	}
	if members["typ"] == headerType {
		return nil, requestKind.mistaken(licenceKind)
	}
	if name, ok := extra(members, "alg", "typ", "jwk"); ok {
		return nil, refuse(ErrHeader, "the header has the member %.64q; a request has alg, typ and jwk only", name)
	}
	r := reader{members: members}
	typ, alg, jwk := r.text("typ"), r.text("alg"), r.object("jwk")
	switch {
	case r.err != nil:
		return nil, refuse(ErrHeader, "the header's %v", r.err)
	case typ != requestType:
		return nil, refuse(ErrHeader, "the header's typ is %.64q; a request has %q", typ, requestType)
	case alg != algEdDSA:
		return nil, refuse(ErrHeader, "the header's alg is %.64q; a request has EdDSA", alg)
	case jwk == nil:
		return nil, refuse(ErrHeader, "the header has no key (jwk)")
	}
	if name, ok := extra(jwk, "kty", "crv", "x"); ok {
		return nil, refuse(ErrHeader, "the key has the member %.64q; it has kty, crv and x only", name)
	}
	inner := reader{members: jwk}
	kty, crv := inner.text("kty"), inner.text("crv")
	switch {
	case inner.err != nil:
		return nil, refuse(ErrHeader, "the key's %v", inner.err)
	case kty != "OKP" || crv != "Ed25519":
		return nil, refuse(ErrHeader, "the key's type is %.64q; a request has OKP/Ed25519", kty+"/"+crv)
	}
	x, err := inner.coordinate("x")
	if err != nil {
		return nil, refuse(ErrHeader, "the key %v", err)
	}
	if hasSmallOrder(x) {
		return nil, refuse(ErrHeader, "the key is a point of small order, for which anybody can sign")
	}
	return ed25519.PublicKey(x), nil
}

// extra returns the first member, by name, that is none of these.
func extra(members map[string]any, names ...string) (string, bool) {
	var others []string
	for name := range members {
		if !slices.Contains(names, name) {
			others = append(others, name)
		}
	}
	if len(others) == 0 {
		return "", false
	}
	return slices.Min(others), true
}

func readRequestClaims(payload []byte) (*Request, error) {
	members, err := readObject(payload)
	if err != nil {
		return nil, refuse(ErrMalformed, "the token's payload %v", err)
	}
	for name := range members {
		if known := fold(name); name != known && slices.Contains(requestNames[:], known) {
			return nil, refuse(ErrMalformed, "the claim %q is written %q; capitals count", known, name)
		}
	}
	r := reader{members: members}
	r.require("v", "aud", "node", "jti", "iat", "exp")
	v := r.integer("v")
	if r.err == nil && v > FormatVersion {
		return nil, refuse(ErrUnsupportedVersion, "the request has format version %d, this program reads up to %d: update it", v, FormatVersion)
	}
	r.check("v", v >= 1, "is below 1")
	q := &Request{Product: r.text("aud"), Node: r.text("node"), Nonce: r.text("jti"), License: r.text("lid"), Seq: r.integer("seq"),
		Created: r.date("iat"), Expires: r.date("exp")}
	r.check("aud", q.Product != "", "is empty")
	r.check("node", q.Node != "", "is empty")
	r.check("jti", minNonce <= len(q.Nonce) && len(q.Nonce) <= maxNonce, "has %d characters, not %d to %d", len(q.Nonce), minNonce, maxNonce)
	r.check("jti", !strings.ContainsFunc(q.Nonce, func(c rune) bool { return c > 0x7f || !isBase64url(byte(c)) }), "has other characters than base64url")
	r.check("iat", !q.Created.IsZero(), "is 0")
	r.check("exp", q.Expires.After(q.Created), "is not after iat")
	r.check("exp", q.Expires.Sub(q.Created) <= mostLife, "is more than a year after iat")
	r.check("lid", (q.License != "") == (q.Seq != 0), "and seq belong together")
	r.check("seq", q.Seq >= 0, "is negative")
	if r.err != nil {
		return nil, &TokenError{Code: ErrClaims, Detail: "the request cannot be used: " + r.err.Error()}
	}
	return q, nil
}

// jwkOf writes a public key as a JWK (RFC 8037 section 2), with the members that its thumbprint needs and no others.
func jwkOf(key ed25519.PublicKey) map[string]string {
	return map[string]string{"kty": "OKP", "crv": "Ed25519", "x": encodeSegment(key)}
}

// thumbprint is that of RFC 7638 and RFC 8037 appendix A.3, with SHA-256, in base64url.
func thumbprint(key ed25519.PublicKey) string {
	text, err := json.Marshal(jwkOf(key)) // sorted, no white space
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(text)
	return encodeSegment(sum[:])
}

// smallOrder are the y coordinates of the eight points whose order divides eight, and the two that mean the same when not
// reduced, in little-endian order. x, a bit of the last byte, does not matter.
var smallOrder = [...][32]byte{
	{}, // order 4
	{1},
	{0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
		0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05},
	{0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
		0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a},
	nearP(0xec), // p-1, order 2
	nearP(0xed), // p, which is 0
	nearP(0xee), // p+1, which is 1
}

func nearP(first byte) (y [32]byte) {
	for i := range y {
		y[i] = 0xff
	}
	y[0], y[31] = first, 0x7f
	return y
}

// hasSmallOrder reports whether a public key is a point for which signatures can be made without a private key.
func hasSmallOrder(key []byte) bool {
	y := [32]byte(key)
	y[31] &= 0x7f
	return slices.Contains(smallOrder[:], y)
}
