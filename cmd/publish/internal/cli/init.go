package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/cmd/publish/internal/keyuri"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

type initOptions struct {
	product    string
	channels   []string
	license    bool
	thresholds []string
	keys       []string
	insecure   bool
}

type created struct {
	Repository string       `json:"repository"`
	Root       string       `json:"root"` // the file to embed into the app
	Roles      []roleStatus `json:"roles"`
}

func (a *app) initCommand() *cobra.Command {
	var o initOptions
	cmd := &cobra.Command{
		Use: "init", Short: "Make the keys and an empty repository",
		Long: `Make the keys that are not there yet, and an empty repository. It prints the path of the root to embed into the app.

Every role gets one key unless --threshold says otherwise. --threshold root=2/3 makes root-1.pem to root-3.pem, of
which any two must sign. --key root=alice.pub takes the public key of somebody else for one of them; her signature
is then needed only as far as the threshold says.`,
		Example: `  publish init --product notes
  publish init --product notes --channel stable --channel beta --license
  publish init --product notes --threshold root=1/2 --key root=alice.pub`,
	}
	f := cmd.Flags()
	f.StringVar(&o.product, "product", "", "the product's name, such as notes")
	f.StringArrayVar(&o.channels, "channel", []string{"stable"}, "a channel (repeatable)")
	f.BoolVar(&o.license, "license", false, "add the role that publishes licence issuer keys")
	f.StringArrayVar(&o.thresholds, "threshold", nil, "ROLE=N or ROLE=N/M: N signatures of M keys (repeatable)")
	f.StringArrayVar(&o.keys, "key", nil, "ROLE=FILE: a public key of somebody else (repeatable)")
	f.BoolVar(&o.insecure, "insecure-no-passphrase", false, "write the keys unencrypted: for throw-away repositories only")
	need(cmd, "product")
	return a.run(cmd, func(ctx context.Context, _ []string) (result, error) { return a.init(ctx, o) })
}

func (a *app) init(ctx context.Context, o initOptions) (result, error) {
	roles, err := initRoles(o)
	if err != nil {
		return nil, err
	}
	if err := a.checkVacant(ctx); err != nil {
		return nil, err
	}
	keys, err := a.roleKeys(ctx, roles, o)
	if err != nil {
		return nil, err
	}
	repo, root, err := a.createIn(ctx, keys, o)
	if err != nil {
		return nil, err
	}
	if o.insecure {
		a.out.warn("the keys in %s are not encrypted: whoever reads them can publish", a.keysDir)
	}
	offline := filepath.Join(a.keysDir, "root.pem")
	if _, err := os.Lstat(offline); err != nil {
		offline = "the keys of root"
	}
	a.out.talk("embed %s into the app; keep %s offline, and a copy of it", root, offline)
	a.out.talk("next: publish release --version 1.0.0 --artifact linux/amd64=PATH")
	return &created{a.repo, filepath.ToSlash(root), roleStatuses(repo, a.now())}, nil
}

// createIn makes the repository, and returns the path of the root to embed, too.
func (a *app) createIn(ctx context.Context, keys map[string]tufrepo.RoleKeys, o initOptions) (repo *tufrepo.Repo, root string, err error) {
	if !a.remote() {
		repo, err = a.createFolder(ctx, keys, o)
		return repo, filepath.Join(a.repo, rootFile), err
	}
	store, err := a.store(ctx)
	if err != nil {
		return nil, "", err
	}
	if repo, err = a.create(ctx, store, keys, o); err != nil {
		return nil, "", err
	}
	return repo, a.rootCopy(), nil
}

var topRoles = []string{"root", "targets", "snapshot", "timestamp"}

// initRoles says how many keys each role has, in the order in which they are made.
func initRoles(o initOptions) ([]string, error) {
	if err := channel.CheckName("product", o.product); err != nil {
		return nil, err
	}
	roles := slices.Clone(topRoles)
	for _, c := range o.channels {
		if err := checkReserved(o.product, c); err != nil {
			return nil, err
		}
		if err := channel.CheckName("channel", c); err != nil {
			return nil, err
		}
		name := channel.RoleName(o.product, c)
		if slices.Contains(roles, name) {
			return nil, usagef("name each channel once", "--channel %s is given twice", c)
		}
		roles = append(roles, name)
	}
	if o.license {
		roles = append(roles, "license")
	}
	return roles, nil
}

// checkReserved refuses, before any key is made, names that the repository would refuse.
func checkReserved(product, channelName string) error {
	switch {
	case product == "license":
		return &tufrepo.StateError{What: "product license", Detail: "would share its paths with the licence role; choose another name"}
	case channelName == archive:
		return &tufrepo.StateError{What: "channel " + archive, Detail: "is where old releases go; choose another name"}
	}
	return nil
}

