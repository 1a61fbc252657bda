package license_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/license"
)

// rubbish is what costs the most before a token is refused, by its size and by what it makes a reader do.
func rubbish() map[string][]byte {
	short := string(mint(goodHeader, payload(claims())))
	header := func(size int, start, unit, end string) []byte { // as many units as go into a header of that size
		start, end = `{"alg":"EdDSA","kid":"acme-2026","typ":"license+jwt",`+start, end+"}"
		fits := (size - len(start) - len(end)) / len(unit)
		return []byte(b64(start+strings.Repeat(unit, fits)+end) + ".AAAA.AAAA")
	}
	members := func(format string) string {
		var all strings.Builder
		for i := range 10_000 {
			if one := fmt.Sprintf(format, i); all.Len()+len(one) < 960 {
				all.WriteString(one)
			}
		}
		return all.String()
	}
	const most = 1 << 10 // the longest header that is read
	return map[string][]byte{
		"1 MiB of letters":         bytes.Repeat([]byte("A"), 1<<20),
		"1 MiB of dots":            bytes.Repeat([]byte("."), 1<<20),
		"1 MiB of white space":     bytes.Repeat([]byte(" "), 1<<20),
		"1 MiB of line ends":       bytes.Repeat([]byte("\r\n"), 1<<19),
		"1 MiB of zeros":           make([]byte, 1<<20),
		"1 MiB of brackets":        bytes.Repeat([]byte("["), 1<<20),
		"1 MiB of tokens":          bytes.Repeat([]byte("A.B"), 1<<20/3),
		"1 MiB around a token":     append(bytes.Repeat([]byte(" "), 1<<20), short...),
		"1 MiB in armour":          license.Armor(bytes.Repeat([]byte("A"), 1<<20)),
		"50 MiB":                   bytes.Repeat([]byte("A.B"), 50<<20/3),
		"64 KiB of white space":    append(bytes.Repeat([]byte(" "), 64<<10-1), 'A'),
		"64 KiB of lines":          []byte("-----BEGIN LICENSE-----" + strings.Repeat("\nA", 32<<10-50) + "-----END LICENSE-----"),
		"64 KiB of bad UTF-8":      bytes.Repeat([]byte("\xff"), 64<<10),
		"16 KiB of dots":           bytes.Repeat([]byte("."), 16<<10),
		"header of members":        header(most, members(`"%d":1,`), " ", `"x":1`),
		"header of folded members": header(most, members(`"A%d":1,`), " ", `"x":1`),
		"header of one member":     header(most, `"`, "k", `":1`),
		"header of a deep member":  header(most, `"x":`+strings.Repeat("[", 460), " ", strings.Repeat("]", 460)),
		"header of numbers":        header(most, `"x":[`, "1,", `1]`),
		"header of lists":          header(most, `"x":[`, "[],", `1]`),
		"header of escapes":        header(most, `"x":[`, `"\n",`, `1]`),
		"header of objects":        header(most, `"x":[`, `{"A\n":1},`, `1]`),
		"header of one number":     header(most, `"x":`, "1", ``),
		"12 kB of objects":         header(12_000, `"x":[`, `{"A\n":1},`, `1]`),
		"signature of 15 KiB":      []byte(b64(goodHeader) + ".AAAA." + strings.Repeat("A", 15<<10)),
	}
}

// least calls f some times, and returns the least that it took: what else the machine does only adds.
func least(f func()) (took time.Duration, bytes uint64) {
	var before, after runtime.MemStats
	took, bytes = time.Hour, 1<<62
	for range 5 {
		runtime.ReadMemStats(&before)
		start := time.Now()
		f()
		took = min(took, time.Since(start))
		runtime.ReadMemStats(&after)
		bytes = min(bytes, after.TotalAlloc-before.TotalAlloc)
	}
	return took, bytes
}

// Whoever can hand a token to an app must not be able to keep it busy: under 10 ms and 256 KiB, whatever it is. (The
// aim is 1 MiB.)
func TestRubbishIsCheap(t *testing.T) {
	v := verifier(t)
	for name, data := range rubbish() {
		t.Run(name, func(t *testing.T) {
			_, err := v.Parse(data)
			require.Error(t, err)
			took, allocated := least(func() { _ = v.Status(data, now) })
			if !testing.Short() { // the race detector takes several times as much of both
				require.Less(t, allocated, uint64(256<<10))
				require.Less(t, took, 10*time.Millisecond)
			}
			require.Less(t, allocated, uint64(1<<20))
			if len(data) > 64<<10 {
				require.Less(t, allocated, uint64(1<<10), "what is too long is not looked at")
			}
		})
	}
}

// The same from a file, of which no more is read than a token may have.
func TestRubbishInAFileIsCheap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "license")
	require.NoError(t, os.WriteFile(path, bytes.Repeat([]byte("A.B"), 50<<20/3), 0o600))
	h := license.FromFile(verifier(t), path)
	require.ErrorIs(t, h.Status(t.Context(), now).Err, license.ErrMalformed)
	_, allocated := least(func() { _ = h.Status(t.Context(), now) })
	require.Less(t, allocated, uint64(1<<20))
}

// A genuine token is read once: a second reader of the same JSON, as golang-jwt's parser is one, would double this.
func TestParseAllocatesLittle(t *testing.T) {
	v, token := verifier(t), issue(t)
	require.Less(t, testing.AllocsPerRun(100, func() { _, _ = v.Parse(token) }), 230.0)
}
