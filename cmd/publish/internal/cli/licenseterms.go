package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/license"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

// terms are what a licence is to say, as flags give it. Those that were not given leave a licence as it is.
type terms struct {
	flags *pflag.FlagSet
	named map[string]any // entitlements of a template

	key, keyID, issuer string
	out                string
	armor              bool

	products                           []string
	subject, lid                       string
	seq                                int64
	until, extend, tokenUntil, start   string
	grace, updatesUntil, securityUntil string
	channels                           []string
	versions                           string
	entitlements                       []string
	plan, env                          string
	trial                              bool
	nodes, dropNodes                   []string
	maxNodes                           int64
	refreshURL, refreshAfter           string

	request string // file with an activation request
}

const defaultGrace = "14d"

// add adds the flags that issue and renew have.
func (t *terms) add(cmd *cobra.Command) {
	f := cmd.Flags()
	t.flags = f
	f.StringVar(&t.key, "key", "", "the issuer's private key: a file, or a URI such as awskms:///alias/acme-2026")
	f.StringVar(&t.keyID, "key-id", "", "the id under which apps know the key (default: the file's name without its ending)")
	f.StringVar(&t.issuer, "issuer", "", "the issuer's name, as apps compare it")
	f.StringSliceVar(&t.products, "product", nil, "a product that it is for (repeatable)")
	f.StringVar(&t.until, "until", "", "the end of the licence, or never")
	f.StringVar(&t.tokenUntil, "token-until", "", "when a fresh token is due (default: the end of the licence)")
	f.StringVar(&t.start, "not-before", "", "when it starts to count (default: now); a day means its beginning")
	f.StringVar(&t.grace, "grace", defaultGrace, "how long it counts after its end")
	f.StringVar(&t.updatesUntil, "updates-until", "", "releases published until then are included (default: all)")
	f.StringVar(&t.securityUntil, "security-until", "", "security releases published until then are owed (default: all)")
	f.StringSliceVar(&t.channels, "channels", nil, "channels granted, such as stable,beta (default: stable)")
	f.StringVar(&t.versions, "versions", "", "versions included, such as \">=1.0.0 <2.0.0\" (default: all)")
	f.StringArrayVar(&t.entitlements, "entitlement", nil, "CODE, CODE=25 or CODE=text (repeatable)")
	f.StringVar(&t.plan, "plan", "", "the plan's name, for people")
	f.BoolVar(&t.trial, "trial", false, "it is a trial")
	f.StringVar(&t.env, "env", "", "where it is for, such as production, for people")
	f.StringSliceVar(&t.nodes, "node", nil, "the fingerprint of an installation that it is for (repeatable; default: any)")
	f.Int64Var(&t.maxNodes, "max-nodes", 0, "at most so many installations (default: no limit)")
	f.StringVar(&t.refreshURL, "refresh-url", "", "where the app may get a fresh token: an https URL")
	f.StringVar(&t.refreshAfter, "refresh-after", "", "not before this time")
	f.StringVar(&t.request, "for", "", "a file with the activation request of an installation: bind the licence to it")
	f.StringVar(&t.out, "out", "", "write the licence to this file instead of standard output")
	f.BoolVar(&t.armor, "armor", false, "wrap the licence over lines between marks, for mail")
}

// id is the id under which apps know the key.
func (t *terms) id() string { return cmp.Or(t.keyID, issuerKeyID(t.key)) }

// apply puts the terms that were given into l.
func (t *terms) apply(l *license.License, now time.Time) error {
	given := t.flags.Changed
	for flag, put := range map[string]func(){
		"product": func() { l.Audience = t.products }, "subject": func() { l.Subject = t.subject }, "id": func() { l.LicenseID = t.lid },
		"seq": func() { l.Seq = t.seq }, "channels": func() { l.Channels = t.channels }, "versions": func() { l.Versions = t.versions },
		"plan": func() { l.Plan = t.plan }, "trial": func() { l.Trial = t.trial }, "env": func() { l.Env = t.env },
		"node": func() { l.Nodes = slices.Clone(t.nodes) }, "max-nodes": func() { l.MaxNodes = t.maxNodes },
	} {
		if given(flag) {
			put()
		}
	}
	if err := t.applyEntitlements(l); err != nil {
		return err
	}
	if err := t.applyDates(l, now); err != nil {
		return err
	}
	return t.applyRefresh(l)
}

