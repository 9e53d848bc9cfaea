package cluster

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
	"blocktree/crypto/cred"
	"blocktree/internal/bttp"
)

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.b.String(), text)
}

// awaitThat waits until ok.
func awaitThat(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

// TestUnconfirmedLeaseIsNotProlonged: a renewal prolongs a handle's lease only if its answer says that no lease of the session was
// ever claimed, or names this one under this epoch. Otherwise the handle finds out who claims it (and says so), or has it (and ends).
func TestUnconfirmedLeaseIsNotProlonged(t *testing.T) {
	other := blocktree.RootPath(blocktree.Principal{1}).Join("other")
	lease := &meta.Lease{File: memberFile, Epoch: 1, Session: meta.SessionID{1}, Claimant: other}
	var mu sync.Mutex
	d := newDelayBed(t, func(r *bttp.Request) {
		if r.Code == codeQuery {
			mu.Lock()
			r.Reply(nil, meta.EncodeAnswer(nil, meta.Answer{Lease: lease}))
			mu.Unlock()
		}
		r.Release()
	})
	log := new(lockedBuffer)
	clock := &suspendedClock{started: time.Now()}
	p := &peer{}
	p.conn.Store(d.dial())
	c, h := d.handle.client, d.handle
	c.cfg.Clock, c.cfg.Logger, c.ctx = clock, slog.New(slog.NewTextHandler(log, nil)), t.Context()
	c.peers = &peers{all: map[blocktree.NodeID]*peer{memberNode: p}}
	h.inode, h.epoch, h.clock = meta.Inode{ID: memberFile}, 1, roughClock{clock: clock}
	h.holder = stripe.NewHolder(stripe.HolderConfig{Layout: newMemberBed(t).layout}, h.clock.read())
	s := &session{id: lease.Session, opened: make(chan struct{}), handles: map[*Handle]struct{}{h: {}}}
	for i, x := range []struct {
		r        meta.Result
		prolongs bool
	}{
		{meta.Result{}, true},
		{meta.Result{Claimed: true}, false},
		{meta.Result{Claimed: true, Firm: []meta.FirmLease{{File: memberFile, Epoch: 2}}}, false},
		{meta.Result{Claimed: true, Firm: []meta.FirmLease{{File: blocktree.FileID{Generation: 1, Inode: 99}, Epoch: 1}}}, false},
		{meta.Result{Claimed: true, Firm: []meta.FirmLease{{File: memberFile, Epoch: 1}}}, true},
	} {
		until := time.Duration(i+1) * time.Hour
		c.renewed(s, &x.r, until)
		if prolonged := time.Duration(h.leaseUntil.Load()) == until; prolonged != x.prolongs {
			t.Errorf("%+v: prolonged %v", x.r, prolonged)
		}
	}
	awaitThat(t, "a warning that names the claimant", func() bool { return log.has("is being taken over by force") && log.has("by=/other") })
	idle := func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return !h.asking
	}
	awaitThat(t, "no more questions", idle)
	c.renewed(s, &meta.Result{}, 6*time.Hour) // it is not told any more
	mu.Lock()
	lease.Claimant = "" // the claim has lapsed meanwhile
	mu.Unlock()
	c.renewed(s, &meta.Result{Claimed: true}, 7*time.Hour)
	awaitThat(t, "the answer", idle)
	h.mu.Lock()
	if h.warned {
		t.Error("it warns of a claim that nobody makes")
	}
	h.mu.Unlock()
	mu.Lock()
	lease.Epoch, lease.Holder, lease.Claimant = 2, other, ""
	mu.Unlock()
	awaitThat(t, "the end", func() bool {
		c.renewed(s, &meta.Result{Claimed: true}, 9*time.Hour)
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.err != nil
	})
	if _, ok := h.Lease(); ok || blocktree.KindOf(h.err) != blocktree.Fenced || !strings.Contains(h.err.Error(), "taken over by /other under epoch 2") {
		t.Errorf("lease %v, %v", ok, h.err)
	}
}

