package stripe

import (
	"testing"
	"time"

	"blocktree"
)

// TestRunsFitTheFile: what a holder or a reader takes, members take too.
func TestRunsFitTheFile(t *testing.T) {
	l := testLayout(blocktree.Code{Data: 2, Parity: 1})
	l.SectorBytes, l.RegionSectors, l.Sectors = 64<<10, 64, 64
	l = l.Acquire()
	h := NewHolder(HolderConfig{Layout: l}, 0)
	rd := NewReader(ReaderConfig{}, 0)
	for _, count := range []uint32{l.RunSectorsMax(), l.RunSectorsMax() + 1} {
		wr := &Write{Kind: RecordData, Count: count, ShardBytes: uint32(l.Code.ShardBytes(int(l.SectorBytes))), Seals: make([]byte, count*SealBytes)}
		for range l.Code.Shards() {
			wr.Shards = append(wr.Shards, make([]byte, count*wr.ShardBytes))
		}
		rec := &Record{Kind: RecordData, Count: count, ShardBytes: wr.ShardBytes, Payload: wr.Shards[0], Seals: wr.Seals}
		member := checkRecord(l, rec) == blocktree.Other
		if h.fits(wr) != member {
			t.Errorf("a write of %d sectors: holder %v, member %v", count, h.fits(wr), member)
		}
		rd.Read(uint64(count), l, 0, 0, count)
		if taken := len(rd.Ready().Done) == 0; taken != member {
			t.Errorf("a read of %d sectors: reader %v, member %v", count, taken, member)
		}
	}
}

// TestNoReadBeforeTheDecision: a holder asks nobody for sectors before what was in flight is decided, view changes or not.
func TestNoReadBeforeTheDecision(t *testing.T) {
	w := calm(blocktree.Code{Data: 2, Parity: 1})
	w.lease = false
	w.tick(time.Second)
	w.metas, w.net = nil, nil
	w.acquire()
	w.net = nil // the fences are lost
	w.read(false)
	n := w.truth.View(0).Members[2].Node
	w.with(w.hid, func(h *Holder) { h.NodeDown(n) })
	for i := 0; i < 3 && len(w.metas) > 0; i++ {
		w.meta(0, false)
	}
	if w.truth.View(0).Members[2].State != Out || w.h.phase != fencing {
		t.Fatal("the view did not change during the take-over")
	}
	for _, e := range w.net {
		if e.msg.Kind == KindRead {
			t.Fatal("a member is asked for sectors while the take-over is not over")
		}
	}
	w.lease = true
	w.turns(100, 50*time.Millisecond)
	if w.readsOK == 0 || len(w.errs) > 0 {
		t.Errorf("%d reads done, %v", w.readsOK, w.errs)
	}
}
