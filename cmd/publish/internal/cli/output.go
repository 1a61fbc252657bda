package cli

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/fairlead-dev/fairlead/channel"
)

// This file and licensepages.go are all that prints. The rules are:
//
//   - Standard output is data: what the verb was asked for, as text or as one JSON value.
//   - Everything else goes to standard error: talk, progress, and errors, each with a hint.
//   - No capitalized initials and no periods at the end.

// A result is what came of a verb. Encoded as JSON it is an object; its names are API.
type result interface {
	text(p *page)
}

type output struct {
	stdout, stderr io.Writer
	json, quiet    bool
	printed        bool // data was, so that no second JSON value follows
	bar            *progressbar.ProgressBar
	barFor         string
}

func newOutput(stdout, stderr io.Writer) *output { return &output{stdout: stdout, stderr: stderr} }

// talk says something that is no data.
func (o *output) talk(format string, args ...any) {
	if !o.quiet {
		o.endBar()
		_, _ = fmt.Fprintf(o.stderr, "publish: "+format+"\n", args...)
	}
}

func (o *output) warn(format string, args ...any) {
	o.endBar()
	_, _ = fmt.Fprintf(o.stderr, "publish: warning: "+format+"\n", args...)
}

// progress shows how far long work has come, as package tufrepo reports it; only to somebody who looks.
func (o *output) progress(done, total int64, what string) {
	file, ok := o.stderr.(*os.File)
	if o.quiet || !ok || !term.IsTerminal(int(file.Fd())) {
		return
	}
	if o.bar == nil || o.barFor != what {
		o.endBar()
		o.barFor = what
		o.bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(o.stderr), progressbar.OptionSetDescription(what),
			progressbar.OptionShowBytes(true), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetWidth(30))
	}
	_ = o.bar.Set64(done) // a bar that cannot be drawn is no reason to stop
}

func (o *output) endBar() {
	if o.bar != nil {
		_ = o.bar.Clear()
		o.bar = nil
	}
}

// finish prints what came of the verb and returns the exit code.
func (o *output) finish(res result, f *failure) int {
	o.endBar()
	var err error
	switch {
	case o.printed || res == nil && f == nil:
	case o.json:
		err = o.printJSON(res, f)
	case res != nil:
		err = o.printText(res)
	}
	if f == nil && err != nil {
		f = failf(exitFailed, "output", "the work itself was done; `publish status` shows what there is", "standard output cannot be written: %v", err)
	}
	if f == nil {
		return 0
	}
	_, _ = fmt.Fprintf(o.stderr, "publish: error: %s\npublish: hint: %s\n", f.Message, f.Hint)
	return f.exit
}

// data prints a result before the verb ends.
func (o *output) data(res result) error {
	o.printed = true
	if o.json {
		return o.printJSON(res, nil)
	}
	return o.printText(res)
}

func (o *output) printText(res result) error {
	p := &page{w: tabwriter.NewWriter(o.stdout, 0, 0, 2, ' ', 0)}
	res.text(p)
	return p.flush()
}

// printJSON prints exactly one value: the result, and the error as its member "error".
func (o *output) printJSON(res result, f *failure) error {
	if f == nil {
		return o.encode(res)
	}
	failed, err := compact(struct {
		Error *failure `json:"error"`
	}{f})
	if err != nil || res == nil {
		return cmp.Or(err, o.encode(json.RawMessage(failed)))
	}
	object, err := compact(res)
	if err != nil {
		return err
	}
	// The members stay in their order, so the two objects are joined as text.
	if object = bytes.TrimSuffix(object, []byte("}")); len(object) > 1 {
		object = append(object, ',')
	}
	return o.encode(json.RawMessage(append(object, failed[1:]...)))
}

// compact encodes v as encode does, on one line.
func compact(v any) ([]byte, error) {
	var buf bytes.Buffer
	err := newEncoder(&buf).Encode(v)
	return bytes.TrimSpace(buf.Bytes()), err
}

func newEncoder(w io.Writer) *json.Encoder {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false) // constraints are full of < and >
	return enc
}

