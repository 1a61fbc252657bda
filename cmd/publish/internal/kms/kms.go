//go:build !nokms

// Package kms links sigstore's providers for the key services of AWS, Azure, Google Cloud and HashiCorp Vault (OpenBao).
// It is the one place where their SDKs come in, which are larger than everything else here: only the command itself
// imports it, and what is built with the tag nokms has none of them.
//
// Where they find their credentials is said by their documentation; nothing of it passes through this repository.
package kms

import (
	"context"
	"crypto"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms/aws"
	"github.com/sigstore/sigstore/pkg/signature/kms/azure"
	"github.com/sigstore/sigstore/pkg/signature/kms/gcp"
	"github.com/sigstore/sigstore/pkg/signature/kms/hashivault"

	"github.com/fairlead-dev/fairlead/cmd/publish/internal/keyuri"
)

// Providers returns the providers by the scheme of their URIs.
func Providers() map[string]keyuri.Provider {
	vault := func(_ context.Context, uri string, hash crypto.Hash) (signature.Signer, error) {
		return opened(hashivault.LoadSignerVerifier(uri, hash))
	}
	return map[string]keyuri.Provider{
		"awskms": func(ctx context.Context, uri string, _ crypto.Hash) (signature.Signer, error) {
			return opened(aws.LoadSignerVerifier(ctx, uri))
		},
		"azurekms": func(ctx context.Context, uri string, _ crypto.Hash) (signature.Signer, error) {
			return opened(azure.LoadSignerVerifier(ctx, uri))
		},
		"gcpkms": func(ctx context.Context, uri string, _ crypto.Hash) (signature.Signer, error) {
			return opened(gcp.LoadSignerVerifier(ctx, uri))
		},
		"hashivault": vault,
		"openbao":    vault,
	}
}

// opened keeps a nil pointer from becoming a signer.
func opened[T signature.Signer](key T, err error) (signature.Signer, error) {
	if err != nil {
		return nil, err
	}
	return key, nil
}