// roleKeys reads the public keys given, makes the keys that are missing, and returns the keys of every role.
func (a *app) roleKeys(ctx context.Context, roles []string, o initOptions) (map[string]tufrepo.RoleKeys, error) {
	counts, err := keyCounts(o.thresholds)
	if err != nil {
		return nil, err
	}
	given, err := givenKeys(o.keys)
	if err != nil {
		return nil, err
	}
	for _, named := range slices.Concat(slices.Sorted(maps.Keys(counts)), slices.Sorted(maps.Keys(given))) {
		if !slices.Contains(roles, named) {
			return nil, usagef("the roles are "+strings.Join(roles, ", "), "there is no role %q", named)
		}
	}
	keys := map[string]tufrepo.RoleKeys{}
	for _, role := range roles {
		count, ok := counts[role]
		if !ok {
			count = keyCount{need: 1, of: 1}
		}
		rk := tufrepo.RoleKeys{Keys: given[role], Threshold: count.need}
		own := max(count.of-len(rk.Keys), 0)
		for i := range own {
			name := role
			if own > 1 {
				name = fmt.Sprintf("%s-%d", role, i+1)
			}
			public, err := a.oneOrMakeKey(ctx, name, o.insecure)
			if err != nil {
				return nil, err
			}
			rk.Keys = append(rk.Keys, public)
		}
		keys[role] = rk
	}
	return keys, nil
}

func givenKeys(flags []string) (map[string][]tufrepo.PublicKey, error) {
	given := map[string][]tufrepo.PublicKey{}
	for _, s := range flags {
		role, path, ok := strings.Cut(s, "=")
		if !ok || role == "" || path == "" {
			return nil, usagef("write it as --key root=alice.pub", "--key %s is not ROLE=FILE", s)
		}
		if keyuri.Is(path) || strings.HasSuffix(path, uriEnding) {
			return nil, usagef(fmt.Sprintf("run `publish keys add %s URI` first, and leave --key out: init takes the keys that are there", role),
				"--key %s is no file with a public key", keyuri.Display(s))
		}
		public, err := readPublic(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err != nil {
			return nil, failf(exitKeys, "key_file", "it must be a public key in PEM, as `publish keys new` writes beside the private one", "--key %s: %s", s, plain(err))
		}
		given[role] = append(given[role], public)
	}
	return given, nil
}

// create makes the repository in store: the top roles, then the channels. It goes on with one that has no channel yet.
func (a *app) create(ctx context.Context, store tufrepo.Store, keys map[string]tufrepo.RoleKeys, o initOptions) (*tufrepo.Repo, error) {
	var wanted []*tufrepo.MissingKeysError
	for role, rk := range keys {
		m := &tufrepo.MissingKeysError{Role: role, Need: rk.Threshold}
		for _, k := range rk.Keys {
			m.KeyIDs = append(m.KeyIDs, k.ID())
		}
		wanted = append(wanted, m)
	}
	signers, err := a.signers(ctx, wanted)
	if err != nil {
		return nil, err
	}
	repo, err := tufrepo.Create(ctx, store, tufrepo.CreateConfig{
		Root: keys["root"], Targets: keys["targets"], Snapshot: keys["snapshot"], Timestamp: keys["timestamp"],
		License: keys["license"], Now: a.now, Progress: a.out.progress,
	}, signers...)
	if errors.Is(err, tufrepo.ErrExists) {
		repo, err = tufrepo.Open(ctx, store, tufrepo.OpenConfig{Now: a.now, Progress: a.out.progress})
	}
	if err != nil {
		return nil, err
	}
	if a.remote() {
		if err := a.probe(ctx, store); err != nil {
			return nil, err
		}
		if err := a.copyRoot(ctx); err != nil {
			return nil, err
		}
	}
	for _, c := range o.channels {
		name := channel.RoleName(o.product, c)
		if err := repo.AddChannel(o.product, c, keys[name], tufrepo.DefaultPolicy(name)); err != nil {
			return nil, err
		}
	}
	if len(keys["license"].Keys) > 0 { // so that its absence means something
		if err := repo.PutLicense(revocationsFile, []byte(`{"num":1,"v":1}`+"\n")); err != nil {
			return nil, err
		}
	}
	_, err = repo.Commit(ctx, signers...)
	return repo, err
}

func (a *app) channelCommand() *cobra.Command {
	var insecure bool
	add := &cobra.Command{
		Use: "add PRODUCT CHANNEL", Short: "Add a channel, or a product with its first channel",
		Long: "Add a channel, or a product with its first channel. It needs the targets key, and makes a key for the channel.",
		Example: `  publish channel add notes beta
  publish channel add viewer stable`,
	}
	add.Flags().BoolVar(&insecure, "insecure-no-passphrase", false, "write the new key unencrypted: for throw-away repositories only")
	return group("channel", "Add channels and products", a.run(add, func(ctx context.Context, args []string) (result, error) {
		return a.addChannel(ctx, where{product: args[0], channel: args[1]}, insecure)
	}))
}

func (a *app) addChannel(ctx context.Context, w where, insecure bool) (result, error) {
	if err := errors.Join(channel.CheckName("product", w.product), channel.CheckName("channel", w.channel)); err != nil {
		return nil, err
	}
	if err := checkReserved(w.product, w.channel); err != nil {
		return nil, err
	}
	repo, err := a.open(ctx, a.now())
	if err != nil {
		return nil, err
	}
	if slices.Contains(repo.Channels(w.product), w.channel) {
		return nil, failf(exitFailed, "exists", "`publish status` shows what there is", "%s has a channel %s already", w.product, w.channel)
	}
	role := channel.RoleName(w.product, w.channel)
	public, err := a.oneOrMakeKey(ctx, role, insecure)
	if err != nil {
		return nil, err
	}
	if err := repo.AddChannel(w.product, w.channel, tufrepo.RoleKeys{Keys: []tufrepo.PublicKey{public}}, tufrepo.DefaultPolicy(role)); err != nil {
		return nil, err
	}
	return a.publish(ctx, repo, &edited{Product: w.product, Channel: w.channel})
}
