package tufrepo

import (
	"bytes"
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
)

func image(t *testing.T, order binary.ByteOrder, parts ...any) []byte {
	t.Helper()
	var buf bytes.Buffer
	for _, part := range parts {
		require.NoError(t, binary.Write(&buf, order, part))
	}
	return buf.Bytes()
}

func elfImage(t *testing.T, machine elf.Machine, abi elf.OSABI, class elf.Class, data elf.Data) []byte {
	ident := [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(class), byte(data), byte(elf.EV_CURRENT), byte(abi)}
	var order binary.ByteOrder = binary.LittleEndian
	if data == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	return image(t, order, elf.Header64{Ident: ident, Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT), Ehsize: 64, Shentsize: 64})
}

func peImage(t *testing.T, machine uint16) []byte {
	dos := make([]byte, 0x60)
	copy(dos, "MZ")
	dos[0x3c] = 0x60
	return append(dos, image(t, binary.LittleEndian, [4]byte{'P', 'E'}, pe.FileHeader{Machine: machine}, [64]byte{})...)
}

func machoImage(t *testing.T, cpu macho.Cpu) []byte {
	return image(t, binary.LittleEndian, macho.FileHeader{Magic: macho.Magic64, Cpu: cpu, Type: macho.TypeExec}, uint32(0))
}

// TestBinaryPlatform publishes executables for the right platform and for a wrong one.
func TestBinaryPlatform(t *testing.T) {
	const c64, le, be = elf.ELFCLASS64, elf.ELFDATA2LSB, elf.ELFDATA2MSB
	for name, c := range map[string]struct {
		data         []byte
		right, wrong []string
	}{
		"elf":     {elfImage(t, elf.EM_X86_64, elf.ELFOSABI_NONE, c64, le), []string{"linux/amd64", "freebsd/amd64", "linux/any"}, []string{"linux/arm64", "windows/amd64", "darwin/amd64"}},
		"freebsd": {elfImage(t, elf.EM_AARCH64, elf.ELFOSABI_FREEBSD, c64, le), []string{"freebsd/arm64"}, []string{"linux/arm64", "freebsd/amd64"}},
		"ppc64":   {elfImage(t, elf.EM_PPC64, elf.ELFOSABI_NONE, c64, be), []string{"linux/ppc64"}, []string{"linux/ppc64le"}},
		"pe":      {peImage(t, pe.IMAGE_FILE_MACHINE_AMD64), []string{"windows/amd64"}, []string{"linux/amd64", "windows/arm64"}},
		"macho":   {machoImage(t, macho.CpuArm64), []string{"darwin/arm64"}, []string{"darwin/amd64", "linux/arm64"}},
		"zeros":   {make([]byte, 4096), []string{"linux/amd64", "windows/arm64"}, nil},
		"script":  {[]byte("#!/bin/sh\n"), []string{"linux/amd64", "darwin/arm64"}, nil},
	} {
		path := writeFile(t, name, c.data)
		try := func(platform string) error {
			p, err := channel.ParsePlatform(platform)
			require.NoError(t, err)
			_, err = scan(t, NewArtifact{Platform: p, Path: path})
			return err
		}
		for _, platform := range c.right {
			require.NoError(t, try(platform), "%s for %s", name, platform)
		}
		for _, platform := range c.wrong {
			require.ErrorContains(t, try(platform), "not for "+platform, name)
		}
	}
}
