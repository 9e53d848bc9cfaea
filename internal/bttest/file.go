package bttest

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"blocktree"
)

// File runs the suite of blocktree.File. open returns a new, writable file on which nothing was ever written, at least
// 600 sectors long; the suite closes it.
func File(t *testing.T, open func(t *testing.T) blocktree.File) {
	for _, x := range []struct {
		name string
		run  func(*testing.T, blocktree.File)
	}{
		{"fresh is zero", freshIsZero},
		{"model", againstModel},
		{"refusals", refusals},
		{"slices are the caller's", slicesStayOurs},
		{"canceled", canceled},
		{"parallel", parallel},
		{"started reads", startedReads},
		{"started writes", startedWrites},
		{"started and closed", startedAndClosed},
		{"extents", extents},
		{"closed", closed},
	} {
		t.Run(x.name, func(t *testing.T) {
			f := open(t)
			x.run(t, f)
			if err := f.Close(); err != nil && blocktree.KindOf(err) != blocktree.Closed {
				t.Errorf("close: %v", err)
			}
		})
	}
}

func freshIsZero(t *testing.T, f blocktree.File) {
	info := f.Info()
	if info.SectorBytes < blocktree.SectorBytesMin || info.SizeBytes%uint64(info.SectorBytes) != 0 || info.Sectors() < 600 {
		t.Fatalf("info makes no sense: %+v", info)
	}
	got := bytes.Repeat([]byte{0xff}, 3*info.SectorBytes)
	if err := f.ReadSectors(t.Context(), 5, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, make([]byte, len(got))) {
		t.Fatal("sectors never written do not read as zeros")
	}
	if err := f.Flush(t.Context()); err != nil {
		t.Errorf("flush of nothing: %v", err)
	}
}

// againstModel does random operations on the file and on a flat slice.
func againstModel(t *testing.T, f blocktree.File) {
	info := f.Info()
	const sectors = 600
	model := make([]byte, sectors*info.SectorBytes)
	r := rand.New(rand.NewPCG(7, 7))
	for i := range 150 {
		count := 1 + r.IntN(20)
		if r.IntN(10) == 0 {
			count = 1 + r.IntN(sectors)
		}
		first := r.IntN(sectors - count + 1)
		part := model[first*info.SectorBytes : (first+count)*info.SectorBytes]
		var err error
		switch r.IntN(6) {
		case 0, 1, 2:
			for j := range part {
				part[j] = byte(r.Uint32())
			}
			err = f.WriteSectors(t.Context(), blocktree.SectorIndex(first), part)
		case 3:
			clear(part)
			err = f.ZeroSectors(t.Context(), blocktree.SectorIndex(first), uint64(count))
		case 4:
			err = f.Flush(t.Context())
		default:
			got := make([]byte, len(part))
			err = f.ReadSectors(t.Context(), blocktree.SectorIndex(first), got)
			if err == nil && !bytes.Equal(got, part) {
				t.Fatalf("operation %d: sectors %d to %d differ from the model", i, first, first+count)
			}
		}
		if err != nil {
			t.Fatalf("operation %d: %v", i, err)
		}
	}
	got := make([]byte, len(model))
	if err := f.ReadSectors(t.Context(), 0, got); err != nil || !bytes.Equal(got, model) {
		t.Fatalf("the end differs from the model (%v)", err)
	}
}

func refusals(t *testing.T, f blocktree.File) {
	info := f.Info()
	one, last := make([]byte, info.SectorBytes), blocktree.SectorIndex(info.Sectors())
	for _, x := range []struct {
		name string
		err  error
		kind blocktree.Kind
	}{
		{"read of half a sector", f.ReadSectors(t.Context(), 0, one[:100]), blocktree.Invalid},
		{"write of half a sector", f.WriteSectors(t.Context(), 0, one[:100]), blocktree.Invalid},
		{"read past the end", f.ReadSectors(t.Context(), last, one), blocktree.OutOfRange},
		{"write past the end", f.WriteSectors(t.Context(), last, one), blocktree.OutOfRange},
		{"zero past the end", f.ZeroSectors(t.Context(), last-1, 2), blocktree.OutOfRange},
		{"zero of the world", f.ZeroSectors(t.Context(), 1, ^uint64(0)), blocktree.OutOfRange},
		{"read from the end of the world", f.ReadSectors(t.Context(), ^blocktree.SectorIndex(0), one), blocktree.OutOfRange},
	} {
		if blocktree.KindOf(x.err) != x.kind {
			t.Errorf("%s: %v, want kind %v", x.name, x.err, x.kind)
		}
		var e *blocktree.Error
		if x.err != nil && !errors.As(x.err, &e) {
			t.Errorf("%s: not an *Error: %v", x.name, x.err)
		}
	}
}

