//go:build nokms

// Package kms is what is left of it in a build with the tag nokms: no provider. Keys of any key service can be had by a
// plug-in, also then.
package kms

import "github.com/fairlead-dev/fairlead/cmd/publish/internal/keyuri"

// Providers returns none.
func Providers() map[string]keyuri.Provider { return nil }
