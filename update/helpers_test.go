package update_test

import (
	"context"
	"testing"
)

type ctxT = context.Context

var noTest = context.Background() // of a pretended program

func withCause(t *testing.T) (context.Context, context.CancelCauseFunc) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	t.Cleanup(func() { cancel(nil) })
	return ctx, cancel
}
