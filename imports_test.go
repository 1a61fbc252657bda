package fairlead_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The direction of imports, and the weight of what an app links. These tests shell out to the go command, which the test
// cache does not see: run them with -count=1.

const module = "github.com/fairlead-dev/fairlead"

// mayImport draws the arrows between our packages: package → what it may import directly. Tests may import anything.
var mayImport = map[string][]string{
	"":                               {},
	"channel":                        {},
	"internal/archive":               {"channel"},
	"internal/delta":                 {"channel", "internal/delta/reloc"},
	"internal/delta/diff":            {"channel", "internal/archive", "internal/delta", "internal/delta/diff/zprefix", "internal/delta/reloc/relocdiff"},
	"internal/delta/diff/zprefix":    {},
	"internal/delta/reloc":           {},
	"internal/delta/reloc/relocdiff": {"internal/delta/reloc"},
	"internal/disk":                  {},
	"internal/filelock":              {},
	"internal/trust":                 {"internal/disk", "internal/filelock", "internal/webclient"},
	"internal/trust/conformance":     {"internal/trust", "internal/disk"},
	"license":                        {"channel", "internal/disk", "internal/filelock"},
	"internal/disk/crashfs":          {"internal/disk"},
	"internal/killpoint":             {},
	"internal/preflight":             {},
	"update":                         {"channel", "license", "internal/trust", "internal/archive", "internal/delta", "internal/disk", "internal/filelock", "internal/preflight"},
	"license/refresh":                {"internal/webclient"},
	"internal/webclient":             {},
	"update/installertest":           {"channel", "update"},
	"tufrepo":                        {"channel", "internal/archive", "internal/delta/diff", "internal/disk", "internal/filelock"},
	"cmd/publish":                    {"cmd/publish/internal/cli", "cmd/publish/internal/kms", "cmd/publish/internal/s3store"},
	"cmd/publish/internal/cli":       {"channel", "license", "tufrepo", "internal/disk", "cmd/publish/internal/issuelog", "cmd/publish/internal/keyuri", "cmd/publish/internal/static"},
	"cmd/publish/internal/keyuri":    {"tufrepo"},
	"cmd/publish/internal/kms":       {"cmd/publish/internal/keyuri"},
	"cmd/publish/internal/issuelog":  {"internal/disk", "internal/filelock"},
	"cmd/publish/internal/s3store":   {"channel", "tufrepo", "cmd/publish/internal/static"},
	"cmd/publish/internal/static":    {},
	"bench/delta":                    {"channel", "internal/delta", "internal/delta/diff"},
	"examples/daemon":                {"update"},
	"examples/embed":                 {"update"},
	"examples/licensed":              {"license", "license/refresh", "update"},
	"examples/quickstart":            {},
	"examples/quickstart/notes":      {"license", "update"},

	"cmd/publish/internal/s3store/s3test": {},
}

// mayNotReach forbids packages by import path, however indirect the way.
var mayNotReach = map[string][]string{
	"channel": {"net", "os/exec", "math/rand", "math/rand/v2", "crypto/rand", "log", "log/slog", "flag", "testing"},
	"license": {"net/http", "github.com/theupdateframework/", "github.com/sigstore/", "flag", "testing"},
	// What fetches licences is light as well: no TUF, and nothing of a licence but its bytes.
	"license/refresh": {module + "/license", module + "/internal/trust", "github.com/theupdateframework/", "flag", "testing"},
	"internal/delta":  {"os/exec", "flag", "testing", module + "/internal/delta/diff"},
	"internal/trust":  {module + "/license", module + "/update", module + "/tufrepo", "flag", "testing"},
	"update":          {module + "/tufrepo", module + "/internal/delta/diff", module + "/internal/delta/reloc/relocdiff", module + "/cmd/", "flag", "testing", "github.com/stretchr/", "github.com/spf13/"},
	"tufrepo":         {module + "/update", module + "/internal/trust", module + "/license", "testing", "github.com/aws/"},

	"cmd/publish/internal/cli": {"github.com/aws/"}, // what talks to a cloud is handed to it
}

// mayNotImport forbids direct imports: net/http brings log with it, but a library of ours does not call it.
var mayNotImport = map[string][]string{
	"channel": {"os", "io/fs", "path/filepath", "runtime", "context"}, "license": {"log"}, "license/refresh": {"log", "os"}, "internal/trust": {"log"}, "update": {"log"}, "tufrepo": {"log"},
}

