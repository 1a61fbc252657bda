package license

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/fairlead-dev/fairlead/internal/disk"
)

const (
	deviceName = "device.key" // in a store's folder: PKCS #8 in PEM
	maxDevice  = 4 << 10
)

// A Device is the key of one installation, which signs its requests. It proves no right: it shows the vendor that two
// requests come from the same place. It may be used concurrently.
type Device struct{ private ed25519.PrivateKey }

// OpenDevice returns the key in the folder of a [Store], and makes one if there is none: mode 0600, whole on disk before it
// is used, and the same for all processes that ask at once. A folder that cannot be used is a [*StoreError].
//
// A file that holds something else is an error, as another key would be another installation: remove it to have one made.
func OpenDevice(ctx context.Context, dir string) (*Device, error) {
	if dir == "" {
		return nil, errors.New("license: a device's key needs the folder of a store")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("license: the folder %q: %w", dir, err)
	}
	s := newShelf(dir)
	d, err := s.device()
	if !errors.Is(err, fs.ErrNotExist) {
		return d, err
	}
	release, err := s.hold(ctx, true)
	if err != nil {
		return nil, err
	}
	defer release()
	if d, err = s.device(); !errors.Is(err, fs.ErrNotExist) {
		return d, err
	}
	return s.newDevice()
}

func (s *shelf) device() (*Device, error) {
	path := filepath.Join(s.dir, deviceName)
	data, err := disk.ReadFile(s.fs, path, maxDevice)
	if err != nil {
		return nil, fmt.Errorf("license: the device's key cannot be read: %w", err)
	}
	if block, rest := pem.Decode(data); block != nil && block.Type == "PRIVATE KEY" && len(bytes.TrimSpace(rest)) == 0 {
		if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if private, ok := key.(ed25519.PrivateKey); ok {
				return &Device{private}, nil
			}
		}
	}
	return nil, fmt.Errorf("license: %s holds no Ed25519 key: remove it, and another one is made; "+
		"the vendor will take this for another installation", path)
}

// newDevice makes a key. The turn is held.
func (s *shelf) newDevice() (*Device, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	if err := s.write(deviceName, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
		return nil, err
	}
	return &Device{private}, nil
}

// Public returns the public key.
func (d *Device) Public() ed25519.PublicKey {
	public, _ := d.private.Public().(ed25519.PublicKey)
	return public
}

// ID names the installation: the SHA-256 thumbprint of its public key (RFC 7638), in base64url. It is random, and stays as
// long as the folder: NodeOf of it binds a licence to a folder, say a container's volume, where the machine has no id of
// its own.
func (d *Device) ID() string { return thumbprint(d.Public()) }
