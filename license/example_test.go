package license_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fairlead-dev/fairlead/channel"
	"github.com/fairlead-dev/fairlead/license"
)

// An app would have this file beside its code:
//
//	//go:embed license-keys.json
//	var licenseKeys []byte
var licenseKeys = []byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"acme-2026","use":"sig","alg":"EdDSA",
	"x":"mJuSBQTe0VABBlZxo3GCC6VMm1rtDS5Nh4c_X13d7Bg"}]}`)

// What an app does: the keys are compiled in, the licence is a file, and every question is asked anew.
func Example() {
	keys, err := license.ParseKeyring(licenseKeys)
	if err != nil {
		fmt.Println(err)
		return
	}
	verifier, err := license.NewVerifier(license.Config{
		Issuer: "https://licenses.acme.example", Product: "acme-db", Keys: keys})
	if err != nil {
		fmt.Println(err)
		return
	}
	holder := license.FromToken(verifier, []byte(goldenToken)) // or license.FromFile(verifier, path), or a Store

	now := time.Date(2026, 12, 24, 0, 0, 0, 0, time.UTC) // or time.Now()
	status := holder.Status(context.Background(), now)
	fmt.Println(status.State, "until", status.Until.Format(time.DateOnly))
	fmt.Println("single sign-on:", status.Has("sso"))
	if n, ok := status.Limit("nodes"); ok {
		fmt.Println("nodes:", n)
	}
	// Output:
	// expiring_soon until 2027-01-01
	// single sign-on: true
	// nodes: 25
}

// What an app with an installation of its own does: a folder for what the customer brings, and other places besides.
func ExampleStore() {
	keys, _ := license.ParseKeyring(licenseKeys)
	verifier, _ := license.NewVerifier(license.Config{
		Issuer: "https://licenses.acme.example", Product: "acme-db", Keys: keys})
	folder, err := os.MkdirTemp("", "acme")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(folder) }()
	clock := time.Date(2026, 12, 24, 0, 0, 0, 0, time.UTC)
	store, err := license.OpenStore(license.StoreConfig{
		Verifier: verifier,
		Dir:      filepath.Join(folder, "license"),
		Sources:  []license.Source{license.File("/etc/acme-db/acme.license"), license.Env("ACME_DB_LICENSE")},
		Now:      func() time.Time { return clock }, // an app leaves it out
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(store.Current().State, store.Has("sso"))

	_, err = store.Install(context.Background(), []byte("what the customer has pasted")) // refused, and nothing has changed
	fmt.Println(errors.Is(err, license.ErrMalformed))
	status, err := store.Install(context.Background(), license.Armor([]byte(goldenToken)))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(status.State, store.Has("sso"), "ends within", status.EndsWithin(), "days")

	for range 10 { // a week at a time, without a restart
		clock = clock.AddDate(0, 0, 7)
		status = store.Current()
	}
	fmt.Println(status.State, store.Has("sso"))
	clock = time.Unix(0, 0) // the battery is empty
	fmt.Println(store.Current().State, store.Has("sso"))
	fmt.Println(store.Current().Warnings[0])
	// Output:
	// missing false
	// true
	// expiring_soon true ends within 14 days
	// expired false
	// expired false
	// this computer's clock says 1970-01-01, but it is at least 2027-03-04, as this computer's clock has already said: licences are judged as of then; set the clock
}

// Every reason is given, in words that can be sent to the customer.
func ExampleStatus_AllowUpdate() {
	keys, _ := license.ParseKeyring(licenseKeys)
	verifier, _ := license.NewVerifier(license.Config{
		Issuer: "https://licenses.acme.example", Product: "acme-db", Keys: keys})
	status := verifier.Status([]byte(goldenToken), time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC))

	next := channel.Release{Version: "4.0.0", Published: time.Date(2026, 7, 2, 0, 0, 0, 0, time.UTC)}
	for _, denial := range status.AllowUpdate("stable", "3.2.0", next).Denials {
		fmt.Printf("%s: %s\n", denial.Code, denial.Detail)
	}
	fix := channel.Release{Version: "3.2.1", Kind: channel.Security, Published: next.Published}
	fmt.Println("security fix:", status.AllowUpdate("stable", "3.2.0", fix).Allowed)
	// Output:
	// version_out_of_range: the licence is for versions >=2.0.0 <4.0.0, this release is 4.0.0
	// updates_expired: updates were included until 2026-06-30, this release was published on 2026-07-02
	// security fix: true
}

// What the vendor does, usually through `publish license issue`.
func ExampleIssuer_Issue() {
	_, private, err := ed25519.GenerateKey(nil) // kept in a file, in the environment or in a KMS
	if err != nil {
		fmt.Println(err)
		return
	}
	issuer, err := license.NewIssuer(private, "acme-2026", "https://licenses.acme.example")
	if err != nil {
		fmt.Println(err)
		return
	}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	end := time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC)
	token, err := issuer.Issue(license.License{
		Subject: "cus_7Q2", LicenseID: "lic_42", Seq: 1, Audience: []string{"acme-db"},
		IssuedAt: start, Expires: end, LicenseExpires: end, Grace: 14 * 24 * time.Hour,
		UpdatesUntil: end, Versions: "<4.0.0",
		Entitlements: map[string]any{"sso": true, "nodes": 25},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = license.Armor(token) // what the customer gets

	keys, _ := license.NewKeyring(license.Key{ID: "acme-2026", Public: private.Public()})
	embed, _ := json.Marshal(keys) // what the app gets
	fmt.Println(len(embed) > 0)
	// Output: true
}

// What a key that the app does not know means: not a bad licence, but an app that is too old for it.
func ExampleTokenError() {
	keys, _ := license.NewKeyring(license.Key{ID: "acme-2019", Public: seedKey(9).Public()})
	verifier, _ := license.NewVerifier(license.Config{
		Issuer: "https://licenses.acme.example", Product: "acme-db", Keys: keys})
	_, err := verifier.Parse([]byte(goldenToken))
	fmt.Println(errors.Is(err, license.ErrUnknownKey))
	fmt.Println(err)
	// Output:
	// true
	// license: the licence was issued with the key "acme-2026", which this app does not know: update the app, or let it check for updates
}
