package fastrung

import (
	"fmt"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/stripe"
	"blocktree/crypto/keys"
	"blocktree/internal/bttp"
	"blocktree/internal/file"
	"blocktree/internal/testenv"
)

// heard is how long whoever has a file open may take to hear of its size.
const heard = 5 * time.Second

func sizeOf(f blocktree.File) uint64 { return f.(blocktree.Sizer).SizeBytes() }

// resize gives the file another size, as whoever else may ask.
func (b *bed) resize(c *cluster.Client, bytes uint64, shrink bool) error {
	_, _, err := c.Resize(b.T.Context(), b.Path("/vm/disk0"), cluster.ResizeOptions{Bytes: func(uint64) (uint64, error) { return bytes, nil }, Shrink: shrink})
	return err
}

// reader opens a file without a lease, and closes it when the test ends.
func (b *bed) reader(c *cluster.Client, name string) blocktree.File {
	b.T.Helper()
	f, err := file.Open(b.T.Context(), c, b.Path(name), file.OpenOptions{ReadOnly: true, Reader: b.Reader})
	if err != nil {
		b.T.Fatal(err)
	}
	b.T.Cleanup(func() { f.Close() })
	return f
}

// TestGrowsLive: a file grows by regions while it is written. Its holder and a reader hear of it, though nobody asks them for anything new; what is
// new is zeros, and is written beside all else; a node that was away during the growth is copied up, and the next holder finds all of it.
func TestGrowsLive(t *testing.T) {
	const size = 2<<30 + 64<<10
	carriers(t, func(b *bed) {
		other := b.Client()
		reader := b.reader(other, "/vm/disk0")
		w := b.write(b.file, 8)
		time.Sleep(time.Second)
		node := (b.Leader(b.client) + 1) % 3
		b.Off(b.NodeAddr(node))
		time.Sleep(3 * time.Second)
		if err := b.resize(other, size, false); err != nil {
			b.T.Fatal(err)
		}
		b.await("the holder to hear", heard, func() bool { return sizeOf(b.file) == size })
		b.await("the reader to hear", heard, func() bool { return sizeOf(reader) == size })
		last := blocktree.SectorIndex(size/sectorBytes - 1)
		for _, s := range []blocktree.SectorIndex{16<<20/sectorBytes - 1, 16 << 20 / sectorBytes, 1 << 30 / sectorBytes, last} {
			if k, err := read(b.T.Context(), b.T, b.file, s); k != 0 || err != nil {
				b.T.Errorf("sector %d is new and holds %d, %v", s, k, err)
			}
			if err := b.file.WriteSectors(b.T.Context(), s, numbered(s, 7)); err != nil {
				b.T.Errorf("sector %d: %v", s, err)
			}
			if k, err := read(b.T.Context(), b.T, reader, s); k != 7 || err != nil {
				b.T.Errorf("a reader finds %d in sector %d, %v", k, s, err)
			}
		}
		if err := b.file.WriteSectors(b.T.Context(), last+1, numbered(last+1, 7)); blocktree.KindOf(err) != blocktree.OutOfRange {
			b.T.Errorf("behind the end: %v", err)
		}
		b.On(b.NodeAddr(node))
		b.Healthy(b.client)
		w.finishWell()
		w.check(b.file, "grown")
		if err := b.file.Close(); err != nil {
			b.T.Fatal(err)
		}
		again := b.open(other)
		if sizeOf(again) != size {
			b.T.Errorf("the next holder has %d bytes", sizeOf(again))
		}
		b.Off(b.NodeAddr((node + 1) % 3)) // the one that was away has to have it
		if k, err := read(b.T.Context(), b.T, again, last); k != 7 || err != nil {
			b.T.Errorf("without another node: %d, %v", k, err)
		}
		b.On(b.NodeAddr((node + 1) % 3))
		b.Healthy(b.client)
	})
}

