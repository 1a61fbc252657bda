package tufrepo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/fairlead-dev/fairlead/channel"
)

// AddChannel adds a channel, and with its first channel a product, signed with keys. The zero Policy means
// [DefaultPolicy]. It takes the targets keys to commit.
func (r *Repo) AddChannel(product, channelName string, keys RoleKeys, p Policy) error {
	if channelName == archiveChannel {
		return &StateError{"channel " + archiveChannel, "is where old releases go; choose another name, or add an archive"}
	}
	return r.addChannel(product, channelName, keys, p)
}

// AddArchive adds the list that [Repo.Archive] moves old releases to, with keys of its own. Without it, the first
// archiving makes one with the keys of the channel.
func (r *Repo) AddArchive(product string, keys RoleKeys, p Policy) error {
	return r.addChannel(product, archiveChannel, keys, p)
}

func (r *Repo) addChannel(product, channelName string, keys RoleKeys, p Policy) error {
	if err := errors.Join(channel.CheckName("product", product), channel.CheckName("channel", channelName)); err != nil {
		return err
	}
	role := channel.RoleName(product, channelName)
	switch {
	case product == licenseRole:
		return &StateError{"product " + licenseRole, "would share its paths with the licence role; choose another name"}
	case r.roles[role] != nil:
		return &StateError{"channel " + channelName + " of product " + product, "is there already"}
	}
	if p == (Policy{}) {
		p = DefaultPolicy(role)
	}
	if err := r.delegate(role, []string{product + "/" + channelName + "/*/*"}, keys, p); err != nil {
		return err
	}
	r.edited("add channel %s of product %s", channelName, product)
	return nil
}

// SetKeys replaces the keys of a role. It takes the keys of whoever delegates to the role to commit (root for the
// four top-level roles, by the thresholds of the old root and the new; else targets), and the new keys.
func (r *Repo) SetKeys(role string, keys RoleKeys) error {
	if r.document(role) == nil {
		return &NotFoundError{What: "role " + role}
	}
	if isTopLevel(role) {
		if err := r.setTopKeys(role, keys); err != nil {
			return err
		}
		r.edited("set %d keys of %s, threshold %d", len(keys.Keys), role, max(keys.Threshold, 1))
		return nil
	}
	keys, err := keys.check(role)
	if err != nil {
		return err
	}
	targets := r.roles[metadata.TARGETS]
	d := targets.Signed.Delegations
	g := delegation(targets, role)
	g.KeyIDs, g.Threshold = keys.ids(), keys.Threshold
	for _, k := range keys.Keys {
		d.Keys[k.id] = k.key
	}
	maps.DeleteFunc(d.Keys, func(id string, _ *metadata.Key) bool {
		return !slices.ContainsFunc(d.Roles, func(o metadata.DelegatedRole) bool { return slices.Contains(o.KeyIDs, id) })
	})
	r.changed[metadata.TARGETS] = true
	// Even where old signatures still do: they are not carried over to new keys.
	r.changed[role] = true
	r.edited("set %d keys of %s, threshold %d", len(keys.Keys), role, keys.Threshold)
	return nil
}

// SetPolicy replaces the policy of a role, which is signed anew.
func (r *Repo) SetPolicy(role string, p Policy) error {
	if r.document(role) == nil {
		return &NotFoundError{What: "role " + role}
	}
	if err := p.check(role); err != nil {
		return err
	}
	r.setPolicy(role, p)
	r.edited("set the policy of %s to %s, renewed %s before its end", role, p.Period, p.Margin)
	return nil
}

// Promote lists a release of one channel in another: the same manifest and blobs, published at the same time. A nil
// rollout is everybody. If it is listed there already, it stays as it is. As the other channel has other releases before it,
// patches from those are made, as by [Repo.Release].
func (r *Repo) Promote(ctx context.Context, product, version, from, to string, rollout *channel.Rollout) (channel.Release, error) {
	rel, err := r.entry(product, from, version)
	if err != nil {
		return rel, err
	}
	what := fmt.Sprintf("%s %s in %s", product, version, from)
	switch {
	case to == archiveChannel || from == archiveChannel:
		return rel, &StateError{what, "cannot be promoted from or to the archive"}
	case rel.State != "" && rel.State != channel.Offered:
		return rel, &StateError{what, fmt.Sprintf("is %s (%s): what is not offered is not promoted", rel.State, rel.Reason)}
	}
	if _, err := r.channel(product, to); err != nil {
		return rel, err
	}
	if err := r.find(product, version, func(where string, other channel.Release) error {
		if other.Manifest != rel.Manifest {
			return &VersionReusedError{product, version, where, "with other bytes"}
		}
		return nil
	}); err != nil {
		return rel, err
	}
	if there, err := r.entry(product, to, version); err == nil {
		if there.State == channel.Withdrawn {
			return there, &StateError{fmt.Sprintf("%s %s in %s", product, version, to), "is withdrawn for good: installations have left it; release a new version"}
		}
		return there, nil
	}
	source := manifestFile(product, from, rel)
	rel.Rollout, rel.Patches = rollout, nil
	if rel.Seq, err = r.nextSeq(product, to); err != nil {
		return rel, err
	}
	m, err := r.Manifest(ctx, product, from, version)
	if err != nil {
		return rel, err
	}
	if err := r.addPatches(ctx, product, to, &rel, m, nil); err != nil {
		return rel, err
	}
	if err := r.put(product, to, rel); err != nil {
		return rel, err
	}
	r.copyTarget(source, manifestFile(product, to, rel), rel.Manifest)
	r.edited("promote %s %s from %s to %s", product, version, from, to)
	return rel, nil
}

