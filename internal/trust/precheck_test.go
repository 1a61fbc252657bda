package trust

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

func TestPrecheck(t *testing.T) {
	deep := func(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }
	many := func(last string) string {
		var b strings.Builder
		for i := range 20 {
			fmt.Fprintf(&b, `"k%d":%d,`, i, i)
		}
		return "{" + b.String() + `"` + last + `":0}`
	}
	for doc, want := range map[string]string{
		`{}`:    "",
		` { } `: "",
		`{"a":[1,2.5e3,-0,true,false,"x",{},[]],"b":{"a":1}}`: "",
		deep(maxDepth):     "",
		deep(maxDepth + 1): "nested deeper",
		strings.Repeat("[", 33) + strings.Repeat("]", 33):                 "not a JSON object",
		`{"a":` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + `}`: "nested deeper",
		`{"a":1,"a":2}`:                     "twice",
		`{"a":1,"\u0061":2}`:                "twice",
		`{"x":{"a":1,"b":[{"c":1,"c":1}]}}`: "twice",
		`{"a":{"a":{"a":1}}}`:               "",
		`[{"a":1},{"a":1}]`:                 "not a JSON object",
		`{"l":[{"a":1},{"a":1}]}`:           "",
		many("k20"):                         "",
		many("k3"):                          "twice",
		many("k19"):                         "twice",
		`{"\\":1,"\\\\":2,"\"":3}`:          "",
		`null`:                              "not a JSON object",
		`{"a":null}`:                        "null",
		`{"a":[null]}`:                      "null",
		`{"a":"null"}`:                      "",
		`{"null":1}`:                        "",
		`{"signed":{"targets":{"p":{"custom":{"x":null}}}}}`:       "",
		`{"signed":{"targets":{"p":{"custom":{"x":[null]}}}}}`:     "",
		`{"signed":{"targets":{"p":{"custom":null}}}}`:             "null",
		`{"signed":{"targets":{"custom":{"p":null}}}}`:             "null",
		`{"signed":{"targets":{"p":{"custom":{"x":1},"y":null}}}}`: "null",
		`{"signed":{"meta":{"p":{"custom":{"x":null}}}}}`:          "null",
		`{"a":1}{"a":1}`:   "not JSON",
		`{"a":1`:           "not JSON",
		``:                 "not JSON",
		"{\"a\":\"\xff\"}": "not UTF-8",
		`"x"`:              "not a JSON object",
	} {
		err := precheck([]byte(doc))
		if want == "" {
			require.NoError(t, err, doc)
		} else {
			require.ErrorContains(t, err, want, doc)
		}
	}
}

// What passes is valid JSON, parses into go-tuf's types without a panic outside of guarded, and has no key twice.
func FuzzPrecheck(f *testing.F) {
	r := newRepo(f)
	r.release("notes.stable", "stable", "1.0.0")
	r.publish("notes.stable")
	for _, data := range r.copyFiles() {
		f.Add(data)
	}
	f.Add([]byte(`{"signed":{"_type":"targets","targets":{"a":null}},"signatures":[]}`))
	f.Add([]byte(`{"a":"\"\\","b":[{},[[]],1e9]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if precheck(data) != nil {
			return
		}
		var v map[string]any
		require.NoError(t, json.Unmarshal(data, &v))
		_, _ = metadata.Root().FromBytes(data)
		_, _ = metadata.Timestamp().FromBytes(data)
		_, _ = metadata.Snapshot().FromBytes(data)
		_, _ = metadata.Targets().FromBytes(data)
	})
}

// Whatever a timestamp says, it is refused with a typed error or accepted.
func FuzzVerifyTimestamp(f *testing.F) {
	r := newRepo(f)
	f.Add(r.get("metadata/timestamp.json"))
	f.Add(r.get("metadata/1.snapshot.json"))
	f.Add([]byte(`{"signed":{"_type":"timestamp","meta":{}},"signatures":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		ts, err := verifyTimestamp(r.root, data, clock{now: start})
		var bad *VerifyError
		if err != nil {
			require.ErrorAs(t, err, &bad)
			return
		}
		require.Equal(t, int64(1), ts.Signed.Version, "nobody else can sign")
	})
}
