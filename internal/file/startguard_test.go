package file_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/crypto/tree"
	"blocktree/internal/file"
	"blocktree/internal/testenv"
)

// hears is a blocktree.Started.
type hears struct {
	givenUp atomic.Bool
	claims  atomic.Int32
	ended   chan error
}

func (h *hears) Claim() bool {
	h.claims.Add(1)
	return !h.givenUp.Load()
}

func (h *hears) End(err error) { h.ended <- err }

// start starts a read of count sectors, which must not be one that takes a goroutine that waits.
func (b *bed) start(f blocktree.File, at blocktree.SectorIndex, count int) (*hears, []byte) {
	b.T.Helper()
	h, got := &hears{ended: make(chan error, 2)}, bytes.Repeat([]byte{0xee}, count*sectorBytes)
	if !f.(blocktree.ReadStarter).StartRead(at, got, h) {
		b.T.Fatalf("a read of %d sectors from %d is not started", count, at)
	}
	return h, got
}

// started is which version of a sector a started read finds.
func (b *bed) started(f blocktree.File, at blocktree.SectorIndex) (uint64, error) {
	b.T.Helper()
	h, got := b.start(f, at, 1)
	if err := <-h.ended; err != nil {
		return 0, err
	}
	n := binary.BigEndian.Uint64(got) & (1<<32 - 1)
	if n == 0 && !bytes.Equal(got, make([]byte, sectorBytes)) || n != 0 && !bytes.Equal(got, content(at, n)) {
		b.T.Fatalf("sector %d holds what nobody wrote", at)
	}
	return n, nil
}

func (b *bed) checkStarted(f blocktree.File, want map[blocktree.SectorIndex]uint64) {
	b.T.Helper()
	for at, n := range want {
		if got, err := b.started(f, at); err != nil || got != n {
			b.T.Fatalf("%v: sector %d holds %d, want %d (%v)", b.Elapsed(), at, got, n, err)
		}
	}
}

// TestStartedReads: short reads of a tree file are started, as those of any file: by floors of writes, by pages that are there, and by pages that have to be fetched; what was read before leaves nothing.
func TestStartedReads(t *testing.T) {
	within(t, stripe.DurabilityAck, func(b *bed) {
		f := b.open()
		want := map[blocktree.SectorIndex]uint64{0: 1, 1: 2, 127: 3, 128: 4, 4095: 5, 2000: 0, 2: 0}
		for at, n := range want {
			if n > 0 {
				b.write(f, at, n)
			}
		}
		b.checkStarted(f, want)
		b.must(file.Fold(b.T.Context(), f))
		b.checkStarted(f, want)
		file.Forget(f)
		b.checkStarted(f, want)
		if file.Cached(f) == 0 {
			b.T.Error("no page was fetched")
		}
		h, got := b.start(f, 126, 4)
		b.must(<-h.ended)
		if !bytes.Equal(got, bytes.Join([][]byte{make([]byte, sectorBytes), content(127, 3), content(128, 4), make([]byte, sectorBytes)}, nil)) {
			b.T.Error("four sectors, two of which are absent, are not what they are")
		}
		file.Forget(f)
		h, got = b.start(f, 127, 1)
		h.givenUp.Store(true)
		b.must(f.Close())
		if h.claims.Load() != 1 || len(h.ended) > 0 || got[0] != 0xee {
			b.T.Errorf("%d claims, and %x, of a read that was given up", h.claims.Load(), got[0])
		}
	})
}

