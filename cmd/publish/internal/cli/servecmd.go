package cli

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/fairlead-dev/fairlead/cmd/publish/internal/static"
)

type serving struct {
	URL string `json:"url"`
}

func (a *app) serveCommand() *cobra.Command {
	var addr string
	cmd := &cobra.Command{
		Use: "serve", Short: "Serve the repository over HTTP, for development",
		Long: `Serve the repository over HTTP, for development, until interrupted. It prints the URL as soon as it listens. In
production any server of static files does; this one only shows what headers to set.`,
		Example: "  publish serve --addr 127.0.0.1:0",
	}
	cmd.Flags().StringVar(&addr, "addr", "127.0.0.1:8080", "the address to listen at; port 0 takes a free one")
	return a.run(cmd, func(ctx context.Context, _ []string) (result, error) { return nil, a.serve(ctx, addr) })
}

func (a *app) serve(ctx context.Context, addr string) error {
	if a.remote() {
		return usagef("clients and CDNs read the bucket itself, docs/publish.md says how", "%s is no folder, and only folders are served", a.repo)
	}
	if _, err := os.Stat(filepath.Join(a.repo, rootFile)); errors.Is(err, fs.ErrNotExist) {
		return a.noRepository()
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return failf(exitFailed, "listen", "choose another address with --addr; 127.0.0.1:0 takes a free port", "%v", err)
	}
	if err := a.out.data(&serving{"http://" + listener.Addr().String()}); err != nil {
		return errors.Join(err, listener.Close())
	}
	a.out.talk("serving %s; interrupt to stop", a.repo)
	return static.Serve(ctx, listener, a.repo)
}
