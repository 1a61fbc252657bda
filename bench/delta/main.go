// Command delta makes and applies patches for bench/deltas, with what `publish` makes them with and what apps apply them with:
//
//	delta create OLD NEW PATCH
//	delta apply OLD PATCH RESULT
//
// Create prints the format of the patch. What a client knows from elsewhere (lists of files, the entry of the patch) goes
// into PATCH.json.
package main

import (
	"archive/zip"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/delta"
	"github.com/fairlead-dev/fairlead/internal/delta/diff"
)

// Known is what a client has from signed lists.
type known struct {
	Format   channel.PatchFormat `json:"format"`
	Memory   int64               `json:"memory"`
	Old, New []channel.File      // of a single file, one
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	switch args := os.Args[1:]; {
	case len(args) == 4 && args[0] == "create":
		err = create(ctx, args[1], args[2], args[3])
	case len(args) == 4 && args[0] == "apply":
		err = apply(ctx, args[1], args[2], args[3])
	default:
		err = errors.New("usage: delta create OLD NEW PATCH, delta apply OLD PATCH RESULT")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "delta:", err)
		os.Exit(1)
	}
}

func create(ctx context.Context, oldName, newName, patch string) error {
	temp, err := os.MkdirTemp(filepath.Dir(patch), "delta-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(temp) }()
	oldFiles, from, err := unpack(ctx, oldName, temp)
	if err != nil {
		return err
	}
	newFiles, to, err := unpack(ctx, newName, temp)
	if err != nil {
		return err
	}
	p, err := diff.Create(ctx, from, to, diff.Limits{Memory: 8 << 30, Apply: 2 << 30})
	if err != nil {
		return err
	}
	list, err := json.Marshal(known{p.Format, p.Memory, oldFiles, newFiles})
	if err != nil {
		return err
	}
	fmt.Println(p.Format)
	return errors.Join(os.WriteFile(patch+".json", list, 0o600), os.WriteFile(patch, p.Data, 0o600))
}

// unpack makes a raw artifact of a file, or a zip of a folder (without compression, which would be measured), and its content.
func unpack(ctx context.Context, name, temp string) ([]channel.File, *diff.Content, error) {
	files, err := list(name)
	if err != nil {
		return nil, nil, err
	}
	a := &channel.Artifact{Platform: channel.Platform{OS: runtime.GOOS, Arch: runtime.GOARCH}, Format: channel.Raw, Executable: files[0].Path, Files: files}
	blob := name
	if info, err := os.Stat(name); err != nil {
		return nil, nil, err
	} else if info.IsDir() {
		a.Format, blob = channel.Zip, filepath.Join(temp, "zip")
		if err := pack(name, files, blob); err != nil {
			return nil, nil, err
		}
	}
	f, size, err := open(blob)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = f.Close() }()
	a.Length = size
	c, err := diff.Unpack(ctx, a, f, temp)
	return files, c, err
}

func list(name string) ([]channel.File, error) {
	var files []channel.File
	err := filepath.WalkDir(name, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		hash := sha256.New()
		n, err := io.Copy(hash, f)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(name, path)
		if err != nil {
			return err
		}
		if rel == "." {
			rel = filepath.Base(path)
		}
		files = append(files, channel.File{Path: filepath.ToSlash(rel), Blob: channel.Blob{SHA256: hex.EncodeToString(hash.Sum(nil)), Length: n}, Mode: 0o755})
		return nil
	})
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("%s has no files", name)
	}
	return files, err
}

func pack(dir string, files []channel.File, name string) error {
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	z := zip.NewWriter(out)
	for _, f := range files {
		w, err := z.CreateHeader(&zip.FileHeader{Name: f.Path, Method: zip.Store})
		if err != nil {
			return errors.Join(err, out.Close())
		}
		in, err := os.Open(filepath.Join(dir, filepath.FromSlash(f.Path)))
		if err != nil {
			return errors.Join(err, out.Close())
		}
		_, err = io.Copy(w, in)
		if err := errors.Join(err, in.Close()); err != nil {
			return errors.Join(err, out.Close())
		}
	}
	return errors.Join(z.Close(), out.Close())
}

func apply(ctx context.Context, oldName, patch, result string) error {
	data, err := os.ReadFile(patch + ".json")
	if err != nil {
		return err
	}
	var k known
	if err := json.Unmarshal(data, &k); err != nil {
		return err
	}
	f, size, err := open(patch)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	body := io.NewSectionReader(f, 0, size)

	place := func(root string, file channel.File) string { return filepath.Join(root, filepath.FromSlash(file.Path)) }
	if info, err := os.Stat(oldName); err != nil {
		return err
	} else if !info.IsDir() {
		place = func(root string, _ channel.File) string { return root }
	}
	have := map[string]string{} // SHA-256 → path
	for _, file := range k.Old {
		have[file.SHA256] = place(oldName, file)
	}
	at := map[string]string{} // SHA-256 → where the new file is
	for _, file := range k.New {
		at[file.SHA256] = place(result, file)
		if err := os.MkdirAll(filepath.Dir(at[file.SHA256]), 0o755); err != nil {
			return err
		}
	}
	if k.Format == channel.Tree {
		tree, err := delta.OpenTree(body)
		if err != nil {
			return err
		}
		for _, t := range tree.Files { // one may be a base of those behind it
			err := write(ctx, at[t.SHA256], delta.Patch{Format: t.Format, Body: tree.Part(t), Length: t.Length, Memory: k.Memory}, t.Bases, have)
			if err != nil {
				return err
			}
			have[t.SHA256] = at[t.SHA256]
		}
	} else {
		err := write(ctx, result, delta.Patch{Format: k.Format, Body: body, Length: k.New[0].Length, Memory: k.Memory}, []string{k.Old[0].SHA256}, have)
		if err != nil {
			return err
		}
		have[k.New[0].SHA256] = result
	}
	for _, file := range k.New {
		if name := place(result, file); name != have[file.SHA256] {
			if err := copyFile(name, have[file.SHA256]); err != nil {
				return err
			}
		}
	}
	return nil
}

// write applies the patch of one file.
func write(ctx context.Context, name string, p delta.Patch, bases []string, have map[string]string) error {
	for _, sum := range bases {
		f, size, err := open(have[sum])
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		p.Bases = append(p.Bases, io.NewSectionReader(f, 0, size))
	}
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(out, 1<<16)
	return errors.Join(delta.Apply(ctx, w, p), w.Flush(), out.Close())
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func open(name string) (*os.File, int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}
