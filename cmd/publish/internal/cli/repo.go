package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

const rootFile = "metadata/1.root.json"

// open opens the repository for work at the time at.
func (a *app) open(ctx context.Context, at time.Time) (*tufrepo.Repo, error) {
	store, err := a.store(ctx)
	if err != nil {
		return nil, err
	}
	root, err := a.trustedRoot()
	if err != nil {
		return nil, err
	}
	repo, err := tufrepo.Open(ctx, store, tufrepo.OpenConfig{
		Root: root, Now: func() time.Time { return at }, Progress: a.out.progress, Patches: a.patches,
	})
	var gone *tufrepo.NotFoundError
	if errors.As(err, &gone) {
		if there, err := a.published(ctx); err != nil || !there {
			return nil, cmp.Or(err, a.noRepository())
		}
		return nil, failf(exitVerify, "incomplete", "restore it from a copy; `publish verify` says what else is missing", "%s", plain(err))
	}
	return repo, err
}

// trustedRoot reads the file after --root; nil means that the repository's own first root is trusted.
func (a *app) trustedRoot() ([]byte, error) {
	if a.rootFile == "" {
		return nil, nil
	}
	return readCapped(a.rootFile, maxRootFile)
}

const maxRootFile = 512 << 10 // bytes

// where says which list of releases is meant.
type where struct {
	product, channel string
	archiving        bool // what is edited leaves the channel
}

func (w *where) flags(cmd *cobra.Command) {
	w.productFlag(cmd)
	cmd.Flags().StringVar(&w.channel, "channel", "", "the channel (may be left out if there is only one)")
}

// words names what was asked for.
func (w *where) words() string {
	switch {
	case w.product == "":
		return fmt.Sprintf("channel %q", w.channel)
	case w.channel == "":
		return fmt.Sprintf("product %q", w.product)
	}
	return fmt.Sprintf("channel %q of product %q", w.channel, w.product)
}

func (w *where) productFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&w.product, "product", "", "the product (may be left out if there is only one)")
}

// find fills in what was left out where there is only one, and checks what was not.
func (w *where) find(repo *tufrepo.Repo) error {
	if err := w.findProduct(repo); err != nil {
		return err
	}
	return choose(&w.channel, "channel", "of "+w.product, channels(repo, w.product))
}

const archive = "archive" // the list of releases that left their channel

// channels lists those that can be published to.
func channels(repo *tufrepo.Repo, product string) []string {
	return slices.DeleteFunc(repo.Channels(product), func(name string) bool { return name == archive })
}

func (w *where) findProduct(repo *tufrepo.Repo) error {
	return choose(&w.product, "product", "here", repo.Products())
}

func choose(name *string, what, of string, known []string) error {
	list := strings.Join(known, ", ")
	switch {
	case *name != "" && !slices.Contains(known, *name):
		hint := "`publish channel add PRODUCT CHANNEL` makes one"
		if len(known) > 0 {
			hint = "there is " + list + "; `publish channel add` makes another"
		}
		return failf(exitUsage, "not_found", hint, "%q is no %s %s", *name, what, of)
	case len(known) == 0:
		return usagef("add one with `publish channel add PRODUCT CHANNEL`", "there is no %s %s", what, of)
	case *name == "" && len(known) == 1:
		*name = known[0]
	case *name == "":
		return usagef("name it with --"+what, "there are several %ss %s: %s", what, of, list)
	}
	return nil
}

// listed looks up one release of the list, which need not be there.
func (w *where) listed(repo *tufrepo.Repo, version string) (channel.Release, bool, error) {
	list, err := repo.Releases(w.product, w.channel)
	if err != nil {
		return channel.Release{}, false, err
	}
	for _, r := range list {
		if r.Version == version {
			return r, true, nil
		}
	}
	return channel.Release{}, false, nil
}

// release looks up one release of the list.
func (w *where) release(repo *tufrepo.Repo, version string) (channel.Release, error) {
	if _, err := channel.ParseVersion(version); err != nil {
		return channel.Release{}, err
	}
	r, listed, err := w.listed(repo, version)
	if err != nil || listed {
		return r, err
	}
	return r, failf(exitUsage, "not_found", "`publish list` shows the releases there are", "%s has no release %s in %s", w.product, version, w.channel)
}

