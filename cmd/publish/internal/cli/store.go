package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fairlead-dev/fairlead/internal/disk"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

// An OpenStore makes a store of an address such as s3://bucket/prefix. An error of it, or of the store, may have a method
// Hint that says what to do next.
type OpenStore func(ctx context.Context, address string) (tufrepo.Store, error)

type hinted interface {
	error
	Hint() string
}

// remote reports whether the repository is not in a folder.
func (a *app) remote() bool { return strings.Contains(a.repo, "://") }

// store is where the repository is.
func (a *app) store(ctx context.Context) (tufrepo.Store, error) {
	if a.opened != nil {
		return a.opened, nil
	}
	a.opened = tufrepo.Dir(a.repo)
	if !a.remote() {
		return a.opened, nil
	}
	scheme, _, _ := strings.Cut(a.repo, "://")
	open := a.sys.Stores[scheme]
	if open == nil {
		known := strings.Join(slices.Sorted(maps.Keys(a.sys.Stores)), "://…, ")
		return nil, usagef(fmt.Sprintf("give a folder, or an address: %s://…", known), "--repo %s: %s is not known", a.repo, scheme)
	}
	store, err := open(ctx, a.repo)
	var h hinted
	if errors.As(err, &h) {
		return nil, usagef(h.Hint(), "--repo %s: %s", a.repo, plain(h))
	}
	a.opened = store
	return store, err
}

// published reports whether there is a repository, or the beginning of one.
func (a *app) published(ctx context.Context) (bool, error) {
	store, err := a.store(ctx)
	if err != nil {
		return false, err
	}
	f, _, err := store.Get(ctx, rootFile)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, f.Close()
}

func (a *app) noRepository() error {
	hint := "name its folder with --repo, or make one with `publish init --product NAME`"
	if a.remote() {
		hint = "correct --repo, or make one with `publish init --product NAME`"
	}
	return failf(exitFailed, "no_repository", hint, "there is no repository in %s", a.repo)
}

func (a *app) alreadyThere() error {
	return failf(exitFailed, "exists", "see it with `publish status`; add to it with `publish channel add`", "there is a repository in %s already", a.repo)
}

// checkVacant refuses a place with anything in it: it would be published. The beginning of a repository, which an init
// that was interrupted left, is gone on with where it cannot be made elsewhere and moved.
func (a *app) checkVacant(ctx context.Context) error {
	if !a.remote() {
		return a.checkVacantFolder()
	}
	if err := a.checkRootCopy(ctx); err != nil {
		return err
	}
	store, err := a.store(ctx)
	if err != nil {
		return err
	}
	repo, err := tufrepo.Open(ctx, store, tufrepo.OpenConfig{Now: a.now})
	var none *tufrepo.NotFoundError
	switch {
	case err == nil && len(repo.Products()) > 0:
		return a.alreadyThere()
	case err == nil || !errors.As(err, &none):
		return err
	}
	if begun, err := a.published(ctx); begun || err != nil {
		return err
	}
	names, err := store.List(ctx, "")
	if err == nil && len(names) > 0 {
		err = failf(exitFailed, "exists", "name an empty prefix with --repo", "%s is not empty", a.repo)
	}
	return err
}

// checkRootCopy refuses to overwrite the root of another repository.
func (a *app) checkRootCopy(ctx context.Context) error {
	data, err := readCapped(a.rootCopy(), maxRootFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	stored, err := a.storedRoot(ctx)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !bytes.Equal(data, stored) {
		return failf(exitFailed, "exists", "move it away, or name another folder with --keys", "%s is there already, of another repository", a.rootCopy())
	}
	return err
}

func (a *app) checkVacantFolder() error {
	entries, err := os.ReadDir(a.repo)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case len(entries) == 0:
		return nil
	}
	if _, err := os.Stat(filepath.Join(a.repo, "metadata")); err == nil {
		return a.alreadyThere()
	}
	return failf(exitFailed, "exists", "name an empty folder with --repo", "%s is not empty", a.repo)
}

// createFolder makes the repository beside its place and moves it there whole: an init that is interrupted leaves nothing
// that would be in the way of the next.
func (a *app) createFolder(ctx context.Context, keys map[string]tufrepo.RoleKeys, o initOptions) (*tufrepo.Repo, error) {
	folder := filepath.Clean(a.repo)
	if err := os.MkdirAll(filepath.Dir(folder), 0o755); err != nil {
		return nil, err
	}
	staging, err := os.MkdirTemp(filepath.Dir(folder), ".init-*")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(staging) }()
	repo, err := a.create(ctx, tufrepo.Dir(staging), keys, o)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(staging, 0o755); err != nil {
		return nil, err
	}
	if err := os.Remove(folder); err != nil && !errors.Is(err, fs.ErrNotExist) { // empty, or it stays
		return nil, err
	}
	return repo, os.Rename(staging, folder)
}

// rootCopy is where init leaves the root to embed if the repository is elsewhere.
func (a *app) rootCopy() string { return filepath.Join(a.keysDir, "root.json") }

// copyRoot writes it, before there is anything in the repository that an init run again would refuse.
func (a *app) copyRoot(ctx context.Context) error {
	data, err := a.storedRoot(ctx)
	if err != nil {
		return err
	}
	return disk.Write(disk.OS, a.rootCopy(), data, 0o644)
}

func (a *app) storedRoot(ctx context.Context) ([]byte, error) {
	store, err := a.store(ctx)
	if err != nil {
		return nil, err
	}
	f, _, err := store.Get(ctx, rootFile)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxRootFile+1))
	if err == nil && len(data) > maxRootFile {
		err = failf(exitVerify, "not_trusted", "restore it from a copy", "%s is larger than %d bytes", rootFile, maxRootFile)
	}
	return data, err
}

// A prober is a store that can find out whether it keeps the conditions of writes.
type prober interface {
	Probe(ctx context.Context, name string, content []byte) error
}

// probe asks the store for what two publishers at once rely on. The first root is there for it.
func (a *app) probe(ctx context.Context, store tufrepo.Store) error {
	p, ok := store.(prober)
	if !ok {
		return nil
	}
	data, err := a.storedRoot(ctx)
	if err != nil {
		return err
	}
	return p.Probe(ctx, rootFile, data)
}
