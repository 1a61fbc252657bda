package tufrepo_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/tufrepo"
)

// Example makes a repository, releases to beta, and promotes to stable.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "fairlead")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	now := func() time.Time { return time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC) }

	// One key for everything keeps the example short. In earnest root and targets have keys of several people, which
	// are kept offline, and every channel its own.
	key, err := tufrepo.GenerateKey("ed25519")
	if err != nil {
		log.Fatal(err)
	}
	keyFile := filepath.Join(dir, "key.pem")
	if err := tufrepo.WriteKeyFile(keyFile, key, []byte("a long passphrase")); err != nil {
		log.Fatal(err)
	}
	signer, err := tufrepo.LoadKeyFile(keyFile, func() ([]byte, error) { return []byte("a long passphrase"), nil })
	if err != nil {
		log.Fatal(err)
	}
	keys := tufrepo.RoleKeys{Keys: []tufrepo.PublicKey{signer.Public()}, Threshold: 1}

	store := tufrepo.Dir(filepath.Join(dir, "repo"))
	repo, err := tufrepo.Create(ctx, store, tufrepo.CreateConfig{Root: keys, Targets: keys, Snapshot: keys, Timestamp: keys, Now: now}, signer)
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"beta", "stable"} {
		if err := repo.AddChannel("notes", name, keys, tufrepo.Policy{}); err != nil {
			log.Fatal(err)
		}
	}

	program := filepath.Join(dir, "notes-linux-amd64")
	if err := os.WriteFile(program, []byte("a program"), 0o755); err != nil {
		log.Fatal(err)
	}
	if _, err := repo.Release(ctx, "notes", "beta", tufrepo.NewRelease{
		Version:   "1.0.0",
		Artifacts: []tufrepo.NewArtifact{{Platform: channel.Platform{OS: "linux", Arch: "amd64"}, Path: program}},
	}); err != nil {
		log.Fatal(err)
	}
	if _, err := repo.Promote(ctx, "notes", "1.0.0", "beta", "stable", &channel.Rollout{From: 500, To: channel.Everybody, Start: now(), Duration: 7 * 86400}); err != nil {
		log.Fatal(err)
	}
	for _, edit := range repo.Changes() {
		fmt.Println(edit)
	}
	if _, err := repo.Commit(ctx, signer); err != nil {
		log.Fatal(err)
	}

	root, err := os.ReadFile(filepath.Join(dir, "repo", "metadata", "1.root.json"))
	if err != nil {
		log.Fatal(err)
	}
	report, err := tufrepo.Verify(ctx, store, root, now())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d roles, %d releases, %d blob\n", report.Roles, report.Releases, report.Blobs)
	// Output:
	// add channel beta of product notes
	// add channel stable of product notes
	// release notes 1.0.0 to beta, for linux/amd64
	// promote notes 1.0.0 from beta to stable
	// 6 roles, 2 releases, 1 blob
}
