package bttp

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"blocktree"
	"blocktree/crypto/cred"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// domain issues credentials for tests.
type domain struct {
	t    testing.TB
	key  cred.Key
	root blocktree.Principal
}

func newDomain(t testing.TB) *domain {
	k, err := cred.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return &domain{t, k, k.Principal()}
}

// config makes the config of a runtime called name in the root directory, valid for an hour.
func (d *domain) config(name string) Config {
	k, err := cred.GenerateKey()
	if err != nil {
		d.t.Fatal(err)
	}
	now := time.Now()
	chain, err := cred.Issue(d.key, nil, d.root, cred.Grant{Subject: k.Public(), Path: blocktree.RootPath(d.root).Join(name),
		Services: []string{blocktree.ServiceSector}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)})
	if err != nil {
		d.t.Fatal(err)
	}
	return Config{Key: k, Credentials: chain, Root: d.root, Log: slog.New(slog.DiscardHandler)}
}

// listen starts an endpoint and returns how to reach it.
func (d *domain) listen(c Config) (*Endpoint, blocktree.Runtime) {
	if c.Addrs == nil {
		c.Addrs = []string{"127.0.0.1:0"}
	}
	e, err := Listen(context.Background(), c)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = e.Close() })
	id := e.Identity()
	return e, blocktree.Runtime{Path: id.Path, Principal: id.Principal, Endpoints: e.Addrs(), Services: id.Services}
}

// client makes an endpoint that only dials.
func (d *domain) client(c Config) *Endpoint {
	e, err := New(c)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = e.Close() })
	return e
}

func (d *domain) dial(e *Endpoint, r blocktree.Runtime) *Conn {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := e.Dial(ctx, r)
	if err != nil {
		d.t.Fatal(err)
	}
	return c
}

// echo answers with what it was sent.
var echo = HandlerFunc(func(r *Request) { r.ReplyThen(r.Release, r.Header, r.Body) })

// carriers runs a test on each.
func carriers(t *testing.T, f func(t *testing.T, transport Transport)) {
	for _, transport := range []Transport{TCP, QUIC} {
		t.Run(string(transport), func(t *testing.T) { f(t, transport) })
	}
}

// carriersAndMemory runs a test on these, and on a connection of a runtime with itself.
func carriersAndMemory(t *testing.T, f func(t *testing.T, transport Transport)) {
	carriers(t, f)
	t.Run(string(Memory), func(t *testing.T) { f(t, Memory) })
}

// pair makes the configs of a listener and of who dials it by the transport.
func (d *domain) pair(transport Transport) (listens, dials Config) {
	if transport == Memory {
		listens = d.config("a")
		listens.Loopback = new(Loopback)
		return listens, listens
	}
	listens, dials = d.config("a"), d.config("b")
	dials.Transport = transport
	return listens, dials
}

func TestEchoOfManySizes(t *testing.T) {
	carriersAndMemory(t, func(t *testing.T, transport Transport) {
		d := newDomain(t)
		sc, cc := d.pair(transport)
		sc.Handler = echo
		_, r := d.listen(sc)
		conn := d.dial(d.client(cc), r)
		if conn.Transport() != transport || conn.Peer().Path != r.Path {
			t.Fatalf("transport %v, peer %v", conn.Transport(), conn.Peer().Path)
		}
		sizes := []int{0, 1, 63, 2048, copyBytesMax, copyBytesMax + 1, bulkBytes - 1, bulkBytes, 65536, 512 << 10, blocktree.FrameBodyBytesMax}
		var wg sync.WaitGroup
		for worker := range 8 {
			wg.Go(func() {
				body := make([]byte, blocktree.FrameBodyBytesMax)
				_, _ = rand.Read(body)
				header := body[:worker*40]
				for round := range 2 * len(sizes) {
					b := body[:sizes[(round+worker)%len(sizes)]]
					got := make(chan error, 1)
					err := conn.Call(7, header, [][]byte{b[:len(b)/3], b[len(b)/3:]}, func(r Reply, err error) {
						if err == nil && (!bytes.Equal(r.Body, b) || !bytes.Equal(r.Header, header) || r.Code != 7) {
							t.Errorf("%d bytes came back changed", len(b))
						}
						r.Release()
						got <- err
					})
					if err == nil {
						err = <-got
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	})
}
