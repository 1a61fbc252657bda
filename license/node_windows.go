package license

import (
	"fmt"

	"golang.org/x/sys/windows/registry"
)

const (
	machineIDKey   = `SOFTWARE\Microsoft\Cryptography`
	machineIDValue = "MachineGuid"
)

// machineID reads the 64-bit view: the key is not there in the other, in which 32-bit programs look by default.
func machineID() (string, error) {
	where := `HKLM\` + machineIDKey + `\` + machineIDValue
	id, err := readMachineGUID()
	if err != nil {
		return "", &NodeError{Looked: []string{where}, Err: fmt.Errorf("%s %w", where, err)}
	}
	return id, nil
}

func readMachineGUID() (string, error) {
	k, err := registry.OpenKey(registry.LOCAL_MACHINE, machineIDKey, registry.QUERY_VALUE|registry.WOW64_64KEY)
	if err != nil {
		return "", fmt.Errorf("cannot be read: %w", err)
	}
	defer func() { _ = k.Close() }()
	text, _, err := k.GetStringValue(machineIDValue)
	if err != nil {
		return "", fmt.Errorf("cannot be read: %w", err)
	}
	return checkUUID(text)
}
