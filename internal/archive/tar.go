package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
)

// The tar format: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Interchange Format"; the GNU tar manual, "Basic
// Tar Format" and "Storing Sparse Files".

const (
	blockSize   = 512
	maxExtended = 1 << 20       // bytes of one extended header, as in libarchive and archive/tar
	maxOctal    = 0o77777777777 // the largest size, 8 GiB - 1, that a ustar header expresses
)

func (w *walk) tar(stream io.Reader) error {
	t := &tarReader{r: stream, overhead: spareBytes + headerBytes*int64(w.limits.Files)}
	for {
		if w.ctx.Err() != nil {
			return w.ctx.Err()
		}
		h, err := t.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		m := Member{Size: h.size}
		if m.Kind, err = h.kind(); err != nil {
			return err
		}
		if m.Kind == Link {
			m.Link = h.link
		}
		root, err := w.admit(&m, h.name, h.fileMode())
		if err == nil && !root {
			err = w.show(m, h.name, io.LimitReader(t.r, h.size))
		}
		if err == nil {
			err = t.skip(-h.size & (blockSize - 1))
		}
		if err != nil {
			return err
		}
	}
}

// A tarReader reads the headers of a tar stream; the caller reads the content in between.
type tarReader struct {
	r        io.Reader
	overhead int64 // bytes that may still be read besides content
	buf      [blockSize]byte
}

// A tarHeader is what a member's own header and the extended headers before it say.
type tarHeader struct {
	name, link string
	typ        byte
	mode, size int64
}

func (h *tarHeader) fileMode() fs.FileMode {
	mode := fs.FileMode(h.mode & 0o777)
	if h.mode&0o4000 != 0 {
		mode |= fs.ModeSetuid
	}
	if h.mode&0o2000 != 0 {
		mode |= fs.ModeSetgid
	}
	if h.mode&0o1000 != 0 {
		mode |= fs.ModeSticky
	}
	return mode
}

func (h *tarHeader) kind() (Kind, error) {
	refuse := func(why string) (Kind, error) { return 0, &MemberError{h.name, why} }
	const only = "; only files, folders and symbolic links are installed"
	slash := strings.HasSuffix(h.name, "/")
	kind := File
	switch h.typ {
	case '0':
		if slash { // a folder for some readers
			return refuse("is a file with the name of a folder")
		}
	case 0:
		if slash { // before ustar there was no other way to write a folder
			kind = Folder
		}
	case '5':
		kind = Folder
	case '2':
		kind = Link
	case '1':
		return refuse("is a hard link" + only)
	case '3', '4':
		return refuse("is a device" + only)
	case '6':
		return refuse("is a FIFO" + only)
	case 'S':
		return refuse("is a sparse file; pack it without --sparse")
	default:
		return refuse(fmt.Sprintf("is of type %q%s", h.typ, only))
	}
	if kind != File && h.size != 0 { // some readers take what follows for its content, others for the next header
		return refuse(fmt.Sprintf("is not a file, and has a size of %d bytes", h.size))
	}
	return kind, nil
}

// next reads up to the content of the next member. At the end of the archive it is io.EOF, and the stream was read to
// its end.
func (t *tarReader) next() (*tarHeader, error) {
	var x extension
	for {
		block, err := t.block()
		if err != nil {
			return nil, err
		}
		if block == nil {
			if x.any() {
				return nil, errors.New("it ends after an extended header")
			}
			return nil, t.end()
		}
		h, err := parseBlock(block)
		if err != nil {
			return nil, err
		}
		switch h.typ {
		case 'x', 'g', 'L', 'K':
			body, err := t.extended(h)
			if err != nil {
				return nil, err
			}
			if err := x.add(h, body); err != nil {
				return nil, err
			}
		default:
			return h, x.apply(h)
		}
	}
}

// block reads a header, or nil if it is a block of zeros.
func (t *tarReader) block() ([]byte, error) {
	if err := t.full(t.buf[:]); err != nil {
		return nil, err
	}
	if t.buf == [blockSize]byte{} {
		return nil, nil
	}
	return t.buf[:], nil
}

func (t *tarReader) full(p []byte) error {
	if t.overhead -= int64(len(p)); t.overhead < 0 {
		return errors.New("its headers are longer than that many files account for")
	}
	_, err := io.ReadFull(t.r, p)
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (t *tarReader) skip(padding int64) error {
	return t.full(t.buf[:padding])
}

// end reads the second block of zeros and whatever a tool filled the last record with. Without the two blocks the
// archive was cut off between two members; and other readers go on after them (tar --ignore-zeros), so nothing may
// follow.
func (t *tarReader) end() error {
	block, err := t.block()
	follows := block != nil
	for err == nil && !follows {
		var n int
		n, err = t.r.Read(t.buf[:])
		if t.overhead -= int64(n); t.overhead < 0 {
			return errors.New("it is padded without end")
		}
		follows = len(bytes.Trim(t.buf[:n], "\x00")) > 0
	}
	if follows {
		return errors.New("something follows its end")
	}
	return err
}

func (t *tarReader) extended(h *tarHeader) (string, error) {
	if h.size > maxExtended {
		return "", fmt.Errorf("an extended header is %d bytes long", h.size)
	}
	body := make([]byte, (h.size+blockSize-1)/blockSize*blockSize)
	err := t.full(body)
	return string(body[:h.size]), err
}

func parseBlock(b []byte) (*tarHeader, error) {
	if !checksum(b) {
		return nil, errors.New("a header's checksum is wrong")
	}
	h := &tarHeader{name: text(b[:100]), link: text(b[157:257]), typ: b[156]}
	var err1, err2 error
	h.mode, err1 = number(b[100:108])
	h.size, err2 = number(b[124:136])
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("the header of %.100q: %w", h.name, err)
	}
	prefix := ""
	switch {
	case string(b[257:263]) == "ustar\x00" && string(b[508:512]) == "tar\x00": // star
		prefix = text(b[345:476])
	case string(b[257:263]) == "ustar\x00":
		prefix = text(b[345:500])
	case string(b[257:265]) == "ustar  \x00": // GNU has times there. Some take for a prefix what is no time
		for _, time := range [][]byte{b[345:357], b[357:369]} {
			if _, err := number(time); err != nil && time[0] != 0 {
				return nil, fmt.Errorf("the header of %.100q: %w", h.name, err)
			}
		}
	}
	if prefix != "" {
		h.name = prefix + "/" + h.name
	}
	return h, nil
}

