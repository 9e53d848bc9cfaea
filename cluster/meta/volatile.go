package meta

import (
	"slices"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/internal/wire"
)

// What files of durability flush ask of the metadata (docs/design/0014): the volatile incarnation of every start, which their layouts go
// by, and under which one a marked node is back on its disk.

// CreateFlushFile is a CreateFile of a file of durability flush.
type CreateFlushFile struct{ CreateFile }

// StartVolatile is a StartNode of a node that has a volatile incarnation: one that changes, too, when the node cannot vouch for what it had not
// synced. It is refused with Invalid if that is not of the disk that Incarnation stands for. After a plain StartNode the two are the same.
type StartVolatile struct {
	StartNode
	Volatile blocktree.Incarnation
}

func (CreateFlushFile) opcode() opcode { return opCreateFlushFile }
func (StartVolatile) opcode() opcode   { return opStartVolatile }

func putIncarnation(e *wire.Encoder, i *blocktree.Incarnation) { e.Raw(i[:]) }

func getIncarnation(d *wire.Decoder) *blocktree.Incarnation {
	i := blocktree.Incarnation(get16(d))
	return &i
}

// startVolatile records both incarnations of a start.
func (s *state) startVolatile(o StartVolatile) Result {
	if !o.Incarnation.SameDisk(o.Volatile) {
		return refuse(blocktree.Invalid, "the volatile incarnation of node %v is of another disk", o.Node)
	}
	return s.startAs(o.StartNode, false, o.Volatile)
}

// setVolatile keeps what files of durability flush know a node by, where that is not its incarnation.
func (s *state) setVolatile(n blocktree.NodeID, inc, volatile blocktree.Incarnation) {
	if volatile == inc {
		s.del(kindVolatile, u64(uint64(n)))
		return
	}
	store(s, kindVolatile, u64(uint64(n)), &volatile, putIncarnation)
}

// incarnation is what the layout of a file of some durability expects of a node that starts to count, zero if it has never started.
func (s *state) incarnation(n blocktree.NodeID, of stripe.Durability) blocktree.Incarnation {
	v := s.start(n)
	if v == nil {
		return blocktree.Incarnation{}
	}
	if of == stripe.DurabilityFlush {
		if x := value(s, kindVolatile, u64(uint64(n)), getIncarnation); x != nil {
			return *x
		}
	}
	return v.Incarnation
}

// marked returns the layout after a start of one of its hosts, l itself if that changes nothing.
func (s *state) marked(l *stripe.Layout, n blocktree.NodeID) *stripe.Layout {
	inc := s.incarnation(n, l.Durability)
	switch {
	case l.Incarnations[n] == inc, l.Marked[n] && (l.Durability != stripe.DurabilityFlush || l.Back[n] == inc):
		return l
	case l.Durability == stripe.DurabilityFlush:
		return l.MarkBack(n, inc)
	}
	return l.Mark(n)
}

// flushFlag is set in the byte of a layout's data shards where what a file of durability flush has follows the hosts. Such a code is impossible
// otherwise, so an older version refuses the layout.
const flushFlag = 0x80

func putFlush(e *wire.Encoder, l *stripe.Layout) {
	e.U64(l.Loss)
	e.U64(uint64(l.LossEpoch))
	back := make([]blocktree.NodeID, 0, len(l.Back))
	for n := range l.Back {
		back = append(back, n)
	}
	slices.Sort(back)
	e.U16(uint16(len(back)))
	for _, n := range back {
		inc := l.Back[n]
		e.U64(uint64(n))
		e.Raw(inc[:])
	}
}

func getFlush(d *wire.Decoder, l *stripe.Layout) {
	l.Durability, l.Loss, l.LossEpoch = stripe.DurabilityFlush, d.U64(), blocktree.Epoch(d.U64())
	l.Back = map[blocktree.NodeID]blocktree.Incarnation{}
	last := blocktree.NodeID(0)
	for n := int(d.U16()); n > 0 && d.Err() == nil; n-- {
		h := blocktree.NodeID(d.U64())
		if h <= last || !l.Marked[h] {
			bad(d, "nodes that are back are out of order, or not marked")
		}
		last = h
		l.Back[h] = get16(d)
	}
}
