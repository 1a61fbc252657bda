package update

import "strconv"

// A Reporter is told what happened, in a closed vocabulary: names are the Event constants, field names and values are
// short and hold no paths, addresses or free text. It must not block.
type Reporter interface {
	Event(name string, fields map[string]string)
}

// The events and their fields. "from" and "to" are versions, "code" is a channel.Reason or an error class.
const (
	EventChecked     = "update.checked"      // outcome
	EventWithheld    = "update.withheld"     // to, code
	EventFailed      = "update.failed"       // stage (check, stage, probe, apply, rollback), code; to if known
	EventStaged      = "update.staged"       // from, to
	EventPatchFailed = "update.patch_failed" // to, code: a patch could not be used, and the whole is downloaded instead
	EventApplied     = "update.applied"      // from, to
	EventConfirmed   = "update.confirmed"    // from, to
	EventRolledBack  = "update.rolled_back"  // from (the version left), to, code (trial, app, health)
	EventMirrorOut   = "update.mirror_out"   // mirror (its place in the list, from 1 on), code: it lied, and is left out for the session
	EventRescued     = "update.rescued"      // files: how many of the user's were kept from a folder that was removed
)

func (u *Updater) event(name string, fields map[string]string) {
	if u.cfg.Reporter != nil {
		u.cfg.Reporter.Event(name, fields)
	}
}

func (u *Updater) reportLiar(mirror int, err error) {
	u.log.Warn("a mirror delivered what was not signed, and is left out from now on", "mirror", mirror, "cause", err)
	u.event(EventMirrorOut, map[string]string{"mirror": strconv.Itoa(mirror), "code": errorClass(err)})
}

func (u *Updater) reportCheck(d Decision) {
	u.event(EventChecked, map[string]string{"outcome": string(d.Outcome)})
	if n := d.Plan.NotAllowed; n != nil {
		u.event(EventWithheld, map[string]string{"to": n.Release.Version, "code": string(n.Code)})
	}
	if d.Err != nil {
		u.log.Warn("check failed", "cause", d.Err)
		u.event(EventFailed, map[string]string{"stage": "check", "code": errorClass(d.Err)})
		return
	}
	u.log.Info("checked", "outcome", d.Outcome, "decision", d.String())
}