func (t *terms) applyEntitlements(l *license.License) error {
	flags, err := entitlements(t.entitlements)
	if err != nil || len(flags)+len(t.named) == 0 {
		return err
	}
	all := map[string]any{}
	for _, from := range []map[string]any{l.Entitlements, t.named, flags} {
		for code, value := range from {
			all[code] = value
		}
	}
	l.Entitlements = all
	return nil
}

// endOfTime is when a token expires whose licence never does and who has to fetch no fresh one: the last day that
// package license takes.
var endOfTime = time.Date(2199, 12, 31, 23, 59, 59, 0, time.UTC)

func (t *terms) applyDates(l *license.License, now time.Time) (err error) {
	if t.flags.Changed("grace") || l.KeyID == "" { // of a renewal, what it had
		if l.Grace, err = duration("grace", t.grace); err != nil {
			return err
		}
	}
	if err := t.applyEnd(l, now); err != nil {
		return err
	}
	for _, d := range []struct {
		flag, value string
		to          *time.Time
	}{{"token-until", t.tokenUntil, &l.Expires}, {"updates-until", t.updatesUntil, &l.UpdatesUntil}, {"security-until", t.securityUntil, &l.SecurityUntil}} {
		switch {
		case d.value == "":
		case d.value == "never" && d.flag != "token-until":
			*d.to = time.Time{}
		default:
			if *d.to, err = instant(d.flag, d.value); err != nil {
				return err
			}
		}
	}
	if t.start != "" {
		if l.NotBefore, err = beginning("not-before", t.start); err != nil {
			return err
		}
	}
	return nil
}

