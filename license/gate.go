package license

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode"
)

const (
	headerType = "license+jwt" // explicit typing, RFC 8725 section 3.11
	algEdDSA   = "EdDSA"
	algES256   = "ES256"

	maxHeader = 1 << 10  // bytes of the header, decoded: the only JSON that is read before the signature
	maxToken  = 16 << 10 // bytes of the token itself
	maxInput  = 64 << 10 // bytes around it: armour, line breaks, white space

	beginArmor = "-----BEGIN LICENSE-----"
	endArmor   = "-----END LICENSE-----"
)

// A sealed token has passed the gate: its shape is that of a licence, and nothing in it has been believed.
type sealed struct {
	header    header
	payload   []byte // decoded, not read
	signed    string // header and payload as they stand in the token: what the signature is about
	signature []byte
}

// A header has typ and these two members, and no others: no crit (RFC 7515 section 4.1.11 wants it refused where it
// is not understood), b64, jwk, jku, x5u or x5c.
type header struct{ alg, kid string }

// A kind is what passes the gate: a licence, or a request for one.
type kind struct {
	name       string
	begin, end string // its armour
	limit      int    // bytes of the token itself
}

var licenceKind = kind{"licence", beginArmor, endArmor, maxToken}

// open is the gate. What it refuses never reaches a key.
func open(raw []byte) (*sealed, error) {
	signed, parts, err := licenceKind.split(raw)
	if err != nil {
		return nil, err
	}
	h, err := readHeader(parts[0])
	if err != nil {
		return nil, err
	}
	return &sealed{header: h, payload: parts[1], signed: signed, signature: parts[2]}, nil
}

// split takes a token out of its wrapping and apart into header, payload and signature, decoded. What was signed is the
// token up to the signature, as it stands there.
func (k kind) split(raw []byte) (signed string, parts [3][]byte, err error) {
	if len(raw) > maxInput {
		return "", parts, refuse(ErrMalformed, "%d bytes are no %s: a token has at most %d", len(raw), k.name, k.limit)
	}
	token, err := k.unarmor(raw)
	if err != nil {
		return "", parts, err
	}
	if token == "" {
		return "", parts, refuse(ErrMalformed, "there is no %s in it: it is empty", k.name)
	}
	if len(token) > k.limit {
		return "", parts, refuse(ErrMalformed, "the token is longer than %d bytes", k.limit)
	}
	if dots := strings.Count(token, "."); dots != 2 {
		return "", parts, refuse(ErrMalformed, "a token has three parts with dots between them, this one has %d dots", dots)
	}
	for i, segment := range strings.Split(token, ".") {
		data, err := decodeSegment(segment)
		if err == nil && len(data) > 0 {
			parts[i] = data
			continue
		}
		part := [...]string{"header", "payload", "signature"}[i]
		if err == nil {
			return "", parts, refuse(ErrMalformed, "the token's %s is empty", part)
		}
		return "", parts, refuse(ErrMalformed, "the token's %s %v; was it copied whole, without line breaks?", part, err)
	}
	if len(parts[0]) > maxHeader {
		return "", parts, refuse(ErrMalformed, "the token's header is longer than %d bytes", maxHeader)
	}
	return token[:strings.LastIndexByte(token, '.')], parts, nil
}

// unarmor returns the licence in raw.
func unarmor(raw []byte) (string, error) { return licenceKind.unarmor(raw) }

// unarmor returns the token in raw. White space counts outside it only, except that armour may wrap it over
// lines: mail programs break long ones.
func (k kind) unarmor(raw []byte) (string, error) {
	text := trim(raw)
	for _, other := range [...]kind{licenceKind, requestKind} {
		if other != k && bytes.HasPrefix(text, []byte(other.begin)) {
			return "", k.mistaken(other)
		}
	}
	keep := func(where, line string) error {
		return refuse(ErrMalformed, "there is something else %s the line %q: keep the lines from %q to %q only", where, line, k.begin, k.end)
	}
	if !bytes.HasPrefix(text, []byte(k.begin)) {
		if bytes.Contains(text, []byte(k.begin)) {
			return "", keep("before", k.begin)
		}
		return string(text), nil
	}
	body, ok := bytes.CutSuffix(text[len(k.begin):], []byte(k.end))
	if !ok && bytes.Contains(body, []byte(k.end)) {
		return "", keep("behind", k.end)
	}
	if !ok {
		return "", refuse(ErrMalformed, "the line %q is missing: was the %s copied whole?", k.end, k.name)
	}
	var token strings.Builder
	for line := range bytes.Lines(body) {
		token.Write(bytes.TrimSpace(line))
	}
	return token.String(), nil
}

