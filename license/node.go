package license

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// NodeOf returns the fingerprint of an installation of a product, for [Config.Node]. machineID is whatever sets the
// installation apart; [MachineNode] takes the machine's own id. The fingerprint is
//
//	lower-case hex of HMAC-SHA256(key: product, message: machineID)
//
// over the bytes of both as they are. It tells nobody the id, if that is random, and vendors who compare their
// fingerprints of one machine see nothing in common, as each has another product. An id that can be guessed, such as a
// host name, can be guessed from its fingerprint, too.
//
// It is a label, no proof: whoever may read a machine's id can pass as that machine.
func NodeOf(product, machineID string) string {
	mac := hmac.New(sha256.New, []byte(product))
	mac.Write([]byte(machineID))
	return hex.EncodeToString(mac.Sum(nil))
}

// MachineNode returns the fingerprint of this machine, [NodeOf] its own id in lower case:
//
//	Linux    /etc/machine-id, else /var/lib/dbus/machine-id       32 hexadecimal digits
//	Windows  MachineGuid of HKLM\SOFTWARE\Microsoft\Cryptography  a UUID
//	macOS    IOPlatformUUID of the IO registry                    a UUID
//
// Updates of the system keep these ids; installing it anew, or on macOS another logic board, makes another one, and a
// cloned machine has the same until somebody renews it.
//
// Where there is no id that would tell this machine from others, the error is a [*NodeError]. That is so in most
// containers: a machine-id in their file system comes with the image and is the same wherever that runs, so it
// counts only if it was mounted. Then the app takes [NodeOf] of an id of its own: of the deployment, from its
// configuration, or [Device.ID] where its folder outlasts the container. This package looks for no such override itself.
func MachineNode(product string) (string, error) {
	if product == "" {
		return "", errors.New("license: a fingerprint needs the product's name")
	}
	id, err := machineID()
	if err != nil {
		return "", err
	}
	return NodeOf(product, id), nil
}

// A NodeError says that a machine has no id to make a fingerprint of.
type NodeError struct {
	Looked []string // where an id was looked for
	Err    error    // what was found there instead
}

func (e *NodeError) Error() string {
	return fmt.Sprintf("license: this machine has no id of its own: %v; bind the licence to an id that the app has, "+
		"with Config.Node of license.NodeOf (in a container, that of the deployment)", e.Err)
}

func (e *NodeError) Unwrap() error { return e.Err }

// checkHexID takes the id of a machine-id file (machine-id(5)) or of a UUID without its dashes.
func checkHexID(digits string) error {
	switch {
	case digits == "":
		return errors.New("is empty")
	case digits == "uninitialized": // until the system has started for the first time
		return errors.New(`is "uninitialized"`)
	case len(digits) != 32 || strings.Trim(digits, "0123456789abcdef") != "":
		return errors.New("does not hold 32 hexadecimal digits")
	case strings.Count(digits, digits[:1]) == len(digits):
		return errors.New("holds one digit only, so it is no id")
	}
	return nil
}

// checkUUID returns a UUID in lower case.
func checkUUID(text string) (string, error) {
	id := strings.ToLower(strings.TrimSpace(text))
	parts := strings.Split(id, "-")
	if len(parts) != 5 || len(parts[0]) != 8 || len(parts[1]) != 4 || len(parts[2]) != 4 || len(parts[3]) != 4 {
		return "", errors.New("is not a UUID")
	}
	if err := checkHexID(strings.Join(parts, "")); err != nil {
		return "", fmt.Errorf("%w: not a UUID", err)
	}
	return id, nil
}

// findPlatformUUID takes the id out of what `ioreg -rd1 -c IOPlatformExpertDevice` prints on macOS.
func findPlatformUUID(output string) (string, error) {
	for line := range strings.Lines(output) {
		name, value, found := strings.Cut(strings.TrimSpace(line), " = ")
		if !found || name != `"IOPlatformUUID"` {
			continue
		}
		return checkUUID(strings.Trim(value, `"`))
	}
	return "", errors.New("is not there")
}
