package license

import (
	"context"
	"time"
)

// A Holder answers what licence this installation holds, at the time asked. A [Store] is one.
//
// It always answers: there being no licence is [Missing], and not being able to tell is [Invalid] with the cause
// in Status.Err. It may be called concurrently, and often: a renewed licence counts from the next call on.
type Holder interface {
	Status(ctx context.Context, now time.Time) Status
}

// FromFile holds the licence in a file, see [File]: a [Store] of this one source, which keeps nothing. No file, and an
// empty one, is Missing; one that cannot be read is Invalid.
func FromFile(v *Verifier, path string) Holder { return single(v, File(path)) }

// FromToken holds a token that the app has read itself, say from its own configuration.
func FromToken(v *Verifier, token []byte) Holder {
	return single(v, Token("the app's configuration", token))
}

func single(v *Verifier, source Source) *Store {
	return newStore(StoreConfig{Verifier: v, Sources: []Source{source}})
}
