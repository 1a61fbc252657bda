package archive_test

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"hash/crc32"
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/archive"
)

// A zipHeader is what a local header and the directory both say.
type zipHeader struct {
	name          string
	flags, method uint16
	crc           uint32
	packed, size  uint32
	extra         string
}

// A zipEntry is one entry of a zip file, written as told.
type zipEntry struct {
	local, central zipHeader
	creator        uint16
	attributes     uint32
	offset         uint32
	disk           uint16
	data           string
}

func le(values ...any) string {
	var b []byte
	for _, v := range values {
		switch v := v.(type) {
		case uint16:
			b = binary.LittleEndian.AppendUint16(b, v)
		case uint32:
			b = binary.LittleEndian.AppendUint32(b, v)
		case uint64:
			b = binary.LittleEndian.AppendUint64(b, v)
		case string:
			b = append(b, v...)
		}
	}
	return string(b)
}

// stored makes a good entry, without a descriptor.
func stored(name string, mode uint32, content string) *zipEntry {
	n := uint32(len(content))
	h := zipHeader{name: name, crc: crc32.ChecksumIEEE([]byte(content)), packed: n, size: n}
	return &zipEntry{local: h, central: h, creator: 3 << 8, attributes: mode << 16, data: content}
}

func deflated(name, content string) *zipEntry {
	var b bytes.Buffer
	z, _ := flate.NewWriter(&b, 9)
	_, _ = z.Write([]byte(content))
	_ = z.Close()
	e := stored(name, 0o100644, content)
	e.data = b.String()
	e.both(func(h *zipHeader) { h.method, h.packed = 8, uint32(b.Len()) })
	return e
}

func (e *zipEntry) both(change func(*zipHeader)) *zipEntry {
	change(&e.local)
	change(&e.central)
	return e
}

func (e *zipEntry) with(change func(*zipEntry)) *zipEntry {
	change(e)
	return e
}

func (h zipHeader) localHeader() string {
	return le(uint32(0x04034b50), uint16(20), h.flags, h.method, uint32(0), h.crc, h.packed, h.size, uint16(len(h.name)), uint16(len(h.extra)), h.name, h.extra)
}

type zipEnd struct {
	disk, diskOfDirectory, here, total uint16
	size, offset                       uint32
	comment                            string
}

func zipRaw(end func(*zipEnd), entries ...*zipEntry) []byte {
	var b, dir strings.Builder
	for _, e := range entries {
		if e.offset == 0 {
			e.offset = uint32(b.Len())
		}
		b.WriteString(e.local.localHeader() + e.data)
		h := e.central
		dir.WriteString(le(uint32(0x02014b50), e.creator, uint16(20), h.flags, h.method, uint32(0), h.crc, h.packed, h.size,
			uint16(len(h.name)), uint16(len(h.extra)), uint16(0), e.disk, uint16(0), e.attributes, e.offset, h.name, h.extra))
	}
	n := uint16(len(entries))
	z := zipEnd{here: n, total: n, size: uint32(dir.Len()), offset: uint32(b.Len())}
	if end != nil {
		end(&z)
	}
	return []byte(b.String() + dir.String() + le(uint32(0x06054b50), z.disk, z.diskOfDirectory, z.here, z.total, z.size, z.offset, uint16(len(z.comment)), z.comment))
}

