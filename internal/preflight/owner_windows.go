package preflight

import "golang.org/x/sys/windows"

func foreignOwner(path string) (string, bool) {
	token := windows.GetCurrentProcessToken()
	if token.IsElevated() {
		return "", false
	}
	me, err := token.GetTokenUser()
	if err != nil {
		return "", false
	}
	sd, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return "", false
	}
	owner, _, err := sd.Owner()
	if err != nil || owner == nil || owner.Equals(me.User.Sid) {
		return "", false
	}
	account, domain, kind, err := owner.LookupAccount("")
	switch {
	case err != nil: // of a user who was deleted, or of another machine
		return owner.String(), true
	case kind == windows.SidTypeUser:
		return domain + `\` + account, true
	}
	return "", false
}

func sessionEnding() bool {
	const smShuttingDown = 0x2000
	metrics := windows.NewLazySystemDLL("user32.dll").NewProc("GetSystemMetrics")
	if metrics.Find() != nil { // Nano Server has no user32
		return false
	}
	r, _, _ := metrics.Call(smShuttingDown)
	return r != 0
}
