package stripe

import (
	"runtime"
	"testing"
	"weak"

	"blocktree"
)

// TestNothingIsKept: once writes are over, and Ready was called as often as the machines are ticked in a moment, neither a Holder nor a Member holds
// on to what was written: a server of many files would keep the last burst of each.
func TestNothingIsKept(t *testing.T) {
	n := newBenchNet(t)
	var written []weak.Pointer[Write]
	var shards []weak.Pointer[[2048]byte]
	submit := func() {
		for i := range 64 {
			one := new([2048]byte)
			w := &Write{Kind: RecordData, First: blocktree.SectorIndex(i), Count: 1, Version: n.h.Begin(0), ShardBytes: 2048, Seals: n.seals, Shards: [][]byte{one[:], one[:], one[:]}}
			written, shards = append(written, weak.Make(w)), append(shards, weak.Make(one))
			n.h.Write(uint64(i), w)
		}
	}
	submit()
	n.run()
	if n.done != 64 {
		t.Fatalf("%d of 64 writes done", n.done)
	}
	for range 2 {
		n.run()
		for _, m := range n.members {
			m.Ready()
		}
	}
	runtime.GC()
	for i := range written {
		if written[i].Value() != nil || shards[i].Value() != nil {
			t.Fatalf("write %d is kept", i)
		}
	}
	runtime.KeepAlive(n)
}
