//go:build !linux && !darwin && !windows

package update

func osVersion() string { return "" }
