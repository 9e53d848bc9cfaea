package blockdev

import (
	"bytes"
	"context"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/blockdev/memfile"
)

// aheadBed is a device that reads ahead, over a file of which sector i says i, and what its file was asked for.
type aheadBed struct {
	t     testing.TB
	cache *Cache
	file  *memfile.File
	dev   *Device

	mu    sync.Mutex
	calls []memfile.Call
	hook  func(context.Context, memfile.Call) error
}

const bedSectors = 8192 - 7 // not a whole number of pieces

func newAheadBed(t testing.TB, cacheBytes, aheadBytes int64, o memfile.Options) *aheadBed {
	t.Helper()
	b := &aheadBed{t: t}
	o.Info.SizeBytes = bedSectors * 4096
	o.Hook = func(ctx context.Context, c memfile.Call) error {
		b.mu.Lock()
		b.calls = append(b.calls, c)
		hook := b.hook
		b.mu.Unlock()
		if hook != nil {
			return hook(ctx, c)
		}
		return nil
	}
	b.file = memfile.New(o)
	all := make([]byte, bedSectors*4096)
	for i := range uint64(bedSectors) {
		binary.BigEndian.PutUint64(all[i*4096:], i)
	}
	if err := b.file.WriteSectors(context.Background(), 0, all); err != nil {
		t.Fatal(err)
	}
	var err error
	if b.cache, err = NewCacheAhead(cacheBytes, aheadBytes); err != nil {
		t.Fatal(err)
	}
	if b.dev, err = Open(b.file, Options{Cache: b.cache}); err != nil {
		t.Fatal(err)
	}
	b.asked()
	return b
}

// close ends the bed and counts: all memory of what was read ahead is back.
func (b *aheadBed) close() {
	b.t.Helper()
	if err := b.dev.Close(); err != nil && blocktree.KindOf(err) != blocktree.Lost {
		b.t.Error(err)
	}
	if s := b.cache.Stats(); s.AheadUsedBytes != 0 || b.dev.ahead != nil && (b.dev.ahead.live.Load() != 0 || b.dev.ahead.flying.Load() != 0 || b.dev.ahead.others.Load() != 0 || b.dev.ahead.reading.Load() != 0) {
		b.t.Errorf("after closing: %+v", s)
	}
	b.cache.Close()
}

// asked returns the calls of the file since it was last called.
func (b *aheadBed) asked() []memfile.Call {
	b.mu.Lock()
	defer b.mu.Unlock()
	calls := b.calls
	b.calls = nil
	return calls
}

// read reads count sectors as the engine does, and checks them.
func (b *aheadBed) read(first, count uint64) {
	b.t.Helper()
	p := make([]byte, count*4096)
	if !b.dev.TryReadAt(p, first*4096) {
		if err := b.dev.ReadAt(context.Background(), p, first*4096); err != nil {
			b.t.Fatal(err)
		}
	}
	for i := range count {
		if got := binary.BigEndian.Uint64(p[i*4096:]); got != first+i {
			b.t.Fatalf("sector %d says %d", first+i, got)
		}
	}
}

// TestReadAheadSaves: with 1 ms per call of the file, a sequential read waits for a few of them only, whatever its pieces; without reading ahead, for each.
func TestReadAheadSaves(t *testing.T) {
	for _, x := range []struct {
		name       string
		ahead      int64
		count      uint64 // sectors of a read
		atMost     time.Duration
		callsAtMax int
	}{
		{"4 KiB", 4 << 20, 1, 40 * time.Millisecond, 80},
		{"4 KiB, off", 0, 1, 2048 * time.Millisecond, 2048},
		{"128 KiB", 4 << 20, 32, 20 * time.Millisecond, 80},
		{"128 KiB, off", 0, 32, 64 * time.Millisecond, 64},
		{"256 KiB", 4 << 20, 64, 32 * time.Millisecond, 32}, // left alone
	} {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newAheadBed(t, 16<<20, x.ahead, memfile.Options{})
				defer b.close()
				b.hook = func(context.Context, memfile.Call) error { time.Sleep(time.Millisecond); return nil }
				began := time.Now()
				for at := uint64(0); at < 2048; at += x.count {
					b.read(at, x.count)
				}
				took, calls := time.Since(began), len(b.asked())
				without := x.ahead == 0 || x.count > pieceLen/2
				if took > x.atMost || calls > x.callsAtMax || without && took != x.atMost {
					t.Errorf("%v and %d calls, at most %v and %d", took, calls, x.atMost, x.callsAtMax)
				}
				s := b.cache.Stats()
				if asked := s.Hits + s.Misses + s.AheadHits; asked != 2048 {
					t.Errorf("%d sectors are counted of 2048: %+v", asked, s)
				}
				if !without && (s.HitRate() < 0.75 || s.AheadHits < 1500) || without && s.HitRate() != 0 {
					t.Errorf("hit rate %v of %+v", s.HitRate(), s)
				}
			})
		})
	}
}

