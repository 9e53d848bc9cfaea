package blockdev

import (
	"sync/atomic"
	"testing"
)

// TestPieceMemory: there are no more pieces than may be, and the memory of one that is dropped is not another's before the last who copies from it is done.
func TestPieceMemory(t *testing.T) {
	p := newPieces(2 * pieceBytes)
	var live atomic.Int64
	s := new(stream)
	key := func(slot uint64) pieceKey { return pieceKey{1, slot} }
	take := func(slot uint64) *piece {
		x, room := p.take(key(slot), s, &live, 0, pieceLen)
		if (x != nil) != room {
			t.Fatalf("slot %d: %v, room: %t", slot, x, room)
		}
		return x
	}
	a, b := take(0), take(1)
	if take(2) != nil || live.Load() != 2 {
		t.Fatal("a third of two pieces")
	}
	if x, room := p.take(key(1), s, &live, 0, pieceLen); x != nil || !room {
		t.Fatal("taken twice")
	}
	memory := a.memory
	p.arrived(a, true)
	used := p.use(key(0), 3)
	if used != a || p.use(key(0), pieceLen) != nil {
		t.Fatal("a piece has the sectors that it has")
	}
	p.pass(key(0), 0, pieceLen-1)
	p.pass(key(0), 0, pieceLen-1)
	if p.use(key(0), 3) != a {
		t.Fatal("dropped before all of it was read")
	}
	p.done(a)
	p.pass(key(0), pieceLen-1, pieceLen)
	if p.use(key(0), 3) != nil || live.Load() != 1 {
		t.Fatal("found after all of it was read")
	}
	if a.memory != memory || take(2) != nil || p.holds() != 2 {
		t.Fatal("its memory is given away while somebody copies from it")
	}
	p.done(a)
	if a.memory != nil || p.holds() != 1 {
		t.Fatal("its memory is not given back")
	}
	c := take(2)
	p.arrived(b, false) // it could not be read
	if p.use(key(1), 3) != nil || p.holds() != 1 || p.read.Load() != pieceLen || p.unread.Load() != 0 {
		t.Fatal("a piece that could not be read is there")
	}
	p.arrived(c, true)
	other := new(stream)
	if d := take(3); d == nil {
		t.Fatal("no room for the second of two")
	}
	if x, room := p.take(key(4), other, &live, 0, pieceLen); x != nil || room {
		t.Fatal("the piece of a stream that goes on made room")
	}
	s.ended.Store(true)
	if x, room := p.take(key(4), other, &live, 0, pieceLen); x == nil || !room || p.use(key(2), 0) != nil {
		t.Fatal("the piece of a stream that has ended made no room")
	}
}
