package cli

import (
	"errors"
	"slices"
	"time"

	"github.com/fairlead-dev/fairlead/cmd/publish/internal/issuelog"
	"github.com/fairlead-dev/fairlead/license"
)

// answer binds a licence to the installation whose request --for names; nil: no request. That it has not been answered
// before is checked with the log in hand.
func (a *app) answer(t *terms, l *license.License, action string, now time.Time) (*license.Request, error) {
	if t.request == "" {
		return nil, nil
	}
	data, err := readCapped(t.request, maxKeyFile)
	if err != nil {
		return nil, err
	}
	r, err := license.ReadRequest(data, now)
	var token *license.TokenError
	switch {
	case errors.As(err, &token) && (token.Code == license.ErrRequestExpired || token.Code == license.ErrRequestEarly):
		return nil, failf(exitExpiring, string(token.Code), "have the customer make another one", "%s: %s", t.request, token.Detail)
	case errors.As(err, &token) && token.Code == license.ErrHeader:
		return nil, failf(exitVerify, string(token.Code), "name the file that the customer's app has made; a licence that there is goes after --from", "%s: %s", t.request, token.Detail)
	case errors.As(err, &token):
		return nil, failf(exitVerify, string(token.Code), "ask for the file again; mail programs damage such files", "%s: %s", t.request, token.Detail)
	case err != nil:
		return nil, err
	case !slices.Contains(l.Audience, r.Product):
		return nil, failf(exitUsage, "wrong_product", "issue a licence for that product", "%s is from %q, the licence is for %q", t.request, r.Product, l.Audience)
	case r.License == l.LicenseID && r.Seq >= l.Seq:
		return nil, failf(exitFailed, "superseded", "find the licence that it holds, and give it with --from",
			"%s is from an installation that has number %d of licence %s: number %d would not count there", t.request, r.Seq, r.License, l.Seq)
	case r.License != "" && r.License != l.LicenseID:
		a.out.warn("%s is from an installation that holds licence %s; this is %s", t.request, r.License, l.LicenseID)
	}
	if len(l.Nodes) == 0 && action == issuelog.Renew && len(t.dropNodes) == 0 {
		a.out.warn("licence %s was for any installation, and is for this one alone from now on", l.LicenseID)
	}
	if !slices.Contains(l.Nodes, r.Node) {
		l.Nodes = append(l.Nodes, r.Node)
	}
	l.Request = r.Nonce
	return r, nil
}
