package archive

import (
	"archive/zip"
	"bufio"
	"bytes"
	"cmp"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"
	"slices"
	"strings"
)

// The zip format: PKWARE's APPNOTE.TXT, 6.3.10; sections are named where they are read.

const (
	localLen, directoryLen, endLen          = 30, 46, 22
	end64Len, locatorLen                    = 56, 20
	localSig, directorySig                  = 0x04034b50, 0x02014b50
	endSig, end64Sig, locatorSig            = 0x06054b50, 0x06064b50, 0x07064b50
	max16, max32                            = 1<<16 - 1, 1<<32 - 1
	flagEncrypted, flagDescriptor           = 1 << 0, 1 << 3
	flagPatch, flagStrong, flagMasked       = 1 << 5, 1 << 6, 1 << 13
	extraZip64, extraUnicodePath            = 0x0001, 0x7075
	maxDirectoryEntry                 int64 = directoryLen + 3*max16
)

// A zipEntry is a member as the central directory has it.
type zipEntry struct {
	zipSizes
	name          string
	flags, method uint16
	crc           uint32
	member        Member
	root          bool
	start         int64 // of the content; offset is where the local header is
}

// zip reads and checks the whole directory before it shows any member. It holds no more entries than the limits
// allow.
func (w *walk) zip(size int64) error {
	end, err := w.zipEnd(size)
	if err != nil {
		return err
	}
	entries, err := w.zipDirectory(end)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := w.zipLocal(e, end.offset); err != nil {
			return err
		}
	}
	if err := apart(entries); err != nil {
		return err
	}
	inflate := flate.NewReader(nil)
	for _, e := range entries {
		if e.root {
			continue
		}
		content := w.zipContent(e, inflate)
		if e.member.Kind == Link {
			target, err := io.ReadAll(&contentReader{w: w, r: content, left: e.size})
			if err != nil {
				return err
			}
			e.member.Link, content = string(target), bytes.NewReader(nil)
		}
		if err := w.show(e.member, e.name, content); err != nil {
			return err
		}
	}
	return nil
}

// zipEnd is what the end of the file says about the central directory (4.3.14 to 4.3.16).
type zipEnd struct{ records, size, offset int64 }

// zipEnd reads the end record. It is the last thing in the file, the directory ends where it begins, and there is only
// one way to find it: files with something before or after them, or a second end record in the comment, are
// different archives for different readers.
func (w *walk) zipEnd(size int64) (end zipEnd, err error) {
	tail := make([]byte, max(0, min(size, endLen+max16)))
	if err := w.fullAt(tail, size-int64(len(tail))); err != nil {
		return end, err
	}
	i := bytes.LastIndex(tail, binary.LittleEndian.AppendUint32(nil, endSig))
	if i < 0 || len(tail)-i < endLen || len(tail)-i-endLen != int(u16(tail[i+20:])) {
		return end, errors.New("it does not end in an end of central directory record")
	}
	b := tail[i:]
	end = zipEnd{records: int64(u16(b[10:])), size: int64(u32(b[12:])), offset: int64(u32(b[16:]))}
	at := size - int64(len(b)) // where the directory has to end
	if u16(b[4:]) != 0 || u16(b[6:]) != 0 || u16(b[8:]) != u16(b[10:]) {
		return end, errors.New("it is one part of several")
	}
	if i >= locatorLen && u32(tail[i-locatorLen:]) == locatorSig {
		at, err = w.zipEnd64(tail[i-locatorLen:i], at-locatorLen, &end)
		if err != nil {
			return end, err
		}
	} else if end.records == max16 || end.size == max32 || end.offset == max32 {
		return end, errors.New("its zip64 record is missing")
	}
	if end.offset < 0 || end.size < 0 || end.size > at || end.offset != at-end.size {
		return end, errors.New("its central directory is not where it should be")
	}
	if end.records > end.size/directoryLen || end.size > end.records*maxDirectoryEntry {
		return end, errors.New("its central directory does not have the size it should have")
	}
	return end, nil
}

// zipEnd64 reads the zip64 end record, which ends at limit, and returns where it begins.
func (w *walk) zipEnd64(locator []byte, limit int64, end *zipEnd) (int64, error) {
	wrong := errors.New("its zip64 record is not what it should be")
	at := limit - end64Len
	if at < 0 || u32(locator[4:]) != 0 || u64(locator[8:]) != at || u32(locator[16:]) > 1 {
		return 0, wrong
	}
	b := make([]byte, end64Len)
	if err := w.fullAt(b, at); err != nil {
		return 0, err
	}
	if u32(b) != end64Sig || u64(b[4:]) != end64Len-12 || u32(b[16:]) != 0 || u32(b[20:]) != 0 || u64(b[24:]) != u64(b[32:]) {
		return 0, wrong
	}
	e := zipEnd{records: u64(b[32:]), size: u64(b[40:]), offset: u64(b[48:])}
	if (end.records != max16 && end.records != e.records) || (end.size != max32 && end.size != e.size) || (end.offset != max32 && end.offset != e.offset) ||
		e.records < 0 || e.records > 1<<32 {
		return 0, wrong
	}
	*end = e
	return at, nil
}