// slicesStayOurs scribbles over what was written right after the call returns.
func slicesStayOurs(t *testing.T, f blocktree.File) {
	n := f.Info().SectorBytes
	src := bytes.Repeat([]byte{1}, 4*n)
	if err := f.WriteSectors(t.Context(), 10, src); err != nil {
		t.Fatal(err)
	}
	clear(src)
	got := make([]byte, 4*n)
	if err := f.ReadSectors(t.Context(), 10, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, bytes.Repeat([]byte{1}, 4*n)) {
		t.Fatal("the file kept the slice it was given")
	}
}

func canceled(t *testing.T, f blocktree.File) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	buf := make([]byte, f.Info().SectorBytes)
	for name, err := range map[string]error{
		"read": f.ReadSectors(ctx, 0, buf), "write": f.WriteSectors(ctx, 0, buf), "flush": f.Flush(ctx)} {
		if k := blocktree.KindOf(err); err != nil && k != blocktree.Canceled {
			t.Errorf("%s with a canceled context: %v", name, err)
		}
	}
}

// parallel writes disjoint and equal sectors from many goroutines: every sector must end as one of those writes.
func parallel(t *testing.T, f blocktree.File) {
	n := f.Info().SectorBytes
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 20 {
				src := bytes.Repeat([]byte{byte(g + 1)}, n)
				if err := f.WriteSectors(t.Context(), blocktree.SectorIndex(i%4), src); err != nil {
					t.Error(err)
				}
				if err := f.WriteSectors(t.Context(), blocktree.SectorIndex(100+g*20+i), src); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got := make([]byte, n)
	for s := range blocktree.SectorIndex(4) {
		if err := f.ReadSectors(t.Context(), s, got); err != nil || !bytes.Equal(got, bytes.Repeat(got[:1], n)) || got[0] == 0 {
			t.Fatalf("sector %d is torn or lost (%v)", s, err)
		}
	}
	for g := range 8 {
		for i := range 20 {
			if err := f.ReadSectors(t.Context(), blocktree.SectorIndex(100+g*20+i), got); err != nil || got[0] != byte(g+1) {
				t.Fatalf("a write of goroutine %d is lost (%v)", g, err)
			}
		}
	}
}

func closed(t *testing.T, f blocktree.File) {
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, f.Info().SectorBytes)
	for name, err := range map[string]error{"read": f.ReadSectors(t.Context(), 0, buf), "write": f.WriteSectors(t.Context(), 0, buf), "close": f.Close()} {
		if blocktree.KindOf(err) != blocktree.Closed {
			t.Errorf("%s after close: %v, want kind closed", name, err)
		}
	}
}

// starter hears of a started read. given says that it is given up.
type starter struct {
	given  bool
	claims atomic.Int32
	ends   atomic.Int32
	end    chan error
}

func newStarter(given bool) *starter { return &starter{given: given, end: make(chan error, 8)} }

func (s *starter) Claim() bool {
	s.claims.Add(1)
	if s.given {
		s.end <- nil
	}
	return !s.given
}

func (s *starter) End(err error) {
	s.ends.Add(1)
	s.end <- err
}

