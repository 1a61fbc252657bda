//go:build !nokms

package kms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/cmd/publish/internal/keyuri"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

// awsService answers as the KMS of AWS does, to the three calls that signing takes. The real service is not to be had
// here; what is tried is the way through the SDK and the provider, and what comes back.
func awsService(t *testing.T, keys map[string]crypto.Signer) string {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			KeyID                                      string `json:"KeyId"`
			Message                                    []byte
			MessageType, SigningAlgorithm, GrantTokens string
		}
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil || json.Unmarshal(body, &in) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		key := keys[in.KeyID]
		out, ok := map[string]any{}, false
		if key != nil && strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=AKTEST/") {
			out, ok = awsAnswer(r.Header.Get("X-Amz-Target"), key, in.Message, in.MessageType)
		}
		if !ok {
			w.WriteHeader(http.StatusBadRequest)
			out = map[string]any{"__type": "NotFoundException", "message": "Alias " + in.KeyID + " is not found."}
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		_ = json.NewEncoder(w).Encode(out)
	}))
	t.Cleanup(server.Close)
	for name, value := range map[string]string{
		"AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "AKTEST", "AWS_SECRET_ACCESS_KEY": "hunter2hunter2",
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_TLS_INSECURE_SKIP_VERIFY": "1", "AWS_MAX_ATTEMPTS": "1",
		"AWS_CA_BUNDLE": "", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "NO_PROXY": "*",
	} {
		t.Setenv(name, value)
	}
	return strings.TrimPrefix(server.URL, "https://")
}

func awsAnswer(target string, key crypto.Signer, message []byte, kind string) (map[string]any, bool) {
	algorithm := "ECDSA_SHA_256"
	switch key.(type) {
	case ed25519.PrivateKey:
		algorithm = "ED25519_SHA_512"
	case *rsa.PrivateKey:
		algorithm = "RSASSA_PKCS1_V1_5_SHA_256"
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, false
	}
	switch target {
	case "TrentService.GetPublicKey":
		return map[string]any{"PublicKey": public}, true
	case "TrentService.DescribeKey":
		return map[string]any{"KeyMetadata": map[string]any{"KeyId": "1", "SigningAlgorithms": []string{algorithm}}}, true
	case "TrentService.Sign":
		if kind != "DIGEST" || algorithm != "ECDSA_SHA_256" {
			return nil, false
		}
		sig, err := key.Sign(rand.Reader, message, crypto.SHA256)
		return map[string]any{"Signature": sig}, err == nil
	}
	return nil, false
}

func TestAWS(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	host := awsService(t, map[string]crypto.Signer{"alias/notes": ec, "alias/rsa": rsaKey, "alias/ed": ed})
	open := func(name string) (*tufrepo.Signer, error) {
		return keyuri.Open(t.Context(), "awskms://"+host+"/alias/"+name, keyuri.System{Providers: Providers()})
	}

	s, err := open("notes")
	require.NoError(t, err)
	want, err := tufrepo.NewPublicKey(&ec.PublicKey)
	require.NoError(t, err)
	require.Equal(t, want.ID(), s.ID())
	signers := tufrepo.RoleKeys{Keys: []tufrepo.PublicKey{s.Public()}, Threshold: 1}
	_, err = tufrepo.Create(t.Context(), tufrepo.Dir(t.TempDir()), tufrepo.CreateConfig{Root: signers, Targets: signers, Snapshot: signers, Timestamp: signers}, s)
	require.NoError(t, err, "every signature is verified")

	_, err = open("rsa")
	var kind *tufrepo.KeyTypeError
	require.ErrorAs(t, err, &kind)
	_, err = open("absent")
	require.ErrorContains(t, err, "Alias alias/absent is not found.")
	require.NotContains(t, err.Error(), "hunter2")

	// The provider signs digests only, and no client would verify that of an Ed25519 key. It is told, and nothing is written.
	s, err = open("ed")
	require.NoError(t, err)
	signers = tufrepo.RoleKeys{Keys: []tufrepo.PublicKey{s.Public()}, Threshold: 1}
	dir := t.TempDir() + "/repo"
	_, err = tufrepo.Create(t.Context(), tufrepo.Dir(dir), tufrepo.CreateConfig{Root: signers, Targets: signers, Snapshot: signers, Timestamp: signers}, s)
	var signing *tufrepo.SigningError
	require.ErrorAs(t, err, &signing)
	require.ErrorContains(t, err, "hash")
	require.NoDirExists(t, dir)
}

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard)
	m.Run()
}

func TestProviders(t *testing.T) {
	for scheme, uri := range map[string]string{
		"awskms": "awskms://nonsense", "azurekms": "azurekms://nonsense", "gcpkms": "gcpkms://nonsense",
		"hashivault": "hashivault://a/b/c", "openbao": "openbao://a/b/c",
	} {
		require.Contains(t, Providers(), scheme)
		_, err := keyuri.Open(t.Context(), uri, keyuri.System{Providers: Providers()})
		require.ErrorContains(t, err, "kms specification should be in the format", "%s answers by itself", scheme)
	}
}