// zipDirectory reads the central directory (4.3.12), and admits every member in it.
func (w *walk) zipDirectory(end zipEnd) ([]*zipEntry, error) {
	r := bufio.NewReader(io.NewSectionReader(w, end.offset, end.size))
	var entries []*zipEntry
	buf := make([]byte, maxDirectoryEntry)
	for range end.records {
		b := buf[:directoryLen]
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, err
		}
		if u32(b) != directorySig {
			return nil, errors.New("its central directory is damaged")
		}
		e := &zipEntry{flags: u16(b[8:]), method: u16(b[10:]), crc: u32(b[16:])}
		e.zipSizes = zipSizes{packed: int64(u32(b[20:])), size: int64(u32(b[24:])), offset: int64(u32(b[42:]))}
		nameLen, extraLen := int(u16(b[28:])), int(u16(b[30:]))
		disk := u16(b[34:])
		attributes := zip.FileHeader{CreatorVersion: u16(b[4:]), ExternalAttrs: u32(b[38:])}
		rest := buf[directoryLen:][:nameLen+extraLen+int(u16(b[32:]))]
		if _, err := io.ReadFull(r, rest); err != nil {
			return nil, err
		}
		e.name = string(rest[:nameLen])
		if disk != 0 {
			return nil, errors.New("it is one part of several")
		}
		if err := e.extra(rest[nameLen:][:extraLen], e.name); err != nil {
			return nil, err
		}
		attributes.Name = e.name
		if err := w.zipAdmit(e, attributes.Mode()); err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	if _, err := r.ReadByte(); err != io.EOF {
		return nil, errors.Join(errors.New("its central directory is longer than it should be"), err)
	}
	return entries, nil
}

func (w *walk) zipAdmit(e *zipEntry, mode fs.FileMode) (err error) {
	refuse := func(why string) error { return &MemberError{e.name, why} }
	const only = "; only files, folders and symbolic links are installed"
	folder := strings.HasSuffix(e.name, "/") // and then mode has ModeDir
	switch kind := mode.Type(); {
	case kind == fs.ModeDir && folder:
		e.member.Kind = Folder
	case kind == 0:
	case kind == fs.ModeSymlink:
		e.member.Kind = Link
	case folder:
		return refuse("is not a folder, but has the name of one")
	case kind == fs.ModeDir: // a file for those who go by the name
		return refuse("is a folder without a slash at its end")
	default:
		return refuse("is a device, a FIFO or a socket" + only)
	}
	switch {
	case e.flags&(flagEncrypted|flagStrong|flagMasked) != 0:
		return refuse("is encrypted")
	case (e.method != zip.Store && e.method != zip.Deflate) || e.flags&flagPatch != 0:
		return refuse(fmt.Sprintf("is packed with method %d; only 0 (stored) and 8 (deflated) are read", e.method))
	case e.method == zip.Store && e.packed != e.size:
		return refuse(fmt.Sprintf("is stored as %d bytes, and unpacks to %d", e.packed, e.size))
	case folder && e.size != 0:
		return refuse(fmt.Sprintf("is not a file, and has a size of %d bytes", e.size))
	case e.member.Kind == Link && e.size > maxLinkTarget:
		return refuse(fmt.Sprintf("is a symbolic link of more than %d bytes", maxLinkTarget))
	}
	if e.member.Kind == File {
		e.member.Size = e.size
	}
	e.root, err = w.admit(&e.member, e.name, mode)
	return err
}

