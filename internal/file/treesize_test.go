package file_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/stripe"
	"blocktree/crypto/tree"
	"blocktree/internal/file"
)

// resize gives the tree file another size, as a client of its own does.
func (b *bed) resize(c *cluster.Client, bytes uint64, change ...func(*file.OpenOptions)) error {
	o := file.OpenOptions{Reader: b.Reader}
	for _, f := range change {
		f(&o)
	}
	_, _, err := file.Resize(b.T.Context(), c, b.Path("/vm/tree"), cluster.ResizeOptions{Bytes: func(uint64) (uint64, error) { return bytes, nil }, Shrink: true}, o)
	return err
}

// grown waits until a file is known to have a size.
func (b *bed) grown(f blocktree.File, bytes uint64) {
	b.T.Helper()
	for began := b.Elapsed(); f.Info().SizeBytes != bytes; time.Sleep(100 * time.Millisecond) {
		if b.Elapsed()-began > 10*time.Second {
			b.T.Fatalf("it has %d bytes", f.Info().SizeBytes)
		}
	}
}

const (
	largeSize = 1 << 40
	mib       = blocktree.SectorIndex(1<<20) / sectorBytes
)

// TestTreeGrows grows a tree file, so much that its tree gets two levels more, while it is held and read: what is new reads as zeros, takes writes and floors, and what was there stays as it is.
func TestTreeGrows(t *testing.T) {
	within(t, stripe.DurabilityAck, func(b *bed) {
		want := map[blocktree.SectorIndex]uint64{}
		f := b.open()
		b.spread(f, want, 1)
		early := b.roots.clone()
		reader, err := b.try(b.Client(), nil, readOnly)
		b.must(err)
		b.check(reader, want)
		b.must(b.resize(b.Client(), largeSize))
		b.grown(f, largeSize)
		b.grown(reader, largeSize)
		for _, at := range []blocktree.SectorIndex{16 * mib, 700 * mib, 1<<20*mib - 1, 1<<19*mib + 77} {
			want[at] = 0
			b.check(f, want)
			b.check(reader, want)
			want[at] = uint64(at)%9 + 1
			b.write(f, at, want[at])
			b.check(f, want)
			b.must(file.Fold(b.T.Context(), f))
			time.Sleep(file.FoldDelay + time.Second) // for the reader
			file.Forget(f)
			b.check(f, want)
			b.check(reader, want)
		}
		b.must(f.Close())
		f, err = b.try(b.Client(), early)
		b.must(err)
		b.check(f, want)
		floor, err := file.Floor(b.T.Context(), f, 700*mib)
		if err != nil || floor == (tree.Floor{}) {
			b.T.Errorf("%v, %v", floor, err)
		}
		b.must(f.Close())
	})
}

// TestTreeShrinks: what is cut has no floor, and is zeros when the file grows again, in every durability; what is not stays as it is, and has its floor. Roots of before are good, those of after are not gone back behind.
func TestTreeShrinks(t *testing.T) {
	for _, durability := range durabilities() {
		within(t, durability, func(b *bed) {
			want := map[blocktree.SectorIndex]uint64{}
			f := b.open()
			b.spread(f, want, 1)
			want[4095] = 9
			b.write(f, 4095, 9)
			if err := b.resize(b.Client(), treeSize/4); blocktree.KindOf(err) != blocktree.Busy || blocktree.HintOf(err) == "" {
				b.T.Errorf("held by somebody who does not follow: %v", err)
			}
			b.must(f.Close())
			early := b.roots.clone()
			if _, _, err := b.client.Resize(b.T.Context(), b.Path("/vm/tree"), cluster.ResizeOptions{Bytes: func(uint64) (uint64, error) { return sectorBytes, nil }, Shrink: true}); blocktree.KindOf(err) != blocktree.Unsupported || blocktree.HintOf(err) == "" {
				b.T.Errorf("without a key: %v", err)
			}
			reader, err := b.try(b.Client(), nil, readOnly)
			b.must(err)
			b.check(reader, want)
			const left = 130 // which cuts a page, and makes the tree lower
			b.must(b.resize(b.Client(), left*sectorBytes))
			b.grown(reader, left*sectorBytes)
			for at := range want {
				if at >= left {
					want[at] = 0
					if err := reader.ReadSectors(b.T.Context(), at, make([]byte, sectorBytes)); blocktree.KindOf(err) != blocktree.OutOfRange {
						b.T.Errorf("sector %d: %v", at, err)
					}
				}
			}
			f = b.open()
			b.write(f, 5, 3)
			want[5] = 3
			b.must(f.Close())
			b.must(b.resize(b.Client(), treeSize))
			f, err = b.try(b.Client(), early)
			b.must(err)
			b.check(f, want)
			for at, has := range map[blocktree.SectorIndex]bool{5: true, left - 1: true, left: false, 299: false, 4095: false} {
				if floor, err := file.Floor(b.T.Context(), f, at); err != nil || floor.IsZero() == has {
					b.T.Errorf("sector %d: %v, %v", at, floor, err)
				}
			}
			want[4095], want[200] = 4, 5
			b.write(f, 4095, 4)
			b.write(f, 200, 5)
			b.must(file.Fold(b.T.Context(), f))
			b.grown(reader, treeSize)
			time.Sleep(file.FoldDelay + time.Second)
			b.check(reader, want)
			b.must(f.Close())
			b.must(b.resize(b.Client(), 2*sectorBytes))
			b.must(b.resize(b.Client(), largeSize))
			for at := range want {
				if at >= 2 {
					want[at] = 0
				}
			}
			f = b.open()
			b.check(f, want)
			b.must(f.Close())
		})
	}
}

