package license

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

const (
	maxFiles   = 64   // licences that a folder may have
	maxEntries = 4096 // files of any kind in it
)

// A Source is a place where a [Store] looks for licences: [File], [Folder], [Env], [Token], or one of the app's own, say a
// row of its database.
type Source interface {
	// Load returns what is there now. Nothing being there is no error. What could be had is returned beside the error of
	// what could not; several errors are joined with errors.Join. It is called at every look, once a minute or more often,
	// so it must not wait for a network. A Store makes one call at a time.
	Load(ctx context.Context) ([]Found, error)
}

// Found is a token, as yet unread, and where it was.
type Found struct {
	Name  string // for people: "the file /etc/acme.license"; without the token
	Token []byte // bare or in armour; white space only counts as none
}

// File is a file that holds a licence, bare or in armour, of at most 64 KiB. Links are followed.
func File(path string) Source { return file(path) }

type file string

func (f file) Load(context.Context) ([]Found, error) {
	token, err := readFile(string(f))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, &unreadError{f.name(), fmt.Errorf("license: the licence file cannot be read: %w", err)}
	}
	return []Found{{Name: f.name(), Token: token}}, nil
}

func (f file) name() string { return "the file " + string(f) }

// An unreadError is about one licence, by the name of its Found, and hides no other.
type unreadError struct {
	name string // "": it hides none
	err  error
}

func (e *unreadError) Error() string { return e.err.Error() }
func (e *unreadError) Unwrap() error { return e.err }

// hides reports whether the error of a source may be why the licence of that name was not found. One that does not say what
// it is about may hide any.
func hides(err error, name string) bool {
	switch err := err.(type) {
	case nil:
		return false
	case *unreadError:
		return err.name == name
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(err.Unwrap(), func(err error) bool { return hides(err, name) })
	}
	return true
}

// readFile reads one byte more than a token may have, so that Parse sees that it is too long.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path) // opening some devices does something
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // what became a named pipe since would wait for a writer
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s is not a regular file", path))
	}
	return io.ReadAll(io.LimitReader(f, maxInput+1))
}

// Folder is a folder whose files *.license and *.jwt each hold a licence, in the order of their names. Files whose names
// begin with a dot are left out. Of more than 64 the first count, and the others are an error.
func Folder(path string) Source { return folder(path) }

type folder string

func (f folder) Load(ctx context.Context) ([]Found, error) {
	names, err := f.names()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	errs := []error{err}
	if len(names) > maxFiles {
		err := fmt.Errorf("license: the folder %s has %d licences: only the first %d are read", f, len(names), maxFiles)
		errs = append(errs, &unreadError{"", err})
		names = names[:maxFiles]
	}
	var found []Found
	for _, name := range names {
		if ctx.Err() != nil {
			return found, errors.Join(append(errs, ctx.Err())...)
		}
		got, err := File(filepath.Join(string(f), name)).Load(ctx)
		found, errs = append(found, got...), append(errs, err)
	}
	return found, errors.Join(errs...)
}

func (f folder) names() ([]string, error) {
	dir, err := os.Open(string(f))
	if err != nil {
		return nil, fmt.Errorf("license: the folder of licences cannot be read: %w", err)
	}
	defer func() { _ = dir.Close() }()
	entries, err := dir.Readdirnames(maxEntries + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("license: the folder of licences cannot be read: %w", err)
	}
	if len(entries) > maxEntries {
		return nil, fmt.Errorf("license: the folder %s has more than %d files: give licences a folder of their own", f, maxEntries)
	}
	var names []string
	for _, name := range entries {
		ext := strings.ToLower(filepath.Ext(name))
		if (ext == ".license" || ext == ".jwt") && !strings.HasPrefix(name, ".") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Env is an environment variable that holds a licence. It is read at every look.
func Env(name string) Source { return env(name) }

type env string

func (e env) Load(context.Context) ([]Found, error) {
	value, ok := os.LookupEnv(string(e))
	if !ok {
		return nil, nil
	}
	return []Found{{Name: "the environment variable " + string(e), Token: []byte(value)}}, nil
}

// Token is a licence that the app has itself, embedded or from its own configuration. The name tells people where: "the
// evaluation licence".
func Token(name string, token []byte) Source { return Found{name, bytes.Clone(token)} }

// Load makes a Found a Source of itself.
func (f Found) Load(context.Context) ([]Found, error) { return []Found{f}, nil }
