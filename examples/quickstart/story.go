package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// tell runs the story with programs for that system, and writes it to out.
func tell(ctx context.Context, out io.Writer, on target) (err error) {
	dir, err := os.MkdirTemp("", "fairlead-quickstart-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s := &story{ctx: ctx, on: on, out: out, dir: dir}
	defer func() { err = errors.Join(err, s.close()) }()
	for _, chapter := range []func() error{
		s.vendorSetsUp, s.customerInstalls, s.withoutLicence, s.withLicence, s.brokenRelease, s.withdrawal, s.outsideTheLicence, s.tamperedMirror,
	} {
		if err := chapter(); err != nil {
			return err
		}
	}
	s.say("Done: every step was checked.")
	return nil
}

func (s *story) vendorSetsUp() error {
	s.title("The vendor makes keys and an empty repository, and serves it")
	if err := s.build("./cmd/publish", s.path("publish")); err != nil {
		return err
	}
	if err := s.publish("init", "--product", "notes", "--channel", "stable"); err != nil {
		return err
	}
	keyring, err := s.publishOutput("license", "keys", "new", "acme-2026")
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.path("keyring.json"), keyring, 0o600); err != nil {
		return err
	}
	return s.serve()
}

func (s *story) customerInstalls() error {
	s.title("Version 1.0.0 is published, and the customer installs it")
	if err := s.release("1.0.0"); err != nil {
		return err
	}
	if err := s.install("1.0.0"); err != nil {
		return err
	}
	return s.expect("notes 1.0.0 runs", func(st status) bool { return st.Version == "1.0.0" })
}

func (s *story) withoutLicence() error {
	s.title("1.1.0 comes out; this customer has no licence")
	if err := s.release("1.1.0"); err != nil {
		return err
	}
	return s.expect("1.1.0 is withheld, and the app can say why", func(st status) bool {
		return st.Version == "1.0.0" && st.Outcome == "withheld" && st.Best == "1.1.0" && st.Reason == "license_missing"
	})
}

func (s *story) withLicence() error {
	s.title("The vendor issues a licence for versions below 2.0.0")
	err := s.publish("license", "issue", "--key", s.path("keys", "acme-2026.pem"), "--issuer", "https://acme.example", "--product", "notes",
		"--subject", "customer-17", "--id", "L-1001", "--until", time.Now().AddDate(1, 0, 0).Format(time.DateOnly), "--versions", "<2.0.0", "--out", s.path("customer", "license.jwt"))
	if err != nil {
		return err
	}
	return errors.Join(
		s.expect("notes has replaced itself by 1.1.0 and restarted", func(st status) bool { return st.Version == "1.1.0" }),
		s.expectLog("what it has downloaded was a patch", "made of patches", "to=1.1.0"),
		s.expect("the new version ran well and is confirmed; up to date", func(st status) bool { return st.Outcome == "up_to_date" }),
	)
}

func (s *story) brokenRelease() error {
	s.title("1.2.0 starts, but fails on the customer's data")
	if err := s.release("1.2.0", "-tags", "broken"); err != nil {
		return err
	}
	err := s.expect("notes is back on 1.1.0 by itself", func(st status) bool {
		return st.Version == "1.1.0" && st.Outcome == "withheld" && st.Best == "1.2.0" && st.Reason == "quarantined"
	})
	if err != nil {
		return err
	}
	starts := s.starts.Load()
	if starts < 4 {
		return fmt.Errorf("1.2.0 was started %d times only: it was never on trial", starts-1)
	}
	if err := s.sleep(10 * checkEvery); err != nil {
		return err
	}
	if again := s.starts.Load(); again != starts {
		return fmt.Errorf("notes was restarted after it had gone back: %d starts, then %d", starts, again)
	}
	s.say("  ✓ it does not try 1.2.0 again")
	return nil
}

func (s *story) withdrawal() error {
	s.title("The vendor withdraws 1.2.0 and publishes 1.2.1")
	if err := s.publish("withdraw", "1.2.0", "--reason", "fails to migrate notes", "--revert-to", "1.1.0"); err != nil {
		return err
	}
	if err := s.release("1.2.1"); err != nil {
		return err
	}
	return errors.Join(
		s.expect("notes runs 1.2.1", func(st status) bool { return st.Version == "1.2.1" }),
		s.expect("confirmed; up to date", func(st status) bool { return st.Outcome == "up_to_date" }),
	)
}

func (s *story) outsideTheLicence() error {
	s.title("2.0.0 comes out; the licence is for versions below 2.0.0")
	if err := s.release("2.0.0"); err != nil {
		return err
	}
	return s.expect("2.0.0 is withheld, and the app can say why", func(st status) bool {
		return st.Version == "1.2.1" && st.Outcome == "withheld" && st.Best == "2.0.0" && st.Reason == "version_out_of_range"
	})
}

func (s *story) tamperedMirror() error {
	s.title("Somebody breaks into the mirror")
	artifact, err := s.releaseTampered("1.2.2")
	if err != nil {
		return err
	}
	err = s.expectLog("1.2.2 with one byte changed is refused", "does not verify", artifact)
	if err != nil {
		return err
	}
	if err := s.forgeTimestamp(); err != nil {
		return err
	}
	err = s.expect("a forged timestamp is refused", func(st status) bool { return st.Outcome == "failed" && strings.Contains(st.Text, "does not verify") })
	if err != nil {
		return err
	}
	return s.expect("notes keeps running 1.2.1 all the while", func(st status) bool { return st.Version == "1.2.1" })
}
