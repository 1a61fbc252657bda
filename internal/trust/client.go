package trust

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// The most bytes of each file, and the most steps of each walk. A role is also no longer than its snapshot says.
const (
	maxRoot      = 512_000
	maxTimestamp = 16_384
	maxSnapshot  = 2_000_000
	maxTargets   = 5_000_000

	maxRotations   = 256
	maxDelegations = 32
)

// Config is what a [Client] needs to know.
type Config struct {
	// Root is the root metadata compiled into the application, the only metadata that is trusted as it is. Required.
	Root []byte
	// Dir is the folder of the trust store, used by nothing else. It is created, with mode 0700. Several processes may
	// share one. Required.
	Dir string
	// Source is where the repository is. Required.
	Source Source
	// Roster is the mirrors of Source, to share with others what is learnt of them. nil: the client has its own.
	Roster *Roster
	// Now tells the time. nil means time.Now.
	Now func() time.Time
	// BuildTime is when the running application was built: it can not be earlier. Zero means unknown.
	BuildTime time.Time
	// MaxStaleness is how long after its expiry a timestamp is still accepted, for installations without a network.
	// Zero means not at all.
	MaxStaleness time.Duration
	// StallTimeout ends a read that brings no byte for so long. Zero means 30 s.
	StallTimeout time.Duration
	// Logger is told what the caller may ignore, such as a damaged file in the store. nil means nobody.
	Logger *slog.Logger
}

// Client keeps one installation's view of a repository up to date. It may be used from several goroutines.
type Client struct {
	cfg     Config
	root    *rootMeta // the embedded one
	store   *store
	fetcher *fetcher
	log     *slog.Logger

	turn chan struct{} // one refresh at a time: it holds a value while there is none
	mu   sync.Mutex
	warm *state // of the last refresh that succeeded: what still is in the repository need not be verified again
}

// New checks the configuration, and that the embedded root is one. It touches neither the network nor the disk.
func New(cfg Config) (*Client, error) {
	switch {
	case len(cfg.Root) == 0:
		return nil, errors.New("trust: Config.Root is missing: embed the repository's root.json")
	case cfg.Dir == "":
		return nil, errors.New("trust: Config.Dir is missing")
	case cfg.Source == nil:
		return nil, errors.New("trust: Config.Source is missing")
	case cfg.MaxStaleness < 0 || cfg.StallTimeout < 0:
		return nil, errors.New("trust: Config.MaxStaleness and Config.StallTimeout can not be negative")
	}
	root, err := verifyEmbedded(cfg.Root)
	if err != nil {
		return nil, err
	}
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, &StoreError{cfg.Dir, err}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.StallTimeout == 0 {
		cfg.StallTimeout = 30 * time.Second
	}
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if cfg.Roster == nil {
		cfg.Roster = NewRoster(cfg.Source, nil)
	}
	c := &Client{
		cfg:     cfg,
		root:    root,
		store:   &store{cfg.Dir, log},
		fetcher: &fetcher{cfg.Roster, cfg.StallTimeout, log},
		log:     log,
		turn:    make(chan struct{}, 1),
	}
	c.turn <- struct{}{}
	return c, nil
}

func (c *Client) remember(st *state) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.warm = st
}

func (c *Client) remembered() *state {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.warm
}

// Refresh asks the source for newer metadata and returns the newest view that verifies (TUF section 5.3 to 5.6, for
// the four top-level roles).
//
// Its errors are *[ExpiredError], *[VerifyError], *[RollbackError], *[SourceError], *[StoreError], [ErrMoreRoots]
// and that of ctx; with several mirrors possibly several of them, to be found by errors.As. Whatever did not verify
// leaves no trace in the store; roots, and a timestamp and snapshot that did verify before something below them
// failed, are remembered, as TUF demands. The view of the last refresh that succeeded stays available through Load.
func (c *Client) Refresh(ctx context.Context) (*View, error) {
	select {
	case <-c.turn:
		defer func() { c.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	r, err := c.start(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	view, err := r.refresh(ctx)
	if err == nil {
		return view, nil
	}
	if keepErr := r.keep(ctx, nil); keepErr != nil {
		c.log.InfoContext(ctx, "progress was not kept", "error", keepErr)
	}
	return nil, err
}

// Load returns the view that the last successful refresh left in the store, without any use of the source, then or
// later. It is verified from the embedded root on and judged at the present time, as if it had just arrived. If
// there is none, the error is [ErrNotStored].
func (c *Client) Load(ctx context.Context) (*View, error) {
	if _, err := os.Stat(c.cfg.Dir); err != nil {
		return nil, ErrNotStored
	}
	release, err := c.store.lock(ctx, false)
	if err != nil {
		return nil, err
	}
	defer release() // held to the end, as another process may sweep away what is read here
	return c.look().load()
}

func (c *Client) start(ctx context.Context) (*run, error) {
	release, err := c.store.lock(ctx, true)
	if err != nil {
		return nil, err
	}
	defer release()
	c.store.sweepTemps()
	return c.look(), nil
}

// look reads the store, replays the chain of roots and tells the time. The lock is held.
func (c *Client) look() *run {
	in := c.store.look()
	r := &run{Client: c, stored: in, floors: in.floors.clone(), files: map[string][]byte{}}
	r.clock.maxStaleness = c.cfg.MaxStaleness
	// Another process may have got further. Then its newer root is in the store, and its floors are above.
	if st := c.remembered(); st != nil && in.floors.Root == st.root.Signed.Version {
		r.last, r.root = st, st.root
	} else {
		r.root = c.replay()
	}
	r.rootAtStart = r.root
	if r.floors.Root <= r.root.Signed.Version {
		r.floors.rebase(r.root)
	}
	r.began = c.cfg.Now().UTC()
	r.tellTime()
	return r
}

// replay walks the stored roots from the embedded one on, as far as they verify. The rest of a chain that does not
// is as good as absent: the source will be asked for it. The lock is held.
func (c *Client) replay() *rootMeta {
	root := c.root
	for {
		name := rootFile(root.Signed.Version + 1)
		data := c.store.read(name, maxRoot)
		if data == nil {
			return root
		}
		next, err := verifyNextRoot(root, data)
		if err != nil {
			c.store.dropped(name, err)
			return root
		}
		root = next
	}
}
