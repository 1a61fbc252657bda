//go:build unix

package preflight

import "context"

func installedByMSI(context.Context) ([]string, error) { return nil, nil }
