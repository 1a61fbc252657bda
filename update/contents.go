package update

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"path/filepath"
	"slices"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/delta"
	"github.com/fairlead-dev/fairlead/internal/disk"
)

// contents is where the files of a new version come from, by SHA-256: from the version in place, from a step between, or
// out of the last patch. Whatever it delivers is hashed on the way.
type contents struct {
	have     map[string]place
	recipes  map[string]recipe // of the last patch, for those that nobody has
	memory   int64             // that a patch may take
	progress func(n int)       // is told the bytes that were made; may be nil
}

// A place is a file that exists. What is at the end of it is not believed.
type place struct {
	disk disk.FS
	path string
}

// A recipe makes a file out of others.
type recipe struct {
	delta.TreeFile
	body  *io.SectionReader
	of    *channel.Patch // which has it
	order int            // in the patch: what it is made of may come before it there
}

// A patchError says which patch is to blame.
type patchError struct {
	patch *channel.Patch
	err   error
}

func (e *patchError) Error() string {
	return fmt.Sprintf("the patch %.12s from %.12s to %.12s %s", e.patch.SHA256, e.patch.From, e.patch.To, e.err)
}
func (e *patchError) Unwrap() error { return e.err }

// A baseError says that the version in place is not what the patch was made for: somebody has changed it.
type baseError struct{ sum string }

func (e *baseError) Error() string {
	return fmt.Sprintf("needs a file with sha256 %.12s, which the installed version does not have, or has no more", e.sum)
}

// write fills out with what f promises. The error is a [*VerifyError] if it is not that.
func (c *contents) write(ctx context.Context, f channel.File, out disk.File, buf []byte) error {
	if p, ok := c.have[f.SHA256]; ok {
		return c.copy(f, p, out, buf)
	}
	r, ok := c.recipes[f.SHA256]
	if !ok {
		return &baseError{f.SHA256}
	}
	return c.make(ctx, f, r, out)
}

// copy takes a file as it is. It is never given a second name instead, however cheap that would be: a program that writes
// into one of its files would then write into the version to go back to, as well. A clone is a file of its own.
func (c *contents) copy(f channel.File, p place, out disk.File, buf []byte) error {
	in, err := p.disk.Open(p.path)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	if disk.Clone(out, in) == nil {
		if _, err := out.Seek(0, io.SeekStart); err != nil {
			return err
		}
		return copyVerified(c.counter(io.Discard), out, f, buf)
	}
	return copyVerified(c.counter(out), in, f, buf)
}

// make follows a recipe.
func (c *contents) make(ctx context.Context, f channel.File, r recipe, out io.Writer) error {
	if f.Length != r.Length {
		return &patchError{r.of, &delta.FormatError{Format: r.Format, Err: fmt.Errorf("it makes %d bytes of %s, %d are signed", r.Length, f.Path, f.Length)}}
	}
	p := delta.Patch{Format: r.Format, Body: r.body, Length: r.Length, Memory: c.memory}
	for _, sum := range r.Bases {
		base, ok := c.have[sum]
		if !ok {
			return &patchError{r.of, &baseError{sum}}
		}
		in, err := base.disk.Open(base.path)
		if err != nil {
			return err
		}
		defer func() { _ = in.Close() }()
		info, err := in.Stat()
		if err != nil {
			return err
		}
		p.Bases = append(p.Bases, io.NewSectionReader(in, 0, info.Size()))
	}
	v := &verifying{w: c.counter(out), hash: sha256.New()}
	err := delta.Apply(ctx, v, p)
	if err == nil {
		err = v.check(f)
	}
	var format *delta.FormatError
	var memory *delta.MemoryError
	var wrong *VerifyError
	if errors.As(err, &format) || errors.As(err, &memory) || errors.As(err, &wrong) {
		err = &patchError{r.of, err}
	}
	return err
}

// note tells where a file is that was made: what stands twice in a version is made once.
func (c *contents) note(sum string, fsys disk.FS, path string) {
	if _, there := c.have[sum]; !there {
		c.have[sum] = place{fsys, path}
	}
}

// counter tells progress.
func (c *contents) counter(w io.Writer) io.Writer {
	if c.progress == nil {
		return w
	}
	return counter{w, c.progress}
}

type counter struct {
	w    io.Writer
	tell func(n int)
}

func (c counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.tell(n)
	return n, err
}

// verifying hashes what is written.
type verifying struct {
	w    io.Writer
	hash hash.Hash
	n    int64
}

func (v *verifying) Write(p []byte) (int, error) {
	n, err := v.w.Write(p)
	v.hash.Write(p[:n])
	v.n += int64(n)
	return n, err
}

