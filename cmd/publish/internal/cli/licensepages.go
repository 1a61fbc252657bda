package cli

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file prints what the verbs of license return; see output.go.

func (k *keyringResult) text(p *page) {
	data, err := json.MarshalIndent(struct {
		Keys json.RawMessage `json:"keys"`
	}{k.Keys}, "", "  ")
	p.keep(err)
	for line := range strings.Lines(string(data)) {
		p.line("%s", strings.TrimSuffix(line, "\n"))
	}
}

func (i *issued) text(p *page) {
	if i.File == "" {
		for line := range strings.Lines(i.Token) { // several in armour
			p.line("%s", strings.TrimSuffix(line, "\n"))
		}
		return
	}
	p.line("%s", i.File)
}

// claimWords names the claims for people, in the order in which they are shown.
var claimWords = [][2]string{
	{"lid", "licence"}, {"seq", "renewal"}, {"jti", "token"}, {"iss", "issuer"}, {"sub", "customer"}, {"aud", "products"},
	{"iat", "issued"}, {"nbf", "starts"}, {"exp", "token until"}, {"lic_exp", "licence until"}, {"grace_s", "grace"},
	{"upd_until", "updates until"}, {"sec_until", "security until"}, {"ver", "versions"}, {"chan", "channels"},
	{"ent", "entitlements"}, {"plan", "plan"}, {"env", "environment"}, {"trial", "trial"}, {"nodes", "installations"}, {"max_nodes", "at most"},
	{"refresh", "fresh token at"}, {"req", "answers request"}, {"v", "format"},
}

func (i *inspected) text(p *page) {
	var claims map[string]json.RawMessage
	p.keep(json.Unmarshal(i.Claims, &claims))
	if i.Authentic {
		p.row("signed by", i.KeyID+": the signature fits")
		p.row("key from", i.Ring)
	} else {
		p.row("signed by", i.KeyID+", IT SAYS: NOT VERIFIED, nothing below can be believed")
	}
	p.row("state", i.State+", judged as of "+moment(i.at))
	if i.Reason != "" {
		p.row("why", i.Reason)
	}
	if i.Until != nil {
		p.row("until", relative(*i.Until, i.at))
	}
	for _, c := range claimWords {
		if raw, ok := claims[c[0]]; ok {
			p.row(c[1], claimText(c[0], raw, i.at))
			delete(claims, c[0])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		p.row(name, string(claims[name]))
	}
	for _, w := range i.Warnings {
		p.row("warning", w)
	}
	for _, u := range i.Unchecked {
		p.row("not checked", u)
	}
}

var dateClaims = []string{"iat", "nbf", "exp", "lic_exp", "upd_until", "sec_until"}

func claimText(name string, raw json.RawMessage, now time.Time) string {
	var n int64
	var list []string
	var s string
	isNumber := json.Unmarshal(raw, &n) == nil
	switch {
	case (name == "lic_exp" && n == 0 || name == "exp" && n == endOfTime.Unix()) && isNumber:
		return "never"
	case name == "grace_s" && isNumber:
		return span(time.Duration(min(n, 1<<30)) * time.Second)
	case slices.Contains(dateClaims, name) && isNumber:
		return relative(time.Unix(n, 0), now)
	case json.Unmarshal(raw, &list) == nil:
		return strings.Join(list, ", ")
	case json.Unmarshal(raw, &s) == nil:
		return s
	}
	return string(raw)
}

// relative writes a time, and how far it is away.
func relative(t, now time.Time) string {
	switch d := t.Sub(now).Round(time.Minute); {
	case d > 0 && d < 250*365*24*time.Hour:
		return moment(t) + " (in " + span(d) + ")"
	case d < 0 && d > -250*365*24*time.Hour:
		return moment(t) + " (" + span(-d) + " ago)"
	}
	return moment(t)
}

func (out *included) text(p *page) {
	verdict := "includes"
	if !out.Allowed {
		verdict = "does not include"
	}
	p.line("licence %s, number %d (%s, judged as of %s), %s %s %s of %s", out.License, out.Seq, out.State, moment(out.At), verdict, out.Product, out.Release, out.Channel)
	p.row("published", moment(out.Published))
	for _, d := range out.Denials {
		p.row("because", d.Detail, d.Code)
	}
	if out.LastCovered != "" {
		p.row("newest included", out.LastCovered)
	}
	for _, w := range out.Warnings {
		p.row("warning", w)
	}
	for _, u := range out.Unchecked {
		p.row("not checked", u)
	}
}

func (r *revoked) text(p *page) {
	for _, what := range []struct {
		word string
		ids  []string
	}{{"token", r.Tokens}, {"licence", r.Licenses}, {"key", r.Keys}} {
		if len(what.ids) > 0 {
			p.line("revoked %s %s", what.word, strings.Join(what.ids, ", "))
		}
	}
	if len(r.Dropped) > 0 {
		p.line("took %s out of the list", count(len(r.Dropped), "token"))
	}
	p.line("list of revocations: number %d", r.Number)
	if len(r.Affected) > 0 {
		p.line("licences that this takes back:")
		itemTable(p, r.Affected)
	}
	for _, s := range r.Signed {
		p.line("signed %s %d, until %s", s.Role, s.Version, moment(s.Expires))
	}
}

func (l *licenseList) text(p *page) {
	switch {
	case l.check:
		p.line("%s: %s, all as they were written; the last has the hash %s", l.Log, count(l.Lines, "line"), l.Head)
	case l.csv:
		l.asCSV(p)
	default:
		itemTable(p, l.Licenses)
		for _, u := range l.Unchecked {
			p.line("not checked: %s", u)
		}
	}
}

func itemTable(p *page, items []listedItem) {
	p.row("LICENCE", "NUMBER", "TOKEN", "KEY", "PRODUCTS", "ISSUED", "UNTIL", "UPDATES UNTIL", "FOR", "STATE")
	for _, i := range items {
		until := "never ends"
		if i.LicenseExpires != nil {
			until = day(*i.LicenseExpires)
		}
		if i.end().Equal(i.Expires) && !i.Expires.Equal(endOfTime) && (i.LicenseExpires == nil || i.Expires.Before(*i.LicenseExpires)) {
			until += ", token " + day(i.Expires)
		}
		updates, installations := "all", "any machine"
		if i.UpdatesUntil != nil {
			updates = day(*i.UpdatesUntil)
		}
		if i.Installations > 0 {
			installations = count(i.Installations, "machine")
		}
		p.row(i.License, strconv.FormatInt(i.Seq, 10), i.ID, i.KeyID, strings.Join(i.Products, ","), day(i.Issued), until, updates, installations, i.State)
	}
}

func (l *licenseList) asCSV(p *page) {
	var text bytes.Buffer
	out := csv.NewWriter(&text)
	when := func(t *time.Time) string {
		if t == nil {
			return ""
		}
		return t.UTC().Format(time.RFC3339)
	}
	rows := [][]string{{"license", "seq", "id", "key_id", "products", "subject_sha256", "issued", "by", "expires", "license_expires", "updates_until", "installations", "state"}}
	for _, i := range l.Licenses {
		rows = append(rows, []string{i.License, fmt.Sprint(i.Seq), i.ID, i.KeyID, strings.Join(i.Products, " "), i.Subject, when(&i.Issued), i.By,
			when(&i.Expires), when(i.LicenseExpires), when(i.UpdatesUntil), fmt.Sprint(i.Installations), i.State})
	}
	p.keep(out.WriteAll(rows))
	for line := range strings.Lines(text.String()) {
		p.line("%s", strings.TrimSuffix(line, "\n"))
	}
}
