package blockdev

import (
	"bytes"
	"context"
	"testing"

	"blocktree"
	"blocktree/blockdev/memfile"
)

// tricky is a memory file whose calls run hooks after the sectors were touched, where memfile's run before.
type tricky struct {
	*memfile.File
	afterRead  func()
	afterWrite func() error
}

func (f *tricky) ReadSectors(ctx context.Context, first blocktree.SectorIndex, dst []byte) error {
	err := f.File.ReadSectors(ctx, first, dst)
	if f.afterRead != nil {
		f.afterRead()
	}
	return err
}

func (f *tricky) WriteSectors(ctx context.Context, first blocktree.SectorIndex, src []byte) error {
	err := f.File.WriteSectors(ctx, first, src)
	if f.afterWrite != nil {
		return f.afterWrite()
	}
	return err
}

type cacheBed struct {
	t     *testing.T
	cache *Cache
	file  *tricky
	dev   *Device
}

func newCacheBed(t *testing.T, o memfile.Options) *cacheBed {
	t.Helper()
	if o.Info.SizeBytes == 0 {
		o.Info.SizeBytes = 1 << 20
	}
	cache, err := NewCache(8 << 20)
	if err != nil {
		t.Fatal(err)
	}
	b := &cacheBed{t: t, cache: cache, file: &tricky{File: memfile.New(o)}}
	b.dev = b.open()
	t.Cleanup(func() {
		b.dev.Close()
		cache.Close()
	})
	return b
}

func (b *cacheBed) open() *Device {
	d, err := Open(b.file, Options{Cache: b.cache})
	if err != nil {
		b.t.Fatal(err)
	}
	return d
}

// read returns the first byte of a sector and whether the file was asked for it.
func (b *cacheBed) read(d *Device, sector uint64) (value byte, fromFile bool) {
	b.t.Helper()
	before := b.file.Calls(memfile.Read)
	p := make([]byte, 4096)
	if err := d.ReadAt(context.Background(), p, sector*4096); err != nil {
		b.t.Fatal(err)
	}
	b.cache.entries.Wait()
	return p[0], b.file.Calls(memfile.Read) != before
}

func (b *cacheBed) want(sector uint64, value byte, fromFile bool) {
	b.t.Helper()
	if got, file := b.read(b.dev, sector); got != value || file != fromFile {
		b.t.Fatalf("sector %d: %d (from the file: %t), want %d (%t)", sector, got, file, value, fromFile)
	}
}

func (b *cacheBed) write(sector uint64, value byte) error {
	return b.dev.WriteAt(context.Background(), bytes.Repeat([]byte{value}, 4096), sector*4096, false)
}

func TestCacheServesCleanSectors(t *testing.T) {
	b := newCacheBed(t, memfile.Options{})
	b.want(7, 0, true)
	b.want(7, 0, false)
	p := make([]byte, 100)
	if !b.dev.TryReadAt(p, 7*4096+9) || b.dev.TryReadAt(p, 8*4096-1) || b.dev.TryReadAt(p, 1<<20-1) {
		t.Fatal("TryReadAt answers what is cached, all of it, and nothing else")
	}
	b.write(7, 1)
	b.want(7, 1, true)
	b.want(7, 1, false)
	if err := b.dev.Trim(t.Context(), 7*4096, 4096, false); err != nil {
		t.Fatal(err)
	}
	b.want(7, 0, true)
	long := make([]byte, (cacheReadSectorsMax+1)*4096)
	for range 2 {
		if err := b.dev.ReadAt(t.Context(), long, 0); err != nil {
			t.Fatal(err)
		}
	}
	b.want(8, 0, true)                                     // a scan is not kept
	if s := b.cache.Stats(); s.Hits != 3 || s.Stale != 2 { // a read that TryReadAt passes on is counted by who serves it
		t.Fatalf("%+v", s)
	}
}

// TestCachePartly reads a range of which some sectors are cached: one call fetches the rest.
func TestCachePartly(t *testing.T) {
	b := newCacheBed(t, memfile.Options{})
	for i := range byte(8) {
		b.write(uint64(i), i+1)
	}
	for _, sector := range []uint64{0, 3, 7} {
		b.want(sector, byte(sector)+1, true)
	}
	before := b.file.Calls(memfile.Read)
	p := make([]byte, 8*4096)
	if err := b.dev.ReadAt(t.Context(), p, 0); err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		if p[i*4096] != byte(i)+1 {
			t.Fatalf("sector %d is %d", i, p[i*4096])
		}
	}
	if n := b.file.Calls(memfile.Read) - before; n != 1 {
		t.Fatalf("%d calls", n)
	}
	if s := b.cache.Stats(); s.Hits != 3 || s.Misses != 3+5 || s.HitRate() != 3./11 {
		t.Fatalf("%+v", s)
	}
}

