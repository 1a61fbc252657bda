package relocdiff

import (
	"fmt"
	"os"
	"testing"
)

func TestMD(t *testing.T) {
	b, _ := os.ReadFile(*only)
	im := parseImage(b)
	for _, s := range im.sections {
		fmt.Printf("%s %x %x\n", s.name, s.addr, s.addr+s.Size)
	}
	fmt.Printf("pcln text %x names %x gofunc %x types %x etypes %x rodata %x\n", im.text, im.names_, im.gofunc, im.types, im.etypes, im.rodata)
	for i, w := range im.moduleWords(im.names_ - 72) {
		fmt.Printf("%d:%x ", i, w)
	}
}