// TestSizeOfNobodysRecord: a file that has no record yet gets other sizes, too.
func TestSizeOfNobodysRecord(t *testing.T) {
	within(t, stripe.DurabilityAck, func(b *bed) {
		for _, bytes := range []uint64{64 << 20, sectorBytes, largeSize} {
			b.must(b.resize(b.Client(), bytes))
			f := b.open()
			b.check(f, map[blocktree.SectorIndex]uint64{0: 0, blocktree.SectorIndex(bytes/sectorBytes) - 1: 0})
			b.must(f.Close())
		}
		f := b.open()
		b.write(f, 1<<20*mib-1, 7)
		b.must(f.Close())
		f = b.open()
		b.check(f, map[blocktree.SectorIndex]uint64{1<<20*mib - 1: 7, 0: 0})
		b.must(f.Close())
	})
}

// TestEndsInAResize ends whoever makes a file smaller at each step of the record, and a holder at each step of the first record of a larger one: it is opened by who comes next, of either size, and resized again.
func TestEndsInAResize(t *testing.T) {
	for _, how := range []string{"larger", "smaller", "live"} {
		for at := range steps {
			if how != "larger" && at == 0 { // nothing was written
				continue
			}
			t.Run(fmt.Sprintf("%s/%s%d", how, steps[at], at), func(t *testing.T) {
				within(t, stripe.DurabilityFlush, func(b *bed) { b.endResizeAt(at, how) })
			})
		}
	}
}

func (b *bed) endResizeAt(at int, how string) {
	want := map[blocktree.SectorIndex]uint64{}
	e := &ending{b: b, at: at, ended: make(chan struct{})}
	f := b.open(func(o *file.OpenOptions) { o.SetStep(e.step) })
	b.spread(f, want, 1)
	switch how {
	case "larger":
		b.must(b.resize(b.Client(), largeSize))
		b.grown(f, largeSize)
		want[1<<20*mib-1] = 8
		b.write(f, 1<<20*mib-1, 8)
		b.write(f, 128, 2)
		want[128] = 2
		b.must(f.Flush(b.T.Context()))
		e.armed = true
		if err := file.Fold(b.T.Context(), f); !errors.Is(err, errEnded) {
			b.T.Fatal(err)
		}
	case "live":
		b.must(f.Close())
		f = b.open(func(o *file.OpenOptions) { o.SetStep(e.step) }) // whose first record has the end of the line before as well
		e.armed, e.met = true, 1
		if err := f.(blocktree.Shrinker).Shrink(b.T.Context(), 200*sectorBytes); !errors.Is(err, errEnded) {
			b.T.Fatal(err)
		}
	default:
		b.must(f.Close())
		e.armed, e.met = true, 1
		if err := b.resize(b.client, 200*sectorBytes, func(o *file.OpenOptions) { o.Roots = b.roots; o.SetStep(e.step) }); !errors.Is(err, errEnded) {
			b.T.Fatal(err)
		}
	}
	b.client = b.Client()
	f = b.open()
	if f.Info().SizeBytes < treeSize {
		for s := range want {
			if uint64(s) >= f.Info().SizeBytes/sectorBytes {
				delete(want, s)
			}
		}
	}
	b.check(f, want)
	b.write(f, 3, 3)
	want[3] = 3
	b.must(f.Close())
	b.must(b.resize(b.client, 150*sectorBytes))
	b.must(b.resize(b.client, largeSize))
	for s := range want {
		if s >= 150 {
			want[s] = 0
		}
	}
	f = b.open()
	b.check(f, want)
	b.must(f.Close())
}

// TestReaderBesideAShrink: a reader without a lease has the floors of before a file was made smaller, and what it reads then is no rollback: what was cut is zeros, whether the end has moved yet, or has moved and moved back.
func TestReaderBesideAShrink(t *testing.T) {
	within(t, stripe.DurabilityAck, func(b *bed) {
		want := map[blocktree.SectorIndex]uint64{3: 1, 4000: 1}
		f := b.open()
		b.write(f, 3, 1)
		b.write(f, 4000, 1)
		b.must(f.Close())
		other, began := b.Client(), b.Elapsed()
		reader, err := b.try(b.Client(), nil, readOnly)
		b.must(err)
		b.check(reader, want)
		b.must(b.resize(other, treeSize/4))
		b.must(b.resize(other, treeSize))
		if took := b.Elapsed() - began; took >= file.FoldDelay {
			b.T.Fatalf("it took %v: the reader will have asked again, and the test looks at nothing", took)
		}
		for at, n := range map[blocktree.SectorIndex]uint64{3: 1, 4000: 0} {
			if got, err := b.read(reader, at); err != nil || got != n {
				b.T.Errorf("sector %d holds %d, want %d (%v)", at, got, n, err)
			}
		}
	})
}
