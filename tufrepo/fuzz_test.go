package tufrepo

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

func TestCheckJSON(t *testing.T) {
	for bad, want := range map[string]string{
		`{"a":{"b":null}}`:                  "a.b is null",
		`null`:                              "is null",
		`{"a":[1,null]}`:                    "a.[] is null",
		`{"a":1,"a":2}`:                     `the key "a" twice`,
		`{"b":{"signed":1,"Signed":2}}`:     `b has the key "Signed" twice`,
		`{"a":1}{}`:                         "something follows",
		`{"a":1} x`:                         "something follows",
		`{"a":`:                             "EOF",
		strings.Repeat("[", maxDepth+5):     "deeper than",
		strings.Repeat(`{"a":`, maxDepth+5): "deeper than",
		``:                                  "EOF",
	} {
		require.ErrorContains(t, checkJSON([]byte(bad), nil), want, bad)
	}
	require.NoError(t, checkJSON([]byte(` {"a":[1,"null",{"b":{}}],"b":{"a":[]}} `), nil))
}

// FuzzParse: metadata from a tampered store is an error, and never a panic; what is accepted can be written again.
func FuzzParse(f *testing.F) {
	dir := f.TempDir()
	store := Dir(dir)
	online := newSigner(f, "ecdsa-p256")
	_, err := Create(f.Context(), store, CreateConfig{Root: only(online), Targets: only(online), Snapshot: only(online), Timestamp: only(online)}, online)
	require.NoError(f, err)
	for _, name := range []string{"1.root.json", "1.targets.json", "1.snapshot.json", "timestamp.json"} {
		data, err := os.ReadFile(filepath.Join(dir, "metadata", name))
		require.NoError(f, err)
		f.Add(data)
	}
	f.Add([]byte(`{"signed":{"_type":"targets","targets":{"a":null}},"signatures":[]}`))
	f.Add([]byte(`{"signed":{"_type":"root","version":1,"keys":{"a":{"keytype":"ed25519","scheme":"ed25519","keyval":{"public":"00"}}},"roles":{"root":{"keyids":["a"],"threshold":1}}},"signatures":[{"keyid":"a","sig":"00"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if root, err := firstRoot(data); err == nil {
			_, _ = nextRoot(root, data)
		}
		if m, err := parse[metadata.TargetsType](data); err == nil {
			for _, role := range delegatedRoles(m) {
				if g, err := targetsDelegates(m, role); err == nil {
					_ = g.verify(role, m)
				}
			}
			for name, target := range m.Signed.Targets {
				_ = readEntry(name, target)
			}
			again, err := json.Marshal(m)
			require.NoError(t, err)
			_, err = parse[metadata.TargetsType](again)
			require.NoError(t, err)
		}
		if m, err := parse[metadata.SnapshotType](data); err == nil {
			_ = matches(m.Signed.Meta["targets.json"], 1, data)
		}
		_, _ = parse[metadata.TimestampType](data)
	})
}