// TestStartedReadsAreJudged: what is below its floor is not given out by a read that was started, wherever the floor is; nor where the page with the floor is that of before.
func TestStartedReadsAreJudged(t *testing.T) {
	within(t, stripe.DurabilityAck, func(b *bed) {
		f := b.open()
		b.write(f, 5, 1)
		is, err := file.Floor(b.T.Context(), f, 5)
		b.must(err)
		b.must(file.Fold(b.T.Context(), f))
		later, forged := is, is
		later.Version.Sequence++
		forged.Leaf[3]++
		for what, x := range map[string]struct {
			at    blocktree.SectorIndex
			floor tree.Floor
		}{"another leaf": {5, forged}, "a newer version": {5, later}, "never written": {77, later}} {
			file.Raise(f, x.at, x.floor)
			_, err = b.started(f, x.at)
			b.detected(what, err)
		}
		b.checkStarted(f, map[blocktree.SectorIndex]uint64{78: 0})
		b.write(f, 6, 1)
		file.Raise(f, 79, is)
		b.checkStarted(f, map[blocktree.SectorIndex]uint64{6: 1})
		_, err = b.started(f, 79) // after one that was there, and newer than this one's floor
		b.detected("never written, after one that was", err)
	})
	within(t, stripe.DurabilityAck, func(b *bed) {
		f := b.open()
		old := make([]byte, tree.PageBytes)
		b.write(f, 5, 1)
		b.must(file.Fold(b.T.Context(), f))
		b.must(file.Pages(f).ReadSectors(b.T.Context(), file.Address(f, 5, 1), old))
		b.write(f, 5, 2)
		b.must(file.Fold(b.T.Context(), f))
		file.Forget(f)
		b.must(file.Pages(f).WriteSectors(b.T.Context(), file.Address(f, 5, 2), old))
		_, err := b.started(f, 5)
		b.detected("a page of before", err)
		_ = f.Close() // it cannot fold on
	})
}

// TestStartedReadsOfLiars: one node that lies has no effect on reads that were started; all together, whatever they say, have none of them give out what was there before.
func TestStartedReadsOfLiars(t *testing.T) {
	liars := map[int]*testenv.Liar{0: {}, 1: {}, 2: {}}
	withNodes(t, 3, stripe.DurabilityAck, func(b *bed) {
		f := b.open()
		for _, n := range []uint64{1, 2} {
			b.write(f, 5, n)
			b.must(file.Fold(b.T.Context(), f))
			b.checkStarted(f, map[blocktree.SectorIndex]uint64{5: n}) // so that liars know what was there
			time.Sleep(10 * time.Second)
		}
		for i := range liars {
			for _, lie := range testenv.Lies() {
				liars[i].Set(lie, "")
				if got, err := b.started(f, 5); got != 2 || err != nil {
					b.T.Errorf("node%d, %s: %d, %v", i+1, lie, got, err)
				}
				liars[i].Set("", "")
			}
		}
		detected := 0
		for _, lie := range testenv.Lies() {
			for i := range liars {
				liars[i].Set(lie, "")
			}
			got, err := b.started(f, 5)
			if err == nil && got != 2 {
				b.T.Errorf("all, %s: %d", lie, got)
			}
			if err != nil && strings.Contains(err.Error(), "rollback detected") {
				detected++
			}
			for i := range liars {
				liars[i].Set("", "")
			}
		}
		if detected < 2 {
			b.T.Errorf("%d lies of all were found to be older", detected)
		}
		b.checkStarted(f, map[blocktree.SectorIndex]uint64{5: 2})
	}, func(d *testenv.Domain) { d.Liars = liars })
}

// TestStartedReadsBesideWrites: a read that a write overtakes finds it, or what was before: it is no rollback, and never goes back.
func TestStartedReadsBesideWrites(t *testing.T) {
	within(t, stripe.DurabilityAck, func(b *bed) {
		f := b.open()
		var done atomic.Bool
		var acknowledged atomic.Uint64
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for !done.Load() {
					least := acknowledged.Load()
					if got, err := b.started(f, 5); err != nil || got < least {
						b.T.Errorf("%d, %v; %d had been acknowledged", got, err, least)
						return
					}
				}
			})
		}
		for n := uint64(1); n <= 300; n++ {
			b.write(f, 5, n)
			acknowledged.Store(n)
			if n%100 == 0 {
				b.must(file.Fold(b.T.Context(), f))
			}
		}
		done.Store(true)
		wg.Wait()
		b.must(f.Close())
	})
}
