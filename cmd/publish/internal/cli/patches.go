package cli

import (
	"errors"
	"math"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

// A madePatch is one that a release lists.
type madePatch struct {
	From     string              `json:"from"` // version
	Platform channel.Platform    `json:"platform"`
	Format   channel.PatchFormat `json:"format"`
	channel.Blob
	Full    int64   `json:"full"`             // bytes of the full download
	Percent float64 `json:"percent"`          // of it, to a tenth
	Reused  bool    `json:"reused,omitempty"` // it was made for another channel
}

// A leftOut is a patch that there could have been.
type leftOut struct {
	From     string `json:"from,omitempty"`
	Platform string `json:"platform,omitempty"`
	Reason   string `json:"reason"`
	Next     string `json:"next,omitempty"`
}

// A hindrance makes patches larger than they need be.
type hindrance struct {
	Platform channel.Platform `json:"platform"`
	What     string           `json:"what"`
	Cost     string           `json:"cost"`
	Next     string           `json:"next"`
}

// reportPatches notes what came of the patches, and warns of what deserves a look.
func (a *app) reportPatches(repo *tufrepo.Repo, e *edited) {
	for _, r := range repo.PatchReports() {
		if r.Err != nil {
			e.Without = append(e.Without, a.leftOut(r))
			continue
		}
		percent := math.Round(float64(r.Patch.Length)*1000/float64(r.Full)) / 10
		e.Patches = append(e.Patches, madePatch{r.From, r.Platform, r.Patch.Format, r.Patch.Blob, r.Full, percent, r.Reused})
	}
	for _, h := range repo.Hindrances() {
		e.Hinders = append(e.Hinders, hindrance{h.Platform, h.What, h.Cost, h.Next})
		a.out.warn("%s: %s: %s; %s", h.Platform, h.What, h.Cost, h.Next)
	}
}

func (a *app) leftOut(r tufrepo.PatchReport) leftOut {
	l := leftOut{From: r.From, Reason: plain(r.Err), Next: r.Err.Next}
	what := "no patch"
	if r.From != "" {
		what += " from " + r.From
	}
	if r.Full > 0 {
		l.Platform = r.Platform.String()
		what += " for " + l.Platform
	}
	if errors.Is(r.Err, tufrepo.ErrPatchTooLarge) {
		a.out.talk("%s: %s", what, l.Reason)
	} else {
		a.out.warn("%s: %s; %s", what, l.Reason, l.Next)
	}
	return l
}
