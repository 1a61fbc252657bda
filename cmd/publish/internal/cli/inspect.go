package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-dev/fairlead/cmd/publish/internal/issuelog"
	"github.com/fairlead-dev/fairlead/license"
)

type inspected struct {
	File      string          `json:"file"`
	KeyID     string          `json:"key_id"`           // that it says it was signed with
	Authentic bool            `json:"authentic"`        // whether it was
	Ring      string          `json:"keys,omitempty"`   // where the public key is from
	State     string          `json:"state"`            // as package license names states; of one that is not authentic, invalid
	Reason    string          `json:"reason,omitempty"` // of revoked
	Since     *time.Time      `json:"since,omitempty"`
	Until     *time.Time      `json:"until,omitempty"`
	Warnings  []string        `json:"warnings"`
	Unchecked []string        `json:"not_checked"` // what an app asks besides
	Claims    json.RawMessage `json:"claims"`      // as they stand in the token

	at time.Time
}

func (a *app) inspectCommand() *cobra.Command {
	var at string
	cmd := &cobra.Command{
		Use: "inspect FILE", Short: "What a licence says, who signed it, and what it is worth today",
		Long: `Show what a licence says, who signed it, and what it is worth today; - is standard input. No private key is needed. The
signature is checked with the key ring, from the repository or after --keyring, else with the key of that id in the keys
folder; revocations with the repository's list or the one after --revocations. What could not be checked is said. The
exit code is 5 if it is not authentic, and 4 if it does not hold.`,
		Example: "  publish license inspect customer-17.license --keyring keyring.json",
	}
	cmd.Flags().StringVar(&at, "at", "", "judge at this time instead of now")
	return a.run(cmd, func(ctx context.Context, args []string) (result, error) { return a.inspect(ctx, args[0], at) })
}

func (a *app) inspect(ctx context.Context, path, at string) (result, error) {
	now, err := a.at(at)
	if err != nil {
		return nil, err
	}
	w, err := a.licenseStanding(ctx)
	if err != nil {
		return nil, err
	}
	token, said, err := a.readToken(path)
	if err != nil {
		return nil, err
	}
	out := &inspected{File: path, KeyID: said.keyID, State: license.Invalid.String(), Warnings: []string{}, Claims: said.claims, at: now,
		Unchecked: w.unchecked(said)}
	v, place, err := a.judgeOf(w, path, said)
	if err != nil {
		return out, err
	}
	out.Ring = place
	return out, out.judge(v.Status(token, now))
}

// readToken reads a licence from a file or standard input, and what it says about itself.
func (a *app) readToken(path string) (token []byte, said unverified, err error) {
	if path == "-" {
		if a.sys.Stdin == nil {
			return nil, said, usagef("name a file", "there is no standard input")
		}
		token, err = io.ReadAll(io.LimitReader(a.sys.Stdin, maxKeyFile))
	} else {
		token, err = readCapped(path, maxKeyFile)
	}
	if err != nil {
		return nil, said, err
	}
	switch said, err = peek(token); {
	case errors.Is(err, errRequest):
		return nil, said, failf(exitVerify, "malformed", "answer it with `publish license issue --for FILE`", "%s is no licence: %v", path, err)
	case err != nil:
		return nil, said, failf(exitVerify, "malformed", "keep the licence alone in the file, without the mail around it; if that does not help, ask for it again",
			"%s is no licence: %s", path, plain(err))
	}
	return token, said, nil
}

// judgeOf makes a verifier for a licence: what the settings do not say is taken from the licence itself. Place says where
// its key is from. The key's id is what somebody wrote: it must not lead to advice to make a key of that name.
func (a *app) judgeOf(w *standing, path string, said unverified) (v *license.Verifier, place string, err error) {
	ring, place := w.ring, w.keyringPlace()
	if w.Keyring != "" && ring == nil {
		_, err := readKeyring(w.Keyring)
		return nil, "", err
	}
	if _, ok := w.key(said.keyID); !ok && w.Keyring == "" {
		place = a.keysDir
		if ring, err = a.folderKey(said.keyID); err != nil {
			return nil, "", err
		}
	}
	if ring == nil {
		return nil, "", failf(exitVerify, "not_authentic", "name the folder of your issuer keys with --keys, or their key ring with --keyring",
			"the licence cannot be believed: it is signed with a key that is not among yours (it says %q)", said.keyID)
	}
	v, err = license.NewVerifier(license.Config{Issuer: cmp.Or(w.Issuer, said.issuer), Product: said.product, Node: said.node, Keys: ring})
	if err != nil {
		return nil, place, failf(exitVerify, "claims", "ask its issuer for another", "%s names no issuer or no product", path)
	}
	v, _ = v.With(&license.Lists{Revocations: w.revoked})
	return v, place, nil
}

