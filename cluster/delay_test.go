package cluster

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/crypto/cred"
	"blocktree/internal/bttp"
	"blocktree/internal/simnet"
)

// delayBed is a handle without a machine, and connections from its process to a node.
type delayBed struct {
	t      *testing.T
	handle *Handle
	dial   func() *bttp.Conn
}

func newDelayBed(t *testing.T, node bttp.HandlerFunc) *delayBed { return newDelayBedOn(t, nil, node) }

// newDelayBedOn is one over a simulated network, which may be in a bubble; nil: the loopback network.
func newDelayBedOn(t *testing.T, net *simnet.Net, node bttp.HandlerFunc) *delayBed {
	t.Helper()
	rootKey, err := cred.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	root := rootKey.Principal()
	config := func(name string) bttp.Config {
		key, err := cred.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		chain, err := cred.Issue(rootKey, nil, root, cred.Grant{Subject: key.Public(), Path: blocktree.RootPath(root).Join(name),
			Services: []string{blocktree.ServiceSector}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		return bttp.Config{Key: key, Credentials: chain, Root: root, Log: slog.New(slog.DiscardHandler), Transport: bttp.TCP}
	}
	server, asker := config("node"), config("client")
	server.Addrs, server.Handler = []string{"127.0.0.1:0"}, node
	if net != nil {
		server.Addrs, server.Network, asker.Network = []string{"10.0.0.1:7001"}, net.Host(netip.MustParseAddr("10.0.0.1")), net.Host(netip.MustParseAddr("10.0.0.2"))
	}
	listening, err := bttp.Listen(t.Context(), server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listening.Close() })
	client, err := bttp.New(asker)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	id := listening.Identity()
	h := &Handle{client: &Client{cfg: ClientConfig{Logger: slog.New(slog.DiscardHandler)}}, delayed: map[blocktree.NodeID][]delayed{}}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	t.Cleanup(func() { h.cancel(); h.wg.Wait() })
	return &delayBed{t, h, func() *bttp.Conn {
		c, err := client.Dial(t.Context(), blocktree.Runtime{Path: id.Path, Principal: id.Principal, Endpoints: listening.Addrs(), Services: id.Services})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}}
}

// settle waits until nothing is delayed.
func (b *delayBed) settle() {
	for {
		b.handle.mu.Lock()
		n := len(b.handle.delayed)
		b.handle.mu.Unlock()
		if n == 0 {
			return
		}
		time.Sleep(100 * time.Microsecond)
	}
}

func learn() *stripe.Message { return &stripe.Message{Kind: stripe.KindLearn, Node: 1} }

// TestDelayedWhileTheLastIsSent: a message that finds no room just when the one before it has been sent is sent too, by one
// goroutine.
func TestDelayedWhileTheLastIsSent(t *testing.T) {
	const rounds = 100
	var mu sync.Mutex
	got := 0
	b := newDelayBed(t, func(r *bttp.Request) {
		mu.Lock()
		got++
		mu.Unlock()
		r.Reply(nil)
		r.Release()
	})
	conn, h := b.dial(), b.handle
	for i := range rounds {
		h.delay(conn, learn())
		for start := time.Now(); time.Since(start) < time.Duration(i%100)*time.Microsecond; { // it is on its way, somewhere
		}
		h.mu.Lock() // the machine is at work: whoever wants mu queues up
		var wg sync.WaitGroup
		wg.Go(func() { h.delay(conn, learn()) })
		time.Sleep(2 * time.Millisecond)
		h.mu.Unlock()
		h.mu.Lock() // and once more, so that the others get it in the order in which they came
		time.Sleep(100 * time.Microsecond)
		h.mu.Unlock()
		wg.Wait()
		b.settle()
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		mu.Lock()
		n := got
		mu.Unlock()
		if n == 2*rounds {
			return
		}
		if n > 2*rounds || time.Now().After(end) {
			t.Fatalf("%d messages arrived of %d", n, 2*rounds)
		}
	}
}

// TestDelayedAcrossConnections: what waits for a connection goes with it, but what found no room on the next one is sent.
func TestDelayedAcrossConnections(t *testing.T) {
	answers := make(chan struct{})
	arrived := make(chan *bttp.Request, blocktree.RequestsPerConnectionMax+1)
	b := newDelayBed(t, func(r *bttp.Request) {
		arrived <- r
		<-answers
	})
	first, h := b.dial(), b.handle
	first.Close()
	h.mu.Lock() // until both wait
	var wg sync.WaitGroup
	second := b.dial()
	wg.Go(func() { h.delay(first, learn()) })
	time.Sleep(2 * time.Millisecond)
	wg.Go(func() { h.delay(second, learn()) })
	time.Sleep(2 * time.Millisecond)
	h.mu.Unlock()
	wg.Wait()
	select {
	case r := <-arrived:
		close(answers)
		r.Reply(nil)
		r.Release()
	case <-time.After(10 * time.Second):
		close(answers)
		t.Error("what was to go on the new connection was thrown away with the old one")
	}
	b.settle()
}
