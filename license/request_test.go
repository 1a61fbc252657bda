package license_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/license"
)

func device(t *testing.T) (*license.Device, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	d, err := license.OpenDevice(t.Context(), dir)
	require.NoError(t, err)
	return d, dir
}

func TestRequest(t *testing.T) {
	d, dir := device(t)
	node := license.NodeOf(product, "machine 1")
	made := now.Add(1500 * time.Millisecond)
	data, err := license.ActivationRequest(t.Context(), dir, product, node, parse(t), made)
	require.NoError(t, err)
	r, err := license.ReadRequest(data, now.Add(time.Hour))
	require.NoError(t, err)
	require.Regexp(t, "^[A-Z2-7]{26}$", r.Nonce, "128 bits")
	require.Equal(t, license.Request{Product: product, Node: node, Nonce: r.Nonce, License: "lic_42", Seq: 3,
		Created: made.Truncate(time.Second), Expires: made.Truncate(time.Second).Add(30 * 24 * time.Hour), Key: d.Public()}, *r)
	require.Equal(t, d.ID(), r.DeviceID())

	again, err := license.ActivationRequest(t.Context(), dir, product, node, nil, made)
	require.NoError(t, err)
	other, err := license.ReadRequest(again, now)
	require.NoError(t, err)
	require.NotEqual(t, r.Nonce, other.Nonce)
	require.Equal(t, r.DeviceID(), other.DeviceID(), "the same installation")
	require.Empty(t, other.License)

	// It tells nothing but what it is for.
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	token := strings.Join(lines[1:len(lines)-1], "")
	var text []string
	for _, part := range strings.Split(token, ".")[:2] {
		clear, err := base64.RawURLEncoding.DecodeString(part)
		require.NoError(t, err)
		text = append(text, string(clear))
	}
	require.Equal(t, fmt.Sprintf(`{"alg":"EdDSA","jwk":{"crv":"Ed25519","kty":"OKP","x":%q},"typ":"license-request+jwt"}`, b64(string(d.Public()))), text[0])
	require.Equal(t, fmt.Sprintf(`{"aud":"acme-db","exp":%d,"iat":%d,"jti":%q,"lid":"lic_42","node":%q,"seq":3,"v":1}`,
		r.Expires.Unix(), r.Created.Unix(), r.Nonce, node), text[1])
	require.Less(t, len(data), 1000)
}

// From a customer without a network to a licence for that machine alone, and its renewal.
func TestActivation(t *testing.T) {
	ours, theirs := license.NodeOf(product, "machine 1"), license.NodeOf(product, "machine 2")
	store := func(dir, node string) *license.Store {
		s, err := license.OpenStore(license.StoreConfig{Dir: dir, Now: func() time.Time { return now },
			Verifier: verifier(t, func(c *license.Config) { c.Node = node })})
		require.NoError(t, err)
		return s
	}
	s := store(filepath.Join(t.TempDir(), "store"), ours)
	require.Equal(t, license.Missing, s.Current().State)
	first, err := s.ActivationRequest(t.Context())
	require.NoError(t, err)
	r, err := license.ReadRequest(first, now.Add(2*24*time.Hour))
	require.NoError(t, err)
	require.Equal(t, product, r.Product)
	token := issue(t, func(l *license.License) { l.Nodes, l.Request, l.Seq, l.ID = []string{r.Node}, r.Nonce, 1, "first" })
	status, err := s.Install(t.Context(), license.Armor(token))
	require.NoError(t, err)
	require.Equal(t, license.Valid, status.State)
	require.Equal(t, r.Nonce, status.License.Request, "the answer to that request")

	elsewhere := store(filepath.Join(t.TempDir(), "store"), theirs)
	_, err = elsewhere.Install(t.Context(), token)
	require.ErrorIs(t, err, license.ErrWrongMachine)

	second, err := s.ActivationRequest(t.Context())
	require.NoError(t, err)
	renewal, err := license.ReadRequest(second, now)
	require.NoError(t, err)
	require.Equal(t, "lic_42", renewal.License)
	require.Equal(t, int64(1), renewal.Seq)
	require.Equal(t, r.DeviceID(), renewal.DeviceID())
	require.NoError(t, s.Remove(t.Context()))
	third, err := s.ActivationRequest(t.Context())
	require.NoError(t, err)
	bare, err := license.ReadRequest(third, now)
	require.NoError(t, err)
	require.Empty(t, bare.License)
	require.Equal(t, r.DeviceID(), bare.DeviceID(), "the key outlasts what was installed")

	for words, s := range map[string]*license.Store{"set Config.Node": store(t.TempDir(), ""), "set StoreConfig.Dir": store("", ours)} {
		_, err := s.ActivationRequest(t.Context())
		require.ErrorContains(t, err, words)
	}
}

