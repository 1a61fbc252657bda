package license

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// slowObject is readObject by way of json.Decoder's tokens, which says of every byte whether it may stand there.
func slowObject(data []byte) (map[string]any, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("is not valid UTF-8")
	}
	if !json.Valid(data) {
		return nil, errors.New("is not valid JSON")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	v, err := slowValue(dec, maxDepth)
	if err != nil {
		return nil, err
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("is not a JSON object")
	}
	return object, nil
}

func slowValue(dec *json.Decoder, depth int) (any, error) {
	token, err := dec.Token()
	delim, composite := token.(json.Delim)
	switch {
	case err != nil || !composite:
		return token, err
	case depth == 0:
		return nil, fmt.Errorf("is nested deeper than %d levels", maxDepth)
	}
	object, array, folded := map[string]any{}, []any{}, map[string]bool{}
	for dec.More() {
		name := ""
		if delim == '{' {
			if token, err = dec.Token(); err != nil {
				return nil, err
			}
			name = token.(string)
			if plain := strings.ToLower(strings.ToUpper(name)); folded[plain] {
				return nil, fmt.Errorf("has the member %.64q twice (capitals do not count)", name)
			} else {
				folded[plain] = true
			}
		}
		value, err := slowValue(dec, depth-1)
		if err != nil {
			return nil, err
		}
		object[name], array = value, append(array, value)
	}
	if _, err = dec.Token(); delim == '[' {
		return array, err
	}
	return object, err
}

var readObjectSeeds = []string{
	`{}`, ` { } `, `[]`, `null`, `true`, `1`, `"x"`, ``, `{`, `{"a":1}`, `{"a":1}x`, `{"a":1}{"b":2}`, "{\"a\":1}\n",
	`{"a":[],"b":{},"c":[[],{}],"d":[1,-2,3.5e+6,0,-0,1E-9],"e":"","f":null,"g":true,"h":false}`,
	"{\t\"a\"\n:\r[ 1 ,\t2 , { \"b\" : null } ] , \"c\" : \"d,:{}[]\" }",
	`{"a\u0062":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\ud800\u0000","\\":"\\\\","\"":"\""}`,
	`{"a":1,"a":2}`, `{"a":1,"A":2}`, `{"A":1,"a":2}`, `{"A":1,"A":2}`, `{"AB":1,"aB":2}`, `{"a":1,"\u0061":2}`, `{"s":1,"ſ":2}`, `{"ſ":1,"S":2}`,
	`{"k":1,"\u212a":2}`, `{"\u212a":1,"K":2}`, `{"é":1,"É":2}`, `{"É":1,"é":2}`, `{"x":{"a":1,"A":1}}`, `{"a":{"A":1},"b":{"A":1}}`, `{"":1,"":2}`, `{"a":{},"A":[]}`,
	`{"x":[[[[[[[]]]]]]]}`, `{"x":[[[[[[[[]]]]]]]]}`, `{"x":{"x":{"x":{"x":{"x":{"x":{"x":{}}}}}}}}`, `{"x":{"x":{"x":{"x":{"x":{"x":{"x":{"x":1}}}}}}}}`,
	`{"x":{"x":{"x":{"x":{"x":{"x":{"x":{"x":{}}}}}}}}}`,
	`{"a":01}`, `{"a":+1}`, `{"a":1.}`, `{"a":.5}`, `{"a":NaN}`, `{'a':1}`, `{"a":1,}`, `{,}`, `{"a"}`, `{"a":}`, `{1:2}`, `[1,]`, `{"a":"` + "\n" + `"}`,
	"{\"a\":\"\xff\"}", `{"a":"\x"}`, `{"a":"\u12"}`, "\ufeff{}", `{"a":1}` + "\x00", `{"n":123456789012345678901234567890,"m":1e400}`,
}

func sameObject(t *testing.T, data []byte) {
	t.Helper()
	before := bytes.Clone(data)
	got, err := readObject(data)
	want, wantErr := slowObject(data)
	require.Equal(t, before, data)
	require.Equal(t, wantErr, err, "%q", data)
	require.Equal(t, want, got, "%q", data)
	if err != nil {
		require.Nil(t, got)
	}
}

// Not one reading more, not one less, and the same words.
func FuzzReadObject(f *testing.F) {
	accepted := 0
	for _, seed := range readObjectSeeds {
		if _, err := slowObject([]byte(seed)); err == nil {
			accepted++
		}
		f.Add([]byte(seed))
	}
	require.Equal(f, 12, accepted, "seeds that are objects")
	f.Fuzz(func(t *testing.T, data []byte) { sameObject(t, data) })
}

// The same on seeds that are cut, joined and altered where JSON has its marks.
func TestReadObjectOnAlteredJSON(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	marks := []string{`{`, `}`, `[`, `]`, `"`, `\`, `,`, `:`, ` `, `\u0041`, `"a":1`, `"A":`, `-`, `0`, `e`, `null`, "\xc3", "\x00"}
	valid := 0
	for range 20_000 {
		data := []byte(readObjectSeeds[r.IntN(len(readObjectSeeds))])
		for range r.IntN(4) {
			at := r.IntN(len(data) + 1)
			to := min(len(data), at+r.IntN(3))
			mark := marks[r.IntN(len(marks))]
			data = append(append(bytes.Clone(data[:at]), mark...), data[to:]...)
		}
		if json.Valid(data) {
			valid++
		}
		sameObject(t, data)
	}
	require.Greater(t, valid, 2000, "most of the test would be about what is no JSON")
}

// Depth is counted, not left to the stack.
func TestReadObjectDeep(t *testing.T) {
	for _, n := range []int{9, 100, 9_999, 10_000, 10_001, 1_000_000} {
		for _, pair := range [][2]string{{`{"a":`, `}`}, {`[`, `]`}, {`{"a":[`, `]}`}} {
			data := []byte(`{"x":` + strings.Repeat(pair[0], n) + `1` + strings.Repeat(pair[1], n) + `}`)
			object, err := readObject(data)
			require.Nil(t, object)
			if 2*n < 10_000 {
				require.EqualError(t, err, "is nested deeper than 8 levels")
			} else {
				require.Error(t, err) // from 10,000 on encoding/json says that it is no JSON
			}
		}
	}
}
