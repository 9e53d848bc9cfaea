package cred

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"

	"blocktree"
)

// handshake joins a client and a server over loopback, has the server answer with one byte, and returns what each says.
// A client learns of a refusal of its certificate only when it reads.
func handshake(t *testing.T, client, server *tls.Config) (clientErr, serverErr error, clientState, serverState tls.ConnectionState) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	done := make(chan struct{})
	s := tls.Server(b, server)
	go func() {
		defer close(done)
		defer b.Close()
		if serverErr = s.HandshakeContext(ctx); serverErr == nil {
			_, serverErr = s.Write([]byte{1})
			serverState = s.ConnectionState()
		}
	}()
	c := tls.Client(a, client)
	if clientErr = c.HandshakeContext(ctx); clientErr == nil {
		_ = a.SetDeadline(time.Now().Add(10 * time.Second))
		_, clientErr = c.Read(make([]byte, 1))
		clientState = c.ConnectionState()
	}
	_ = a.Close()
	<-done
	return clientErr, serverErr, clientState, serverState
}

func newTLS(t *testing.T, o TLSOptions) *tls.Config {
	t.Helper()
	o.ALPN = []string{"test/1"}
	c, err := NewTLSConfig(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// certificateOf makes a self-signed certificate of any kind of key.
func certificateOf(t *testing.T, public, private any) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}
}

func TestHandshakeProvesBothKeys(t *testing.T) {
	client, server := testKey(5), testKey(6)
	for _, key := range []Key{client, {}} { // the zero key: an anonymous client proves a key, too
		cerr, serr, cs, ss := handshake(t, newTLS(t, TLSOptions{Key: key, Expect: server.Principal()}), newTLS(t, TLSOptions{Key: server, Server: true}))
		if cerr != nil || serr != nil {
			t.Fatal(cerr, serr)
		}
		if p, err := PeerPrincipal(cs); err != nil || p != server.Principal() {
			t.Fatalf("the client sees %v, %v", p, err)
		}
		p, err := PeerPrincipal(ss)
		if err != nil || (p == client.Principal()) == key.IsZero() {
			t.Fatalf("the server sees %v, %v", p, err)
		}
		if cs.Version != tls.VersionTLS13 || cs.DidResume || ss.DidResume {
			t.Fatalf("version %x, resumed %v %v", cs.Version, cs.DidResume, ss.DidResume)
		}
	}
}

func TestNothingIsResumed(t *testing.T) {
	server := testKey(6)
	s := newTLS(t, TLSOptions{Key: server, Server: true})
	c := newTLS(t, TLSOptions{Key: testKey(5), Expect: server.Principal()})
	c.ClientSessionCache = tls.NewLRUClientSessionCache(4) // a client that would like to
	c.ServerName = "same"
	for range 2 {
		cerr, serr, cs, _ := handshake(t, c, s)
		if cerr != nil || serr != nil || cs.DidResume {
			t.Fatal(cerr, serr, cs.DidResume)
		}
	}
}

// refusal is a way in which one side of a handshake misbehaves.
type refusal struct {
	name           string
	expect         Key               // whom the client expects
	client, server func(*tls.Config) // how the misbehaving side differs
	byServer       bool              // who must refuse
	identity       bool              // by our own check, not by crypto/tls
}

// refusals are all of them, for these keys.
func refusals(t *testing.T, client, server, other Key) []refusal {
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec, rs := certificateOf(t, &ecKey.PublicKey, ecKey), certificateOf(t, &rsaKey.PublicKey, rsaKey)
	two := func(k Key) tls.Certificate {
		a, err1 := selfSigned(k)
		b, err2 := selfSigned(other)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		a.Certificate = append(a.Certificate, b.Certificate...)
		return a
	}
	stolen, err := selfSigned(other) // the certificate of one key, signatures of another
	if err != nil {
		t.Fatal(err)
	}
	stolen.PrivateKey = client.private()
	set := func(c tls.Certificate) func(*tls.Config) {
		return func(x *tls.Config) { x.Certificates = []tls.Certificate{c} }
	}
	none := func(x *tls.Config) {
		x.Certificates = nil
		x.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	}
	old := func(x *tls.Config) { x.MinVersion, x.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }
	lax := func(x *tls.Config) { x.VerifyConnection = nil }
	return []refusal{
		{"server: no certificate", server, none, nil, true, false},
		{"server: two certificates", server, set(two(client)), nil, true, true},
		{"server: ECDSA", server, set(ec), nil, true, true},
		{"server: RSA", server, set(rs), nil, true, true},
		{"server: certificate of another key", server, set(stolen), nil, true, false},
		{"server: TLS 1.2", server, old, nil, true, false},
		{"server: no protocol", server, func(c *tls.Config) { c.NextProtos = nil; c.VerifyConnection = nil }, nil, true, false},
		{"server: another protocol", server, func(c *tls.Config) { c.NextProtos = []string{"test/2"} }, nil, true, false},
		{"client: wrong principal", other, nil, nil, false, true},
		{"client: two certificates", server, nil, set(two(server)), false, true},
		{"client: ECDSA", server, nil, set(ec), false, true},
		{"client: RSA", server, nil, set(rs), false, true},
		{"client: TLS 1.2", server, nil, func(c *tls.Config) { old(c); lax(c) }, false, false},
		{"client: no protocol", server, nil, func(c *tls.Config) { c.NextProtos = nil; lax(c) }, false, false},
	}
}

// TestRefusals has one side of a real handshake misbehave; the other side must refuse.
func TestRefusals(t *testing.T) {
	client, server, other := testKey(5), testKey(6), testKey(7)
	for _, x := range refusals(t, client, server, other) {
		t.Run(x.name, func(t *testing.T) {
			c := newTLS(t, TLSOptions{Key: client, Expect: x.expect.Principal()})
			s := newTLS(t, TLSOptions{Key: server, Server: true})
			if x.client != nil {
				x.client(c)
			}
			if x.server != nil {
				x.server(s)
			}
			cerr, serr, _, _ := handshake(t, c, s)
			if cerr == nil {
				t.Fatal("the client went on")
			}
			if x.byServer && serr == nil {
				t.Fatal("the server went on")
			}
			by := cerr
			if x.byServer {
				by = serr
			}
			if x.identity && blocktree.KindOf(by) != blocktree.Unauthenticated {
				t.Fatalf("refused with %v", by)
			}
		})
	}
}

func TestTLSOptionsRefused(t *testing.T) {
	for name, o := range map[string]TLSOptions{
		"server without a key":     {ALPN: []string{"x"}, Server: true},
		"client expecting nobody":  {ALPN: []string{"x"}, Key: testKey(5)},
		"no application protocols": {Key: testKey(5), Server: true},
	} {
		if _, err := NewTLSConfig(o); blocktree.KindOf(err) != blocktree.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}
