package cluster

import (
	"context"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
	"blocktree/internal/bttp"
)

// TestReadAfterSuspend: a machine that wakes up knows from the first answer on that its lease has run out while it slept. A read that
// ends before anything else told it the time waits for Raft's word, as others may have written meanwhile.
func TestReadAfterSuspend(t *testing.T) {
	m := newMemberBed(t)
	d := newDelayBed(t, func(r *bttp.Request) {
		msg, err := stripe.DecodeMessage(r.Header, r.Body)
		if err != nil || r.Code != codeStripe {
			r.Release() // Raft has nothing to say
			return
		}
		m.member.serve(r, msg, true)
	})
	clock := &suspendedClock{started: time.Now()}
	c := d.handle.client
	c.cfg.Clock, c.ctx = clock, t.Context()
	p := &peer{}
	p.conn.Store(d.dial())
	c.peers = &peers{all: map[blocktree.NodeID]*peer{memberNode: p}}
	h := d.handle
	h.inode = meta.Inode{ID: memberFile, Code: m.layout.Code, SectorBytes: m.layout.SectorBytes, SizeBytes: 4096 << 18}
	h.ops, h.clock = map[uint64]*operation{}, roughClock{clock: clock}
	now := h.clock.read()
	h.holder = stripe.NewHolder(stripe.HolderConfig{Layout: m.layout}, now)
	h.holder.Renewed(now + blocktree.LeaseTerm)
	h.nodeUp(memberNode, incarnations{memberInc, memberInc})

	if _, err := h.Read(0, 0, 1).Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	clock.asleep += time.Minute
	h.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := h.Read(0, 0, 1).Wait(ctx); err == nil {
		t.Error("a read was answered that nothing but a lease of a minute ago vouches for")
	}
}