// A clock that is wrong: what is proved about time counts, and otherwise somebody says what to do.
func TestRequestByAWrongClock(t *testing.T) {
	request := func(clock, build time.Time) ([]byte, error) {
		return open(t, func(c *license.StoreConfig) {
			c.Verifier = verifier(t, func(c *license.Config) { c.Node = "n" })
			c.Now, c.BuildTime = func() time.Time { return clock }, build
		}).ActivationRequest(t.Context())
	}
	for _, clock := range []time.Time{time.Unix(0, 0), now.AddDate(-1, 0, 0)} {
		data, err := request(clock, now.AddDate(0, 0, -20))
		require.NoError(t, err)
		r, err := license.ReadRequest(data, now)
		require.NoError(t, err)
		require.Equal(t, now.AddDate(0, 0, -20), r.Created)
	}
	for _, clock := range []time.Time{time.Unix(0, 0), date("2200-01-01")} {
		_, err := request(clock, time.Time{})
		require.ErrorContains(t, err, "this computer's clock says "+clock.UTC().Format(time.DateOnly)+": set it")
	}
	data, err := request(now.AddDate(-1, 0, 0), time.Time{})
	require.NoError(t, err)
	_, err = license.ReadRequest(data, now)
	require.ErrorIs(t, err, license.ErrRequestExpired)
	require.ErrorContains(t, err, "made on 2025-03-01, to be answered until 2025-03-31, and here it is 2026-03-01")
	require.ErrorContains(t, err, "the customer's clock is wrong")
}

// In a container with a volume, the folder is what a licence is bound to.
func TestDeviceAsNode(t *testing.T) {
	d, dir := device(t)
	again, err := license.OpenDevice(t.Context(), dir)
	require.NoError(t, err)
	require.Equal(t, d.ID(), again.ID())
	other, _ := device(t)
	require.NotEqual(t, d.ID(), other.ID())
	token := issue(t, func(l *license.License) { l.Nodes = []string{license.NodeOf(product, d.ID())} })
	for id, want := range map[string]license.State{again.ID(): license.Valid, other.ID(): license.WrongMachine} {
		v := verifier(t, func(c *license.Config) { c.Node = license.NodeOf(product, id) })
		require.Equal(t, want, v.Status(token, now).State)
	}
}

// The thumbprint of RFC 8037, appendix A.3.
func TestDeviceID(t *testing.T) {
	key, err := base64.RawURLEncoding.DecodeString("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	require.NoError(t, err)
	require.Equal(t, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", (&license.Request{Key: key}).DeviceID())
}

// What mail programs, editors and people do to a file.
func TestRequestSurvivesMail(t *testing.T) {
	d, _ := device(t)
	data, err := d.Request(license.Request{Product: product, Node: "n", Created: now})
	require.NoError(t, err)
	want, err := license.ReadRequest(data, now)
	require.NoError(t, err)
	text := string(data)
	for line := range strings.Lines(text) {
		require.LessOrEqual(t, len(line), 65)
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	token := strings.Join(lines[1:len(lines)-1], "")
	wrap := regexp.MustCompile(".{1,40}").ReplaceAllString(token, "$0\n")
	for name, mailed := range map[string]string{
		"CRLF":       strings.ReplaceAll(text, "\n", "\r\n"),
		"BOM":        "\ufeff" + text,
		"indented":   "  " + strings.ReplaceAll(text, "\n", " \t\n  "),
		"wrapped":    lines[0] + "\n" + wrap + lines[len(lines)-1],
		"blank line": strings.ReplaceAll(text, "\n", "\n\n"),
		"one line":   lines[0] + token + lines[len(lines)-1],
		"bare":       "\n" + token + "\n",
	} {
		got, err := license.ReadRequest([]byte(mailed), now)
		require.NoError(t, err, name)
		require.Equal(t, want, got, name)
	}
}

// Another implementation takes the signature for genuine, and has the same key.
func TestRequestByOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil || runtime.GOOS == "windows" {
		t.Skip("openssl is not installed")
	}
	d, dir := device(t)
	data, err := d.Request(license.Request{Product: product, Node: "n", Created: now})
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	token := strings.Join(lines[1:len(lines)-1], "")
	dot := strings.LastIndexByte(token, '.')
	signature, err := base64.RawURLEncoding.DecodeString(token[dot+1:])
	require.NoError(t, err)
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, data, 0o600))
		return path
	}
	public := filepath.Join(dir, "public")
	out, err := exec.CommandContext(t.Context(), openssl, "pkey", "-in", filepath.Join(dir, "device.key"), "-pubout", "-out", public).CombinedOutput()
	require.NoError(t, err, "%s", out)
	verify := func(signed []byte) error {
		return exec.CommandContext(t.Context(), openssl, "pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin",
			"-in", file("signed", signed), "-sigfile", file("signature", signature)).Run()
	}
	require.NoError(t, verify([]byte(token[:dot])))
	require.Error(t, verify([]byte(token[:dot]+"A")))
}

