package main

import (
	"context"
	"errors"
	"flag"
	"html/template"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/fairlead-dev/fairlead/license"
	"github.com/fairlead-dev/fairlead/license/refresh"
)

// serve shows the licence on a page and keeps it fresh, until ctx ends. Nothing here has to be restarted for a new one.
func (a *app) serve(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	addr := flags.String("addr", "127.0.0.1:0", "where to serve the page")
	every := flags.Duration("every", time.Hour, "time between looking for updates, revocations and a fresh licence")
	if err := flags.Parse(args); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		return err
	}
	a.say("http://%s/\n", listener.Addr())
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go a.watch(ctx)
	go a.keepFresh(ctx, *every)
	server := &http.Server{Handler: a.handler(), ReadHeaderTimeout: 5 * time.Second}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// watch says in the log what changes about the licence, the day it does.
func (a *app) watch(ctx context.Context) {
	for s := range a.store.Watch(ctx) {
		a.say("licence: %s\n", s)
	}
}

// keepFresh asks the repository for revocations and new keys, and the issuer for a renewed licence. That either cannot be
// reached changes nothing.
func (a *app) keepFresh(ctx context.Context, every time.Duration) {
	for {
		if a.updater != nil {
			_, _ = a.updater.Check(ctx) // an error is in its log
		}
		if _, err := a.store.Refresh(ctx, &refresh.HTTP{Hosts: []string{licenses}}); err != nil {
			a.log.Warn("no fresh licence", "cause", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
	}
}

func (a *app) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { a.show(w, http.StatusOK, "") })
	mux.HandleFunc("GET /request", func(w http.ResponseWriter, r *http.Request) {
		text, err := a.store.ActivationRequest(r.Context())
		if err != nil {
			a.show(w, http.StatusConflict, err.Error())
			return
		}
		w.Header().Set("Content-Disposition", `attachment; filename="licensed.request"`)
		_, _ = w.Write(text)
	})
	mux.HandleFunc("POST /install", func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 128<<10)
		file, _, err := r.FormFile("license")
		if err == nil {
			var token []byte
			if token, err = io.ReadAll(file); err == nil {
				_, err = a.store.Install(r.Context(), token)
			}
		}
		if err != nil {
			a.show(w, http.StatusUnprocessableEntity, err.Error())
			return
		}
		a.show(w, http.StatusOK, "The licence was installed.")
	})
	// A page of another site may not install a licence here.
	return http.NewCrossOriginProtection().Handler(mux)
}

func (a *app) show(w http.ResponseWriter, code int, message string) {
	s := a.store.Current() // at every look: nobody waits for a restart, or for midnight
	e := editionOf(s)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_ = pageTemplate.Execute(w, map[string]any{
		"Edition": e.name, "Formats": e.formats(), "Rows": e.rows, "Status": s, "Banner": banner(s), "Message": message,
		"Urgent": s.State == license.Grace || s.EndsWithin() == 1, "Version": version,
	})
}

var pageTemplate = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Licensed</title>
<style>
:root { color-scheme: light dark } body { font: 1rem/1.5 system-ui; max-width: 40rem; margin: 2rem auto; padding: 0 1rem }
[role=status], [role=alert] { border-left: .3rem solid; padding: .3rem .8rem }
</style>
<h1>Licensed {{.Version}}</h1>
{{with .Banner}}<p role="{{if $.Urgent}}alert{{else}}status{{end}}">{{.}}</p>{{end}}
{{with .Message}}<p role="alert">{{.}}</p>{{end}}
<p><strong>{{.Edition}} edition</strong>: {{.Rows}} rows, formats {{range .Formats}}{{.}} {{end}}</p>
<p>Licence: {{.Status}}</p>
{{range .Status.Warnings}}<p>Note: {{.}}</p>
{{end}}<h2>A new licence</h2>
<p><a href="/request">Download a request</a> for this machine, send it to the vendor, and install what comes back:</p>
<form action="/install" method="post" enctype="multipart/form-data">
<label>Licence file <input type="file" name="license" required></label> <button>Install</button>
</form>
</html>
`))
