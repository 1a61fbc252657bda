package update

import "golang.org/x/sys/unix"

// osVersion returns the product version, such as 14.5.
func osVersion() string {
	v, err := unix.Sysctl("kern.osproductversion")
	if err != nil {
		return ""
	}
	return v
}
