package cluster

import (
	"context"
	"testing"
	"time"

	"blocktree"
	"blocktree/internal/bttp"
)

// TestGatewayThatCuts: a gateway that lives and ends each relay soon after it began is not believed for ever: the node is reached through the
// other, and nobody is told that it is down.
func TestGatewayThatCuts(t *testing.T) {
	b := newGatewayBed(t)
	b.fullMesh()
	b.begin()
	for n := range blocktree.NodeID(3) {
		b.reached(n+1, 0)
	}
	dial := b.client.dialVia
	b.client.dialVia = func(ctx context.Context, g *bttp.Conn, r blocktree.Runtime) (*bttp.Conn, error) {
		conn, err := dial(ctx, g, r)
		if err == nil && g.Peer().Path == b.nodes[0].runtime.Path {
			time.Sleep(lostGrace)
			_ = conn.Close()
		}
		return conn, err
	}
	b.nodes[1].slow.Store(true)
	b.cut[3].Store(true)
	_ = b.client.conn(3).Close()
	b.reached(3, 2)
	if b.told.count("down 3") > 0 {
		t.Error("node 3 was called down though a gateway was left")
	}
}

// TestGatewayToASilentNode: a node that lives behind its gateways and serves no more is called down.
func TestGatewayToASilentNode(t *testing.T) {
	b := newGatewayBed(t)
	b.fullMesh()
	b.cut[3].Store(true)
	b.begin()
	awaitThat(t, "node 3 is not reached", func() bool { return b.told.count("up 3 1") == 1 })
	b.nodes[2].mute.Store(true)
	since := time.Now()
	_ = b.client.conn(3).Close()
	awaitThat(t, "node 3 is not called down", func() bool { return b.told.count("down 3") == 1 })
	if d := time.Since(since); d > lostMax+10*time.Second { // for a busy machine
		t.Errorf("after %v", d)
	}
}

// TestGatewayHangs: a node's own way that comes up while a gateway is asked that does not answer is used, at once.
func TestGatewayHangs(t *testing.T) {
	b := newGatewayBed(t)
	b.fullMesh()
	b.client.ensure([]blocktree.Runtime{b.nodes[0].runtime})
	b.reached(1, 0)
	b.nodes[0].hang.Store(true)
	b.client.dialTimeout = 20 * time.Second // for as long it would wait for the gateway
	dial := b.client.dialOwn
	b.client.dialOwn = func(ctx context.Context, r blocktree.Runtime) (*bttp.Conn, error) {
		if r.Node == 3 {
			time.Sleep(2 * detourAfter)
		}
		return dial(ctx, r)
	}
	for range 6 {
		q := &peer{runtime: b.nodes[2].runtime, ctx: t.Context(), trial: trialMin}
		since := time.Now()
		conn, err := b.client.reach(q)
		if err != nil {
			t.Fatal(err)
		}
		if d := time.Since(since); d > 10*time.Second { // for a busy machine
			t.Fatalf("after %v", d)
		}
		_ = conn.Close()
	}
}

// TestGatewaysBeforeAnybodyIsTold: a node whose own way comes up, carries nothing and ends is looked for through a gateway before it is called
// down.
func TestGatewaysBeforeAnybodyIsTold(t *testing.T) {
	b := newGatewayBed(t)
	b.fullMesh()
	b.client.ensure([]blocktree.Runtime{b.nodes[0].runtime, b.nodes[1].runtime})
	b.reached(1, 0)
	b.reached(2, 0)
	conn, err := b.client.endpoint.Dial(t.Context(), b.nodes[2].runtime)
	if err != nil {
		t.Fatal(err)
	}
	b.nodes[2].mute.Store(true)
	lost := time.Now()
	q := &peer{runtime: b.nodes[2].runtime, ctx: t.Context(), trial: trialMin, lost: lost}
	end := time.AfterFunc(blocktree.DeadAfter+300*time.Millisecond, func() { _ = conn.Close() })
	defer end.Stop()
	b.client.attend(q, conn)
	if q.lost.IsZero() && time.Since(lost) < lostMax {
		t.Error("node 3 was called down before a gateway was tried")
	}
}
