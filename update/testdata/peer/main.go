// Peer replaces itself by a file with github.com/minio/selfupdate, as that package's documentation shows, for the
// comparison in docs/reliability.md. It is a module of its own, so that nobody who imports the library gets it.
package main

import (
	"fmt"
	"os"

	"github.com/minio/selfupdate"
)

func main() {
	f, err := os.Open(os.Args[1])
	if err == nil {
		err = selfupdate.Apply(f, selfupdate.Options{})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}
