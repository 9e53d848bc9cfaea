package cluster

import (
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/internal/bttp"
)

// TestReaderWithoutRoom: reads whose members' connections are full wait for the next tick. They do not ask in turn, for ever,
// on the stack of whoever gave the machine something to do.
func TestReaderWithoutRoom(t *testing.T) {
	b := newDelayBed(t, func(r *bttp.Request) { r.Release() }) // answers nothing
	conn := b.dial()
	for {
		err := conn.Call(codeHello, nil, nil, func(bttp.Reply, error) {})
		if blocktree.KindOf(err) == blocktree.Busy && conn.Err() == nil {
			if b.handle.post(conn, learn()); blocktree.KindOf(b.handle.post(conn, learn())) == blocktree.Busy {
				break // the table of calls is full, which stays so
			}
		} else if err != nil {
			t.Fatal(err)
		}
	}
	b.handle.client.cfg.Clock = stoppedClock{}
	b.handle.client.peers = &peers{all: map[blocktree.NodeID]*peer{}}
	layout := &stripe.Layout{File: memberFile, Code: blocktree.Code{Data: 2}, SectorBytes: 4096, RegionSectors: 1 << 18, Sectors: 1 << 18,
		Hosts: []blocktree.NodeID{1, 2}, Epoch: 1, Seq: 1, BaseID: 1, Incarnations: map[blocktree.NodeID]blocktree.Incarnation{1: {1}, 2: {2}}}
	r := &Reader{client: b.handle.client, clock: roughClock{clock: stoppedClock{}}, machine: stripe.NewReader(stripe.ReaderConfig{}, time.Hour)}
	for _, n := range layout.Hosts {
		p := &peer{}
		p.conn.Store(conn)
		r.client.peers.all[n] = p
		r.nodeUp(n, incarnations{disk: layout.Incarnations[n]})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.drive(func() { r.machine.Read(1, layout, 0, 0, 1) })
		r.drive(func() {})
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Error("it asks again without end")
	}
	conn.Close()
	<-done
}

// TestReaderGivesUp: a question that is given up is gone wherever it waited, and ends once, also where its layout comes after that.
func TestReaderGivesUp(t *testing.T) {
	clock := stoppedClock{}
	r := &Reader{client: &Client{cfg: ClientConfig{Clock: clock}, peers: &peers{all: map[blocktree.NodeID]*peer{}}}, clock: roughClock{clock: clock},
		machine: stripe.NewReader(stripe.ReaderConfig{}, time.Hour), reads: map[uint64]*leaselessRead{}, wake: make(chan struct{}, 1)}
	kept, waits, retries := r.Zeros(0, 0, 1), r.Zeros(0, 0, 1), r.Zeros(0, 0, 1)
	r.waiting, r.retry = r.waiting[:2], r.waiting[2:]
	for _, q := range []*Read{waits, retries, waits} {
		r.GiveUp(q)
		if _, err := q.Wait(t.Context()); blocktree.KindOf(err) != blocktree.Canceled {
			t.Errorf("given up: %v", err)
		}
	}
	if len(r.reads) != 1 || len(r.waiting) != 1 || len(r.retry) != 0 || &r.waiting[0].operation != kept.op {
		t.Errorf("%d reads are left, %d wait, %d wait for a tick", len(r.reads), len(r.waiting), len(r.retry))
	}
}
