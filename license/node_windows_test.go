package license_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/license"
)

// The system's own program sees the same id.
func TestMachineGUID(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "reg", "query", `HKLM\SOFTWARE\Microsoft\Cryptography`, "/v", "MachineGuid").Output()
	require.NoError(t, err)
	fields := strings.Fields(string(out))
	require.NotEmpty(t, fields)
	node, err := license.MachineNode(product)
	require.NoError(t, err)
	require.Equal(t, license.NodeOf(product, strings.ToLower(fields[len(fields)-1])), node)
}
