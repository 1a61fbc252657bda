//go:build !linux

package disk

import "errors"

// Clone lets to, a new file, share the content of from: only on Linux. macOS clones by name only, attributes included,
// such as that of a quarantine; and what is copied is read to be hashed anyway.
func Clone(_, _ File) error { return errors.ErrUnsupported }