func TestRequestIsChecked(t *testing.T) {
	d, dir := device(t)
	for words, r := range map[string]license.Request{
		"aud is empty":          {Node: "n", Created: now},
		"node is empty":         {Product: product, Created: now},
		"iat is 0":              {Product: product, Node: "n"},
		"exp is not after":      {Product: product, Node: "n", Created: now, Expires: now},
		"belong together":       {Product: product, Node: "n", Created: now, License: "lic_42"},
		"control characters":    {Product: product + "\n", Node: "n", Created: now},
		"aud is longer than":    {Product: strings.Repeat("a", 257), Node: "n", Created: now},
		"seq is negative":       {Product: product, Node: "n", Created: now, License: "lic_42", Seq: -1},
		"longer than 256 bytes": {Product: product, Node: "n", Created: now, License: strings.Repeat("a", 257), Seq: 1},
	} {
		_, err := d.Request(r)
		require.ErrorContains(t, err, words)
		require.ErrorIs(t, err, license.ErrClaims)
	}
	var none *license.Device
	_, err := none.Request(license.Request{Product: product, Node: "n", Created: now})
	require.ErrorContains(t, err, "OpenDevice")
	_, err = license.ActivationRequest(t.Context(), dir, product, "", nil, now)
	require.ErrorContains(t, err, "set Config.Node")
	_, err = license.ActivationRequest(t.Context(), "", product, "n", nil, now)
	require.ErrorContains(t, err, "folder")
}

func TestDeviceKey(t *testing.T) {
	d, dir := device(t)
	path := filepath.Join(dir, "device.key")
	info, err := os.Stat(path)
	require.NoError(t, err)
	if runtime.GOOS != "windows" {
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
		info, err = os.Stat(dir)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	}
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	for name, content := range map[string][]byte{
		"empty": {}, "cut": data[:len(data)-40], "more": append(bytes.Clone(data), "x"...), "public": bytes.ReplaceAll(data, []byte("PRIVATE"), []byte("PUBLIC")),
	} {
		require.NoError(t, os.WriteFile(path, content, 0o600))
		_, err := license.OpenDevice(t.Context(), dir)
		require.ErrorContains(t, err, "remove it", name)
		kept, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, content, kept, "nothing is changed")
	}
	require.NoError(t, os.Remove(path))
	fresh, err := license.OpenDevice(t.Context(), dir)
	require.NoError(t, err)
	require.NotEqual(t, d.ID(), fresh.ID())
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Mkdir(path, 0o700))
	_, err = license.OpenDevice(t.Context(), dir)
	require.Error(t, err)
	require.DirExists(t, path)
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = license.OpenDevice(t.Context(), filepath.Join(file, "store"))
	require.Error(t, err)
}

const deviceVariable = "FAIRLEAD_TEST_DEVICE"

// Many ask at once, in several processes: all get the same key, and the store's own writers do not disturb them.
func TestDeviceRaces(t *testing.T) {
	if dir := os.Getenv(deviceVariable); dir != "" {
		for _, id := range deviceIDs(t, dir) {
			fmt.Println("id:" + id)
		}
		return
	}
	dir := filepath.Join(t.TempDir(), "a", "store")
	self, err := os.Executable()
	require.NoError(t, err)
	var all []string
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestDeviceRaces$")
			cmd.Env = append(os.Environ(), deviceVariable+"="+dir)
			out, err := cmd.Output()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("%v: %s", err, out)
			}
			for line := range strings.Lines(string(out)) {
				if id, ok := strings.CutPrefix(strings.TrimSpace(line), "id:"); ok {
					all = append(all, id)
				}
			}
		})
	}
	s, err := license.OpenStore(license.StoreConfig{Dir: dir, Verifier: verifier(t), Now: func() time.Time { return now }})
	require.NoError(t, err)
	for i := range 20 {
		_, err := s.Install(t.Context(), issue(t, func(l *license.License) { l.Seq, l.ID = int64(i+1), fmt.Sprint(i) }))
		require.NoError(t, err)
	}
	wg.Wait()
	require.Len(t, all, 4*8)
	d, err := license.OpenDevice(t.Context(), dir)
	require.NoError(t, err)
	for _, id := range all {
		require.Equal(t, d.ID(), id)
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		require.NotContains(t, e.Name(), ".tmp", "nothing is left")
	}
}

// deviceIDs opens the device eight times at once.
func deviceIDs(t *testing.T, dir string) []string {
	t.Helper()
	list := make([]string, 8)
	var wg sync.WaitGroup
	for i := range list {
		wg.Go(func() {
			if d, err := license.OpenDevice(t.Context(), dir); err != nil {
				t.Error(err)
			} else {
				list[i] = d.ID()
			}
		})
	}
	wg.Wait()
	return list
}
