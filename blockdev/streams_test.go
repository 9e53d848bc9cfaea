package blockdev

import (
	"math/rand/v2"
	"testing"

	"blocktree"
)

const (
	testWindow = 4 << 20 / 4096
	pieceLen   = aheadPieceBytes / 4096
)

// reader drives streams as a device does, and counts what would be read ahead.
type reader struct {
	t     *testing.T
	s     streams
	now   uint64
	asked uint64 // sectors
}

func newReader(t *testing.T) *reader { return &reader{t: t, s: newStreams(4096, 4<<20)} }

// read notes a read and asks for what the stream's window wants.
func (r *reader) read(first, count, served uint64) *stream {
	r.t.Helper()
	r.now++
	s := r.s.note(blocktree.SectorIndex(first), count, r.now)
	if s != nil {
		r.s.fared(s, served)
		if s.window > testWindow || s.asked < s.front || s.low > s.front || s.read > uint64(s.front-s.low) {
			r.t.Fatalf("%+v", s)
		}
		for to := s.front + blocktree.SectorIndex(s.window); s.asked < to; s.asked += pieceLen {
			r.asked += pieceLen
		}
	}
	return s
}

func TestStreamIsBelievedFromTheThirdRead(t *testing.T) {
	for _, count := range []uint64{1, 3, 32, 256} {
		r := newReader(t)
		for i := range uint64(10) {
			if s := r.read(1000+i*count, count, 0); (s != nil) != (i >= 2) {
				t.Fatalf("reads of %d: read %d: %+v", count, i, s)
			}
		}
	}
}

// TestStreamInParts: a client splits reads of 1 MiB into eight that arrive in any order.
func TestStreamInParts(t *testing.T) {
	for seed := range uint64(50) {
		r := newReader(t)
		order := rand.New(rand.NewPCG(seed, 1))
		for mib := range uint64(8) {
			for _, part := range order.Perm(8) {
				s := r.read(mib*256+uint64(part)*32, 32, 32)
				if mib > 2 && s == nil {
					t.Fatalf("seed %d: the stream is lost in MiB %d", seed, mib)
				}
			}
		}
	}
}

// TestStreamsInterleaved: eight at once, far apart, with a random read after each of theirs.
func TestStreamsInterleaved(t *testing.T) {
	r := newReader(t)
	random := rand.New(rand.NewPCG(1, 1))
	lost := 0
	for i := range uint64(400) {
		for k := range uint64(blocktree.ReadAheadStreamsMax - 1) { // one place is for who comes next
			if s := r.read(k<<20+i*4, 4, 4); s == nil && i >= 3 {
				lost++
			}
		}
		r.read(100<<20+random.Uint64N(1<<24), 1, 0)
	}
	if lost > 0 {
		t.Fatalf("lost %d times", lost)
	}
}

// TestStreamOutlastsRandomReads: reads that may never go on do not displace one that does; one that has long stopped, they do.
func TestStreamOutlastsRandomReads(t *testing.T) {
	r := newReader(t)
	for i := range uint64(3) {
		r.read(i, 1, 0)
	}
	for i := range uint64(aheadProtected / 2) {
		r.read(1000+i*1000, 1, 0)
	}
	if s := r.read(3, 1, 1); s == nil {
		t.Fatal("the stream is forgotten")
	}
	for i := range uint64(3 * aheadProtected) {
		r.read(1000+i*1000, 1, 0)
	}
	if s := r.read(4, 1, 1); s != nil {
		t.Fatal("a stream that stopped is remembered for ever")
	}
}

// TestRandomReadsAreNoStream, nor are strides, nor reads of the same place.
func TestRandomReadsAreNoStream(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	for name, next := range map[string]func(i uint64) uint64{
		"random over 1 GiB":  func(uint64) uint64 { return random.Uint64N(1 << 18) },
		"random over 64 MiB": func(uint64) uint64 { return random.Uint64N(1 << 14) },
		"every fourth":       func(i uint64) uint64 { return 4 * i },
		"backwards":          func(i uint64) uint64 { return 1<<18 - i },
		"in place":           func(uint64) uint64 { return 12345 },
	} {
		r := newReader(t)
		const reads = 10_000
		for i := range uint64(reads) {
			r.read(next(i), 1, 0)
		}
		if r.asked > reads/100*pieceLen/2 {
			t.Errorf("%s: %d sectors would be read ahead in %d reads", name, r.asked, reads)
		}
	}
}

// TestWindow grows as it serves, and falls back when it is of no use.
func TestWindow(t *testing.T) {
	r := newReader(t)
	at := uint64(0)
	read := func(n int, served uint64) (s *stream) {
		for range n {
			s = r.read(at, 8, served)
			at += 8
		}
		return s
	}
	if s := read(3, 0); s.window != pieceLen {
		t.Fatalf("it begins with %d", s.window)
	}
	if s := read(pieceLen/8, 8); s.window != 2*pieceLen {
		t.Fatalf("after a window's worth: %d", s.window)
	}
	s := read(1000, 8)
	if s.window != testWindow {
		t.Fatalf("at last: %d", s.window)
	}
	if read(aheadMissesMax-1, 0); s.window != testWindow {
		t.Fatalf("after few misses: %d", s.window)
	}
	read(1, 8) // a hit among them
	if read(aheadMissesMax-1, 0); s.window != testWindow {
		t.Fatalf("after few misses and few misses: %d", s.window)
	}
	if read(1, 0); s.window != testWindow/2 {
		t.Fatalf("after many misses: %d", s.window)
	}
	s.wasted.Store(true)
	if read(1, 8); s.window != testWindow/4 {
		t.Fatalf("after waste: %d", s.window)
	}
	for range 20 {
		s.wasted.Store(true)
		read(1, 8)
	}
	if s.window != pieceLen {
		t.Fatalf("it falls to %d", s.window)
	}
	s.ended.Store(true)
	if again := read(1, 8); again != nil {
		t.Fatalf("one that failed is believed: %+v", again)
	}
}
