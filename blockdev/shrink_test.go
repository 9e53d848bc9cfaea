package blockdev

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"blocktree"
	"blocktree/blockdev/memfile"
)

// shrinker is a file in memory that is made smaller, and grows, when a test says so.
type shrinker struct {
	*memfile.File
	bytes   atomic.Uint64
	ask     func(ctx context.Context, bytes uint64) error
	stopped bool
	fails   error
}

func (s *shrinker) SizeBytes() uint64 { return s.bytes.Load() }

func (s *shrinker) FollowShrink(do func(ctx context.Context, bytes uint64) error) func() {
	s.ask = do
	return func() { s.stopped = true }
}

func (s *shrinker) Shrink(ctx context.Context, bytes uint64) error {
	if s.fails != nil {
		return s.fails
	}
	was := s.bytes.Swap(bytes)
	return s.ZeroSectors(ctx, blocktree.SectorIndex(bytes/4096), (was-bytes)/4096)
}

// TestShrunkIsForgotten: what a cache has of sectors that were cut is not found again when the device grows, also of sectors that came to be there beside the cut.
func TestShrunkIsForgotten(t *testing.T) {
	const small, large = 32 << 10, 64 << 10
	s := &shrinker{File: memfile.New(sized(large, 4096))}
	s.bytes.Store(large)
	cache, err := NewCache(8 << 20) // nothing is read ahead, so that all of it lies there
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close()
	d, err := Open(s, Options{Cache: cache})
	if err != nil {
		t.Fatal(err)
	}
	old, got := bytes.Repeat([]byte{0xa5}, 4096), make([]byte, 4096)
	for off := uint64(0); off < large; off += 4096 {
		if err := d.WriteAt(t.Context(), old, off, false); err != nil {
			t.Fatal(err)
		}
		if err := d.ReadAt(t.Context(), got, off); err != nil {
			t.Fatal(err)
		}
	}
	cache.entries.Wait()
	for off := uint64(0); off < large; off += 4096 {
		if !d.TryReadAt(got, off) {
			t.Fatal("it is not cached, so this shows nothing")
		}
	}
	if err := s.ask(t.Context(), small); err != nil {
		t.Fatal(err)
	}
	if d.Size() != small || d.TryReadAt(got, small) {
		t.Errorf("%d bytes, or what is cut is served", d.Size())
	}
	s.bytes.Store(large)
	for off := uint64(0); off < large; off += 4096 {
		want := old
		if off >= small {
			want = make([]byte, 4096)
		}
		if err := d.ReadAt(t.Context(), got, off); err != nil || !bytes.Equal(got, want) {
			t.Errorf("at %d: %v, or other bytes", off, err)
		}
	}
	s.fails = errors.New("no majority")
	if err := s.ask(t.Context(), small); !errors.Is(err, s.fails) || d.Size() != large {
		t.Errorf("%v, %d bytes", err, d.Size())
	}
	if err := d.Close(); err != nil || !s.stopped {
		t.Errorf("%v, stopped %v", err, s.stopped)
	}
	if err := s.ask(t.Context(), small); blocktree.KindOf(err) != blocktree.Closed {
		t.Errorf("closed: %v", err)
	}
}

// TestCachesAfterAFailedCut: after a cut that failed nothing is cached, until one succeeds that takes away as much as all that failed.
func TestCachesAfterAFailedCut(t *testing.T) {
	const small, large = 32 << 10, 64 << 10
	s := &shrinker{File: memfile.New(sized(large, 4096))}
	s.bytes.Store(large)
	cache, err := NewCache(8 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close()
	d, err := Open(s, Options{Cache: cache})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	caches := func() bool {
		t.Helper()
		got := make([]byte, 4096)
		if err := d.ReadAt(t.Context(), got, 0); err != nil {
			t.Fatal(err)
		}
		cache.entries.Wait()
		return d.TryReadAt(got, 0)
	}
	cut := func(bytes uint64, fails error) {
		t.Helper()
		s.fails = fails
		if err := s.ask(t.Context(), bytes); !errors.Is(err, fails) {
			t.Fatal(err)
		}
	}
	if !caches() {
		t.Fatal("it is not cached, so this shows nothing")
	}
	failure := errors.New("no majority")
	for _, x := range []struct {
		bytes  uint64
		fails  error
		caches bool
	}{
		{small, failure, false},
		{small + 8192, failure, false},
		{small + 4096, nil, false}, // what the first would have cut below that may be zeros yet
		{small, nil, true},
		{small - 4096, failure, false},
		{small - 4096, nil, true},
		{4096, nil, true},
	} {
		cut(x.bytes, x.fails)
		if caches() != x.caches {
			t.Errorf("after a cut to %d, %v: cached is not %v", x.bytes, x.fails, x.caches)
		}
	}
}

// TestReadOnlyIsNotShrunk: who may not write does not make smaller.
func TestReadOnlyIsNotShrunk(t *testing.T) {
	s := &shrinker{File: memfile.New(sized(64<<10, 4096))}
	s.bytes.Store(64 << 10)
	d, err := Open(s, Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if s.ask != nil {
		t.Error("it follows")
	}
}
