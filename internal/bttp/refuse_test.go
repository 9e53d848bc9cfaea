package bttp

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"blocktree"
	"blocktree/crypto/cred"
)

// dialErr dials and returns the error.
func (d *domain) dialErr(e *Endpoint, r blocktree.Runtime) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, err := e.Dial(ctx, r)
	return err
}

func TestDialRefusals(t *testing.T) {
	carriers(t, func(t *testing.T, transport Transport) {
		d, foreign := newDomain(t), newDomain(t)
		sc := d.config("a")
		sc.Handler = echo
		_, good := d.listen(sc)
		old := d.config("old")
		now := time.Now()
		expired, err := cred.Issue(d.key, nil, d.root, cred.Grant{Subject: old.Key.Public(), Path: blocktree.RootPath(d.root).Join("old"),
			NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(-time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range []struct {
			name   string
			client func(c *Config)
			record func(r *blocktree.Runtime)
			want   blocktree.Kind // Other: no refusal
		}{
			{"good", nil, nil, blocktree.Other},
			{"any path", nil, func(r *blocktree.Runtime) { r.Path = "" }, blocktree.Other},
			{"wrong principal", nil, func(r *blocktree.Runtime) { r.Principal = d.key.Principal() }, blocktree.Unauthenticated},
			{"wrong path", nil, func(r *blocktree.Runtime) { r.Path = blocktree.RootPath(d.root).Join("b") }, blocktree.Unauthenticated},
			{"wrong service", nil, func(r *blocktree.Runtime) { r.Services = []string{"fs"} }, blocktree.Unauthenticated},
			{"nobody expected", nil, func(r *blocktree.Runtime) { r.Principal = blocktree.Principal{} }, blocktree.Invalid},
			{"nowhere", nil, func(r *blocktree.Runtime) { r.Endpoints = nil }, blocktree.Invalid},
			{"the client is of a foreign domain", func(c *Config) {
				f := foreign.config("x")
				c.Key, c.Credentials, c.Root = f.Key, f.Credentials, foreign.root
			}, nil, blocktree.Unauthenticated},
			{"the client's credentials are expired", func(c *Config) {
				c.Key, c.Credentials, c.Clock = old.Key, expired, clock(now.Add(-90*time.Minute))
			}, nil, blocktree.Unauthenticated},
			{"an anonymous client", func(c *Config) { c.Key, c.Credentials = cred.Key{}, nil }, nil, blocktree.Unauthenticated},
			{"a key without its credentials", func(c *Config) { c.Credentials = nil }, nil, blocktree.Unauthenticated},
		} {
			t.Run(x.name, func(t *testing.T) {
				cc, r := d.config("b"), good
				cc.Transport = transport
				if x.client != nil {
					x.client(&cc)
				}
				if x.record != nil {
					x.record(&r)
				}
				err := d.dialErr(d.client(cc), r)
				if (err == nil) != (x.want == blocktree.Other) || blocktree.KindOf(err) != x.want {
					t.Fatalf("got %v, want kind %v", err, x.want)
				}
			})
		}
	})
}

// clock stands still.
type clock time.Time

func (c clock) Now() time.Time      { return time.Time(c) }
func (c clock) Boot() time.Duration { return 0 }

func TestExpiredServerIsRefused(t *testing.T) {
	carriers(t, func(t *testing.T, transport Transport) {
		d := newDomain(t)
		_, r := d.listen(d.config("a")) // valid for an hour
		cc := d.config("b")
		now := time.Now()
		chain, err := cred.Issue(d.key, nil, d.root, cred.Grant{Subject: cc.Key.Public(), Path: blocktree.RootPath(d.root).Join("b"),
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(4 * time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		cc.Credentials, cc.Transport, cc.Clock = chain, transport, clock(now.Add(2*time.Hour))
		if err := d.dialErr(d.client(cc), r); blocktree.KindOf(err) != blocktree.Unauthenticated {
			t.Fatal(err)
		}
	})
}

func TestAnonymousIsAdmittedWherePolicySaysSo(t *testing.T) {
	carriers(t, func(t *testing.T, transport Transport) {
		d := newDomain(t)
		sc := d.config("a")
		asked := make(chan cred.Identity, 1)
		sc.Admit = func(cred.Identity) error { return nil }
		sc.Handler = HandlerFunc(func(r *Request) { asked <- r.Conn.Peer(); echo(r) })
		_, r := d.listen(sc)
		conn := d.dial(d.client(Config{Root: d.root, Transport: transport, Log: sc.Log}), r)
		reply, err := conn.CallWait(context.Background(), 1, []byte("h"))
		if err != nil {
			t.Fatal(err)
		}
		reply.Release()
		if who := <-asked; !who.Anonymous() {
			t.Fatalf("served as %+v", who)
		}
	})
}

func TestAdmitRefusesByIdentity(t *testing.T) {
	d := newDomain(t)
	sc := d.config("a")
	sc.Admit = func(i cred.Identity) error {
		if i.Path.Base() != "friend" {
			return blocktree.E("admit", blocktree.Permission, errors.New("friends only"))
		}
		return nil
	}
	_, r := d.listen(sc)
	if err := d.dialErr(d.client(d.config("friend")), r); err != nil {
		t.Fatal(err)
	}
	if err := d.dialErr(d.client(d.config("foe")), r); blocktree.KindOf(err) != blocktree.Permission {
		t.Fatal(err)
	}
}

func TestConfigRefused(t *testing.T) {
	d := newDomain(t)
	for name, change := range map[string]func(c *Config){
		"no logger":                  func(c *Config) { c.Log = nil },
		"no root":                    func(c *Config) { c.Root = blocktree.Principal{} },
		"lanes":                      func(c *Config) { c.Lanes = blocktree.LanesMax + 1 },
		"transport":                  func(c *Config) { c.Transport = "pigeon" },
		"credentials of another key": func(c *Config) { c.Key = d.key },
		"anonymous listener":         func(c *Config) { c.Credentials, c.Addrs = nil, []string{"127.0.0.1:0"} },
		"address":                    func(c *Config) { c.Addrs = []string{"127.0.0.1"} },
	} {
		c := d.config("a")
		change(&c)
		if e, err := Listen(context.Background(), c); blocktree.KindOf(err) != blocktree.Invalid {
			t.Errorf("%s: %v", name, err)
			if err == nil {
				_ = e.Close()
			}
		}
	}
}

func TestPortInUse(t *testing.T) {
	carriers(t, func(t *testing.T, transport Transport) {
		d := newDomain(t)
		e, _ := d.listen(d.config("a"))
		c := d.config("b")
		c.Addrs, c.Transport = e.Addrs(), transport
		_, err := Listen(context.Background(), c)
		if blocktree.KindOf(err) != blocktree.Busy || blocktree.HintOf(err) == "" {
			t.Fatal(err)
		}
	})
}

// rawPeer is a misbehaving client: it speaks TLS as it should, and then what the test says.
type rawPeer struct {
	t *testing.T
	carrier
	r *reader
}

// rawDial connects as the runtime of config, with or without a hello. Its read deadline is the test's patience.
func rawDial(t *testing.T, d *domain, transport Transport, config Config, r blocktree.Runtime, withHello bool) *rawPeer {
	t.Helper()
	e := d.client(config)
	tc, err := cred.NewTLSConfig(cred.TLSOptions{Key: config.Key, Expect: r.Principal, ALPN: []string{alpn}})
	if err != nil {
		t.Fatal(err)
	}
	o := e.openTCP(r.Endpoints[0], tc)
	if transport == QUIC {
		o = e.openQUIC(r.Endpoints[0], tc)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, _, _, err := o.open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	p := &rawPeer{t, c, e.newReader(c)}
	_ = c.setDeadline(time.Now().Add(30 * time.Second))
	if withHello {
		h := hello{conn: newConnID(), lanes: 1, chain: config.Credentials}
		body := h.encode()
		p.send(append(frame{kind: frameHello, bodyBytes: len(body)}.append(nil), body...))
		if _, err := readHello(p.r); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *rawPeer) send(b []byte) {
	if err := p.stage(b); err != nil {
		p.t.Fatal(err)
	}
	_ = p.flush() // the peer may have hung up already, as it should
}

// ends reads until the peer hangs up.
func (p *rawPeer) ends() {
	p.t.Helper()
	for {
		_, b, err := p.r.readFrame()
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			p.t.Fatal("the peer did not hang up")
		}
		if err != nil {
			return
		}
		b.release()
	}
}

func TestGarbageIsSurvived(t *testing.T) {
	noise := make([]byte, 4096)
	_, _ = rand.Read(noise)
	huge := frame{kind: frameRequest, id: 1, bodyBytes: 1 << 30}.append(nil)
	request := append(frame{kind: frameRequest, id: 1, bodyBytes: 4}.append(nil), "body"...)
	again := (&hello{lanes: 1}).encode()
	carriers(t, func(t *testing.T, transport Transport) {
		d := newDomain(t)
		sc := d.config("a")
		sc.Handler = echo
		_, r := d.listen(sc)
		for _, x := range []struct {
			name      string
			withHello bool
			send      []byte
		}{
			{"noise for a hello", false, noise},
			{"a request for a hello", false, request},
			{"an empty failure for a hello", false, frame{kind: frameFailure}.append(nil)},
			{"an oversized hello", false, frame{kind: frameHello, bodyBytes: helloBytesMax + 1}.append(nil)},
			{"a hello that says nothing", false, append(frame{kind: frameHello, bodyBytes: 3}.append(nil), 1, 2, 3)},
			{"joining nothing", false, append(frame{kind: frameHello, bodyBytes: 20}.append(nil), (&hello{lane: 1, lanes: 2}).encode()...)},
			{"noise", true, noise},
			{"an oversized body", true, huge},
			{"an oversized header", true, frame{kind: frameRequest, id: 1, headerBytes: 5000}.append(nil)},
			{"a second hello", true, append(frame{kind: frameHello, bodyBytes: len(again)}.append(nil), again...)},
			{"an answer to nothing", true, frame{kind: frameReply, id: 1 << slotBits}.append(nil)},
			{"an answer to no slot", true, frame{kind: frameReply, id: 1<<slotBits - 1}.append(nil)},
			{"a failure of nothing", true, frame{kind: frameFailure, id: 77}.append(nil)},
		} {
			t.Run(x.name, func(t *testing.T) {
				p := rawDial(t, d, transport, d.config("raw"), r, x.withHello)
				p.send(x.send)
				p.ends()
			})
		}
		cc := d.config("b") // and the listener serves as before
		cc.Transport = transport
		reply, err := d.dial(d.client(cc), r).CallWait(context.Background(), 1, []byte("header"), []byte("body"))
		if err != nil || string(reply.Body) != "body" {
			t.Fatal(err)
		}
		reply.Release()
	})
}

// TestOnlyAHelloIsAwaited: a stranger who announces a large frame of another type is refused before its body comes, and
// before there is memory for it.
func TestOnlyAHelloIsAwaited(t *testing.T) {
	for _, f := range []frame{{kind: frameRequest, id: 1, bodyBytes: blocktree.FrameBodyBytesMax}, {kind: frameReply, id: 1, bodyBytes: 1},
		{kind: frameOneWay, bodyBytes: 1}} {
		_, err := readHello(testReader(bytes.NewReader(f.append(nil))))
		if blocktree.KindOf(err) != blocktree.Invalid {
			t.Errorf("type %d: %v", f.kind, err)
		}
	}
}

func TestGarbageBelowTLS(t *testing.T) {
	d := newDomain(t)
	sc := d.config("a")
	sc.Handler = echo
	_, r := d.listen(sc)
	noise := make([]byte, 2000)
	_, _ = rand.Read(noise)
	conn, err := net.Dial("tcp", r.Endpoints[0])
	if err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Write(noise)
	_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("the listener did not hang up")
	}
	_ = conn.Close()
	udp, err := net.Dial("udp", r.Endpoints[0])
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		_, _ = udp.Write(noise[:100*i])
	}
	_ = udp.Close()
	for _, transport := range []Transport{TCP, QUIC} {
		cc := d.config("b")
		cc.Transport = transport
		d.dial(d.client(cc), r)
	}
}

// TestWrongTLSClients shows that the listener itself refuses what the one TLS constructor refuses, on both carriers.
func TestWrongTLSClients(t *testing.T) {
	d := newDomain(t)
	_, r := d.listen(d.config("a"))
	client := d.config("b")
	for name, change := range map[string]func(c *tls.Config){
		"no certificate": func(c *tls.Config) { c.Certificates = nil },
		"two certificates": func(c *tls.Config) {
			x := c.Certificates[0]
			x.Certificate = [][]byte{x.Certificate[0], x.Certificate[0]}
			c.Certificates = []tls.Certificate{x}
		},
		"another protocol": func(c *tls.Config) { c.NextProtos = []string{"blocktree/2"} },
	} {
		tc, err := cred.NewTLSConfig(cred.TLSOptions{Key: client.Key, Expect: r.Principal, ALPN: []string{alpn}})
		if err != nil {
			t.Fatal(err)
		}
		change(tc)
		if conn, err := tls.Dial("tcp", r.Endpoints[0], tc); err == nil {
			_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
			var alert *net.OpError
			if _, err = conn.Read(make([]byte, 1)); !errors.As(err, &alert) || alert.Op != "remote error" {
				t.Errorf("tcp, %s: %v", name, err)
			}
			_ = conn.Close()
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		conn, err := quic.DialAddr(ctx, r.Endpoints[0], tc, quicConfig())
		if err == nil {
			<-conn.Context().Done()
			err = context.Cause(conn.Context())
		}
		var refused *quic.TransportError
		if !errors.As(err, &refused) || !refused.ErrorCode.IsCryptoError() {
			t.Errorf("quic, %s: %v", name, err)
		}
		cancel()
	}
}

// TestStolenCredentials presents somebody's chain with another key, and a chain where none belongs.
func TestStolenCredentials(t *testing.T) {
	carriers(t, func(t *testing.T, transport Transport) {
		d := newDomain(t)
		_, r := d.listen(d.config("a"))
		victim := d.config("victim")
		p := rawDial(t, d, transport, d.config("thief"), r, false)
		body := (&hello{conn: newConnID(), lanes: 1, chain: victim.Credentials}).encode()
		p.send(append(frame{kind: frameHello, bodyBytes: len(body)}.append(nil), body...))
		_, err := readHello(p.r)
		if err = lostError("", err); blocktree.KindOf(err) != blocktree.Unauthenticated {
			t.Fatal(err)
		}
	})
}