// TestReadAheadStaysInside: never past the end, and no more than it may.
func TestReadAheadStaysInside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newAheadBed(t, 4<<20, 1<<20, memfile.Options{})
		defer b.close()
		var at [6]uint64 // each would like more than a sixth of the three pieces that there may be
		for i := range at {
			at[i] = uint64(i) * 1300
		}
		for at[5] < bedSectors {
			for i := range at {
				n := min(8, bedSectors-at[i])
				b.read(at[i], n)
				at[i] += n
			}
			if s := b.cache.Stats(); s.AheadUsedBytes > s.AheadBytesMax || s.AheadBytesMax > 1<<20 || s.AheadBytesMax+s.BytesMax > 4<<20 {
				t.Fatalf("%+v", s)
			}
			synctest.Wait()
		}
		if asked, inside := b.file.Calls(memfile.Read), int64(len(b.asked())); asked != inside { // those past the end do not get to the hook
			t.Errorf("%d of %d reads were of what is not there", asked-inside, asked)
		}
	})
}

// TestReadAheadToTheEnd: the last piece ends where the device does.
func TestReadAheadToTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newAheadBed(t, 16<<20, 4<<20, memfile.Options{})
		defer b.close()
		for at := uint64(bedSectors - 300); at < bedSectors; at++ {
			b.read(at, 1)
			synctest.Wait()
		}
		if asked, inside := b.file.Calls(memfile.Read), int64(len(b.asked())); asked != inside {
			t.Errorf("%d of %d reads were of what is not there", asked-inside, asked)
		}
		if s := b.cache.Stats(); s.AheadHits != 300-aheadReadsMin || s.AheadRead != s.AheadHits || s.AheadUsedBytes != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestReadAheadAndTheWholeDevice: a zeroing that is too long for the buckets ends what is believed of every piece.
func TestReadAheadAndTheWholeDevice(t *testing.T) {
	const sectors = cacheBuckets + 10
	synctest.Test(t, func(t *testing.T) {
		cache, err := NewCacheAhead(16<<20, 4<<20)
		if err != nil {
			t.Fatal(err)
		}
		defer cache.Close()
		d, f := openMem(t, memfile.Options{Info: blocktree.FileInfo{SizeBytes: sectors * 4096}}, Options{Cache: cache})
		defer d.Close()
		if err := f.WriteSectors(t.Context(), 0, bytes.Repeat([]byte{7}, pieceLen*4096)); err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 4096)
		for at := range uint64(3) {
			if err := d.ReadAt(t.Context(), p, at*4096); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if !d.ahead.has(9, 1) {
			t.Fatal("nothing was read ahead")
		}
		if err := d.Zero(t.Context(), 0, sectors*4096, false); err != nil {
			t.Fatal(err)
		}
		if err := d.ReadAt(t.Context(), p, 9*4096); err != nil || p[0] != 0 {
			t.Errorf("%d is read of what is zeroed (%v)", p[0], err)
		}
	})
}

// TestReadAheadKeepsTheCache: a scan in long reads leaves what was read at random where it was.
func TestReadAheadKeepsTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newAheadBed(t, 4<<20, 1<<20, memfile.Options{})
		defer b.close()
		for i := range uint64(100) {
			b.read(i*37%512, 1)
			b.cache.entries.Wait()
		}
		b.asked()
		for at := uint64(1024); at+256 <= bedSectors; at += 256 {
			b.read(at, 256)
		}
		synctest.Wait()
		b.asked()
		for i := range uint64(100) {
			b.read(i*37%512, 1)
		}
		if calls := b.asked(); len(calls) != 0 {
			t.Errorf("%d of 100 sectors were thrown out", len(calls))
		}
		for at := range uint64(8) {
			b.read(2000+at, 1)
		}
		synctest.Wait()
		b.cache.entries.Wait()
		kept := b.cache.Stats()
		b.read(2008, cacheReadSectorsMax+1)
		b.cache.entries.Wait()
		if s := b.cache.Stats(); s.UsedBytes != kept.UsedBytes || s.AheadHits-kept.AheadHits != cacheReadSectorsMax+1 {
			t.Errorf("a long read is kept: %+v, and before it %+v", s, kept)
		}
	})
}