// copyTarget has a target file copied when it is committed.
func (r *Repo) copyTarget(source, name string, blob channel.Blob) {
	if f, ok := r.files[source]; ok {
		r.files[name] = f
		return
	}
	r.files[name] = pendingFile{blob: blob, from: source}
}

// find looks in every channel of a product for a version. Versions that differ only by case count as the same: on some
// file systems their files would be. visit gets the channel and the line; its error ends the search.
func (r *Repo) find(product, version string, visit func(channelName string, rel channel.Release) error) error {
	for _, name := range r.Channels(product) {
		list := r.roles[channel.RoleName(product, name)].Signed.Targets
		want := channel.TargetPath(product, name, version)
		for target, t := range list {
			if !strings.EqualFold(target, want) {
				continue
			}
			found := strings.TrimSuffix(strings.TrimPrefix(target, product+"/"+name+"/"), "/release.json")
			if found != version {
				return &VersionReusedError{product, version, name, "spelled " + found}
			}
			if err := visit(name, readEntry(found, t)); err != nil {
				return err
			}
		}
	}
	return nil
}

// SetRollout replaces the rollout of a release; nil is everybody.
func (r *Repo) SetRollout(product, channelName, version string, rollout *channel.Rollout) (channel.Release, error) {
	return r.edit(product, channelName, version, func(rel *channel.Release) error {
		if rel.State == channel.Withdrawn {
			return errors.New("is withdrawn: there is nothing to roll out")
		}
		if !sameShare(rel.Rollout, rollout) {
			rel.Rollout = rollout
		}
		return nil
	}, "set the rollout of %s %s in %s")
}

// sameShare reports whether both are one share for good, and the same: then it does not matter when they started.
func sameShare(a, b *channel.Rollout) bool {
	flat := func(r *channel.Rollout) bool { return r != nil && r.Duration == 0 && r.From == r.To }
	return flat(a) && flat(b) && a.To == b.To
}

// Hold keeps a release from whoever does not have it yet. reason is for people, and required.
func (r *Repo) Hold(product, channelName, version, reason string) (channel.Release, error) {
	return r.edit(product, channelName, version, func(rel *channel.Release) error {
		switch {
		case reason == "":
			return errors.New("is to be held, and no reason is given")
		case rel.State == channel.Withdrawn:
			return errors.New("is withdrawn, which is more than held")
		}
		rel.State, rel.Reason = channel.Held, reason
		return nil
	}, "hold %s %s in %s")
}

// Offer ends a hold.
func (r *Repo) Offer(product, channelName, version string) (channel.Release, error) {
	return r.edit(product, channelName, version, func(rel *channel.Release) error {
		if rel.State == channel.Withdrawn {
			return errors.New("is withdrawn for good: installations have left it; release a new version")
		}
		rel.State, rel.Reason = "", ""
		return nil
	}, "offer %s %s in %s")
}

// Withdraw takes a release back: nobody gets it, and whoever runs it should leave it, for revertTo if that is not
// empty: a version of the channel that is not withdrawn. reason is for people, and required.
func (r *Repo) Withdraw(product, channelName, version, reason, revertTo string) (channel.Release, error) {
	list, err := r.Releases(product, channelName)
	if err != nil {
		return channel.Release{}, err
	}
	return r.edit(product, channelName, version, func(rel *channel.Release) error {
		if reason == "" {
			return errors.New("is to be withdrawn, and no reason is given")
		}
		usable := func(o channel.Release) bool {
			return o.Version == revertTo && o.State != channel.Withdrawn && o.Defect() == nil
		}
		if revertTo != "" && revertTo != version && !slices.ContainsFunc(list, usable) {
			return fmt.Errorf("cannot go back to %s, which is not listed in %s, or withdrawn itself", revertTo, channelName)
		}
		for _, o := range list {
			if o.RevertTo == version {
				return fmt.Errorf("is what the withdrawn %s goes back to; withdraw %s again with another version to go back to", o.Version, o.Version)
			}
		}
		rel.State, rel.Reason, rel.RevertTo = channel.Withdrawn, reason, revertTo
		return nil
	}, "withdraw %s %s in %s")
}

// edit changes one line of a channel, unless it is that way already. change's error is what does not fit.
func (r *Repo) edit(product, channelName, version string, change func(*channel.Release) error, words string) (channel.Release, error) {
	if channelName == archiveChannel {
		return channel.Release{}, &StateError{fmt.Sprintf("%s %s", product, version), "is archived: no installation reads its line any more"}
	}
	rel, err := r.entry(product, channelName, version)
	if err != nil {
		return rel, err
	}
	before, err := rel.Custom()
	if err != nil {
		return rel, err
	}
	if err := change(&rel); err != nil {
		return rel, &StateError{fmt.Sprintf("%s %s in %s", product, version, channelName), err.Error()}
	}
	if after, err := rel.Custom(); err == nil && bytes.Equal(before, after) {
		return rel, nil // done already: nothing to sign
	}
	if err := r.put(product, channelName, rel); err != nil {
		return rel, err
	}
	r.edited(words, product, version, channelName)
	return rel, nil
}