// An editing verb changes one open repository; commit signs and writes it.
type edited struct {
	Product  string            `json:"product,omitempty"`
	Channel  string            `json:"channel,omitempty"`
	Releases []channel.Release `json:"releases,omitempty"` // as they are now
	Patches  []madePatch       `json:"patches,omitempty"`  // that lead to them
	Without  []leftOut         `json:"left_out,omitempty"` // patches that there could have been
	Hinders  []hindrance       `json:"hindrances,omitempty"`
	Changes  []string          `json:"changes"` // in words
	Signed   []signedRole      `json:"signed"`
	DryRun   bool              `json:"dry_run,omitempty"` // nothing was written
	Files    int               `json:"files"`             // written, or to be written
	Bytes    int64             `json:"bytes"`             // of artifacts and other blobs among them

	now      time.Time
	archived bool // the releases left the channel
}

type signedRole struct {
	Role    string    `json:"role"`
	Version int64     `json:"version"`
	Expires time.Time `json:"expires"`
	Keys    []string  `json:"keys"`
}

func signedRoles(planned []tufrepo.PlannedRole) []signedRole {
	out := make([]signedRole, len(planned))
	for i, r := range planned {
		out[i] = signedRole{r.Role, r.Version, r.Expires, r.KeyIDs}
	}
	return out
}

// commit signs what was edited and publishes it.
func (a *app) commit(ctx context.Context, repo *tufrepo.Repo, e *edited) error {
	e.now, e.Changes, e.Signed = a.now(), repo.Changes(), []signedRole{}
	a.reportPatches(repo, e)
	if len(e.Changes) == 0 {
		e.Changes = []string{}
		a.out.talk("it is published as it should be: nothing was changed")
		return nil
	}
	plan, err := repo.Plan()
	if err != nil {
		return err
	}
	signers, err := a.signers(ctx, plan.Missing)
	if err != nil {
		return err
	}
	return a.commitWith(ctx, repo, e, signers)
}

func (a *app) commitWith(ctx context.Context, repo *tufrepo.Repo, e *edited, signers []*tufrepo.Signer) error {
	done, err := repo.Commit(ctx, signers...)
	if err != nil {
		return err
	}
	e.Signed, e.Files, e.Bytes = signedRoles(done.Roles), done.Files, done.Uploaded
	a.out.talk("wrote %s to %s, %s of artifacts and notes among them", count(done.Files, "file"), a.repo, size(done.Uploaded))
	return nil
}

// rehearse says what commit would do, without a key and without writing.
func (a *app) rehearse(repo *tufrepo.Repo, e *edited) error {
	e.now, e.Changes, e.DryRun = a.now(), repo.Changes(), true
	a.reportPatches(repo, e)
	plan, err := repo.Plan()
	if err != nil {
		return err
	}
	files, err := a.keyFiles()
	if err != nil {
		return err
	}
	var have []string
	for _, k := range files {
		have = append(have, k.id())
	}
	e.Signed, e.Files, e.Bytes = signedRoles(plan.Roles), len(plan.Files), plan.Upload
	for i := range e.Signed {
		for _, m := range plan.Missing {
			if m.Role == e.Signed[i].Role {
				e.Signed[i].Keys = intersection(m.KeyIDs, have)
				if len(e.Signed[i].Keys) < m.Need {
					a.out.warn("%s needs %d signatures, and %s holds %d of its keys", m.Role, m.Need, a.keysDir, len(e.Signed[i].Keys))
				}
			}
		}
	}
	a.out.talk("nothing was written (--dry-run)")
	return nil
}

func intersection(a, b []string) []string {
	out := []string{}
	for _, s := range a {
		if slices.Contains(b, s) {
			out = append(out, s)
		}
	}
	return out
}

// An edit changes one list of releases and returns those that it changed.
type edit func(ctx context.Context, repo *tufrepo.Repo, w where) ([]channel.Release, error)

// edit opens the repository, finds the list that w means, and publishes what change does to it.
func (a *app) edit(ctx context.Context, w where, change edit) (result, error) {
	repo, err := a.open(ctx, a.now())
	if err != nil {
		return nil, err
	}
	if err := w.find(repo); err != nil {
		return nil, err
	}
	releases, err := change(ctx, repo, w)
	if err != nil {
		return nil, err
	}
	return a.publish(ctx, repo, &edited{Product: w.product, Channel: w.channel, Releases: releases, archived: w.archiving})
}

// publish is commit, as the end of a verb.
func (a *app) publish(ctx context.Context, repo *tufrepo.Repo, e *edited) (result, error) {
	if err := a.commit(ctx, repo, e); err != nil {
		return nil, err
	}
	return e, nil
}
