package license_test

import (
	"errors"
	"fmt"

	"github.com/fairlead-dev/fairlead/license"
)

// A licence for machines: where a machine has no id of its own, as in a container, the app's configuration has one.
func ExampleMachineNode() {
	deployment := "eu-1/42" // from the app's configuration; empty on ordinary machines

	node, err := license.MachineNode("acme-db")
	if deployment != "" {
		node, err = license.NodeOf("acme-db", deployment), nil
	}
	var none *license.NodeError
	if errors.As(err, &none) {
		fmt.Println(err) // names what was looked at, and what to do
	}
	config := license.Config{Issuer: "https://licenses.acme.example", Product: "acme-db", Node: node}
	fmt.Println(config.Node)
	// Output: d84b02d20a65504e6d7a0e177365325c8158891b7e544a6b4dbf1fd2467dcb7f
}