// Every row has a good entry and a bad one, which differ in one thing.
func TestZipRefused(t *testing.T) {
	x := func() *zipEntry { return stored("x", 0o100644, "content") }
	mode := func(mode uint32) *zipEntry { return x().with(func(e *zipEntry) { e.attributes = mode << 16 }) }
	named := func(name string) *zipEntry { return stored(name, 0o100644, "content") }
	link := func(target string) *zipEntry { return stored("x", 0o120777, target) }
	central := func(change func(*zipHeader)) *zipEntry { e := x(); change(&e.central); return e }
	local := func(change func(*zipHeader)) *zipEntry { e := x(); change(&e.local); return e }
	both := func(change func(*zipHeader)) *zipEntry { return x().both(change) }
	for name, tt := range map[string]struct {
		good, bad *zipEntry
		member    string
		why       string
	}{
		"parent":           {named("a/x"), named("../x"), "../x", "is not relative, clean"},
		"absolute":         {named("x"), named("/x"), "/x", "is not relative, clean"},
		"backslash":        {named("a/x"), named(`a\x`), `a\x`, "is not relative, clean"},
		"no name":          {named("x"), named(""), "", "is not relative, clean"},
		"NUL":              {named("ab"), named("a\x00b"), "a\x00b", "not printed"},
		"code page":        {named("\u00e9"), named("\x82"), "\x82", "is not UTF-8"},
		"folder outside":   {stored("x/", 0o40755, ""), stored("../x/", 0o40755, ""), "../x/", "is not relative, clean"},
		"twice":            {named("x"), named("notes"), "notes", "is there twice"},
		"by case":          {named("x"), named("Notes"), "Notes", "differs only by case"},
		"below a file":     {named("note/x"), named("notes/x"), "notes/x", "both a file and a folder"},
		"link outside":     {link("notes"), link("../notes"), "x", "outside of it"},
		"absolute link":    {link("notes"), link("/notes"), "x", "is not relative, clean"},
		"long link":        {link(strings.Repeat("a/", 60) + "a"), link(strings.Repeat("a", 4097)), "x", "more than 4096 bytes"},
		"setuid":           {mode(0o100755), mode(0o104755), "x", "such bits"},
		"FIFO":             {mode(0o100644), mode(0o010644), "x", "is a device, a FIFO"},
		"socket":           {mode(0o100644), mode(0o140644), "x", "is a device, a FIFO"},
		"device":           {mode(0o100644), mode(0o060644), "x", "is a device, a FIFO"},
		"folder by mode":   {mode(0o100644), mode(0o040644), "x", "without a slash"},
		"link by mode":     {stored("x/", 0o40755, ""), stored("x/", 0o120755, ""), "x/", "is not a folder"},
		"folder with size": {stored("x/", 0o40755, ""), stored("x/", 0o40755, "a"), "x/", "has a size of 1"},

		"encrypted":         {x(), both(func(h *zipHeader) { h.flags = 1 }), "x", "is encrypted"},
		"strongly":          {x(), both(func(h *zipHeader) { h.flags = 1 << 6 }), "x", "is encrypted"},
		"masked":            {x(), both(func(h *zipHeader) { h.flags = 1 << 13 }), "x", "is encrypted"},
		"bzip2":             {x(), both(func(h *zipHeader) { h.method = 12 }), "x", "is packed with method 12"},
		"patch":             {x(), both(func(h *zipHeader) { h.flags = 1 << 5 }), "x", "is packed with method"},
		"stored, unpacking": {x(), both(func(h *zipHeader) { h.size++ }), "x", "is stored as 7 bytes, and unpacks to 8"},

		"local name":        {x(), local(func(h *zipHeader) { h.name = "y" }), "x", `is named "y" in its local header`},
		"local length":      {x(), local(func(h *zipHeader) { h.name = "xy" }), "x", `is named "xy" in its local header`},
		"local size":        {x(), local(func(h *zipHeader) { h.size-- }), "x", "another size or checksum"},
		"local packed":      {x(), local(func(h *zipHeader) { h.packed-- }), "x", "another size or checksum"},
		"local checksum":    {x(), local(func(h *zipHeader) { h.crc++ }), "x", "another size or checksum"},
		"local method":      {x(), local(func(h *zipHeader) { h.method = 8 }), "x", "in another way"},
		"local encryption":  {x(), local(func(h *zipHeader) { h.flags = 1 }), "x", "in another way"},
		"descriptor's size": {both(func(h *zipHeader) { h.flags = 8 }), both(func(h *zipHeader) { h.flags = 8 }).with(func(e *zipEntry) { e.local.size-- }), "x", "another size or checksum"},
		"Unicode name": {both(func(h *zipHeader) { h.extra = le(uint16(0x7075), uint16(6), "\x01abcdx") }),
			central(func(h *zipHeader) { h.extra = le(uint16(0x7075), uint16(6), "\x01abcdy") }), "x", `is named "y" in an extra field`},
		"local Unicode name": {x(), local(func(h *zipHeader) { h.extra = le(uint16(0x7075), uint16(6), "\x01abcdy") }), "x", `is named "y" in an extra field`},
		"zip64 twice": {central(func(h *zipHeader) { h.extra = le(uint16(1), uint16(0)) }),
			central(func(h *zipHeader) { h.extra = le(uint16(1), uint16(0), uint16(1), uint16(0)) }), "x", "has its sizes twice"},
		"zip64 short": {central(func(h *zipHeader) { h.size, h.extra = 0xffffffff, le(uint16(1), uint16(8), uint64(7)) }),
			central(func(h *zipHeader) { h.size, h.extra = 0xffffffff, le(uint16(1), uint16(7), "1234567") }), "x", "too short"},
		"zip64 absent":       {x(), central(func(h *zipHeader) { h.size = 0xffffffff }), "x", "cannot be"},
		"zip64 negative":     {x(), central(func(h *zipHeader) { h.size, h.extra = 0xffffffff, le(uint16(1), uint16(8), uint64(1<<63)) }), "x", "cannot be"},
		"outside":            {x(), x().with(func(e *zipEntry) { e.offset = 1 << 20 }), "x", "is not inside of the archive"},
		"longer than inside": {x(), both(func(h *zipHeader) { h.packed, h.size = 1000, 1000 }), "x", "is not inside of the archive"},
		"no local header":    {x(), x().with(func(e *zipEntry) { e.offset = 1 }), "x", "has no local header"},
	} {
		t.Run(name, func(t *testing.T) {
			notes := func() *zipEntry { return stored("notes", 0o100755, "program") }
			_, err := read(t, zipRaw(nil, notes(), tt.good), channel.Zip)
			require.NoError(t, err)
			requireRefused(t, zipRaw(nil, notes(), tt.bad), channel.Zip, "linux", tt.member, tt.why)
		})
	}
	_, err := readWith(t.Context(), zipRaw(nil, named("null")), channel.Zip, "windows", archive.Limits{})
	require.NoError(t, err)
	requireRefused(t, zipRaw(nil, named("nul")), channel.Zip, "windows", "nul", "Windows does not have")
	requireRefused(t, zipRaw(nil, link("notes")), channel.Zip, "windows", "x", "none on Windows")
}

