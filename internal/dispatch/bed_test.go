package dispatch

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/internal/bttp"
	"blocktree/internal/simnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The service of the tests. What it does says the code of the message.
const (
	service = "letters"

	codeDo      = 300 // counted, and answered with the runtime's name
	codeSlow    = 301 // the same, a second later
	codeNot     = 302 // Unsupported
	codeNoActor = 303 // Undeliverable
	codeRefused = 304 // Permission
)

// bed is runtimes in directories, and one that sends to them, in a bubble.
type bed struct {
	t       testing.TB
	root    cred.Key
	net     *simnet.Net
	hosts   int
	network func(*bed) bttp.Network
	routes  *fakeRoutes
	from    *bttp.Endpoint
	d       *Dispatcher
	addr    netip.Addr // of the sender
}

// postman is a runtime with the service.
type postman struct {
	blocktree.Runtime
	endpoint *bttp.Endpoint
	addr     netip.Addr
	done     atomic.Int64 // messages that had their effect
	away     atomic.Bool  // it has no such service any more
}

// fakeRoutes are Routes that say what they are told to.
type fakeRoutes struct {
	mu     sync.Mutex
	memory map[blocktree.Scope][]blocktree.Runtime // what Known says
	truth  map[blocktree.Scope][]blocktree.Runtime // what Find says, and then is remembered
	err    error                                   // of Find instead
	finds  int
	failed int
}

func (f *fakeRoutes) Known(a Address) (Found, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := f.memory[a.Scope]
	return Found{Runtimes: list, Asked: true}, len(list) > 0
}

func (f *fakeRoutes) Find(_ context.Context, a Address) (Found, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.finds++
	if f.err != nil {
		return Found{}, f.err
	}
	list := f.truth[a.Scope]
	if len(list) == 0 {
		return Found{}, blocktree.E("find", blocktree.NotFound, nil)
	}
	f.memory[a.Scope] = list
	return Found{Runtimes: list, Asked: true}, nil
}

func (f *fakeRoutes) Failed(a Address) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failed++
	delete(f.memory, a.Scope)
}

// says has Find say who has the service in a scope.
func (f *fakeRoutes) says(scope blocktree.Scope, who ...*postman) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.truth[scope] = nil
	for _, p := range who {
		f.truth[scope] = append(f.truth[scope], p.Runtime)
	}
}

// within runs a test in a bubble.
func within(t *testing.T, test func(b *bed)) {
	synctest.Test(t, func(t *testing.T) { test(newBed(t)) })
}

func newBed(t testing.TB) *bed {
	return newBedOn(t, func(b *bed) bttp.Network { return b.net.Host(b.at()) })
}

// newBedOn is newBed on other networks, one for each runtime; nil is the machine's.
func newBedOn(t testing.TB, network func(*bed) bttp.Network) *bed {
	root, err := cred.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{t: t, root: root, net: simnet.New(1), network: network, routes: &fakeRoutes{memory: map[blocktree.Scope][]blocktree.Runtime{}, truth: map[blocktree.Scope][]blocktree.Runtime{}}}
	c, addr := b.config("sender", nil)
	b.addr = addr
	if b.from, err = bttp.New(c); err != nil {
		t.Fatal(err)
	}
	b.d = New(Config{Routes: b.routes, Connect: b.from.Dial})
	t.Cleanup(func() {
		_ = b.d.Close()
		_ = b.from.Close()
	})
	return b
}

// path is below the root directory.
func (b *bed) path(short string) blocktree.Path {
	return blocktree.RootPath(b.root.Principal()) + blocktree.Path(short)
}

// config is that of a runtime on a host of its own.
func (b *bed) config(short string, services []string) (bttp.Config, netip.Addr) {
	b.t.Helper()
	b.hosts++
	key, err := cred.GenerateKey()
	if err != nil {
		b.t.Fatal(err)
	}
	chain, err := cred.Issue(b.root, nil, b.root.Principal(), cred.Grant{Subject: key.Public(), Path: b.path("/" + short), Services: services, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)})
	if err != nil {
		b.t.Fatal(err)
	}
	return bttp.Config{Key: key, Credentials: chain, Root: b.root.Principal(), Transport: bttp.TCP, Network: b.network(b), Log: slog.New(slog.DiscardHandler)}, b.at()
}

