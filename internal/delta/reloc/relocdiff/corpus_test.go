package relocdiff

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/internal/delta/reloc"
)

var corpus = flag.String("corpus", "", "a folder with programs, named NAME-VERSION-OS-ARCH: report on each pair")
var detail = flag.Bool("detail", false, "by section")
var slackFlag = flag.Int("slack", 5, "")
var cn = flag.Int("cn", 30, "")
var cw = flag.Int("cw", 80, "")
var cb = flag.Int("cb", 200, "")
var cs = flag.Int("cs", 120, "")
var dumpSec = flag.String("dump", "", "")
var only = flag.String("only", "", "of the corpus")

func TestCorpus(t *testing.T) {
	slack, costNew, costWrong, costBlock, costSeekByte = *slackFlag, *cn, *cw, *cb, *cs
	if *corpus == "" {
		t.Skip("no -corpus")
	}
	files, _ := filepath.Glob(*corpus + "/*-v*-*-*")
	pairs := map[string][]string{}
	var names []string
	for _, f := range files {
		p := strings.Split(filepath.Base(f), "-")
		if len(p) != 4 {
			continue
		}
		key := p[0] + "-" + p[2] + "-" + p[3]
		if pairs[key] == nil {
			names = append(names, key)
		}
		pairs[key] = append(pairs[key], f)
	}
	for _, n := range names {
		fs := pairs[n]
		for i := 0; i+1 < len(fs); i++ {
			if strings.Contains(n, *only) {
				report(t, n, fs[i], fs[i+1])
			}
		}
	}
}

func report(t *testing.T, name, a, b string) {
	old, err := os.ReadFile(a)
	require.NoError(t, err)
	next, err := os.ReadFile(b)
	require.NoError(t, err)
	began := time.Now()
	d := newDiff(old, next)
	require.NoError(t, d.align(t.Context()))
	aligned := time.Since(began)
	d.vote()
	d.predict()
	patch := d.encode()
	d.oldImage.restore()
	d.nextImage.restore()
	made := time.Since(began)
	fmt.Printf("%-24s %8d  blocks %d runs %d refs %d hit %.2f%% |", name, len(patch), len(d.blocks), len(d.runs), d.total, 100*float64(d.hits)/float64(max(d.total, 1)))
	for i, s := range d.streams() {
		fmt.Printf(" %s %d>%d", []string{"plan", "new", "seeks", "sizes", "targ", "shift", "same", "wrong", "lits", "extra"}[i], len(s), len(compress(s, 11)))
	}
	began = time.Now()
	if *detail {
		if *dumpSec != "" {
			d.dump(*dumpSec, 12)
		}
		d.stats()
	}
	var out bytes.Buffer
	require.NoError(t, reloc.Apply(&out, bytes.NewReader(old), int64(len(old)), bytes.NewReader(patch), int64(len(patch)), int64(len(next))))
	fmt.Printf(" | align %.1fs make %.1fs apply %.2fs\n", aligned.Seconds(), made.Seconds(), time.Since(began).Seconds())
	require.True(t, bytes.Equal(out.Bytes(), next))
}
