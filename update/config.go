package update

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/Masterminds/semver/v3"
	"golang.org/x/time/rate"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/internal/disk"
	"github.com/fairlead-dev/fairlead/internal/preflight"
	"github.com/fairlead-dev/fairlead/internal/trust"
	"github.com/fairlead-dev/fairlead/license"
)

// Config says what an app is and where its updates come from. The first five fields are required.
type Config struct {
	Product string // name in the repository, see channel.CheckName
	Channel string // the channel this installation follows
	Version string // version of the running build; "dev" and the like only ever get outcome Unknown
	Root    []byte // root.json of the repository, compiled in: the root of all trust
	Source  Source // where the repository's files come from: HTTP, FS, Mirrors

	// License answers what licence is held. nil: the product is free, and gets every release that requires no
	// entitlement. One that is a [license.ListHolder], as a [license.Store] is, gets its lists from the Updater.
	License license.Holder
	// Installer puts a new version in place: Executable, Versions, Bundle or one of the app's own. nil: Executable, for
	// the running program itself.
	Installer Installer
	// Dir is where journal, trust store and staged files are kept: a folder used by nothing else and no other
	// installation, writable by nobody else, on the same volume as what is installed. "": where the installer has it, see
	// there.
	Dir string

	// MaxPatchMemory is how many bytes applying a patch may take. One that needs more is not downloaded. 0: 1 GiB;
	// negative: there are no patches, and every update is downloaded as a whole.
	MaxPatchMemory int64

	Wishes   Wishes
	Trial    Trial
	Trust    Trust
	Download Download
	Hooks    Hooks

	Reporter Reporter     // told what happened; nil: nobody
	Logger   *slog.Logger // nil: silent
	// Now is the clock; nil: time.Now. It is read once an operation.
	Now func() time.Time
}

// Wishes are the app's own or its user's limits on what is installed. The zero value has none.
type Wishes struct {
	Pin        string   // install this version only
	Constraint string   // install versions that satisfy this semver constraint only, such as "<2"
	Skip       []string // never install these versions
	// AcceptDowngrade allows a lower version if the channel does not list the running one: set it when the user
	// has changed to a slower channel and wants its version now.
	AcceptDowngrade bool
}

// Trial says how a new version proves itself. The zero value has the defaults.
type Trial struct {
	Starts  int           // starts that ended in neither Confirm nor Succeeded, after which the previous version comes back; 0: 3
	Healthy time.Duration // Run confirms a version that has run this long; 0: a minute; negative: only Confirm does
	Probe   time.Duration // how long the probe of a staged build may take; 0: 15 s
	// InsecureSkipProbe installs builds that were never run on this machine: for programs that do not call Start.
	InsecureSkipProbe bool
}

// Hooks are steps of the app's own, such as migrating its data. Any of them may be nil. While BeforeApply and
// AfterRollback run, no other process of the installation applies or goes back.
type Hooks struct {
	// BeforeApply runs in the old version, when the update has been staged and before anything is touched: it may save the
	// data that the new version would change. An error stops Apply with a [*HookError]; nothing has changed, and the
	// update stays staged. If Apply fails later, or is repeated, it is called again the next time.
	BeforeApply func(ctx context.Context, from, to string) error
	// AfterRollback runs in the version that was put back, in its first Start: it may restore what BeforeApply saved.
	// from is the version that was left. Until it returns nil, every Start calls it again and returns a [*HookError].
	AfterRollback func(ctx context.Context, from, to string) error
	// Healthy is asked by Run, before it confirms a new version that has run for Trial.Healthy, with that long to answer.
	// After Trial.Starts errors, one Trial.Healthy after the other, the version before comes back, and Run returns
	// ErrApplied. Its veto is limited: it can make this installation leave three releases in a row. After that
	// something else is broken than the releases, and the next one is confirmed in spite of it.
	Healthy func(ctx context.Context) error
}

// A HookError says that a hook of the app failed.
type HookError struct {
	Hook string // the field's name in Hooks
	Err  error
}

func (e *HookError) Error() string {
	return "update: the app's " + e.Hook + " failed: " + e.Err.Error()
}
func (e *HookError) Unwrap() error { return e.Err }

