// Transitdev serves the transit engine of Vault, which keeps keys and signs with them, over HTTP as Vault would: the real
// engine, in memory, with one token that may do everything. What it is not: Vault's authentication, policies and sealing.
// For tests only.
//
//	transitdev TOKEN     listens on a free port of 127.0.0.1 and prints its URL
package main

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/builtin/logical/transit"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

const mount = "/v1/transit/"

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: transitdev TOKEN")
	}
	engine, storage, err := newEngine(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("http://%s\n", l.Addr())
	server := &http.Server{Handler: &front{os.Args[1], engine, storage}, ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.Serve(l))
}

func newEngine(ctx context.Context) (logical.Backend, logical.Storage, error) {
	config := &logical.BackendConfig{
		Logger:      hclog.NewNullLogger(),
		System:      &logical.StaticSystemView{DefaultLeaseTTLVal: time.Hour, MaxLeaseTTLVal: time.Hour},
		StorageView: &logical.InmemStorage{},
	}
	engine, err := transit.Backend(ctx, config)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range engine.Paths {
		// The framework of this SDK asks for one where a path can be created, and the engine is older.
		if p.Operations != nil && p.Operations[logical.CreateOperation] != nil && p.ExistenceCheck == nil {
			p.ExistenceCheck = func(context.Context, *logical.Request, *framework.FieldData) (bool, error) { return false, nil }
		}
	}
	return engine, config.StorageView, engine.Setup(ctx, config)
}

// A front is what Vault's HTTP API is for one engine.
type front struct {
	token   string
	engine  logical.Backend
	storage logical.Storage
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("X-Vault-Token")), []byte(f.token)) != 1 {
		fail(w, http.StatusForbidden, errors.New("permission denied"))
		return
	}
	path, ok := strings.CutPrefix(strings.ReplaceAll(r.URL.Path, "//", "/"), mount)
	if !ok {
		fail(w, http.StatusNotFound, errors.New("no engine is mounted there"))
		return
	}
	request := &logical.Request{Operation: logical.ReadOperation, Path: path, Storage: f.storage, MountPoint: "transit/"}
	if r.Method != http.MethodGet {
		request.Operation = logical.UpdateOperation
		if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&request.Data); err != nil && !errors.Is(err, io.EOF) {
			fail(w, http.StatusBadRequest, err)
			return
		}
	}
	response, err := f.engine.HandleRequest(r.Context(), request)
	switch {
	case err != nil && response != nil && response.IsError():
		fail(w, http.StatusBadRequest, response.Error())
	case err != nil:
		fail(w, http.StatusInternalServerError, err)
	case response == nil && request.Operation == logical.ReadOperation:
		fail(w, http.StatusNotFound)
	case response == nil:
		w.WriteHeader(http.StatusNoContent)
	case response.IsError():
		fail(w, http.StatusBadRequest, response.Error())
	default:
		reply(w, http.StatusOK, map[string]any{"data": response.Data})
	}
}

func fail(w http.ResponseWriter, status int, errs ...error) {
	texts := []string{}
	for _, err := range errs {
		texts = append(texts, err.Error())
	}
	reply(w, status, map[string]any{"errors": texts})
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
