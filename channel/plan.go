package channel

// A Reason says why a release was passed over. Its text is stable: apps and support tools may match it.
type Reason string

// The reasons, in the order in which Resolve asks.
const (
	ReasonFormat      Reason = "format"       // written in a newer format: update the app first
	ReasonMalformed   Reason = "malformed"    // signed, but not usable
	ReasonHeld        Reason = "held"         // the publisher holds it back
	ReasonWithdrawn   Reason = "withdrawn"    // the publisher took it back
	ReasonPlatform    Reason = "platform"     // not built for this system
	ReasonOSVersion   Reason = "os_version"   // needs a newer operating system
	ReasonPinned      Reason = "pinned"       // the app is pinned to another version
	ReasonSkipped     Reason = "skipped"      // the user skipped it
	ReasonConstraint  Reason = "constraint"   // outside the app's own version constraint
	ReasonQuarantined Reason = "quarantined"  // it failed on this machine and was rolled back
	ReasonFrom        Reason = "from_version" // no allowed way from the running version to it
	ReasonComponents  Reason = "components"   // other products' versions do not fit
	ReasonRollout     Reason = "rollout"      // its rollout has not reached this installation
	ReasonNotNewer    Reason = "not_newer"    // not above the running version
	ReasonSuperseded  Reason = "superseded"   // allowed, but a higher one is, too
)

// The reasons that package license gives, between platform and pin.
const (
	ReasonLicenseMissing      Reason = "license_missing"
	ReasonLicenseInvalid      Reason = "license_invalid"
	ReasonLicenseNotYetValid  Reason = "license_not_yet_valid"
	ReasonLicenseExpired      Reason = "license_expired"
	ReasonLicenseRevoked      Reason = "license_revoked"
	ReasonLicenseWrongMachine Reason = "license_wrong_machine"
	ReasonChannelNotGranted   Reason = "channel_not_granted"
	ReasonVersionOutOfRange   Reason = "version_out_of_range"
	ReasonUpdatesExpired      Reason = "updates_expired"
	ReasonEntitlementMissing  Reason = "entitlement_missing"
)

// A Denial is a reason with the particulars, for people: "needs macos 13.0 or later, this is 12.6".
type Denial struct {
	Code   Reason `json:"code"`
	Detail string `json:"detail,omitempty"`
}