// TestReadAheadYields: it begins nothing while others are at the file, and goes on after them.
func TestReadAheadYields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newAheadBed(t, 16<<20, 4<<20, memfile.Options{})
		defer b.close()
		release := make(chan struct{})
		b.hook = func(_ context.Context, c memfile.Call) error {
			if c.First >= 4000 {
				<-release
			}
			return nil
		}
		var wg sync.WaitGroup
		for i := range uint64(aheadOthersMax + 1) {
			wg.Go(func() {
				if i%2 == 0 {
					b.read(4000+i*100, 1)
				} else if err := b.dev.WriteAt(t.Context(), make([]byte, 8192), (6000+i*100)*4096, false); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		b.asked()
		for at := range uint64(64) {
			b.read(at, 1)
		}
		if calls := b.asked(); len(calls) != 64 {
			t.Errorf("%d calls beside %d others", len(calls), aheadOthersMax+1)
		}
		close(release)
		wg.Wait()
		b.asked()
		for at := range uint64(64) {
			b.read(64+at, 1)
		}
		synctest.Wait()
		if calls := b.asked(); len(calls) > 20 {
			t.Errorf("%d calls without others", len(calls))
		}
	})
}

// TestReadAheadLeavesDeepQueues: who has 1 MiB in flight himself gets no pieces.
func TestReadAheadLeavesDeepQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newAheadBed(t, 16<<20, 4<<20, memfile.Options{})
		defer b.close()
		var calls atomic.Int64
		b.hook = func(context.Context, memfile.Call) error {
			time.Sleep(time.Millisecond + time.Duration(calls.Add(1))*time.Microsecond) // so that no two end together
			return nil
		}
		var next atomic.Uint64
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for at := next.Add(32); at <= bedSectors; at = next.Add(32) {
					b.read(at-32, 32)
				}
			})
		}
		wg.Wait()
		if s := b.cache.Stats(); s.AheadRead > 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestReadAheadNeedsTheLease, and a cache, and a file that waits.
func TestReadAheadNeedsTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var epoch, valid atomic.Int64
		epoch.Store(5)
		b := newAheadBed(t, 16<<20, 4<<20, memfile.Options{Lease: func() (blocktree.Epoch, bool) {
			return blocktree.Epoch(epoch.Load()), valid.Load() == 1
		}})
		defer b.close()
		scan := func(from uint64) int {
			b.asked()
			for at := range uint64(64) {
				b.read(from+at, 1)
			}
			synctest.Wait()
			return len(b.asked())
		}
		if n := scan(0); n != 64 {
			t.Errorf("%d calls without a lease", n)
		}
		valid.Store(1)
		if n := scan(1000); n > 20 {
			t.Errorf("%d calls with a lease", n)
		}
		if !b.dev.ahead.has(1064, 1) {
			t.Fatal("nothing was read ahead of sector 1064")
		}
		p := make([]byte, 4096)
		valid.Store(0)
		if b.dev.TryReadAt(p, 1064*4096) {
			t.Error("answered from what was read ahead without a lease")
		}
		valid.Store(1)
		epoch.Store(6) // somebody may have written meanwhile
		if b.dev.TryReadAt(p, 1064*4096) {
			t.Error("answered from what was read ahead under an older epoch")
		}
		epoch.Store(5)
		if !b.dev.TryReadAt(p, 1064*4096) {
			t.Error("the same lease, renewed in time after all, and yet not answered")
		}
	})
	for _, o := range []memfile.Options{{Prompt: true}, {}} {
		b := newAheadBed(t, 16<<20, map[bool]int64{true: 4 << 20, false: aheadPieceBytes}[o.Prompt], o)
		if b.dev.ahead != nil {
			t.Errorf("%+v reads ahead", o)
		}
		b.close()
	}
}

