package license

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds the nesting of any JSON read here. What version 1 knows needs three levels; the rest is room
// for claims to come.
const maxDepth = 8

// readObject decodes one JSON object, and refuses what two readers could understand differently: duplicate
// members and members that differ only in case (encoding/json takes the last of them, and takes "EXP" for
// "exp"), invalid UTF-8, deep nesting, data after the end. Objects become map[string]any, arrays []any, numbers
// json.Number. No error repeats the data.
func readObject(data []byte) (map[string]any, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("is not valid UTF-8")
	}
	if !json.Valid(data) {
		return nil, errors.New("is not valid JSON")
	}
	w := walker{data: data}
	v, err := w.value(maxDepth)
	if err != nil {
		return nil, err
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("is not a JSON object")
	}
	return object, nil
}

// A walker takes apart one JSON value that json.Valid has judged. So it looks only for where things end: a byte
// tells what follows, and none of them can be missing. json.Decoder.Token gives the same, at five times the cost.
type walker struct {
	data []byte
	pos  int
}

// next skips white space and, between values, what separates them. It returns the byte that it stops at.
func (w *walker) next() byte {
	for {
		switch c := w.data[w.pos]; c {
		case ' ', '\t', '\r', '\n', ',', ':':
			w.pos++
		default:
			return c
		}
	}
}

func (w *walker) value(depth int) (any, error) {
	switch c := w.next(); c {
	case '{', '[':
		if depth == 0 {
			return nil, fmt.Errorf("is nested deeper than %d levels", maxDepth)
		}
		w.pos++
		if c == '{' {
			return w.members(depth - 1)
		}
		return w.elements(depth - 1)
	case '"':
		return w.text()
	case 't':
		w.pos += len("true")
		return true, nil
	case 'f':
		w.pos += len("false")
		return false, nil
	case 'n':
		w.pos += len("null")
		return nil, nil
	}
	return w.number(), nil
}

func (w *walker) members(depth int) (map[string]any, error) {
	object := make(map[string]any)
	var folded map[string]bool // other spellings than the plain one
	for w.next() != '}' {
		name, err := w.text()
		if err != nil {
			return nil, err
		}
		plain := fold(name)
		if _, twice := object[plain]; twice || folded[plain] {
			return nil, fmt.Errorf("has the member %.64q twice (capitals do not count)", name)
		}
		if plain != name {
			if folded == nil {
				folded = make(map[string]bool)
			}
			folded[plain] = true
		}
		if object[name], err = w.value(depth); err != nil {
			return nil, err
		}
	}
	w.pos++
	return object, nil
}

func (w *walker) elements(depth int) ([]any, error) {
	array := []any{}
	for w.next() != ']' {
		v, err := w.value(depth)
		if err != nil {
			return nil, err
		}
		array = append(array, v)
	}
	w.pos++
	return array, nil
}

// text reads a string. Without escapes it is what stands there; what escapes mean encoding/json says.
func (w *walker) text() (s string, err error) {
	start, plain := w.pos, true
	for w.pos++; w.data[w.pos] != '"'; w.pos++ {
		if w.data[w.pos] == '\\' {
			plain = false
			w.pos++
		}
	}
	w.pos++
	if plain {
		return string(w.data[start+1 : w.pos-1]), nil
	}
	if json.Unmarshal(w.data[start:w.pos], &s) != nil {
		return "", errors.New("is not valid JSON")
	}
	return s, nil
}

func (w *walker) number() json.Number {
	start := w.pos
	for w.pos < len(w.data) && strings.IndexByte("+-.0123456789Ee", w.data[w.pos]) >= 0 {
		w.pos++
	}
	return json.Number(w.data[start:w.pos])
}

// fold maps names that some JSON reader takes for the same to one form. Upper case first: it brings the long s
// and the Kelvin sign, which encoding/json folds as well, to plain letters.
func fold(name string) string {
	for i := range len(name) {
		if c := name[i]; c >= utf8.RuneSelf || 'A' <= c && c <= 'Z' {
			return strings.ToLower(strings.ToUpper(name))
		}
	}
	return name
}

// decodeSegment decodes unpadded base64url and accepts one spelling only: Strict refuses non-zero trailing bits,
// and the alphabet check refuses the CR and LF that encoding/base64 skips.
func decodeSegment(s string) ([]byte, error) {
	for i := range len(s) {
		if !isBase64url(s[i]) {
			return nil, fmt.Errorf("has a character outside the base64url alphabet at byte %d", i)
		}
	}
	data, err := canonical.DecodeString(s)
	if err != nil {
		return nil, errors.New("is not canonical base64url")
	}
	return data, nil
}

var canonical = base64.RawURLEncoding.Strict()

func isBase64url(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}
