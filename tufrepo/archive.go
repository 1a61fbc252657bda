package tufrepo

import (
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/fairlead-dev/fairlead/channel"
)

// Archive moves the releases of a channel to the product's archive, except the keep (at least 1) that were listed last:
// every client reads a channel's whole list at every check. It returns those moved. What installations still need stays
// as well: the highest version offered, withdrawn releases, those that a withdrawn one goes back to, and of those that
// stay the highest step from which each may be installed.
func (r *Repo) Archive(product, channelName string, keep int) ([]channel.Release, error) {
	if channelName == archiveChannel || keep < 1 {
		return nil, &StateError{"channel " + channelName, "cannot be archived down to fewer than one release, and the archive not at all"}
	}
	list, err := r.Releases(product, channelName)
	if err != nil {
		return nil, err
	}
	needed := neededVersions(list, keep)
	var moved []channel.Release
	for _, rel := range list {
		if !needed[rel.Version] {
			moved = append(moved, rel)
		}
	}
	if len(moved) == 0 {
		return nil, nil
	}
	if err := r.ensureArchive(product, channelName); err != nil {
		return nil, err
	}
	role := channel.RoleName(product, channelName)
	// The number given last is remembered from now on: the line that bears it may go.
	seq, err := r.nextSeq(product, channelName)
	if err != nil {
		return nil, err
	}
	s := r.stamp(role)
	s.seq = seq - 1
	h := headOf(r.roles[role])
	*h.fields = s.write(*h.fields)
	for _, rel := range moved {
		if err := r.moveToArchive(product, channelName, rel); err != nil {
			return nil, err
		}
	}
	r.edited("archive %d releases of %s in %s", len(moved), product, channelName)
	return moved, nil
}

func (r *Repo) moveToArchive(product, channelName string, rel channel.Release) error {
	name := channel.TargetPath(product, channelName, rel.Version)
	list := r.roles[channel.RoleName(product, channelName)].Signed.Targets
	if _, err := r.entry(product, archiveChannel, rel.Version); err != nil { // it may be there from another channel
		source := manifestFile(product, channelName, rel)
		archived := rel
		if archived.Seq, err = r.nextSeq(product, archiveChannel); err != nil {
			return err
		}
		archived.Rollout, archived.Patches = nil, nil // nobody installs from there
		if err := r.put(product, archiveChannel, archived); err != nil {
			return err
		}
		r.copyTarget(source, manifestFile(product, archiveChannel, archived), rel.Manifest)
	}
	delete(list, name)
	r.changed[channel.RoleName(product, channelName)] = true
	return nil
}

// ensureArchive makes the archive with the keys of the channel, if there is none.
func (r *Repo) ensureArchive(product, channelName string) error {
	if r.roles[channel.RoleName(product, archiveChannel)] != nil {
		return nil
	}
	targets := r.roles[metadata.TARGETS]
	d := delegation(targets, channel.RoleName(product, channelName))
	keys := RoleKeys{Threshold: d.Threshold}
	for _, id := range d.KeyIDs {
		pub, err := targets.Signed.Delegations.Keys[id].ToPublicKey()
		if err != nil {
			return err
		}
		keys.Keys = append(keys.Keys, PublicKey{key: targets.Signed.Delegations.Keys[id], id: id, pub: pub})
	}
	return r.AddArchive(product, keys, Policy{})
}

// neededVersions says which releases of a list, sorted by sequence number, must stay in it.
func neededVersions(list []channel.Release, keep int) map[string]bool {
	needed := map[string]bool{}
	highest := channel.Release{}
	for i, rel := range list {
		switch {
		case rel.Defect() != nil || i >= len(list)-keep: // nobody knows what a defect one is, so nobody may move it
			needed[rel.Version] = true
		case rel.State == channel.Withdrawn:
			needed[rel.Version] = true
		}
		if rel.Defect() == nil && rel.RevertTo != "" {
			needed[rel.RevertTo] = true
		}
		offered := rel.Defect() == nil && (rel.State == "" || rel.State == channel.Offered)
		if offered && (highest.Version == "" || rel.Semver().GreaterThan(highest.Semver())) {
			highest = rel
		}
	}
	needed[highest.Version] = true
	for grown := true; grown; { // a step may need a step itself
		grown = false
		for _, rel := range list {
			if step := steppingStone(list, rel); needed[rel.Version] && step != "" && !needed[step] {
				needed[step], grown = true, true
			}
		}
	}
	return needed
}

// steppingStone is the highest offered release below rel from which rel may be installed.
func steppingStone(list []channel.Release, rel channel.Release) string {
	if rel.From == "" || rel.Defect() != nil {
		return ""
	}
	from, err := channel.ParseConstraint(rel.From)
	if err != nil {
		return ""
	}
	best := channel.Release{}
	for _, o := range list {
		v := o.Semver()
		if v == nil || o.Defect() != nil || o.State == channel.Withdrawn || !v.LessThan(rel.Semver()) || !from.Check(v) {
			continue
		}
		if best.Version == "" || v.GreaterThan(best.Semver()) {
			best = o
		}
	}
	return best.Version
}