// mistaken tells people who took one for the other.
func (k kind) mistaken(other kind) error {
	return refuse(ErrHeader, "this is a %s, not a %s: the customer sends requests, and the vendor answers with licences", other.name, k.name)
}

// narrow makes ASCII of UTF-16 with a byte order mark, which is what ">" writes in Windows PowerShell.
func narrow(text []byte) []byte {
	low := 0 // of the two bytes, which one says what
	switch {
	case len(text)%2 != 0:
		return text
	case bytes.HasPrefix(text, []byte{0xfe, 0xff}):
		low = 1
	case !bytes.HasPrefix(text, []byte{0xff, 0xfe}):
		return text
	}
	out := make([]byte, 0, len(text)/2)
	for i := 2; i < len(text); i += 2 {
		if text[i+1-low] != 0 || text[i+low] > unicode.MaxASCII {
			return text
		}
		out = append(out, text[i+low])
	}
	return out
}

// trim removes white space around text, and the byte order mark that some editors put before it.
func trim(text []byte) []byte {
	return bytes.TrimFunc(narrow(text), func(r rune) bool { return unicode.IsSpace(r) || r == '\ufeff' })
}

func readHeader(data []byte) (h header, err error) {
	members, err := readObject(data)
	if err != nil {
		return h, refuse(ErrMalformed, "the token's header %v", err)
	}
	if members["typ"] == requestType {
		return h, licenceKind.mistaken(requestKind)
	}
	var typ string
	for name, value := range members {
		text, ok := value.(string)
		switch {
		case name == "alg" && ok:
			h.alg = text
		case name == "typ" && ok:
			typ = text
		case name == "kid" && ok:
			h.kid = text
		case name == "alg" || name == "typ" || name == "kid":
			return h, refuse(ErrHeader, "the header's %s is not a string", name)
		default:
			return h, refuse(ErrHeader, "the header has the member %.64q; a licence has alg, typ and kid only", name)
		}
	}
	switch {
	case typ != headerType:
		return h, refuse(ErrHeader, "the header's typ is %.64q; a licence has %q", typ, headerType)
	case h.alg != algEdDSA && h.alg != algES256:
		return h, refuse(ErrHeader, "the header's alg is %.64q; a licence has EdDSA or ES256", h.alg)
	case h.kid == "":
		return h, refuse(ErrHeader, "the header names no key (kid)")
	}
	return h, nil
}

// Armor wraps a token over lines between the marks that license files carry, for mail and for people. Parse
// reads it as well as the bare token.
func Armor(token []byte) []byte { return licenceKind.armor(trim(token)) }

func (k kind) armor(token []byte) []byte {
	const width = 64
	out := []byte(k.begin + "\n")
	for rest := token; len(rest) > 0; {
		n := min(width, len(rest))
		out = append(append(out, rest[:n]...), '\n')
		rest = rest[n:]
	}
	return append(out, k.end+"\n"...)
}

// An Unverified token is what some bytes claim to be. Anybody can write one: nothing in it may decide anything.
type Unverified struct {
	Algorithm string          // header alg
	KeyID     string          // header kid
	Claims    json.RawMessage // the payload, a JSON object
}

// InspectUnverified reads a token without judging it: no signature, no key, no claim is checked, only that it is
// shaped like a licence. It is for tooling that shows people what they hold; everything else calls
// [Verifier.Parse].
func InspectUnverified(token []byte) (*Unverified, error) {
	s, err := open(token)
	if err != nil {
		return nil, err
	}
	if _, err := readObject(s.payload); err != nil {
		return nil, refuse(ErrMalformed, "the token's payload %v", err)
	}
	return &Unverified{Algorithm: s.header.alg, KeyID: s.header.kid, Claims: s.payload}, nil
}
