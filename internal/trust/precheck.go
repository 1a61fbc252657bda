package trust

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

const maxDepth = 32

// precheck refuses documents that no publisher writes and that parsers disagree about or trip over, before any of
// them sees one: what is not JSON or not UTF-8, is nested too deep, names a key twice in one object, or holds a null
// outside the custom metadata of a target. (go-tuf 2.4.2 follows some nulls into a panic before it has checked a
// signature.) Its caller has limited the size of data.
func precheck(data []byte) error {
	if !utf8.Valid(data) {
		return errors.New("it is not UTF-8")
	}
	if !json.Valid(data) {
		return errors.New("it is not JSON")
	}
	s := scanner{data: data}
	s.space()
	if s.data[s.pos] != '{' {
		return errors.New("it is not a JSON object")
	}
	return s.value()
}

// scanner walks over a document that is known to be valid JSON, so that every index below exists.
type scanner struct {
	data []byte
	pos  int
	path [maxDepth][]byte // the key in each open object, nil in an array
	deep int
}

func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\r', '\n':
			s.pos++
		default:
			return
		}
	}
}

func (s *scanner) value() error {
	switch s.data[s.pos] {
	case '{':
		return s.container('}')
	case '[':
		return s.container(']')
	case '"':
		s.str()
		return nil
	case 'n':
		if !s.inCustom() {
			return fmt.Errorf("it holds a null, in %q", s.path[max(s.deep-1, 0)])
		}
	}
	for s.pos < len(s.data) { // a literal or a number
		switch s.data[s.pos] {
		case ',', ']', '}', ' ', '\t', '\r', '\n':
			return nil
		}
		s.pos++
	}
	return nil
}

func (s *scanner) container(end byte) error {
	if s.deep == maxDepth {
		return fmt.Errorf("it is nested deeper than %d", maxDepth)
	}
	s.deep++
	s.path[s.deep-1] = nil
	defer func() { s.deep-- }()

	var seen keySet
	s.pos++
	for s.space(); s.data[s.pos] != end; s.space() {
		if s.data[s.pos] == ',' {
			s.pos++
			s.space()
		}
		if end == '}' {
			key := s.str()
			if !seen.add(key) {
				return fmt.Errorf("it holds the key %q twice in one object", key)
			}
			s.path[s.deep-1] = key
			s.space()
			s.pos++ // the colon
			s.space()
		}
		if err := s.value(); err != nil {
			return err
		}
	}
	s.pos++
	return nil
}

// str steps over a string and returns what it says.
func (s *scanner) str() []byte {
	start, escaped := s.pos, false
	for s.pos++; s.data[s.pos] != '"'; s.pos++ {
		if s.data[s.pos] == '\\' {
			escaped = true
			s.pos++
		}
	}
	s.pos++
	if escaped {
		var text string
		_ = json.Unmarshal(s.data[start:s.pos], &text) // valid, as all of it is
		return []byte(text)
	}
	return s.data[start+1 : s.pos-1]
}

// inCustom reports whether the scanner is below signed.targets.<path>.custom, which is the publisher's own.
func (s *scanner) inCustom() bool {
	return s.deep > 4 && string(s.path[0]) == "signed" && string(s.path[1]) == "targets" && string(s.path[3]) == "custom"
}

// keySet is a set of keys of one object; nearly all have few.
type keySet struct {
	few  [8][]byte
	n    int
	many map[string]struct{}
}

func (k *keySet) add(key []byte) bool {
	if k.many == nil && k.n < len(k.few) {
		for _, have := range k.few[:k.n] {
			if string(have) == string(key) {
				return false
			}
		}
		k.few[k.n] = key
		k.n++
		return true
	}
	if k.many == nil {
		k.many = make(map[string]struct{})
		for _, have := range k.few {
			k.many[string(have)] = struct{}{}
		}
	}
	if _, ok := k.many[string(key)]; ok {
		return false
	}
	k.many[string(key)] = struct{}{}
	return true
}
