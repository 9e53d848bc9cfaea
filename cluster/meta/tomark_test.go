package meta

import (
	"fmt"
	"math/rand/v2"
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

// anyLayout is some layout that can be stored, of a file of up to eight hosts, with or without all that is optional in it.
func anyLayout(r *rand.Rand, inode blocktree.Inode) *stripe.Layout {
	yes := func() bool { return r.IntN(3) == 0 }
	l := &stripe.Layout{File: blocktree.FileID{Generation: 1, Inode: inode}, Code: blocktree.Code{Data: 1 + r.IntN(2), Parity: r.IntN(2)}, SectorBytes: 4096, RegionSectors: 8, Sectors: 8*uint64(1+r.IntN(3)) - 1,
		Epoch: blocktree.Epoch(r.IntN(3)), Seq: 9, BaseID: 7, Incarnations: map[blocktree.NodeID]blocktree.Incarnation{}, Marked: map[blocktree.NodeID]bool{}, BaseOut: map[blocktree.NodeID]bool{},
		Own: map[blocktree.RegionIndex]stripe.View{}}
	if yes() {
		l.Durability, l.Back, l.Loss, l.LossEpoch = stripe.DurabilityFlush, map[blocktree.NodeID]blocktree.Incarnation{}, r.Uint64N(3), blocktree.Epoch(r.IntN(2))
	}
	if yes() {
		l.Beyond, l.Born = uint64(1+r.IntN(6)), blocktree.RegionIndex(r.IntN(int(l.Regions())))
	}
	shards := l.Code.Shards()
	for i, n := range r.Perm(8)[:shards+r.IntN(9-shards)] {
		h := node(1 + n)
		l.Hosts = append(l.Hosts, h)
		if l.Incarnations[h] = anyIncarnation(r); yes() {
			if l.Marked[h] = true; yes() && l.Durability == stripe.DurabilityFlush {
				l.Back[h] = anyIncarnation(r)
			}
		}
		if yes() {
			l.BaseOut[h] = true
		}
		if yes() && i >= shards {
			if l.HashedAs == nil {
				l.HashedAs = map[blocktree.NodeID]blocktree.NodeID{}
			}
			l.HashedAs[h] = node(20 * r.IntN(2))
		}
	}
	for i := range l.Regions() {
		if yes() {
			v := stripe.View{ID: 8}
			for _, h := range l.Hosts[:shards] {
				v.Members = append(v.Members, stripe.ViewMember{Node: h, State: stripe.InSync})
			}
			if yes() && len(l.Hosts) > shards {
				v.Heir = l.Hosts[shards]
			}
			l.Own[i] = v
		}
	}
	return l
}

func anyIncarnation(r *rand.Rand) blocktree.Incarnation {
	return volatileOf(incarnation(1+r.IntN(2)), r.IntN(2))
}

// TestToMarkAnyLayout: whatever layouts there are, a start leaves all that is stored as it would if it decoded every file of the node, also where the index of a node's files names some that are not there.
func TestToMarkAnyLayout(t *testing.T) {
	m := founded(t, 8)
	changed, left := 0, 0
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 7))
		inc := incarnation(1 + r.IntN(2))
		o := StartNode{Node: node(1 + r.IntN(8)), Incarnation: inc, StartCounter: 9, ExpectCounter: 1}
		volatile := volatileOf(inc, r.IntN(2))
		var hashes [2][32]byte
		for all := range 2 {
			r := rand.New(rand.NewPCG(seed, 8)) // the same files
			batch := m.db.NewIndexedBatch()
			s := openState(batch, batch, spaceA)
			for i := range blocktree.Inode(40) {
				switch l := anyLayout(r, 100+i); r.IntN(4) {
				case 0: // there is no such file
				case 1: // a host too many in the index
					s.set(kindHosted, hostedRest(o.Node, l.File.Inode), nil)
					if r.IntN(2) == 0 {
						break
					}
					fallthrough
				default:
					s.setFile(l.File, l)
				}
			}
			store(s, kindStart, u64(uint64(o.Node)), &NodeStart{Node: o.Node, Incarnation: inc, Counter: o.StartCounter}, putStart)
			s.setVolatile(o.Node, inc, volatile)
			looked := s.toMark(o.Node)
			if all == 1 {
				looked = s.hosted(o.Node)
			}
			for _, i := range looked {
				if l := s.layout(blocktree.FileID{Generation: 1, Inode: i}); l != nil {
					if n := s.marked(l, o.Node); n != l {
						s.setLayout(n)
						changed++
						continue
					} else if all == 0 && l.Durability == stripe.DurabilityAck && l.Incarnations[o.Node] != (blocktree.Incarnation{}) {
						t.Fatalf("seed %d: file %d is looked at in vain", seed, i)
					}
				}
				left++
			}
			if s.err != nil {
				t.Fatal(s.err)
			}
			hashes[all] = s.hash()
			if err := batch.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if hashes[0] != hashes[1] {
			t.Fatalf("seed %d: another state than after a look at all files", seed)
		}
	}
	if changed < 100 || left < 100 {
		t.Fatalf("%d changed, %d were left: it shows nothing", changed, left)
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