// Trust adjusts how the repository is judged. The zero value is the strictest.
type Trust struct {
	// MaxStaleness accepts a repository whose timestamp has expired by no more than this: for networks that are fed
	// by hand. Every Decision then says how stale it is. 0: expiry is an error.
	MaxStaleness time.Duration
	// BuildTime of the running program: no clock is believed that shows less. Zero: not known.
	BuildTime time.Time
	// StallTimeout ends a transfer that delivers nothing, or less than 1 KiB/s on average, for this long. 0: 30 s.
	StallTimeout time.Duration
}

const (
	defaultStarts  = 3
	defaultHealthy = time.Minute
	defaultProbe   = 15 * time.Second
	defaultStall   = 30 * time.Second
	defaultMemory  = 1 << 30
)

// A Source is where a repository's files come from: [HTTP], [FS], [Mirrors], or one of the app's own. No source is
// trusted: whatever it delivers is verified.
type Source interface {
	// Open returns the content of a file of the repository from offset on. name is a slash-separated path such as
	// "metadata/timestamp.json". An error that satisfies errors.Is(err, fs.ErrNotExist) means that the file is
	// absent. ctx governs the reader as well. Open may be called from several goroutines.
	Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error)
}

// An Updater keeps one installation up to date. Its methods may be called from several goroutines.
type Updater struct {
	cfg       Config
	dir       string
	disk      disk.FS
	installer Installer
	patcher   patcher // nil: there are no patches
	started   string  // the program that this process was started from
	trust     *trust.Client
	roster    *trust.Roster // the mirrors
	log       *slog.Logger
	limit     *rate.Limiter                                 // of downloads; nil: none
	pauser    *pauser                                       // of downloads
	boot      func() string                                 // see disk.BootID
	pace      pace                                          // of checkpoints
	managedBy func(context.Context, string) (string, error) // see preflight.ManagedBy
	lists     licenseLists

	mu        sync.Mutex
	held      []func()          // locks held until the process ends
	heldTrial func()            // lock of a running trial, see start.go
	born      os.FileInfo       // of the program when this process began; nil: not known
	running   string            // digest of what was in place at Start, if it had to be told
	unpacked  map[string]string // manifest → digest: what this process has verified and staged
	doubted   map[string]bool   // blobs whose hash goes back to another process, see vouch
}

// New checks the configuration. It does no network and writes nothing.
func New(cfg Config) (*Updater, error) { return newOn(disk.OS, cfg) }

func newOn(fsys disk.FS, cfg Config) (*Updater, error) {
	if err := errors.Join(channel.CheckName("product", cfg.Product), channel.CheckName("channel", cfg.Channel)); err != nil {
		return nil, &ConfigError{"Product or Channel", err}
	}
	switch {
	case len(cfg.Root) == 0:
		return nil, &ConfigError{"Root", errors.New("is empty: embed the repository's 1.root.json with go:embed")}
	case cfg.Source == nil:
		return nil, &ConfigError{"Source", errors.New("is nil: use update.HTTP, update.FS or update.Mirrors")}
	}
	if len(trust.Flatten(cfg.Source)) == 0 {
		return nil, &ConfigError{"Source", errors.New("has no mirrors")}
	}
	for _, v := range cfg.Wishes.Skip {
		if _, err := channel.ParseVersion(v); err != nil {
			return nil, &ConfigError{"Wishes", err}
		}
	}
	if _, err := channel.Resolve(nil, channel.Query{Constraint: cfg.Wishes.Constraint, Pin: cfg.Wishes.Pin}); err != nil {
		return nil, &ConfigError{"Wishes", err}
	}
	if cfg.Download.BytesPerSecond < 0 || cfg.Download.Tries < 0 {
		return nil, &ConfigError{"Download", errors.New("a limit or a number of tries cannot be negative")}
	}
	u, err := newHome(fsys, cfg)
	if err != nil {
		return nil, err
	}
	u.trust, err = trust.New(trust.Config{
		Root: cfg.Root, Dir: filepath.Join(u.dir, "trust"), Source: cfg.Source, Roster: u.roster, Now: u.cfg.Now, Logger: u.log,
		BuildTime: cfg.Trust.BuildTime, MaxStaleness: cfg.Trust.MaxStaleness, StallTimeout: u.cfg.Trust.StallTimeout,
	})
	if err != nil {
		return nil, &ConfigError{"Root", err}
	}
	if h, ok := cfg.License.(license.ListHolder); ok {
		h.UseLists(u)
	}
	return u, nil
}

