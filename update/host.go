package update

import (
	"runtime"
	"runtime/debug"

	"github.com/fairlead-dev/fairlead/channel"
)

// host describes this machine to channel.Resolve. The CPU level is the one this build was made for: what runs here
// offers at least that.
func host() channel.Host {
	h := channel.Host{OS: runtime.GOOS, Arch: runtime.GOARCH, OSVersion: osVersion()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return h
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "GOAMD64":
			h.Variant = s.Value
		case "GOARM":
			h.Variant = "v" + s.Value[:min(1, len(s.Value))]
		}
	}
	return h
}