func TestCacheWriteDuringRead(t *testing.T) {
	b := newCacheBed(t, memfile.Options{})
	b.file.afterRead = func() { b.write(7, 1) } // the read below has the old sector in its hands
	b.want(7, 0, true)
	b.file.afterRead = nil
	b.want(7, 1, true)
}

func TestCacheReadDuringWrite(t *testing.T) {
	holding, release := make(chan struct{}), make(chan struct{})
	hold := false
	b := newCacheBed(t, memfile.Options{Hook: func(_ context.Context, c memfile.Call) error {
		if hold && c.Op == memfile.Write {
			close(holding)
			<-release
		}
		return nil
	}})
	b.want(7, 0, true)
	b.want(7, 0, false)
	hold = true
	done := make(chan struct{})
	go func() {
		b.write(7, 1)
		close(done)
	}()
	await(t, holding, "the write reaches the file")
	b.want(7, 0, true) // cached before the write began, yet not believed while it is in flight
	b.want(7, 0, true) // nor was the read of meanwhile kept
	close(release)
	await(t, done, "the write ends")
	b.want(7, 1, true)
	b.want(7, 1, false)
}

// TestCacheAfterFailure fails a write that took effect all the same: its sector is never cached again.
func TestCacheAfterFailure(t *testing.T) {
	b := newCacheBed(t, memfile.Options{})
	b.want(7, 0, true)
	b.file.afterWrite = func() error { return blocktree.E("test", blocktree.Timeout, nil) }
	if err := b.write(7, 1); blocktree.KindOf(err) != blocktree.Timeout {
		t.Fatal(err)
	}
	b.file.afterWrite = nil
	b.want(7, 1, true)
	b.want(7, 1, true)
	b.want(8, 0, true)
	b.want(8, 0, false)
}

func TestCacheNeedsTheLease(t *testing.T) {
	epoch, valid := blocktree.Epoch(5), true
	b := newCacheBed(t, memfile.Options{Lease: func() (blocktree.Epoch, bool) { return epoch, valid }})
	b.want(7, 0, true)
	b.want(7, 0, false)
	valid = false
	b.want(7, 0, true)
	if b.dev.TryReadAt(make([]byte, 1), 7*4096) {
		t.Fatal("answered without a lease")
	}
	b.want(8, 0, true) // without a lease nothing is kept
	valid = true
	b.want(8, 0, true)
	b.want(7, 0, false) // the same lease, renewed in time after all: nobody else could write
	epoch = 6
	b.want(7, 0, true) // somebody may have written between the epochs
	b.want(7, 0, false)
}

// TestCacheForgetsOnReopen: another holder may have written between two openings of a file.
func TestCacheForgetsOnReopen(t *testing.T) {
	b := newCacheBed(t, memfile.Options{})
	b.want(7, 0, true)
	if err := b.file.File.WriteSectors(t.Context(), 7, bytes.Repeat([]byte{9}, 4096)); err != nil {
		t.Fatal(err)
	}
	if got, fromFile := b.read(b.open(), 7); got != 9 || !fromFile {
		t.Fatalf("%d, from the file: %t", got, fromFile)
	}
}

func TestCacheWideZero(t *testing.T) {
	const sectors = cacheBuckets + 10
	b := newCacheBed(t, memfile.Options{Info: blocktree.FileInfo{SizeBytes: sectors * 4096}})
	b.write(sectors-1, 5)
	b.want(sectors-1, 5, true)
	b.want(sectors-1, 5, false)
	if err := b.dev.Zero(t.Context(), 0, sectors*4096, false); err != nil {
		t.Fatal(err)
	}
	b.want(sectors-1, 0, true)
	b.want(sectors-1, 0, false)
}

// noLease hides the abilities of a file that the seam does not ask for.
type noLease struct{ blocktree.File }

func TestCacheOff(t *testing.T) {
	cache, err := NewCache(0)
	if cache != nil || err != nil {
		t.Fatalf("%v, %v", cache, err)
	}
	cache.Close()
	if s := cache.Stats(); s != (CacheStats{}) {
		t.Fatalf("%+v", s)
	}
	if _, err := NewCache(-1); blocktree.KindOf(err) != blocktree.Invalid {
		t.Fatal(err)
	}
	cache, err = NewCache(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close()
	f := memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: 1 << 20}})
	d, err := Open(noLease{f}, Options{Cache: cache})
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 4096)
	for range 3 {
		if err := d.ReadAt(t.Context(), p, 0); err != nil {
			t.Fatal(err)
		}
		cache.entries.Wait()
	}
	if n := f.Calls(memfile.Read); n != 3 {
		t.Fatalf("a file that cannot vouch for its lease was cached: %d calls", n)
	}
}
