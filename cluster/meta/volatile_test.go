package meta

import (
	"reflect"
	"testing"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/internal/wire"
)

// volatileOf is the n-th volatile incarnation of a node that starts as inc.
func volatileOf(inc blocktree.Incarnation, n int) blocktree.Incarnation {
	inc[8] = byte(n)
	return inc
}

// TestVolatileIncarnations: files of durability flush go by a node's volatile incarnation, others by its own; when too few are left that
// kept theirs, the next holder's epoch begins with a loss.
func TestVolatileIncarnations(t *testing.T) {
	m := founded(t, 3)
	for i := 1; i <= 3; i++ {
		m.must(StartVolatile{StartNode{node(i), incarnation(i), 2, 1}, volatileOf(incarnation(i), 1)})
	}
	ack := m.must(coded("/ack", 2, 1)).Layout
	flush := m.must(CreateFlushFile{coded("/flush", 2, 1)}).Layout
	for i := 1; i <= 3; i++ {
		if ack.Incarnations[node(i)] != incarnation(i) || flush.Incarnations[node(i)] != volatileOf(incarnation(i), 1) {
			t.Fatalf("%+v\n%+v", ack, flush)
		}
	}
	if r := m.do(StartVolatile{StartNode{node(1), incarnation(1), 3, 2}, volatileOf(incarnation(9), 1)}); r.Kind != blocktree.Invalid {
		t.Fatalf("a volatile incarnation of another disk: %v", r.Kind)
	}
	m.must(open(1))
	m.must(Acquire{session(1), flush.File})
	m.must(StartVolatile{StartNode{node(1), incarnation(1), 3, 2}, volatileOf(incarnation(1), 2)})
	if len(m.last.Layouts) != 1 || !m.last.Layouts[0].Marked[node(1)] || m.last.Layouts[0].Lossy() {
		t.Fatalf("%+v", m.last)
	}
	m.must(StartVolatile{StartNode{node(1), incarnation(1), 4, 3}, volatileOf(incarnation(1), 3)})
	if len(m.last.Layouts) != 1 || m.last.Layouts[0].Back[node(1)] != volatileOf(incarnation(1), 3) {
		t.Fatalf("back under yet another: %+v", m.last)
	}
	m.must(StartVolatile{StartNode{node(3), incarnation(3), 3, 2}, volatileOf(incarnation(3), 2)})
	if l := m.last.Layouts[0]; !l.Lossy() || l.Loss != 0 {
		t.Fatalf("%+v", l)
	}
	l := m.must(Acquire{session(1), flush.File}).Layout
	if l.Loss != 1 || len(l.Marked) != 0 || l.Incarnations[node(1)] != volatileOf(incarnation(1), 3) || l.View(0).Count(stripe.InSync) != 3 {
		t.Fatalf("%+v", l)
	}
	// A start that says nothing of it, as of a node that leaves its views to be copied up, is one on another disk.
	m.must(StartNode{node(2), incarnation(22), 3, 2})
	if len(m.last.Layouts) != 2 || len(m.last.Layouts[0].Back)+len(m.last.Layouts[1].Back) != 0 {
		t.Fatalf("%+v", m.last)
	}
}

func TestFlushLayoutCodec(t *testing.T) {
	plain := someLayout()
	var e wire.Encoder
	putLayout(&e, plain)
	was := len(e.Buf)
	flush := someLayout()
	flush.Durability, flush.Loss, flush.LossEpoch = stripe.DurabilityFlush, 3, 4
	flush.Back = map[blocktree.NodeID]blocktree.Incarnation{2: incarnation(22)}
	for _, l := range []*stripe.Layout{plain, flush} {
		var e wire.Encoder
		putLayout(&e, l)
		if l == plain && len(e.Buf) != was || l == flush && len(e.Buf) != was+8+8+2+24 {
			t.Errorf("%d bytes, %d without", len(e.Buf), was)
		}
		d := wire.NewDecoder(e.Buf)
		got := getLayout(d)
		if err := d.Finish(); err != nil || !reflect.DeepEqual(got, l) {
			t.Fatalf("%v\n%+v\n%+v", err, l, got)
		}
		for i := range e.Buf {
			d := wire.NewDecoder(e.Buf[:i])
			if getLayout(d); d.Finish() == nil {
				t.Fatalf("%d of %d bytes decode", i, len(e.Buf))
			}
		}
	}
	flush.Back = map[blocktree.NodeID]blocktree.Incarnation{3: incarnation(22)} // which is not marked
	e = wire.Encoder{}
	putLayout(&e, flush)
	d := wire.NewDecoder(e.Buf)
	if getLayout(d); d.Finish() == nil {
		t.Error("a node that is back and not marked decodes")
	}
}
