package fastrung

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/stripe"
	"blocktree/crypto/keys"
	"blocktree/internal/bttp"
	"blocktree/internal/file"
	"blocktree/internal/simnet"
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

// asked shrinks the file as whoever else may ask while it is open, and returns once that is so.
func (b *bed) asked(c *cluster.Client, bytes uint64) error {
	_, _, err := file.Resize(b.T.Context(), c, b.Path("/vm/disk0"), cluster.ResizeOptions{Bytes: func(uint64) (uint64, error) { return bytes, nil }, Shrink: true, Live: true}, file.OpenOptions{Reader: b.Reader})
	return err
}

// ofTree has the file be one of integrity tree.
func (b *bed) ofTree() {
	b.T.Helper()
	if err := b.file.Close(); err != nil {
		b.T.Fatal(err)
	}
	if err := b.client.Remove(b.T.Context(), b.Path("/vm/disk0")); err != nil {
		b.T.Fatal(err)
	}
	if err := file.Create(b.T.Context(), b.client, b.Path("/vm/disk0"), file.CreateOptions{SizeBytes: 16 << 20, Code: blocktree.Code{Data: 2, Parity: 1}, Readers: []keys.PublicKey{b.Reader.Public()}, Tree: true}); err != nil {
		b.T.Fatal(err)
	}
	b.file = b.open(b.client)
}

// follow has a file made smaller when somebody asks for that, as a device of it does.
func (b *bed) follow(f blocktree.File, before func()) (stop func()) {
	s := f.(blocktree.Shrinker)
	return s.FollowShrink(func(ctx context.Context, bytes uint64) error {
		before()
		return s.Shrink(ctx, bytes)
	})
}

// zeros demands that the sectors of a range are zeros.
func (b *bed) zeros(f blocktree.File, from, to blocktree.SectorIndex) {
	b.T.Helper()
	for s := from; s < to; s++ {
		if k, err := read(b.T.Context(), b.T, f, s); k != 0 || err != nil {
			b.T.Fatalf("sector %d was cut and holds %d, %v", s, k, err)
		}
	}
}

// TestShrinksLive: a file is made smaller, and grows, again and again while it is open and written; writes before the end go on, what was cut is zeros, and a node that was away meanwhile has it so.
func TestShrinksLive(t *testing.T) {
	const small, large = 8 << 20, 16 << 20
	carriers(t, func(b *bed) {
		other := b.Client()
		reader := b.reader(other, "/vm/disk0")
		stop := b.follow(b.file, func() {})
		defer stop()
		w := b.write(b.file, 8)
		for round := range uint64(2) {
			b.fill(small/sectorBytes, 64, 1+round)
			node := (b.Leader(b.client) + 1) % 3
			if round == 0 {
				b.Off(b.NodeAddr(node))
			}
			if err := b.asked(other, small); err != nil {
				b.T.Fatal(err)
			}
			if sizeOf(b.file) != small {
				b.T.Errorf("the holder has %d bytes", sizeOf(b.file))
			}
			b.await("the reader to hear", heard, func() bool { return sizeOf(reader) == small })
			at := blocktree.SectorIndex(small / sectorBytes)
			if err := b.file.WriteSectors(b.T.Context(), at, numbered(at, 7)); blocktree.KindOf(err) != blocktree.OutOfRange {
				b.T.Errorf("behind the end: %v", err)
			}
			if _, err := read(b.T.Context(), b.T, b.file, at-1); err != nil {
				b.T.Errorf("before the end: %v", err)
			}
			if err := b.resize(other, large, false); err != nil {
				b.T.Fatal(err)
			}
			b.await("the holder to hear", heard, func() bool { return sizeOf(b.file) == large })
			b.zeros(b.file, at, at+64)
			if round == 0 {
				b.On(b.NodeAddr(node))
				b.Healthy(b.client)
				b.Off(b.NodeAddr((node + 1) % 3)) // the one that was away has to have the zeros
				b.zeros(b.file, at, at+64)
				b.On(b.NodeAddr((node + 1) % 3))
				b.Healthy(b.client)
			}
		}
		w.finishWell()
		w.check(b.file, "made smaller")
	})
}

