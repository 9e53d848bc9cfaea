package meta

import (
	"fmt"
	"slices"
	"testing"

	"blocktree"
	"blocktree/cluster/stripe"
)

// TestToMark: what a start looks at is what it changes, whatever hosts, marks and durability the files have, and one under the same incarnation looks at no file of
// durability ack.
func TestToMark(t *testing.T) {
	m := founded(t, 4)
	m.must(StartVolatile{StartNode{node(2), incarnation(2), 2, 1}, volatileOf(incarnation(2), 1)})
	for i := range 12 {
		m.must(coded(fmt.Sprintf("/ack%d", i), 2, 1))
		m.must(CreateFlushFile{coded(fmt.Sprintf("/flush%d", i), 2, 1)})
		if i%3 == 0 {
			m.must(Remove{Path: path(fmt.Sprintf("/ack%d", i))})
		}
	}
	counter := uint64(2)
	looked, left := 0, 0
	for _, inc := range []blocktree.Incarnation{incarnation(2), volatileOf(incarnation(2), 2), incarnation(2), incarnation(22), incarnation(22), incarnation(2)} {
		for _, volatile := range []blocktree.Incarnation{inc, volatileOf(inc, 7), volatileOf(inc, 7)} {
			s := m.view()
			now := map[stripe.Durability]blocktree.Incarnation{stripe.DurabilityAck: inc, stripe.DurabilityFlush: volatile}
			var want []blocktree.Inode
			for _, i := range s.hosted(node(2)) {
				l := s.layout(blocktree.FileID{Generation: 1, Inode: i})
				if i := now[l.Durability]; l.Incarnations[node(2)] != i && (!l.Marked[node(2)] || l.Durability == stripe.DurabilityFlush && l.Back[node(2)] != i) {
					want = append(want, l.File.Inode)
				}
			}
			m.must(StartVolatile{StartNode{node(2), inc, counter + 1, counter}, volatile})
			counter++
			var got []blocktree.Inode
			for _, l := range m.last.Layouts {
				got = append(got, l.File.Inode)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("start %d changed %v, not %v", counter, got, want)
			}
			looked, left = looked+len(want), left+len(s.hosted(node(2)))-len(want)
			for _, i := range m.view().toMark(node(2)) {
				if l := m.view().layout(blocktree.FileID{Generation: 1, Inode: i}); l.Durability == stripe.DurabilityAck {
					t.Fatalf("start %d: %v is looked at again", counter, l.File)
				}
			}
		}
	}
	if looked == 0 || left == 0 {
		t.Fatalf("%d changed, %d were left: it shows nothing", looked, left)
	}
}

// BenchmarkStart starts a node that hosts many files, as before, and under another incarnation.
func BenchmarkStart(b *testing.B) {
	const files = 100000
	made := func() *machine {
		m := founded(b, 3)
		l := m.must(coded("/f", 2, 1)).Layout
		batch := m.db.NewIndexedBatch()
		s := openState(batch, batch, spaceA)
		for i := range files {
			n := *l
			n.File.Inode = blocktree.Inode(1000 + i)
			s.setLayout(&n)
			for _, h := range n.Hosts {
				s.set(kindHosted, hostedRest(h, n.File.Inode), nil)
			}
		}
		if err := batch.Commit(nil); err != nil || s.err != nil {
			b.Fatal(err, s.err)
		}
		return m
	}
	b.Run("as before", func(b *testing.B) {
		m, counter := made(), uint64(1)
		for b.Loop() {
			m.must(StartNode{node(1), incarnation(1), counter + 1, counter})
			counter++
		}
	})
	b.Run("anew", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			m := made()
			b.StartTimer()
			if m.must(StartNode{node(1), incarnation(9), 2, 1}); len(m.last.Layouts) != files+1 {
				b.Fatal(len(m.last.Layouts))
			}
		}
	})
}
