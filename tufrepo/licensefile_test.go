package tufrepo

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

func revoked(num int, jti string) []byte {
	return fmt.Appendf(nil, `{"v":1,"num":%d,"jti":[%q]}`, num, jti)
}

// putLicense publishes a file of the licence role.
func (w *world) putLicense(name string, content []byte) error {
	w.t.Helper()
	r := w.open()
	if err := r.PutLicense(name, content); err != nil {
		require.Empty(w.t, r.Changes(), "nothing was edited")
		require.Empty(w.t, r.files)
		return err
	}
	if len(r.Changes()) > 0 {
		w.commit(r)
	}
	return nil
}

// A list of revocations counts up, or what was taken back would be in force again.
func TestRevocationsOnlyRise(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, w.putLicense("revocations.json", revoked(7, "a")))
	require.NoError(t, w.putLicense("revocations.json", revoked(7, "a")), "the same list again is no news")
	before := w.files()
	for _, bad := range [][]byte{revoked(6, "b"), revoked(7, "b")} {
		var state *StateError
		require.ErrorAs(t, w.putLicense("revocations.json", bad), &state)
		require.Contains(t, state.Detail, "number 7 was signed before with other content")
	}
	require.Equal(t, before, w.files())
	require.NoError(t, w.putLicense("revocations.json", revoked(8, "b")))
	require.NoError(t, w.putLicense("keyring.json", []byte(`{"keys":[]}`)), "which does not count")

	// What was signed once is remembered although the role was signed anew, and lists it no longer.
	w.keys["license"] = newSigner(t, "ed25519")
	r := w.open()
	require.NoError(t, r.SetKeys("license", only(w.keys["license"])))
	w.commit(r)
	w.forgeTargets("license", func(m *metadata.Metadata[metadata.TargetsType]) { delete(m.Signed.Targets, "license/revocations.json") })
	require.ErrorContains(t, w.putLicense("revocations.json", revoked(8, "c")), "number 8 was signed before")
	require.NoError(t, w.putLicense("revocations.json", revoked(9, "c")))
	require.Empty(t, w.mustVerify().Findings)
}

func TestLicenseFilesThatClientsDoNotRead(t *testing.T) {
	w := newWorld(t)
	long := func(head string, n int) []byte {
		return append([]byte(head), bytes.Repeat([]byte(" "), n-len(head))...)
	}
	number := `{"v":1,"num":1}`
	require.NoError(t, w.putLicense("keyring.json", long("{}", 256<<10)))
	require.NoError(t, w.putLicense("revocations.json", long(number, 1<<20)))
	require.NoError(t, w.putLicense("later.json", []byte("[")), "a file of some later format")
	require.Empty(t, w.mustVerify().Findings)
	before := w.files()
	for content, want := range map[string]string{
		string(long(number, 1<<20+1)):    "clients read no more than 1048576",
		"":                               "not JSON",
		"{":                              "not JSON",
		number + "x":                     "not JSON",
		`{"v":1,"num":2,"NUM":3}`:        "twice",
		`{"v":1,"num":2,"jti":null}`:     "is null",
		`[1]`:                            "not a JSON object",
		`{"v":1}`:                        "has no integers v and num",
		`{"v":1,"Num":2}`:                "has no integers v and num",
		`{"v":1,"num":"2"}`:              "has no integers v and num",
		`{"v":1,"num":2.5}`:              "has no integers v and num",
		`{"v":1,"num":0}`:                "v 1 and num 0",
		`{"v":0,"num":2}`:                "v 0 and num 2",
		`{"v":1,"num":9007199254740992}`: "num 9007199254740992",
		strings.Repeat("[", 50):          "not JSON",
		`{"v":1,"num":2,"x":` + strings.Repeat(`{"x":`, 40): "nested deeper",
	} {
		err := w.putLicense("revocations.json", []byte(content))
		var state *StateError
		require.ErrorAs(t, err, &state, "%.40s", content)
		require.Contains(t, state.Detail, want, "%.40s", content)
	}
	require.ErrorContains(t, w.putLicense("keyring.json", long("{}", 256<<10+1)), "clients read no more than 262144")
	require.ErrorContains(t, w.putLicense("keyring.json", []byte(`{"keys":1,"Keys":2}`)), "twice")
	require.Equal(t, before, w.files())
}

// Verify finds what another tool, or a person with the right keys, has published.
func TestVerifyLicenseFiles(t *testing.T) {
	for name, c := range map[string]struct {
		file    string
		content []byte
		want    string
	}{
		"goes back":    {"revocations.json", revoked(3, "a"), "has number 3, and number 7 was signed before"},
		"no number":    {"revocations.json", []byte(`{"v":1}`), "has no integers v and num"},
		"too long":     {"revocations.json", append(revoked(8, "a"), bytes.Repeat([]byte("\n"), 1<<20)...), "clients read no more than 1048576"},
		"keyring cut":  {"keyring.json", []byte(`{"keys":[`), "is not JSON as clients read it"},
		"keyring long": {"keyring.json", append([]byte("{}"), make([]byte, 256<<10)...), "clients read no more than 262144"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			require.NoError(t, w.putLicense("revocations.json", revoked(7, "a")))
			blob := blobOf(c.content)
			_, err := w.store.Put(t.Context(), targetFile("license", blob.SHA256, c.file), bytes.NewReader(c.content), Always())
			require.NoError(t, err)
			w.forgeTargets("license", func(m *metadata.Metadata[metadata.TargetsType]) {
				m.Signed.Targets["license/"+c.file] = &metadata.TargetFiles{Length: blob.Length, Hashes: metaFile(1, c.content).Hashes}
			})
			report, err := Verify(t.Context(), w.store, w.root, w.now)
			var failed *VerifyError
			require.ErrorAs(t, err, &failed, "%v", report)
			require.Len(t, report.Findings, 1)
			require.Contains(t, failed.First.Problem, c.want)
			require.Equal(t, targetFile("license", blob.SHA256, c.file), failed.First.Name)
		})
	}
}
