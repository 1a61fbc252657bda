package refresh_test

import (
	"context"
	"errors"
	"log/slog"

	"github.com/fairlead-dev/fairlead/license"
	"github.com/fairlead-dev/fairlead/license/refresh"
)

// Once a day, or when the user asks: a fresh licence, if the vendor has one.
func ExampleHTTP() {
	var store *license.Store // from license.OpenStore

	renewals := &refresh.HTTP{Hosts: []string{"licenses.acme.example"}}
	status, err := store.Refresh(context.Background(), renewals)
	switch {
	case errors.Is(err, refresh.ErrRefused), errors.Is(err, refresh.ErrEnded):
		slog.Warn("the licence is not renewed", "error", err)
	case err != nil:
		slog.Info("no fresh licence today", "error", err) // the old one goes on
	}
	_ = status
}
