package tufrepo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

const maxDepth = 32

// checkJSON refuses what JSON parsers read in different ways, or crash on: null (go-tuf dereferences it before any
// signature is checked), duplicate keys and keys that differ only by case (encoding/json lets the last one win, whatever
// its case), deep nesting, and anything after the value.
// visit, if not nil, sees every number and every key's path.
func checkJSON(data []byte, visit func(path []string, number json.Number) error) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := checkValue(d, nil, visit); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON value")
	}
	return nil
}

func checkValue(d *json.Decoder, path []string, visit func([]string, json.Number) error) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	if len(path) > maxDepth {
		return fmt.Errorf("is nested deeper than %d levels", maxDepth)
	}
	switch t := token.(type) {
	case nil:
		return fmt.Errorf("%s is null", strings.Join(path, "."))
	case json.Number:
		if visit != nil {
			return visit(path, t)
		}
	case json.Delim:
		seen := map[string]bool{}
		for d.More() {
			key := "[]"
			if t == '{' {
				name, err := d.Token()
				if err != nil {
					return err
				}
				key, _ = name.(string)
				if folded := strings.ToLower(key); seen[folded] {
					return fmt.Errorf("%s has the key %q twice", strings.Join(path, "."), key)
				} else {
					seen[folded] = true
				}
				if visit != nil {
					if err := visit(append(path, key), ""); err != nil {
						return err
					}
				}
			}
			if err := checkValue(d, append(path, key), visit); err != nil {
				return err
			}
		}
		_, err := d.Token() // the closing delimiter
		return err
	}
	return nil
}
