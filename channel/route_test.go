package channel_test

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
)

func sum(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

// edge is a patch between two contents, told by their names.
func edge(from, to string, length int64, change ...func(*channel.Patch)) channel.Patch {
	p := channel.Patch{From: sum(from), To: sum(to), Format: channel.Tree, Memory: 1 << 20}
	p.Blob = channel.Blob{SHA256: sum(from + to), Length: length}
	for _, c := range change {
		c(&p)
	}
	return p
}

const kib = 1 << 10

func TestRoute(t *testing.T) {
	q := channel.RouteQuery{
		Installed: sum("a"), Wanted: sum("f"), Full: 1000 * kib, Memory: 1 << 30,
		Formats: []channel.PatchFormat{channel.Tree, channel.ZstdPrefix},
	}
	with := func(change func(*channel.RouteQuery)) channel.RouteQuery {
		changed := q
		change(&changed)
		return changed
	}
	single := func(length int64) func(*channel.Patch) {
		return func(p *channel.Patch) { p.Format, p.ToLength = channel.ZstdPrefix, length }
	}
	program := func(name string) func(*channel.Patch) {
		return func(p *channel.Patch) { p.Program = sum(name) }
	}
	for name, c := range map[string]struct {
		q    channel.RouteQuery
		list []channel.Patch
		want string // the steps' ends; "none": no way
	}{
		"direct":                            {q, []channel.Patch{edge("a", "f", 10)}, "af"},
		"there already":                     {with(func(q *channel.RouteQuery) { q.Installed = q.Wanted }), nil, ""},
		"nothing leads there":               {q, []channel.Patch{edge("a", "e", 10), edge("f", "a", 10)}, "none"},
		"nothing leads from here":           {q, []channel.Patch{edge("b", "f", 10)}, "none"},
		"nothing is known of what is here":  {with(func(q *channel.RouteQuery) { q.Installed = "" }), []channel.Patch{edge("a", "f", 10)}, "none"},
		"a chain that is shorter":           {q, []channel.Patch{edge("a", "f", 200*kib), edge("a", "b", 10*kib), edge("b", "f", 10*kib)}, "abf"},
		"a chain that saves less than hops": {q, []channel.Patch{edge("a", "f", 100*kib), edge("a", "b", 20*kib), edge("b", "f", 20*kib)}, "af"},
		"as dear, so fewer steps":           {q, []channel.Patch{edge("a", "b", 10*kib), edge("b", "f", 10*kib), edge("a", "f", 84*kib)}, "af"},
		"four steps": {q, []channel.Patch{
			edge("a", "b", 10), edge("b", "c", 10), edge("c", "d", 10), edge("d", "f", 10)}, "abcdf"},
		"five steps": {q, []channel.Patch{
			edge("a", "b", 10), edge("b", "c", 10), edge("c", "d", 10), edge("d", "e", 10), edge("e", "f", 10)}, "none"},
		"half of the whole":              {q, []channel.Patch{edge("a", "f", 500*kib)}, "af"},
		"more than half of the whole":    {q, []channel.Patch{edge("a", "f", 500*kib+1)}, "none"},
		"a chain of more than half":      {q, []channel.Patch{edge("a", "b", 250*kib), edge("b", "f", 250*kib+1)}, "none"},
		"a request more is dearer":       {with(func(q *channel.RouteQuery) { q.Full = 64*kib + 10 }), []channel.Patch{edge("a", "f", 10)}, "none"},
		"too much memory":                {q, []channel.Patch{edge("a", "f", 10, func(p *channel.Patch) { p.Memory = 1<<30 + 1 })}, "none"},
		"an unknown format":              {q, []channel.Patch{edge("a", "f", 10, func(p *channel.Patch) { p.Format = "magic/9" })}, "none"},
		"a patch that failed":            {with(func(q *channel.RouteQuery) { q.Without = map[string]bool{sum("af"): true} }), []channel.Patch{edge("a", "f", 10), edge("a", "b", 10), edge("b", "f", 10)}, "abf"},
		"of one file":                    {q, []channel.Patch{edge("a", "f", 10, single(0))}, "af"},
		"one file of unknown length":     {q, []channel.Patch{edge("a", "b", 10, single(0)), edge("b", "f", 10, single(0))}, "none"},
		"one file of known length":       {q, []channel.Patch{edge("a", "b", 10, single(5)), edge("b", "f", 10, single(0))}, "abf"},
		"a circle":                       {q, []channel.Patch{edge("a", "b", 1), edge("b", "a", 1), edge("b", "f", 1)}, "abf"},
		"the program is known":           {with(func(q *channel.RouteQuery) { q.Installed, q.Program = "", sum("p") }), []channel.Patch{edge("a", "f", 10, program("p"))}, "af"},
		"another program":                {with(func(q *channel.RouteQuery) { q.Installed, q.Program = "", sum("p") }), []channel.Patch{edge("a", "f", 10, program("o"))}, "none"},
		"the program is all there is":    {with(func(q *channel.RouteQuery) { q.Installed, q.Program = "", sum("a") }), []channel.Patch{edge("a", "f", 10)}, "af"},
		"two artifacts with one program": {with(func(q *channel.RouteQuery) { q.Installed, q.Program = "", sum("p") }), []channel.Patch{edge("a", "f", 90, program("p")), edge("b", "f", 80, program("p"))}, "bf"},
	} {
		t.Run(name, func(t *testing.T) {
			list := &channel.Patches{Patches: c.list}
			steps, found := list.Route(c.q)
			require.Equal(t, c.want, ends(steps, found))
			slices.Reverse(list.Patches)
			steps, found = list.Route(c.q)
			require.Equal(t, c.want, ends(steps, found), "whatever the order")
		})
	}
	steps, found := (*channel.Patches)(nil).Route(q)
	require.Equal(t, "none", ends(steps, found))
}

// ends names the contents that a way passes.
func ends(steps []channel.Patch, found bool) string {
	if !found {
		return "none"
	}
	var way strings.Builder
	for i, p := range steps {
		for c := 'a'; c <= 'h'; c++ {
			if i == 0 && p.From == sum(string(c)) {
				way.WriteRune(c)
			}
		}
		for c := 'a'; c <= 'h'; c++ {
			if p.To == sum(string(c)) {
				way.WriteRune(c)
			}
		}
	}
	return way.String()
}

// Route finds what trying every way finds, whatever the order of the list.
func TestRouteAgainstAllWays(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	ways, long := 0, 0
	for range 3000 {
		var list []channel.Patch
		for range rng.IntN(14) {
			from, to := string(rune('a'+rng.IntN(6))), string(rune('a'+rng.IntN(6)))
			if from == to {
				continue
			}
			length := int64(rng.IntN(20)) * 16 * kib // so that many are equal
			list = append(list, edge(from, to, length, func(p *channel.Patch) {
				p.Memory = int64(rng.IntN(10))
				p.SHA256 = sum(fmt.Sprint(from, to, length, p.Memory))
			}))
		}
		q := channel.RouteQuery{
			Installed: sum("a"), Wanted: sum("f"), Full: int64(rng.IntN(120)) * 16 * kib, Memory: 8,
			Formats: []channel.PatchFormat{channel.Tree}, Without: map[string]bool{},
		}
		if len(list) > 0 {
			q.Without[list[rng.IntN(len(list))].SHA256] = true
		}
		want := best(list, q)
		for range 3 {
			steps, found := (&channel.Patches{Patches: list}).Route(q)
			require.Equal(t, want, steps, "%+v", list)
			require.Equal(t, want != nil, found)
			rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		}
		if want != nil {
			ways++
		}
		if len(want) > 1 {
			long++
		}
	}
	require.Greater(t, ways, 400)
	require.Greater(t, long, 100)
}

// best tries all ways.
func best(list []channel.Patch, q channel.RouteQuery) (best []channel.Patch) {
	cost := func(steps []channel.Patch) (bytes, cost int64) {
		for _, p := range steps {
			bytes += p.Length
		}
		return bytes, bytes + int64(len(steps))*64*kib
	}
	better := func(a, b []channel.Patch) bool {
		_, costA := cost(a)
		_, costB := cost(b)
		return cmp.Or(cmp.Compare(costA, costB), cmp.Compare(len(a), len(b)), slices.CompareFunc(a, b, func(a, b channel.Patch) int {
			return cmp.Compare(a.SHA256, b.SHA256)
		})) < 0
	}
	var walk func(at string, steps []channel.Patch)
	walk = func(at string, steps []channel.Patch) {
		if bytes, c := cost(steps); at == q.Wanted && bytes*2 <= q.Full && c < q.Full && (best == nil || better(steps, best)) {
			best = slices.Clone(steps)
		}
		if len(steps) == 4 {
			return
		}
		for _, p := range list {
			if p.From == at && p.Memory <= q.Memory && !q.Without[p.SHA256] {
				walk(p.To, append(steps, p))
			}
		}
	}
	walk(q.Installed, nil)
	return best
}
