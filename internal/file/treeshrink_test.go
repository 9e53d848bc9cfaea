package file_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/stripe"
	"blocktree/internal/file"
	"blocktree/internal/testenv"
)

// live asks for a smaller size while the file is open, as a client of its own without a key does.
func (b *bed) live(c *cluster.Client, bytes uint64) error {
	_, _, err := c.Resize(b.T.Context(), b.Path("/vm/tree"), cluster.ResizeOptions{Bytes: func(uint64) (uint64, error) { return bytes, nil }, Shrink: true, Live: true})
	return err
}

// follow has a file made smaller when somebody asks for that, as a device of it does.
func follow(f blocktree.File) (stop func()) {
	s := f.(blocktree.Shrinker)
	return s.FollowShrink(s.Shrink)
}

// TestTreeShrinksLive: a tree file is made smaller, and grows, again and again while it is open, written before the new end, and folded (K8, K9 of 0074). What is cut has no floor and is zeros; what is not has its own; who
// kept a root of before goes on with it, and one who kept that of after is not shown what was before.
func TestTreeShrinksLive(t *testing.T) {
	for _, durability := range durabilities() {
		within(t, durability, func(b *bed) {
			const left = 130 // which cuts a page, and makes the tree lower
			want := map[blocktree.SectorIndex]uint64{}
			f := b.open()
			b.spread(f, want, 1)
			early, other := b.roots.clone(), b.Client()
			reader, err := b.try(b.Client(), nil, readOnly)
			b.must(err)
			stop := follow(f)
			done := make(chan struct{})
			var wg sync.WaitGroup
			written := uint64(0)
			wg.Go(func() { // with many records beside the cuts
				for n := uint64(2); ; n++ {
					if err := errors.Join(f.WriteSectors(b.T.Context(), 7, content(7, n)), file.Fold(b.T.Context(), f)); err != nil {
						b.T.Error(err)
					}
					written = n
					select {
					case <-done:
						return
					case <-time.After(10 * time.Millisecond):
					}
				}
			})
			for round := range uint64(2) {
				want[4095], want[left] = 3+round, 4+round
				b.write(f, 4095, want[4095])
				b.write(f, left, want[left])
				b.must(b.live(other, left*sectorBytes))
				if size := f.Info().SizeBytes; size != left*sectorBytes {
					b.T.Errorf("the holder has %d bytes", size)
				}
				if err := f.WriteSectors(b.T.Context(), left, content(left, 9)); blocktree.KindOf(err) != blocktree.OutOfRange {
					b.T.Errorf("behind the end: %v", err)
				}
				b.grown(reader, left*sectorBytes)
				b.must(b.resize(other, treeSize))
				b.grown(f, treeSize)
				for at := range want {
					if at >= left {
						want[at] = 0
					}
				}
				delete(want, 7)
				b.check(f, want)
				for at, has := range map[blocktree.SectorIndex]bool{5: true, left - 1: true, left: false, 4095: false} {
					if floor, err := file.Floor(b.T.Context(), f, at); err != nil || floor.IsZero() == has {
						b.T.Errorf("sector %d: %v, %v", at, floor, err)
					}
				}
			}
			close(done)
			wg.Wait()
			stop()
			b.grown(reader, treeSize)
			time.Sleep(file.FoldDelay + time.Second)
			want[7] = written
			b.check(reader, want)
			b.must(f.Close())
			f, err = b.try(b.Client(), early)
			b.must(err)
			b.check(f, want)
			b.must(f.Close())
		})
	}
}

// TestShrinkIsNotUndone: all members together go back to the longer file. Who kept a root of after the cut notices, though the cut one is all that the file was since.
func TestShrinkIsNotUndone(t *testing.T) {
	within(t, stripe.DurabilityAck, func(b *bed) {
		f := b.open()
		b.write(f, 3, 1)
		b.write(f, 4000, 1)
		b.must(f.Close())
		b.stopAll()
		var old []testenv.Disks
		for i := range 3 {
			old = append(old, b.Keep(i))
		}
		b.StartAll()
		b.client = b.Client()
		f = b.open()
		stop := follow(f)
		b.must(b.live(b.Client(), treeSize/4))
		stop()
		b.must(f.Close())
		b.stopAll()
		for i := range 3 {
			b.Put(i, old[i])
		}
		b.StartAll()
		_, err := b.try(b.Client(), b.roots)
		b.detected("the longer file", err)
	})
}

// TestNoRecordBeforeACut: a file that was never written is made smaller while it is open, then written: its first record is of the size that it has, and of a place for pages that there is, also where the cut comes to nothing.
func TestNoRecordBeforeACut(t *testing.T) {
	for name, fails := range map[string]bool{"cut": false, "not cut": true} {
		t.Run(name, func(t *testing.T) {
			within(t, stripe.DurabilityAck, func(b *bed) {
				var f blocktree.File
				f = b.open(func(o *file.OpenOptions) {
					o.SetStep(func(what string) error {
						if what != "cut" {
							return nil
						}
						b.write(f, 3, 1)
						b.must(file.Fold(b.T.Context(), f)) // beside the cut
						if fails {
							return errEnded
						}
						return nil
					})
				})
				size := uint64(treeSize / 4)
				if fails {
					size = treeSize
				}
				if err := f.(blocktree.Shrinker).Shrink(b.T.Context(), treeSize/4); errors.Is(err, errEnded) != fails || !fails && err != nil {
					b.T.Error(err)
				}
				last := blocktree.SectorIndex(size/sectorBytes - 1)
				b.write(f, last, 2)
				b.must(f.Close())
				f = b.open()
				if f.Info().SizeBytes != size {
					b.T.Errorf("%d bytes", f.Info().SizeBytes)
				}
				b.check(f, map[blocktree.SectorIndex]uint64{3: 1, last: 2})
				if floor, err := file.Floor(b.T.Context(), f, last); err != nil || floor.IsZero() {
					b.T.Errorf("%v, %v", floor, err)
				}
				b.must(f.Close())
			})
		})
	}
}

// TestReadsBesideACut: a read of what is cut, begun before, finds its zeros, or what was there, and never a rollback (K10 of 0074).
func TestReadsBesideACut(t *testing.T) {
	within(t, stripe.DurabilityAck, func(b *bed) {
		f, at := b.open(), blocktree.SectorIndex(4000)
		b.write(f, 3, 1)
		b.write(f, at, 1)
		b.must(file.Fold(b.T.Context(), f))
		floor, err := file.Floor(b.T.Context(), f, at)
		b.must(err)
		b.must(f.(blocktree.Shrinker).Shrink(b.T.Context(), treeSize/4))
		b.must(b.resize(b.Client(), treeSize))
		b.grown(f, treeSize)
		if err := file.ReadAgain(b.T.Context(), f, at, floor); err != nil {
			b.T.Errorf("judged by the floor of before it was cut: %v", err)
		}
		b.write(f, at, 2)
		b.check(f, map[blocktree.SectorIndex]uint64{at: 2})
	})
}
