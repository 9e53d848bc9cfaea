package cluster

import (
	"math/rand/v2"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster/store"
	"blocktree/cluster/stripe"
	"blocktree/internal/bttp"
	"blocktree/internal/vfs"
)

// found is what a start finds in a log.
type found map[blocktree.FileID]map[blocktree.Version]bool

func (found) Checkpoint(*store.Store, []byte) error { return nil }

func (f found) Record(r store.Replayed) error {
	if f[r.File] == nil {
		f[r.File] = map[blocktree.Version]bool{}
	}
	f[r.File][r.Version] = len(r.Bad) == 0 // a control record has version 0
	return nil
}

// mixedBed is a member of a file of durability ack and of one of durability flush, whose answers are noticed.
type mixedBed struct {
	*memberBed
	files   [2]blocktree.FileID // by durability
	asked   map[uint64]write
	flushed uint64 // writes of the flush file up to here are
	next    uint64
	crashes int
	lost    int // losses of power that took what was answered for and not flushed
}

// write is a request and what has to be found once it is answered. A SYNC has sequence 0 and covers the writes up to sync.
type write struct {
	durability stripe.Durability
	version    blocktree.Version
	sync       uint64
}

func newMixedBed(t *testing.T) *mixedBed {
	b := &mixedBed{memberBed: newMemberBed(t), asked: map[uint64]write{}}
	b.files = [2]blocktree.FileID{{Generation: 1, Inode: 4}, memberFile}
	flush, ack := *b.layout, *b.layout
	flush.Durability = stripe.DurabilityFlush
	ack.File = b.files[stripe.DurabilityAck]
	b.restart(&ack, &flush)
	return b
}

// ask gives a message to the machine as a request that the bed hears the answer of.
func (b *mixedBed) ask(m *stripe.Message, w write) {
	m.File, m.Epoch, m.Incarnation, m.Seq = b.files[w.durability], 1, memberInc, 1
	if m.Record != nil {
		m.Record.File = m.File
	}
	b.member.mu.Lock()
	b.member.step(&bttp.Request{}, m)
	b.asked[b.member.lastID] = w
	q := b.member.requests[b.member.lastID]
	q.req.OneWay = true // nobody is there to be answered
	fx := b.member.turn()
	b.member.mu.Unlock()
	b.member.run(fx)
}

// answered is what a start has to find now after a loss of power, and after a kill only; mu is held.
func (b *mixedBed) answered() (durable, written []write) {
	for id, w := range b.asked {
		if _, waits := b.member.requests[id]; waits {
			continue
		}
		b.flushed = max(b.flushed, w.sync)
	}
	for id, w := range b.asked {
		_, waits := b.member.requests[id]
		switch {
		case waits || w.sync > 0:
		case w.durability == stripe.DurabilityAck, w.version.IsZero(), uint64(w.version.Sequence) <= b.flushed:
			durable = append(durable, w)
		default:
			written = append(written, w)
		}
	}
	return durable, written
}

// missing counts which writes a start on a disk does not find, of two lists.
func (b *mixedBed) missing(disk *vfs.Crash, lists ...[]write) (n [2]int) {
	got := found{}
	s, err := store.Open(disk, "/sectors", memberNode, store.Options{SegmentBytes: 1 << 20}, got)
	if err != nil {
		b.t.Error(err)
		return n
	}
	if d := s.Damaged(); len(d) > 0 {
		b.t.Errorf("damage after a crash: %v", d)
	}
	for i, list := range lists {
		for _, w := range list {
			if !got[b.files[w.durability]][w.version] {
				n[i]++
			}
		}
	}
	if err := s.Close(nil); err != nil {
		b.t.Error(err)
	}
	return n
}

// crash looks what is left of what was answered before.
func (b *mixedBed) crash() {
	b.t.Helper()
	b.member.mu.Lock()
	durable, written := b.answered()
	b.member.mu.Unlock()
	for range 2 {
		b.crashes++
		n := b.missing(b.disk.Clone(uint64(b.crashes)), durable, written)
		if n[0] > 0 {
			b.t.Errorf("a loss of power took %d writes that were durable, or promises", n[0])
		}
		b.lost += n[1]
	}
	if n := b.missing(b.disk.Kill(), durable, written); n != [2]int{} {
		b.t.Errorf("a kill took %d writes", n)
	}
}

// sync asks for a SYNC.
func (b *mixedBed) sync() {
	b.ask(&stripe.Message{Kind: stripe.KindSync}, write{durability: stripe.DurabilityFlush, sync: b.next})
}

// random asks for something, of the flush file only if so told.
func (b *mixedBed) random(rng *rand.Rand, flushOnly bool) {
	b.next++
	switch n := rng.IntN(10); {
	case n == 0 && !flushOnly:
		b.sync()
	case n < 4 && !flushOnly:
		r := b.record(b.next, blocktree.SectorIndex(b.next), 1+uint32(rng.IntN(3)), false)
		b.ask(&stripe.Message{Kind: stripe.KindPrepare, Record: r}, write{version: r.Version})
	default:
		r := b.record(b.next, blocktree.SectorIndex(b.next), 1+uint32(rng.IntN(3)), false)
		b.ask(&stripe.Message{Kind: stripe.KindPrepare, Record: r}, write{durability: stripe.DurabilityFlush, version: r.Version})
	}
}

// TestMemberAnswersInEachFilesDurability: on one node an ack and a flush file are written at once, and it crashes now and then: what is
// answered is there, of the ack file after a loss of power, of the flush file after a kill, and after a loss of power once a SYNC was answered.
func TestMemberAnswersInEachFilesDurability(t *testing.T) {
	lost := 0
	for seed := range uint64(2) {
		b := newMixedBed(t)
		rng := rand.New(rand.NewPCG(seed, 14))
		for d := range b.files {
			of := stripe.Durability(d)
			b.ask(&stripe.Message{Kind: stripe.KindFence}, write{durability: of})
			b.ask(&stripe.Message{Kind: stripe.KindRepair, Last: true}, write{durability: of})
		}
		for round := range 4 {
			for range 20 {
				b.random(rng, round%2 > 0)
				if rng.IntN(3) == 0 {
					time.Sleep(time.Duration(rng.IntN(300)) * time.Microsecond)
				}
			}
			if round < 2 {
				b.crash() // in the middle of it
			}
			b.settle()
			b.sync()
			b.settle()
			b.crash()
		}
		b.member.mu.Lock()
		durable, written := b.answered()
		b.member.mu.Unlock()
		if len(written) > 0 || len(durable) < 60 {
			t.Errorf("%d writes are durable, %d are not", len(durable), len(written))
		}
		b.healthy()
		lost += b.lost
	}
	if lost == 0 {
		t.Error("no crash took anything")
	}
}
