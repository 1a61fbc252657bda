package trust

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

// run is one refresh or load.
type run struct {
	*Client
	stored      contents
	last        *state    // the last refresh's
	began       time.Time // by the system's clock, which is read once
	clock       clock
	root        *rootMeta
	rootAtStart *rootMeta
	floors      floors // those in the store, and what this run has verified

	timestamp *timestampMeta    // verified
	data      []byte            // its bytes
	files     map[string][]byte // what was verified below it and is not in the store
	absorbed  bool
}

func (r *run) refresh(ctx context.Context) (*View, error) {
	// The timestamp is asked for together with the next root: without any news, this is all there is to wait for.
	ahead := r.fetchAhead(ctx, "metadata/timestamp.json", maxTimestamp)
	if err := r.advanceRoot(ctx); err != nil {
		return nil, err
	}
	if r.root.Signed.Version < r.floors.Root {
		return nil, &RollbackError{roleRoot, r.floors.Root, r.root.Signed.Version}
	}
	r.floors.rebase(r.root)
	r.tellTime() // a revoked key's idea of the time is gone now
	if err := r.clock.judgeRoot(r.root); err != nil {
		return nil, err
	}
	if err := r.updateTimestamp(ctx, ahead); err != nil {
		return nil, err
	}
	st := r.last
	if st == nil || st.root != r.root || !bytes.Equal(st.data, r.data) {
		var err error
		if st, err = r.descend(ctx); err != nil {
			return nil, err
		}
	}
	view, err := newView(r.Client, st, r.clock)
	if err != nil {
		return nil, err
	}
	r.floors.Whole = r.timestamp.Signed.Version
	// No later than what may still be accepted with this timestamp, so a clock that ran ahead for a day is not held
	// against the timestamps that follow.
	r.floors.Seen = later(r.floors.Seen, earlier(r.clock.now, r.timestamp.Signed.Expires.Add(r.clock.maxStaleness)).Truncate(time.Second))
	if err := r.keep(ctx, st); err != nil {
		return nil, err
	}
	return view, nil
}

// tellTime sets the time of this run: a clock that was set back must not bring expired metadata back to life.
func (r *run) tellTime() {
	r.clock.now = r.began
	for _, floor := range []time.Time{r.cfg.BuildTime, r.floors.Signed, r.floors.Seen} {
		r.clock.now = later(r.clock.now, floor)
	}
}

// keep commits what this run verified.
func (r *run) keep(ctx context.Context, whole *state) error {
	if whole == nil && r.timestamp == nil && r.root == r.rootAtStart {
		return nil
	}
	release, err := r.store.lock(ctx, true)
	if err != nil {
		return err
	}
	defer release()
	out := outcome{root: r.root, floors: r.floors, whole: whole, files: r.files}
	if r.timestamp != nil {
		out.timestamp, out.version = r.data, r.timestamp.Signed.Version
	}
	if err := r.store.commit(out); err != nil {
		return err
	}
	if whole != nil {
		r.remember(whole)
	}
	return nil
}

// fetchAhead asks the first mirror for a file in the background. The function that it returns waits for the answer.
func (r *run) fetchAhead(ctx context.Context, name string, max int64) *ahead {
	mirrors := r.fetcher.roster.Present()
	if len(mirrors) == 0 {
		return nil
	}
	var data []byte
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		data, err = r.fetcher.read(ctx, mirrors[0].Source, name, max)
	}()
	return &ahead{mirrors[0].Number, func() ([]byte, error) {
		<-done
		return data, err
	}}
}

// advanceRoot follows the source's chain of roots to its end (TUF 5.3). Each link is kept as soon as it is verified.
func (r *run) advanceRoot(ctx context.Context) error {
	for range maxRotations {
		next, err := r.nextRoot(ctx)
		if err != nil || next == nil {
			return err
		}
		r.root = next
		r.log.InfoContext(ctx, "a new root was verified", "version", next.Signed.Version)
	}
	return ErrMoreRoots
}