// newHome is all but the trust store.
func newHome(fsys disk.FS, cfg Config) (*Updater, error) {
	u := &Updater{
		cfg: cfg, dir: cfg.Dir, installer: cfg.Installer, disk: fsys, log: cfg.Logger, unpacked: map[string]string{}, doubted: map[string]bool{},
		pauser: newPauser(), limit: newLimit(cfg.Download.BytesPerSecond), boot: disk.BootID, pace: defaultPace(), managedBy: preflight.ManagedBy,
	}
	u.roster = trust.NewRoster(cfg.Source, u.reportLiar)
	u.setDefaults()
	return u, u.findHome()
}

func (u *Updater) setDefaults() {
	c := &u.cfg
	if c.Trial.Starts <= 0 {
		c.Trial.Starts = defaultStarts
	}
	if c.Trial.Healthy == 0 {
		c.Trial.Healthy = defaultHealthy
	}
	if c.Trial.Probe <= 0 {
		c.Trial.Probe = defaultProbe
	}
	if c.Trust.StallTimeout <= 0 {
		c.Trust.StallTimeout = defaultStall
	}
	if c.MaxPatchMemory == 0 {
		c.MaxPatchMemory = defaultMemory
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	// What runs is named as the repository names it: without a leading v, and without build metadata, which has no
	// precedence (semver 2.0.0, section 10).
	if v, err := semver.StrictNewVersion(strings.TrimPrefix(c.Version, "v")); err == nil {
		bare, _ := v.SetMetadata("")
		c.Version = bare.Original()
	}
	if u.log == nil {
		u.log = slog.New(slog.DiscardHandler)
	}
}

// findHome settles the installer and the folder for state.
func (u *Updater) findHome() error {
	var err error
	if u.started, err = os.Executable(); err == nil {
		u.started, err = filepath.EvalSymlinks(u.started)
	}
	if u.installer == nil {
		u.installer = Executable{Path: u.started}
	} else if i, ok := u.installer.(ours); ok {
		err = i.validate()
	}
	if err != nil {
		return &ConfigError{"Installer", err}
	}
	if i, ok := u.installer.(ours); ok {
		// An app may have made one of ours a part of its own, which is not to be replaced by that part.
		if with := i.on(u.disk, u); reflect.TypeOf(with) == reflect.TypeOf(u.installer) {
			u.installer = with
			u.patcher, _ = with.(patcher)
		}
	}
	if h, ok := u.installer.(homer); ok && u.dir == "" {
		u.dir = h.Home()
	}
	if u.dir == "" {
		return &ConfigError{"Dir", errors.New("is required with an installer of one's own")}
	}
	if u.dir, err = filepath.Abs(u.dir); err != nil {
		return &ConfigError{"Dir", err}
	}
	u.born, _ = os.Stat(u.program())
	return nil
}

// ours is what our own installers have.
type ours interface {
	validate() error
	place() string // the folder in which an exchange happens
	// on returns the installer with what it needs of the updater.
	on(disk.FS, records) Installer
}

// checkAbsolute refuses a path that would mean something else tomorrow.
func checkAbsolute(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("the path %q is not absolute", path)
	}
	return nil
}

func orReal(fsys disk.FS) disk.FS {
	if fsys == nil {
		return disk.OS
	}
	return fsys
}

func orNone(r records) records {
	if r == nil {
		return noRecords{}
	}
	return r
}

// program is what Restart runs.
func (u *Updater) program() string {
	if p, ok := u.installer.(enterer); ok {
		return p.Entry()
	}
	return u.started
}

// A ConfigError says which field of a Config cannot be used, and why.
type ConfigError struct {
	Field string
	Err   error
}

func (e *ConfigError) Error() string { return "update: config: " + e.Field + ": " + e.Err.Error() }
func (e *ConfigError) Unwrap() error { return e.Err }

func (u *Updater) path(elem ...string) string {
	return filepath.Join(append([]string{u.dir}, elem...)...)
}
