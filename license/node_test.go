package license

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFindPlatformUUID(t *testing.T) {
	// As ioreg prints it, shortened.
	const output = `+-o J314sAP  <class IOPlatformExpertDevice, id 0x100000223, registered, matched, active, busy 0 (52 ms), retain 38>
    {
      "IOPlatformSerialNumber" = "C02XXXXXXXXX"
      "model-config" = <"ICT;MoPED=0x1A2B">
      "IOPlatformUUID" = "8A6F1E00-51B4-5C6D-9D0A-7F3C2B1A0E4D"
      "board-id" = <4d61632d>
    }

`
	id, err := findPlatformUUID(output)
	require.NoError(t, err)
	require.Equal(t, "8a6f1e00-51b4-5c6d-9d0a-7f3c2b1a0e4d", id)
	for words, output := range map[string]string{
		"is not there":       `  "IOPlatformSerialNumber" = "IOPlatformUUID"`,
		"is not a UUID":      `  "IOPlatformUUID" = "8A6F1E00"`,
		"one digit only":     `  "IOPlatformUUID" = "00000000-0000-0000-0000-000000000000"`,
		"32 hexadecimal":     `  "IOPlatformUUID" = "8A6F1E00-51B4-5C6D-9D0A-7F3C2B1A0E4X"`,
		"not a UUID":         `  "IOPlatformUUID" = "8A6F1E00-51B4-5C6D-9D0A-7F3C2B1A0E"`,
		"hexadecimal digits": `  "IOPlatformUUID" = "8A6F1E00-51B4-5C6D-9D0A-7F3C2B1A 0E4"`,
	} {
		_, err := findPlatformUUID(output)
		require.ErrorContains(t, err, words)
	}
}