// TestShrinksBesideResealing: over a slow line, so that much lies between the two halves of re-sealing a run, a file is made smaller, and grows: what was read before it was cut is not sealed anew behind the new end.
func TestShrinksBesideResealing(t *testing.T) {
	within(t, bttp.TCP, 8, func(b *bed) {
		const at, sectors, run = 64, 4096, 512
		for s := blocktree.SectorIndex(0); s < sectors; s += run {
			b.fill(s, run, 1)
		}
		other := b.Client()
		b.SetAll(b.ClientAddr(0), simnet.Link{Delay: 20 * time.Millisecond})
		stop := b.follow(b.file, func() {})
		defer stop()
		if _, err := b.admin(other).Rekey(b.T.Context(), b.Path("/vm/disk0")); err != nil {
			b.T.Fatal(err)
		}
		if err := b.asked(other, at*sectorBytes); err != nil {
			b.T.Fatal(err)
		}
		if err := b.resize(other, sectors*sectorBytes, false); err != nil {
			b.T.Fatal(err)
		}
		b.await("the holder to hear", heard, func() bool { return sizeOf(b.file) == sectors*sectorBytes })
		got := make([]byte, run*sectorBytes)
		for s := blocktree.SectorIndex(at); s+run <= sectors; s += run {
			if err := b.file.ReadSectors(b.T.Context(), s, got); err != nil || slices.Max(got) != 0 {
				b.T.Errorf("sectors from %d were cut and are not zeros: %v", s, err)
			}
		}
		b.await("re-sealing", 20*time.Second, func() bool { _, d := b.record(other, "/vm/disk0"); return d.Older == 0 })
		for s := range blocktree.SectorIndex(at) {
			if k, err := read(b.T.Context(), b.T, b.file, s); k != 1 || err != nil {
				b.T.Fatalf("sector %d is of write %d, %v", s, k, err)
			}
		}
	})
}

// TestResealsWhatIsNotCut: while a file is re-sealed it is to be made smaller again and again, and nothing comes of it: what lies behind the end that was put is re-sealed, too, before the keys of before are dropped.
func TestResealsWhatIsNotCut(t *testing.T) {
	within(t, bttp.TCP, 8, func(b *bed) {
		const sectors = 1024
		b.fill(0, sectors, 1)
		other := b.Client()
		b.SetAll(b.ClientAddr(0), simnet.Link{Delay: 300 * time.Millisecond})
		if _, err := b.admin(other).Rekey(b.T.Context(), b.Path("/vm/disk0")); err != nil {
			b.T.Fatal(err)
		}
		for range 30 {
			written := make(chan error, 1)
			go func() { written <- b.file.WriteSectors(b.T.Context(), 1, numbered(1, 1)) }()
			time.Sleep(time.Millisecond) // it is under way for longer than it is waited for
			ctx, cancel := context.WithTimeout(b.T.Context(), 250*time.Millisecond)
			if err := b.file.(blocktree.Shrinker).Shrink(ctx, 64*sectorBytes); blocktree.KindOf(err) != blocktree.Canceled {
				b.T.Errorf("made smaller beside a write: %v", err)
			}
			cancel()
			if err := <-written; err != nil {
				b.T.Error(err)
			}
		}
		for began := b.Elapsed(); ; time.Sleep(time.Second) {
			if _, d := b.record(other, "/vm/disk0"); d.Older == 0 {
				break
			}
			if b.Elapsed()-began > time.Minute {
				b.T.Fatal("it is not re-sealed")
			}
		}
		for first := blocktree.SectorIndex(0); first < sectors; first += 256 {
			if got := b.generations(b.file, first, 256); got[2] != 256 {
				b.T.Errorf("sectors from %d: %v", first, got)
			}
		}
	})
}

// TestShrinkNobodyFollows: who has the file open and does not make it smaller is not waited for, and hears of nothing later.
func TestShrinkNobodyFollows(t *testing.T) {
	within(t, bttp.TCP, 1, func(b *bed) {
		began := time.Now()
		if err := b.asked(b.Client(), 4<<20); blocktree.KindOf(err) != blocktree.Busy || blocktree.HintOf(err) == "" {
			b.T.Errorf("held: %v", err)
		}
		if took := time.Since(began); took > 30*time.Second {
			b.T.Errorf("it took %v", took)
		}
		stop := b.follow(b.file, func() { b.T.Error("nobody asks any more") })
		defer stop()
		time.Sleep(heard)
		if sizeOf(b.file) != 16<<20 {
			b.T.Errorf("%d bytes", sizeOf(b.file))
		}
	})
}