// unchecked says what an app asks and this command cannot.
func (w *standing) unchecked(said unverified) []string {
	out := []string{}
	if w.trouble != nil {
		out = append(out, "anything in the repository: "+plain(w.trouble))
	}
	if w.revoked == nil {
		out = append(out, "whether it was revoked: there is no list of revocations in the repository, and none after --revocations")
	}
	if w.Issuer == "" {
		out = append(out, fmt.Sprintf("whether %q is the issuer that the app compares", said.issuer))
	}
	if said.node != "" {
		out = append(out, "whether it is for this machine")
	}
	return out
}

// A genuine licence was signed with one of our keys. It may have expired or been revoked.
type genuine struct {
	*license.License
	token  []byte
	claims string // their SHA-256
}

func (a *app) genuine(w *standing, path string) (*genuine, error) {
	token, said, err := a.readToken(path)
	if err != nil {
		return nil, err
	}
	v, _, err := a.judgeOf(w, path, said)
	if err != nil {
		return nil, err
	}
	l, err := v.Parse(token)
	if err != nil {
		return nil, notAuthentic(err)
	}
	return &genuine{l, token, issuelog.Hash(said.claims)}, nil
}

func notAuthentic(err error) error {
	f := failf(exitVerify, "not_authentic", "check the key ring with --keyring; if it is the right one, the licence was altered", "the licence cannot be believed")
	if err != nil {
		f.Message += ": " + plain(err)
	}
	return f
}

func (i *inspected) judge(s license.Status) error {
	if s.License == nil {
		return notAuthentic(s.Err)
	}
	i.Authentic, i.State, i.Reason = true, s.State.String(), s.Reason
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
	case license.Revoked:
		return failf(exitExpiring, i.State, "if that is a mistake, issue another one under another --id: a revocation is never taken back",
			"the licence is genuine and does not hold: %s", s.Reason)
	case license.NotYetValid:
		if i.Until != nil {
			return failf(exitExpiring, i.State, "it starts on "+moment(*i.Until)+"; --at judges at another time",
				"the licence is genuine and does not hold yet: it starts on %s", moment(*i.Until))
		}
	}
	return failf(exitExpiring, i.State, "renew it with `publish license renew "+i.File+"`", "the licence is genuine and does not hold: %s", i.State)
}

// unverified is what a token says about itself before anything is checked: enough to choose what to check it with,
// and to show it.
type unverified struct {
	keyID, issuer, product, node string
	products                     []string
	claims                       json.RawMessage
}

var errRequest = errors.New("it is an activation request, which the vendor answers with a licence")

// peek reads a token as apps do, and also, so that people see what they hold, one that apps refuse for its header.
func peek(token []byte) (unverified, error) {
	var body struct {
		Issuer   string          `json:"iss"`
		Audience json.RawMessage `json:"aud"` // a list, or by RFC 7519 section 4.1.3 a single string
		Nodes    []string        `json:"nodes"`
	}
	var u unverified
	said, err := license.InspectUnverified(token)
	if err == nil {
		u.keyID, u.claims = said.KeyID, said.Claims
	} else if head, claims := loosely(token); claims == nil {
		return unverified{}, err
	} else if head.Type == "license-request+jwt" {
		return unverified{}, errRequest
	} else {
		u.keyID, u.claims = head.KeyID, claims
	}
	if err := json.Unmarshal(u.claims, &body); err != nil {
		return unverified{}, errors.New("what it says is not written as in a licence")
	}
	u.issuer = body.Issuer
	if body.Audience != nil && json.Unmarshal(body.Audience, &u.products) != nil {
		var one string
		if err := json.Unmarshal(body.Audience, &one); err != nil {
			return unverified{}, errors.New("its aud is neither a string nor a list of them")
		}
		u.products = []string{one}
	}
	if len(u.products) > 0 {
		u.product = u.products[0]
	}
	if len(body.Nodes) > 0 {
		u.node = body.Nodes[0] // its own: whether it holds on this machine is not asked
	}
	return u, nil
}

type looseHeader struct {
	KeyID string `json:"kid"`
	Type  string `json:"typ"`
}

// loosely reads what is shaped like a token; nil: it is not.
func loosely(token []byte) (head looseHeader, claims json.RawMessage) {
	var text []byte
	for line := range bytes.Lines(token) {
		if line = bytes.TrimSpace(line); !bytes.HasPrefix(line, []byte("-----")) { // armour
			text = append(text, line...)
		}
	}
	parts := bytes.Split(text, []byte("."))
	if len(parts) != 3 {
		return head, nil
	}
	if _, err := segment(parts[0], &head); err != nil {
		return head, nil
	}
	claims, err := segment(parts[1], &map[string]any{})
	if err != nil {
		return head, nil
	}
	return head, claims
}

func segment(text []byte, into any) ([]byte, error) {
	data, err := base64.RawURLEncoding.DecodeString(string(text))
	if err != nil {
		return nil, err
	}
	return data, json.Unmarshal(data, into)
}