// nextRoot returns nil if the source has no further root.
func (r *run) nextRoot(ctx context.Context) (*rootMeta, error) {
	var next *rootMeta
	version := r.root.Signed.Version + 1
	data, err := r.fetcher.fetch(ctx, request{name: rootName(version), max: maxRoot, verify: func(data []byte) (err error) {
		next, err = verifyNextRoot(r.root, data)
		return err
	}})
	// Of several mirrors, one that has none is enough to go on: the others were out of reach or broken, and any one
	// that has it is believed.
	if errors.Is(err, fs.ErrNotExist) {
		if cause := context.Cause(ctx); cause != nil { // a source may take its end for an absent file
			return nil, &SourceError{rootName(version), cause}
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	release, err := r.store.lock(ctx, true)
	if err != nil {
		return nil, err
	}
	defer release()
	return next, r.store.writeRoot(version, data)
}

// updateTimestamp is TUF 5.4.
func (r *run) updateTimestamp(ctx context.Context, first *ahead) error {
	var got *timestampMeta
	req := request{name: "metadata/timestamp.json", max: maxTimestamp, first: first, verify: func(data []byte) (err error) {
		got, err = r.checkTimestamp(data)
		return err
	}}
	data, err := r.fetcher.fetch(ctx, req)
	if err != nil && r.root != r.rootAtStart && ctx.Err() == nil {
		// What was asked for ahead may be from before the new root.
		req.first = nil
		data, err = r.fetcher.fetch(ctx, req)
	}
	if err != nil {
		return err
	}
	if have, stored := r.haveTimestamp(got.Signed.Version); have != nil && !bytes.Equal(stored, data) {
		// The same version with other content: what was trusted first stays (TUF 5.4.3.1).
		if err := r.clock.judgeTimestamp(have); err != nil {
			return err
		}
		got, data = have, stored
	}
	r.timestamp, r.data = got, data
	r.clock.now = later(r.clock.now, signedTime(got))
	r.floors.raiseTimestamp(r.root, got)
	return nil
}

// checkTimestamp verifies a timestamp and compares it with the floors; what the store holds is made to count first
// if the floors do not know it.
func (r *run) checkTimestamp(data []byte) (*timestampMeta, error) {
	got, err := r.knownTimestamp(data, r.clock)
	if err != nil {
		return nil, err
	}
	if r.stored.floorsRaw == nil || !bytes.Equal(data, r.stored.timestamp) {
		r.absorb()
	}
	if err := r.floors.checkTimestamp(got); err != nil {
		return nil, err
	}
	return got, r.clock.judgeTimestamp(got)
}

// knownTimestamp verifies a timestamp, or finds that it is the one of the last refresh.
func (r *run) knownTimestamp(data []byte, c clock) (*timestampMeta, error) {
	if r.last != nil && r.last.root == r.root && bytes.Equal(r.last.data, data) {
		return r.last.timestamp, nil
	}
	return verifyTimestamp(r.root, data, c)
}

// haveTimestamp returns the stored timestamp of a version, nil if there is none that verifies.
func (r *run) haveTimestamp(version int64) (*timestampMeta, []byte) {
	for _, data := range [][]byte{r.stored.pending, r.stored.timestamp} {
		if data == nil {
			continue
		}
		if ts, err := r.knownTimestamp(data, clock{now: always}); err == nil && ts.Signed.Version == version {
			return ts, data
		}
	}
	return nil, nil
}

// absorb raises the floors to what the cached metadata proves: they may have been lost, or not yet been written when
// a crash came.
func (r *run) absorb() {
	if r.absorbed {
		return
	}
	r.absorbed = true
	for _, data := range [][]byte{r.stored.timestamp, r.stored.pending} {
		if data == nil {
			continue
		}
		ts, err := r.knownTimestamp(data, clock{now: always})
		if err != nil {
			r.log.Info("the cached timestamp is not used", "error", err)
			continue
		}
		if r.floors.Timestamp != nil && r.floors.Timestamp.Version >= ts.Signed.Version && r.floors.Snapshot != nil {
			continue
		}
		r.floors.raiseTimestamp(r.root, ts)
		if sn, _ := r.cachedSnapshot(ts, clock{now: always}); sn != nil {
			r.floors.raiseSnapshot(r.root, sn)
		}
	}
}

// cachedSnapshot returns the stored snapshot that belongs to a timestamp, nil if there is none that verifies.
func (r *run) cachedSnapshot(ts *timestampMeta, c clock) (*snapshotMeta, error) {
	name := snapshotCache(ts.Signed.Meta[snapshotFile].Version)
	data := r.store.read(name, maxSnapshot)
	if data == nil {
		return nil, ErrNotStored
	}
	sn, err := verifySnapshot(r.root, ts, data, c)
	if err != nil {
		r.store.dropped(name, err)
	}
	return sn, err
}

// descend goes from a new timestamp to the snapshot and the top-level targets (TUF 5.5, 5.6).
func (r *run) descend(ctx context.Context) (*state, error) {
	st := &state{root: r.root, timestamp: r.timestamp, data: r.data, roles: map[edge]*targetsMeta{}}
	var err error
	if st.snapshot, err = r.updateSnapshot(ctx); err != nil {
		return nil, err
	}
	r.floors.raiseSnapshot(r.root, st.snapshot)
	e := edge{role: roleTargets, delegator: roleRoot}
	role, data, err := r.updateRole(ctx, st, e, r.clock)
	if err != nil {
		return nil, err
	}
	if data != nil {
		r.files[roleCache(roleTargets, role.Signed.Version)] = data
	}
	st.targets = role
	return st, nil
}

func (r *run) updateSnapshot(ctx context.Context) (*snapshotMeta, error) {
	if sn, err := r.cachedSnapshot(r.timestamp, r.clock); err == nil && r.floors.checkSnapshot(sn) == nil {
		return sn, nil
	}
	meta := r.timestamp.Signed.Meta[snapshotFile]
	var got *snapshotMeta
	data, err := r.fetcher.fetch(ctx, request{
		name: snapshotName(r.root, r.timestamp), max: limit(maxSnapshot, meta.Length),
		verify: func(data []byte) (err error) {
			if got, err = verifySnapshot(r.root, r.timestamp, data, r.clock); err != nil {
				return err
			}
			return r.floors.checkSnapshot(got)
		}})
	if err != nil {
		return nil, err
	}
	r.files[snapshotCache(got.Signed.Version)] = data
	return got, nil
}

// updateRole returns a role from the store or the source. data is nil if the store has it.
func (c *Client) updateRole(ctx context.Context, st *state, e edge, clk clock) (role *targetsMeta, data []byte, err error) {
	meta := st.snapshot.Signed.Meta[e.role+".json"]
	if meta == nil {
		return nil, nil, &VerifyError{st.roleName(e.role), fmt.Errorf("the snapshot does not list %s", e.role)}
	}
	if role, err := c.cachedRole(st, e, clk); err == nil {
		return role, nil, nil
	}
	data, err = c.fetcher.fetch(ctx, request{
		name: st.roleName(e.role), max: limit(maxTargets, meta.Length),
		verify: func(data []byte) (err error) {
			role, err = st.verifyRole(e, data, clk)
			return err
		}})
	return role, data, err
}

func (c *Client) cachedRole(st *state, e edge, clk clock) (*targetsMeta, error) {
	meta := st.snapshot.Signed.Meta[e.role+".json"]
	if meta == nil {
		return nil, ErrNotStored
	}
	name := roleCache(e.role, meta.Version)
	data := c.store.read(name, maxTargets)
	if data == nil {
		return nil, ErrNotStored
	}
	role, err := st.verifyRole(e, data, clk)
	if err != nil {
		c.store.dropped(name, err)
	}
	return role, err
}

// load builds a view from nothing but the store.
func (r *run) load() (*View, error) {
	if r.root.Signed.Version < r.floors.Root {
		return nil, &RollbackError{roleRoot, r.floors.Root, r.root.Signed.Version}
	}
	if err := r.clock.judgeRoot(r.root); err != nil {
		return nil, err
	}
	ts, err := r.storedTimestamp()
	if err != nil {
		return nil, err
	}
	r.clock.now = later(r.clock.now, signedTime(ts))
	if err := r.clock.judgeTimestamp(ts); err != nil {
		return nil, err
	}
	st, err := r.storedState(ts, r.clock)
	if err != nil {
		return nil, err
	}
	view, err := newView(r.Client, st, r.clock)
	if err != nil {
		return nil, err
	}
	view.offline = true
	return view, nil
}

// storedTimestamp returns the timestamp of the state that is wholly in the store, expired or not.
func (r *run) storedTimestamp() (*timestampMeta, error) {
	if r.stored.timestamp == nil {
		return nil, ErrNotStored
	}
	ts, err := r.knownTimestamp(r.stored.timestamp, clock{now: always})
	if err != nil {
		r.store.dropped(timestampName, err)
		return nil, ErrNotStored
	}
	if ts.Signed.Version < r.floors.Whole {
		return nil, &RollbackError{roleTimestamp, r.floors.Whole, ts.Signed.Version}
	}
	return ts, nil
}

// storedState reads what the stored timestamp leads to. What is in memory was judged at another time, and is to be judged
// again.
func (r *run) storedState(ts *timestampMeta, c clock) (*state, error) {
	if st := r.last; st != nil && st.root == r.root && bytes.Equal(st.data, r.stored.timestamp) {
		return st, nil
	}
	st := &state{root: r.root, timestamp: ts, data: r.stored.timestamp, roles: map[edge]*targetsMeta{}}
	var err error
	if st.snapshot, err = r.cachedSnapshot(ts, c); err != nil {
		return nil, storedError(err)
	}
	if st.targets, err = r.cachedRole(st, edge{role: roleTargets, delegator: roleRoot}, c); err != nil {
		return nil, storedError(err)
	}
	return st, nil
}

// storedError tells expiry, which the user can do something about, from all that makes a cached file useless.
func storedError(err error) error {
	var expired *ExpiredError
	if errors.As(err, &expired) {
		return expired
	}
	return ErrNotStored
}

// limit is the most bytes to read of a file whose signed length, if any, is known.
func limit(most, signed int64) int64 {
	if signed > 0 && signed < most {
		return signed
	}
	return most
}

func rootName(version int64) string {
	return "metadata/" + strconv.FormatInt(version, 10) + ".root.json"
}

func snapshotName(root *rootMeta, ts *timestampMeta) string {
	return metadataName(root, roleSnapshot, ts.Signed.Meta[snapshotFile].Version)
}

func metadataName(root *rootMeta, role string, version int64) string {
	name := escapeRole(role) + ".json"
	if root.Signed.ConsistentSnapshot {
		name = strconv.FormatInt(version, 10) + "." + name
	}
	return "metadata/" + name
}

// roleOf is the role that an entry of a snapshot is about.
func roleOf(file string) (string, bool) { return strings.CutSuffix(file, ".json") }
