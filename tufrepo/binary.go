package tufrepo

import (
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/fairlead-dev/fairlead/channel"
)

// A program is what an executable says that it runs on.
type program struct {
	format   string
	systems  []string
	machines []string // none: one that nobody here knows
}

// checkBinary refuses a program that cannot run on the platform that it is for: a mix-up in a build script, which only
// the customers would find out. What is no known kind of executable, such as a script, passes.
func checkBinary(f io.ReaderAt, p channel.Platform) error {
	b := readBinary(f)
	if b == nil {
		return nil
	}
	if !slices.Contains(b.systems, p.OS) {
		return fmt.Errorf("is an %s executable for %s, and not for %s", b.format, strings.Join(b.systems, ", "), p)
	}
	if p.Arch != "any" && len(b.machines) > 0 && !slices.Contains(b.machines, p.Arch) {
		return fmt.Errorf("is an %s executable for %s, and not for %s", b.format, strings.Join(b.machines, ", "), p)
	}
	return nil
}

// readBinary returns nil for what it cannot read: whether a program is sound is not asked here.
func readBinary(f io.ReaderAt) *program {
	if e, err := elf.NewFile(f); err == nil {
		return &program{"ELF", elfSystems(e.OSABI), elfMachines(e)}
	}
	magic := make([]byte, 2)
	// Without these two letters package pe reads any bytes as an object file.
	if n, _ := f.ReadAt(magic, 0); n == 2 && string(magic) == "MZ" {
		e, err := pe.NewFile(f)
		if err != nil {
			return nil
		}
		return &program{"PE (Windows)", []string{"windows"}, known(peMachines, e.Machine)}
	}
	darwin := []string{"darwin", "ios"}
	if e, err := macho.NewFile(f); err == nil {
		return &program{"Mach-O", darwin, known(machoMachines, e.Cpu)}
	}
	fat, err := macho.NewFatFile(f)
	if err != nil && !errors.Is(err, macho.ErrNotFat) || fat == nil {
		return nil
	}
	b := &program{"Mach-O", darwin, nil}
	for _, arch := range fat.Arches {
		b.machines = append(b.machines, known(machoMachines, arch.Cpu)...)
	}
	return b
}

func known[M comparable](names map[M]string, m M) []string {
	if name, ok := names[m]; ok {
		return []string{name}
	}
	return nil
}

var (
	peMachines = map[uint16]string{pe.IMAGE_FILE_MACHINE_I386: "386", pe.IMAGE_FILE_MACHINE_AMD64: "amd64",
		pe.IMAGE_FILE_MACHINE_ARMNT: "arm", pe.IMAGE_FILE_MACHINE_ARM64: "arm64"}
	machoMachines = map[macho.Cpu]string{macho.Cpu386: "386", macho.CpuAmd64: "amd64", macho.CpuArm: "arm", macho.CpuArm64: "arm64"}
)

// elfSystems: most systems leave the field at 0, so that it tells little.
func elfSystems(abi elf.OSABI) []string {
	switch abi {
	case elf.ELFOSABI_FREEBSD:
		return []string{"freebsd"}
	case elf.ELFOSABI_NETBSD:
		return []string{"netbsd"}
	case elf.ELFOSABI_OPENBSD:
		return []string{"openbsd"}
	case elf.ELFOSABI_SOLARIS:
		return []string{"solaris", "illumos"}
	case elf.ELFOSABI_LINUX:
		return []string{"linux", "android"}
	}
	return strings.Fields("linux android dragonfly freebsd illumos netbsd openbsd solaris")
}

func elfMachines(e *elf.File) []string {
	little := e.Data == elf.ELFDATA2LSB
	choose := func(ifLittle, ifBig string) []string {
		if little {
			return []string{ifLittle}
		}
		return []string{ifBig}
	}
	switch e.Machine {
	case elf.EM_MIPS:
		if e.Class == elf.ELFCLASS64 {
			return choose("mips64le", "mips64")
		}
		return choose("mipsle", "mips")
	case elf.EM_PPC64:
		return choose("ppc64le", "ppc64")
	case elf.EM_RISCV:
		if e.Class != elf.ELFCLASS64 {
			return []string{"riscv32"}
		}
	}
	return known(map[elf.Machine]string{elf.EM_386: "386", elf.EM_X86_64: "amd64", elf.EM_ARM: "arm", elf.EM_AARCH64: "arm64",
		elf.EM_LOONGARCH: "loong64", elf.EM_S390: "s390x", elf.EM_RISCV: "riscv64"}, e.Machine)
}