// applyEnd sets the ends of the licence and of its token. In a renewal a token that ended with its licence does so again,
// and one that was to be fetched afresh before lasts as long as the old one did.
func (t *terms) applyEnd(l *license.License, now time.Time) (err error) {
	renewal := l.KeyID != ""
	withEnd := !renewal || l.Expires.Equal(l.LicenseExpires) || l.LicenseExpires.IsZero() && l.Expires.Equal(endOfTime)
	lasted := l.Expires.Sub(l.IssuedAt)
	switch {
	case t.until != "" && t.extend != "":
		return usagef("give one of the two", "--until and --extend both say when it ends")
	case t.until == "never":
		l.LicenseExpires = time.Time{}
	case t.until != "":
		if l.LicenseExpires, err = instant("until", t.until); err != nil {
			return err
		}
	case t.extend != "":
		by, err := duration("extend", t.extend)
		if err != nil {
			return err
		}
		if l.LicenseExpires.IsZero() {
			return usagef("leave out --extend; --updates-until says which updates are included", "the licence never ends: there is nothing to extend")
		}
		l.LicenseExpires = latest(l.LicenseExpires, now).Add(by)
	}
	l.IssuedAt = now
	if renewal && l.NotBefore.Before(now) {
		l.NotBefore = time.Time{}
	}
	end := l.LicenseExpires
	if end.IsZero() {
		end = endOfTime
	}
	if l.Expires = end; !withEnd {
		if l.Expires = now.Add(lasted); l.Expires.After(end) {
			l.Expires = end
		}
	}
	return nil
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (t *terms) applyRefresh(l *license.License) error {
	if t.refreshURL != "" {
		l.Refresh = &license.Refresh{URL: t.refreshURL}
	}
	if t.refreshAfter == "" {
		return nil
	}
	if l.Refresh == nil {
		return usagef("say where with --refresh-url", "--refresh-after needs --refresh-url")
	}
	after, err := instant("refresh-after", t.refreshAfter)
	l.Refresh = &license.Refresh{URL: l.Refresh.URL, After: after}
	return err
}

// longest is how far away the end of a licence may be: further is a typing error, or never.
const longest = 20 * 366 * 24 * time.Hour

// nodeRE is what license.NodeOf makes.
var nodeRE = regexp.MustCompile(`^[0-9a-f]{64}$`)

// check refuses terms that nobody can have meant. What is wrong with a licence for apps is said when it is issued.
func (t *terms) check(l *license.License, now time.Time) error {
	bad := func(hint, format string, args ...any) error {
		return failf(exitUsage, "invalid", hint, format, args...)
	}
	given := t.flags.Changed
	switch {
	case strings.Contains(l.Subject, "@"):
		return bad("name the customer by an id of your own: a licence can be read by whoever has it",
			"the subject %s is an e-mail address", l.Subject)
	case !l.LicenseExpires.IsZero() && !l.LicenseExpires.After(now):
		return bad("say when it ends with --until", "the licence would have ended on %s already", moment(l.LicenseExpires))
	case l.LicenseExpires.Sub(now) > longest:
		return bad("correct the year, or write --until never", "--until %s is more than 20 years away", day(l.LicenseExpires))
	case !l.Expires.After(now):
		return bad("say until when the token counts with --token-until", "the token would have ended on %s already", moment(l.Expires))
	case given("token-until") && !l.LicenseExpires.IsZero() && l.Expires.After(l.LicenseExpires):
		return bad("leave out --token-until: the token lasts as long as the licence", "--token-until %s is after the end of the licence, %s", day(l.Expires), day(l.LicenseExpires))
	case given("updates-until") && !l.UpdatesUntil.IsZero() && l.UpdatesUntil.Before(now):
		return bad("leave out --updates-until to include all updates", "--updates-until %s is before the licence begins", day(l.UpdatesUntil))
	case given("security-until") && !l.SecurityUntil.IsZero() && l.SecurityUntil.Before(now):
		return bad("leave out --security-until to owe all of them", "--security-until %s is before the licence begins", day(l.SecurityUntil))
	case l.Grace > license.MaxGrace:
		return usagef("write at most --grace "+span(license.MaxGrace), "a grace of %s is longer than %s", span(l.Grace), span(license.MaxGrace))
	case l.MaxNodes < 0:
		return bad("leave it out for no limit", "--max-nodes %d is no number of installations", l.MaxNodes)
	}
	seen := map[string]bool{}
	for _, node := range l.Nodes {
		if seen[node] {
			return bad("name each installation once", "the installation %s is named twice", node)
		}
		seen[node] = true
	}
	for _, node := range t.nodes {
		if !nodeRE.MatchString(node) {
			return bad("it has 64 digits from 0 to f, as license.NodeOf and activation requests write it; take it from a request with --for FILE",
				"--node %s is no fingerprint of an installation", node)
		}
	}
	if l.MaxNodes > 0 && int64(len(l.Nodes)) > l.MaxNodes {
		return failf(exitFailed, "too_many_nodes", "take one out with --drop-node FINGERPRINT, or raise --max-nodes",
			"the licence would be for %s, and is for at most %d", count(len(l.Nodes), "installation"), l.MaxNodes)
	}
	return nil
}

// warnTerms says what the repository does not know: it may be meant, for what is to come.
func (a *app) warnTerms(w *standing, l *license.License) {
	if w.repo == nil {
		return
	}
	granted := l.Channels
	if len(granted) == 0 {
		granted = []string{license.DefaultChannel}
	}
	constraint, err := channel.ParseConstraint(cmp.Or(l.Versions, ">=0.0.0-0"))
	if err != nil {
		return // refused later
	}
	total, included := 0, 0
	for _, product := range l.Audience {
		if !slices.Contains(w.repo.Products(), product) {
			a.out.warn("the repository has no product %s", product)
			continue
		}
		for _, name := range granted {
			list, err := w.repo.Releases(product, name)
			var absent *tufrepo.NotFoundError
			if errors.As(err, &absent) {
				a.out.warn("the repository has no channel %s of %s", name, product)
			}
			for _, r := range list {
				if v := r.Semver(); v != nil {
					total++
					if constraint.Check(channel.Core(v)) {
						included++
					}
				}
			}
		}
	}
	if l.Versions != "" && total > 0 && included == 0 {
		a.out.warn("none of the %s in these channels is %q: the licence includes no release yet", count(total, "release"), l.Versions)
	}
}

// templateNames are the terms that a template may have: the flags, and for lists the plural as well.
var templateNames = map[string]string{"products": "product", "nodes": "node", "entitlements": "entitlement"}

const templateTerms = " key key-id issuer product subject id seq until token-until not-before grace updates-until security-until " +
	"channels versions entitlement plan trial env node max-nodes refresh-url refresh-after "

// template reads a YAML file with terms under the names of the flags. What a flag says counts more.
func (t *terms) template(_ context.Context, path string) error {
	data, err := readCapped(path, maxSettings)
	if err != nil {
		return err
	}
	bad := func(line int, format string, args ...any) error {
		where := path
		if line > 0 {
			where = fmt.Sprintf("%s: line %d", path, line)
		}
		return failf(exitUsage, "template", "a template has the names of the flags, see `publish license issue --help`", "%s: %s", where, fmt.Sprintf(format, args...))
	}
	var doc, more yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return bad(0, "it is empty")
	} else if err != nil {
		return bad(0, "%s", yamlText(err))
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return bad(more.Line, "one document is read")
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return bad(root.Line, "it is no list of names and values")
	}
	given := map[string]bool{} // on the command line
	t.flags.Visit(func(f *pflag.Flag) { given[f.Name] = true })
	seen := map[string]bool{}
	for i := 0; i < len(root.Content); i += 2 {
		name, value := root.Content[i], root.Content[i+1]
		flag := cmp.Or(templateNames[name.Value], name.Value)
		switch {
		case !strings.Contains(templateTerms, " "+flag+" "):
			return bad(name.Line, "there is no term %q", name.Value)
		case seen[flag]:
			return bad(name.Line, "%s stands there twice", name.Value)
		}
		seen[flag] = true
		if err := t.setTerm(flag, value, given[flag]); err != nil {
			return bad(value.Line, "%s: %s", name.Value, plain(err))
		}
	}
	return nil
}

