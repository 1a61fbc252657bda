//go:build !nos3

package s3test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// A Fault is what a [Proxy] does to a request.
type Fault int

// The faults. Those named Lost happen after the server did what was asked.
const (
	None       Fault = iota
	Error500         // answered with 500 InternalError
	Error503         // answered with 503 SlowDown
	Error409         // answered with 409 ConditionalRequestConflict
	Reset            // the connection is cut before the request is passed on
	Stall            // not answered until the client gives up
	LostAnswer       // passed on, and the connection is cut instead of the answer
	LostStall        // passed on, and not answered
	CutBody          // the connection is cut in the middle of the answer's body
)

// A Proxy stands between a client and a server.
type Proxy struct {
	URL string

	mu     sync.Mutex
	log    []string // METHOD path?query-names, and what was done to it
	sent   int64
	got    int64
	decide func(n int, req *http.Request) Fault
	onLost func()
}

// NewProxy makes a proxy for the server. decide is asked for every request what to do to it; requests are numbered from
// 1. It may be nil.
func NewProxy(t testing.TB, s *Server, decide func(n int, req *http.Request) Fault) *Proxy {
	t.Helper()
	target, err := url.Parse(s.URL)
	require.NoError(t, err)
	p := &Proxy{decide: decide}
	done := make(chan struct{})
	transport := &http.Transport{MaxIdleConnsPerHost: 32}
	reverse := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host }, // which is signed
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) {
			panic(http.ErrAbortHandler)
		},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { p.serve(w, req, reverse, done) }))
	server.Config.ErrorLog = nil
	p.URL = server.URL
	t.Cleanup(func() {
		close(done)
		server.CloseClientConnections()
		server.Close()
		transport.CloseIdleConnections()
	})
	return p
}

// Decide changes what is done from now on, and counts from 1 again.
func (p *Proxy) Decide(decide func(n int, req *http.Request) Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.decide, p.log, p.sent, p.got = decide, nil, 0, 0
}

// OnLost has f called when a request whose answer is to be lost was obeyed.
func (p *Proxy) OnLost(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onLost = f
}

// Requests lists the requests since the last Decide.
func (p *Proxy) Requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.log...)
}

// Sent is how many bytes of bodies clients sent since the last Decide.
func (p *Proxy) Sent() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent
}

// Received is how many bytes of bodies clients were sent since the last Decide.
func (p *Proxy) Received() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.got
}

func (p *Proxy) serve(w http.ResponseWriter, req *http.Request, reverse http.Handler, done chan struct{}) {
	p.mu.Lock()
	n := len(p.log) + 1
	fault := None
	if p.decide != nil {
		fault = p.decide(n, req)
	}
	query := ""
	for name := range req.URL.Query() {
		if name != "x-id" {
			query += "?" + name
		}
	}
	p.log = append(p.log, fmt.Sprintf("%s %s%s", req.Method, req.URL.Path, query))
	p.sent += max(req.ContentLength, 0)
	onLost := p.onLost
	p.mu.Unlock()
	switch fault {
	case Error500:
		refuse(w, req, http.StatusInternalServerError, "InternalError")
	case Error503:
		refuse(w, req, http.StatusServiceUnavailable, "SlowDown")
	case Error409:
		refuse(w, req, http.StatusConflict, "ConditionalRequestConflict")
	case Reset:
		reset(w)
	case Stall:
		wait(req, done)
	case LostAnswer, LostStall:
		reverse.ServeHTTP(httptest.NewRecorder(), req)
		if onLost != nil {
			onLost()
		}
		if fault == LostStall {
			wait(req, done)
		}
		reset(w)
	case CutBody:
		reverse.ServeHTTP(&cutter{ResponseWriter: w, left: 100}, req)
	default:
		reverse.ServeHTTP(&counter{w, p}, req)
	}
}

func refuse(w http.ResponseWriter, req *http.Request, status int, code string) {
	_, _ = io.Copy(io.Discard, req.Body)
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>disturbed</Message></Error>`, code)
}

// reset has the client see a connection that was reset, not one that ended.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func wait(req *http.Request, done chan struct{}) {
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	go func() { _, _ = io.Copy(io.Discard, req.Body) }() // so that the client's leaving is noticed
	select {
	case <-ctx.Done():
	case <-done:
	}
	panic(http.ErrAbortHandler)
}

type counter struct {
	http.ResponseWriter
	p *Proxy
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	c.p.got += int64(n)
	return n, err
}

func (c *counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(p []byte) (int, error) {
	if len(p) > c.left {
		_, _ = c.ResponseWriter.Write(p[:c.left])
		_ = http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}
