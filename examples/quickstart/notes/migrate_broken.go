//go:build broken

package main

import "errors"

// migrate is the bug of a bad release: it passes every check that can be made without the customer's data.
func migrate(b *book) error { return errors.New("cannot migrate " + b.path + ": index out of range") }
