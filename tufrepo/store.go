package tufrepo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"

	"github.com/fairlead-dev/fairlead/channel"
)

// A Store is where the files of a repository are put: a folder ([Dir]), an object store. Names are slash-separated
// and relative, such as metadata/timestamp.json. Its methods may be called at once.
type Store interface {
	// Get opens a file and says which revision of it. The error is fs.ErrNotExist, possibly wrapped, if there is
	// none. It must never be stale: a file that Put returned for is seen by the next Get of anybody.
	Get(ctx context.Context, name string) (io.ReadCloser, Revision, error)

	// Put writes a file, whole or not at all: if content fails, or the context ends, or the process dies, a reader
	// finds what was there before. On return with nil the file is durable. If cond is not met, nothing is changed
	// and the error is ErrConflict, possibly wrapped; of two calls at once with the same condition one gets it.
	//
	// The content of a blob can also be read again from its beginning (io.Seeker), and has a method Blob() channel.Blob
	// that says what it should be; reading it fails at its end if it is not.
	Put(ctx context.Context, name string, content io.Reader, cond Condition) (Revision, error)

	// List names the files whose names start with prefix, in any order. An empty list is no error.
	List(ctx context.Context, prefix string) ([]string, error)
}

// A BlobChecker is a [Store] that can tell without reading a file whether it is the blob that belongs there. Commit uses
// it, where there is one, to send no blob twice, and to find blobs that are there but damaged.
type BlobChecker interface {
	// CheckBlob compares the file's length with b's, and its SHA-256 if the store keeps one. The error is ErrDamaged,
	// possibly wrapped, if it is another file, and else as for Store.Get. If open is not nil it gives the blob as it
	// should be, for a store whose hashes are not of the whole.
	CheckBlob(ctx context.Context, name string, b channel.Blob, open func() (io.ReadCloser, error)) error
}

// A Revision is an opaque mark of one content of a file, such as an ETag. "" means that there is no file.
type Revision string

// A Condition says when Put may write. The zero value is [Always].
type Condition struct {
	absent   bool
	revision Revision
}

// Always is met always: the file is replaced.
func Always() Condition { return Condition{} }

// IfAbsent is met if there is no file of that name.
func IfAbsent() Condition { return Condition{absent: true} }

// IfRevision is met if the file still is at revision r; IfRevision("") is IfAbsent.
func IfRevision(r Revision) Condition { return Condition{absent: r == "", revision: r} }

// Absent reports whether there must be no file. (For implementations of [Store].)
func (c Condition) Absent() bool { return c.absent }

// Revision returns the revision that the file must be at, or "" if any will do. (For implementations of [Store].)
func (c Condition) Revision() Revision { return c.revision }

// ErrConflict says that the condition of a Put was not met. From [Repo.Commit] it means that somebody else published
// meanwhile: nothing visible was changed; open the repository again and repeat the edits.
var ErrConflict = errors.New("the file was changed by somebody else")

// ErrDamaged says that a file is not the one that belongs under its name, see [BlobChecker].
var ErrDamaged = errors.New("the file is not what its name says")

// fileNameRE is what a path element may be: no element starts with a dot, so neither "..", nor hidden files, nor the
// temporary and lock files of Dir can be named.
var fileNameRE = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$`)

func checkFileName(name string) error {
	if len(name) > 512 || !fileNameRE.MatchString(name) || path.Clean(name) != name {
		return fmt.Errorf("tufrepo: %q is not the name of a repository's file", name)
	}
	return nil
}
