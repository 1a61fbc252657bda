package reloc

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The files in testdata/golden freeze the format: NAME.old with NAME.patch makes the file whose SHA-256 and length are in the
// list new. They are never to be made anew, only added to: package relocdiff's TestWriteGolden has made them.
func TestGolden(t *testing.T) {
	list, err := os.ReadFile("testdata/golden/new")
	require.NoError(t, err)
	kinds, moved := map[Kind]bool{}, map[Form]bool{}
	var blanks, hashes, finds int
	for line := range strings.Lines(string(list)) {
		var sum, name string
		var length int64
		_, err := fmt.Sscan(line, &sum, &length, &name)
		require.NoError(t, err)
		t.Run(name, func(t *testing.T) {
			old, err := os.ReadFile(filepath.Join("testdata/golden", name+".old"))
			require.NoError(t, err)
			patch, err := os.ReadFile(filepath.Join("testdata/golden", name+".patch"))
			require.NoError(t, err)
			apply := func(old []byte) ([]byte, error) {
				var out bytes.Buffer
				err := Apply(&out, bytes.NewReader(old), int64(len(old)), bytes.NewReader(patch), int64(len(patch)), length, 1<<30)
				return out.Bytes(), err
			}
			next, err := apply(old)
			require.NoError(t, err)
			require.EqualValues(t, length, len(next))
			got := sha256.Sum256(next)
			require.Equal(t, sum, hex.EncodeToString(got[:]))

			_, err = apply(append(bytes.Clone(old), 0))
			require.True(t, errors.Is(err, ErrBase), "%v", err)
			if len(old) > 0 {
				other := bytes.Clone(old)
				other[len(other)/2]++
				_, err = apply(other)
				require.True(t, errors.Is(err, ErrBase), "%v", err)
			}

			in, err := open(bytes.NewReader(patch), int64(len(patch)))
			require.NoError(t, err)
			plan, err := in[PlanStream].plan()
			require.NoError(t, err)
			blanks, hashes, finds = blanks+len(plan.Blanks), hashes+len(plan.Hashes), finds+len(plan.FindTabs)
			forms(t, plan, old, in, kinds, moved)
		})
	}
	for k := X86; k <= Rebase; k++ {
		require.True(t, kinds[k], "there is no region of kind %d that has references", k)
	}
	for f := Rel32; f <= Step3; f++ {
		require.True(t, moved[f], "no reference of form %d is moved", f)
	}
	require.Positive(t, blanks*hashes*finds)
}

// forms notes which kinds of regions have references, and the forms of those that are changed.
func forms(t *testing.T, plan *Plan, old []byte, in [Streams]*stream, kinds map[Kind]bool, moved map[Form]bool) {
	for _, r := range plan.Regions {
		p := *plan
		p.Regions = []Region{r}
		refs, err := p.Refs(old)
		require.NoError(t, err)
		kinds[r.Kind] = kinds[r.Kind] || len(refs.List) > 0
	}
	a := &applier{in: in, plan: plan, memory: 1 << 30}
	require.NoError(t, a.readBlocks())
	a.where = NewMap(plan, a.blocks)
	require.NoError(t, a.readRuns())
	refs, err := plan.Refs(old)
	require.NoError(t, err)
	for _, b := range a.blocks {
		for _, r := range refs.List {
			off, width := uint64(r.Off), r.Form().Width()
			if off < b.Old || off+width > b.Old+b.Size {
				continue
			}
			was := old[off : off+width]
			is := bytes.Clone(was)
			plan.Move(is, r, b.New+off-b.Old, a.where, old, refs)
			moved[r.Form()] = moved[r.Form()] || !bytes.Equal(is, was)
		}
	}
}