// startedReads reads what was written without waiting, where the file can: each read ends once, and one that was given up
// touches nothing.
func startedReads(t *testing.T, f blocktree.File) {
	rs, ok := f.(blocktree.ReadStarter)
	if !ok {
		return
	}
	n := f.Info().SectorBytes
	want := bytes.Repeat([]byte{7}, 2*n)
	if err := f.WriteSectors(t.Context(), 3, want); err != nil {
		t.Fatal(err)
	}
	started := 0
	for i := range 50 {
		s, dst := newStarter(i%5 == 0), bytes.Repeat([]byte{9}, 2*n)
		if !rs.StartRead(3, dst, s) {
			continue
		}
		started++
		err := <-s.end
		switch {
		case err != nil || s.claims.Load() != 1:
			t.Fatalf("read %d: %v, %d claims", i, err, s.claims.Load())
		case s.given && !bytes.Equal(dst, bytes.Repeat([]byte{9}, 2*n)):
			t.Fatal("a read that was given up wrote to its slice")
		case !s.given && !bytes.Equal(dst, want):
			t.Fatalf("read %d: other bytes", i)
		}
	}
	for _, x := range []struct {
		first blocktree.SectorIndex
		bytes int
	}{{0, n / 2}, {blocktree.SectorIndex(f.Info().Sectors()), n}, {^blocktree.SectorIndex(0), n}} {
		s := newStarter(false)
		if rs.StartRead(x.first, make([]byte, x.bytes), s) && <-s.end == nil {
			t.Errorf("%d bytes at sector %d were read", x.bytes, x.first)
		}
	}
	if started > 0 && f.Close() != nil {
		t.Error("not closed")
	}
}

// startedAndClosed closes the file with reads in flight: each still ends, once.
func startedAndClosed(t *testing.T, f blocktree.File) {
	rs, ok := f.(blocktree.ReadStarter)
	if !ok {
		return
	}
	var all []*starter
	for range 30 {
		if s := newStarter(false); rs.StartRead(0, make([]byte, f.Info().SectorBytes), s) {
			all = append(all, s)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		<-s.end
	}
	if s := newStarter(false); rs.StartRead(0, make([]byte, f.Info().SectorBytes), s) {
		if err := <-s.end; blocktree.KindOf(err) != blocktree.Closed {
			t.Errorf("started after close: %v", err)
		}
	}
	for _, s := range all {
		if s.ends.Load() != 1 || s.claims.Load() != 1 {
			t.Errorf("%d claims, %d ends", s.claims.Load(), s.ends.Load())
		}
	}
}

// startedWrites writes without waiting, where the file can, and scribbles over the slice at once: each write ends once, and what
// it wrote is there.
func startedWrites(t *testing.T, f blocktree.File) {
	ws, ok := f.(blocktree.WriteStarter)
	if !ok {
		return
	}
	n := f.Info().SectorBytes
	ends := make(chan error, 64)
	for i := range 50 {
		src := bytes.Repeat([]byte{byte(i + 1)}, 2*n)
		if !ws.StartWrite(blocktree.SectorIndex(2*i), src, func(err error) { ends <- err }) {
			ends <- f.WriteSectors(t.Context(), blocktree.SectorIndex(2*i), src)
		}
		clear(src)
	}
	for range 50 {
		if err := <-ends; err != nil {
			t.Fatal(err)
		}
	}
	got := make([]byte, 2*n)
	for i := range 50 {
		if err := f.ReadSectors(t.Context(), blocktree.SectorIndex(2*i), got); err != nil || !bytes.Equal(got, bytes.Repeat([]byte{byte(i + 1)}, 2*n)) {
			t.Fatalf("write %d is not there (%v)", i, err)
		}
	}
	for _, x := range []struct {
		first blocktree.SectorIndex
		bytes int
	}{{0, n / 2}, {blocktree.SectorIndex(f.Info().Sectors()), n}, {^blocktree.SectorIndex(0), n}} {
		if ws.StartWrite(x.first, make([]byte, x.bytes), func(err error) { ends <- err }) && <-ends == nil {
			t.Errorf("%d bytes at sector %d were written", x.bytes, x.first)
		}
	}
	if f.Close() != nil {
		t.Error("not closed")
	}
	if ws.StartWrite(0, got, func(err error) { ends <- err }) && blocktree.KindOf(<-ends) != blocktree.Closed {
		t.Error("written after close")
	}
	if len(ends) > 0 {
		t.Error("a write ended twice")
	}
}