func (v *verifying) check(f channel.File) error {
	got := hex.EncodeToString(v.hash.Sum(nil))
	if v.n == f.Length && got == f.SHA256 {
		return nil
	}
	more := ""
	if v.n > f.Length {
		more = " or more"
	}
	return &VerifyError{File: f.Path, Err: fmt.Errorf("has %d bytes%s with sha256 %s, %d bytes with %s are signed", v.n, more, got, f.Length, f.SHA256)}
}

// A step is what one patch makes, by SHA-256.
type step map[string]recipe

// openStep reads what a patch makes. length is that of the file that is made last, for a patch of a single one.
func openStep(p *channel.Patch, file io.ReaderAt, length int64) (step, error) {
	body := io.NewSectionReader(file, 0, p.Length)
	if p.Format != channel.Tree {
		f := delta.TreeFile{Blob: channel.Blob{SHA256: p.To, Length: length}, Format: p.Format, Bases: []string{p.From}}
		return step{p.To: {f, body, p, 0}}, nil
	}
	t, err := delta.OpenTree(body)
	if err != nil {
		return nil, err
	}
	s := step{}
	for i, f := range t.Files {
		s[f.SHA256] = recipe{f, t.Part(f), p, i}
	}
	return s, nil
}

// follow finds out, from the end, what has to be made in each step to get what is wanted out of what is there: only that
// is made, in the order of the result. The error is a [*patchError] if something is in none of the steps.
func follow(steps []step, last *channel.Patch, wanted []string, have map[string]place) (todo [][]recipe, err error) {
	todo = make([][]recipe, len(steps))
	needs := map[string]*channel.Patch{} // by whom
	for _, sum := range wanted {
		needs[sum] = last
	}
	for i := len(steps) - 1; i >= 0; i-- {
		todo[i], needs = steps[i].back(needs, have)
	}
	for _, sum := range slices.Sorted(maps.Keys(needs)) {
		if _, there := have[sum]; !there {
			if needs[sum] == nil { // there are no steps
				return nil, &baseError{sum}
			}
			return nil, &patchError{needs[sum], &baseError{sum}}
		}
	}
	return todo, nil
}

// back finds out what of a step is needed, and what of the steps before it.
func (s step) back(needs map[string]*channel.Patch, have map[string]place) (todo []recipe, before map[string]*channel.Patch) {
	before = map[string]*channel.Patch{}
	taken := map[string]bool{}
	for queue := slices.Sorted(maps.Keys(needs)); len(queue) > 0; {
		sum := queue[0]
		queue = queue[1:]
		r, made := s[sum]
		if _, there := have[sum]; there || taken[sum] {
			continue
		} else if !made {
			before[sum] = needs[sum]
			continue
		}
		taken[sum] = true
		todo = append(todo, r)
		for _, base := range r.Bases {
			if b, here := s[base]; here && b.order < r.order {
				queue = append(queue, base)
			} else {
				before[base] = r.of
			}
		}
	}
	slices.SortFunc(todo, func(a, b recipe) int { return cmp.Compare(a.order, b.order) })
	return todo, before
}

// split takes apart what others of a step are made of, and so has to be made before them.
func split(todo []recipe) (bases, rest []recipe) {
	used := map[string]bool{}
	for _, r := range todo {
		for _, base := range r.Bases {
			used[base] = true
		}
	}
	for _, r := range todo {
		if used[r.SHA256] {
			bases = append(bases, r)
		} else {
			rest = append(rest, r)
		}
	}
	return bases, rest
}

// between makes what the steps before the last one have to make, in a folder, under their hashes. Nothing of it is ever
// installed, so nothing is synced.
func (c *contents) between(ctx context.Context, fsys disk.FS, folder string, todo [][]recipe) error {
	root, err := fsys.Root(folder)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	for _, recipes := range todo {
		for _, r := range recipes {
			if _, there := c.have[r.SHA256]; there {
				continue
			}
			out, err := root.Create(r.SHA256)
			if err != nil {
				return err
			}
			f := channel.File{Path: r.SHA256, Blob: r.Blob}
			if err := errors.Join(c.make(ctx, f, r, out), out.Close()); err != nil {
				return err
			}
			c.note(r.SHA256, fsys, filepath.Join(folder, r.SHA256))
		}
	}
	return nil
}

// lengths adds up what recipes make.
func lengths(recipes []recipe) (n int64) {
	for _, r := range recipes {
		n += r.Length // no overflow: each is at most channel.MaxUnpacked, and an index has a limit
	}
	return n
}
