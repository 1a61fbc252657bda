// Sigstore-kms-softhsm is a plug-in for keys in a PKCS#11 token, by sigstore's protocol: softhsm://TOKEN/LABEL names a
// key pair by its token's and its own label. The module's path is in PKCS11_MODULE, the PIN in PKCS11_PIN. For tests, with
// SoftHSM2; it shows what a plug-in takes.
package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"strings"

	"github.com/miekg/pkcs11"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin/common"
	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin/handler"
)

// Of PKCS#11 3.0, section 6.3; the package knows 2.40.
const (
	keyEdwards = 0x40   // CKK_EC_EDWARDS
	signEdDSA  = 0x1057 // CKM_EDDSA
)

func main() {
	answer, err := serve(os.Args, os.Stdin)
	if err != nil {
		answer = &common.PluginResp{ErrorMessage: err.Error()}
	}
	if err := handler.WriteResponse(os.Stdout, answer); err != nil {
		os.Exit(1)
	}
}

func serve(argv []string, message io.Reader) (*common.PluginResp, error) {
	args, err := handler.GetPluginArgs(argv)
	if err != nil {
		return nil, err
	}
	t, err := open(os.Getenv("PKCS11_MODULE"), args.InitOptions.KeyResourceID, os.Getenv("PKCS11_PIN"))
	if err != nil {
		return nil, err
	}
	defer t.close()
	switch args.MethodName {
	case common.PublicKeyMethodName:
		public, err := t.public()
		if err != nil {
			return nil, err
		}
		pem, err := cryptoutils.MarshalPublicKeyToPEM(public)
		return &common.PluginResp{PublicKey: &common.PublicKeyResp{PublicKeyPEM: pem}}, err
	case common.SignMessageMethodName:
		data, err := io.ReadAll(message)
		if err != nil {
			return nil, err
		}
		sig, err := t.sign(data, args.SignMessage.SignOptions.MessageOptions)
		return &common.PluginResp{SignMessage: &common.SignMessageResp{Signature: sig}}, err
	}
	return nil, errors.New("this plug-in does not know the method " + args.MethodName)
}

// A token is an open session, and a key pair in it.
type token struct {
	module  *pkcs11.Ctx
	session pkcs11.SessionHandle
	label   string
}

func open(module, name, pin string) (*token, error) {
	tokenLabel, label, ok := strings.Cut(name, "/")
	if !ok {
		return nil, errors.New("write it as softhsm://TOKEN/LABEL")
	}
	t := &token{module: pkcs11.New(module), label: label}
	if t.module == nil {
		return nil, fmt.Errorf("PKCS11_MODULE=%s is no PKCS#11 module", module)
	}
	if err := t.module.Initialize(); err != nil {
		return nil, err
	}
	slots, err := t.module.GetSlotList(true)
	if err != nil {
		return nil, err
	}
	for _, slot := range slots {
		info, err := t.module.GetTokenInfo(slot)
		if err != nil || info.Label != tokenLabel {
			continue
		}
		if t.session, err = t.module.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION); err != nil {
			return nil, err
		}
		return t, t.module.Login(t.session, pkcs11.CKU_USER, pin)
	}
	return nil, fmt.Errorf("there is no token %q", tokenLabel)
}

func (t *token) close() {
	_ = t.module.CloseSession(t.session)
	_ = t.module.Finalize()
	t.module.Destroy()
}

func (t *token) find(class uint) (pkcs11.ObjectHandle, error) {
	err := t.module.FindObjectsInit(t.session, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_LABEL, t.label),
	})
	if err != nil {
		return 0, err
	}
	found, _, err := t.module.FindObjects(t.session, 2)
	if err := errors.Join(err, t.module.FindObjectsFinal(t.session)); err != nil {
		return 0, err
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("%d keys are called %q", len(found), t.label)
	}
	return found[0], nil
}

// public reads the public key: its point, an octet string, and the kind of it.
func (t *token) public() (crypto.PublicKey, error) {
	object, err := t.find(pkcs11.CKO_PUBLIC_KEY)
	if err != nil {
		return nil, err
	}
	kind, err := t.module.GetAttributeValue(t.session, object, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, nil)})
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(kind[0].Value, pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC).Value) &&
		!bytes.Equal(kind[0].Value, pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, keyEdwards).Value) {
		return nil, fmt.Errorf("%q is a key of the PKCS#11 type % x", t.label, kind[0].Value)
	}
	values, err := t.module.GetAttributeValue(t.session, object, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, nil), pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, nil),
	})
	if err != nil {
		return nil, err
	}
	var point []byte
	if _, err := asn1.Unmarshal(values[0].Value, &point); err != nil {
		return nil, err
	}
	var curve asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(values[1].Value, &curve); err != nil {
		if len(point) == ed25519.PublicKeySize { // SoftHSM names Edwards curves by a string
			return ed25519.PublicKey(point), nil
		}
		return nil, err
	}
	for _, c := range []struct {
		id    asn1.ObjectIdentifier
		curve elliptic.Curve
	}{{asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}, elliptic.P256()}, {asn1.ObjectIdentifier{1, 3, 132, 0, 34}, elliptic.P384()}} {
		if c.id.Equal(curve) {
			return ecdsa.ParseUncompressedPublicKey(c.curve, point)
		}
	}
	return nil, fmt.Errorf("%q is on the curve %v", t.label, curve)
}

func (t *token) sign(message []byte, said common.MessageOptions) ([]byte, error) {
	public, err := t.public()
	if err != nil {
		return nil, err
	}
	object, err := t.find(pkcs11.CKO_PRIVATE_KEY)
	if err != nil {
		return nil, err
	}
	data, mechanism := message, uint(signEdDSA)
	if _, ok := public.(*ecdsa.PublicKey); ok {
		mechanism = pkcs11.CKM_ECDSA
		digest := sha256.Sum256(message)
		data = digest[:]
	}
	if said.Digest != nil {
		data = *said.Digest
	}
	if err := t.module.SignInit(t.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, object); err != nil {
		return nil, err
	}
	sig, err := t.module.Sign(t.session, data)
	if err != nil || mechanism == signEdDSA {
		return sig, err
	}
	half := len(sig) / 2 // PKCS#11 has the two numbers one after the other
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(sig[:half]), new(big.Int).SetBytes(sig[half:])})
}