// at is the address of the newest host.
func (b *bed) at() netip.Addr {
	return netip.AddrFrom4([4]byte{10, 0, byte(b.hosts >> 8), byte(b.hosts)})
}

// postman starts one, at a path of one or more names.
func (b *bed) postman(short string) *postman {
	b.t.Helper()
	c, addr := b.config(short, []string{service})
	p := &postman{addr: addr}
	c.Addrs, c.Handler = []string{"127.0.0.1:0"}, bttp.HandlerFunc(p.serve)
	if c.Network != nil {
		c.Addrs[0] = addr.String() + ":7000"
	}
	var err error
	if p.endpoint, err = bttp.Listen(b.t.Context(), c); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = p.endpoint.Close() })
	id := p.endpoint.Identity()
	p.Runtime = blocktree.Runtime{Path: id.Path, Principal: id.Principal, Endpoints: p.endpoint.Addrs(), Services: id.Services}
	return p
}

func (p *postman) serve(r *bttp.Request) {
	defer r.Release()
	fail := func(k blocktree.Kind) { r.Fail(blocktree.E("letters", k, nil)) }
	switch {
	case p.away.Load() || r.Code == codeNoActor:
		fail(blocktree.Undeliverable)
	case r.Code == codeNot:
		fail(blocktree.Unsupported)
	case r.Code == codeRefused:
		fail(blocktree.Permission)
	case r.Code == codeSlow:
		p.done.Add(1)
		time.AfterFunc(time.Second, func() { r.Reply(nil, []byte(p.Path.Short())) })
	default:
		p.done.Add(1)
		r.Reply(nil, []byte(p.Path.Short()))
	}
}

// cut has nothing go between the sender and a postman any more.
func (b *bed) cut(p *postman) {
	b.net.Set(b.addr, p.addr, simnet.Link{Cut: true})
	b.net.Set(p.addr, b.addr, simnet.Link{Cut: true})
}

// rootward is the address of the service closest to a directory.
func (b *bed) rootward(short string) Address {
	return Address{Kind: Rootward, Scope: b.path(short), Service: service}
}

// send sends a message, and says who answered.
func (b *bed) send(a Address, code uint16) (string, error) {
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Hour) // in a bubble this costs nothing
	defer cancel()
	answer, err := b.d.Dispatch(ctx, a, Message{Code: code, Body: []byte("dear")})
	if err != nil {
		return "", err
	}
	defer answer.Release()
	if string(answer.Body) != answer.From.Short() {
		return "", fmt.Errorf("%q answered, by the connection to %s", answer.Body, answer.From.Short())
	}
	return string(answer.Body), nil
}

// want sends a message that is to be answered by somebody.
func (b *bed) want(what string, a Address, who ...*postman) {
	b.t.Helper()
	got, err := b.send(a, codeDo)
	for _, p := range who {
		if got == p.Path.Short() {
			return
		}
	}
	b.t.Errorf("%s: answered by %q, %v", what, got, err)
}

// actor is one at the service that an address leads to.
func (b *bed) actor(a Address) *Actor {
	b.t.Helper()
	answer, err := b.d.Dispatch(b.t.Context(), a, Message{Code: codeDo})
	if err != nil {
		b.t.Fatal(err)
	}
	defer answer.Release()
	return answer.Actor()
}

// wantWhy wants an error that a message was not delivered.
func wantWhy(t *testing.T, what string, err error, why Why, maybe bool) {
	t.Helper()
	if WhyOf(err) != why || blocktree.KindOf(err) != blocktree.Undeliverable || blocktree.HintOf(err) == "" {
		t.Errorf("%s: %v, hint %q; want %v", what, err, blocktree.HintOf(err), why)
		return
	}
	if got := undeliveredOf(err).Maybe; got != maybe {
		t.Errorf("%s: it may have arrived: %t", what, got)
	}
}
