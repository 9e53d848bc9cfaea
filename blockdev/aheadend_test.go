package blockdev

import (
	"bytes"
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/blockdev/memfile"
)

// sizedLater is a file whose size is told beside it; behind it there is more.
type sizedLater struct {
	*memfile.File
	bytes  atomic.Uint64
	beyond atomic.Int64 // reads that went past it
}

func (s *sizedLater) SizeBytes() uint64 { return s.bytes.Load() }

func (s *sizedLater) ReadSectors(ctx context.Context, first blocktree.SectorIndex, dst []byte) error {
	if uint64(first)*4096+uint64(len(dst)) > s.bytes.Load() {
		s.beyond.Add(1)
		return blocktree.E("test", blocktree.OutOfRange, nil)
	}
	return s.File.ReadSectors(ctx, first, dst)
}

// TestReadAheadOfWhatGrows: the end is where it is now, not where it was when the device was opened.
func TestReadAheadOfWhatGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache, err := NewCacheAhead(16<<20, 4<<20)
		if err != nil {
			t.Fatal(err)
		}
		defer cache.Close()
		f := &sizedLater{File: memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: 8 << 20}})}
		if err := f.WriteSectors(t.Context(), 0, bytes.Repeat([]byte{7}, 8<<20)); err != nil {
			t.Fatal(err)
		}
		f.bytes.Store(8 << 20)
		d, err := Open(f, Options{Cache: cache})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		var before CacheStats
		scan := func(size uint64, least uint64) {
			t.Helper()
			f.bytes.Store(size)
			p := make([]byte, 4096)
			for at := uint64(0); at < size; at += 4096 {
				if err := d.ReadAt(t.Context(), p, at); err != nil || p[0] != 7 || p[4095] != 7 {
					t.Fatalf("at %d of %d: %d, %v", at, size, p[0], err)
				}
				synctest.Wait()
			}
			s := cache.Stats()
			if got := s.AheadHits - before.AheadHits + s.Hits - before.Hits; got < least || f.beyond.Load() != 0 {
				t.Errorf("of %d bytes: %d sectors were there of at least %d, and %d reads went past the end", size, got, least, f.beyond.Load())
			}
			before = s
			cache.entries.Clear()
		}
		scan(1<<20+5*4096, 200)
		scan(8<<20, 2000) // it was larger when the device was opened, and is again
		scan(4096*100, 90)
	})
	synctest.Test(t, func(t *testing.T) { // opened while it was small
		cache, err := NewCacheAhead(16<<20, 4<<20)
		if err != nil {
			t.Fatal(err)
		}
		defer cache.Close()
		f := &sizedLater{File: memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: 8 << 20}})}
		f.bytes.Store(1 << 20)
		d, err := Open(grown{f}, Options{Cache: cache})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		f.bytes.Store(8 << 20)
		p := make([]byte, 4096)
		for at := uint64(1 << 20); at < 8<<20; at += 4096 {
			if err := d.ReadAt(t.Context(), p, at); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if s := cache.Stats(); s.AheadHits < 1700 || f.beyond.Load() != 0 {
			t.Errorf("%d of 1792 sectors that it grew by were read ahead, and %d reads went past the end", s.AheadHits, f.beyond.Load())
		}
	})
}

// grown is a file that was opened when it had 1 MiB.
type grown struct{ *sizedLater }

func (g grown) Info() blocktree.FileInfo {
	info := g.File.Info()
	info.SizeBytes = 1 << 20
	return info
}

// TestReadAheadFailsOnce: where a sector cannot be read, what is read ahead of it fails, but not again and again with it in every piece.
func TestReadAheadFailsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newAheadBed(t, 16<<20, 4<<20, memfile.Options{})
		defer b.close()
		const bad = 3*pieceLen - 2
		b.hook = func(_ context.Context, c memfile.Call) error {
			if uint64(c.First) <= bad && uint64(c.First)+c.Count > bad {
				time.Sleep(time.Second)
				return blocktree.E("test", blocktree.Corrupt, nil)
			}
			return nil
		}
		began := time.Now()
		for at := range uint64(8 * pieceLen) {
			if at == bad {
				if err := b.dev.ReadAt(t.Context(), make([]byte, 4096), at*4096); blocktree.KindOf(err) != blocktree.Corrupt {
					t.Errorf("what is wrong with it is said: %v", err)
				}
				continue
			}
			b.read(at, 1)
		}
		vain, single := 0, 0
		for _, c := range b.asked() {
			if uint64(c.First) <= bad && uint64(c.First)+c.Count > bad {
				vain++
			} else if c.Count == 1 {
				single++
			}
		}
		if took := time.Since(began); vain > 2 || single > pieceLen+8 || took > 2*time.Second {
			t.Errorf("%d reads in vain, %d of one sector, and %v for one bad sector", vain, single, took)
		}
	})
}
