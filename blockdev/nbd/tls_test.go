package nbd

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/blockdev/memfile"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// authority signs certificates for a test, and writes the server's files.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  crypto.Signer
	dir  string
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	_, a.key, _ = ed25519.GenerateKey(rand.Reader)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.write("ca-cert.pem", "CERTIFICATE", der)
	a.server("localhost")
	return a
}

func (a *authority) write(name, kind string, der []byte) {
	a.t.Helper()
	if err := os.WriteFile(filepath.Join(a.dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// issue signs a certificate for key.
func (a *authority) issue(name string, key crypto.Signer, usage x509.ExtKeyUsage) []byte {
	a.t.Helper()
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<60))
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{usage}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

// server writes another certificate of the server.
func (a *authority) server(name string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write("server-cert.pem", "CERTIFICATE", a.issue(name, key, x509.ExtKeyUsageServerAuth))
	a.write("server-key.pem", "PRIVATE KEY", der)
}

// client makes a client's certificate and files as libnbd wants them; it returns both.
func (a *authority) client(name string, key crypto.Signer) (tls.Certificate, Identity) {
	a.t.Helper()
	der := a.issue(name, key, x509.ExtKeyUsageClientAuth)
	pkcs, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write("client-cert.pem", "CERTIFICATE", der)
	a.write("client-key.pem", "PRIVATE KEY", pkcs)
	who := Identity{Fingerprint: sha256.Sum256(der), Subject: "CN=" + name}
	if public, ok := key.Public().(ed25519.PublicKey); ok {
		who.Principal = blocktree.PrincipalOf(public)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, who
}

func edKey(t testing.TB) crypto.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) files(clients Certificates) TLSFiles {
	in := func(name string) string { return filepath.Join(a.dir, name) }
	return TLSFiles{Certificate: in("server-cert.pem"), Key: in("server-key.pem"), ClientCA: in("ca-cert.pem"), Clients: clients}
}

func (a *authority) load(clients Certificates) *TLS {
	a.t.Helper()
	t, err := LoadTLS(a.files(clients))
	if err != nil {
		a.t.Fatal(err)
	}
	return t
}

// config is a client's that trusts the authority.
func (a *authority) config(own ...tls.Certificate) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{RootCAs: pool, ServerName: "localhost", Certificates: own}
}

// startTLS sends the option, takes its answer and shakes hands. The client then speaks TLS.
func (c *client) startTLS(cfg *tls.Config) (*tls.Conn, error) {
	c.t.Helper()
	if got := c.ask(optStartTLS, nil); got.last() != ack {
		c.t.Fatalf("STARTTLS: %v", got)
	}
	t := tls.Client(c.nc, cfg)
	if err := t.Handshake(); err != nil {
		return nil, err
	}
	c.nc, c.br = t, bufio.NewReader(t)
	return t, nil
}

// secureDial attaches to the export the usual way, under TLS.
func (b *bed) secureDial(cfg *tls.Config) *client {
	b.t.Helper()
	c := b.dial().hello(clientFlags)
	if _, err := c.startTLS(cfg); err != nil {
		b.t.Fatal(err)
	}
	return c
}

func goes(c *client, name string) uint32 {
	c.t.Helper()
	return c.ask(optGo, infoRequest{name: name}.encode()).last()
}

// TestTLSIsRequired: nothing of the exports is told before, everything works after.
func TestTLSIsRequired(t *testing.T) {
	a := newAuthority(t)
	b := newBed(t, setup{tls: a.load(CertificatesNone)})
	c := b.dial().hello(clientFlags)
	good := infoRequest{name: "/vm/disk0"}.encode()
	for id, data := range map[uint32][]byte{optList: nil, optInfo: good, optGo: good, 8: nil, 9: nil, 10: nil, 11: nil, 99: []byte("x")} {
		if got := c.ask(id, data); len(got) != 1 || got.last() != 1<<31|5 {
			t.Fatalf("option %d: %v", id, got)
		}
	}
	if got := c.ask(optStartTLS, []byte("x")); got.last() != errTypeInvalid {
		t.Fatalf("with data: %v", got)
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cfg := a.config()
		cfg.MinVersion, cfg.MaxVersion = version, version
		c := b.secureDial(cfg)
		if got := c.ask(optStartTLS, nil); got.last() != errTypeInvalid {
			t.Fatalf("twice: %v", got)
		}
		if got := c.ask(optList, nil); len(got) != 2 {
			t.Fatalf("%v", got)
		}
		if got := goes(c, "vm/disk0"); got != ack {
			t.Fatalf("%x", got)
		}
		payload := bytes.Repeat([]byte("secret"), 50000)
		if errno, _ := c.do(cmdWrite, 0, 1000, uint32(len(payload)), payload); errno != 0 {
			t.Fatal(errno)
		}
		if errno, got := c.do(cmdRead, 0, 1000, uint32(len(payload)), nil); errno != 0 || !bytes.Equal(got, payload) {
			t.Fatalf("error %d, or other bytes", errno)
		}
		for range 100 { // replies that are put together
			c.send(header(cmdRead, 0, 1, 0, 300))
		}
		for range 100 {
			c.wantReply(1, 0)
			c.take(300)
		}
		c.send(header(cmdDisc, 0, 0, 0, 0))
		c.closed()
	}
	if got := c.ask(optAbort, nil); got.last() != ack {
		t.Fatalf("%v", got)
	}
	old := b.dial().hello(clientFlags)
	cfg := a.config()
	cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if _, err := old.startTLS(cfg); err == nil {
		t.Fatal("TLS 1.1 was accepted")
	}
	c = b.dial().hello(clientFlags)
	c.option(optExportName, 9, []byte("/vm/disk0"))
	c.closed()
}

// TestInjection: what is sent behind STARTTLS in the clear is never believed.
func TestInjection(t *testing.T) {
	a := newAuthority(t)
	b := newBed(t, setup{tls: a.load(CertificatesNone)})
	c := b.dial()
	c.deaf = true
	script := appendOption([]byte{0, 0, 0, 3}, optStartTLS, nil)
	c.send(appendOption(script, optGo, infoRequest{name: "/vm/disk0"}.encode()))
	c.closed()
	// Later, they are no ClientHello.
	c = b.dial().hello(clientFlags)
	if got := c.ask(optStartTLS, nil); got.last() != ack {
		t.Fatalf("%v", got)
	}
	c.deaf = true
	c.option(optGo, 15, infoRequest{name: "/vm/disk0"}.encode())
	for {
		record := make([]byte, 5)
		if n, err := c.br.Read(record); err != nil {
			break
		} else if record[0] != 0x15 { // an alert
			t.Fatalf("answered %x", record[:n])
		} else if _, err := c.br.Discard(2); err != nil {
			break
		}
	}
	if b.srv.handshakesFailed.Load() == 0 {
		t.Fatal("no handshake failed")
	}
}

// TestForgets: what options have set does not outlive STARTTLS.
func TestForgets(t *testing.T) {
	a := newAuthority(t)
	b := newBed(t, setup{tls: a.load(CertificatesNone)})
	cfg := a.config()
	c := b.dial().hello(1) // fixed newstyle, with zeroes: flags stay
	if _, err := c.startTLS(cfg); err != nil {
		t.Fatal(err)
	}
	c.option(optExportName, 9, []byte("/vm/disk0"))
	if got := string(c.take(10)); got != exportInfo(1<<20, writableFlags) {
		t.Fatalf("%x", got)
	}
	c.take(exportNameZeroes)
	c.inSync()
}

func TestNoTLSHere(t *testing.T) {
	b := newBed(t, setup{})
	c := b.dial().hello(clientFlags)
	if got := c.ask(optStartTLS, nil); got.last() != protocol.NEGOTIATION_TYPE_REPLY_ERR_UNSUPPORTED {
		t.Fatalf("%v", got)
	}
}

// TestClientCertificates: what the authority did not sign for a client is refused, and who has signed it.
func TestClientCertificates(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	ours, _ := a.client("vm1", edKey(t))
	foreign, _ := other.client("vm1", edKey(t))
	server := tls.Certificate{PrivateKey: edKey(t)}
	server.Certificate = [][]byte{a.issue("a server", server.PrivateKey.(crypto.Signer), x509.ExtKeyUsageServerAuth)}
	for _, x := range []struct {
		ask  Certificates
		own  []tls.Certificate
		want bool
	}{
		{CertificatesRequired, []tls.Certificate{ours}, true}, {CertificatesRequired, nil, false},
		{CertificatesRequired, []tls.Certificate{foreign}, false}, {CertificatesRequired, []tls.Certificate{server}, false},
		{CertificatesOptional, []tls.Certificate{ours}, true}, {CertificatesOptional, nil, true},
		{CertificatesOptional, []tls.Certificate{foreign}, false}, {CertificatesNone, nil, true},
	} {
		b := newBed(t, setup{tls: a.load(x.ask)})
		cfg := a.config()
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { // whatever the server would accept
			if len(x.own) == 0 {
				return new(tls.Certificate), nil
			}
			return &x.own[0], nil
		}
		c := b.dial().hello(clientFlags)
		c.deaf = true
		tc, err := c.startTLS(cfg)
		if err == nil && x.want {
			if got := goes(c, ""); got != ack {
				t.Errorf("%s: %x", x.ask, got)
			}
			continue
		}
		if err == nil { // in TLS 1.3 the client has ended before the server has looked
			_, err = tc.Read(make([]byte, 1))
		}
		if (err == nil) != x.want {
			t.Errorf("%s with %d certificates: %v", x.ask, len(x.own), err)
		}
	}
}

// TestRights: a client sees, reads and writes what it may, by its principal or by its certificate.
func TestRights(t *testing.T) {
	a := newAuthority(t)
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	writer, writerID := a.client("writer", edKey(t))
	reader, readerID := a.client("reader", ecKey)
	nobody, _ := a.client("nobody", edKey(t))
	rights := func(who Identity, export string) Access {
		switch {
		case export == "/open":
			return WriteAccess
		case who.Principal == writerID.Principal && !who.Principal.IsZero():
			return WriteAccess
		case who.Fingerprint == readerID.Fingerprint && who.Principal.IsZero() && who.Subject == "CN=reader":
			return ReadAccess
		}
		return NoAccess
	}
	b := newBed(t, setup{tls: a.load(CertificatesRequired), config: Config{Rights: rights}})
	b.export(blockdev.Export{Name: "/open", Device: b.dev})
	for _, x := range []struct {
		own     tls.Certificate
		visible string
		go0     uint32
		errno   uint32 // of a write
	}{
		{writer, "[/open /vm/disk0]", ack, 0}, {reader, "[/open /vm/disk0]", ack, nbdEPERM}, {nobody, "[/open]", 1<<31 | 6, 0},
	} {
		c := b.secureDial(a.config(x.own))
		var seen []string
		for _, r := range c.ask(optList, nil) {
			if r.kind == protocol.NEGOTIATION_TYPE_REPLY_SERVER {
				name := r.data[4:]
				seen = append(seen, strings.TrimSuffix(name, "the first disk"))
			}
		}
		if fmt.Sprint(seen) != x.visible {
			t.Errorf("sees %v, want %s", seen, x.visible)
		}
		q := infoRequest{name: "/vm/disk0"}.encode()
		info, absent := c.ask(optInfo, q), c.ask(optInfo, infoRequest{name: "/absent"}.encode())
		got := c.ask(optGo, q)
		if info.last() != x.go0 || got.last() != x.go0 {
			t.Errorf("INFO %x, GO %x, want %x", info.last(), got.last(), x.go0)
		}
		if x.go0 != ack {
			if got[0] != absent[0] {
				t.Errorf("what it may not have is told apart from what is not there: %q, %q", got[0].data, absent[0].data)
			}
			continue
		}
		told, _ := got.info(0)
		if toldInfo, _ := info.info(0); toldInfo != told || (told == exportInfo(1<<20, readOnlyFlags)) != (x.errno == nbdEPERM) {
			t.Errorf("INFO and GO: %x, %x", toldInfo, told)
		}
		if errno, _ := c.do(cmdWrite, 0, 0, 4096, make([]byte, 4096)); errno != x.errno {
			t.Errorf("a write: error %d, want %d", errno, x.errno)
		}
		c.inSync()
	}
}

// TestReload: new files hold for new connections, bad ones for none, and nobody is cut off.
func TestReload(t *testing.T) {
	a := newAuthority(t)
	secure := a.load(CertificatesNone)
	b := newBed(t, setup{tls: secure})
	serial := func() string {
		c := b.secureDial(a.config())
		defer c.nc.Close()
		return c.nc.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	old := b.secureDial(a.config()).attach2("")
	first := serial()
	a.server("localhost")
	if serial() != first {
		t.Fatal("files were read without being asked")
	}
	if err := secure.Reload(); err != nil {
		t.Fatal(err)
	}
	second := serial()
	if second == first {
		t.Fatal("the same certificate")
	}
	a.write("server-cert.pem", "CERTIFICATE", []byte("no certificate"))
	if err := secure.Reload(); blocktree.KindOf(err) != blocktree.Invalid || blocktree.HintOf(err) == "" {
		t.Fatalf("got %v", err)
	}
	if serial() != second {
		t.Fatal("a bad file changed something")
	}
	old.inSync()
}

// attach2 is attach for a client that has sent its flags.
func (c *client) attach2(name string) *client {
	c.t.Helper()
	if got := goes(c, name); got != ack {
		c.t.Fatalf("GO: %x", got)
	}
	return c
}

func TestLoadTLSRefusals(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	good := a.files(CertificatesRequired)
	for name, x := range map[string]struct {
		change func(*TLSFiles)
		kind   blocktree.Kind
	}{
		"good":            {func(*TLSFiles) {}, 0},
		"no certificate":  {func(f *TLSFiles) { f.Certificate += "x" }, blocktree.NotFound},
		"no key":          {func(f *TLSFiles) { f.Key = a.dir }, blocktree.Permission},
		"no authority":    {func(f *TLSFiles) { f.ClientCA = "" }, blocktree.NotFound},
		"a key as one":    {func(f *TLSFiles) { f.ClientCA = f.Key }, blocktree.Invalid},
		"another's key":   {func(f *TLSFiles) { f.Key = filepath.Join(other.dir, "server-key.pem") }, blocktree.Invalid},
		"a readable key":  {func(f *TLSFiles) { f.Key = filepath.Join(a.dir, "readable.pem") }, blocktree.Permission},
		"too much":        {func(f *TLSFiles) { f.Certificate = filepath.Join(a.dir, "large.pem") }, blocktree.TooLarge},
		"asks for pigeon": {func(f *TLSFiles) { f.Clients = "pigeon" }, blocktree.Invalid},
	} {
		a.write("large.pem", "CERTIFICATE", make([]byte, pemBytesMax))
		a.write("readable.pem", "PRIVATE KEY", nil)
		if err := os.Chmod(filepath.Join(a.dir, "readable.pem"), 0o640); err != nil {
			t.Fatal(err)
		}
		f := good
		x.change(&f)
		_, err := LoadTLS(f)
		if blocktree.KindOf(err) != x.kind || (err == nil) != (x.kind == 0) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && x.kind != blocktree.TooLarge && blocktree.HintOf(err) == "" {
			t.Errorf("%s: no hint", name)
		}
	}
}

// TestSlowUnderTLS: who takes nothing is cut off when another waits for memory, and only then.
func TestSlowUnderTLS(t *testing.T) {
	a := newAuthority(t)
	b := newBed(t, setup{tls: a.load(CertificatesNone), file: memfile.Options{Info: blocktree.FileInfo{SizeBytes: 64 << 20}}, memory: 40 << 20,
		server: func(s *Server) { s.stallTimeout = 20 * time.Millisecond }})
	slow := b.secureDial(a.config()).attach2("")
	slow.send(header(cmdRead, 0, 1, 0, 32<<20))
	until(t, "its memory is taken", func() bool { return b.memory.FreeBytes() < 20<<20 })
	time.Sleep(10 * 20 * time.Millisecond) // many stalls, which harm nobody: if it were cut off for them, the next line would fail
	slow.wantReply(1, 0)
	slow.take(32 << 20)
	slow.inSync()
	payload := bytes.Repeat([]byte("0123456789abcdef"), 20000)
	slow.send(header(cmdWrite, 0, 3, 0, uint32(len(payload))))
	for part := range 4 { // reads time out in the middle of it, and of a record, and go on
		slow.send(payload[part*80000 : (part+1)*80000])
		time.Sleep(2 * 20 * time.Millisecond)
	}
	slow.wantReply(3, 0)
	if errno, got := slow.do(cmdRead, 0, 0, uint32(len(payload)), nil); errno != 0 || !bytes.Equal(got, payload) {
		t.Fatalf("error %d, or other bytes", errno)
	}
	slow.send(header(cmdRead, 0, 2, 0, 32<<20))
	until(t, "its memory is taken again", func() bool { return b.memory.FreeBytes() < 20<<20 })
	other := b.secureDial(a.config()).attach2("")
	if errno, _ := other.do(cmdRead, 0, 0, 32<<20, nil); errno != 0 {
		t.Fatal(errno)
	}
}