// zipLocal compares the local header (4.3.7), which readers of streams go by, with the directory's, and finds where the
// content begins. limit is where the directory begins.
func (w *walk) zipLocal(e *zipEntry, limit int64) error {
	refuse := func(why string) error { return &MemberError{e.name, why} }
	if e.offset < 0 || e.offset > limit-localLen {
		return refuse("is not inside of the archive")
	}
	b := make([]byte, localLen)
	if err := w.fullAt(b, e.offset); err != nil {
		return err
	}
	if u32(b) != localSig {
		return refuse("has no local header")
	}
	nameLen, extraLen := int(u16(b[26:])), int(u16(b[28:]))
	rest := make([]byte, nameLen+extraLen)
	e.start = e.offset + localLen + int64(len(rest))
	if e.packed < 0 || e.start > limit || e.packed > limit-e.start {
		return refuse("is not inside of the archive")
	}
	if err := w.fullAt(rest, e.offset+localLen); err != nil {
		return err
	}
	local := zipSizes{packed: int64(u32(b[18:])), size: int64(u32(b[22:]))}
	if name := string(rest[:nameLen]); name != e.name {
		return refuse(fmt.Sprintf("is named %.256q in its local header", name))
	}
	if err := local.extra(rest[nameLen:], e.name); err != nil {
		return err
	}
	flags, method, crc := u16(b[6:]), u16(b[8:]), u32(b[14:])
	if method != e.method || (flags^e.flags)&(flagEncrypted|flagStrong|flagMasked|flagPatch|flagDescriptor) != 0 {
		return refuse("is packed in another way by its local header")
	}
	same := crc == e.crc && local.packed == e.packed && local.size == e.size
	// With a descriptor behind the content the fields are 0 (4.4.4), or what was known before.
	unknown := flags&flagDescriptor != 0 && (crc == 0 || crc == e.crc) &&
		(local.packed == 0 || local.packed == e.packed) && (local.size == 0 || local.size == e.size)
	if !same && !unknown {
		return refuse("has another size or checksum in its local header")
	}
	return nil
}

// apart refuses entries that share bytes: so a small file unpacks to petabytes (Fifield, "A better zip bomb").
func apart(entries []*zipEntry) error {
	sorted := slices.SortedFunc(slices.Values(entries), func(a, b *zipEntry) int { return cmp.Compare(a.offset, b.offset) })
	for i := 1; i < len(sorted); i++ {
		if a, b := sorted[i-1], sorted[i]; a.start+a.packed > b.offset {
			return &MemberError{b.name, fmt.Sprintf("overlaps %.256q", a.name)}
		}
	}
	return nil
}

func (w *walk) zipContent(e *zipEntry, inflate io.Reader) io.Reader {
	var r io.Reader = io.NewSectionReader(w, e.start, e.packed)
	if e.method == zip.Deflate && e.packed > 0 { // some tools write empty folders as deflated
		_ = inflate.(flate.Resetter).Reset(bufio.NewReader(r), nil) // without a dictionary it does not fail
		r = inflate
	}
	return &crcReader{r: r, sum: crc32.NewIEEE(), want: e.crc}
}

// A crcReader ends only where the checksum is right.
type crcReader struct {
	r    io.Reader
	sum  hash.Hash32
	want uint32
}

func (c *crcReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	_, _ = c.sum.Write(p[:n])
	if err == io.EOF && c.sum.Sum32() != c.want {
		err = errors.New("a checksum is wrong")
	}
	return n, err
}

// zipSizes are the numbers that a zip64 extra field holds if a header cannot (4.5.3).
type zipSizes struct{ packed, size, offset int64 }

// extra reads the extra fields (4.5) of a header whose own numbers s holds.
func (s *zipSizes) extra(b []byte, name string) error {
	done := false
	for len(b) >= 4 {
		id, n := u16(b), int(u16(b[2:]))
		if n > len(b)-4 {
			break // some tools pad with anything
		}
		field := b[4 : 4+n]
		b = b[4+n:]
		switch {
		case id == extraZip64 && done:
			return &MemberError{name, "has its sizes twice"}
		case id == extraZip64:
			done = true
			for _, number := range []*int64{&s.size, &s.packed, &s.offset} { // in this order, and only those that are needed
				if *number != max32 {
					continue
				}
				if len(field) < 8 {
					return &MemberError{name, "has a zip64 field that is too short"}
				}
				*number, field = u64(field), field[8:]
			}
		case id == extraUnicodePath && n > 5 && string(field[5:]) != name: // 4.6.9
			return &MemberError{name, fmt.Sprintf("is named %.256q in an extra field", field[5:])}
		}
	}
	if s.size < 0 || s.packed < 0 || s.offset < 0 || (!done && (s.size == max32 || s.packed == max32 || s.offset == max32)) {
		return &MemberError{name, "has sizes that cannot be"}
	}
	return nil
}

func (w *walk) fullAt(p []byte, offset int64) error {
	n, err := w.ReadAt(p, offset)
	if n == len(p) {
		return nil
	}
	return err
}

func u16(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }
func u32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }

// u64 reads a number that has to fit an offset; one that does not is negative, and refused as that.
func u64(b []byte) int64 { return int64(binary.LittleEndian.Uint64(b)) }
