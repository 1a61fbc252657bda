package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin/common"
)

// testPlugin is the program sigstore-kms-test, a plug-in as sigstore's protocol has it: test://KIND/FILE is a key in a PEM
// file. KIND is good; or it is what a plug-in may do wrong.
func testPlugin() {
	var args common.PluginArgs
	var answer common.PluginResp
	if err := json.Unmarshal([]byte(os.Args[2]), &args); err != nil {
		answer.ErrorMessage = err.Error()
	} else if err := servePlugin(&args, &answer); err != nil {
		answer.ErrorMessage = err.Error()
	}
	if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
		os.Exit(1)
	}
}

func servePlugin(args *common.PluginArgs, answer *common.PluginResp) error {
	kind, file, _ := strings.Cut(args.InitOptions.KeyResourceID, "/")
	switch kind {
	case "garbage":
		_, err := fmt.Print("no JSON\n")
		return err
	case "empty":
		return nil
	case "failing":
		return errors.New("no session\nat https://user:hunter2@hsm.example/slot?pin=1234")
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	private, err := cryptoutils.UnmarshalPEMToPrivateKey(data, nil)
	if err != nil {
		return err
	}
	key := private.(crypto.Signer)
	switch {
	case args.MethodName == common.PublicKeyMethodName:
		answer.PublicKey = new(common.PublicKeyResp)
		answer.PublicKey.PublicKeyPEM, err = cryptoutils.MarshalPublicKeyToPEM(key.Public())
	case args.MethodName == common.SignMessageMethodName:
		answer.SignMessage = new(common.SignMessageResp)
		answer.SignMessage.Signature, err = pluginSign(kind, key, args)
	default:
		err = errors.New("no such method: " + args.MethodName)
	}
	return err
}

func pluginSign(kind string, key crypto.Signer, args *common.PluginArgs) ([]byte, error) {
	message, err := io.ReadAll(os.Stdin)
	if err != nil {
		return nil, err
	}
	options := args.SignMessage.SignOptions.MessageOptions
	if options.Digest != nil {
		return key.Sign(rand.Reader, *options.Digest, *options.HashFunc)
	}
	if args.InitOptions.HashFunc != 0 {
		return nil, errors.New("asked for a hash, and given no digest")
	}
	if kind == "digest" { // as Vault does when it is asked with a hash
		digest := sha256.Sum256(message)
		message = digest[:]
	}
	return key.Sign(rand.Reader, message, crypto.Hash(0))
}

// mint is the script command mint KIND FILE: it writes a private key in PEM.
func mint(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mint KIND FILE")
	}
	kind, cosign := strings.CutPrefix(args[0], "cosign-")
	key, err := mintKey(kind)
	ts.Check(err)
	block, err := cryptoutils.MarshalPrivateKeyToPEM(key)
	ts.Check(err)
	if cosign {
		der, err := cryptoutils.MarshalPrivateKeyToEncryptedDER(key, cryptoutils.StaticPasswordFunc([]byte("secret words")))
		ts.Check(err)
		block = cryptoutils.PEMEncode("ENCRYPTED COSIGN PRIVATE KEY", der)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), block, 0o600))
}

func mintKey(kind string) (crypto.Signer, error) {
	switch kind {
	case "ed25519":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case "ecdsa-p256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ecdsa-p384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "rsa":
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	return nil, errors.New("no kind of key is called " + kind)
}

// fileInEnv is the script command env-file NAME FILE: the variable gets what the file holds.
func fileInEnv(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: env-file NAME FILE")
	}
	ts.Setenv(args[0], ts.ReadFile(args[1]))
}
