package channel

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// Everybody is the whole of a rollout, in basis points: 10,000 are 100 %.
const Everybody = 10_000

// A Rollout is a ramp: nobody before Start, From basis points at Start, rising evenly to To at Start + Duration,
// and To from then on. It is evaluated on the client, so it needs no re-signing while it goes on.
type Rollout struct {
	From     int       `json:"from"` // basis points
	To       int       `json:"to"`   // basis points
	Start    time.Time `json:"start"`
	Duration int64     `json:"duration_s,omitempty"` // seconds; 0: To at once
}

// Validate checks the ramp; nil is valid. The error is an [*InvalidError].
func (r *Rollout) Validate() error {
	switch {
	case r == nil:
		return nil
	case r.From < 0 || r.To > Everybody || r.From > r.To:
		return &InvalidError{"rollout", fmt.Sprintf("from %d to %d: shares are basis points, 0 to 10000, and do not fall", r.From, r.To)}
	case r.Duration < 0 || r.Duration > 366*24*3600:
		return &InvalidError{"rollout", fmt.Sprintf("a duration of %d s is not between 0 and a year", r.Duration)}
	}
	return checkTime("rollout start", r.Start)
}

// Share returns the share of installations, in basis points, that the ramp has reached at now.
func (r *Rollout) Share(now time.Time) int {
	if r == nil {
		return Everybody
	}
	elapsed := now.Sub(r.Start)
	whole := time.Duration(r.Duration) * time.Second
	switch {
	case elapsed < 0:
		return 0
	case elapsed >= whole:
		return r.To
	}
	return r.From + int(int64(r.To-r.From)*int64(elapsed/time.Second)/r.Duration)
}

// Bucket places an installation within a release's rollout, 0 to 9,999: it takes part once the share is above its
// bucket. It is SHA-256(install id, 0, product, 0, version), so it is stable for one release and a fresh draw for
// the next: nobody is always first.
func Bucket(installID, product, version string) int {
	h := sha256.New()
	_, _ = io.WriteString(h, installID+"\x00"+product+"\x00"+version)
	return int(binary.BigEndian.Uint64(h.Sum(nil)) % Everybody)
}

// admits reports whether the rollout of r has reached the installation.
func (r *Release) admits(q *Query) *Denial {
	if r.Critical || r.Rollout == nil {
		return nil
	}
	share := r.Rollout.Share(q.Now)
	switch {
	case share >= Everybody:
		return nil
	case q.InstallID == "":
		return &Denial{ReasonRollout, "this installation has no id, so it waits for the whole rollout"}
	}
	if bucket := Bucket(q.InstallID, q.Product, r.Version); bucket >= share {
		return &Denial{ReasonRollout, fmt.Sprintf("has reached %d.%02d %% of installations, this one follows at %d.%02d %%", share/100, share%100, (bucket+1)/100, (bucket+1)%100)}
	}
	return nil
}