// setTerm sets a flag from a template, or, if the command line gave it already, only looks whether it could be set.
func (t *terms) setTerm(flag string, value *yaml.Node, given bool) error {
	if flag == "entitlement" && value.Kind == yaml.MappingNode {
		return t.setEntitlements(value)
	}
	values := []*yaml.Node{value}
	list := strings.HasPrefix(t.flags.Lookup(flag).Value.Type(), "string") && t.flags.Lookup(flag).Value.Type() != "string"
	if value.Kind == yaml.SequenceNode && list {
		values = value.Content
	}
	for _, v := range values {
		if v.Kind != yaml.ScalarNode || v.Tag == "!!null" {
			return errors.New("is not a value that it takes")
		}
		if given {
			continue
		}
		if err := t.flags.Set(flag, v.Value); err != nil {
			return fmt.Errorf("%q is not a value that it takes", v.Value)
		}
	}
	return nil
}

func (t *terms) setEntitlements(value *yaml.Node) error {
	if err := value.Decode(&t.named); err != nil { // which finds what is there twice
		return errors.New(yamlText(err))
	}
	for code, v := range t.named {
		if err := channel.CheckEntitlement(code); err != nil {
			return fmt.Errorf("%q: a code is of lower-case letters, digits, dots, dashes and underscores", code)
		}
		switch n := v.(type) {
		case bool, string:
		case int:
			t.named[code] = int64(n)
		default:
			return fmt.Errorf("%s is neither true or false, nor a whole number, nor text", code)
		}
	}
	return nil
}