// checksum takes the sum of unsigned bytes, which is right, and that of signed ones, which old tools wrote.
func checksum(b []byte) bool {
	var unsigned, signed int64
	for i, c := range b {
		if i >= 148 && i < 156 {
			c = ' '
		}
		unsigned, signed = unsigned+int64(c), signed+int64(int8(c))
	}
	sum, err := number(b[148:156])
	return err == nil && (sum == unsigned || sum == signed)
}

func text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// number reads an octal number, or one in GNU's base 256, which has the first bit set. None of those read may be
// negative.
func number(b []byte) (int64, error) {
	if b[0]&0x80 != 0 {
		n := int64(b[0] & 0x7f)
		for _, c := range b[1:] {
			if n >= 1<<55 {
				return 0, errors.New("a number is too large, or negative")
			}
			n = n<<8 | int64(c)
		}
		return n, nil
	}
	digits := strings.Trim(string(b), " \x00")
	if digits == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(digits, 8, 63)
	if err != nil {
		return 0, fmt.Errorf("%q is no octal number", digits)
	}
	return int64(n), nil
}

// An extension is what extended headers say about the member that follows them.
type extension struct {
	path, link, size *string
	pax, sparse      bool
}

func (x *extension) any() bool { return x.pax || x.path != nil || x.link != nil }

func (x *extension) add(h *tarHeader, body string) error {
	switch h.typ {
	case 'L':
		return set(&x.path, "path", strings.TrimRight(body, "\x00"))
	case 'K':
		return set(&x.link, "linkpath", strings.TrimRight(body, "\x00"))
	case 'g':
		if x.any() { // whether it ends what was said before is not agreed
			return &MemberError{h.name, "is a global header between a member and its extended header"}
		}
		return records(body, func(key, value string) error {
			if key == "path" || key == "linkpath" || key == "size" || isSparse(key) {
				return &MemberError{h.name, fmt.Sprintf("is a global header that gives every member the same %s", key)}
			}
			return nil // such as the comment that git archive writes
		})
	}
	if x.pax {
		return &MemberError{h.name, "is a second extended header for one member"}
	}
	x.pax = true
	return records(body, func(key, value string) error {
		switch {
		case key == "path":
			return set(&x.path, key, value)
		case key == "linkpath":
			return set(&x.link, key, value)
		case key == "size":
			return set(&x.size, key, value)
		case isSparse(key):
			x.sparse = true
		}
		return nil // times, owners, extended attributes: not installed
	})
}

// isSparse reports whether a PAX record says that the content is not the file: GNU tar's, those of star and Solaris.
func isSparse(key string) bool {
	return strings.HasPrefix(key, "GNU.sparse.") || key == "SCHILY.realsize" || key == "SUN.holesdata"
}

// set refuses a second value, and an empty one: some readers take the first, others the last, or the header's.
func set(field **string, key, value string) error {
	if *field != nil {
		return &MemberError{value, fmt.Sprintf("is a second %s for one member", key)}
	}
	if value == "" {
		return &MemberError{value, fmt.Sprintf("is an empty %s", key)}
	}
	*field = &value
	return nil
}

// records walks through PAX records, "LENGTH KEY=VALUE\n" each.
func records(body string, each func(key, value string) error) error {
	wrong := errors.New("an extended header is malformed")
	for body != "" {
		digits, rest, ok := strings.Cut(body, " ")
		n, err := strconv.ParseUint(digits, 10, 31)
		if !ok || err != nil || int(n) <= len(digits)+1 || int(n) > len(body) {
			return wrong
		}
		record := rest[:int(n)-len(digits)-1]
		body = body[n:]
		key, value, ok := strings.Cut(strings.TrimSuffix(record, "\n"), "=")
		if !ok || key == "" || !strings.HasSuffix(record, "\n") || strings.Contains(key, "\x00") {
			return wrong
		}
		if err := each(key, value); err != nil {
			return err
		}
	}
	return nil
}

func (x *extension) apply(h *tarHeader) error {
	if x.path != nil {
		h.name = *x.path
	}
	if x.link != nil {
		h.link = *x.link
	}
	if x.sparse {
		return &MemberError{h.name, "is a sparse file; pack it without --sparse"}
	}
	if x.size == nil {
		return nil
	}
	n, err := strconv.ParseUint(*x.size, 10, 63)
	if err != nil {
		return &MemberError{h.name, fmt.Sprintf("has the size %.32q", *x.size)}
	}
	// A reader that does not know PAX goes on where the header says: the two must agree, unless the header cannot
	// express the size, and has what tools write then.
	if size := int64(n); size != h.size && (size <= maxOctal || (h.size != 0 && h.size != maxOctal)) {
		return &MemberError{h.name, fmt.Sprintf("has two sizes: %d bytes in its header, %d in the extended header", h.size, size)}
	}
	h.size = int64(n)
	return nil
}
