package meta

import (
	"fmt"
	"math/rand/v2"

	"blocktree"

	"github.com/cockroachdb/pebble/v2"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

type progress = tracker.Progress

// A snapshot goes as numbered chunks, one at a time; the next is sent when the receiver has stored the last. A chunk is
// sent again after snapshotRetryTicks; after snapshotGiveUpTicks without an answer Raft is told that it failed.
const (
	snapshotRetryTicks  = 5
	snapshotGiveUpTicks = 50
)

// snapshotSender is a snapshot on its way to one member.
type snapshotSender struct {
	id       uint64
	index    uint64 // what is applied in it
	message  *pb.Message
	snap     *pebble.Snapshot
	it       *pebble.Iterator
	number   uint64 // of the chunk that waits for its answer
	chunk    []byte
	last     bool
	sent     uint64 // tick
	answered uint64 // tick
}

// startSnapshot begins to send the state as it is now, which is the one that m speaks of: Raft made m since the last
// entries were applied, and the next are applied after m is sent.
func (g *Group) startSnapshot(m *pb.Message) {
	to := blocktree.NodeID(m.GetTo())
	g.dropSender(to)
	x := &snapshotSender{id: rand.Uint64(), index: m.GetSnapshot().GetMetadata().GetIndex(), message: m, snap: g.db.NewSnapshot(),
		answered: g.tick}
	s, err := stateAt(x.snap)
	if err == nil && g.store.applied.index != x.index {
		err = fmt.Errorf("applied %d, snapshot of %d", g.store.applied.index, x.index)
	}
	if err == nil {
		x.it, err = x.snap.NewIter(&pebble.IterOptions{LowerBound: []byte{s.space}, UpperBound: []byte{s.space + 1}})
	}
	g.sending[to] = x
	if err == nil {
		x.it.First()
		err = g.nextChunk(x)
	}
	if err != nil {
		g.endSnapshot(to, err)
		return
	}
	g.log.Info("sends a snapshot of the metadata", "to", to.String(), "index", x.index)
	g.sendChunk(to, x)
}

// nextChunk fills the chunk with what follows.
func (g *Group) nextChunk(x *snapshotSender) error {
	c := &snapshotChunk{id: x.id, number: x.number}
	bytes := 0
	for ; x.it.Valid(); x.it.Next() {
		v, err := x.it.ValueAndErr()
		if err != nil {
			return err
		}
		n := len(x.it.Key()) + len(v) + 8
		if len(c.pairs) > 0 && bytes+n > snapshotChunkMax {
			break
		}
		bytes += n
		c.pairs = append(c.pairs, pair{append([]byte(nil), x.it.Key()[1:]...), append([]byte(nil), v...)})
	}
	if err := x.it.Error(); err != nil {
		return err
	}
	c.last = !x.it.Valid()
	if c.last {
		c.message = x.message
	}
	x.last = c.last
	x.chunk = encodeEnvelope(&envelope{chunk: c})
	return nil
}

func (g *Group) sendChunk(to blocktree.NodeID, x *snapshotSender) {
	x.sent = g.tick
	g.cfg.Send(to, append([]byte(nil), x.chunk...))
}

// onAck sends the chunk that the receiver asks for.
func (g *Group) onAck(from blocktree.NodeID, a *snapshotAck) {
	x := g.sending[from]
	if x == nil || a.id != x.id || a.next != x.number+1 {
		return
	}
	x.answered = g.tick
	if x.last {
		g.endSnapshot(from, nil)
		return
	}
	x.number++
	if err := g.nextChunk(x); err != nil {
		g.endSnapshot(from, err)
		return
	}
	g.sendChunk(from, x)
}

// retrySnapshots repeats chunks without an answer, and gives up on silent receivers.
func (g *Group) retrySnapshots() {
	for to, x := range g.sending {
		switch {
		case g.tick-x.answered >= snapshotGiveUpTicks:
			g.endSnapshot(to, blocktree.E("meta: snapshot", blocktree.Timeout, nil))
		case g.tick-x.sent >= snapshotRetryTicks:
			g.sendChunk(to, x)
		}
	}
}

// endSnapshot tells Raft how it ended.
func (g *Group) endSnapshot(to blocktree.NodeID, err error) {
	g.dropSender(to)
	status := raft.SnapshotFinish
	if err != nil {
		status = raft.SnapshotFailure
		g.log.Warn("snapshot of the metadata not sent", "to", to.String(), "error", err)
	}
	g.rn.ReportSnapshot(uint64(to), status)
}

// dropSender closes what a sender holds.
func (g *Group) dropSender(to blocktree.NodeID) {
	x := g.sending[to]
	if x == nil {
		return
	}
	delete(g.sending, to)
	if x.it != nil {
		_ = x.it.Close() // its errors were seen in nextChunk
	}
	g.gate.readers.Go(func() { closeSnapshot(x.snap) })
}

// dropSenders ends every snapshot: this member leads no more.
func (g *Group) dropSenders() {
	for to := range g.sending {
		g.dropSender(to)
	}
}

// snapshotReceiver is a snapshot on its way here; its pairs go into the space that is not current.
type snapshotReceiver struct {
	from  blocktree.NodeID
	id    uint64
	next  uint64
	index uint64 // of the state, once done
	done  bool
}

// onChunk stores a chunk, and hands Raft the message when all are here. It is installed before anything else comes in.
func (g *Group) onChunk(from blocktree.NodeID, c *snapshotChunk) error {
	r := g.receiving
	if r == nil || r.from != from || r.id != c.id {
		if c.number != 0 {
			return nil
		}
		r = &snapshotReceiver{from: from, id: c.id}
		g.receiving = r
	}
	if c.number < r.next {
		g.ackChunk(r, c.number+1)
	}
	if c.number != r.next || r.done {
		return nil
	}
	b := g.db.NewBatch()
	space := otherSpace(g.store.applied.space)
	if c.number == 0 {
		if err := b.DeleteRange([]byte{space}, []byte{space + 1}, nil); err != nil {
			return err
		}
	}
	for _, p := range c.pairs {
		put(b, append([]byte{space}, p.key...), p.value)
	}
	if err := g.commit(b, false); err != nil {
		return err
	}
	r.next++
	if c.last {
		r.done = true
		r.index = c.message.GetSnapshot().GetMetadata().GetIndex()
		_ = g.rn.Step(c.message) // Raft ignores it if it is ahead of it
	}
	g.ackChunk(r, r.next)
	return g.drain()
}

func (g *Group) ackChunk(r *snapshotReceiver, next uint64) {
	g.cfg.Send(r.from, encodeEnvelope(&envelope{ack: &snapshotAck{id: r.id, next: next}}))
}

// installSnapshot makes the received space the current one and the log empty, in b.
func (g *Group) installSnapshot(b *pebble.Batch, s *pb.Snapshot) error {
	index, term := s.GetMetadata().GetIndex(), s.GetMetadata().GetTerm()
	r := g.receiving
	if r == nil || !r.done || r.index != index {
		return blocktree.E("meta: snapshot", blocktree.Corrupt, fmt.Errorf("raft installs %d, which was not received", index))
	}
	old := g.store.applied.space
	g.store.applied.space = otherSpace(old)
	g.store.applied.index, g.store.applied.term = index, term
	g.store.applied.conf = s.GetMetadata().GetConfState()
	put(b, []byte{keyApplied}, encodeApplied(&g.store.applied))
	if err := b.DeleteRange([]byte{old}, []byte{old + 1}, nil); err != nil {
		return err
	}
	g.store.restart(b, index, term)
	return nil
}

// afterInstall goes on from the installed state.
func (g *Group) afterInstall() error {
	g.receiving = nil
	g.applied = g.store.applied.index
	if err := g.reload(); err != nil {
		return err
	}
	g.log.Info("installed a snapshot of the metadata", "node", g.cfg.Node.String(), "index", g.applied)
	if g.cfg.OnApply == nil {
		return nil
	}
	// Who is revoked is part of it: whoever asks whether this member has applied so much is told that it has, right after this.
	s, err := stateAt(g.db)
	if err != nil {
		return err
	}
	c := Changes{Index: g.applied, Reset: true, Revoked: s.allRevoked()}
	if s.err != nil {
		return s.err
	}
	g.cfg.OnApply(c)
	return nil
}
