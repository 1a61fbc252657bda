package license_test

import (
	"errors"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/license"
)

func TestNodeOf(t *testing.T) {
	// printf %s 3d1219c7c4c5404aaa1f6d2a48adfda4 | openssl dgst -sha256 -hmac acme-db
	const id = "3d1219c7c4c5404aaa1f6d2a48adfda4"
	require.Equal(t, "c3f47c506685479b1b276059e1e13a63596d3a657f1e12ddb517a82161f5e30a", license.NodeOf("acme-db", id))
	require.Equal(t, "573a5e7bdd05039d1dcbe1e7cf1f6ca66c9ee61882a0d0190d1230d3a6a3551c", license.NodeOf("acme-mail", id))
}

// Whatever machine this is: a fingerprint that stays, or an error that says what to do.
func TestThisMachine(t *testing.T) {
	node, err := license.MachineNode(product)
	var none *license.NodeError
	if errors.As(err, &none) {
		t.Log(err)
		require.NotEmpty(t, none.Looked)
		require.ErrorContains(t, err, "license.NodeOf")
		require.Empty(t, node)
		require.NotEqual(t, "windows", runtime.GOOS, "every Windows has an id")
		return
	}
	require.NoError(t, err)
	require.Regexp(t, "^[0-9a-f]{64}$", node)
	again, err := license.MachineNode(product)
	require.NoError(t, err)
	require.Equal(t, node, again)
	other, err := license.MachineNode("acme-mail")
	require.NoError(t, err)
	require.NotEqual(t, node, other, "two vendors see two machines")
	_, err = license.MachineNode("")
	require.ErrorContains(t, err, "the product's name")
}

// A licence for two machines holds on both and on no other.
func TestAnyOfNodes(t *testing.T) {
	ours, theirs := license.NodeOf(product, "machine 1"), license.NodeOf(product, "machine 2")
	token := issue(t, func(l *license.License) { l.Nodes = []string{theirs, ours} })
	for node, want := range map[string]license.State{
		ours: license.Valid, theirs: license.Valid, license.NodeOf(product, "machine 3"): license.WrongMachine,
		license.NodeOf("acme-mail", "machine 1"): license.WrongMachine, "": license.WrongMachine,
	} {
		v := verifier(t, func(c *license.Config) { c.Node = node })
		require.Equal(t, want, v.Status(token, now).State, node)
	}
}