// TestHolderIsCutOffShrinking: the holder writes its zeros, and is cut off before it is heard that the file is to have another size. It has the old one then; who asked makes it smaller, and what the old holder asked for comes
// when that is so, and does nothing.
func TestHolderIsCutOffShrinking(t *testing.T) {
	within(t, bttp.TCP, 1, func(b *bed) { b.cutOffShrinking() })
	within(t, bttp.TCP, 1, func(b *bed) {
		b.ofTree()
		b.cutOffShrinking()
	})
}

func (b *bed) cutOffShrinking() {
	const small, large, at = 4 << 20, 16 << 20, 4 << 20 / sectorBytes
	b.fill(at-8, 72, 1)
	other := b.Client()
	reader := b.reader(other, "/vm/disk0")
	stop := b.follow(b.file, func() { // its next word takes longer than to see what came of the one before
		b.SetAll(b.ClientAddr(0), simnet.Link{Delay: 200 * time.Millisecond})
	})
	defer stop()
	done := make(chan error, 1)
	go func() { done <- b.asked(other, small) }()
	b.await("zeros", 15*time.Second, func() bool {
		k, err := read(b.T.Context(), b.T, reader, at)
		return k == 0 && err == nil
	})
	b.Off(b.ClientAddr(0))
	if i, err := other.Stat(b.T.Context(), b.Path("/vm/disk0")); err != nil || i.SizeBytes != large {
		b.T.Fatalf("it is not between zeros and size, so this shows nothing: %+v, %v", i, err)
	}
	if err := <-done; err != nil {
		b.T.Fatal(err)
	}
	f := b.open(other)
	if sizeOf(f) != small {
		b.T.Errorf("%d bytes", sizeOf(f))
	}
	if err := b.resize(other, large, false); err != nil {
		b.T.Fatal(err)
	}
	b.await("the holder to hear", heard, func() bool { return sizeOf(f) == large })
	if err := f.WriteSectors(b.T.Context(), at+1, numbered(at+1, 9)); err != nil {
		b.T.Error(err)
	}
	b.On(b.ClientAddr(0))
	time.Sleep(heard)
	if err := b.file.WriteSectors(b.T.Context(), at+2, numbered(at+2, 3)); err == nil {
		b.T.Error("the old holder writes")
	}
	b.zeros(f, at, at+1)
	b.zeros(f, at+2, at+64)
	for s, want := range map[blocktree.SectorIndex]uint64{at - 8: 1, at - 1: 1, at + 1: 9} {
		if k, err := read(b.T.Context(), b.T, f, s); k != want || err != nil {
			b.T.Errorf("sector %d is of write %d, not %d: %v", s, k, want, err)
		}
	}
	if sizeOf(f) != large {
		b.T.Errorf("%d bytes in the end", sizeOf(f))
	}
}

// TestHolderDiesShrinking: the holder is gone in the middle. Who asked makes the file smaller by itself, once nobody has it.
func TestHolderDiesShrinking(t *testing.T) {
	const small = 4 << 20
	within(t, bttp.TCP, 1, func(b *bed) {
		b.fill(small/sectorBytes, 64, 1)
		began, gone := make(chan struct{}), make(chan struct{})
		stop := b.follow(b.file, func() {
			close(began)
			<-gone
		})
		done := make(chan error, 1)
		go func() { done <- b.asked(b.Client(), small) }()
		<-began
		close(gone)
		stop()
		if err := b.file.Close(); err != nil {
			b.T.Error(err)
		}
		if err := <-done; err != nil {
			b.T.Fatal(err)
		}
		f := b.open(b.client)
		if sizeOf(f) != small {
			b.T.Errorf("%d bytes", sizeOf(f))
		}
		if err := b.resize(b.client, 16<<20, false); err != nil {
			b.T.Fatal(err)
		}
		b.await("the holder to hear", heard, func() bool { return sizeOf(f) == 16<<20 })
		b.zeros(f, small/sectorBytes, small/sectorBytes+64)
	})
}
