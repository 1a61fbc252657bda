package keyuri

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin"
	"github.com/sigstore/sigstore/pkg/signature/options"

	"github.com/fairlead-dev/fairlead/tufrepo"
)

// patience is how long a key service may take for one answer: somebody may have to touch a key for it.
const patience = 2 * time.Minute

// remote opens a key that stays where it is.
func remote(ctx context.Context, uri string, provider Provider) (*tufrepo.Signer, error) {
	r := &remoteKey{ctx: ctx, uri: uri}
	if err := r.load(provider, crypto.SHA256); err != nil {
		return nil, err
	}
	if _, ok := r.public.(ed25519.PublicKey); ok {
		// Asked with a hash, Vault has an Ed25519 key sign the digest, which no client verifies.
		if err := r.load(provider, crypto.Hash(0)); err != nil {
			return nil, err
		}
	}
	return tufrepo.NewSigner(r)
}

// remoteKey is the crypto.Signer that packages tufrepo and license take. Sigstore's own (CryptoSigner) reports errors of
// its method Public by a callback, and cannot be interrupted.
type remoteKey struct {
	ctx    context.Context // crypto.Signer has no place for it
	uri    string
	key    signature.Signer
	public crypto.PublicKey
}

func (r *remoteKey) load(provider Provider, hash crypto.Hash) (err error) {
	if r.key, err = await(r.ctx, func(context.Context) (signature.Signer, error) { return provider(r.ctx, r.uri, hash) }); err != nil {
		return err
	}
	public, err := await(r.ctx, func(ctx context.Context) (crypto.PublicKey, error) {
		return r.key.PublicKey(options.WithContext(ctx))
	})
	r.public = public
	return err
}

func (r *remoteKey) Public() crypto.PublicKey { return r.public }

// Sign has the service sign a message (Ed25519) or its SHA-256 (ECDSA), as opts say.
func (r *remoteKey) Sign(_ io.Reader, data []byte, opts crypto.SignerOpts) ([]byte, error) {
	message := data
	said := []signature.SignOption{options.WithCryptoSignerOpts(opts.HashFunc())}
	if opts.HashFunc() != 0 {
		message, said = nil, append(said, options.WithDigest(data))
	}
	sig, err := await(r.ctx, func(ctx context.Context) ([]byte, error) {
		return r.key.SignMessage(bytes.NewReader(message), append(said, options.WithContext(ctx))...)
	})
	if err != nil {
		return nil, &Error{r.uri, err}
	}
	return sig, nil
}

// await bounds a call to a key service in time. Some of the providers take no context, and are left behind; some panic on an
// answer that they do not expect, such as one without the member that they look for.
func await[T any](ctx context.Context, call func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	type answer struct {
		value T
		err   error
	}
	answered := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			if p := recover(); p != nil {
				a.err = fmt.Errorf("the answer was not what it should be (%v)", p)
			}
			answered <- a
		}()
		a.value, a.err = call(ctx)
	}()
	select {
	case a := <-answered:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return none, fmt.Errorf("no answer within %v", patience)
		}
		return none, ctx.Err()
	}
}

// plugin is the provider of any scheme that is not built in.
func plugin(ctx context.Context, uri string, hash crypto.Hash) (signature.Signer, error) {
	key, err := cliplugin.LoadSignerVerifier(ctx, uri, hash)
	if errors.Is(err, exec.ErrNotFound) {
		scheme, _, _ := strings.Cut(uri, "://")
		return nil, &NoPluginError{scheme, cliplugin.PluginBinaryPrefix + scheme}
	}
	return key, err
}