// appModules is what an app links by importing update, license and license/refresh, and nothing else.
var appModules = []string{
	"github.com/Masterminds/semver/v3",
	"github.com/andybalholm/brotli", // the streams of reloc/1
	"github.com/cenkalti/backoff/v5",
	"github.com/gofrs/flock",
	"github.com/golang-jwt/jwt/v5",
	"github.com/klauspost/compress", // zstd only, for .tar.zst: 0.2 MB
	"github.com/theupdateframework/go-tuf/v2",
	"golang.org/x/sys",
	"golang.org/x/time", // rate only
	// what go-tuf brings
	"github.com/google/go-containerregistry",
	"github.com/opencontainers/go-digest",
	"github.com/secure-systems-lab/go-securesystemslib",
	"github.com/sigstore/protobuf-specs",
	"github.com/sigstore/sigstore",
	"github.com/youmark/pkcs8",
	"golang.org/x/crypto",
	"golang.org/x/term",
	"google.golang.org/genproto/googleapis/api",
	"google.golang.org/protobuf",
}

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
	Module     *struct{ Path string }
}

func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Imports,Deps,Module"}, args...)...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		t.Fatalf("go list: %s", exit.Stderr)
	}
	require.NoError(t, err)
	var all []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		all = append(all, p)
	}
}

func TestImportDrawing(t *testing.T) {
	ours := list(t, "./...")
	require.Len(t, ours, len(mayImport), "a package is missing in the drawing")
	for _, p := range ours {
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		allowed, drawn := mayImport[name]
		require.True(t, drawn, "%s is not in the drawing", p.ImportPath)
		for _, i := range p.Imports {
			if rest, ok := strings.CutPrefix(i, module+"/"); ok {
				require.Contains(t, allowed, rest, "%s may not import %s", name, rest)
			}
			require.NotContains(t, mayNotImport[name], i, "%s may not import %s", name, i)
		}
		for _, forbidden := range mayNotReach[name] {
			i := slices.IndexFunc(p.Deps, func(dep string) bool {
				return dep == forbidden || (strings.HasSuffix(forbidden, "/") && strings.HasPrefix(dep, forbidden))
			})
			require.Negative(t, i, "%s may not reach %s", name, forbidden)
		}
	}
}

// keyServices are what sigstore's providers of key services bring: some 70 modules, and 18 MB of a program.
var keyServices = []string{
	"github.com/sigstore/sigstore/pkg/signature/kms/aws", "github.com/sigstore/sigstore/pkg/signature/kms/azure",
	"github.com/sigstore/sigstore/pkg/signature/kms/gcp", "github.com/sigstore/sigstore/pkg/signature/kms/hashivault",
}

// TestKeyServices has the providers in the command alone, and in what reaches an app not even a package of theirs.
func TestKeyServices(t *testing.T) {
	linked := map[string]bool{}
	for _, p := range list(t, "./...") {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		for _, service := range keyServices {
			linked[name] = linked[name] || slices.Contains(p.Deps, service)
		}
		if !slices.Contains([]string{"channel", "license", "tufrepo", "update"}, name) && !strings.HasPrefix(name, "internal/") {
			continue
		}
		for _, dep := range p.Deps {
			for _, sdk := range []string{"github.com/sigstore/sigstore/pkg/signature/kms", "github.com/aws/", "github.com/Azure/", "cloud.google.com/",
				"github.com/hashicorp/", "google.golang.org/grpc", "google.golang.org/api/"} {
				require.False(t, strings.HasPrefix(dep, sdk), "%s may not reach %s", name, dep)
			}
		}
	}
	require.Len(t, linked, len(mayImport))
	for name, is := range linked {
		require.Equal(t, name == "cmd/publish" || name == "cmd/publish/internal/kms", is, "%s: key services", name)
	}
	for _, p := range list(t, "-tags", "nokms", "./cmd/publish") {
		for _, service := range keyServices {
			require.NotContains(t, p.Deps, service, "a build without key services")
		}
	}
}

func TestWeight(t *testing.T) {
	for _, system := range []string{"linux", "darwin", "windows"} {
		t.Setenv("GOOS", system)
		t.Setenv("CGO_ENABLED", "0")
		for _, p := range list(t, "-deps", "./update", "./license", "./license/refresh") {
			if p.Module != nil && p.Module.Path != module {
				require.Contains(t, appModules, p.Module.Path, "an app may not link %s (through %s, on %s)", p.Module.Path, p.ImportPath, system)
			}
		}
	}
}
