package update

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/Masterminds/semver/v3"

	"github.com/fairlead-dev/fairlead/channel"
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
	// entitlement.
	License license.Holder
	// Installer puts a new version in place. nil: Executable, for the running program itself.
	Installer Installer
	// Dir is where journal, trust store and staged files are kept: a folder used by nothing else and no other
	// installation, writable by nobody else, on the same volume as what is installed. "": beside the program,
	// ".NAME.fairlead".
	Dir string

	Wishes Wishes
	Trial  Trial
	Trust  Trust

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
)

// A Source is where a repository's files come from: [HTTP], [FS], [Mirrors], or one of the app's own. No source is
// trusted: whatever it delivers is verified.
type Source interface {
	// Open returns the content of a file of the repository from offset on. name is a slash-separated path such as
	// "metadata/timestamp.json". An error that satisfies errors.Is(err, fs.ErrNotExist) means that the file is
	// absent. ctx governs the reader as well. Open may be called from several goroutines.
	Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error)
}

// An Installer knows one layout of installed software and how to exchange one version for another in it.
// [Executable] is one. Its methods are called by one goroutine of one process at a time.
type Installer interface {
	// An Installer may also have Expect(*channel.Artifact) string, the digest that the signed manifest promises: then an
	// update that an earlier process has staged is accepted. And Program() string, the path that Restart runs, if it
	// is not the one that this process was started from.

	// Unpack turns a verified blob (a file, which it may move) into what Exchange takes: it fills the empty folder
	// into, checks every file against a.Files, makes everything durable, and returns what to pass to Exchange and the
	// program to probe, both inside into. It must write nowhere else.
	Unpack(ctx context.Context, a *channel.Artifact, blob, into string) (staged Staged, err error)
	// Exchange puts next in place and what was there at prev, which is replaced if it exists. Whenever it is
	// interrupted, the old version or the new one is in place, whole, and if it is the new one, the old one is at prev.
	Exchange(next, prev string) error
	// Digest identifies the content of a version by hashing it: the one at path, or, if path is "", the one in place.
	Digest(path string) (string, error)
}

// Staged is what an Installer has unpacked.
type Staged struct {
	Path    string `json:"path"`    // what Exchange takes
	Program string `json:"program"` // what to probe
	Digest  string `json:"digest"`  // what Installer.Digest returns for Path
}

type expecter interface {
	Expect(a *channel.Artifact) (digest string)
}

type programmer interface{ Program() string }

// An Updater keeps one installation up to date. Its methods may be called from several goroutines.
type Updater struct {
	cfg       Config
	dir       string
	installer Installer
	program   string // what Restart runs
	trust     *trust.Client
	log       *slog.Logger

	mu        sync.Mutex
	heldTrial func()            // lock of a running trial, see start.go
	born      os.FileInfo       // of the program when this process began; nil: not known
	started   string            // digest of what was in place at Start, if it had to be told
	unpacked  map[string]string // manifest → digest: what this process has verified and staged
}

// New checks the configuration. It does no network and writes nothing.
func New(cfg Config) (*Updater, error) {
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
	u := &Updater{cfg: cfg, dir: cfg.Dir, installer: cfg.Installer, log: cfg.Logger, unpacked: map[string]string{}}
	u.setDefaults()
	if err := u.findHome(); err != nil {
		return nil, err
	}
	var err error
	u.trust, err = trust.New(trust.Config{
		Root: cfg.Root, Dir: filepath.Join(u.dir, "trust"), Source: cfg.Source, Now: u.cfg.Now, Logger: u.log,
		BuildTime: cfg.Trust.BuildTime, MaxStaleness: cfg.Trust.MaxStaleness, StallTimeout: u.cfg.Trust.StallTimeout,
	})
	if err != nil {
		return nil, &ConfigError{"Root", err}
	}
	return u, nil
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
	switch i := u.installer.(type) {
	case Executable:
		u.program, err = filepath.Abs(i.Path)
	case programmer:
		u.program = i.Program()
	default:
		if u.program, err = os.Executable(); err == nil {
			u.program, err = filepath.EvalSymlinks(u.program)
		}
	}
	switch _, own := u.installer.(Executable); {
	case err != nil:
		return &ConfigError{"Installer", fmt.Errorf("the program's path cannot be told: %w", err)}
	case u.installer == nil || own:
		u.installer = Executable{Path: u.program}
	case u.dir == "":
		return &ConfigError{"Dir", errors.New("is required with an installer of one's own")}
	}
	u.born, _ = os.Stat(u.program)
	if u.dir == "" {
		u.dir = filepath.Join(filepath.Dir(u.program), "."+filepath.Base(u.program)+".fairlead")
	}
	if u.dir, err = filepath.Abs(u.dir); err != nil {
		return &ConfigError{"Dir", err}
	}
	return nil
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
