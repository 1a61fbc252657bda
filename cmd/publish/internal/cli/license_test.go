package cli

import (
	"crypto/ed25519"
	"crypto/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/cmd/publish/internal/issuelog"
	"github.com/fairlead-dev/fairlead/license"
)

// TestStolenKey: a thief with the issuer's key writes a licence under the id of one that he has, for more than was sold.
// The log tells the two apart.
func TestStolenKey(t *testing.T) {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	issuer, err := license.NewIssuer(key, "acme-2026", "acme")
	require.NoError(t, err)
	ring, err := license.NewKeyring(license.Key{ID: "acme-2026", Public: public})
	require.NoError(t, err)
	sold := license.License{Subject: "c", ID: "A", LicenseID: "L-1", Seq: 1, Audience: []string{"notes"}, IssuedAt: noon, Expires: noon.AddDate(1, 0, 0), Plan: "team"}
	forged := sold
	forged.Plan = "enterprise"

	dir := t.TempDir()
	path := filepath.Join(dir, "licenses.log")
	write := func(name string, l license.License) string {
		token, err := issuer.Issue(l)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), token, 0o600))
		if name == "sold" {
			_, err := issuelog.Append(t.Context(), path, noon, func(*issuelog.Log) ([]issuelog.Entry, error) {
				return []issuelog.Entry{entryOf(&l, issuelog.Issue, token)}, nil
			})
			require.NoError(t, err)
		}
		return filepath.Join(dir, name)
	}
	a := &app{out: newOutput(nil, os.Stderr), now: func() time.Time { return noon }}
	w := &standing{ring: ring, revoked: &license.Revocations{Number: 1, Keys: map[string]time.Time{"acme-2026": {}}}}
	w.Log = path
	for name, l := range map[string]license.License{"sold": sold, "forged": forged} {
		old, err := a.genuine(w, write(name, l))
		require.NoError(t, err, "the thief's signature is as good as ours")
		err = a.mayRenew(w, old, name)
		if name == "sold" {
			require.NoError(t, err)
			continue
		}
		require.Error(t, err)
		require.Equal(t, "revoked", explain(t.Context(), err).Code)
	}
	// A token of the log that was revoked by its own id stays revoked.
	w.revoked.Tokens = []string{"A"}
	old, err := a.genuine(w, filepath.Join(dir, "sold"))
	require.NoError(t, err)
	require.Error(t, a.mayRenew(w, old, "sold"))
}

// TestTemplateTermsAreFlags: what a template may say are flags of issue, and all of them that are terms.
func TestTemplateTermsAreFlags(t *testing.T) {
	cmd := (&app{out: newOutput(nil, nil)}).issueCommand()
	for _, name := range strings.Fields(templateTerms) {
		require.NotNil(t, cmd.Flags().Lookup(name), name)
	}
	var others []string
	for _, name := range names(cmd) {
		if !slices.Contains(strings.Fields(templateTerms), name) {
			others = append(others, name)
		}
	}
	require.Equal(t, []string{"armor", "drop-node", "for", "from", "out", "template"}, others)
}

func FuzzTemplate(f *testing.F) {
	seeds := []string{"issuer: i\nentitlements: {pro: true, seats: 3}\n", "product: [a, b]\n", "&a a: *a\n", "until: !!int x\n", "entitlement:\n  ? [a]\n  : b\n", "<<: {until: never}\n"}
	require.NotEmpty(f, seeds)
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	path := filepath.Join(f.TempDir(), "t.yaml")
	f.Fuzz(func(t *testing.T, data []byte) {
		require.NoError(t, os.WriteFile(path, data, 0o600))
		tm := new(terms)
		cmd := &cobra.Command{}
		tm.add(cmd)
		cmd.Flags().StringVar(&tm.subject, "subject", "", "")
		cmd.Flags().StringVar(&tm.lid, "id", "", "")
		cmd.Flags().Int64Var(&tm.seq, "seq", 1, "")
		if err := tm.template(t.Context(), path); err != nil {
			require.Equal(t, exitUsage, explain(t.Context(), err).exit)
			return
		}
		_ = tm.apply(&license.License{}, noon)
	})
}

func names(cmd *cobra.Command) (list []string) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) { list = append(list, f.Name) })
	return list
}