// Fifield's better zip bomb: a member's content is the next one's local header and content, too.
func TestZipOverlap(t *testing.T) {
	inner := stored("inner", 0o100644, strings.Repeat("0", 1000))
	outer := stored("outer", 0o100644, inner.local.localHeader()+inner.data)
	hidden := *inner
	hidden.offset = uint32(len(outer.local.localHeader()))
	after := []byte(zipRaw(nil, outer))
	dir := zipRaw(func(e *zipEnd) { e.offset = uint32(len(outer.local.localHeader()) + len(outer.data)) }, outer, &hidden)
	// The second local header is only inside of the first's content.
	start := len(outer.local.localHeader()) + len(outer.data)
	cut := len(inner.local.localHeader()) + len(inner.data)
	bomb := append(bytes.Clone(dir[:start]), dir[start+cut:]...)
	requireRefused(t, bomb, channel.Zip, "", "inner", `overlaps "outer"`)
	_, err := read(t, after, channel.Zip)
	require.NoError(t, err)
}

func TestZipDamaged(t *testing.T) {
	x := func() *zipEntry { return deflated("x", strings.Repeat("content ", 100)) }
	with := func(change func(*zipEnd)) []byte { return zipRaw(change, x()) }
	whole := with(nil)
	_, err := read(t, whole, channel.Zip)
	require.NoError(t, err)
	_, err = read(t, with(func(e *zipEnd) { e.comment = "a comment" }), channel.Zip)
	require.NoError(t, err)
	end := whole[len(whole)-22:]
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"nothing":              {nil, "end of central directory"},
		"text":                 {[]byte("text"), "end of central directory"},
		"cut":                  {whole[:len(whole)-1], "end of central directory"},
		"something after it":   {append(bytes.Clone(whole), "x"...), "end of central directory"},
		"something before it":  {append([]byte("#!/bin/sh\n"), whole...), "is not where it should be"},
		"two ends":             {with(func(e *zipEnd) { e.comment = string(end) + "x" }), "end of central directory"},
		"an end in the other":  {with(func(e *zipEnd) { e.comment = string(end) }), "is not where it should be"},
		"several disks":        {with(func(e *zipEnd) { e.disk = 1 }), "one part of several"},
		"entry on a disk":      {zipRaw(nil, x().with(func(e *zipEntry) { e.disk = 1 })), "one part of several"},
		"fewer records":        {zipRaw(func(e *zipEnd) { e.here, e.total = 1, 1 }, x(), stored("y", 0o644, "")), "longer than it should be"},
		"more records":         {with(func(e *zipEnd) { e.here, e.total = 2, 2 }), "does not have the size"},
		"directory elsewhere":  {with(func(e *zipEnd) { e.offset-- }), "is not where it should be"},
		"directory size":       {with(func(e *zipEnd) { e.size++ }), "is not where it should be"},
		"zip64 without":        {with(func(e *zipEnd) { e.offset = 0xffffffff }), "zip64 record is missing"},
		"checksum":             {zipRaw(nil, x().both(func(h *zipHeader) { h.crc++ })), "a checksum is wrong"},
		"longer than it says":  {zipRaw(nil, x().both(func(h *zipHeader) { h.size-- })), "is longer than its header says"},
		"shorter than it says": {zipRaw(nil, x().both(func(h *zipHeader) { h.size++ })), "unexpected EOF"},
		"packed data cut":      {zipRaw(nil, x().both(func(h *zipHeader) { h.packed-- })), "unexpected EOF"},
		"directory damaged":    {bytes.Replace(whole, []byte("PK\x01\x02"), []byte("PK\x01\x03"), 1), "directory is damaged"},
	} {
		_, err := read(t, c.data, channel.Zip)
		var damaged *archive.FormatError
		require.ErrorAs(t, err, &damaged, name)
		require.ErrorContains(t, err, c.want, name)
	}
}