// TestReadAheadAndWrites: what was read ahead, or is being, is not believed once a write of it has begun; the rest is.
func TestReadAheadAndWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newAheadBed(t, 16<<20, 4<<20, memfile.Options{})
		defer b.close()
		for at := range uint64(8) {
			b.read(at, 1)
		}
		synctest.Wait()
		write := func(sector uint64) {
			p := make([]byte, 4096)
			binary.BigEndian.PutUint64(p, sector)
			p[4095] = 1
			if err := b.dev.WriteAt(t.Context(), p, sector*4096, false); err != nil {
				t.Fatal(err)
			}
		}
		if !b.dev.ahead.has(10, 1) {
			t.Fatal("nothing was read ahead")
		}
		write(10)
		b.asked()
		p := make([]byte, 8*4096)
		if err := b.dev.ReadAt(t.Context(), p, 8*4096); err != nil {
			t.Fatal(err)
		}
		if p[2*4096+4095] != 1 || p[3*4096+4095] != 0 || p[4*4096+7] != 12 {
			t.Error("what a write had left was not read")
		}
		synctest.Wait()
		if calls := b.asked(); len(calls) == 0 || calls[0] != (memfile.Call{Op: memfile.Read, First: 10, Count: 6}) {
			t.Errorf("%+v", calls)
		}

		// A write while a piece is being read: the piece has the old sector.
		holding, release := make(chan struct{}), make(chan struct{})
		var once sync.Once
		b.mu.Lock()
		b.hook = func(_ context.Context, c memfile.Call) error {
			if c.Op == memfile.Read && c.Count == pieceLen {
				once.Do(func() { close(holding) })
				<-release
			}
			return nil
		}
		b.mu.Unlock()
		for at := uint64(2000); at < 2003; at++ {
			b.read(at, 1)
		}
		<-holding
		synctest.Wait()
		write(2020) // of the rest of the first slot, which came at once
		write(2050) // of the piece on its way
		close(release)
		synctest.Wait()
		for _, sector := range []uint64{2020, 2050} {
			if err := b.dev.ReadAt(t.Context(), p[:4096], sector*4096); err != nil || p[4095] != 1 {
				t.Errorf("sector %d: old bytes (%v)", sector, err)
			}
		}
	})
}

// TestReadAheadWaits: a read of what is on its way asks no second time, and can be given up.
func TestReadAheadWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newAheadBed(t, 16<<20, 4<<20, memfile.Options{Starts: true})
		defer b.close()
		release := make(chan struct{})
		b.hook = func(ctx context.Context, c memfile.Call) error {
			if c.First > 2 {
				<-release
			}
			return nil
		}
		for at := range uint64(3) {
			b.read(at, 1)
		}
		synctest.Wait()
		b.asked()
		var wg sync.WaitGroup
		wg.Go(func() { b.read(3, 4) })
		wg.Go(func() { b.read(7, 60) })
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			if err := b.dev.ReadAt(ctx, make([]byte, 4096), 5*4096); blocktree.KindOf(err) != blocktree.Canceled {
				t.Error(err)
			}
		})
		synctest.Wait()
		if b.dev.StartRead(make([]byte, 4096), 6*4096, nil) {
			t.Error("a read was started of what is on its way")
		}
		for _, c := range b.asked() {
			if c.First < 64 {
				t.Errorf("asked again: %+v", c)
			}
		}
		cancel()
		synctest.Wait()
		close(release)
		wg.Wait()
	})
}

// TestReadAheadFails: that is nobody's error, but a loss is the end of the device.
func TestReadAheadFails(t *testing.T) {
	for _, kind := range []blocktree.Kind{blocktree.Unavailable, blocktree.Lost} {
		synctest.Test(t, func(t *testing.T) {
			b := newAheadBed(t, 16<<20, 4<<20, memfile.Options{})
			defer b.close()
			b.hook = func(_ context.Context, c memfile.Call) error {
				if c.Count == pieceLen {
					return blocktree.E("test", kind, nil)
				}
				return nil
			}
			for at := range uint64(3) {
				b.read(at, 1)
			}
			synctest.Wait()
			if kind == blocktree.Lost {
				if err := b.dev.ReadAt(t.Context(), make([]byte, 4096), 0); blocktree.KindOf(err) != blocktree.Lost {
					t.Errorf("%v", err)
				}
				return
			}
			for at := uint64(3); at < 200; at++ {
				b.read(at, 1)
			}
		})
	}
}

// TestReadAheadOfOneSectorSizes: slots and pieces of the smallest and the largest sectors.
func TestReadAheadOfOneSectorSizes(t *testing.T) {
	for _, sector := range []uint64{512, 64 << 10} {
		synctest.Test(t, func(t *testing.T) {
			cache, err := NewCacheAhead(16<<20, 4<<20)
			if err != nil {
				t.Fatal(err)
			}
			defer cache.Close()
			f := memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: 8 << 20, SectorBytes: int(sector)}})
			all := bytes.Repeat([]byte("01234567890abcde0"), 8<<20/17+1)[:8<<20]
			if err := f.WriteSectors(t.Context(), 0, all); err != nil {
				t.Fatal(err)
			}
			d, err := Open(f, Options{Cache: cache})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			p := make([]byte, 64<<10)
			for at := uint64(0); at < 8<<20; at += 64 << 10 {
				if err := d.ReadAt(t.Context(), p, at); err != nil || !bytes.Equal(p, all[at:][:len(p)]) {
					t.Fatalf("at %d: %v", at, err)
				}
			}
			if s := cache.Stats(); s.AheadHits*sector < 6<<20 {
				t.Errorf("%+v", s)
			}
		})
	}
}
