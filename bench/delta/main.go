// Command delta makes and applies patches for bench/deltas:
//
//	delta create OLD NEW PATCH
//	delta apply OLD PATCH RESULT
//
// Create prints the format of the patch, and writes beside it, into PATCH.json, what lists of patches say in the product.
// The exit status is 3 for what there is no way to do.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/fairlead-dev/fairlead/internal/delta/reloc"
	"github.com/fairlead-dev/fairlead/internal/delta/reloc/relocdiff"
)

var errNoWay = errors.New("patches of folders cannot be made")

// listed is what has to be known of a patch to apply it.
type listed struct {
	Format string `json:"format"`
	Length int64  `json:"length"` // of the result
	Memory int64  `json:"memory"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	switch args := os.Args[1:]; {
	case len(args) == 4 && args[0] == "create":
		err = create(ctx, args[1], args[2], args[3])
	case len(args) == 4 && args[0] == "apply":
		err = apply(args[1], args[2], args[3])
	default:
		err = errors.New("usage: delta create OLD NEW PATCH, delta apply OLD PATCH RESULT")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "delta:", err)
		if errors.Is(err, errNoWay) {
			os.Exit(3)
		}
		os.Exit(1)
	}
}

func create(ctx context.Context, old, next, patch string) error {
	if info, err := os.Stat(old); err != nil {
		return err
	} else if info.IsDir() {
		return errNoWay
	}
	from, err := os.ReadFile(old)
	if err != nil {
		return err
	}
	to, err := os.ReadFile(next)
	if err != nil {
		return err
	}
	data, memory, err := relocdiff.Create(ctx, from, to)
	if err != nil {
		return err
	}
	l := listed{Format: "reloc/1", Length: int64(len(to)), Memory: memory}
	list, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if err := os.WriteFile(patch+".json", list, 0o600); err != nil {
		return err
	}
	fmt.Println(l.Format)
	return os.WriteFile(patch, data, 0o600)
}

func apply(old, patch, result string) error {
	list, err := os.ReadFile(patch + ".json")
	if err != nil {
		return err
	}
	var l listed
	if err := json.Unmarshal(list, &l); err != nil {
		return err
	}
	from, fromSize, err := open(old)
	if err != nil {
		return err
	}
	defer from.Close()
	body, size, err := open(patch)
	if err != nil {
		return err
	}
	defer body.Close()
	out, err := os.Create(result)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(out, 1<<16)
	err = reloc.Apply(w, from, fromSize, body, size, l.Length)
	return errors.Join(err, w.Flush(), out.Close())
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
