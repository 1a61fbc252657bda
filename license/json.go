package license

import (
	"bytes"
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
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	v, err := readValue(dec, maxDepth)
	if err != nil {
		return nil, err
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("is not a JSON object")
	}
	return object, nil
}

func readValue(dec *json.Decoder, depth int) (any, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, errors.New("is not valid JSON")
	}
	delim, composite := token.(json.Delim)
	if !composite {
		return token, nil
	}
	if depth == 0 {
		return nil, fmt.Errorf("is nested deeper than %d levels", maxDepth)
	}
	var value any
	if delim == '{' {
		value, err = readMembers(dec, depth-1)
	} else {
		value, err = readElements(dec, depth-1)
	}
	if err != nil {
		return nil, err
	}
	_, err = dec.Token() // the closing bracket
	return value, err
}

func readMembers(dec *json.Decoder, depth int) (map[string]any, error) {
	object := map[string]any{}
	folded := map[string]bool{}
	for dec.More() {
		token, err := dec.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return nil, errors.New("is not valid JSON")
		}
		plain := fold(name)
		if folded[plain] {
			return nil, fmt.Errorf("has the member %.64q twice (capitals do not count)", name)
		}
		folded[plain] = true
		if object[name], err = readValue(dec, depth); err != nil {
			return nil, err
		}
	}
	return object, nil
}

func readElements(dec *json.Decoder, depth int) ([]any, error) {
	array := []any{}
	for dec.More() {
		v, err := readValue(dec, depth)
		if err != nil {
			return nil, err
		}
		array = append(array, v)
	}
	return array, nil
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
	data, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, errors.New("is not canonical base64url")
	}
	return data, nil
}

func isBase64url(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}
