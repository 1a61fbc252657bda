//go:build unix && !linux && !darwin && !freebsd

package preflight

import "errors"

func free(string) (uint64, error)   { return 0, errors.ErrUnsupported }
func readOnly(string) (bool, error) { return false, errors.ErrUnsupported }
func appendOnly(string) bool        { return false }
