package cred

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"blocktree"
)

// TLSOptions says what a TLS configuration is for.
type TLSOptions struct {
	Key    Key                 // proven to the peer; the zero Key makes a new one, that of an anonymous client
	Expect blocktree.Principal // who the peer must be; the zero Principal accepts any, as a server must
	ALPN   []string            // protocols with their versions, at least one; the peer must share one
	Server bool
	// Anybody says that a client wants to know who the peer is, and expects nobody: it must say nothing to whom it finds that the peer may not know.
	Anybody bool
}

// NewTLSConfig is the one constructor of TLS configurations, for servers and clients of every carrier: TLS 1.3 only,
// nothing resumed, both sides prove exactly one Ed25519 key. The result must not be changed. A handshake that fails
// here fails with Unauthenticated on the side that refuses. It fails with Invalid.
func NewTLSConfig(o TLSOptions) (*tls.Config, error) {
	const op = "cred.NewTLSConfig"
	if len(o.ALPN) == 0 {
		return nil, blocktree.E(op, blocktree.Invalid, errors.New("no protocol"))
	}
	if o.Server && o.Key.IsZero() {
		return nil, blocktree.E(op, blocktree.Invalid, errors.New("a server has a key"))
	}
	if !o.Server && !o.Anybody && o.Expect.IsZero() {
		return nil, blocktree.E(op, blocktree.Invalid, errors.New("a client knows whom it calls"))
	}
	if o.Key.IsZero() {
		var err error
		if o.Key, err = GenerateKey(); err != nil {
			return nil, err
		}
	}
	certificate, err := selfSigned(o.Key)
	if err != nil {
		return nil, blocktree.E(op, blocktree.Invalid, err)
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		MaxVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{certificate},
		NextProtos:             slices.Clone(o.ALPN),
		ClientAuth:             tls.RequireAnyClientCert,
		InsecureSkipVerify:     true, // no third party vouches for anybody: VerifyConnection decides
		SessionTicketsDisabled: true,
		ClientSessionCache:     nil,
		VerifyConnection:       func(s tls.ConnectionState) error { return verifyConnection(s, o) },
		// Records are full from the first on: frames are read whole, so a small first record gains nothing.
		DynamicRecordSizingDisabled: true,
	}, nil
}

// selfSigned wraps the key in the least certificate that crypto/tls takes. Nothing of it but the key is ever read.
func selfSigned(k Key) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280: no end
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k.private())
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k.private()}, nil
}

// verifyConnection runs on both sides of every handshake, resumed ones included (there are none).
func verifyConnection(s tls.ConnectionState, o TLSOptions) error {
	refuse := func(why string) error { return blocktree.E("tls", blocktree.Unauthenticated, errors.New(why)) }
	switch {
	case s.Version != tls.VersionTLS13:
		return refuse("not TLS 1.3")
	case s.DidResume:
		return refuse("a resumed session")
	case !slices.Contains(o.ALPN, s.NegotiatedProtocol):
		return refuse("no common protocol")
	}
	who, err := PeerPrincipal(s)
	if err != nil {
		return err
	}
	if !o.Expect.IsZero() && who != o.Expect {
		return refuse(fmt.Sprintf("the peer is %v, not %v", who, o.Expect))
	}
	return nil
}

// PeerPrincipal returns the principal that the peer of a finished handshake proved. It fails with Unauthenticated
// unless there is exactly one certificate, with an Ed25519 key.
func PeerPrincipal(s tls.ConnectionState) (blocktree.Principal, error) {
	if n := len(s.PeerCertificates); n != 1 {
		return blocktree.Principal{}, blocktree.E("tls", blocktree.Unauthenticated, fmt.Errorf("%d certificates, want one", n))
	}
	key, ok := s.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok {
		return blocktree.Principal{}, blocktree.E("tls", blocktree.Unauthenticated,
			fmt.Errorf("a %v key, want Ed25519", s.PeerCertificates[0].PublicKeyAlgorithm))
	}
	return blocktree.PrincipalOf(key), nil
}
