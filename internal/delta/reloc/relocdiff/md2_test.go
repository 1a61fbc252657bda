package relocdiff

import (
	"debug/macho"
	"fmt"
	"os"
	"testing"
)

func TestMacho(t *testing.T) {
	b, _ := os.ReadFile(*only)
	im := parseImage(b)
	fmt.Println(im.hashes, im.blanks)
	f, _ := macho.Open(*only)
	for _, l := range f.Loads {
		r := l.Raw()
		fmt.Printf("cmd %x size %d", f.ByteOrder.Uint32(r), len(r))
		if len(r) >= 16 && len(r) < 60 {
			for i := 8; i+4 <= len(r); i += 4 {
				fmt.Printf(" %d", f.ByteOrder.Uint32(r[i:]))
			}
		}
		fmt.Println()
	}
	for i, n := range im.names {
		fmt.Println(n, im.segments[i])
	}
}
