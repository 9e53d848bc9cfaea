package fastrung

import (
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster/stripe"
)

// settled is when idle regions' members have been told the watermark: what is pending is copied again.
const settled = time.Second

// sealBytes is what a sector's shard weighs beside its bytes when it is copied up.
const sealBytes = 72

// TestRejoin takes a node away while some of many sectors are written: it comes back by itself and gets what changed, nothing
// else; with nothing changed, nothing. It goes by a cut, by a clean stop, and by a loss of power.
func TestRejoin(t *testing.T) {
	const sectors, changed = 2048, 100
	carriers(t, func(b *bed) {
		for first := blocktree.SectorIndex(0); first < sectors; first += 256 {
			b.fill(first, 256, 1)
		}
		node := (b.Leader(b.client) + 1) % 3
		for round, away := range []struct {
			name        string
			leave, back func()
		}{
			{"cut", func() { b.Off(b.NodeAddr(node)) }, func() { b.On(b.NodeAddr(node)) }},
			{"stopped", func() { b.Stop(node) }, func() { b.Start(node) }},
			{"without power", func() { b.PowerLoss(7, node) }, func() { b.On(b.NodeAddr(node)); b.Start(node) }},
		} {
			for _, count := range []uint64{changed, 0} {
				time.Sleep(settled)
				before := stats(b.file)
				away.leave()
				b.await("removal", 5*time.Second, func() bool { return stats(b.file).Removed > before.Removed })
				if count > 0 {
					b.fill(500, int(count), uint64(round+2))
				}
				time.Sleep(settled)
				away.back()
				begun := time.Now()
				b.await("promotion", time.Minute, func() bool { return stats(b.file).Promoted > before.Promoted })
				b.T.Logf("%s, %d changed: in sync after %v", away.name, count, time.Since(begun))
				b.Healthy(b.client)
				b.checkCopied(away.name, before, stats(b.file), sectors, count)
			}
		}
		for i := range 3 {
			b.Off(b.NodeAddr(i))
			b.checkFilled(sectors, 500, changed, 4)
			b.On(b.NodeAddr(i))
			b.Healthy(b.client)
		}
	})
}

// fill writes sectors as of a write.
func (b *bed) fill(first blocktree.SectorIndex, count int, write uint64) {
	b.T.Helper()
	var p []byte
	for i := range count {
		p = append(p, numbered(first+blocktree.SectorIndex(i), write)...)
	}
	if err := b.file.WriteSectors(b.T.Context(), first, p); err != nil {
		b.T.Fatal(err)
	}
}

// checkFilled reads sectors that are of write 1, but for count of them from changed on.
func (b *bed) checkFilled(sectors, changed blocktree.SectorIndex, count int, write uint64) {
	b.T.Helper()
	for s := blocktree.SectorIndex(0); s < sectors; s += 7 {
		want := uint64(1)
		if s >= changed && s < changed+blocktree.SectorIndex(count) {
			want = write
		}
		if k, err := read(b.T.Context(), b.T, b.file, s); k != want || err != nil {
			b.T.Fatalf("sector %d is of write %d, %v", s, k, err)
		}
	}
}

// checkCopied demands that a copy-up sent what changed, and nothing else.
func (b *bed) checkCopied(how string, before, after stripe.HolderStats, sectors, changed uint64) {
	b.T.Helper()
	sent, copied := after.CopiedSectors-before.CopiedSectors, after.CopiedBytes-before.CopiedBytes
	if want := changed * (sectorBytes/2 + sealBytes); sent != changed || copied > want || copied < changed*sectorBytes/2 {
		b.T.Errorf("%s: %d sectors and %d bytes were copied, want %d and at most %d", how, sent, copied, changed, want)
	}
	if skipped := after.SkippedSectors - before.SkippedSectors; changed > 0 && (skipped != sectors-changed || after.Incremental != before.Incremental+1) {
		b.T.Errorf("%s: %d sectors were skipped, want %d", how, skipped, sectors-changed)
	}
	if changed == 0 && after.Unchanged != before.Unchanged+1 {
		b.T.Errorf("%s: with nothing changed there was a comparison", how)
	}
}