// TestGrowsAfterPowerLoss: each node of a cluster has lost its power once, and with it what files of durability flush knew it as. Who served nothing of such
// a file then serves what it grows by.
func TestGrowsAfterPowerLoss(t *testing.T) {
	const regions = 20
	withNodes(t, bttp.TCP, 6, 1, func(*testenv.Simulated) {}, func(b *bed) {
		if err := file.Create(b.T.Context(), b.client, b.Path("/vm/lazy"), file.CreateOptions{SizeBytes: 1 << 20, Code: blocktree.Code{Data: 2, Parity: 1},
			Readers: []keys.PublicKey{b.Reader.Public()}, Durability: stripe.DurabilityFlush}); err != nil {
			b.T.Fatal(err)
		}
		f := b.Open(b.client, "/vm/lazy")
		b.T.Cleanup(func() { f.Close() })
		for i := range 6 {
			b.PowerLoss(uint64(i+1), i)
			b.On(b.NodeAddr(i))
			b.Start(i)
			b.Healthy(b.client)
		}
		if _, _, err := b.client.Resize(b.T.Context(), b.Path("/vm/lazy"), cluster.ResizeOptions{Bytes: func(uint64) (uint64, error) { return regions << 30, nil }}); err != nil {
			b.T.Fatal(err)
		}
		b.await("the holder to hear", heard, func() bool { return sizeOf(f) == regions<<30 })
		before := stats(f)
		for r := range blocktree.SectorIndex(regions) {
			s := r<<30/sectorBytes + 7
			if err := f.WriteSectors(b.T.Context(), s, numbered(s, 1)); err != nil {
				b.T.Fatalf("region %d: %v", r, err)
			}
		}
		if err := f.Flush(b.T.Context()); err != nil {
			b.T.Error(err)
		}
		if s := stats(f); s.Removed != before.Removed {
			b.T.Errorf("members left what is new: %+v", s)
		}
	})
}

// TestHearsBesideRemoved: readers of files that were removed meanwhile do not keep others from hearing of the sizes of theirs.
func TestHearsBesideRemoved(t *testing.T) {
	const size = 32 << 20
	within(t, bttp.TCP, 1, func(b *bed) {
		other := b.Client()
		for i := range 12 {
			name := fmt.Sprintf("/vm/gone%d", i)
			b.Create(b.client, name, 1<<20, blocktree.Code{Data: 2, Parity: 1})
			b.reader(other, name)
			if err := b.client.Remove(b.T.Context(), b.Path(name)); err != nil {
				b.T.Fatal(err)
			}
		}
		reader := b.reader(other, "/vm/disk0")
		if err := b.resize(b.client, size, false); err != nil {
			b.T.Fatal(err)
		}
		b.await("the reader to hear", heard, func() bool { return sizeOf(reader) == size })
	})
}

// TestShrinksForGood: a file that is held is not made smaller; given up it is, while a node is away that keeps all that was cut. Grown
// again it has zeros there, by the word of every two nodes.
func TestShrinksForGood(t *testing.T) {
	const small, large = 4 << 20, 16 << 20
	within(t, bttp.TCP, 1, func(b *bed) {
		other := b.Client()
		b.fill(0, 256, 1)
		b.fill(small/sectorBytes, 256, 1)
		if err := b.resize(other, small, false); blocktree.KindOf(err) != blocktree.Invalid || blocktree.HintOf(err) == "" {
			b.T.Errorf("unasked for: %v", err)
		}
		if err := b.resize(other, small, true); blocktree.KindOf(err) != blocktree.Busy || blocktree.HintOf(err) == "" {
			b.T.Errorf("held: %v", err)
		}
		if err := b.file.Close(); err != nil {
			b.T.Fatal(err)
		}
		b.Off(b.NodeAddr(2))
		if err := b.resize(other, small, true); err != nil {
			b.T.Fatal(err)
		}
		f := b.open(b.client)
		if sizeOf(f) != small {
			b.T.Errorf("%d bytes", sizeOf(f))
		}
		if _, err := read(b.T.Context(), b.T, f, small/sectorBytes); blocktree.KindOf(err) != blocktree.OutOfRange {
			b.T.Errorf("behind the end: %v", err)
		}
		if err := b.resize(other, large, false); err != nil {
			b.T.Fatal(err)
		}
		b.await("the holder to hear", heard, func() bool { return sizeOf(f) == large })
		b.On(b.NodeAddr(2))
		b.Healthy(b.client)
		for i := range 3 {
			b.Off(b.NodeAddr(i))
			for s := blocktree.SectorIndex(0); s < small/sectorBytes+256; s += 5 {
				want := uint64(1)
				if s >= 256 {
					want = 0
				}
				if k, err := read(b.T.Context(), b.T, f, s); k != want || err != nil {
					b.T.Fatalf("without node %d sector %d holds %d, not %d: %v", i, s, k, want, err)
				}
			}
			b.On(b.NodeAddr(i))
			b.Healthy(b.client)
		}
	})
}
