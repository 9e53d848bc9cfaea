package cluster

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
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
	await := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal(what)
			}
		}
	}
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
	await("a warning that names the claimant", func() bool { return log.has("is being taken over by force") && log.has("by=/other") })
	mu.Lock()
	lease.Epoch, lease.Holder, lease.Claimant = 2, other, ""
	mu.Unlock()
	await("the end", func() bool {
		c.renewed(s, &meta.Result{Claimed: true}, 9*time.Hour)
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.err != nil
	})
	if _, ok := h.Lease(); ok || blocktree.KindOf(h.err) != blocktree.Fenced || !strings.Contains(h.err.Error(), "taken over by /other under epoch 2") {
		t.Errorf("lease %v, %v", ok, h.err)
	}
}
