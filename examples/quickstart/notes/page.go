package main

import (
	"encoding/json"
	"errors"
	"html/template"
	"io/fs"
	"net/http"
	"os"
	"sync"

	"github.com/fairlead-dev/fairlead/update"
)

// page shows the notes, and what the updater last decided.
type page struct {
	book *book

	mu       sync.Mutex
	decision update.Decision
}

func (p *page) decided(d update.Decision) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.decision = d
}

// status is what /status tells the driver of the example, and a support engineer.
type status struct {
	Version string `json:"version"`
	Outcome string `json:"outcome"`
	Reason  string `json:"reason,omitempty"` // why the best release is withheld
	Best    string `json:"best,omitempty"`   // which one that is
	Text    string `json:"text"`
	PID     int    `json:"pid"`
}

func (p *page) status() status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := status{Version: version, Outcome: string(p.decision.Outcome), PID: os.Getpid()}
	if s.Outcome != "" {
		s.Text = p.decision.String()
	}
	if n := p.decision.Plan.NotAllowed; n != nil {
		s.Reason, s.Best = string(n.Code), n.Release.Version
	}
	return s
}

func (p *page) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = pageTemplate.Execute(w, struct {
			Notes  []string
			Status status
		}{p.book.list(), p.status()})
	})
	mux.HandleFunc("POST /{$}", func(w http.ResponseWriter, r *http.Request) {
		if err := p.book.add(r.PostFormValue("note")); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(p.status())
	})
	return mux
}

var pageTemplate = template.Must(template.New("").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Notes</title>
<style>body{font:16px/1.5 system-ui;max-width:40em;margin:2em auto;padding:0 1em}footer{color:#666}</style>
<h1>Notes</h1>
<form method="post"><label>New note <input name="note" required></label> <button>Add</button></form>
<ul>{{range .Notes}}<li>{{.}}{{else}}<li>Nothing yet.{{end}}</ul>
<footer>Notes {{.Status.Version}}. {{.Status.Text}}</footer></html>
`))

// book keeps the notes in a JSON file.
type book struct {
	path string

	mu    sync.Mutex
	notes []string
}

func openBook(path string) (*book, error) {
	b := &book{path: path}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return b, migrate(b)
	}
	if err == nil {
		err = json.Unmarshal(data, &b.notes)
	}
	if err != nil {
		return nil, err
	}
	return b, migrate(b)
}

func (b *book) list() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.notes...)
}

func (b *book) add(note string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	data, err := json.Marshal(append(b.notes, note))
	if err != nil {
		return err
	}
	if err := os.WriteFile(b.path, data, 0o600); err != nil {
		return err
	}
	b.notes = append(b.notes, note)
	return nil
}
