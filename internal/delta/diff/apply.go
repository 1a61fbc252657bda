package diff

import (
	"context"
	"fmt"
	"io"

	"github.com/fairlead-dev/fairlead/internal/delta"
)

// apply makes a file of a part, as a client does, and in the memory that the part says.
func apply(ctx context.Context, from sources, p *part, w io.Writer) error {
	patch := delta.Patch{Format: p.format, Body: section(p.data), Length: p.length, Memory: p.memory}
	for _, sum := range p.bases {
		f, size, err := from.open(sum)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		patch.Bases = append(patch.Bases, io.NewSectionReader(f, 0, size))
	}
	return delta.Apply(ctx, w, patch)
}

// checkTree reads the index of a tree, and holds it against what was written.
func checkTree(data []byte, parts []*part) error {
	t, err := delta.OpenTree(section(data))
	if err != nil {
		return fmt.Errorf("a patch that was just made cannot be read: %w", err)
	}
	if len(t.Files) != len(parts) {
		return fmt.Errorf("a patch that was just made has %d files instead of %d", len(t.Files), len(parts))
	}
	for i, f := range t.Files {
		body, err := io.ReadAll(t.Part(f))
		if err != nil || f.SHA256 != parts[i].sum || string(body) != string(parts[i].data) {
			return fmt.Errorf("a patch that was just made has another part for %s", parts[i].sum)
		}
	}
	return nil
}
