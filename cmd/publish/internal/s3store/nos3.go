//go:build nos3

// Package s3store is what is left of it in a build with the tag nos3: nothing, said clearly.
package s3store

import (
	"context"
	"errors"

	"github.com/fairlead-dev/fairlead/tufrepo"
)

// Open fails.
func Open(context.Context, string) (tufrepo.Store, error) {
	return nil, errors.New("this publish was built without S3 (tag nos3); build it without that tag")
}