func (o *output) encode(v any) error {
	enc := newEncoder(o.stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// A page is text output: lines, and tables whose columns line up.
type page struct {
	w   *tabwriter.Writer
	err error
}

// line ends a table. Cells and lines may hold what others wrote (reasons, claims): what a terminal would obey is taken
// out of them.
func (p *page) line(format string, args ...any) {
	p.keep(p.w.Flush())
	_, err := fmt.Fprintln(p.w, harmless(fmt.Sprintf(format, args...)))
	p.keep(err)
	p.keep(p.w.Flush())
}

func (p *page) row(cells ...string) {
	for i := range cells {
		cells[i] = harmless(cells[i])
	}
	_, err := fmt.Fprintln(p.w, strings.TrimRight(strings.Join(cells, "\t"), "\t "))
	p.keep(err)
}

func (p *page) keep(err error) {
	if p.err == nil {
		p.err = err
	}
}

func (p *page) flush() error {
	p.keep(p.w.Flush())
	return p.err
}

func harmless(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}

// moment writes a time for people.
func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// span writes a length of time for people, in its two largest units.
func span(d time.Duration) string {
	d = d.Round(time.Minute)
	days, hours, minutes := int(d.Hours())/24, int(d.Hours())%24, int(d.Minutes())%60
	switch {
	case d < 0:
		return "-" + span(-d)
	case days > 0 && hours > 0 && days < 7:
		return fmt.Sprintf("%dd%dh", days, hours)
	case days > 0:
		return fmt.Sprintf("%dd", days)
	case hours > 0 && minutes > 0:
		return fmt.Sprintf("%dh%dm", hours, minutes)
	case hours > 0:
		return fmt.Sprintf("%dh", hours)
	}
	return fmt.Sprintf("%dm", minutes)
}

// share writes basis points as a percentage.
func share(points int) string {
	s := fmt.Sprintf("%d.%02d", points/100, points%100)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".") + "%"
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// size writes a number of bytes.
func size(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1000*1000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1000*1000*1000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}

func (c *created) text(p *page) { p.line("%s", c.Root) }

func (e *edited) text(p *page) {
	for _, r := range e.Releases {
		if e.archived {
			p.line("%s/%s: %s moved to archive", e.Product, e.Channel, r.Version)
			continue
		}
		p.row(append([]string{e.Product + "/" + e.Channel}, releaseCells(r, e.now)...)...)
	}
	for _, m := range e.Patches {
		p.row("patch from "+m.From, m.Platform.String(), string(m.Format), size(m.Length), fmt.Sprintf("%.1f%% of %s", m.Percent, size(m.Full)))
	}
	for _, s := range e.Signed {
		word := "signed"
		if e.DryRun {
			word = "would sign"
		}
		p.line("%s %s %d, until %s", word, s.Role, s.Version, moment(s.Expires))
	}
}

// releaseCells describes a release in a line of a table.
func releaseCells(r channel.Release, now time.Time) []string {
	if err := r.Defect(); err != nil {
		return []string{r.Version, "unusable", plain(err)}
	}
	state, kind := r.State, r.Kind
	if state == "" {
		state = channel.Offered
	}
	if kind == "" {
		kind = channel.Feature
	}
	what := string(kind)
	if r.Critical {
		what += ", critical"
	}
	var platforms []string
	for _, p := range r.Platforms {
		platforms = append(platforms, p.String())
	}
	why := r.Reason
	if r.RevertTo != "" {
		why += " (back to " + r.RevertTo + ")"
	}
	return []string{r.Version, day(r.Published), string(state), rolloutWords(r, now), what, strings.Join(platforms, ","), why}
}

func rolloutWords(r channel.Release, now time.Time) string {
	o := r.Rollout
	switch {
	case r.State == channel.Withdrawn || r.State == channel.Held:
		return "nobody new"
	case o == nil || r.Critical:
		return "everybody"
	case o.Share(now) == o.To:
		return share(o.To)
	}
	return fmt.Sprintf("%s, %s by %s", share(o.Share(now)), share(o.To), moment(o.Start.Add(time.Duration(o.Duration)*time.Second)))
}

func (s *status) text(p *page) {
	p.row("ROLE", "VERSION", "SIGNED", "EXPIRES", "LEFT", "NEXT SIGNING", "KEYS", "")
	for _, r := range s.Roles {
		note := ""
		if r.State != "ok" {
			note = strings.ToUpper(r.State)
		}
		p.row(r.Role, fmt.Sprint(r.Version), day(r.Signed), moment(r.Expires), span(r.Expires.Sub(s.At)), day(r.NextSigning),
			fmt.Sprintf("%d of %d", r.Threshold, len(r.Keys)), note)
	}
	for _, c := range s.Channels {
		p.line("")
		c.text(p)
	}
}

func (l *listing) text(p *page) {
	for i := range l.Channels {
		if i > 0 {
			p.line("")
		}
		l.Channels[i].text(p)
	}
}

func (c *channelList) text(p *page) {
	p.line("%s/%s: %s", c.Product, c.Channel, count(len(c.Releases), "release"))
	if len(c.Releases) > 0 {
		p.row("VERSION", "PUBLISHED", "STATE", "ROLLOUT", "KIND", "PLATFORMS", "WHY")
	}
	for _, r := range c.Releases {
		p.row(releaseCells(r, c.at)...)
	}
}

func (v *verified) text(p *page) {
	for _, f := range v.Findings {
		p.line("%s: %s: %s", f.Severity, f.Name, f.Problem)
		if f.Next != "" {
			p.line("  %s", f.Next)
		}
	}
	p.line("checked %s, %s, %s and %s (%s) as of %s: %s", count(v.Roles, "role"), count(v.Releases, "release"),
		count(v.Manifests, "manifest"), count(v.Blobs, "blob"), size(v.Bytes), moment(v.At), count(len(v.Findings), "finding"))
}

func (l *keyList) text(p *page) {
	for i, k := range l.Keys {
		if i > 0 {
			p.line("")
		}
		p.row("id", k.ID)
		p.row("algorithm", k.Algorithm)
		switch {
		case k.URI != "":
			p.row("private", strings.TrimSpace(k.URI+"  "+k.Private))
		case k.Private != "":
			p.row("private", k.Private+map[bool]string{true: " (encrypted)", false: " (NOT ENCRYPTED)"}[k.Encrypted])
		}
		p.row("roles", strings.Join(k.Roles, ", "))
		for line := range strings.Lines(k.PEM) {
			p.line("%s", strings.TrimSuffix(line, "\n"))
		}
	}
}

func (s *serving) text(p *page) { p.line("%s", s.URL) }
