package update_test

import (
	"fmt"
	"net/http"
	"time"

	"github.com/fairlead-dev/fairlead/update"
)

// A company's network: its proxy, its own authority, a token for the vendor's server, a mirror, and a line to be spared.
func ExampleHTTPWith() {
	proxy, token := "http://anna:secret@proxy.example.net:3128", "s3cret"
	var companyCAs, root []byte
	check := func(err error) {
		if err != nil {
			fmt.Println(err)
		}
	}
	// README begins

	source, err := update.HTTPWith("https://updates.example.com/", update.HTTPConfig{
		Proxy:   proxy,                                             // "": as HTTPS_PROXY and NO_PROXY say
		RootCAs: companyCAs,                                        // PEM, besides the system's
		Header:  http.Header{"Authorization": {"Bearer " + token}}, // to this host only, and never along a redirect
	})
	check(err)
	mirror, err := update.HTTP("https://mirror.example.org/updates/", nil)
	check(err)
	up, err := update.New(update.Config{
		Product: "notes", Channel: "stable", Version: "1.0.0", Root: root, Source: update.Mirrors(source, mirror),
		Download: update.Download{BytesPerSecond: 2 << 20},
	})
	// README ends
	check(err)
	_ = up
	// Output:
	// update: config: Root: is empty: embed the repository's 1.root.json with go:embed
}

// Progress of a download, for people.
func ExampleProgress() {
	show := func(p update.Progress) {
		if p.Step == update.Downloading && p.Rate > 0 {
			fmt.Printf("%d of %d MB, %.1f MB/s, %s left\n", p.Done/1e6, p.Total/1e6, float64(p.Rate)/1e6, p.Left.Round(time.Second))
		}
	}
	show(update.Progress{Step: update.Downloading, Done: 30e6, Total: 80e6, Rate: 2_500_000, Left: 20 * time.Second})
	// Output: 30 of 80 MB, 2.5 MB/s, 20s left
}