// TestGrantToNobodyIsGivenBack: a claimant gives up, but had claimed when a term had passed, so that the lease is granted to its session
// afterwards. It gives the lease back: else the file would be busy for as long as the session lives.
func TestGrantToNobodyIsGivenBack(t *testing.T) {
	other := meta.SessionID{1}
	var mu sync.Mutex
	lease := &meta.Lease{File: memberFile, Epoch: 3, Session: other, Holder: "/other"}
	var asked int
	released := make(chan blocktree.Epoch, 1)
	d := newDelayBed(t, func(r *bttp.Request) {
		defer r.Release()
		mu.Lock()
		defer mu.Unlock()
		if r.Code == codeQuery {
			if asked++; asked == 3 {
				lease = &meta.Lease{File: memberFile, Epoch: 4, Session: meta.SessionID{2}, Holder: "/claimant"}
			}
			r.Reply(nil, meta.EncodeAnswer(nil, meta.Answer{Lease: lease}))
			return
		}
		var result meta.Result
		if c, err := meta.DecodeCommand(r.Body); err == nil {
			switch o := c.Op.(type) {
			case meta.Acquire:
				result = meta.Result{Kind: blocktree.Busy, Lease: lease}
			case meta.ClaimLease:
				lease.Claimant = "/claimant"
				result.Lease = lease
			case meta.Release:
				released <- o.Epoch
			}
		}
		r.Reply(nil, meta.EncodeResult(nil, result))
	})
	p := &peer{}
	p.conn.Store(d.dial())
	c := newClient(ClientConfig{Logger: slog.New(slog.DiscardHandler), Clock: &suspendedClock{started: time.Now()}, Path: "/claimant"}, nil,
		&peers{all: map[blocktree.NodeID]*peer{memberNode: p}})
	t.Cleanup(func() { c.cancel(); c.wg.Wait() })
	c.session = &session{id: meta.SessionID{2}, opened: make(chan struct{}), handles: map[*Handle]struct{}{}}
	close(c.session.opened)
	inode := &meta.Inode{ID: memberFile, Kind: meta.KindFile}
	if _, err := c.open(t.Context(), "/claimant", inode, OpenOptions{Wait: acquireInterval / 2, TakeOver: true}); blocktree.KindOf(err) != blocktree.Busy {
		t.Fatal(err)
	}
	select {
	case e := <-released:
		if e != 4 {
			t.Fatalf("epoch %d was released", e)
		}
	case <-time.After(time.Minute):
		t.Fatal("the lease that it was granted stays with its session, and nobody uses it")
	}
}

// TestOpeningsHaveOwnSessions: an opening of which no answer came may be done at any time later, so the next one opens another session.
func TestOpeningsHaveOwnSessions(t *testing.T) {
	var mu sync.Mutex
	var first meta.SessionID
	d := newDelayBed(t, func(r *bttp.Request) {
		defer r.Release()
		c, err := meta.DecodeCommand(r.Body)
		o, ok := c.Op.(meta.OpenSession)
		mu.Lock()
		defer mu.Unlock()
		if first == (meta.SessionID{}) {
			first = o.Session
		}
		if err == nil && ok && o.Session != first {
			r.Reply(nil, meta.EncodeResult(nil, meta.Result{Session: &meta.Session{ID: o.Session}}))
		}
	})
	p := &peer{}
	p.conn.Store(d.dial())
	c := newClient(ClientConfig{Logger: slog.New(slog.DiscardHandler), Clock: &suspendedClock{started: time.Now()}, Path: "/client",
		Key: testKey(t)}, nil, &peers{all: map[blocktree.NodeID]*peer{memberNode: p}})
	t.Cleanup(func() { c.cancel(); c.wg.Wait() })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s, err := c.theSession(ctx)
	mu.Lock()
	defer mu.Unlock()
	if err != nil || s.id == first {
		t.Fatalf("%v; the opening without an answer was repeated for the same session: %v", err, s != nil)
	}
}

func testKey(t *testing.T) cred.Key {
	t.Helper()
	key, err := cred.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}