// zip64 is read wherever a tool writes it, and its numbers agree with the others.
func TestZip64(t *testing.T) {
	plain := func() *zipEntry { return stored("x", 0o100644, "content") }
	big := plain().both(func(h *zipHeader) {
		h.packed, h.size, h.extra = 0xffffffff, 0xffffffff, le(uint16(1), uint16(16), uint64(7), uint64(7))
	})
	build := func(change func(end64, locator []any)) []byte {
		data := zipRaw(func(e *zipEnd) { e.here, e.total, e.size, e.offset = 0xffff, 0xffff, 0xffffffff, 0xffffffff }, big)
		body := data[:len(data)-22]
		dir := bytes.Index(body, []byte("PK\x01\x02"))
		end64 := []any{uint32(0x06064b50), uint64(44), uint16(45), uint16(45), uint32(0), uint32(0), uint64(1), uint64(1), uint64(len(body) - dir), uint64(dir)}
		locator := []any{uint32(0x07064b50), uint32(0), uint64(len(body)), uint32(1)}
		if change != nil {
			change(end64, locator)
		}
		return []byte(string(body) + le(end64...) + le(locator...) + string(data[len(data)-22:]))
	}
	got, err := read(t, build(nil), channel.Zip)
	require.NoError(t, err)
	require.Equal(t, []seen{{archive.Member{Path: "x", Mode: 0o644, Size: 7}, "content"}}, got)
	for name, change := range map[string]func(end64, locator []any){
		"signature": func(e, _ []any) { e[0] = uint32(0) },
		"size":      func(e, _ []any) { e[1] = uint64(45) },
		"disk":      func(e, _ []any) { e[4] = uint32(1) },
		"records":   func(e, _ []any) { e[6] = uint64(2) },
		"negative":  func(e, _ []any) { e[6], e[7] = uint64(1<<63), uint64(1<<63) },
		"offset":    func(e, _ []any) { e[9] = uint64(1) },
		"locator":   func(_, l []any) { l[2] = uint64(1) },
		"disks":     func(_, l []any) { l[3] = uint32(2) },
	} {
		_, err := read(t, build(change), channel.Zip)
		var damaged *archive.FormatError
		require.ErrorAs(t, err, &damaged, name)
	}
}

func TestZipAccepted(t *testing.T) {
	fat := stored("x", 0, "a").with(func(e *zipEntry) { e.creator, e.attributes = 0, 1 })                                                     // read-only
	empty := stored("d/", 0o40755, "").both(func(h *zipHeader) { h.method, h.packed = 8, 2 }).with(func(e *zipEntry) { e.data = "\x03\x00" }) // as jar does
	dotted := stored("./y", 0o100600, "b")
	got, err := read(t, zipRaw(nil, stored("./", 0o40755, ""), fat, empty, dotted, stored("._y", 0o100644, "c")), channel.Zip)
	require.NoError(t, err)
	require.Equal(t, []seen{
		{archive.Member{Path: "x", Mode: 0o444, Size: 1}, "a"},
		{archive.Member{Path: "d", Kind: archive.Folder, Mode: fs.FileMode(0o755)}, ""},
		{archive.Member{Path: "y", Mode: 0o600, Size: 1}, "b"},
		{archive.Member{Path: "._y", Mode: 0o644, Size: 1}, "c"},
	}, got)
}
