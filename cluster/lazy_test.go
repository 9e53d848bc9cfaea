package cluster

import (
	"log/slog"
	"testing"
	"testing/synctest"

	"blocktree/cluster/stripe"
	"blocktree/internal/bttp"
	"blocktree/internal/vfs"
)

// pendingOn reports whether a member that starts on a disk has a write that it does not know to be acknowledged.
func pendingOn(t *testing.T, disk *vfs.Crash, l *stripe.Layout) bool {
	t.Helper()
	m, err := openMember(disk, "/sectors", memberNode, slog.New(slog.DiscardHandler), 0)
	if err != nil {
		t.Fatal(err)
	}
	m.start(incarnations{memberInc, memberInc}, nil)
	m.learn([]*stripe.Layout{l}, nil)
	defer m.close()
	m.mu.Lock()
	defer m.mu.Unlock()
	_, pending := m.machine.Unsettled(l)
	return pending
}

// clones are what losses of power leave of a disk.
func clones(disk *vfs.Crash) (out []*vfs.Crash) {
	for seed := range uint64(2) {
		out = append(out, disk.Clone(seed))
	}
	return out
}

// TestMemberSyncsWhenAsked: a write to a file of durability flush costs no sync and is there after a kill of the process; a SYNC makes it
// durable. A write to a file of durability ack is durable when it is answered. (An idle log is synced by itself: time stands still here
// until the disks are cloned.)
func TestMemberSyncsWhenAsked(t *testing.T) {
	for _, durability := range []stripe.Durability{stripe.DurabilityFlush, stripe.DurabilityAck} {
		t.Run(durability.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newMemberBed(t)
				b.layout.Durability = durability
				b.takeOver()
				b.settle()
				before := b.member.store.Stats().Syncs
				b.step(&stripe.Message{Kind: stripe.KindPrepare, Record: b.record(1, 7, 1, false)})
				b.settle()
				syncs := b.member.store.Stats().Syncs - before
				killed, unsynced := b.disk.Kill(), clones(b.disk)
				b.step(&stripe.Message{Kind: stripe.KindSync})
				b.settle()
				synced := clones(b.disk)
				if syncs != map[stripe.Durability]uint64{stripe.DurabilityAck: 1}[durability] {
					t.Errorf("%d syncs for a write", syncs)
				}
				if !pendingOn(t, killed, b.layout) {
					t.Error("a kill took the write")
				}
				lost := 0
				for i := range unsynced {
					if !pendingOn(t, unsynced[i], b.layout) {
						lost++
					}
				}
				if !pendingOn(t, synced[0], b.layout) {
					t.Error("a loss of power took a write that was synced")
				}
				if (lost > 0) != (durability == stripe.DurabilityFlush) {
					t.Errorf("%d losses of power took the write", lost)
				}
				b.healthy()
			})
		})
	}
}

// TestMemberMixesDurabilities: a promise, or a write to a file of durability ack, makes durable what was put off before it.
func TestMemberMixesDurabilities(t *testing.T) {
	synctest.Test(t, testMemberMixes)
}

func testMemberMixes(t *testing.T) {
	b := newMemberBed(t)
	b.layout.Durability = stripe.DurabilityFlush
	b.takeOver()
	b.settle()
	for i := range uint64(3) {
		b.step(&stripe.Message{Kind: stripe.KindPrepare, Record: b.record(i+1, 7, 1, false)})
	}
	b.settle()
	before := b.member.store.Stats().Syncs
	b.install(4, 9, 1)
	b.settle()
	if got := b.member.store.Stats().Syncs - before; got != 1 {
		t.Errorf("%d syncs", got)
	}
	b.member.mu.Lock()
	left := b.member.lazyTo
	b.member.mu.Unlock()
	if left != 0 || !pendingOn(t, b.disk.Clone(1), b.layout) {
		t.Errorf("what was put off is not durable, or the member does not know: %d", left)
	}
}

// TestWrittenBesideALongBatch: what need not be durable is written though another connection's batch takes long, as one that reads from a slow disk may.
func TestWrittenBesideALongBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemberBed(t)
		b.layout.Durability = stripe.DurabilityFlush
		b.takeOver()
		synctest.Wait()
		e := new(bttp.Endpoint)
		b.member.endpoint.Store(e)
		e.Cork()
		b.step(&stripe.Message{Kind: stripe.KindPrepare, Record: b.record(1, 7, 1, false)})
		synctest.Wait()
		b.member.mu.Lock()
		if b.member.appends != 0 {
			t.Error("a record is not written before somebody else's batch is over")
		}
		b.member.mu.Unlock()
		e.Uncork()
	})
}
