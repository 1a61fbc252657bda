package license_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func BenchmarkParse(b *testing.B) {
	v, token := verifier(b), issue(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Parse(token); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBare is the least that any JWT must cost: one signature, one decoding, no question asked.
func BenchmarkBare(b *testing.B) {
	token, public := issue(b), seedKey(1).Public().(ed25519.PublicKey)
	b.ReportAllocs()
	for b.Loop() {
		parts := bytes.Split(token, []byte("."))
		sig, _ := base64.RawURLEncoding.DecodeString(string(parts[2]))
		body, _ := base64.RawURLEncoding.DecodeString(string(parts[1]))
		var claims map[string]any
		if !ed25519.Verify(public, token[:len(parts[0])+1+len(parts[1])], sig) || json.Unmarshal(body, &claims) != nil {
			b.Fatal("refused")
		}
	}
}

func BenchmarkHas(b *testing.B) {
	s := verifier(b).Status(issue(b), now)
	b.ReportAllocs()
	for b.Loop() {
		if !s.Has("sso") {
			b.Fatal("not granted")
		}
	}
}

func BenchmarkAllowUpdate(b *testing.B) {
	s, r := verifier(b).Status(issue(b), now), release()
	b.ReportAllocs()
	for b.Loop() {
		if !s.AllowUpdate("stable", "2.3.0", r).Allowed {
			b.Fatal("withheld")
		}
	}
}

func TestHasDoesNotAllocate(t *testing.T) {
	s := verifier(t).Status(issue(t), now)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_ = s.Has("sso")
		_, _ = s.Limit("nodes")
		_, _ = s.Value("region")
	}))
}
