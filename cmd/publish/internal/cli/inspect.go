package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-dev/fairlead/license"
)

type inspected struct {
	File      string          `json:"file"`
	KeyID     string          `json:"key_id"`    // that it says it was signed with
	Authentic bool            `json:"authentic"` // whether it was
	State     string          `json:"state"`     // as package license names states; of one that is not authentic, invalid
	Since     *time.Time      `json:"since,omitempty"`
	Until     *time.Time      `json:"until,omitempty"`
	Warnings  []string        `json:"warnings"`
	Claims    json.RawMessage `json:"claims"` // as they stand in the token

	at time.Time
}

func (a *app) inspectCommand() *cobra.Command {
	var keyring, at string
	cmd := &cobra.Command{
		Use: "inspect FILE", Short: "What a licence says, who signed it, and what it is worth today",
		Long: `Show what a licence says, who signed it, and what it is worth today. The signature is checked with the key ring, or
with the key of that id in the keys folder. The exit code is 5 if it is not authentic, and 4 if it does not hold.`,
		Example: "  publish license inspect customer-17.license --keyring keyring.json",
	}
	cmd.Flags().StringVar(&keyring, "keyring", "", "the key ring file (default: the public keys in the keys folder)")
	cmd.Flags().StringVar(&at, "at", "", "judge at this time instead of now")
	return a.run(cmd, func(_ context.Context, args []string) (result, error) { return a.inspect(args[0], keyring, at) })
}

func (a *app) inspect(path, keyring, at string) (result, error) {
	now, err := a.at(at)
	if err != nil {
		return nil, err
	}
	token, err := readCapped(path, maxKeyFile)
	if err != nil {
		return nil, err
	}
	said, err := peek(token)
	if err != nil {
		return nil, failf(exitVerify, "malformed", "ask for the file again; mail programs damage tokens", "%s is no licence: %v", path, err)
	}
	out := &inspected{File: path, KeyID: said.keyID, State: license.Invalid.String(), Warnings: []string{}, Claims: said.claims, at: now}
	var ring *license.Keyring
	if keyring != "" {
		ring, err = readKeyring(keyring)
	} else {
		ring, err = a.ringOf(said.keyID)
	}
	if err != nil {
		return out, err
	}
	v, err := license.NewVerifier(license.Config{Issuer: said.issuer, Product: said.product, Node: said.node, Keys: ring})
	if err != nil {
		return out, failf(exitVerify, "claims", "ask its issuer for another", "%s names no issuer or no product", path)
	}
	return out, out.judge(v.Status(token, now))
}

// ringOf is the key in the keys folder that a token says it was signed with. The id is what somebody wrote: it must not
// lead to advice to make a key of that name.
func (a *app) ringOf(id string) (*license.Keyring, error) {
	unknown := failf(exitVerify, "not_authentic", "name the folder of your issuer keys with --keys, or their key ring with --keyring",
		"the licence cannot be believed: it is signed with a key that is not among yours (it says %q)", id)
	if checkKeyName(id) != nil {
		return nil, unknown
	}
	ring, err := a.folderKeyring([]string{id})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, unknown
	}
	return ring, err
}

func (i *inspected) judge(s license.Status) error {
	if s.License == nil {
		f := failf(exitVerify, "not_authentic", "check the key ring with --keyring; if it is the right one, the licence was altered", "the licence cannot be believed")
		if s.Err != nil {
			f.Message += ": " + plain(s.Err)
		}
		return f
	}
	i.Authentic, i.State = true, s.State.String()
	i.Warnings = append(i.Warnings, s.Warnings...)
	if !s.Since.IsZero() {
		i.Since = &s.Since
	}
	if !s.Until.IsZero() {
		i.Until = &s.Until
	}
	switch s.State {
	case license.Valid, license.ExpiringSoon, license.Grace:
		return nil
	}
	if s.State == license.NotYetValid && i.Until != nil {
		return failf(exitExpiring, i.State, "it starts on "+moment(*i.Until)+"; --at judges at another time",
			"the licence is genuine and does not hold yet: it starts on %s", moment(*i.Until))
	}
	return failf(exitExpiring, i.State, "renew it with `publish license issue`, the same --id and a higher --seq", "the licence is genuine and does not hold: %s", i.State)
}

// unverified is what a token says about itself before anything is checked: enough to choose what to check it with,
// and to show it.
type unverified struct {
	keyID, issuer, product, node string
	claims                       json.RawMessage
}

func peek(token []byte) (unverified, error) {
	var text []byte
	for line := range bytes.Lines(token) {
		if line = bytes.TrimSpace(line); !bytes.HasPrefix(line, []byte("-----")) { // armour
			text = append(text, line...)
		}
	}
	parts := bytes.Split(text, []byte("."))
	if len(parts) != 3 {
		return unverified{}, fmt.Errorf("a token has 3 parts, this has %d", len(parts))
	}
	var head struct {
		KeyID string `json:"kid"`
	}
	var body struct {
		Issuer   string   `json:"iss"`
		Audience []string `json:"aud"`
		Nodes    []string `json:"nodes"`
	}
	payload, err := segment(parts[0], &head)
	if err == nil {
		payload, err = segment(parts[1], &body)
	}
	if err != nil {
		return unverified{}, err
	}
	u := unverified{keyID: head.KeyID, issuer: body.Issuer, claims: payload}
	if len(body.Audience) > 0 {
		u.product = body.Audience[0]
	}
	if len(body.Nodes) > 0 {
		u.node = body.Nodes[0] // its own: whether it holds on this machine is not asked
	}
	return u, nil
}

func segment(text []byte, into any) ([]byte, error) {
	data, err := base64.RawURLEncoding.DecodeString(string(text))
	if err != nil {
		return nil, err
	}
	return data, json.Unmarshal(data, into)
}
